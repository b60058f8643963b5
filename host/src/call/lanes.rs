//! One call of a user at a time: calls of the same user in one host never conflict with each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use crate::model::UserId;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: Mutex<HashMap<UserId, Arc<Mutex<()>>>>,
}

impl Lanes {
    /// Waits for the user's lane; nothing when the deadline comes first.
    pub(super) fn enter(&self, user: &UserId, deadline: Instant) -> Option<Lane<'_>> {
        let mutex = Arc::clone(self.lanes.lock().entry(user.clone()).or_default());
        let guard = mutex.try_lock_arc_until(deadline);
        if guard.is_none() {
            drop(mutex);
            self.tidy(user);
        }
        Some(Lane { lanes: self, user: user.clone(), guard: Some(guard?) })
    }

    /// Forgets a lane that nobody is in or waits for.
    fn tidy(&self, user: &UserId) {
        let mut lanes = self.lanes.lock();
        if lanes.get(user).is_some_and(|lane| Arc::strong_count(lane) == 1) {
            lanes.remove(user);
        }
    }
}

/// The calling user's lane, until it is dropped.
pub(super) struct Lane<'a> {
    lanes: &'a Lanes,
    user: UserId,
    guard: Option<ArcMutexGuard<RawMutex, ()>>,
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            // To who has waited longest.
            ArcMutexGuard::unlock_fair(guard);
        }
        self.lanes.tidy(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lets_one_call_of_a_user_in_at_a_time_and_forgets_lanes_that_are_empty() {
        let lanes = Lanes::default();
        let (alice, bob) = (UserId::new("alice").expect("valid"), UserId::new("bob").expect("valid"));
        let soon = Instant::now() + Duration::from_millis(5);
        let lane = lanes.enter(&alice, soon).expect("empty");
        assert!(lanes.enter(&alice, soon).is_none());
        assert!(lanes.enter(&bob, soon).is_some());
        drop(lane);
        assert!(lanes.enter(&alice, soon).is_some());
        assert!(lanes.lanes.lock().is_empty());
    }
}
