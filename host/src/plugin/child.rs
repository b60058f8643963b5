//! The host's side of an examination in a child process: starts the child, waits for it, kills it, and reads its answer.
//!
//! The child's answer is untrusted input, because the file that it reads may be made to take it over: its size and form are
//! checked. Its machine code cannot be checked, see SECURITY.md.

use std::ffi::OsString;
use std::io::{self, Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::PluginError;
use super::contract::Description;
use super::examine::{Answer, MAX_ANSWER_BYTES, Request, Step, max_code_bytes};
use super::source::{Component, Deadline};
use crate::escape;
use crate::settings::{SandboxSettings, Wasi};

/// How much of what a child writes to standard error is read.
const MAX_SAID_BYTES: u64 = 4 << 10;
/// How much of that is shown.
const MAX_SAID_CHARS: usize = 300;
/// How often to check whether a child that has closed its output has exited.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Variables that the child gets: where its libraries are. The others may hold keys and passwords.
const KEPT_VARIABLES: [&str; 2] = ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// Where plugins that are not built in are decoded, checked and compiled.
///
/// A file of a few bytes can make a decoder panic or overflow its stack, and a compiler take gigabytes or hours. Neither can be
/// interrupted, and an overflow of the stack ends the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examiner {
    /// In a child process, with limits on memory and time that the system enforces (`sandbox.max_compile_memory_bytes`,
    /// `sandbox.max_compile_ms`). Whatever happens to it is a refusal of the plugin.
    Program {
        /// The program to start. It calls [`examiner_main`](super::examiner_main) when it is started with these arguments, and
        /// one more, before it does anything else.
        path: PathBuf,
        /// What to start it with.
        arguments: Vec<OsString>,
    },
    /// In this process. For plugins whose authors are trusted as this program's are: any other can end the process, take all its
    /// memory, or keep a processor busy for ever. Only what is waited for is limited, by `sandbox.max_compile_ms`.
    InProcess,
}

impl Examiner {
    /// This program again, which calls [`examiner_main`](super::examiner_main) when it is started with these arguments, and one
    /// more. It is the program that runs, also if its file has been replaced.
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    ///
    /// use convgroups_host::plugin::examiner_main;
    /// use convgroups_host::{Examiner, Host, MemoryStore, PluginSource};
    ///
    /// fn main() -> ExitCode {
    ///     if std::env::args_os().nth(1).is_some_and(|argument| argument == "examine-plugin") {
    ///         return examiner_main();
    ///     }
    ///     match serve() {
    ///         Ok(()) => ExitCode::SUCCESS,
    ///         Err(_) => ExitCode::FAILURE,
    ///     }
    /// }
    ///
    /// fn serve() -> Result<(), Box<dyn std::error::Error>> {
    ///     let examiner = Examiner::this_program(["examine-plugin"])?;
    ///     let plugin = PluginSource::File("my-plugin.wasm".into());
    ///     let host = Host::builder().store(MemoryStore::new()).plugin(plugin).plugin_examiner(examiner).build()?;
    ///     // …
    /// #   drop(host);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When the system does not tell which program this is.
    pub fn this_program<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> io::Result<Self> {
        let path = if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
        Ok(Self::Program { path, arguments: arguments.into_iter().map(Into::into).collect() })
    }
}

/// The result of an examination.
pub(super) struct Found {
    pub(super) description: Option<Description>,
    pub(super) problem: Option<PluginError>,
}

/// A program that examines plugins, and the settings it gets.
pub(super) struct Program<'a> {
    pub(super) path: &'a PathBuf,
    pub(super) arguments: &'a [OsString],
    pub(super) sandbox: &'a SandboxSettings,
    pub(super) wasi: Wasi,
}

impl Program<'_> {
    /// Has a component examined. If there is no problem, its file holds the compiled code afterwards.
    pub(super) fn examine(&self, component: &Component, within: &Deadline) -> Result<Found, PluginError> {
        let Answer { description, problem, code_bytes } = self.step(Step::Compile, component, within)?;
        if problem.is_some() {
            return Ok(Found { description, problem });
        }
        let found = component.file.metadata().map_err(|error| not_examined(&error.to_string()))?.len();
        if found != code_bytes || found > max_code_bytes(self.sandbox) {
            return Err(not_examined(&format!("its examiner announced {code_bytes} bytes of code and wrote {found}")));
        }
        let Answer { problem, .. } = self.step(Step::Load, component, within)?;
        Ok(Found { description, problem })
    }

    fn step(&self, step: Step, component: &Component, within: &Deadline) -> Result<Answer, PluginError> {
        let request = Request { step, sandbox: self.sandbox.clone(), wasi: self.wasi };
        let request = serde_json::to_string(&request).map_err(|error| not_examined(&error.to_string()))?;
        let failed = |error: io::Error| not_examined(&format!("{}: {error}", self.path.display()));
        let mut file = &component.file;
        file.rewind().map_err(failed)?;
        let child = Command::new(self.path)
            .args(self.arguments)
            .arg(request)
            .env_clear()
            // Each arena of glibc's reserves address space, of which the child has only so much.
            .env("MALLOC_ARENA_MAX", "1")
            .envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .stdin(file.try_clone().map_err(failed)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| not_examined(&format!("could not start {}: {error}", self.path.display())))?;
        Running(child).answer(within)
    }
}

/// A child that is killed and waited for when this is dropped.
struct Running(Child);

impl Running {
    fn answer(mut self, within: &Deadline) -> Result<Answer, PluginError> {
        let failed = |error: io::Error| not_examined(&error.to_string());
        let output = self.0.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let said = self.0.stderr.take().map(listen).transpose().map_err(failed)?;
        let (sender, receiver) = channel();
        let read = move || {
            let mut written = Vec::new();
            let read = output.take(MAX_ANSWER_BYTES as u64 + 1).read_to_end(&mut written);
            // After the deadline the receiver is gone.
            let _ = sender.send(read.map(|_| written));
        };
        std::thread::Builder::new().name("convgroups-examiner".to_owned()).spawn(read).map_err(failed)?;
        let written = match receiver.recv_timeout(within.left()) {
            Ok(written) => written.map_err(failed)?,
            Err(RecvTimeoutError::Timeout) => return Err(within.missed()),
            Err(RecvTimeoutError::Disconnected) => return Err(failed(io::ErrorKind::BrokenPipe.into())),
        };
        if written.len() > MAX_ANSWER_BYTES {
            return Answer::read(&written).map_err(|reason| not_examined(&reason));
        }
        let status = self.ended(within)?;
        // The child has exited, so all is there, unless a child of its own keeps the pipe open.
        let said = said.and_then(|said| said.recv_timeout(within.left()).ok()).unwrap_or_default();
        if !status.success() {
            return Err(not_examined(&how(status, &said)));
        }
        Answer::read(&written).map_err(|reason| not_examined(&reason))
    }

    fn ended(&mut self, within: &Deadline) -> Result<ExitStatus, PluginError> {
        loop {
            if let Some(status) = self.0.try_wait().map_err(|error| not_examined(&error.to_string()))? {
                return Ok(status);
            }
            within.check()?;
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if the child has exited and was waited for, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the beginning of a child's standard error and discards the rest, so that the child never blocks on it.
fn listen(mut from: ChildStderr) -> io::Result<Receiver<String>> {
    let (sender, receiver) = channel();
    let listen = move || {
        let mut said = Vec::new();
        // Unreadable output is not shown, and after the deadline the receiver is gone.
        let _ = from.by_ref().take(MAX_SAID_BYTES).read_to_end(&mut said);
        let _ = io::copy(&mut from, &mut io::sink());
        let _ = sender.send(String::from_utf8_lossy(&said).into_owned());
    };
    std::thread::Builder::new().name("convgroups-examiner".to_owned()).spawn(listen)?;
    Ok(receiver)
}

/// Says how a child ended that has not answered.
fn how(status: ExitStatus, said: &str) -> String {
    let ended = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("its examiner was ended by signal {signal}{}", meaning(signal)),
        (None, Some(101)) => "its examiner panicked".to_owned(),
        (None, code) => format!("its examiner ended with exit code {}", code.unwrap_or_default()),
    };
    // Operators have no use for the hint about backtraces.
    let is_told = |line: &&str| !line.is_empty() && !line.starts_with("note: run with");
    let said: Vec<&str> = said.lines().map(str::trim).filter(is_told).collect();
    if said.is_empty() { ended } else { format!("{ended}: {}", escape::for_people(&said.join("; "), MAX_SAID_CHARS)) }
}

fn meaning(signal: i32) -> &'static str {
    use rustix::process::Signal;
    const LIMITS: [(Signal, &str); 6] = [
        (Signal::ABORT, " (it aborted: its stack or its memory was used up; sandbox.max_compile_memory_bytes)"),
        (Signal::BUS, " (memory that is not there)"),
        (Signal::KILL, " (it was killed; perhaps the machine ran out of memory)"),
        (Signal::SEGV, " (memory that it must not reach)"),
        (Signal::XCPU, " (processor time is used up; sandbox.max_compile_ms)"),
        (Signal::XFSZ, " (its output is too large; sandbox.max_plugin_bytes)"),
    ];
    LIMITS.iter().find(|(known, _)| known.as_raw() == signal).map_or("", |(_, meaning)| meaning)
}

fn not_examined(reason: &str) -> PluginError {
    PluginError::NotExaminable(reason.to_owned())
}
