//! What a call costs: in a fresh sandbox, in a kept one and without any; and how many durable calls a second there are,
//! with and without group commit.
//!
//! Everything is measured in rounds that take turns, in one process, so that ratios hold on a machine whose speed drifts.
//! Medians of the rounds are printed. `cargo bench -- --short` takes few and short rounds, to see that all of it runs.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convgroups_host::api::{GroupAndConversations, Request};
use convgroups_host::measure::{Bare, open_without_group_commit};
use convgroups_host::model::{Change, Origin};
use convgroups_host::settings::Limits;
use convgroups_host::store::{Commit, Skip, Store};
use convgroups_host::{Host, MemoryStore, SqliteStore, UserId, Version};
use convgroups_tests::native;

type Failure = Box<dyn std::error::Error>;

/// How long the rounds are, and how many.
struct Effort {
    rounds: usize,
    round: Duration,
}

fn main() -> Result<(), Failure> {
    let short = std::env::args().any(|argument| argument == "--short");
    let effort = if short {
        Effort { rounds: 2, round: Duration::from_millis(20) }
    } else {
        Effort { rounds: 7, round: Duration::from_millis(400) }
    };
    sandbox(&effort)?;
    durable(&effort)
}

fn sandbox(effort: &Effort) -> Result<(), Failure> {
    println!("deleteConversationsFromGroup in microseconds, without admission and commit; group of 1000, in memory");
    println!("{:>4} {:>9} {:>9} {:>9}   {:<13} reach", "ids", "native", "kept", "fresh", "fresh / kept");
    let user = UserId::new("alice")?;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    fill(&*store, &user, 1000)?;
    let bare = Bare::new(store, user)?;
    let limits = Limits::default();
    for count in [1, 10, 100] {
        let request = deletion(count);
        let mut kept = bare.keep();
        let mut subjects: [&mut dyn FnMut(); 3] = [
            &mut || drop(black_box(native::run(&mut bare.transaction(), &limits, black_box(&request)))),
            &mut || drop(black_box(kept.call(black_box(&request)))),
            &mut || drop(black_box(bare.fresh(black_box(&request)))),
        ];
        let medians = alternate(&mut subjects, effort);
        let [native, kept, fresh] = medians.map(|time| time.as_secs_f64() * 1e6);
        let reach = if count == 10 { "at most 2, and fresh under 10" } else { "" };
        println!("{count:>4} {native:>9.2} {kept:>9.2} {fresh:>9.2}   {:<13.2} {reach}", fresh / kept);
    }
    Ok(())
}

/// Times each subject in turn, round by round; the median time of one run of each.
fn alternate<const N: usize>(subjects: &mut [&mut dyn FnMut(); N], effort: &Effort) -> [Duration; N] {
    let mut times: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::new());
    // One round more than is counted, to warm up.
    for round in 0..=effort.rounds {
        for (subject, times) in subjects.iter_mut().zip(&mut times) {
            let started = Instant::now();
            let mut runs = 0;
            while started.elapsed() < effort.round {
                for _ in 0..20 {
                    subject();
                }
                runs += 20;
            }
            if round > 0 {
                times.push(started.elapsed() / runs);
            }
        }
    }
    times.map(median)
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn durable(effort: &Effort) -> Result<(), Failure> {
    let directory = tempfile::tempdir_in(std::env::var_os("CONVGROUPS_BENCH_DIR").unwrap_or_else(|| ".".into()))?;
    let flush = flush_time(directory.path())?;
    println!();
    println!("durable calls a second, 10 ids taken out and put back in turn, SQLite; one flush takes {flush:.0?}");
    println!(
        "{:>7} {:>9} {:>9}   {:<8} {:>9} {:>9}   {:<11} reach",
        "callers", "alone", "grouped", "ratio", "p99 alone", "grouped", "p99 ratio"
    );
    let grouped = Arc::new(SqliteStore::open(directory.path().join("grouped.db"))?);
    let alone = Arc::new(open_without_group_commit(&directory.path().join("alone.db"))?);
    for store in [&grouped, &alone] {
        for caller in 0..64 {
            fill(&**store, &caller_id(caller)?, 50)?;
        }
    }
    let grouped = Host::builder().shared_store(grouped).build()?;
    let alone = Host::builder().shared_store(alone).build()?;
    for callers in [1, 8, 64] {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            without.push(load(&alone, callers, effort.round * 2)?);
            with.push(load(&grouped, callers, effort.round * 2)?);
        }
        let (with, without) = (Load::median(with), Load::median(without));
        let reach = if callers == 64 { "3 on a fast disk, 8 on a slow one; p99 at most 0.33" } else { "" };
        println!(
            "{callers:>7} {:>9.0} {:>9.0}   {:<8.2} {:>9.1?} {:>9.1?}   {:<11.2} {reach}",
            without.rate,
            with.rate,
            with.rate / without.rate,
            without.p99,
            with.p99,
            with.p99.as_secs_f64() / without.p99.as_secs_f64(),
        );
    }
    Ok(())
}

/// What one write of 4 KiB with a flush takes, as a median.
fn flush_time(directory: &Path) -> Result<Duration, Failure> {
    use std::io::Write;
    let mut file = std::fs::File::create(directory.join("flush"))?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let started = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    Ok(median(times))
}

/// What a number of callers got done.
struct Load {
    rate: f64,
    p99: Duration,
}

impl Load {
    fn median(mut loads: Vec<Self>) -> Self {
        loads.sort_by(|left, right| left.rate.total_cmp(&right.rate));
        loads.swap_remove(loads.len() / 2)
    }
}

/// Each caller, a user of its own, takes ten conversations out and puts them back, until the time is over.
fn load(host: &Host, callers: usize, duration: Duration) -> Result<Load, Failure> {
    let started = Instant::now();
    let deadline = started + duration;
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|caller| scope.spawn(move || work(host, caller, deadline))).collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("a caller does not panic")).collect()
    });
    let elapsed = started.elapsed();
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    Ok(Load { rate: times.len() as f64 / elapsed.as_secs_f64(), p99 })
}

fn work(host: &Host, caller: usize, deadline: Instant) -> Vec<Duration> {
    let user = caller_id(caller).expect("a valid id");
    let Request::DeleteConversationsFromGroup(params) = deletion(10) else { return Vec::new() };
    let calls = [Request::DeleteConversationsFromGroup(params.clone()), Request::AddConversationsToGroup(params)];
    let mut times = Vec::new();
    for request in calls.iter().cycle() {
        // Ends after an addition, so that the next round finds everything in its place.
        if times.len().is_multiple_of(2) && Instant::now() >= deadline {
            break;
        }
        let started = Instant::now();
        host.call(&user, request).expect("a benchmark's calls succeed");
        times.push(started.elapsed());
    }
    times
}

fn caller_id(caller: usize) -> Result<UserId, Failure> {
    Ok(UserId::new(format!("caller-{caller}"))?)
}

/// A group "Work" with so many conversations.
fn fill(store: &dyn Store, user: &UserId, count: usize) -> Result<(), Failure> {
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

fn deletion(count: usize) -> Request {
    let params = GroupAndConversations { group_name: "Work".to_owned(), conversation_id_list: ids(count) };
    Request::DeleteConversationsFromGroup(params)
}
