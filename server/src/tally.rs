//! Counts of things by user.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use convgroups_host::model::UserId;

/// Counts by user, with a limit for each. A user with none takes no memory.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    max: u32,
    counts: Arc<Mutex<HashMap<UserId, u32>>>,
}

/// A thing that is counted, until this is dropped.
pub(super) struct Counted {
    tally: Tally,
    user: UserId,
}

impl Tally {
    pub(super) fn new(max: u32) -> Self {
        Self { max, counts: Arc::default() }
    }

    /// Counts another thing of this user; returns `None` if the user has as many as allowed.
    pub(super) fn count(&self, user: &UserId) -> Option<Counted> {
        let mut counts = self.counts.lock();
        let count = counts.entry(user.clone()).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Counted { tally: self.clone(), user: user.clone() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.tally.counts.lock();
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_limit_and_a_user_with_none_takes_no_memory() {
        let tally = Tally::new(1);
        let (alice, bob) = (UserId::new("alice").expect("valid"), UserId::new("bob").expect("valid"));
        let first = tally.count(&alice).expect("the first");
        assert!(tally.count(&alice).is_none());
        drop(tally.count(&bob).expect("another user"));
        drop(first);
        drop(tally.count(&alice).expect("the first again"));
        assert!(tally.counts.lock().is_empty());
    }
}
