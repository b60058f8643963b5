//! Files that are read again when they change: keys and certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use axum_server::tls_rustls::RustlsConfig;

use super::{App, HOUSEKEEPING, KeySource, tls};

/// What the server does beside answering.
#[derive(Debug)]
pub(super) struct Reload {
    app: Arc<App>,
    keys: KeySource,
    key_files: Watched,
    tls: Option<RustlsConfig>,
    tls_files: Watched,
}

/// Files, and what they looked like when they were last read.
#[derive(Debug)]
struct Watched {
    paths: Vec<PathBuf>,
    seen: Vec<Option<(SystemTime, u64)>>,
}

impl Watched {
    fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<_> = paths.into_iter().filter(|path| !path.as_os_str().is_empty()).collect();
        let seen = paths.iter().map(|path| look(path)).collect();
        Self { paths, seen }
    }

    /// Whether one of them has changed since the last time.
    fn changed(&mut self) -> bool {
        let now: Vec<_> = self.paths.iter().map(|path| look(path)).collect();
        let changed = now != self.seen;
        self.seen = now;
        changed
    }
}

fn look(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

impl Reload {
    pub(super) fn new(app: Arc<App>, keys: KeySource, tls: Option<RustlsConfig>) -> Self {
        let key_file = match &keys {
            KeySource::File(path) => Some(path.clone()),
            KeySource::Fixed(_) => None,
        };
        let settings = &app.settings;
        let tls_files = Watched::new([settings.tls_certificate.clone(), settings.tls_key.clone()]);
        Self { key_files: Watched::new(key_file), tls_files, app, keys, tls }
    }

    pub(super) async fn run(mut self) {
        let mut clock = tokio::time::interval(HOUSEKEEPING);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            self.app.gate.tidy();
            if self.key_files.changed() {
                self.reload_keys();
            }
            if self.tls_files.changed() {
                self.reload_certificate();
            }
        }
    }

    fn reload_keys(&self) {
        match self.keys.load() {
            Ok(keys) => {
                self.app.auth.replace_keys(keys);
                tracing::info!("the keys were read again");
            }
            Err(error) => tracing::error!(error, "the keys have changed and cannot be used; the old ones still hold"),
        }
    }

    fn reload_certificate(&self) {
        let Some(config) = &self.tls else { return };
        let settings = &self.app.settings;
        match tls::load(&settings.tls_certificate, &settings.tls_key) {
            Ok(loaded) => {
                config.reload_from_config(loaded);
                tracing::info!("the certificate was read again");
            }
            Err(error) => {
                tracing::error!(error, "the certificate has changed and cannot be used; the old one still holds");
            }
        }
    }
}
