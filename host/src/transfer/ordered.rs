//! Work on many users side by side, whose results come in the users' order.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::sync::mpsc::sync_channel;
use std::thread::Builder;

use super::{Result, TransferError};
use crate::model::UserId;

/// Works on items in this many threads and takes the results in the items' order; stops at the first failure. Items of one
/// user are worked on one after the other.
pub(super) fn in_order<T: Send, R: Send>(
    threads: usize,
    items: impl IntoIterator<Item = Result<T>>,
    user: impl Fn(&T) -> &UserId,
    work: impl Fn(T) -> Result<R> + Sync,
    mut take: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    // Nobody waits to hand something over: no thread has more than this before it or behind it.
    let most = threads * 2;
    std::thread::scope(|scope| {
        let mut lanes = Vec::new();
        for _ in 0..threads {
            let (to_do, queue) = sync_channel::<T>(most);
            let (results, done) = sync_channel(most);
            let work = &work;
            let run = move || {
                for item in queue {
                    let result = work(item);
                    let failed = result.is_err();
                    // When nobody takes the result, something else has failed.
                    if results.send(result).is_err() || failed {
                        break;
                    }
                }
            };
            Builder::new().spawn_scoped(scope, run).map_err(TransferError::Threads)?;
            lanes.push((to_do, done));
        }
        let stopped = || TransferError::Threads(io::Error::other("one has stopped"));
        let lanes = &lanes;
        let mut take_next = |under_way: &mut VecDeque<usize>| {
            let first = under_way.pop_front().and_then(|lane| lanes.get(lane)).ok_or_else(stopped)?;
            take(first.1.recv().map_err(|_| stopped())??)
        };
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let mut under_way = VecDeque::new();
        for item in items {
            let item = item?;
            if under_way.len() >= most {
                take_next(&mut under_way)?;
            }
            let lane = usize::try_from(hasher.hash_one(user(&item)) % threads as u64).unwrap_or_default();
            // Whoever works there has failed, and its result tells why.
            if lanes.get(lane).is_none_or(|(to_do, _)| to_do.send(item).is_err()) {
                break;
            }
            under_way.push_back(lane);
        }
        while !under_way.is_empty() {
            take_next(&mut under_way)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    fn item(number: u64) -> (UserId, u64) {
        (UserId::new(format!("user {}", number % 7)).expect("valid"), number)
    }

    #[test]
    fn results_come_in_order_and_a_users_items_do_not_overtake_each_other() {
        let worked = Mutex::new(Vec::new());
        let mut taken = Vec::new();
        let work = |(user, number): (UserId, u64)| {
            std::thread::sleep(Duration::from_micros(number * 37 % 300));
            worked.lock().expect("no panic").push((user, number));
            Ok(number)
        };
        let take = |number| {
            taken.push(number);
            Ok(())
        };
        in_order(4, (0..500).map(|number| Ok(item(number))), |(user, _)| user, work, take).expect("nothing fails");
        assert_eq!(taken, (0..500).collect::<Vec<_>>());
        let worked = worked.into_inner().expect("no panic");
        for first in 0..7 {
            let (user, _) = item(first);
            let numbers: Vec<u64> = worked.iter().filter(|(of, _)| *of == user).map(|(_, number)| *number).collect();
            assert!(numbers.is_sorted(), "{numbers:?}");
        }
    }

    #[test]
    fn the_first_failure_ends_it_wherever_it_comes_from() {
        let failed = |what: &str| Err(TransferError::line(1, what));
        for (bad_item, bad_work, bad_take, expected) in
            [(Some(50), None, None, "item"), (None, Some(20), None, "work"), (None, None, Some(0), "take")]
        {
            let mut taken = 0;
            let ended = in_order(
                4,
                (0..100).map(|number| {
                    if Some(number) == bad_item { failed("item").map(|()| item(0)) } else { Ok(item(number)) }
                }),
                |(user, _)| user,
                |(_, number)| if Some(number) == bad_work { failed("work").map(|()| 0) } else { Ok(number) },
                |number| {
                    taken += 1;
                    if Some(number) == bad_take { failed("take") } else { Ok(()) }
                },
            );
            assert!(matches!(ended, Err(TransferError::Line { reason, .. }) if reason == expected), "{expected}");
            assert!(taken <= bad_work.or(bad_take.map(|_| 1)).unwrap_or(50), "{expected}: {taken}");
        }
    }
}
