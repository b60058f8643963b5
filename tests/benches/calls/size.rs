//! What calls cost with more users in the store.

use std::path::Path;
use std::sync::Arc;

use convgroups_host::{Host, SqliteStore, UserId};
use rusqlite::Connection;

use crate::durable::directory;
use crate::load::{Load, load};
use crate::report::{Figure, Reach, Report};
use crate::{Effort, Failure, plot};

/// Conversations that each user has in one group.
const CONVERSATIONS: u32 = 20;

const CALLERS: usize = 8;

pub(crate) fn measure(effort: &Effort, report: &mut Report) -> Result<(), Failure> {
    println!("durable calls of {CALLERS} callers, each for a user at random with {CONVERSATIONS} conversations");
    println!("cpu and latencies in microseconds");
    println!("{:>8} {:>7} {:>20} {:>20} {:>20}", "users", "MB", "cpu", "p50", "p99");
    let directory = directory()?;
    let mut hosts = Vec::new();
    for &users in effort.users {
        let path = directory.path().join(format!("{users}.db"));
        prepare(&path, users)?;
        let store = SqliteStore::open(&path)?;
        hosts.push((users, std::fs::metadata(&path)?.len(), Host::builder().store(Arc::new(store)).build()?));
    }
    let mut loads: Vec<Vec<Load>> = effort.users.iter().map(|_| Vec::new()).collect();
    for round in 0..=effort.rounds {
        for ((users, _, host), loads) in hosts.iter().zip(&mut loads) {
            let users = *users as usize;
            let user = move |caller: usize, turn: usize| {
                let mut random = fastrand::Rng::with_seed(((round * CALLERS + caller) << 32 | turn) as u64);
                // Of each caller's own, so that none waits for another's call.
                Ok(UserId::new(format!("user-{:07}", random.usize(..users / CALLERS) * CALLERS + caller))?)
            };
            let done = load(host, CALLERS, effort.round * 2, user)?;
            if round > 0 {
                loads.push(done);
            }
        }
    }
    let of = |loads: &[Load], figure: fn(&Load) -> f64| loads.iter().map(figure).collect::<Vec<f64>>();
    let mut curves: [Vec<(f64, f64)>; 2] = [Vec::new(), Vec::new()];
    for ((users, bytes, _), loads) in hosts.iter().zip(&loads) {
        let [cpu, p50, p99] = [|load: &Load| load.cpu, |load: &Load| load.p50, |load: &Load| load.p99]
            .map(|it| Figure::of(of(loads, it)));
        println!("{users:>8} {:>7} {cpu:>20.0} {p50:>20.0} {p99:>20.0}", bytes >> 20);
        let [slow, usual] = &mut curves;
        usual.push((f64::from(*users), p50.median));
        slow.push((f64::from(*users), p99.median));
    }
    if let [_, few, .., many] = loads.as_slice() {
        let cost = |loads: &[Load]| of(loads, |load| load.cpu);
        let what = format!("a call at {} users, against {}", effort.users[effort.users.len() - 1], effort.users[1]);
        report.note(&what, Figure::ratio(&cost(many), &cost(few)), "", Reach::AtMost(1.5));
    }
    if let Some(plots) = &effort.plots {
        let [slow, usual] = &curves;
        let lines = [("p99", slow.as_slice()), ("p50", usual.as_slice())];
        plot::draw(&plots.join("latency.svg"), "users in the store", "microseconds for a durable call", &lines)?;
    }
    Ok(())
}

/// A store with this many users, written past the host: a million calls would take a while.
fn prepare(path: &Path, users: u32) -> Result<(), Failure> {
    drop(SqliteStore::open(path)?);
    let connection = Connection::open(path)?;
    connection.execute_batch(&format!(
        "PRAGMA synchronous = OFF;
         BEGIN;
         WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {users})
         INSERT INTO users (id, user_id, version, groups_created) SELECT n, printf('user-%07d', n), 1, 1 FROM numbers;
         INSERT INTO groups (id, user, number, name) SELECT id, id, 1, 'Work' FROM users;
         WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {CONVERSATIONS})
         INSERT INTO members (group_id, conversation_id, position)
             SELECT groups.id, printf('c2c_user_%04d', n), n FROM groups, numbers ORDER BY 1, 2;
         COMMIT;
         PRAGMA wal_checkpoint(TRUNCATE);"
    ))?;
    Ok(())
}
