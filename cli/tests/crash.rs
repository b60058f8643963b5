//! A server on SQLite that is killed under load, again and again: what was acknowledged is there once, what was not is there
//! as a whole or not at all, and readers miss nothing.
#![cfg(unix)]

#[path = "postgres/processes.rs"]
#[expect(dead_code, reason = "not every test needs all of it")]
mod processes;

use std::time::Duration;

use convgroups_host::SqliteStore;
use convgroups_tests::load::{Round, Servers, rounds};
use convgroups_tests::server::eventually;

use processes::Serving;

/// More than any round needs.
const SETTINGS: [&str; 4] = [
    "events.keep_per_user=100000",
    "limits.max_groups=1000",
    "limits.max_conversations_per_group=1000000",
    "limits.max_marked_conversations=1000000",
];

#[test]
fn a_server_that_is_killed_at_any_moment_has_kept_what_it_has_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("groups.db");
    let url = format!("sqlite:{}", file.display());
    let mut host = Serving::start(&url, &SETTINGS);
    let servers = Servers::default();
    servers.add(&host.base);
    let store = SqliteStore::open_read_only(&file).expect("it opens");
    let mut total = [0; 3];
    rounds("a server is killed", 50, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let round = Round::new(&servers, seed, 3);
        let ended = round.run(
            6,
            &store,
            || {},
            || {
                let acknowledge = |more: u32| {
                    let target = round.acknowledged() + more;
                    eventually("changes are acknowledged", || round.acknowledged() >= target);
                };
                acknowledge(random.u32(1..40));
                std::thread::sleep(Duration::from_micros(random.u64(..3000)));
                let old = host.base.clone();
                host.kill();
                host = Serving::start(&url, &SETTINGS);
                // There is always one to ask, even if it is the one that is gone.
                servers.add(&host.base);
                servers.remove(&old);
                acknowledge(10);
            },
        );
        for (total, ended) in total.iter_mut().zip(ended) {
            *total += ended;
        }
    });
    let [done, nothing, unknown] = total;
    println!("{done} changes acknowledged, {nothing} said not to be, {unknown} without an answer");
}
