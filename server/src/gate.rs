//! How many calls the server takes on: so many at once, so many waiting, so many of one user, so often. What is beyond is
//! turned away at once.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Span;

use super::rejection::{Rejection, code};
use crate::settings::ServerSettings;
use convgroups_host::model::UserId;
use convgroups_host::settings::CallSettings;

/// Bytes of a full snapshot that are charged as one call.
const SNAPSHOT_BYTES_PER_CALL: usize = 32 << 10;
/// Charges up to this time are allowed before further streams are rejected.
const SNAPSHOTS_IN_ADVANCE: Duration = Duration::from_secs(5);

pub(super) struct Gate {
    max_running: u32,
    turns: Arc<Semaphore>,
    max_waiting: u32,
    waiting: AtomicU32,
    of_users: Tally,
    per_app: Option<DefaultDirectRateLimiter>,
    per_user: Option<DefaultKeyedRateLimiter<UserId>>,
    snapshots: Option<Snapshots>,
    timeout: Duration,
    closed: AtomicBool,
}

/// Counts things by user, and forgets those who have none.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    max: u32,
    counts: Arc<Mutex<HashMap<UserId, u32>>>,
}

/// One that is counted, until it is dropped.
pub(super) struct Counted {
    tally: Tally,
    user: UserId,
}

impl Tally {
    pub(super) fn new(max: u32) -> Self {
        Self { max, counts: Arc::default() }
    }

    /// One more of this user; nothing when there are too many.
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

/// Until when users pay off the full snapshots that they have read.
struct Snapshots {
    per_second: NonZeroU32,
    until: Mutex<HashMap<UserId, Instant>>,
}

impl Snapshots {
    fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, until: Mutex::default() }
    }

    fn owed(&self, user: &UserId, now: Instant) -> Duration {
        self.until.lock().get(user).map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    fn charge(&self, user: &UserId, bytes: usize, now: Instant) {
        let calls = u32::try_from(bytes / SNAPSHOT_BYTES_PER_CALL).unwrap_or(u32::MAX);
        if calls == 0 {
            return;
        }
        let mut until = self.until.lock();
        let until = until.entry(user.clone()).or_insert(now);
        *until = (*until).max(now) + Duration::from_secs(calls.into()) / self.per_second.get();
    }

    fn tidy(&self, now: Instant) {
        let mut until = self.until.lock();
        until.retain(|_, until| *until > now);
        until.shrink_to_fit();
    }
}

/// One that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(super) fn new(calls: &CallSettings, server: &ServerSettings) -> Self {
        let quota = |per_second| NonZeroU32::new(per_second).map(Quota::per_second);
        Self {
            max_running: calls.max_concurrent,
            turns: Arc::new(Semaphore::new(calls.max_concurrent as usize)),
            max_waiting: calls.max_waiting,
            waiting: AtomicU32::new(0),
            of_users: Tally::new(server.max_calls_per_user),
            per_app: quota(server.calls_per_second).map(RateLimiter::direct),
            per_user: quota(server.calls_per_second_per_user).map(RateLimiter::keyed),
            snapshots: NonZeroU32::new(server.calls_per_second_per_user).map(Snapshots::new),
            timeout: calls.timeout(),
            closed: AtomicBool::new(false),
        }
    }

    /// Whether the user may call now, by the number of calls in the last second; who calls in the name of others is not
    /// counted as a user.
    pub(super) fn check_rate(&self, user: Option<&UserId>) -> Result<(), Rejection> {
        let clock = DefaultClock::default();
        let seconds = |wait: Duration| wait.as_secs() + 1;
        if let (Some(limiter), Some(user)) = (&self.per_user, user)
            && let Err(until) = limiter.check_key(user)
        {
            let wait = seconds(until.wait_time_from(clock.now()));
            return Err(Rejection::limited(code::USER_FREQUENCY, wait, "you call too often, try again later"));
        }
        if let Some(limiter) = &self.per_app
            && let Err(until) = limiter.check()
        {
            let wait = seconds(until.wait_time_from(clock.now()));
            return Err(Rejection::limited(code::APP_FREQUENCY, wait, "the app calls too often, try again later"));
        }
        Ok(())
    }

    /// Checks whether the user may open another event stream. The size of a full snapshot is known only after it was read, so
    /// it is charged then, and the next stream waits until the charges are paid off.
    pub(super) fn check_snapshots(&self, user: &UserId) -> Result<(), Rejection> {
        let owed = self.snapshots.as_ref().map_or(Duration::ZERO, |snapshots| snapshots.owed(user, Instant::now()));
        if owed <= SNAPSHOTS_IN_ADVANCE {
            return Ok(());
        }
        let wait = (owed - SNAPSHOTS_IN_ADVANCE).as_secs() + 1;
        let desc = "you have read too many large full snapshots, try again later";
        Err(Rejection::limited(code::USER_FREQUENCY, wait, desc))
    }

    /// Charges the user for a full snapshot.
    pub(super) fn charge_snapshot(&self, user: &UserId, bytes: usize) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.charge(user, bytes, Instant::now());
        }
    }

    /// Forgets users who have not called for a while.
    pub(super) fn tidy(&self) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.tidy(Instant::now());
        }
        if let Some(limiter) = &self.per_user {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    /// Runs work that blocks, when it is its turn, until its end, even if nobody waits for that any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        user: &UserId,
        request_id: &str,
        work: impl FnOnce(Instant) -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Rejection::overloaded("the server is stopping"));
        }
        let deadline = Instant::now() + self.timeout;
        let busy = "too many of your calls are in flight, try again later";
        let counted = self.of_users.count(user).ok_or_else(|| Rejection::overloaded(busy))?;
        let turn = self.turn(deadline, request_id).await?;
        let span = Span::current();
        let done = tokio::task::spawn_blocking(move || {
            let done = span.in_scope(|| work(deadline));
            drop((turn, counted));
            done
        });
        done.await.map_err(|error| {
            tracing::error!(request_id, %error, "a call ended without an answer");
            Rejection::internal(request_id)
        })
    }

    async fn turn(&self, deadline: Instant, request_id: &str) -> Result<OwnedSemaphorePermit, Rejection> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        // Made before the check, so that its drop takes the count back.
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.max_waiting {
            return Err(Rejection::overloaded("too many calls are waiting, try again later"));
        }
        let turn = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.turns).acquire_owned()).await;
        match turn {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_closed)) => Err(Rejection::internal(request_id)),
            Err(_elapsed) => Err(Rejection::timed_out("a turn", request_id)),
        }
    }

    pub(super) fn running(&self) -> u64 {
        u64::from(self.max_running).saturating_sub(self.turns.available_permits() as u64)
    }

    pub(super) fn max_running(&self) -> u64 {
        self.max_running.into()
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed).into()
    }

    /// Lets no call in any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Waits until no call runs any more.
    pub(super) async fn finished(&self) {
        // Closed never, so that this only ends when all turns are back.
        drop(self.turns.acquire_many(self.max_running).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::new(id).expect("valid")
    }

    fn gate(max_concurrent: u32, max_waiting: u32, server: &ServerSettings) -> Arc<Gate> {
        let calls = CallSettings { max_concurrent, max_waiting, timeout_ms: 50, ..CallSettings::default() };
        Arc::new(Gate::new(&calls, server))
    }

    #[tokio::test]
    async fn what_is_beyond_the_queue_is_turned_away_at_once_and_what_waits_too_long_at_its_deadline() {
        let gate = gate(1, 1, &ServerSettings::default());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let running = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.run(&user("alice"), "1", move |_| held.recv().is_ok()).await.expect("it runs") }
        });
        while gate.running() == 0 {
            tokio::task::yield_now().await;
        }
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.run(&user("bob"), "2", |_| ()).await.expect_err("no turn comes").code }
        });
        while gate.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let turned_away = gate.run(&user("carol"), "3", |_| ()).await.expect_err("the queue is full");
        assert_eq!((turned_away.code, turned_away.retry_after), (60018, Some(1)));
        assert_eq!(waiting.await.expect("no panic"), 50005);
        release.send(()).expect("it waits for this");
        assert!(running.await.expect("no panic"));
        gate.finished().await;
        gate.run(&user("carol"), "4", |_| ()).await.expect("there is room again");
    }

    #[tokio::test]
    async fn one_user_cannot_take_all_turns() {
        let gate = gate(4, 4, &ServerSettings { max_calls_per_user: 1, ..ServerSettings::default() });
        let (release, held) = std::sync::mpsc::channel::<()>();
        let running = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.run(&user("alice"), "1", move |_| held.recv().is_ok()).await.expect("it runs") }
        });
        while gate.running() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.run(&user("alice"), "2", |_| ()).await.expect_err("one already").code, 60018);
        gate.run(&user("bob"), "3", |_| ()).await.expect("others go on");
        release.send(()).expect("it waits for this");
        running.await.expect("no panic");
        gate.run(&user("alice"), "4", |_| ()).await.expect("alice again");
        assert!(gate.of_users.counts.lock().is_empty());
    }

    #[test]
    fn full_snapshots_are_charged_at_the_rate_of_calls() {
        let (alice, bob, start) = (user("alice"), user("bob"), Instant::now());
        let snapshots = Snapshots::new(NonZeroU32::new(50).expect("not 0"));
        snapshots.charge(&alice, SNAPSHOT_BYTES_PER_CALL - 1, start);
        assert!(snapshots.until.lock().is_empty(), "a small one is not charged");
        for _ in 0..2 {
            snapshots.charge(&alice, 100 * SNAPSHOT_BYTES_PER_CALL, start);
        }
        assert_eq!(snapshots.owed(&alice, start), Duration::from_secs(4));
        assert_eq!(snapshots.owed(&bob, start), Duration::ZERO);
        let later = start + Duration::from_secs(3);
        snapshots.tidy(later);
        assert_eq!(snapshots.owed(&alice, later), Duration::from_secs(1));
        snapshots.tidy(later + Duration::from_secs(1));
        assert!(snapshots.until.lock().is_empty());
    }

    #[test]
    fn rates_are_limited_for_each_user_and_for_the_app() {
        let settings =
            ServerSettings { calls_per_second: 3, calls_per_second_per_user: 2, ..ServerSettings::default() };
        let gate = gate(1, 1, &settings);
        gate.check_rate(Some(&user("alice"))).expect("the first");
        gate.check_rate(Some(&user("alice"))).expect("the second");
        assert_eq!(gate.check_rate(Some(&user("alice"))).expect_err("the third of alice").code, 60007);
        gate.check_rate(Some(&user("bob"))).expect("the third of the app");
        let refused = gate.check_rate(None).expect_err("the fourth of the app");
        assert_eq!((refused.code, refused.retry_after), (60011, Some(1)));
    }
}
