//! The server beside programs of other people, as Debian installs them: proxies in front of it, and Prometheus.
//!
//! A test whose program is not installed says so and ends; with `TEST_REQUIRE_NEIGHBOURS` set it fails instead.
#![cfg(unix)]

mod prometheus;
mod proxies;

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use convgroups_tests::server::{ADMIN, APP, KEY, Reply, client, sign};
use serde_json::Value;
use tempfile::TempDir;

/// Far longer than anything takes; only what hangs uses it up.
const PATIENCE: Duration = Duration::from_secs(120);
/// The variable that makes a skipped test a failure.
const REQUIRE_VARIABLE: &str = "TEST_REQUIRE_NEIGHBOURS";

/// Compiled plugins, shared by all tests.
static CACHE: LazyLock<PathBuf> =
    LazyLock::new(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("convgroups-neighbours-cache"));

/// Finds an installed program; `None` where there is none.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = directories.map(|directory| directory.join(name)).find(|program| program.is_file());
    if found.is_none() {
        assert!(std::env::var_os(REQUIRE_VARIABLE).is_none(), "{name} is not installed: run `make neighbours`");
        eprintln!("SKIPPED: a test needs {name}; run `make neighbours`");
    }
    found
}

/// A port that nothing listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "not reached: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command to its end, which has to be a success.
fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    said
}

/// A program that runs in the foreground until this is dropped or this process ends, whatever ends it.
struct Neighbour {
    keeper: Child,
    port: u16,
    directory: TempDir,
}

impl Neighbour {
    /// Starts it, and waits until it listens on its port.
    fn start(program: &Path, arguments: &[&str], port: u16, directory: TempDir) -> Self {
        let log = std::fs::File::create(directory.path().join("output")).expect("a log can be written");
        // Its input ends when this process does.
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", "\"$@\" & child=$!; read -r _; kill -TERM $child; wait $child", "keeper"]);
        keeper.arg(program).args(arguments).current_dir(directory.path()).stdin(Stdio::piped());
        keeper.stdout(log.try_clone().expect("a second handle")).stderr(log);
        // Ctrl-C at a terminal is for the tests; the program follows by itself.
        keeper.process_group(0);
        let neighbour = Self { keeper: keeper.spawn().expect("there is a shell"), port, directory };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "{}: {}", program.display(), neighbour.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        neighbour
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// `convgroups serve` with a store in memory.
struct Served {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
    _directory: TempDir,
}

impl Served {
    fn start() -> Self {
        Self::start_with("")
    }

    /// With these settings in the table `[server]`.
    fn start_with(server: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = format!(
            "store = \"memory:\"\n[server]\nlisten = \"127.0.0.1:0\"\ncalls_per_second = 0\n\
             calls_per_second_per_user = 0\n{server}\n[auth]\nsdk_app_id = {APP}\nadmins = [\"{ADMIN}\"]\n"
        );
        std::fs::write(directory.path().join("convgroups.toml"), settings).expect("settings can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_convgroups"));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CONVGROUPS_") || name.starts_with("OTEL_")) {
                command.env_remove(name);
            }
        }
        command.current_dir(directory.path()).env("CONVGROUPS_CACHE_DIR", &*CACHE).env("CONVGROUPS_USERSIG_KEYS", KEY);
        command.args(["serve", "--config", "convgroups.toml", "--log-json"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut said = String::new();
        let address = loop {
            let line = lines.next().and_then(Result::ok);
            assert!(line.is_some(), "it ended: {said}");
            let line = line.unwrap_or_default();
            if let Some((_, address)) = line.split_once("listening on http://") {
                break address.to_owned();
            }
            said += &(line + "\n");
        };
        let log = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = written.lock().unwrap_or_else(PoisonError::into_inner);
                *log += &(line + "\n");
            }
        });
        Self { child, address, log, _directory: directory }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks it to stop, and does not wait for that.
    fn ask_to_stop(&self) {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until it has stopped, which has to be a success.
    fn stopped(&mut self) {
        let mut status = None;
        eventually("the server has stopped", || {
            status = self.child.try_wait().expect("the process can be waited for");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", self.log());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A user's call by way of any address.
fn call(base: &str, user: &str, method: &str, params: &Value) -> Reply {
    let request = client().post(format!("{base}/v1/{method}")).bearer_auth(sign(user));
    Reply::to(request.body(params.to_string()))
}

/// The block of code in this language that contains a word, from the page for operators.
fn documented(language: &str, containing: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/production.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let fence = format!("```{language}\n");
    let mut blocks = page.split(&fence).skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block);
    blocks.find(|block| block.contains(containing)).expect("the page has such a block").to_owned()
}

/// Replaces parts of a text, each of which has to be in it.
fn replaced(text: &str, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(text.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "there is no {old:?} in {text}");
        text.replace(old, new)
    })
}
