//! A store that waits or fails when a test wants it to, and counts what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use convgroups_host::store::{Commit, CommitOutcome, Store, StoreError, StoreErrorKind, StoreResult};

use crate::meddled::{MeddledStore, Meddler};
use crate::server::PATIENCE;

/// A store behind a gate.
pub type GatedStore = MeddledStore<Gate>;

/// The gate.
#[derive(Debug, Default)]
pub struct Gate {
    failing: AtomicBool,
    asked: AtomicU64,
    leaf: Mutex<Leaf>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Leaf {
    closed: bool,
    waiting: u32,
}

impl GatedStore {
    /// With the gate open.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Self::with(store, Gate::default())
    }
}

impl Gate {
    /// From now on commits wait.
    pub fn close(&self) {
        self.leaf.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    /// Commits go on.
    pub fn open(&self) {
        self.leaf.lock().unwrap_or_else(PoisonError::into_inner).closed = false;
        self.moved.notify_all();
    }

    /// Waits until this many commits wait.
    ///
    /// # Panics
    ///
    /// When they do not come.
    pub fn wait_for(&self, waiting: u32) {
        let leaf = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.moved.wait_timeout_while(leaf, PATIENCE, |leaf| leaf.waiting < waiting);
        let timed_out = waited.is_ok_and(|(_, timeout)| timeout.timed_out());
        assert!(!timed_out, "fewer than {waiting} commits came");
    }

    /// Whether everything fails from now on.
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// How many reads and commits there were so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Meddler for Gate {
    fn read(&self) -> StoreResult<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.failing.load(Ordering::SeqCst) {
            let message = "the disk is on fire, says /secret/path".to_owned();
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
        Ok(())
    }

    fn commit(&self, store: &dyn Store, commit: Commit) -> StoreResult<CommitOutcome> {
        let mut leaf = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
        leaf.waiting += 1;
        self.moved.notify_all();
        while leaf.closed {
            leaf = self.moved.wait(leaf).unwrap_or_else(PoisonError::into_inner);
        }
        leaf.waiting -= 1;
        drop(leaf);
        self.read()?;
        store.commit(commit)
    }
}
