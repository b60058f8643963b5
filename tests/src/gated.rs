//! A store that waits or fails when a test wants it to, and counts what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use convgroups_host::model::{ConversationData, UserState};
use convgroups_host::store::{
    Changes, Commit, CommitOutcome, GroupList, HeldAndSize, Member, Store, StoreCounts, StoreError, StoreErrorKind,
    StoreResult, Versioned, Watch,
};
use convgroups_host::{UserId, Version};

use crate::server::PATIENCE;

/// A store behind a gate.
#[derive(Debug)]
pub struct GatedStore {
    store: Arc<dyn Store>,
    failing: AtomicBool,
    asked: AtomicU64,
    gate: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    closed: bool,
    waiting: u32,
}

impl GatedStore {
    /// With the gate open.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            failing: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            gate: Mutex::default(),
            moved: Condvar::new(),
        })
    }

    /// From now on commits wait.
    pub fn close(&self) {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    /// Commits go on.
    pub fn open(&self) {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).closed = false;
        self.moved.notify_all();
    }

    /// Waits until so many commits wait.
    ///
    /// # Panics
    ///
    /// When they do not come.
    pub fn wait_for(&self, waiting: u32) {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.moved.wait_timeout_while(gate, PATIENCE, |gate| gate.waiting < waiting);
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

    fn store(&self) -> StoreResult<&dyn Store> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.failing.load(Ordering::SeqCst) {
            let message = "the disk is on fire, says /secret/path".to_owned();
            return Err(StoreError { kind: StoreErrorKind::Unavailable, message });
        }
        Ok(&*self.store)
    }
}

impl Store for GatedStore {
    fn commit(&self, commit: Commit) -> StoreResult<CommitOutcome> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.waiting += 1;
        self.moved.notify_all();
        while gate.closed {
            gate = self.moved.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        gate.waiting -= 1;
        drop(gate);
        self.store()?.commit(commit)
    }
    fn groups(&self, user: &UserId) -> StoreResult<Versioned<GroupList>> {
        self.store()?.groups(user)
    }
    fn contains(&self, user: &UserId, group: &str, ids: &[&str]) -> StoreResult<Versioned<Option<Vec<bool>>>> {
        self.store()?.contains(user, group, ids)
    }
    fn contains_and_size(
        &self,
        user: &UserId,
        group: &str,
        ids: &[&str],
    ) -> StoreResult<Versioned<Option<HeldAndSize>>> {
        self.store()?.contains_and_size(user, group, ids)
    }
    fn page(
        &self,
        user: &UserId,
        group: Option<&str>,
        after: u64,
        limit: u32,
    ) -> StoreResult<Versioned<Option<Vec<Member>>>> {
        self.store()?.page(user, group, after, limit)
    }
    fn memberships(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<Vec<Vec<String>>>> {
        self.store()?.memberships(user, ids)
    }
    fn data(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<Vec<ConversationData>>> {
        self.store()?.data(user, ids)
    }
    fn data_and_count(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<(Vec<ConversationData>, u32)>> {
        self.store()?.data_and_count(user, ids)
    }
    fn page_of_data(&self, user: &UserId, after: u64, limit: u32) -> StoreResult<Versioned<Vec<Member>>> {
        self.store()?.page_of_data(user, after, limit)
    }
    fn state(&self, user: &UserId) -> StoreResult<Versioned<UserState>> {
        self.store()?.state(user)
    }
    fn changes(&self, user: &UserId, after: Version, limit: u32) -> StoreResult<Changes> {
        self.store()?.changes(user, after, limit)
    }
    fn users(&self, after: Option<&UserId>, limit: u32) -> StoreResult<Vec<UserId>> {
        self.store()?.users(after, limit)
    }
    fn watch(&self, user: &UserId) -> Option<Watch> {
        self.store.watch(user)
    }
    fn health(&self) -> StoreResult<()> {
        self.store()?.health()
    }
    fn counts(&self) -> StoreCounts {
        self.store.counts()
    }
}
