//! All settings: those of the program, and those of the library, the server and the stores put together.

use std::path::PathBuf;

use convgroups_host::BuildError;
use convgroups_host::settings::{
    CallSettings, EventSettings, InvalidSetting, Limits, PostgresSettings, SandboxSettings, Wasi,
};
use convgroups_server::settings::{AuthSettings, ServerSettings};
use serde::{Deserialize, Serialize};

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where groups are kept: `sqlite:PATH`, `postgres://USER@HOST/DATABASE` or `memory:`. Default `sqlite:convgroups.db`.
    pub(crate) store: String,
    /// The plugin's file. Default: empty, for the reference plugin that is built in.
    pub(crate) plugin: PathBuf,
    /// What plugins may do with WASI. Default `refuse`.
    pub(crate) wasi: Wasi,
    /// Where compiled plugins are kept for the next start. Default: empty, for `convgroups` in the user's cache directory.
    pub(crate) cache_dir: PathBuf,
    /// Whether compiled plugins are kept at all. Default true.
    pub(crate) cache: bool,
    pub(crate) limits: Limits,
    pub(crate) sandbox: SandboxSettings,
    pub(crate) calls: CallSettings,
    pub(crate) events: EventSettings,
    pub(crate) server: ServerSettings,
    pub(crate) auth: AuthSettings,
    pub(crate) postgres: PostgresSettings,
}

impl Default for Settings {
    fn default() -> Self {
        let convgroups_host::Settings { wasi, cache_dir: _, limits, sandbox, calls, events } = Default::default();
        let convgroups_server::Settings { server, auth } = Default::default();
        Self {
            store: "sqlite:convgroups.db".to_owned(),
            plugin: PathBuf::new(),
            wasi,
            cache_dir: PathBuf::new(),
            cache: true,
            limits,
            sandbox,
            calls,
            events,
            server,
            auth,
            postgres: PostgresSettings::default(),
        }
    }
}

impl Settings {
    /// Checks what types do not. Returns the first setting that is out of its range.
    pub(crate) fn check(&self) -> Result<(), InvalidSetting> {
        self.of_host(None).check()?;
        self.of_server().check()?;
        self.postgres.check()
    }

    /// The settings of the server.
    pub(crate) fn of_server(&self) -> convgroups_server::Settings {
        convgroups_server::Settings { server: self.server.clone(), auth: self.auth.clone() }
    }

    /// Builds something with the settings of a host and the directory for compiled plugins. The default directory is only used
    /// where it can be.
    pub(crate) fn with_cache<T>(
        &self,
        build: impl Fn(convgroups_host::Settings) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let is_named = !self.cache_dir.as_os_str().is_empty();
        let directory = match (self.cache, is_named) {
            (false, _) => None,
            (true, true) => Some(self.cache_dir.clone()),
            (true, false) => default_cache_dir(),
        };
        match build(self.of_host(directory)) {
            Err(BuildError::Cache(error)) if !is_named => {
                tracing::warn!(reason = %error, "plugins are compiled at every start");
                build(self.of_host(None))
            }
            result => result,
        }
    }

    fn of_host(&self, cache_dir: Option<PathBuf>) -> convgroups_host::Settings {
        convgroups_host::Settings {
            wasi: self.wasi,
            cache_dir,
            limits: self.limits.clone(),
            sandbox: self.sandbox.clone(),
            calls: self.calls.clone(),
            events: self.events.clone(),
        }
    }
}

/// The directory for compiled plugins where the settings name none; `None` for a user without a home directory.
fn default_cache_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("convgroups"))
}
