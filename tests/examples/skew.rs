//! Users of whom some call far more often than others: how uneven the load of databases is that users are spread over by a
//! hash of their ids, and how often hosts meet on a user. A calculation to docs/scaling.md, which quotes what it prints.
//!
//! Everything follows from one seed, so that it prints the same each time.

use std::collections::{BinaryHeap, HashMap};
use std::fmt::Write;

const USERS: usize = 1_000_000;
/// Calls in a second for each database, and for each host.
const CALLS_PER_SECOND: f64 = 1000.0;
/// From a call's read to its commit.
const WINDOW_SECONDS: f64 = 0.002;
/// As `calls.max_attempts`.
const MAX_ATTEMPTS: u32 = 10;
/// Calls to simulate for each row.
const CALLS: f64 = 1_000_000.0;

const EXPONENTS: [f64; 5] = [0.0, 0.6, 0.8, 1.0, 1.2];
const MACHINES: [usize; 2] = [10, 1000];
/// Calls of one user in a second: as many as one host lets through by default, and ten of them.
const LIMITS: [f64; 2] = [50.0, 500.0];

fn main() {
    print!("{}", report());
}

/// The tables.
pub(crate) fn report() -> String {
    let mut report = String::new();
    let table = write_shards(&mut report).and_then(|()| writeln!(report)).and_then(|()| write_meetings(&mut report));
    table.expect("a string takes everything");
    report
}

fn write_shards(report: &mut String) -> std::fmt::Result {
    writeln!(report, "calls of the busiest database, as a multiple of the mean")?;
    writeln!(report, "exponent  databases  busiest user  no limit  500/s a user  50/s a user")?;
    for exponent in EXPONENTS {
        for shards in MACHINES {
            let rates = rates(exponent, CALLS_PER_SECOND * shards as f64);
            let busiest_user = format!("{:.0}/s", rates[0]);
            let [none, high, low] =
                [f64::INFINITY, LIMITS[1], LIMITS[0]].map(|limit| busiest_shard(&rates, limit, shards));
            writeln!(report, "{exponent:>8.1} {shards:>10} {busiest_user:>13} {none:>9.2} {high:>13.2} {low:>12.2}")?;
        }
    }
    Ok(())
}

fn write_meetings(report: &mut String) -> std::fmt::Result {
    writeln!(report, "reruns of 100 calls; in brackets, calls given up of 100")?;
    writeln!(report, "                 any host takes a call           a user's host takes it")?;
    writeln!(report, "exponent  hosts    50/s a user    500/s a user   50/s a user    500/s a user")?;
    for exponent in EXPONENTS {
        for hosts in MACHINES {
            let rates = rates(exponent, CALLS_PER_SECOND * hosts as f64);
            write!(report, "{exponent:>8.1} {hosts:>6}")?;
            for hosts_of_user in [hosts, 1] {
                for limit in LIMITS {
                    let Met { calls, reruns, given_up } = meet(&rates, limit, hosts_of_user);
                    let percent = |count: u64| count as f64 * 100.0 / calls as f64;
                    let figures = format!("{:.1} ({:.1})", percent(reruns), percent(given_up));
                    write!(report, " {figures:>14}")?;
                }
            }
            writeln!(report)?;
        }
    }
    Ok(())
}

/// Calls of each user in a second: the n-th busiest user's are in proportion to `1 / n.powf(exponent)`.
fn rates(exponent: f64, all: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=USERS).map(|rank| (rank as f64).powf(-exponent)).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum * all).collect()
}

/// The load of the busiest of the shards, as a multiple of the mean.
fn busiest_shard(rates: &[f64], limit: f64, shards: usize) -> f64 {
    let mut loads = vec![0.0; shards];
    for (user, rate) in rates.iter().enumerate() {
        loads[Random(user as u64).below(shards)] += rate.min(limit);
    }
    let mean = loads.iter().sum::<f64>() / shards as f64;
    loads.into_iter().fold(0.0, f64::max) / mean
}

/// What became of calls.
#[derive(Default)]
struct Met {
    calls: u64,
    reruns: u64,
    given_up: u64,
}

/// Each call goes to one of the hosts by chance.
fn meet(rates: &[f64], limit: f64, hosts: usize) -> Met {
    let seconds = CALLS / rates.iter().sum::<f64>();
    let mut met = Met::default();
    let mut random = Random(0);
    for rate in rates {
        calls_of_user(rate.min(limit), seconds, hosts, &mut random, &mut met);
    }
    met
}

/// A run of a call that will end; the earliest is the greatest.
#[derive(PartialEq)]
struct Run {
    negated_end: f64,
    begun: f64,
    host: usize,
    attempts: u32,
}

impl Eq for Run {}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Run {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.negated_end.total_cmp(&other.negated_end)
    }
}

impl Run {
    fn new(begun: f64, host: usize, attempts: u32) -> Self {
        Self { negated_end: -(begun + WINDOW_SECONDS), begun, host, attempts }
    }
}

/// One user's calls, which come at times of their own. A host runs one of them after the other; a run that ends after another
/// host has committed since it began is repeated.
fn calls_of_user(rate: f64, seconds: f64, hosts: usize, random: &mut Random, met: &mut Met) {
    let mut runs = BinaryHeap::new();
    let mut waiting: HashMap<usize, u32> = HashMap::new();
    let mut committed = f64::NEG_INFINITY;
    let mut arrival = random.pause(rate);
    loop {
        let next_end = runs.peek().map_or(f64::INFINITY, |run: &Run| -run.negated_end);
        if arrival < seconds && arrival <= next_end {
            met.calls += 1;
            let host = random.below(hosts);
            // A host that has a lane for the user is running a call of theirs.
            match waiting.get_mut(&host) {
                Some(waiting) => *waiting += 1,
                None => {
                    waiting.insert(host, 0);
                    runs.push(Run::new(arrival, host, 1));
                }
            }
            arrival += random.pause(rate);
            continue;
        }
        let Some(Run { negated_end, begun, host, attempts }) = runs.pop() else { return };
        let now = -negated_end;
        if committed > begun {
            if attempts < MAX_ATTEMPTS {
                met.reruns += 1;
                runs.push(Run::new(now, host, attempts + 1));
                continue;
            }
            met.given_up += 1;
        } else {
            committed = now;
        }
        match waiting.get_mut(&host) {
            Some(waiting) if *waiting > 0 => {
                *waiting -= 1;
                runs.push(Run::new(now, host, 1));
            }
            _ => drop(waiting.remove(&host)),
        }
    }
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// The time to the next of events that come so often in a second.
    fn pause(&mut self, rate: f64) -> f64 {
        let chance = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        -(1.0 - chance).ln() / rate
    }
}
