//! How many calls there may be: so many at once, so many waiting, and no more.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use event_listener::{Event, IntoNotification, Listener};
use parking_lot::Mutex;

#[derive(Debug)]
pub(super) struct Admission {
    max_running: u32,
    max_present: u32,
    /// Calls that wait or run.
    present: AtomicU32,
    running: Mutex<u32>,
    /// A turn has ended and is handed on to who has waited longest, so that nobody who comes later takes it first.
    handed_on: Event,
}

impl Admission {
    pub(super) fn new(max_running: u32, max_waiting: u32) -> Self {
        Self {
            max_running,
            max_present: max_running.saturating_add(max_waiting),
            present: AtomicU32::new(0),
            running: Mutex::new(0),
            handed_on: Event::new(),
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
    /// Waits for a turn, behind those who wait already; nothing when the deadline comes first.
    pub(super) fn start(self, deadline: Instant) -> Option<Turn<'a>> {
        let admission = self.admission;
        let ahead = {
            let mut running = admission.running.lock();
            if *running < admission.max_running {
                *running += 1;
                return Some(Turn { place: self });
            }
            admission.handed_on.listen()
        };
        ahead.wait_deadline(deadline)?;
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
        let admission = self.place.admission;
        let mut running = admission.running.lock();
        if admission.handed_on.notify(1.additional()) == 0 {
            *running -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
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

    #[test]
    fn who_comes_again_waits_behind_who_waits_already() {
        let admission = Admission::new(1, 1);
        let late = Instant::now() + Duration::from_secs(10);
        for _ in 0..100 {
            let turn = admission.queue().expect("there is room").start(late).expect("nobody runs");
            let place = admission.queue().expect("there is room");
            let (done, is_done) = std::sync::mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let turn = place.start(late).expect("the turn is handed on");
                    done.send(()).expect("somebody listens");
                    drop(turn);
                });
                while admission.handed_on.total_listeners() == 0 {
                    thread::yield_now();
                }
                drop(turn);
                let again = admission.queue().expect("there is room").start(late).expect("a turn ends");
                assert!(is_done.try_recv().is_ok(), "who waited was first");
                drop(again);
            });
        }
        assert_eq!((*admission.running.lock(), admission.handed_on.total_listeners()), (0, 0));
    }

    #[test]
    fn turns_are_neither_lost_nor_made_when_waits_end_as_turns_are_handed_on() {
        const RUNNING: u32 = 2;
        let (admission, running, given) = (Admission::new(RUNNING, 8), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for number in 0..8 {
                let (admission, running, given) = (&admission, &running, &given);
                scope.spawn(move || {
                    for round in 0..2000 {
                        let soon = Instant::now() + Duration::from_micros((round + number) % 50);
                        let Some(turn) = admission.queue().expect("there is room").start(soon) else { continue };
                        assert!(running.fetch_add(1, Ordering::SeqCst) < RUNNING);
                        given.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!((*admission.running.lock(), admission.handed_on.total_listeners()), (0, 0));
        assert!(given.into_inner() > 0);
    }
}
