//! How many calls one, two and three hosts do on one PostgreSQL, what they cost the database, and how that compares with
//! what one would write without this project: plain statements, one after another, in one transaction for each call.
//!
//! The database is a private one that flushes; the variable `TMPDIR` says on which disk. Each host is a process of its own,
//! this program run again, which is told what to do through its standard input. Callers take ten conversations out of a group and put them back, in turn, as fast as
//! they are answered. Everything is measured in rounds that take turns; medians of the rounds are printed.
//!
//! `--short` takes few and short rounds, to see that all of it runs; `--users=N` loads this many users; other words choose the
//! tables that have them in their titles.

mod database;
mod host;
mod naive;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use self::database::Database;
use self::host::{Order, Report, Shape};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How much is loaded, how long the rounds are, and how many.
struct Effort {
    users: u32,
    rounds: usize,
    round_ms: u64,
}

/// What is compared with what, the first being 1.
struct Scenario {
    title: &'static str,
    hosts: &'static [usize],
    callers: &'static [u32],
    /// Users that the callers choose from; 0 for all that are loaded.
    users: u32,
    shapes: &'static [Shape],
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        title: "each call for another user",
        hosts: &[1, 2, 3],
        callers: &[1, 8, 64],
        users: 0,
        shapes: &[Shape::Naive, Shape::Store],
    },
    Scenario {
        title: "all calls for 8 users",
        hosts: &[1, 2, 3],
        callers: &[8, 64],
        users: 8,
        shapes: &[Shape::Naive, Shape::Store],
    },
    Scenario {
        title: "statements sent whole (postgres.prepare = false)",
        hosts: &[1, 3],
        callers: &[8, 64],
        users: 0,
        shapes: &[Shape::Store, Shape::StoreUnprepared],
    },
    Scenario {
        title: "a notification inside of each transaction",
        hosts: &[1, 3],
        callers: &[8, 64],
        users: 0,
        shapes: &[Shape::Naive, Shape::NaiveNotifying],
    },
];

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, shape, url] = arguments.as_slice()
        && first == host::ARGUMENT
    {
        return host::serve(serde_json::from_str(shape)?, url);
    }
    let short = arguments.iter().any(|argument| argument == "--short");
    let named = arguments.iter().find_map(|argument| argument.strip_prefix("--users="));
    let users = named.map(str::parse).transpose()?;
    let effort = if short {
        Effort { users: users.unwrap_or(200), rounds: 1, round_ms: 50 }
    } else {
        Effort { users: users.unwrap_or(5000), rounds: 5, round_ms: 1000 }
    };
    let Some(database) = Database::start(effort.users)? else { return Ok(()) };
    println!(
        "10 ids taken out and put back in turn; {} users with {} groups of {} conversations; one flush takes {:.0?}",
        effort.users,
        database::GROUPS,
        database::IDS,
        database::flush_time()?,
    );
    println!("for each call: database and host, in microseconds of CPU; round trips; log, in KiB of write-ahead log");
    println!("reruns and failed: of 100 calls; ratios: to the first line of each pair");
    println!("\nas loaded\n{}", database.sizes()?);
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    for scenario in SCENARIOS.iter().filter(|scenario| words.iter().all(|word| scenario.title.contains(*word))) {
        run(scenario, &database, &effort)?;
    }
    println!("\nafter these calls\n{}", database.sizes()?);
    Ok(())
}

fn run(scenario: &Scenario, database: &Database, effort: &Effort) -> Result<(), Failure> {
    println!("\n{}", scenario.title);
    println!(
        "{:>5} {:>7} {:<16} {:>8} {:>6} {:>8} {:>8} {:>7} {:>7} {:>9} {:>6} {:>6} {:>6} {:>6}",
        "hosts",
        "callers",
        "",
        "calls/s",
        "ratio",
        "p50 ms",
        "p99 ms",
        "reruns",
        "failed",
        "database",
        "ratio",
        "host",
        "trips",
        "log"
    );
    for &hosts in scenario.hosts {
        let start = |shape| (0..hosts).map(|_| Process::start(shape, database.url())).collect();
        let mut fleets: Vec<Vec<Process>> =
            scenario.shapes.iter().map(|&shape| start(shape)).collect::<Result<_, Failure>>()?;
        for &callers in scenario.callers {
            let users = if scenario.users == 0 { effort.users } else { scenario.users };
            let mut rounds: Vec<Vec<Round>> = fleets.iter().map(|_| Vec::new()).collect();
            // One round more than is counted, to warm up.
            for number in 0..=effort.rounds {
                for (fleet, rounds) in fleets.iter_mut().zip(&mut rounds) {
                    let round = measure(fleet, database, users, callers, effort.round_ms)?;
                    if number > 0 {
                        rounds.push(round);
                    }
                }
            }
            let medians: Vec<Round> = rounds.into_iter().map(|rounds| Round::median(&rounds)).collect();
            for (shape, round) in scenario.shapes.iter().zip(&medians) {
                round.print(hosts, callers, *shape, &medians[0]);
            }
        }
    }
    Ok(())
}

/// A host's process.
struct Process {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Process {
    fn start(shape: Shape, url: &str) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([host::ARGUMENT, &serde_json::to_string(&shape)?, url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (orders, reports) = (child.stdin.take(), child.stdout.take());
        let orders = orders.ok_or("the process has no input")?;
        let mut reports = BufReader::new(reports.ok_or("the process has no output")?);
        let mut ready = String::new();
        reports.read_line(&mut ready)?;
        if ready.trim() != host::READY {
            return Err("a host did not start".into());
        }
        Ok(Self { child, orders, reports })
    }

    fn order(&mut self, order: &Order) -> Result<(), Failure> {
        Ok(writeln!(self.orders, "{}", serde_json::to_string(order)?)?)
    }

    fn report(&mut self) -> Result<Report, Failure> {
        let mut line = String::new();
        self.reports.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It would end with its input too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one round gave, all hosts together. What the system does not tell is not there.
struct Round {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    reruns_percent: f64,
    failed_percent: f64,
    database_us: Option<f64>,
    host_us: Option<f64>,
    trips: f64,
    log_kib: f64,
}

fn measure(
    fleet: &mut [Process],
    database: &Database,
    users: u32,
    callers: u32,
    millis: u64,
) -> Result<Round, Failure> {
    let (cpu_before, log_before) = (database.cpu(), database.log_position()?);
    let all_callers = u32::try_from(fleet.len())? * callers;
    for (first_caller, process) in (0..).step_by(callers as usize).zip(fleet.iter_mut()) {
        process.order(&Order { users, first_caller, callers, all_callers, millis })?;
    }
    let reports: Vec<Report> = fleet.iter_mut().map(Process::report).collect::<Result<_, _>>()?;
    let (cpu_after, log_after) = (database.cpu(), database.log_position()?);

    let mut times: Vec<u64> = reports.iter().flat_map(|report| &report.times_us).copied().collect();
    times.sort_unstable();
    let calls = times.len() as f64;
    let percentile = |part: usize| times.get(times.len() * part / 100).map_or(f64::NAN, |&time| time as f64 / 1e3);
    let percent = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>() as f64 * 100.0 / calls;
    let seconds = reports.iter().map(|report| report.elapsed_us).max().unwrap_or_default() as f64 / 1e6;
    let host_cpu: Option<u64> = reports.iter().map(|report| report.cpu_us).sum();
    Ok(Round {
        rate: calls / seconds,
        p50_ms: percentile(50),
        p99_ms: percentile(99),
        reruns_percent: percent(|report| report.reruns),
        failed_percent: percent(|report| report.failed),
        database_us: cpu_after.zip(cpu_before).map(|(after, before)| after.saturating_sub(before) as f64 / calls),
        host_us: host_cpu.map(|cpu| cpu as f64 / calls),
        trips: reports.iter().map(|report| report.trips).sum::<u64>() as f64 / calls,
        log_kib: (log_after - log_before) / 1024.0 / calls,
    })
}

impl Round {
    /// Each figure's own median.
    fn median(rounds: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| {
            let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
            figures.sort_unstable_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        let known = |figure: f64| Some(figure).filter(|figure| !figure.is_nan());
        Self {
            rate: median(|round| round.rate),
            p50_ms: median(|round| round.p50_ms),
            p99_ms: median(|round| round.p99_ms),
            reruns_percent: median(|round| round.reruns_percent),
            failed_percent: median(|round| round.failed_percent),
            database_us: known(median(|round| round.database_us.unwrap_or(f64::NAN))),
            host_us: known(median(|round| round.host_us.unwrap_or(f64::NAN))),
            trips: median(|round| round.trips),
            log_kib: median(|round| round.log_kib),
        }
    }

    fn print(&self, hosts: usize, callers: u32, shape: Shape, first: &Self) {
        let unknown = || "unknown".to_owned();
        let micros = |figure: Option<f64>| figure.map_or_else(unknown, |figure| format!("{figure:.0}"));
        let cheaper = self.database_us.zip(first.database_us);
        println!(
            "{hosts:>5} {callers:>7} {:<16} {:>8.0} {:>6.2} {:>8.2} {:>8.2} {:>7.1} {:>7.1} {:>9} {:>6} {:>6} {:>6.1} {:>6.1}",
            shape.name(),
            self.rate,
            self.rate / first.rate,
            self.p50_ms,
            self.p99_ms,
            self.reruns_percent,
            self.failed_percent,
            micros(self.database_us),
            cheaper.map_or_else(unknown, |(own, first)| format!("{:.2}", own / first)),
            micros(self.host_us),
            self.trips,
            self.log_kib,
        );
    }
}
