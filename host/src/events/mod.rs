//! The change log as a reader sees it: what happened after a version, or the whole state where the log does not reach.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use crate::model::{ConversationData, GroupState, LoggedChange, UserId, Version};
use crate::store::{Changes, Store, StoreResult};

/// How often a reader looks for what other processes have committed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What a reader gets: one committed change, or the state as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// The next change.
    Change(LoggedChange),
    /// The log was trimmed past what the reader has seen: everything, to start from.
    Full(FullState),
}

impl Event {
    /// The version after it, to resume from.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::Change(change) => change.version,
            Self::Full(state) => state.version,
        }
    }
}

/// Everything of a user at some version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullState {
    /// The version.
    pub version: Version,
    /// Always true: tells this from a change.
    pub full: bool,
    /// The groups, in order.
    pub groups: Vec<GroupState>,
    /// The conversations with marks or custom data, in order.
    pub conversations: Vec<ConversationData>,
}

/// Wakes readers when this process has committed something.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    commits: Mutex<u64>,
    committed: Condvar,
}

impl Notifier {
    pub(crate) fn notify(&self) {
        *self.commits.lock() += 1;
        self.committed.notify_all();
    }
}

/// Reads one user's changes in order, without gap or repeat.
#[derive(Debug)]
pub struct EventReader {
    store: Arc<dyn Store>,
    user: UserId,
    after: Version,
    notifier: Option<Arc<Notifier>>,
}

impl EventReader {
    pub(crate) fn new(store: Arc<dyn Store>, user: UserId, after: Version, notifier: Option<Arc<Notifier>>) -> Self {
        Self { store, user, after, notifier }
    }

    /// Reads straight from a store, beside whichever host writes to it.
    #[must_use]
    pub fn of_store(store: Arc<dyn Store>, user: UserId, after: Version) -> Self {
        Self::new(store, user, after, None)
    }

    /// The version that was read last, to resume from.
    #[must_use]
    pub fn after(&self) -> Version {
        self.after
    }

    /// What has happened since; empty when nothing has. At most [`crate::store::MAX_BATCH`] events, so read on until
    /// there are none.
    ///
    /// # Errors
    ///
    /// When the store fails; a later read goes on where this one was to start.
    pub fn read(&mut self) -> StoreResult<Vec<Event>> {
        let events: Vec<Event> = match self.store.changes(&self.user, self.after)? {
            Changes::Since(changes) => changes.into_iter().map(Event::Change).collect(),
            Changes::Full(state) => vec![Event::Full(FullState {
                version: state.version,
                full: true,
                groups: state.value.groups,
                conversations: state.value.conversations,
            })],
        };
        if let Some(last) = events.last() {
            self.after = last.version();
        }
        Ok(events)
    }

    /// As [`EventReader::read`], but waits up to `timeout` for something to happen.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn wait(&mut self, timeout: Duration) -> StoreResult<Vec<Event>> {
        // A time that no clock reaches is no limit.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let seen = self.notifier.as_ref().map(|notifier| *notifier.commits.lock());
            let events = self.read()?;
            let now = Instant::now();
            if !events.is_empty() || deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(events);
            }
            let poll = now + POLL_INTERVAL;
            let wake = deadline.map_or(poll, |deadline| deadline.min(poll));
            match (&self.notifier, seen) {
                (Some(notifier), Some(seen)) => {
                    let mut commits = notifier.commits.lock();
                    if *commits == seen {
                        notifier.committed.wait_until(&mut commits, wake);
                    }
                }
                _ => std::thread::sleep(wake - now),
            }
        }
    }
}
