//! The program as a process of its own, on a database.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use convgroups_tests::server::{ADMIN, APP, KEY};

/// Far longer than anything takes; only a process that hangs uses it up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program, without settings from outside.
fn convgroups(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convgroups"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CONVGROUPS_")) {
            command.env_remove(name);
        }
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Compiled plugins, shared by all tests.
    command.current_dir(place).env("CONVGROUPS_CACHE_DIR", place.join("convgroups-cli-cache"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let mut child = convgroups(arguments).spawn().expect("the program starts");
    let (mut output, mut errors) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let read = |from: &mut dyn Read| {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map(|_| bytes).expect("it can be read")
    };
    let (status, stdout, stderr) = std::thread::scope(|scope| {
        let stdout = scope.spawn(move || read(&mut output));
        let stderr = scope.spawn(move || read(&mut errors));
        let status = end_of(&mut child);
        (status, stdout.join().expect("no panic"), stderr.join().expect("no panic"))
    });
    Output { status, stdout, stderr }
}

/// Waits for a process to end by itself.
fn end_of(child: &mut Child) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the process can be waited for") {
            return status;
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            unreachable!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `convgroups serve`, until it is killed or dropped.
pub(crate) struct Serving {
    child: Child,
    pub(crate) base: String,
}

impl Serving {
    /// Serves a store, without limits on rates.
    pub(crate) fn start(store: &str, settings: &[&str]) -> Self {
        let mut command = convgroups(&["serve", "--listen", "127.0.0.1:0", "--store", store]);
        let (app, admins) = (format!("auth.sdk_app_id={APP}"), format!("auth.admins=[{ADMIN:?}]"));
        let always = ["server.calls_per_second=0", "server.calls_per_second_per_user=0", &app, &admins];
        for setting in always.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        command.env("CONVGROUPS_USERSIG_KEYS", KEY).stdout(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut said = String::new();
        let base = loop {
            let mut line = String::new();
            assert_ne!(errors.read_line(&mut line).expect("UTF-8"), 0, "it ended: {said}");
            if let Some((_, base)) = line.trim_end().split_once("listening on ") {
                break base.to_owned();
            }
            said += &line;
        };
        // Whoever logs must not wait for a reader.
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Self { child, base }
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let sent = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for it to end by itself.
    pub(crate) fn end(&mut self) -> ExitStatus {
        end_of(&mut self.child)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
