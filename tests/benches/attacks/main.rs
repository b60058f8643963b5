//! What a plugin that attacks for one user costs another: for each plugin of the collection, how its calls end, how long each
//! takes, what memory the process takes meanwhile, and how long the calls of a user whom it serves take before and during the
//! attack. Then the same for plugin files that attack the host that loads them, while a host of the same process goes on; and for clients
//! that attack a server over HTTP.
//!
//! Some attack nothing, such as `remembers`: what they cost another is what any second caller does, to compare with. One caller
//! attacks as fast as it is answered; one is served, and makes durable calls on SQLite: ten conversations out of a
//! group and back, in turn. All settings have their defaults. `--short` takes a few calls of each, to see that all of it runs;
//! other words choose the plugins that have them in their names. `CONVGROUPS_BENCH_DIR` says where the store lies.

mod network;
mod process;
mod served;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use convgroups_host::settings::SandboxSettings;
use convgroups_host::store::Store;
use convgroups_host::{BuildError, CallError, Failure, Host, PluginSource, Settings, SqliteStore, UserId};
use convgroups_tests::bombs::{COSTLY, NEVER_START, REFUSED, UNDECODABLE, bomb, slow_to_compile};
use convgroups_tests::guests::{ALL, examiner, guest};

use self::process::Memory;
use self::served::{Times, serve};

type Wrong = Box<dyn std::error::Error>;

/// Plugins that are no attack by a call: they are not loaded, or are in a table of their own.
const NOT_CALLED: &[&str] =
    &["exports_nothing_of_ours", "imports_something_foreign", "needs_wasi", "speaks_another_version"];
const GROUP: &str = "Work";
/// How long a plugin may take to compile, in milliseconds: less than by default, for what takes as long as it may.
const COMPILE_MS: u64 = 10_000;

/// For how long each attack goes on at least, and with how many calls.
struct Effort {
    time: Duration,
    calls: usize,
}

/// What there is before an attack.
struct Scene {
    store: Arc<dyn Store>,
    /// A host that attacks nobody.
    good: Host,
    served: UserId,
    effort: Effort,
}

fn main() -> Result<(), Wrong> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == network::SERVE) {
        return network::serve();
    }
    let short = arguments.iter().any(|argument| argument == "--short");
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = |name: &str| words.iter().all(|word| name.contains(*word));
    let effort = if short {
        Effort { time: Duration::from_millis(20), calls: 1 }
    } else {
        Effort { time: Duration::from_millis(1500), calls: 3 }
    };
    let parent = std::env::var_os("CONVGROUPS_BENCH_DIR").unwrap_or_else(|| ".".into());
    let directory = tempfile::tempdir_in(parent)?;
    let scene = Scene::new(Arc::new(SqliteStore::open(directory.path().join("attacks.db"))?), effort)?;

    println!(
        "served: a user's durable calls of 10 ids on SQLite, in milliseconds, before and during; ratio: of their p99"
    );
    println!(
        "attacks: how many, their median and longest in milliseconds; memory: what the process took at most, in MiB\n"
    );
    heading("plugin that attacks for one user and serves another", "a call ends in");
    for (name, _) in ALL.iter().filter(|(name, _)| chosen(name) && !NOT_CALLED.contains(name)) {
        let host = scene.host(guest(name), Settings::default())?;
        let attacker = scene.attacker(name)?;
        scene.attack(name, &host, || ended(host.call(&attacker, &served::deletion(GROUP)).map(drop)))?;
    }
    for &(name, addition) in NEVER_START.iter().filter(|(name, _)| chosen(name)) {
        let host = scene.host(bomb(addition), Settings::default())?;
        let attacker = scene.attacker(name)?;
        let attack = || ended(host.call(&attacker, &served::deletion(GROUP)).map(drop));
        scene.attack(&format!("{name} (another host serves)"), &scene.good, attack)?;
    }
    println!();
    heading("plugin that attacks the host that loads it", "loading ends in");
    let files = UNDECODABLE.iter().map(|&(name, file, _)| (name, PluginSource::Bytes(file()), COMPILE_MS));
    let files = files.chain(REFUSED.iter().map(|&(name, addition, _)| (name, bomb(addition), COMPILE_MS)));
    let files = files.chain(COSTLY.iter().map(|&(name, addition)| (name, bomb(addition), COMPILE_MS)));
    let files = files.chain([("slow_to_compile within 500 ms", bomb(slow_to_compile), 500)]);
    for (name, plugin, max_compile_ms) in files.filter(|(name, ..)| chosen(name)) {
        let sandbox = SandboxSettings { max_compile_ms, ..SandboxSettings::default() };
        let settings = Settings { sandbox, ..Settings::default() };
        scene.attack(name, &scene.good, || loaded(scene.host(plugin.clone(), settings.clone())))?;
    }
    network::attacks(scene.effort.time, chosen)
}

impl Scene {
    fn new(store: Arc<dyn Store>, effort: Effort) -> Result<Self, Wrong> {
        let good = Host::builder().store(Arc::clone(&store)).build()?;
        let served = UserId::new("bob")?;
        good.call(&served, &served::creation(served::GROUP))?;
        Ok(Self { store, good, served, effort })
    }

    /// A user with a group that a plugin may attack.
    fn attacker(&self, name: &str) -> Result<UserId, Wrong> {
        let attacker = UserId::new(name)?;
        self.good.call(&attacker, &served::creation(GROUP))?;
        Ok(attacker)
    }

    fn host(&self, plugin: PluginSource, settings: Settings) -> Result<Host, BuildError> {
        let settings = Settings { ..settings };
        Host::builder()
            .settings(settings)
            .store(Arc::clone(&self.store))
            .plugin(plugin)
            .plugin_examiner(examiner())
            .build()
    }

    /// Attacks for as long as it is to take, while the host serves somebody else; and prints a line.
    fn attack(&self, name: &str, host: &Host, attack: impl Fn() -> String + Sync) -> Result<(), Wrong> {
        let until = |start: Instant| move || start.elapsed() >= self.effort.time;
        let before = serve(host, &self.served, until(Instant::now()))?;
        let memory = Memory::watch()?;
        let is_over = AtomicBool::new(false);
        let (during, attacks) = std::thread::scope(|scope| {
            let attacks = scope.spawn(|| {
                let attacks = self.attacks(&attack);
                is_over.store(true, Ordering::Relaxed);
                attacks
            });
            let during = serve(host, &self.served, || is_over.load(Ordering::Relaxed));
            (during, attacks.join())
        });
        let (during, (ends, times)) = (during?, attacks.map_err(|_| "the attacker panicked")?);
        println!(
            "| {name} | {ends} | {} | {:.1} | {:.1} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} |",
            times.count(),
            times.at(50),
            times.at(100),
            memory.most_mib()?,
            before.at(50),
            during.at(50),
            before.at(99),
            during.at(99),
            during.at(99) / before.at(99),
        );
        Ok(())
    }

    /// How the first ended, and how long each took.
    fn attacks(&self, attack: impl Fn() -> String) -> (String, Times) {
        let (start, mut times, mut ends) = (Instant::now(), Times::default(), String::new());
        while times.count() < self.effort.calls || start.elapsed() < self.effort.time {
            let ended = times.of(&attack);
            if ends.is_empty() {
                ends = ended;
            }
        }
        (ends, times)
    }
}

fn heading(what: &str, ends: &str) {
    println!(
        "| {what} | {ends} | attacks | median | longest | memory | p50 before | during | p99 before | during | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
}

/// Whose failure it was, as metrics and logs have it.
fn ended(called: Result<(), CallError>) -> String {
    match called.map_err(|error| error.failure) {
        Ok(()) => "an answer".to_owned(),
        Err(Failure::Plugin(fault)) => format!("the plugin's fault: {}", fault.kind.as_str()),
        Err(Failure::Refused(_)) => "a refusal".to_owned(),
        Err(Failure::Host(fault)) => format!("the host's fault: {fault}"),
    }
}

/// What the loader says, as far as it fits into a table.
fn loaded(built: Result<Host, BuildError>) -> String {
    let text = built.map_or_else(|error| error.to_string(), |_| "a host".to_owned());
    let line: String = text.chars().take_while(|character| *character != '\n').take(120).collect();
    line.replace('|', "/")
}
