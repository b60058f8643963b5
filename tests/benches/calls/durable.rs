//! Durable calls on SQLite: what sharing a flush gains with more callers, and what more ids in a call cost.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convgroups_host::measure::open_without_group_commit;
use convgroups_host::store::Store;
use convgroups_host::{Host, SqliteStore, UserId};
use tempfile::TempDir;

use crate::load::{Load, addition, deletion, fill, load};
use crate::report::{Figure, Reach, Report};
use crate::{Effort, Failure, plot};

/// Where stores are made.
pub(crate) fn directory() -> Result<TempDir, Failure> {
    let parent = std::env::var_os("CONVGROUPS_BENCH_DIR").unwrap_or_else(|| ".".into());
    Ok(tempfile::tempdir_in(parent)?)
}

pub(crate) fn measure(effort: &Effort, report: &mut Report) -> Result<(), Failure> {
    let directory = directory()?;
    callers(effort, report, directory.path())?;
    println!();
    ids(effort, report, directory.path())
}

fn caller_id(caller: usize) -> Result<UserId, Failure> {
    Ok(UserId::new(format!("caller-{caller}"))?)
}

fn callers(effort: &Effort, report: &mut Report, directory: &Path) -> Result<(), Failure> {
    let flush = flush_time(directory)?;
    println!("durable calls a second, 10 ids taken out and put back in turn, SQLite; one flush takes {flush:.0?}");
    println!(
        "alone: with a transaction and a flush for each call; p99 in microseconds; cpu: microseconds for each call"
    );
    println!(
        "{:>7} {:>7} {:>8} {:>18}   {:>9} {:>8} {:>18}   cpu",
        "callers", "alone", "grouped", "ratio", "p99 alone", "grouped", "ratio"
    );
    let grouped = Arc::new(SqliteStore::open(directory.join("grouped.db"))?);
    let alone = Arc::new(open_without_group_commit(&directory.join("alone.db"))?);
    for store in [&grouped, &alone] {
        for caller in 0..effort.callers.iter().copied().max().unwrap_or_default() {
            fill(&**store, &caller_id(caller)?, 50)?;
        }
    }
    let grouped = Host::builder().store(grouped).build()?;
    let alone = Host::builder().store(alone).build()?;
    let mut curves: [Vec<(f64, f64)>; 2] = [Vec::new(), Vec::new()];
    for &callers in effort.callers {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        // One round more than is counted, to warm up.
        for round in 0..=effort.rounds {
            let user = |caller, _| caller_id(caller);
            let pair =
                (load(&alone, callers, effort.round * 2, user)?, load(&grouped, callers, effort.round * 2, user)?);
            if round > 0 {
                without.push(pair.0);
                with.push(pair.1);
            }
        }
        let of = |loads: &[Load], figure: fn(&Load) -> f64| loads.iter().map(figure).collect::<Vec<f64>>();
        let rates = [of(&without, |load| load.rate), of(&with, |load| load.rate)];
        let slowest = [of(&without, |load| load.p99), of(&with, |load| load.p99)];
        let (gain, patience) = (Figure::ratio(&rates[1], &rates[0]), Figure::ratio(&slowest[1], &slowest[0]));
        let cpu = Figure::of(of(&with, |load| load.cpu));
        let median = |values: &[f64]| Figure::of(values.iter().copied()).median;
        println!(
            "{callers:>7} {:>7.0} {:>8.0} {gain:>18}   {:>9.0} {:>8.0} {patience:>18}   {cpu:.0}",
            median(&rates[0]),
            median(&rates[1]),
            median(&slowest[0]),
            median(&slowest[1]),
        );
        for (curve, rates) in curves.iter_mut().zip(&rates) {
            curve.push((callers as f64, median(rates)));
        }
        if callers == 64 {
            // A flush of 0.25 ms is a fast disk, one of 4 ms a slow one.
            let reach = if flush < Duration::from_millis(1) { 3.0 } else { 8.0 };
            report.note(
                "durable calls a second of 64 callers, against a flush for each",
                gain,
                "",
                Reach::AtLeast(reach),
            );
            report.note("p99 of these, against a flush for each", patience, "", Reach::AtMost(0.33));
            report.note("processor time of a durable call of 10 ids", cpu, " µs", Reach::AtMost(60.0));
        }
    }
    if let Some(plots) = &effort.plots {
        let [alone, grouped] = &curves;
        let lines = [("a flush for each call", alone.as_slice()), ("convgroups", grouped.as_slice())];
        plot::draw(&plots.join("throughput.svg"), "callers", "durable calls a second", &lines)?;
    }
    Ok(())
}

/// Calls of one id and of a hundred, one after another.
fn ids(effort: &Effort, report: &mut Report, directory: &Path) -> Result<(), Failure> {
    println!("one caller's durable calls, in microseconds, and their flushes");
    println!("{:>4} {:>22} {:>8}   to the first", "ids", "", "flushes");
    let store = Arc::new(SqliteStore::open(directory.join("ids.db"))?);
    let user = caller_id(0)?;
    fill(&*store, &user, 1000)?;
    let host = Host::builder().store(Arc::clone(&store)).build()?;
    let counts = [1, 100];
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    let mut flushes = [0.0; 2];
    for round in 0..=effort.rounds {
        for ((count, times), flushes) in counts.into_iter().zip(&mut times).zip(&mut flushes) {
            let (delete, add) = (deletion(count), addition(count));
            let (started, before) = (Instant::now(), store.counts().flushes);
            let (mut deleting, mut calls) = (Duration::ZERO, 0_u32);
            while started.elapsed() < effort.round {
                let sent = Instant::now();
                host.call(&user, &delete)?;
                deleting += sent.elapsed();
                host.call(&user, &add)?;
                calls += 1;
            }
            if round > 0 {
                times.push(deleting.as_secs_f64() * 1e6 / f64::from(calls));
            }
            *flushes = (store.counts().flushes - before) as f64 / f64::from(2 * calls);
        }
    }
    for ((count, own), flushes) in counts.into_iter().zip(&times).zip(flushes) {
        let ratio = Figure::ratio(own, &times[0]);
        println!("{count:>4} {:>22.0} {flushes:>8.2}   {ratio}", Figure::of(own.iter().copied()));
        if count == 100 {
            report.note("flushes of a call of 100 ids", Figure::of([flushes]), "", Reach::AtMost(1.0));
            report.note("a durable call of 100 ids, against one of 1", ratio, "", Reach::AtMost(2.0));
        }
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
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}
