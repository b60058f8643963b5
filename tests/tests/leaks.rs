//! Very many calls in one process: memory, files, threads and slots for instances stay what they were.
//!
//! The system tells these figures of a process as a whole, so this test has one to itself. `LEAK_CALLS` says how many calls.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::Duration;

use convgroups_host::api::DeleteConversationsFromGroup;
use convgroups_host::settings::{CallSettings, EventSettings, SandboxSettings};
use convgroups_host::store::Store;
use convgroups_host::{Examiner, Failure, Host, MemoryStore, PluginSource, Settings, SqliteStore};
use convgroups_tests::guests::guest;
use convgroups_tests::load::number_from;
use convgroups_tests::model::some_change;
use convgroups_tests::user;

/// Calls at once, and the slots that there are for them, give or take a few.
const THREADS: u64 = 4;

/// A store in SQLite opens a connection to read, which is two files, when all others are busy, and keeps it: in the end there
/// may be one for each thread, or in the beginning already.
const FILES_OF_READERS: usize = 2 * THREADS as usize;

/// What the process has of the system.
#[derive(Debug)]
struct Held {
    memory_kib: u64,
    files: usize,
    threads: u64,
}

impl Held {
    fn now() -> Self {
        // Threads that have been joined may not have gone altogether.
        std::thread::sleep(Duration::from_millis(200));
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        let files = std::fs::read_dir("/proc/self/fd").expect("Linux tells").count();
        Self { memory_kib: figure("VmRSS:"), files, threads: figure("Threads:") }
    }
}

/// One more host on a store, with a plugin of its own, and few slots for instances.
fn host(store: &Arc<dyn Store>, plugin: Option<PluginSource>) -> Host {
    let settings = Settings {
        calls: CallSettings { max_concurrent: u32::try_from(THREADS).expect("few"), ..CallSettings::default() },
        events: EventSettings { keep_per_user: 20 },
        sandbox: SandboxSettings { deadline_ms: 10_000, ..SandboxSettings::default() },
        ..Settings::default()
    };
    let mut builder = Host::builder().settings(settings).store(Arc::clone(store));
    if let Some(plugin) = plugin {
        builder = builder.plugin(plugin).plugin_examiner(Examiner::InProcess);
    }
    builder.build().expect("it builds")
}

/// This many calls on each thread: of every kind, answered and refused, and some of plugins that fail.
fn calls(count: u64, good: &Host, bad: &[Host]) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                let user = user(&format!("user {thread}"));
                for call in 0..count {
                    if let Err(error) = good.call(&user, &some_change(&mut random)) {
                        assert!(matches!(error.failure, Failure::Refused(_)), "{error}");
                    }
                    if let Some(bad) = bad.get((call % 200) as usize) {
                        let failed = bad.call(&user, &DeleteConversationsFromGroup::new("Work", ["c2c_1"]));
                        let error = failed.expect_err("this plugin fails");
                        assert!(matches!(error.failure, Failure::Plugin(_)), "{error}");
                    }
                }
            });
        }
    });
}

#[test]
fn memory_files_and_threads_stay_what_they_were_over_very_many_calls() {
    let total = number_from("LEAK_CALLS", 100_000);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let sqlite = SqliteStore::open(directory.path().join("groups.db")).expect("it opens");
    // Calls on disk take many times as long.
    for (name, store, count) in
        [("memory", Arc::new(MemoryStore::new()) as Arc<dyn Store>, total), ("sqlite", Arc::new(sqlite), total / 10)]
    {
        let good = host(&store, None);
        let bad = ["traps", "allocates", "answers_hugely", "stages_then_panics", "recurses"];
        let bad = bad.map(|bad| host(&store, Some(guest(bad))));
        calls(count / THREADS / 5, &good, &bad);
        let before = Held::now();
        calls(count / THREADS, &good, &bad);
        let after = Held::now();
        println!("{name}: {count} calls, {before:?} before, {after:?} after");
        assert_eq!(after.threads, before.threads, "{name}");
        assert!(
            after.files <= before.files + FILES_OF_READERS,
            "{name}: {} files, {} before",
            after.files,
            before.files
        );
        // What an allocator may hold back, whether there were a hundred thousand calls or a million: no call keeps anything.
        let grown = after.memory_kib.saturating_sub(before.memory_kib);
        assert!(grown < 2048, "{name}: {grown} KiB more after {count} calls");
    }
}
