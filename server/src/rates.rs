//! How often callers may call, and how fast they may read full snapshots. How many calls run at a time is the host's business.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

use super::rejection::{Rejection, code};
use crate::settings::ServerSettings;
use convgroups_host::model::UserId;

/// Bytes of a full snapshot that are charged as one call.
const SNAPSHOT_BYTES_PER_CALL: usize = 32 << 10;
/// Charges up to this time are allowed before further streams are rejected.
const SNAPSHOTS_IN_ADVANCE: Duration = Duration::from_secs(5);

pub(super) struct RateLimits {
    per_app: Option<DefaultDirectRateLimiter>,
    per_user: Option<DefaultKeyedRateLimiter<UserId>>,
    snapshots: Option<Snapshots>,
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

impl RateLimits {
    pub(super) fn new(server: &ServerSettings) -> Self {
        let quota = |per_second| NonZeroU32::new(per_second).map(Quota::per_second);
        Self {
            per_app: quota(server.calls_per_second).map(RateLimiter::direct),
            per_user: quota(server.calls_per_second_per_user).map(RateLimiter::keyed),
            snapshots: NonZeroU32::new(server.calls_per_second_per_user).map(Snapshots::new),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::new(id).expect("valid")
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
        let rates = RateLimits::new(&settings);
        rates.check_rate(Some(&user("alice"))).expect("the first");
        rates.check_rate(Some(&user("alice"))).expect("the second");
        assert_eq!(rates.check_rate(Some(&user("alice"))).expect_err("the third of alice").code, 60007);
        rates.check_rate(Some(&user("bob"))).expect("the third of the app");
        let refused = rates.check_rate(None).expect_err("the fourth of the app");
        assert_eq!((refused.code, refused.retry_after), (60011, Some(1)));
    }
}
