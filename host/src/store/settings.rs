//! The settings of stores.

use std::path::PathBuf;
#[cfg(feature = "postgres")]
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::range::{InvalidSetting, within};

/// The connection to PostgreSQL. TLS is spoken, with a certificate that is good for the host's name, unless the database is
/// on this machine or the store's URL says `sslmode=disable`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// Connections of this host for calls; one more listens for notifications. Default 16.
    pub max_connections: u32,
    /// How long a statement may take, waiting for a connection and trying again included, in milliseconds; a commit has
    /// what is left of its call's time. Default 5000.
    pub timeout_ms: u64,
    /// How long it may take to connect, in milliseconds. Default 3000.
    pub connect_timeout_ms: u64,
    /// The certificates of the authorities that may have signed the database's, a PEM file. Default: empty, for those of
    /// the system.
    pub ca_file: PathBuf,
    /// A file with the password, read again for each new connection. Default: empty, for the URL's.
    pub password_file: PathBuf,
    /// Whether the schema is brought to this program's version at the start. Default true; false for those who run
    /// `convgroups migrate` themselves.
    pub migrate: bool,
    /// Whether statements are prepared once for each connection. Default true; false behind a pooler in transaction mode
    /// that does not keep track of them, which is noticed otherwise.
    pub prepare: bool,
    /// Whether hosts notify each other of changes, for which each looks twice a second anyway. Default true; false where there
    /// is no `LISTEN`, or if there are too many hosts.
    pub listen: bool,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            max_connections: 16,
            timeout_ms: 5000,
            connect_timeout_ms: 3000,
            ca_file: PathBuf::new(),
            password_file: PathBuf::new(),
            migrate: true,
            prepare: true,
            listen: true,
        }
    }
}

#[cfg(feature = "postgres")]
impl PostgresSettings {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

impl PostgresSettings {
    /// Checks what types do not.
    ///
    /// # Errors
    ///
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        within("postgres.max_connections", self.max_connections.into(), 1, 10_000)?;
        within("postgres.timeout_ms", self.timeout_ms, 10, 600_000)?;
        within("postgres.connect_timeout_ms", self.connect_timeout_ms, 10, 600_000)
    }
}
