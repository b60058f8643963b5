//! The calls of an honest user, and how long they take.

use std::time::{Duration, Instant};

use convgroups_host::api::{AddConversationsToGroup, CreateConversationGroup, DeleteConversationsFromGroup, Request};
use convgroups_host::{CallError, Host, UserId};

/// A group that no plugin attacks.
pub(crate) const GROUP: &str = "Friends";

/// How long each of some calls took.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Notes how long this takes.
    pub(crate) fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        self.0.push(started.elapsed());
        result
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// This many of a hundred took at most this many milliseconds.
    pub(crate) fn at(&self, percent: usize) -> f64 {
        let mut times = self.0.clone();
        times.sort_unstable();
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Takes ten conversations out of the user's group and puts them back, in turn, until it is over; once at least.
pub(crate) fn serve(host: &Host, user: &UserId, is_over: impl Fn() -> bool) -> Result<Times, CallError> {
    let mut times = Times::default();
    loop {
        for request in [deletion(GROUP), addition()] {
            times.of(|| host.call(user, &request))?;
        }
        if is_over() {
            return Ok(times);
        }
    }
}

pub(crate) fn creation(group: &str) -> Request {
    CreateConversationGroup::new(group, ids()).into()
}

pub(crate) fn deletion(group: &str) -> Request {
    DeleteConversationsFromGroup::new(group, ids()).into()
}

fn addition() -> Request {
    AddConversationsToGroup::new(GROUP, ids()).into()
}

fn ids() -> impl Iterator<Item = String> {
    (0..10).map(|number| format!("c2c_user_{number:04}"))
}
