//! What a call costs: in a fresh sandbox, in a kept one and without any; and how many durable calls a second there are,
//! with and without group commit.
//!
//! Everything is measured in rounds that take turns, in one process, so that ratios hold on a machine whose speed drifts.
//! Medians of the rounds are printed. `cargo bench -- --short` takes few and short rounds, to see that all of it runs.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convgroups_guest::bindings::imported::group_store::{Addition, Member, StoreError};
use convgroups_guest::bindings::imported::settings::WhenFull;
use convgroups_guest::{GroupStore, Rules, Settings as GuestSettings};
use convgroups_host::api::{GroupAndConversations, Request};
use convgroups_host::measure::{Bare, open_without_group_commit};
use convgroups_host::model::{Change, Origin};
use convgroups_host::settings::Limits;
use convgroups_host::store::{Commit, Store, Transaction, TransactionError};
use convgroups_host::{Host, MemoryStore, SqliteStore, UserId, Version};

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
    for count in [1, 10, 100] {
        let request = deletion(count);
        let mut kept = bare.keep();
        let mut subjects: [&mut dyn FnMut(); 3] = [
            &mut || native(&bare, black_box(&request)),
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

/// The same rules, linked into this program.
fn native(bare: &Bare, request: &Request) {
    let Request::DeleteConversationsFromGroup(params) = request else { return };
    let mut rules = Rules::new(Native(bare.transaction()), Defaults(Limits::default()));
    let ids = params.conversation_id_list.clone();
    let results = rules.delete_conversations_from_group(&params.group_name, ids);
    drop(black_box(results.expect("a benchmark's calls succeed")));
}

struct Native(Transaction);

impl Native {
    fn answer<T>(result: Result<T, TransactionError>) -> Result<T, StoreError> {
        result.map_err(|error| match error {
            TransactionError::NoSuchGroup => StoreError::NoSuchGroup,
            TransactionError::GroupExists => StoreError::GroupExists,
            TransactionError::Fault(fault) => unreachable!("memory does not fail: {fault}"),
        })
    }
}

impl GroupStore for Native {
    fn list_groups(&mut self) -> Vec<String> {
        self.0.list_groups().expect("memory does not fail")
    }
    fn create_group(&mut self, name: &str, conversation_ids: &[&str]) -> Result<u32, StoreError> {
        Self::answer(self.0.create_group(name, conversation_ids))
    }
    fn remove_group(&mut self, name: &str) -> Result<(), StoreError> {
        Self::answer(self.0.remove_group(name))
    }
    fn rename_group(&mut self, old_name: &str, new_name: &str) -> Result<(), StoreError> {
        Self::answer(self.0.rename_group(old_name, new_name))
    }
    fn add_conversations(&mut self, group: &str, conversation_ids: &[&str]) -> Result<Addition, StoreError> {
        let (added, size) = Self::answer(self.0.add_conversations(group, conversation_ids))?;
        Ok(Addition { added, size })
    }
    fn remove_conversations(&mut self, group: &str, conversation_ids: &[&str]) -> Result<Vec<bool>, StoreError> {
        Self::answer(self.0.remove_conversations(group, conversation_ids))
    }
    fn evict_oldest(&mut self, group: &str, count: u32) -> Result<Vec<String>, StoreError> {
        Self::answer(self.0.evict_oldest(group, count))
    }
    fn page_conversations(&mut self, group: Option<&str>, after: u64, limit: u32) -> Result<Vec<Member>, StoreError> {
        let page = Self::answer(self.0.page_conversations(group, after, limit))?;
        let member = |member: convgroups_host::store::Member| Member {
            conversation_id: member.conversation_id,
            position: member.position,
        };
        Ok(page.into_iter().map(member).collect())
    }
    fn memberships(&mut self, conversation_ids: &[&str]) -> Vec<Vec<String>> {
        self.0.memberships(conversation_ids).expect("memory does not fail")
    }
}

struct Defaults(Limits);

impl GuestSettings for Defaults {
    fn max_groups(&self) -> u32 {
        self.0.max_groups
    }
    fn max_group_name_bytes(&self) -> u32 {
        self.0.max_group_name_bytes
    }
    fn max_conversation_id_bytes(&self) -> u32 {
        self.0.max_conversation_id_bytes
    }
    fn max_conversations_per_call(&self) -> u32 {
        self.0.max_conversations_per_call
    }
    fn max_conversations_per_search(&self) -> u32 {
        self.0.max_conversations_per_search
    }
    fn max_conversations_per_page(&self) -> u32 {
        self.0.max_conversations_per_page
    }
    fn max_conversations_per_group(&self) -> u32 {
        self.0.max_conversations_per_group
    }
    fn group_full(&self) -> WhenFull {
        WhenFull::Refuse
    }
    fn allow_empty_creation(&self) -> bool {
        self.0.allow_empty_creation
    }
}
