//! The harness: plugins run through the real host, on every store.
//!
//! - [`bombs`] has plugins that attack whoever loads them;
//! - [`contract!`](crate::store_contract) runs the store contract suite on a store;
//! - [`conformance`] runs case files against a host;
//! - [`gated`] has a store that waits or fails when a test wants it to, and counts what it is asked;
//! - [`guests`] has the plugins that misbehave, as components;
//! - [`load`] has callers and readers, and what must hold of them whatever happens;
//! - [`meddled`] has a store with somebody in between;
//! - [`model`] is a host in a few lines of plain code, to compare with;
//! - [`native`] runs the reference plugin's rules without a sandbox;
//! - [`proxy`] is a way to a server that breaks where a test wants it to;
//! - [`server`] has a server to speak to.

/// The README's programs, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub mod bombs;
pub mod conformance;
pub mod contract;
pub mod gated;
pub mod guests;
pub mod load;
pub mod meddled;
pub mod model;
pub mod native;
pub mod proxy;
pub mod server;

use std::sync::{Arc, LazyLock};

use convgroups_host::settings::PostgresSettings;
use convgroups_host::store::Store;
use convgroups_host::{MemoryStore, PostgresStore, SqliteStore, UserId};
use postgres_for_tests::{Database, Pooler};
use tempfile::TempDir;

/// A store and what it lies in, which is gone when this is dropped.
#[derive(Debug)]
pub struct TestStore {
    /// The store.
    pub store: Arc<dyn Store>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory,
    Directory(#[expect(dead_code, reason = "kept until it is no longer needed")] TempDir),
    Database { url: String, _database: Database },
}

impl TestStore {
    /// An empty store in memory.
    #[must_use]
    pub fn memory() -> Self {
        Self { store: Arc::new(MemoryStore::new()), place: Place::Memory }
    }

    /// An empty SQLite store in a directory of its own.
    ///
    /// # Panics
    ///
    /// When the system has no room for it.
    #[must_use]
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let store = SqliteStore::open(directory.path().join("test.db")).expect("a new store opens");
        Self { store: Arc::new(store), place: Place::Directory(directory) }
    }

    /// An empty PostgreSQL store in a database of its own; nothing where there is no server.
    ///
    /// # Panics
    ///
    /// When the server cannot make one; or when there is none, and one is required.
    #[must_use]
    pub fn postgres() -> Option<Self> {
        let database = Database::create()?;
        let url = database.url().to_owned();
        Some(Self { store: open_postgres(&url), place: Place::Database { url, _database: database } })
    }

    /// As [`TestStore::postgres`], where the database undoes transactions that could not have run one after another.
    ///
    /// # Panics
    ///
    /// As [`TestStore::postgres`].
    #[must_use]
    pub fn serializable_postgres() -> Option<Self> {
        let database = Database::create()?;
        let name = database.query("SELECT current_database()").remove(0);
        database.execute(&[&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")]);
        let url = database.url().to_owned();
        Some(Self { store: open_postgres(&url), place: Place::Database { url, _database: database } })
    }

    /// As [`TestStore::postgres`], by way of a pooler that hands each transaction another connection and does not keep track
    /// of prepared statements; nothing where there is none.
    ///
    /// # Panics
    ///
    /// As [`TestStore::postgres`].
    #[must_use]
    pub fn pooled_postgres() -> Option<Self> {
        static POOLER: LazyLock<Option<Pooler>> = LazyLock::new(Pooler::start);
        let database = Database::create()?;
        let url = POOLER.as_ref()?.url(database.url());
        Some(Self { store: open_postgres(&url), place: Place::Database { url, _database: database } })
    }

    /// The same data as another host has it. Where only one host can have it, the same store.
    ///
    /// # Panics
    ///
    /// When the store cannot be opened again.
    #[must_use]
    pub fn as_another_host(&self) -> Arc<dyn Store> {
        match &self.place {
            Place::Memory | Place::Directory(_) => Arc::clone(&self.store),
            Place::Database { url, .. } => open_postgres(url),
        }
    }

    /// One of each kind that there is, with its name.
    #[must_use]
    pub fn all() -> Vec<(&'static str, Self)> {
        let mut all = vec![("memory", Self::memory()), ("sqlite", Self::sqlite())];
        all.extend(Self::postgres().map(|store| ("postgres", store)));
        all
    }
}

fn open_postgres(url: &str) -> Arc<dyn Store> {
    let settings = PostgresSettings { max_connections: 8, timeout_ms: 30_000, ..PostgresSettings::default() };
    Arc::new(PostgresStore::open(url, &settings).expect("a new database opens"))
}

/// A user's id that is known to be valid.
///
/// # Panics
///
/// When it is not.
#[must_use]
pub fn user(id: &str) -> UserId {
    UserId::new(id).expect("a valid user id")
}

/// Ids `PREFIX0001`, `PREFIX0002` and so on.
#[must_use]
pub fn ids(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{prefix}{number:04}")).collect()
}

/// A figure of this process's memory, as `VmRSS:`, in KiB.
///
/// # Panics
///
/// Where there is no such figure, as on other systems than Linux.
#[must_use]
pub fn memory_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("there is such a figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
