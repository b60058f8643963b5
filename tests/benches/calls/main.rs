//! What a call costs: in a fresh sandbox, in a kept one and without any; what the dearest listing does; how many durable calls a second there are, with and
//! without group commit; what becomes of that with more data; how long a process takes to answer. What is to be reached is
//! printed beside what was.
//!
//! Everything is measured in rounds that take turns, in one process, so that ratios hold on a machine whose speed drifts.
//! Medians of the rounds are printed, with the least and the most. `--short` takes few and short rounds, to see that all of it
//! runs; `--plots=DIRECTORY` draws; other words choose the parts that have them in their names. `CONVGROUPS_BENCH_DIR` says
//! where the stores lie, which decides how long a flush takes.

mod counted;
mod durable;
mod extism;
mod listing;
mod load;
mod plot;
mod report;
mod sandbox;
mod size;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use self::report::Report;

type Failure = Box<dyn std::error::Error>;

/// How long the rounds are, and how many; and how much data there is.
struct Effort {
    rounds: usize,
    round: Duration,
    /// Callers at once, ascending.
    callers: &'static [usize],
    /// Users in a store, ascending: what the most cost is compared with what the first but one do.
    users: &'static [u32],
    /// What is counted instruction by instruction, and over how many calls.
    subjects: &'static [&'static str],
    counted: u32,
    plots: Option<PathBuf>,
}

const LONG: Effort = Effort {
    rounds: 7,
    round: Duration::from_millis(400),
    callers: &[1, 2, 4, 8, 16, 32, 64, 128],
    users: &[1000, 10_000, 100_000, 1_000_000],
    subjects: counted::SUBJECTS,
    counted: 2000,
    plots: None,
};

const SHORT: Effort = Effort {
    rounds: 2,
    round: Duration::from_millis(20),
    callers: &[1, 64],
    users: &[10, 100, 1000],
    subjects: &["fresh"],
    counted: 20,
    plots: None,
};

/// Measures, prints, and notes what is to be reached.
type Part = fn(&Effort, &mut Report) -> Result<(), Failure>;

const PARTS: [(&str, Part); 6] = [
    ("sandbox", sandbox::measure),
    ("counted", counted::measure),
    ("listing", listing::measure),
    ("durable", durable::measure),
    ("size", size::measure),
    ("start", start::measure),
];

fn main() -> Result<(), Failure> {
    // What cargo adds, and what is for every benchmark.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [first, subject, calls] = arguments.as_slice()
        && first == counted::ARGUMENT
    {
        return counted::run(subject, calls.parse()?);
    }
    let mut effort = if arguments.iter().any(|argument| argument == "--short") { SHORT } else { LONG };
    effort.plots = arguments.iter().find_map(|argument| argument.strip_prefix("--plots=")).map(PathBuf::from);
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut report = Report::default();
    for (name, part) in PARTS {
        if words.iter().all(|word| name.contains(*word)) {
            part(&effort, &mut report)?;
            println!();
        }
    }
    report.print();
    Ok(())
}
