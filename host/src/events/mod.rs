//! The change log as a reader sees it: what happened after a version, or the whole state where the log does not reach.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_listener::Listener;
use serde::{Deserialize, Serialize};

use crate::model::{ConversationData, EventId, GroupState, LoggedChange, UserId, Version};
use crate::store::{Changes, EventListener, MAX_BATCH, Store, StoreResult, Watch};

/// How often a reader looks for what other processes have committed, where the store does not learn of it.
pub const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What a reader gets: one committed change, or the state as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// The next change.
    Change(LoggedChange),
    /// The log was trimmed past what the reader has seen, or that was another history: everything, to start from.
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FullState {
    /// The version.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub version: Version,
    /// Always true: tells this from a change.
    pub full: bool,
    /// The groups, in order.
    pub groups: Vec<GroupState>,
    /// The conversations with marks or custom data, in order.
    pub conversations: Vec<ConversationData>,
}

/// Reads one user's changes in order, without gap or repeat.
#[derive(Debug)]
pub struct EventReader {
    store: Arc<dyn Store>,
    user: UserId,
    after: EventId,
    /// Nothing when the store has to be polled.
    watch: Option<Watch>,
}

impl EventReader {
    /// Reads from after an event on, straight from a store, beside whichever host writes to it. Where only the version of
    /// the event is known, and the store has been set back since, changes may be missed unless the version is ahead of the
    /// store's.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, user: UserId, after: impl Into<EventId>) -> Self {
        let watch = store.watch(&user);
        Self { store, user, after: after.into(), watch }
    }

    /// As [`EventReader::new`], beginning with the whole state.
    #[must_use]
    pub fn from_state(store: Arc<dyn Store>, user: UserId) -> Self {
        // No log reaches there, so that the first read is answered with the state.
        Self::new(store, user, Version::MAX)
    }

    /// Whose changes they are.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The ID of the event that was read last, to resume from.
    #[must_use]
    pub fn after(&self) -> EventId {
        self.after
    }

    /// The ID of one of the events that the last read returned.
    #[must_use]
    pub fn id(&self, event: &Event) -> EventId {
        EventId { version: event.version(), ..self.after }
    }

    /// What has happened since; empty when nothing has. At most [`crate::store::MAX_BATCH`] events, so read on until
    /// there are none.
    ///
    /// # Errors
    ///
    /// When the store fails; a later read goes on where this one was to start.
    pub fn read(&mut self) -> StoreResult<Vec<Event>> {
        self.read_some(MAX_BATCH)
    }

    /// As [`EventReader::read`], but at most `limit` events.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn read_some(&mut self, limit: u32) -> StoreResult<Vec<Event>> {
        let (history, changes) = self.store.changes_after(&self.user, self.after, limit)?;
        let events: Vec<Event> = match changes {
            Changes::Since(changes) => changes.into_iter().map(Event::Change).collect(),
            Changes::Full(state) => vec![Event::Full(FullState {
                version: state.version,
                full: true,
                groups: state.value.groups,
                conversations: state.value.conversations,
            })],
        };
        let version = events.last().map_or(self.after.version, Event::version);
        self.after = EventId { version, history: Some(history) };
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
            let listener = self.listen();
            let events = self.read()?;
            let now = Instant::now();
            if !events.is_empty() || deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(events);
            }
            match (listener, deadline) {
                (Some(listener), Some(deadline)) => drop(listener.wait_deadline(deadline)),
                (Some(listener), None) => listener.wait(),
                (None, deadline) => {
                    let poll = now + POLL_INTERVAL;
                    std::thread::sleep(deadline.map_or(poll, |deadline| deadline.min(poll)) - now);
                }
            }
        }
    }

    /// For programs that wait in their own way: listen, then read, then wait for the listener. Nothing when the store does
    /// not learn of what others commit: then read again every [`POLL_INTERVAL`].
    #[must_use]
    pub fn listen(&self) -> Option<EventListener> {
        self.watch.as_ref().map(Watch::listen)
    }
}
