//! How many calls there may be: so many at once, so many waiting, and no more.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

#[derive(Debug)]
pub(super) struct Admission {
    max_running: u32,
    max_present: u32,
    /// Calls that wait or run.
    present: AtomicU32,
    running: Mutex<u32>,
    ended: Condvar,
}

impl Admission {
    pub(super) fn new(max_running: u32, max_waiting: u32) -> Self {
        Self {
            max_running,
            max_present: max_running.saturating_add(max_waiting),
            present: AtomicU32::new(0),
            running: Mutex::new(0),
            ended: Condvar::new(),
        }
    }

    /// A place among those who wait; nothing when there are too many.
    pub(super) fn queue(&self) -> Option<Place<'_>> {
        // Made before the check, so that its drop takes the count back.
        let place = Place { admission: self };
        let before = self.present.fetch_add(1, Ordering::Relaxed);
        (before < self.max_present).then_some(place)
    }
}

/// A call that was let in.
pub(super) struct Place<'a> {
    admission: &'a Admission,
}

impl<'a> Place<'a> {
    /// Waits for a turn; nothing when the deadline comes first.
    pub(super) fn start(self, deadline: Instant) -> Option<Turn<'a>> {
        let admission = self.admission;
        let mut running = admission.running.lock();
        while *running >= admission.max_running {
            if admission.ended.wait_until(&mut running, deadline).timed_out() && *running >= admission.max_running {
                return None;
            }
        }
        *running += 1;
        Some(Turn { place: self })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.admission.present.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that may run.
pub(super) struct Turn<'a> {
    place: Place<'a>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.place.admission.running.lock() -= 1;
        self.place.admission.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn turns_calls_away_when_all_places_are_taken_and_lets_them_in_again_afterwards() {
        let admission = Admission::new(1, 1);
        let first = admission.queue().expect("there is room");
        let second = admission.queue().expect("there is room");
        assert!(admission.queue().is_none());
        assert!(admission.queue().is_none(), "a refusal must not use up a place");
        drop(first);
        let third = admission.queue().expect("a place is free again");
        drop((second, third));
    }

    #[test]
    fn gives_a_turn_only_when_one_is_free_and_gives_up_at_the_deadline() {
        let admission = Admission::new(1, 1);
        let soon = Instant::now() + Duration::from_millis(5);
        let turn = admission.queue().expect("there is room").start(soon).expect("nobody runs");
        assert!(admission.queue().expect("there is room").start(soon).is_none());
        drop(turn);
        assert!(admission.queue().expect("there is room").start(soon).is_some());
    }
}
