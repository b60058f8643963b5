//! Admission: the permits to run calls, and the queues in which calls wait for them.
//!
//! A user has at most one running call in a host, so that calls of the same user never conflict there. The other calls of that
//! user wait in a per-user queue, first come first served, and hold no permit while they wait. The first call of each queue
//! waits for a permit; permits are given to users in turn, so that a user waits for one call of each other user at most.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use event_listener::{Event, EventListener, Listener};
use parking_lot::Mutex;

use super::error::{HostFault, Waiting};
use crate::model::UserId;

/// The calls of a host at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallCounts {
    /// Running calls.
    pub running: u32,
    /// Calls that wait in a per-user queue or for a permit.
    pub queued: u32,
}

/// Admits calls. Clones share everything.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max_running: u32,
    max_queued: u32,
    state: Mutex<State>,
    /// Notified when the last call ends.
    idle: Event,
}

/// Between calls to the methods below, a permit is free only if no user is ready.
#[derive(Debug, Default)]
struct State {
    counts: CallCounts,
    users: HashMap<UserId, User>,
    /// Users whose first queued call waits for a permit only.
    ready: VecDeque<UserId>,
}

/// A user with calls in flight.
#[derive(Debug, Default)]
struct User {
    is_running: bool,
    queue: VecDeque<Arc<Event>>,
}

impl User {
    fn in_flight(&self) -> usize {
        usize::from(self.is_running) + self.queue.len()
    }
}

impl State {
    /// Gives the free permits to the users that are ready.
    fn give_permits(&mut self, max_running: u32) {
        while self.counts.running < max_running
            && let Some(id) = self.ready.pop_front()
        {
            let Some(user) = self.users.get_mut(&id) else { continue };
            let Some(call) = user.queue.pop_front() else { continue };
            user.is_running = true;
            self.counts.running += 1;
            self.counts.queued -= 1;
            call.notify(1);
        }
    }

    fn remove_if_idle(&mut self, id: &UserId) {
        if self.users.get(id).is_some_and(|user| user.in_flight() == 0) {
            self.users.remove(id);
        }
    }
}

impl Admission {
    pub(super) fn new(max_running: u32, max_queued: u32) -> Self {
        let (state, idle) = (Mutex::default(), Event::new());
        Self { shared: Arc::new(Shared { max_running, max_queued, state, idle }) }
    }

    /// Takes a call in, which then runs or waits.
    ///
    /// # Errors
    ///
    /// [`HostFault::UserBusy`] when the user has `max_of_user` calls in flight already; [`HostFault::Overloaded`] when the call
    /// would have to wait and the queues are full.
    pub(super) fn admit(&self, id: &UserId, max_of_user: Option<u32>) -> Result<Admitted, HostFault> {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        let in_flight = state.users.get(id).map_or(0, User::in_flight);
        if max_of_user.is_some_and(|max| in_flight >= max as usize) {
            return Err(HostFault::UserBusy);
        }
        let runs = in_flight == 0 && state.counts.running < self.shared.max_running;
        if !runs && state.counts.queued >= self.shared.max_queued {
            return Err(HostFault::Overloaded);
        }
        let user = state.users.entry(id.clone()).or_default();
        let in_flight_as = |stage| InFlight { admission: self.clone(), user: id.clone(), stage };
        if runs {
            user.is_running = true;
            state.counts.running += 1;
            return Ok(Admitted { in_flight: in_flight_as(Stage::Running), permit: None });
        }
        let call = Arc::new(Event::new());
        let permit = Some(call.listen());
        user.queue.push_back(Arc::clone(&call));
        state.counts.queued += 1;
        if in_flight == 0 {
            state.ready.push_back(id.clone());
        }
        Ok(Admitted { in_flight: in_flight_as(Stage::Queued(call)), permit })
    }

    pub(super) fn counts(&self) -> CallCounts {
        self.shared.state.lock().counts
    }

    /// Waits until no call runs or waits.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.shared.idle.listen();
            if self.counts() == CallCounts::default() {
                return;
            }
            idle.await;
        }
    }

    /// Takes back a permit and gives it to the user that has waited longest.
    fn release(&self, id: &UserId) {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        state.counts.running -= 1;
        if let Some(user) = state.users.get_mut(id) {
            user.is_running = false;
            // Behind the users that are ready already.
            if !user.queue.is_empty() {
                state.ready.push_back(id.clone());
            }
        }
        state.remove_if_idle(id);
        state.give_permits(self.shared.max_running);
        self.notify_if_idle(state);
    }

    /// Removes a call that no longer waits from its queue, and says what it waited for; or returns `None` if it was given a
    /// permit in the meantime.
    fn leave(&self, id: &UserId, call: &Arc<Event>) -> Option<Waiting> {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        let user = state.users.get_mut(id)?;
        let position = user.queue.iter().position(|queued| Arc::ptr_eq(queued, call))?;
        user.queue.remove(position);
        state.counts.queued -= 1;
        let waiting = if user.is_running || position > 0 { Waiting::PerUserQueue } else { Waiting::Permit };
        if !user.is_running && user.queue.is_empty() {
            state.ready.retain(|ready| ready != id);
        }
        state.remove_if_idle(id);
        self.notify_if_idle(state);
        Some(waiting)
    }

    fn notify_if_idle(&self, state: &State) {
        if state.counts == CallCounts::default() {
            self.shared.idle.notify(usize::MAX);
        }
    }
}

/// A call that was taken in.
pub(super) struct Admitted {
    in_flight: InFlight,
    /// Notified when the call is given its permit; `None` if it has one.
    permit: Option<EventListener>,
}

impl Admitted {
    /// Blocks until the call may run.
    ///
    /// # Errors
    ///
    /// What the call waited for, when the deadline comes first.
    pub(super) fn wait(mut self, deadline: Instant) -> Result<InFlight, Waiting> {
        if let Some(permit) = self.permit {
            permit.wait_deadline(deadline);
        }
        self.in_flight.settle()?;
        Ok(self.in_flight)
    }

    /// As [`wait`](Self::wait), without blocking the thread. A call whose future is dropped leaves its queue.
    #[cfg(feature = "tokio")]
    pub(super) async fn wait_async(mut self, deadline: Instant) -> Result<InFlight, Waiting> {
        if let Some(permit) = self.permit {
            // Whether the permit or the deadline came first is decided by whether the call is still queued.
            let _ = tokio::time::timeout_at(deadline.into(), permit).await;
        }
        self.in_flight.settle()?;
        Ok(self.in_flight)
    }
}

/// A call that waits or runs, until it is dropped.
pub(super) struct InFlight {
    admission: Admission,
    user: UserId,
    stage: Stage,
}

enum Stage {
    Queued(Arc<Event>),
    Running,
    Ended,
}

impl InFlight {
    /// Ends the wait: the call has its permit now, or it leaves the queue.
    fn settle(&mut self) -> Result<(), Waiting> {
        let Stage::Queued(call) = &self.stage else { return Ok(()) };
        let left = self.admission.leave(&self.user, call);
        self.stage = if left.is_some() { Stage::Ended } else { Stage::Running };
        left.map_or(Ok(()), Err)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // A call may be given its permit just before it is dropped.
        if self.settle().is_ok()
            && let Stage::Running = self.stage
        {
            self.admission.release(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;
    use std::{iter, thread};

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::new(id).expect("valid")
    }

    fn admit(admission: &Admission, id: &str) -> Admitted {
        admission.admit(&user(id), None).unwrap_or_else(|fault| panic!("{id}: {fault}"))
    }

    fn run(admission: &Admission, id: &str) -> InFlight {
        let admitted = admit(admission, id);
        assert!(admitted.permit.is_none(), "{id} has to wait");
        admitted.in_flight
    }

    /// Whether a call has its permit.
    fn has_permit(admitted: &Admitted) -> bool {
        let InFlight { admission, user, stage } = &admitted.in_flight;
        let Stage::Queued(call) = stage else { return true };
        !admission.shared.state.lock().users[user].queue.iter().any(|queued| Arc::ptr_eq(queued, call))
    }

    fn past() -> Instant {
        Instant::now()
    }

    fn assert_is_empty(admission: &Admission) {
        let state = admission.shared.state.lock();
        assert_eq!(state.counts, CallCounts::default());
        assert!(state.users.is_empty() && state.ready.is_empty(), "{state:?}");
    }

    #[test]
    fn calls_beyond_the_queue_are_rejected_until_there_is_room() {
        let admission = Admission::new(1, 1);
        let first = run(&admission, "alice");
        let second = admit(&admission, "bob");
        for id in ["alice", "bob", "carol", "carol"] {
            assert_eq!(admission.admit(&user(id), None).err(), Some(HostFault::Overloaded), "{id}");
        }
        assert_eq!(admission.counts(), CallCounts { running: 1, queued: 1 });
        drop(first);
        let third = admit(&admission, "carol");
        drop((second, third));
        assert_is_empty(&admission);
    }

    #[test]
    fn a_user_at_their_own_limit_is_rejected_and_others_are_not() {
        let admission = Admission::new(4, 4);
        let running = run(&admission, "alice");
        let queued = admit(&admission, "alice");
        assert_eq!(admission.admit(&user("alice"), Some(2)).err(), Some(HostFault::UserBusy));
        drop(admission.admit(&user("bob"), Some(2)).expect("another user"));
        drop(queued);
        drop(admission.admit(&user("alice"), Some(2)).expect("one has left"));
        drop(running);
        assert_is_empty(&admission);
    }

    #[test]
    fn a_deadline_says_what_the_call_waited_for_and_leaves_nothing_behind() {
        let admission = Admission::new(1, 8);
        let running = run(&admission, "alice");
        assert_eq!(admit(&admission, "alice").wait(past()).err(), Some(Waiting::PerUserQueue));
        assert_eq!(admit(&admission, "bob").wait(past()).err(), Some(Waiting::Permit));
        let first = admit(&admission, "bob");
        assert_eq!(admit(&admission, "bob").wait(past()).err(), Some(Waiting::PerUserQueue));
        drop(running);
        // The permit was given before the deadline was noticed.
        let permit = first.wait(past()).expect("the permit is here");
        assert_eq!(admission.counts(), CallCounts { running: 1, queued: 0 });
        drop(permit);
        assert_is_empty(&admission);
    }

    #[test]
    fn a_new_user_waits_for_one_call_of_each_other_user_and_not_for_their_queues() {
        let admission = Admission::new(2, 1000);
        let others: Vec<String> = (0..8).map(|number| format!("user{number}")).collect();
        let mut waiting: Vec<(String, Admitted)> = Vec::new();
        for id in others.iter().flat_map(|id| iter::repeat_n(id, 16)) {
            waiting.push((id.clone(), admit(&admission, id)));
        }
        waiting.push(("alice".to_owned(), admit(&admission, "alice")));
        // Calls end in the order in which they got their permits, as calls of the same length do.
        let (mut running, mut order) = (VecDeque::new(), Vec::new());
        loop {
            running.extend(waiting.extract_if(.., |(_, admitted)| has_permit(admitted)));
            assert!(running.len() <= 2);
            let Some((id, admitted)) = running.pop_front() else { break };
            drop(admitted.wait(past()).expect("it has its permit"));
            order.push(id);
        }
        assert!(waiting.is_empty());
        let before = order.iter().position(|id| id == "alice").expect("alice ran");
        assert!(before <= 8 + 1, "alice ran after {before} of 128 calls");
        assert_is_empty(&admission);
    }

    #[test]
    fn calls_of_one_user_run_one_at_a_time_in_the_order_of_their_coming() {
        let admission = Admission::new(4, 8);
        let running = run(&admission, "alice");
        let (first, second) = (admit(&admission, "alice"), admit(&admission, "alice"));
        drop(running);
        assert_eq!(second.wait(past()).err(), Some(Waiting::PerUserQueue));
        let third = admit(&admission, "alice");
        drop(first.wait(past()).expect("the first of the queue runs"));
        drop(third.wait(past()).expect("the next runs"));
        assert_is_empty(&admission);
    }

    #[test]
    fn permits_are_neither_lost_nor_duplicated_when_deadlines_pass_while_they_are_given() {
        const RUNNING: u32 = 2;
        let (admission, running, given) = (Admission::new(RUNNING, 8), AtomicU32::new(0), AtomicU32::new(0));
        let of_users: [AtomicU32; 4] = std::array::from_fn(|_| AtomicU32::new(0));
        thread::scope(|scope| {
            for number in 0..8 {
                let (admission, running, given, of_users) = (&admission, &running, &given, &of_users);
                scope.spawn(move || {
                    let of_user = &of_users[number % of_users.len()];
                    let id = format!("user{}", number % of_users.len());
                    for round in 0..2000 {
                        let soon = Instant::now() + Duration::from_micros((round + number as u64) % 50);
                        let Ok(permit) = admit(admission, &id).wait(soon) else { continue };
                        assert!(running.fetch_add(1, Ordering::SeqCst) < RUNNING);
                        assert_eq!(of_user.fetch_add(1, Ordering::SeqCst), 0, "one of each user");
                        given.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                        of_user.fetch_sub(1, Ordering::SeqCst);
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert_is_empty(&admission);
        assert!(given.into_inner() > 0);
    }
}
