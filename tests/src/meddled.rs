//! A store with somebody in between: who may let reads fail, and has the say over commits.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use convgroups_host::model::{ConversationData, UserState};
use convgroups_host::store::{
    Changes, Commit, CommitOutcome, GroupList, HeldAndSize, Member, Memberships, Store, StoreCounts, StoreResult,
    Verified, Versioned, Watch,
};
use convgroups_host::{EventId, History, UserId};

/// What stands between host and store.
pub trait Meddler: Debug + Send + Sync + 'static {
    /// Before each read.
    ///
    /// # Errors
    ///
    /// When the read is to fail.
    fn read(&self) -> StoreResult<()> {
        Ok(())
    }

    /// Instead of each commit.
    ///
    /// # Errors
    ///
    /// What whoever commits is told.
    fn commit(&self, store: &dyn Store, commit: Commit) -> StoreResult<CommitOutcome>;
}

/// A store with a meddler, who can be spoken to through it.
#[derive(Debug)]
pub struct MeddledStore<M> {
    store: Arc<dyn Store>,
    meddler: M,
}

impl<M: Meddler> MeddledStore<M> {
    /// Puts somebody before a store.
    #[must_use]
    pub fn with(store: Arc<dyn Store>, meddler: M) -> Arc<Self> {
        Arc::new(Self { store, meddler })
    }

    fn store(&self) -> StoreResult<&dyn Store> {
        self.meddler.read()?;
        Ok(&*self.store)
    }
}

impl<M> Deref for MeddledStore<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.meddler
    }
}

impl<M: Meddler> Store for MeddledStore<M> {
    fn commit(&self, commit: Commit) -> StoreResult<CommitOutcome> {
        self.meddler.commit(&*self.store, commit)
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
    fn memberships(&self, user: &UserId, ids: &[&str], limit: usize) -> StoreResult<Versioned<Option<Memberships>>> {
        self.store()?.memberships(user, ids, limit)
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
    fn changes_after(&self, user: &UserId, after: EventId, limit: u32) -> StoreResult<(History, Changes)> {
        self.store()?.changes_after(user, after, limit)
    }
    fn history(&self) -> StoreResult<History> {
        self.store()?.history()
    }
    fn verify(&self, found: &mut dyn FnMut(String)) -> StoreResult<Verified> {
        self.store()?.verify(found)
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
