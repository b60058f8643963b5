//! Callers that take ten conversations out of a group and put them back.

use std::time::{Duration, Instant};

use convgroups_host::api::{AddConversationsToGroup, DeleteConversationsFromGroup, Request};
use convgroups_host::model::{Change, Origin};
use convgroups_host::store::{Commit, Skip, Store};
use convgroups_host::{Host, UserId, Version};
use rustix::time::{ClockId, clock_gettime};

use crate::Failure;

/// What a number of callers got done.
pub(crate) struct Load {
    /// Calls a second.
    pub(crate) rate: f64,
    /// Microseconds of this process's processor time for each call.
    pub(crate) cpu: f64,
    /// Times of calls in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Each caller takes ten conversations out of a user's group and puts them back, then of the next, until the time is over.
/// `user` says which comes next: each of a caller's own.
pub(crate) fn load<U>(host: &Host, callers: usize, duration: Duration, user: U) -> Result<Load, Failure>
where
    U: Fn(usize, usize) -> Result<UserId, Failure> + Copy + Send,
{
    let (started, cpu_before) = (Instant::now(), cpu());
    let deadline = started + duration;
    let work = |caller| move || work(host, deadline, |turn| user(caller, turn).expect("a valid id"));
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|caller| scope.spawn(work(caller))).collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("a caller does not panic")).collect()
    });
    let (elapsed, cpu) = (started.elapsed(), cpu() - cpu_before);
    times.sort_unstable();
    let calls = times.len() as f64;
    let percentile =
        |part: usize| times.get(times.len() * part / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
    Ok(Load { rate: calls / elapsed.as_secs_f64(), cpu: cpu * 1e6 / calls, p50: percentile(50), p99: percentile(99) })
}

fn work(host: &Host, deadline: Instant, user: impl Fn(usize) -> UserId) -> Vec<Duration> {
    let calls = [Request::from(deletion(10)), Request::from(addition(10))];
    let mut times = Vec::new();
    for turn in 0.. {
        // Ends after an addition, so that the next round finds everything in its place.
        if Instant::now() >= deadline {
            break;
        }
        let user = user(turn);
        for request in &calls {
            let started = Instant::now();
            host.call(&user, request).expect("a benchmark's calls succeed");
            times.push(started.elapsed());
        }
    }
    times
}

/// What this process has used of the processors, in seconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A group "Work" with this many conversations.
pub(crate) fn fill(store: &dyn Store, user: &UserId, count: usize) -> Result<(), Failure> {
    let group = Change::GroupCreated { group_name: "Work".to_owned(), conversation_list: ids(count) };
    let origin = Origin { method: "bench".to_owned(), request_id: String::new() };
    store.commit(Commit {
        user: user.clone(),
        base: Version(0),
        changes: vec![group],
        origin,
        keep: 100,
        skip: Skip::default(),
        deadline: None,
    })?;
    Ok(())
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("c2c_user_{number:04}")).collect()
}

pub(crate) fn deletion(count: usize) -> DeleteConversationsFromGroup {
    DeleteConversationsFromGroup::new("Work", ids(count))
}

pub(crate) fn addition(count: usize) -> AddConversationsToGroup {
    AddConversationsToGroup::new("Work", ids(count))
}
