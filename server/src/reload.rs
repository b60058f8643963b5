//! Files that are read again while the server runs: keys and certificates.
//!
//! Each time the server reads the whole file, because neither size nor time tells whether it has changed. A file that cannot be
//! used changes nothing; the server tries it again the next time.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::client::Proxies;
use super::usersig::Keys;
use super::{App, HOUSEKEEPING, KeySource, tls};
use crate::settings::Settings;

/// How often the same failure is logged.
const REMIND: Duration = Duration::from_secs(60);

/// Reads files again while the server runs.
#[derive(Debug)]
pub(super) struct Reload {
    app: Arc<App>,
    keys: KeySource,
    tls: Option<tls::InForce>,
    asked: watch::Sender<Option<Settings>>,
    keys_failure: Failure,
    tls_failure: Failure,
}

/// Makes a server read its files again at once, and report the result in the server log.
#[derive(Clone, Debug)]
pub struct Reloader(watch::Sender<Option<Settings>>);

impl Reloader {
    /// Reads keys and certificates again. Of `settings`, if there are any, those apply at once that [`Reloader::apply`] names.
    pub fn reload(&self, settings: Option<Settings>) {
        self.0.send_replace(settings);
    }

    /// Copies those settings that can change while the server runs: `auth.admins`, `auth.failures_per_minute_per_address`,
    /// `server.trusted_proxies` and `server.forwarded_header`.
    pub fn apply(from: &Settings, to: &mut Settings) {
        to.auth.admins.clone_from(&from.auth.admins);
        to.auth.failures_per_minute_per_address = from.auth.failures_per_minute_per_address;
        to.server.trusted_proxies.clone_from(&from.server.trusted_proxies);
        to.server.forwarded_header = from.server.forwarded_header;
    }
}

/// The last failure of a periodic attempt.
#[derive(Debug, Default)]
struct Failure(Option<(String, Instant)>);

impl Failure {
    /// Returns whether to log this: it differs from the last failure, or that was logged a while ago.
    fn is_news(&mut self, error: &str) -> bool {
        let known = self.0.as_ref().is_some_and(|(last, told)| last == error && told.elapsed() < REMIND);
        if !known {
            self.0 = Some((error.to_owned(), Instant::now()));
        }
        !known
    }

    /// Forgets the failure; returns whether there was one.
    fn is_over(&mut self) -> bool {
        self.0.take().is_some()
    }
}

impl Reload {
    pub(super) fn new(app: Arc<App>, keys: KeySource, tls: Option<tls::InForce>) -> Self {
        let asked = watch::Sender::new(None);
        Self { app, keys, tls, asked, keys_failure: Failure::default(), tls_failure: Failure::default() }
    }

    pub(super) fn reloader(&self) -> Reloader {
        Reloader(self.asked.clone())
    }

    pub(super) async fn run(mut self) {
        let mut clock = tokio::time::interval(HOUSEKEEPING);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = self.asked.subscribe();
        loop {
            let is_asked = tokio::select! {
                _ = clock.tick() => false,
                asked = asked.changed() => asked.is_ok(),
            };
            if is_asked {
                let settings = asked.borrow_and_update().clone();
                if let Some(settings) = settings {
                    self.apply(&settings);
                }
            }
            self.app.rates.tidy();
            self.reload_keys(is_asked).await;
            self.reload_certificate(is_asked).await;
        }
    }

    fn apply(&self, settings: &Settings) {
        if self.app.auth.replace_admins(&settings.auth.admins) {
            tracing::info!("auth.admins has changed, and is in force");
        }
        if self.app.auth.replace_limit(settings.auth.failures_per_minute_per_address) {
            tracing::info!("auth.failures_per_minute_per_address has changed, and is in force");
        }
        match Proxies::new(&settings.server, self.tls.is_some()) {
            Ok(proxies) => {
                if *self.app.proxies.read() != proxies {
                    *self.app.proxies.write() = proxies;
                    tracing::info!("the trusted proxies have changed, and are in force");
                }
            }
            Err(error) => tracing::error!(%error, "the trusted proxies cannot be used; those before stay in force"),
        }
    }

    async fn reload_keys(&mut self, is_asked: bool) {
        let KeySource::File(path) = &self.keys else {
            if is_asked {
                tracing::info!("the keys do not come from a file, and are unchanged");
            }
            return;
        };
        let (path, keys) = (path.clone(), self.keys.clone());
        match read("keys", move || keys.load()).await {
            Ok(keys) => self.use_keys(keys, &path, is_asked),
            Err(error) => {
                if self.keys_failure.is_news(&error) || is_asked {
                    tracing::error!(error, "the keys cannot be used; those before stay in force");
                }
            }
        }
    }

    fn use_keys(&mut self, keys: Keys, path: &Path, is_asked: bool) {
        let path = path.display();
        let was_failing = self.keys_failure.is_over();
        if self.app.auth.replace_keys(keys) {
            tracing::info!(%path, "the keys have changed, and are in force");
        } else if is_asked || was_failing {
            tracing::info!(%path, "the keys were read again, and are unchanged");
        }
    }

    async fn reload_certificate(&mut self, is_asked: bool) {
        let Some(tls) = &mut self.tls else { return };
        let (certificate, key) = (self.app.settings.tls_certificate.clone(), self.app.settings.tls_key.clone());
        let before = tls.digests;
        match read("certificate", move || tls::load(&certificate, &key, Some(before))).await {
            Ok(Some(loaded)) => {
                self.tls_failure.is_over();
                tls.config.reload_from_config(loaded.config);
                tls.digests = loaded.digests;
                tracing::info!("the certificate has changed, and is in force");
            }
            Ok(None) => {
                if self.tls_failure.is_over() || is_asked {
                    tracing::info!("the certificate was read again, and is unchanged");
                }
            }
            Err(error) => {
                if self.tls_failure.is_news(&error) || is_asked {
                    tracing::error!(error, "the certificate cannot be used; the one before stays in force");
                }
            }
        }
    }
}

/// Reads files on a blocking thread.
async fn read<T: Send + 'static, E: std::error::Error>(
    what: &str,
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    let reading = tokio::task::spawn_blocking(move || read().map_err(|error| error.to_string())).await;
    reading.unwrap_or_else(|error| Err(format!("the {what} could not be read: {error}")))
}
