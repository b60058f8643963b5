//! Telling readers that a user's groups have changed.

use std::collections::HashMap;
use std::sync::Arc;

pub use event_listener::EventListener;
use event_listener::{Event, IntoNotification};
use parking_lot::Mutex;

use crate::model::UserId;

/// The watchers of a store by user. The store notifies them of each commit.
#[derive(Debug, Default)]
pub struct Watchers {
    users: Mutex<HashMap<UserId, Arc<Event>>>,
}

impl Watchers {
    /// Wakes those who wait for this user, and nobody else.
    pub fn notify(&self, user: &UserId) {
        if let Some(event) = self.users.lock().get(user) {
            event.notify(usize::MAX.additional());
        }
    }

    /// The user whose changes it waits for.
    #[must_use]
    pub fn watched(&self) -> Vec<UserId> {
        self.users.lock().keys().cloned().collect()
    }

    /// Begins to watch a user.
    #[must_use]
    pub fn watch(self: &Arc<Self>, user: UserId) -> Watch {
        let event = Arc::clone(self.users.lock().entry(user.clone()).or_default());
        Watch { watchers: Arc::clone(self), user, event }
    }
}

/// Watches one user, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    watchers: Arc<Watchers>,
    user: UserId,
    event: Arc<Event>,
}

impl Watch {
    /// Listens for the next change from now on: listen, then read, then wait, and no change is missed.
    #[must_use]
    pub fn listen(&self) -> EventListener {
        self.event.listen()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut users = self.watchers.users.lock();
        // The map's and this one: nobody else watches.
        if Arc::strong_count(&self.event) == 2 {
            users.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use event_listener::Listener;

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::new(id).expect("valid")
    }

    #[test]
    fn wakes_those_who_watch_the_user_and_nobody_else() {
        let watchers = Arc::new(Watchers::default());
        let (alice, bob) = (watchers.watch(user("alice")), watchers.watch(user("bob")));
        let (first, second, other) = (alice.listen(), alice.listen(), bob.listen());
        watchers.notify(&user("alice"));
        assert!(first.wait_timeout(Duration::ZERO).is_some());
        assert!(second.wait_timeout(Duration::ZERO).is_some());
        assert!(other.wait_timeout(Duration::ZERO).is_none());
    }

    #[test]
    fn forgets_users_whom_nobody_watches() {
        let watchers = Arc::new(Watchers::default());
        let first = watchers.watch(user("alice"));
        let second = watchers.watch(user("alice"));
        drop(first);
        assert_eq!(watchers.users.lock().len(), 1);
        drop(second);
        assert!(watchers.users.lock().is_empty());
        watchers.notify(&user("alice"));
    }
}
