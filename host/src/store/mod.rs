//! Where groups, marks and custom data are kept.
//!
//! A [`Store`] answers questions about one user at a time and commits the changes of one call of one user. Its contract
//! is executable: the suite in `tests/` runs against every backend.

mod address;
mod memory;
mod overlay;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod record;
mod settings;
#[cfg(feature = "sqlite")]
mod sqlite;
mod transaction;
mod verify;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use self::address::Location;
pub use self::address::{check_address, without_password};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
pub use settings::PostgresSettings;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
pub use transaction::{
    Bounds, Fault, MAX_CONVERSATION_ID_BYTES, MAX_CUSTOM_DATA_BYTES, MAX_GROUP_NAME_BYTES, MAX_GROUPS, Staged,
    Transaction, TransactionError,
};
pub use verify::Verified;
pub use watch::{EventListener, Watch, Watchers};

use crate::model::{Change, ConversationData, EventId, History, LoggedChange, Origin, UserId, UserState, Version};

/// The most members that one [`Store::page`] or [`Store::page_of_data`] answers.
pub const MAX_PAGE: u32 = 1000;
/// The most changes or users that one read of [`Store::changes`] or [`Store::users`] answers.
pub const MAX_BATCH: u32 = 1000;

/// A value, and the version of the user's groups that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The version that the value was read at.
    pub version: Version,
    /// The value.
    pub value: T,
}

/// A conversation in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The conversation's id.
    pub conversation_id: String,
    /// Its place in the order of adding.
    pub position: u64,
}

/// A user's groups, in the order they were created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupList {
    /// The groups.
    pub groups: Vec<GroupEntry>,
    /// How many were ever created: the id of the newest, whether it is still there or not.
    pub created: u32,
}

/// A group's id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// A user's groups are numbered from 1 in the order of creation. The number stays when the name changes, and is not
    /// given again when the group is gone.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// For each of some ids whether a group holds it, and how many conversations it holds in all.
pub type HeldAndSize = (Vec<bool>, u32);

/// Which groups hold which of some IDs, each group's name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memberships {
    /// The names of all groups, in the order they were created.
    pub groups: Vec<String>,
    /// For each ID, in order, the indices of the groups that hold it, in ascending order.
    pub held: Vec<Vec<u32>>,
}

/// What one call changed, to be committed.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Whose groups.
    pub user: UserId,
    /// The version that the changes were worked out on.
    pub base: Version,
    /// What changed, in order; not empty, unless versions are left out.
    pub changes: Vec<Change>,
    /// What is left out before it; nothing in calls.
    pub skip: Skip,
    /// The call it came from.
    pub origin: Origin,
    /// How many changes of this user the log keeps, this one included; at least 1.
    pub keep: u32,
    /// When to stop waiting for the outcome; nothing to wait as long as it takes.
    pub deadline: Option<Instant>,
}

impl Commit {
    /// The version that it leads to; nothing when there is no room for it below [`Version::MAX`].
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let version = self.base.0.checked_add(self.skip.versions)?.checked_add(1).map(Version)?;
        (version < Version::MAX).then_some(version)
    }
}

/// Versions and group IDs that a commit leaves out, so that a user from another store continues with the numbers of that store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skip {
    /// How many versions before the one that the commit leads to. If there are any, the commit truncates the change log and
    /// adds no entry to it: a reader that has seen any earlier version, in this store or another, gets a full snapshot.
    pub versions: u64,
    /// How many group ids: before that of each group that is created, in order, and then after the last of them. None
    /// where the list has ended.
    pub group_ids: Vec<u32>,
}

/// What became of a [`Commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is durable, and led to this version.
    Committed(Version),
    /// The user is not at the base version, or there is no version left; nothing was changed.
    Conflict,
}

/// What the log knows after some version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// All changes since, in order, or the first of them.
    Since(Vec<LoggedChange>),
    /// The change log does not reach back that far, is not that far yet, or holds a change that only a later version of this
    /// program can read: the state as a whole instead.
    Full(Versioned<UserState>),
}

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be opened: absent, locked by another host, of a newer format, not ours.
    Unusable,
    /// It failed at this moment; a later try may succeed.
    Unavailable,
    /// It failed while committing, and whether the changes will be found later is not known.
    OutcomeUnknown,
    /// What is in it contradicts itself.
    Corrupt,
}

/// A store failed. This is the host's failure, never the caller's nor the plugin's.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct StoreError {
    /// What is wrong.
    pub kind: StoreErrorKind,
    /// For the operator: what happened, where, and what to do.
    pub message: String,
    /// What it was caused by.
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// A failure of a kind, with a message for the operator.
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same failure with its cause, which is the [`source`](std::error::Error::source). The message names the cause too.
    #[must_use]
    pub fn caused_by(self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Arc::new(cause)), ..self }
    }
}

impl PartialEq for StoreError {
    /// Whether kind and message are the same.
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.message) == (other.kind, &other.message)
    }
}

impl Eq for StoreError {}

/// What a store's operations answer.
pub type StoreResult<T> = Result<T, StoreError>;

/// Keeps users' groups and the log of their changes.
///
/// Each read answers from one moment and says at which version of the user that was; a caller that reads twice compares.
/// Two reads at the same version answer from the same state. What one operation of a plugin asks for is one read, since each
/// may be a round trip.
#[auto_impl::auto_impl(Arc)]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// All groups, in the order they were created.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn groups(&self, user: &UserId) -> StoreResult<Versioned<GroupList>>;

    /// For each id, in order, whether the group holds it; nothing when there is no such group.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn contains(&self, user: &UserId, group_name: &str, ids: &[&str]) -> StoreResult<Versioned<Option<Vec<bool>>>>;

    /// As [`Store::contains`], and how many conversations the group holds.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn contains_and_size(
        &self,
        user: &UserId,
        group_name: &str,
        ids: &[&str],
    ) -> StoreResult<Versioned<Option<HeldAndSize>>>;

    /// The first `limit` (at most [`MAX_PAGE`]) members with a place after `after`, in order: of one group, or of all that
    /// are in some group or have marks or custom data, each then once, at its earliest place. Nothing when there is no
    /// such group.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn page(
        &self,
        user: &UserId,
        group_name: Option<&str>,
        after: u64,
        limit: u32,
    ) -> StoreResult<Versioned<Option<Vec<Member>>>>;

    /// Finds the groups that hold each of some IDs, which are all different. Stops and returns nothing when there are more
    /// than `limit` memberships.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn memberships(&self, user: &UserId, ids: &[&str], limit: usize) -> StoreResult<Versioned<Option<Memberships>>>;

    /// For each id, in order, its marks and custom data.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn data(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<Vec<ConversationData>>>;

    /// As [`Store::data`], and how many conversations have marks or custom data.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn data_and_count(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<(Vec<ConversationData>, u32)>>;

    /// How many conversations have marks or custom data.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn data_count(&self, user: &UserId) -> StoreResult<Versioned<u32>> {
        let Versioned { version, value: (_, count) } = self.data_and_count(user, &[])?;
        Ok(Versioned { version, value: count })
    }

    /// The first `limit` (at most [`MAX_PAGE`]) conversations with marks or custom data and a place after `after`, in
    /// order. A conversation's place is that of its first mark or custom data since it last had neither.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn page_of_data(&self, user: &UserId, after: u64, limit: u32) -> StoreResult<Versioned<Vec<Member>>>;

    /// Everything of one user, in order.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn state(&self, user: &UserId) -> StoreResult<Versioned<UserState>>;

    /// Applies a call's changes, appends them to the log and raises the version to [`Commit::version`], together or not
    /// at all, if the user is at the base version. Returns when the outcome is durable.
    ///
    /// When versions are left out, the log is emptied instead. So its versions follow each other without a gap, and
    /// whoever has not seen the last of them finds all that was missed in it, or gets the state as a whole.
    ///
    /// # Errors
    ///
    /// When the store fails or the deadline comes first. The changes are not there then, unless the kind is
    /// [`StoreErrorKind::OutcomeUnknown`].
    fn commit(&self, commit: Commit) -> StoreResult<CommitOutcome>;

    /// Returns the store's history, and the first `limit` (at most [`MAX_BATCH`]) changes after an event, both of one moment. A
    /// reader that has seen another history gets the full state, whatever version it has seen.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn changes_after(&self, user: &UserId, after: EventId, limit: u32) -> StoreResult<(History, Changes)>;

    /// As [`Store::changes_after`], for a reader that does not know which history it has seen.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn changes(&self, user: &UserId, after: Version, limit: u32) -> StoreResult<Changes> {
        self.changes_after(user, after.into(), limit).map(|(_, changes)| changes)
    }

    /// Returns the store's history.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn history(&self) -> StoreResult<History>;

    /// Checks everything that the store has against what must be true of it, as of one moment, beside hosts that may be
    /// writing. Calls `found` with a line for each thing that is wrong.
    ///
    /// # Errors
    ///
    /// When the store fails, so that not everything could be checked.
    fn verify(&self, found: &mut dyn FnMut(String)) -> StoreResult<Verified>;

    /// The first `limit` (at most [`MAX_BATCH`]) users after `after`, in the order of their ids' bytes, that ever had a
    /// change committed.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn users(&self, after: Option<&UserId>, limit: u32) -> StoreResult<Vec<UserId>>;

    /// Watches a user's changes, by this host or another. Returns `None` if the store does not learn of other hosts' commits;
    /// a reader then has to poll.
    fn watch(&self, user: &UserId) -> Option<Watch>;

    /// Whether the store can be read, and a change reaches the disk: it makes one that has no meaning, with one flush. A store
    /// that was opened to be read is only read.
    ///
    /// # Errors
    ///
    /// When it cannot, or a change does not.
    fn health(&self) -> StoreResult<()>;

    /// How much it has to do.
    fn counts(&self) -> StoreCounts {
        StoreCounts::default()
    }
}

/// How much a store has had to do since it was opened, and has to do now. What it does not have is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Commits, conflicts included.
    pub commits: u64,
    /// Flushes that the store made for them itself.
    pub flushes: u64,
    /// Open connections to a database.
    pub connections: u64,
    /// Those of them that are in use.
    pub connections_in_use: u64,
    /// Calls that wait for one.
    pub connections_awaited: u64,
}

/// Opens the store that a URL names: `sqlite:PATH`, created if it is not there, for this host alone;
/// `postgres://USER@HOST/DATABASE`, which any number of hosts may share; or `memory:`.
///
/// # Errors
///
/// When the URL names no kind of store that this build has, or the store cannot be opened.
#[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "for one of the stores"))]
pub fn open(url: &str, postgres: &PostgresSettings) -> StoreResult<Arc<dyn Store>> {
    match Location::of(url)? {
        Location::Memory => Ok(Arc::new(MemoryStore::new())),
        #[cfg(feature = "sqlite")]
        Location::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path)?)),
        #[cfg(feature = "postgres")]
        Location::Postgres => Ok(Arc::new(PostgresStore::open(url, postgres)?)),
    }
}

/// Opens the store that a URL names to read it, beside hosts that may be writing to it. There must be one.
///
/// # Errors
///
/// As [`open`].
#[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "for one of the stores"))]
pub fn open_read_only(url: &str, postgres: &PostgresSettings) -> StoreResult<Arc<dyn Store>> {
    match Location::of(url)? {
        Location::Memory => Ok(Arc::new(MemoryStore::new())),
        #[cfg(feature = "sqlite")]
        Location::Sqlite(path) => Ok(Arc::new(SqliteStore::open_read_only(path)?)),
        #[cfg(feature = "postgres")]
        Location::Postgres => Ok(Arc::new(PostgresStore::open_read_only(url, postgres)?)),
    }
}

/// Whether a log of a history that holds `oldest` to `current` has everything that a reader who saw `after` has missed.
pub(crate) fn log_reaches(after: EventId, history: History, oldest: Option<Version>, current: Version) -> bool {
    let EventId { version, .. } = after;
    let reaches = version == current || (version < current && oldest.is_some_and(|oldest| oldest <= version.next()));
    reaches && after.may_be_of(history)
}
