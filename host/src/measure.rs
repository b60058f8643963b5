//! For the benchmarks: single layers of a call, and shapes that a call never takes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::{Answer, OperationError, Request};
use crate::call::{BuildError, HostBuilder, Runner};
use crate::model::UserId;
use crate::plugin::{self, Examiner, Plugin, PluginSource};
use crate::sandbox::{Ended, Ran, Sandbox, Warm};
use crate::settings::{Limits, Settings};
use crate::store::{Bounds, SqliteStore, Store, StoreResult, Transaction};

/// The sandbox alone: nothing is admitted, committed or logged.
#[derive(Debug)]
pub struct Bare {
    sandbox: Sandbox,
    plugin: Plugin,
    limits: Arc<Limits>,
    store: Arc<dyn Store>,
    user: UserId,
}

/// An instance that is kept between calls.
pub struct Kept<'a>(Warm, &'a Bare);

impl std::fmt::Debug for Kept<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Kept").field(self.1).finish()
    }
}

impl Bare {
    /// The reference plugin with default settings, for one user of a store.
    ///
    /// # Errors
    ///
    /// As building a host.
    pub fn new(store: Arc<dyn Store>, user: UserId) -> Result<Self, BuildError> {
        let Settings { sandbox, wasi, limits, .. } = Settings::default();
        let sandbox = Sandbox::new(sandbox, wasi, 64, None).map_err(BuildError::Sandbox)?;
        let plugin = plugin::load(&sandbox, &PluginSource::Bundled, &Examiner::InProcess)?;
        Ok(Self { sandbox, plugin, limits: Arc::new(limits), store, user })
    }

    /// A call in a fresh instance, whose changes are dropped.
    ///
    /// # Panics
    ///
    /// When the call gives no answer.
    pub fn fresh(&self, request: &Request) -> Answer {
        let ran = self.sandbox.run(&self.plugin.compiled, self.transaction(), &self.limits, request);
        ran.expect("a benchmark's calls succeed").answer
    }

    /// An instance to call again and again.
    ///
    /// # Panics
    ///
    /// When there is no room for one.
    #[must_use]
    pub fn keep(&self) -> Kept<'_> {
        let warm = Warm::new(&self.sandbox, &self.plugin.compiled, self.transaction(), &self.limits);
        Kept(warm.expect("a benchmark has room for an instance"), self)
    }

    /// A transaction as calls get it.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        let bounds = Bounds::default();
        Transaction::new(Arc::clone(&self.store), self.user.clone(), bounds)
    }
}

impl Kept<'_> {
    /// A call in the same instance as the one before, whose changes are dropped.
    ///
    /// # Panics
    ///
    /// When the call gives no answer.
    pub fn call(&mut self, request: &Request) -> Answer {
        self.0.call(self.1.transaction(), request).expect("a benchmark's calls succeed")
    }
}

/// A store that flushes once for each commit.
///
/// # Errors
///
/// As [`SqliteStore::open`].
pub fn open_without_group_commit(path: &Path) -> StoreResult<SqliteStore> {
    SqliteStore::open_with_batches(path, 1)
}

/// Rules that run in the host itself.
pub type Rules = dyn Fn(&mut Transaction, &Limits, &Request) -> Result<Answer, OperationError> + Send + Sync;

/// What runs requests without a sandbox.
#[derive(Clone)]
pub(crate) struct Native(Arc<Rules>);

impl Native {
    pub(crate) fn run(&self, mut transaction: Transaction, limits: &Limits, request: &Request) -> Result<Ran, Ended> {
        let started = Instant::now();
        let answer = (self.0)(&mut transaction, limits, request).map_err(Ended::Refused)?;
        let setup = Duration::ZERO;
        Ok(Ran { answer, transaction, memory_bytes: 0, setup, guest: started.elapsed() })
    }
}

impl HostBuilder {
    /// Runs calls by these rules, without a sandbox.
    #[must_use]
    pub fn natively(mut self, rules: Arc<Rules>) -> Self {
        self.runner = Runner::Native(Native(rules));
        self
    }
}
