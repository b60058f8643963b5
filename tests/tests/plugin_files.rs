//! Hostile plugin files: each is refused with a reason or loaded, the host lives on, its memory grows by little, and no child
//! process is left.
//!
//! In a process of its own, one test at a time, because memory is measured.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use convgroups_host::api::{CreateConversationGroup, DeleteConversationsFromGroup};
use convgroups_host::plugin::BUNDLED;
use convgroups_host::settings::SandboxSettings;
use convgroups_host::{BuildError, Examiner, Host, HostBuilder, MemoryStore, PluginSource, Settings};
use convgroups_tests::bombs::{COSTLY, REFUSED, UNDECODABLE, bomb, bomb_file, slow_to_compile};
use convgroups_tests::guests::{component, examiner};
use convgroups_tests::{memory_kib, user};

/// What loading may take of the host's memory, in KiB.
const MAX_GROWTH: u64 = 64 << 10;
/// For hostile files, in milliseconds: many take all the time that they get.
const COMPILE_MS: u64 = 5_000;
/// For others, also on a busy machine.
const PATIENT_MS: u64 = 60_000;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn settings(sandbox: SandboxSettings) -> Settings {
    Settings { sandbox, ..Settings::default() }
}

fn builder(max_compile_ms: u64) -> HostBuilder {
    let sandbox = SandboxSettings { max_compile_ms, ..SandboxSettings::default() };
    Host::builder().store(MemoryStore::new()).settings(settings(sandbox)).plugin_examiner(examiner())
}

/// Processes whose parent is this one.
fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").expect("Linux tells").filter_map(Result::ok);
    let stats = processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    // After the name, which may have anything in it: the state, and the parent.
    stats.filter(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.split(' ').nth(2) == Some(&own))).collect()
}

/// Loads a plugin from a file, so that this process need not have it in memory, and looks at what that leaves behind.
fn load(name: &str, bytes: impl AsRef<[u8]>, max_compile_ms: u64) -> Result<Host, BuildError> {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("plugin.wasm");
    fs::write(&path, bytes).expect("writes");
    let loaded = measured(name, || builder(max_compile_ms).plugin(PluginSource::File(path)).build());
    assert!(matches!(loaded, Ok(_) | Err(BuildError::Plugin(_))), "{name}: {loaded:?}");
    loaded
}

fn measured<T>(name: &str, load: impl FnOnce() -> T) -> T {
    // The highest figure begins anew.
    fs::write("/proc/self/clear_refs", "5").expect("Linux forgets");
    let (before, started) = (memory_kib("VmRSS:"), std::time::Instant::now());
    let loaded = load();
    let growth = memory_kib("VmHWM:").saturating_sub(before);
    eprintln!("{name}: {growth} KiB, {} ms", started.elapsed().as_millis());
    assert!(growth <= MAX_GROWTH, "{name}: {growth} KiB");
    assert_eq!(children(), [""; 0], "{name}: a child is left");
    loaded
}

/// Fills what is there only once, so that it is not counted as a plugin's.
fn warm_up() {
    let host = load("a good plugin", BUNDLED, PATIENT_MS).expect("it loads");
    host.call(&user("alice"), &CreateConversationGroup::new("Work", ["c2c_bob"])).expect("it works");
}

#[test]
fn plugin_files_that_crash_the_decoder_are_refused_with_the_reason() {
    let _alone = alone();
    warm_up();
    for &(name, file, reason) in UNDECODABLE {
        let error = load(name, file(), PATIENT_MS).expect_err(name);
        let text = error.to_string();
        eprintln!("{name}: {text}");
        assert!(text.contains(reason), "{name}: {text}");
        assert!(!text.contains('\n') && text.len() < 1000, "{name}: {text}");
    }
    warm_up();
}

#[test]
fn oversized_plugin_files_are_refused_within_64_mib_of_host_memory() {
    let _alone = alone();
    warm_up();
    for &(name, addition, reason) in REFUSED {
        let max_compile_ms = if reason.is_empty() { COMPILE_MS } else { PATIENT_MS };
        let error = load(name, bomb_file(addition), max_compile_ms).expect_err(name);
        let text = error.to_string();
        eprintln!("{name}: {}", text.chars().take(300).collect::<String>());
        assert!(text.contains(reason), "{name}: {text}");
    }
    warm_up();
}

#[test]
fn costly_plugin_files_are_refused_or_loaded_within_64_mib_of_host_memory() {
    let _alone = alone();
    warm_up();
    for &(name, addition) in COSTLY {
        let loaded = load(name, bomb_file(addition), COMPILE_MS);
        match &loaded {
            Ok(_) => eprintln!("{name}: loaded"),
            Err(error) => eprintln!("{name}: {}", error.to_string().chars().take(300).collect::<String>()),
        }
    }
    warm_up();
}

#[test]
fn plugins_that_compile_too_slowly_are_killed_and_refused() {
    let _alone = alone();
    let error = builder(200).plugin(bomb(slow_to_compile)).build().expect_err("it takes seconds").to_string();
    assert!(error.contains("longer than 200 ms to read, check and compile (sandbox.max_compile_ms)"), "{error}");
    assert_eq!(children(), [""; 0]);
}

#[test]
fn a_plugin_that_needs_more_memory_than_allowed_is_refused() {
    let _alone = alone();
    let sandbox = SandboxSettings { max_compile_memory_bytes: 256 << 20, ..SandboxSettings::default() };
    let small =
        || Host::builder().store(MemoryStore::new()).settings(settings(sandbox.clone())).plugin_examiner(examiner());
    let (_, costly) =
        COSTLY.iter().find(|(name, _)| *name == "lists_a_hundred_thousand_elements").expect("it is there");
    let error = small().plugin(bomb(*costly)).build().expect_err("it takes a gibibyte").to_string();
    assert!(error.contains("could not be examined") || error.contains("cannot be compiled"), "{error}");
    small().plugin(PluginSource::Bytes(BUNDLED.to_vec())).build().expect("a plugin of the usual size fits");
}

#[test]
fn plugin_paths_that_are_not_regular_files_are_refused_at_once() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let pipe = directory.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe can be made");
    for path in [pipe.as_path(), Path::new("/dev/zero"), Path::new("/dev/null"), directory.path()] {
        let error = builder(PATIENT_MS).plugin(PluginSource::File(path.to_owned())).build();
        let error = error.expect_err("not a file").to_string();
        assert!(error.contains("could not read the plugin") && error.contains("not a regular file"), "{error}");
    }
}

#[test]
fn a_growing_plugin_file_is_read_up_to_its_size_limit() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("grows.wasm");
    fs::write(&path, component("remembers")).expect("writes");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write;
            let mut file = fs::OpenOptions::new().append(true).open(&path).expect("opens");
            let more = vec![0; 64 << 10];
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && file.metadata().expect("reads").len() < 256 << 20
            {
                file.write_all(&more).expect("writes");
            }
        });
        while fs::metadata(&path).expect("reads").len() < 2 << 20 {
            std::thread::yield_now();
        }
        let error = measured("grows", || builder(PATIENT_MS).plugin(PluginSource::File(path.clone())).build());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        error.expect_err("it has rubbish at its end");
    });
}

#[test]
fn a_component_that_was_tampered_with_is_refused_or_runs_inside_its_limits() {
    let _alone = alone();
    let original = component("remembers");
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..60 {
        let mut bytes = original.to_vec();
        for _ in 0..random.usize(1..4) {
            let place = random.usize(8..bytes.len());
            bytes[place] ^= 1 << random.u8(0..8);
        }
        // That it neither panics nor hangs is the point; what a changed program answers is its own business.
        if let Ok(host) = builder(COMPILE_MS).plugin(PluginSource::Bytes(bytes)).build() {
            let _ = host.call(&user("alice"), &DeleteConversationsFromGroup::new("Work", ["c2c_bob"]));
        }
    }
}

#[test]
fn a_plugin_that_is_not_built_in_needs_an_examiner() {
    let _alone = alone();
    let plugin = || Host::builder().store(MemoryStore::new()).plugin(PluginSource::Bytes(BUNDLED.to_vec()));
    let error = plugin().build().expect_err("nobody has chosen").to_string();
    assert!(error.contains("Examiner::Program") && error.contains("Examiner::InProcess"), "{error}");
    plugin().plugin_examiner(Examiner::InProcess).build().expect("it loads");
}

#[test]
fn an_examiner_that_does_not_examine_is_a_refusal() {
    let _alone = alone();
    let shell = |script: &str| Examiner::Program {
        path: "/bin/sh".into(),
        arguments: ["-c", script, "sh"].map(Into::into).to_vec(),
    };
    let missing = Examiner::Program { path: "/no/such/program".into(), arguments: Vec::new() };
    let answer = |answer: &str| shell(&format!("printf '%s' '{answer}'"));
    // Long enough on a busy machine, but for those that never end.
    let (long, short) = (PATIENT_MS, 300);
    for (examiner, max_compile_ms, reason) in [
        (missing, long, "could not start /no/such/program"),
        (shell("exit 3"), long, "exit code 3"),
        (shell("echo what happened >&2; exit 101"), long, "panicked: what happened"),
        (shell(r"printf 'a\033[31mb' >&2; exit 1"), long, r"a\u{1b}[31mb"),
        (shell("kill -9 $$"), long, "signal 9 (it was killed"),
        (shell("kill -24 $$"), long, "signal 24 (processor time"),
        (shell("true"), long, "its answer cannot be read"),
        (shell("exec yes"), long, "its answer is longer than 262144 bytes"),
        (shell("exec sleep 1000"), short, "longer than 300 ms"),
        (shell("exec >&-; exec sleep 1000"), short, "longer than 300 ms"),
        (answer("[]"), long, "its answer cannot be read"),
        (answer(r#"{"description":null,"problem":null,"code_bytes":7}"#), long, "announced 7 bytes of code"),
        (answer(r#"{"description":null,"problem":{"NotExaminable":"so"},"code_bytes":0}"#), long, "examined: so"),
    ] {
        let plugin = PluginSource::Bytes(BUNDLED.to_vec());
        let loaded = builder(max_compile_ms).plugin_examiner(examiner.clone()).plugin(plugin).build();
        let error = loaded.expect_err("nothing was examined").to_string();
        assert!(error.contains(reason), "{examiner:?}: {error}");
        assert_eq!(children(), [""; 0], "{examiner:?}");
    }
}

#[test]
fn the_examining_process_gets_no_environment() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let seen = directory.path().join("seen");
    let script = format!("tr '\\0' '\\n' < /proc/$$/environ > {}", seen.display());
    let spy = Examiner::Program { path: "/bin/sh".into(), arguments: ["-c", &script, "sh"].map(Into::into).to_vec() };
    let plugin = PluginSource::Bytes(BUNDLED.to_vec());
    builder(PATIENT_MS).plugin_examiner(spy).plugin(plugin).build().expect_err("it examines nothing");
    let seen = fs::read_to_string(seen).expect("it has looked");
    assert!(!seen.contains("HOME=") && !seen.contains("CARGO"), "{seen}");
}
