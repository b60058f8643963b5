//! Calls without admission and commit: natively, in a kept instance, in a fresh one; and the same job with Extism.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convgroups_host::api::Request;
use convgroups_host::measure::{Bare, Kept};
use convgroups_host::settings::Limits;
use convgroups_host::store::Store;
use convgroups_host::{MemoryStore, UserId};
use convgroups_tests::native;

use crate::extism::{Extism, Way};
use crate::load::{deletion, fill};
use crate::report::{Figure, Reach, Report};
use crate::{Effort, Failure};

/// A user with a group of 1000, in memory.
pub(crate) fn bare() -> Result<Bare, Failure> {
    let user = UserId::new("alice")?;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    fill(&*store, &user, 1000)?;
    Ok(Bare::new(store, user)?)
}

pub(crate) fn measure(effort: &Effort, report: &mut Report) -> Result<(), Failure> {
    println!("deleteConversationsFromGroup in microseconds, without admission and commit; group of 1000, in memory");
    let mut extism = Extism::start()?;
    if extism.is_none() {
        println!("(Extism is not built)");
    }
    println!(
        "{:>4} {:>19} {:>19} {:>22} {:>18}   {:>22} {:>25}",
        "ids", "native", "kept", "fresh", "fresh / kept", "Extism, kept", "Extism, fresh"
    );
    let bare = bare()?;
    let limits = Limits::default();
    for count in [1, 10, 100] {
        let request = deletion(count);
        let any = Request::from(request.clone());
        let mut kept_instance: Kept<'_> = bare.keep();
        let time = |subject: &mut dyn FnMut()| time(effort.round, subject);
        let mut rounds: [Vec<f64>; 5] = std::array::from_fn(|_| Vec::new());
        // One round more than is counted, to warm up.
        for round in 0..=effort.rounds {
            let mut times = vec![
                time(&mut || drop(black_box(native::run(&mut bare.transaction(), &limits, black_box(&any))))),
                time(&mut || drop(black_box(kept_instance.call(black_box(&request))))),
                time(&mut || drop(black_box(bare.fresh(black_box(&request))))),
            ];
            if let Some(extism) = &mut extism {
                times.push(extism.round(count, Way::Kept, effort.round)?);
                times.push(extism.round(count, Way::Fresh, effort.round)?);
            }
            if round > 0 {
                rounds.iter_mut().zip(times).for_each(|(rounds, time)| rounds.push(time));
            }
        }
        let [native, kept, fresh, extism_kept, extism_fresh] = &rounds;
        let figure = |times: &[f64]| Figure::of(times.iter().copied());
        let ratio = Figure::ratio(fresh, kept);
        let line = format!(
            "{count:>4} {:>19} {:>19} {:>22} {ratio:>18}   {:>22} {:>25}",
            figure(native),
            figure(kept),
            figure(fresh),
            if extism.is_some() { format!("{:.1}", figure(extism_kept)) } else { String::new() },
            if extism.is_some() { format!("{:.1}", figure(extism_fresh)) } else { String::new() },
        );
        println!("{}", line.trim_end());
        if count == 10 {
            report.note("call of 10 ids through a fresh sandbox", figure(fresh), " µs", Reach::AtMost(10.0));
            report.note("the same, against an instance that is kept", ratio, "", Reach::AtMost(2.0));
        }
    }
    Ok(())
}

/// Microseconds for one run.
fn time(round: Duration, subject: &mut dyn FnMut()) -> f64 {
    let (started, mut runs) = (Instant::now(), 0);
    while started.elapsed() < round {
        for _ in 0..20 {
            subject();
        }
        runs += 20;
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(runs)
}
