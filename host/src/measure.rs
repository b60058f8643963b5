//! For the benchmarks: single layers of a call, and shapes that a call never takes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::{
    AnyResult, ConversationOperationResult, DeleteConversationsFromGroup, Entries, Method, OperationError, Request,
};
use crate::call::BuildError;
use crate::model::UserId;
use crate::plugin::{self, Examiner, Plugin, PluginSource};
use crate::sandbox::{self, Compiled, Ended, Operation, Ran, Sandbox};
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
pub struct Kept<'a>(sandbox::Kept, &'a Bare);

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
        let sandbox = Sandbox::new(sandbox, wasi, 64, None)?;
        let plugin = plugin::load(&sandbox, &PluginSource::Bundled, &Examiner::InProcess)?;
        Ok(Self { sandbox, plugin, limits: Arc::new(limits), store, user })
    }

    /// A call in a fresh instance, whose changes are dropped.
    ///
    /// # Panics
    ///
    /// When the call gives no answer.
    pub fn fresh<O: Operation>(&self, operation: &O) -> O::Output {
        let ran = operation.run(&self.sandbox, &self.plugin.compiled, self.transaction(), &self.limits);
        ran.expect("a benchmark's calls succeed").result
    }

    /// An instance to call again and again.
    ///
    /// # Panics
    ///
    /// When there is no room for one.
    #[must_use]
    pub fn keep(&self) -> Kept<'_> {
        let kept = sandbox::Kept::new(&self.sandbox, &self.plugin.compiled, self.transaction(), &self.limits);
        Kept(kept.expect("a benchmark has room for an instance"), self)
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
    pub fn call(&mut self, deletion: &DeleteConversationsFromGroup) -> Vec<ConversationOperationResult> {
        self.0.call(self.1.transaction(), deletion).expect("a benchmark's calls succeed")
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

/// The reference plugin's rules, linked into this process.
pub type Rules = fn(&mut Transaction, &Limits, &Request) -> Result<AnyResult, OperationError>;

/// An operation that runs by rules linked into this process, without a sandbox.
#[derive(Clone, Debug)]
pub struct Native {
    /// The operation.
    pub request: Request,
    /// The rules.
    pub rules: Rules,
}

impl Operation for Native {
    type Output = AnyResult;

    fn method(&self) -> Method {
        self.request.method()
    }

    fn run(
        &self,
        _: &Sandbox,
        _: &Compiled,
        mut transaction: Transaction,
        limits: &Arc<Limits>,
    ) -> Result<Ran<AnyResult>, Ended> {
        let started = Instant::now();
        let answer = (self.rules)(&mut transaction, limits, &self.request).map_err(Ended::Refused)?;
        Ok(Ran { result: answer, transaction, memory_bytes: 0, setup: Duration::ZERO, guest: started.elapsed() })
    }

    fn text_bytes(&self) -> usize {
        self.request.text_bytes()
    }

    fn entries(&self) -> Option<Entries<'_>> {
        self.request.entries()
    }
}
