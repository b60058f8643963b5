//! Decoding, checking and compiling a plugin's file, as a process of its own does it for a host.
//!
//! Decoders and compilers take what the standards allow. A file of a few bytes can make them panic or overflow the stack, one
//! of kilobytes can make them take gigabytes or hours. Counting what a file has beforehand does not bound that, so the process
//! sets limits for itself that the system enforces, before it looks at the file.
//!
//! The plugin is standard input, a regular file without a name. The compiled code replaces it in that file, which the host maps,
//! so that the host never has a copy in its own memory. The answer is JSON on standard output.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::PluginError;
use super::contract::{Decoded, Description};
use super::source::read_from_start;
use crate::sandbox::{Compiler, NotCompiled, STACK_BYTES};
use crate::settings::{SandboxSettings, Wasi};

/// Size of an answer. A plugin that could be loaded has far shorter names.
pub(super) const MAX_ANSWER_BYTES: usize = 256 << 10;
/// Memory of the host that loading a compiled plugin may take. Machine code takes none before it runs; the tables beside it do, and
/// a hostile file can make them large. No setting: plugins that compilers make take a few hundred kilobytes.
const MAX_LOADED_BYTES: u64 = 40 << 20;
/// Compiled code of a plugin may be twice as large as its file, or this. Where memory is checked in code, JavaScript's engines
/// become three times as large as they are.
const MAX_CODE_BYTES: u64 = 64 << 20;
/// The exit code of a process that panics, in Rust.
const PANICKED: u8 = 101;

/// What the process does with its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Step {
    /// Decode, check and compile a component.
    Compile,
    /// Load what it was compiled to, and tell what that takes.
    Load,
}

/// The request to the process: its last argument.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) step: Step,
    pub(super) sandbox: SandboxSettings,
    pub(super) wasi: Wasi,
}

/// The answer of the process.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// The plugin's description, if it could be decoded.
    pub(super) description: Option<Description>,
    /// Why it cannot be loaded.
    pub(super) problem: Option<PluginError>,
    /// Size of the compiled code.
    pub(super) code_bytes: u64,
}

impl Answer {
    /// Parses what a process has written, which may be anything.
    pub(super) fn read(written: &[u8]) -> Result<Self, String> {
        if written.len() > MAX_ANSWER_BYTES {
            return Err(format!("its answer is longer than {MAX_ANSWER_BYTES} bytes"));
        }
        serde_json::from_slice(written).map_err(|error| format!("its answer cannot be read: {error}"))
    }

    fn written(&self) -> Vec<u8> {
        // Strings and numbers only, which have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn problem(problem: PluginError) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }
}

/// Reads what a child process has written: what it says is wrong, and the answer written again.
///
/// # Errors
///
/// Why the answer is invalid.
#[cfg(feature = "fuzzing")]
pub fn examiner_answer(written: &[u8]) -> Result<(Option<String>, Vec<u8>), String> {
    let answer = Answer::read(written)?;
    Ok((answer.problem.as_ref().map(ToString::to_string), answer.written()))
}

/// Returns the largest size of compiled code.
pub(super) fn max_code_bytes(settings: &SandboxSettings) -> u64 {
    settings.max_plugin_bytes.saturating_mul(2).max(MAX_CODE_BYTES)
}

/// A component's description, and its compiled code or the problem.
pub(super) struct Examined {
    pub(super) description: Option<Description>,
    pub(super) code: Result<Vec<u8>, PluginError>,
}

/// Decodes, checks and compiles a component, in this process.
pub(super) fn examine(compiler: &Compiler, bytes: &[u8], wasi: Wasi, threads: usize) -> Examined {
    let decoded = match Decoded::of(bytes) {
        Ok(decoded) => decoded,
        Err(problem) => return Examined { description: None, code: Err(problem) },
    };
    let description = decoded.description();
    let checked = description.check_imports(wasi).and_then(|()| decoded.check_contract());
    // Decoded types may take as much memory as the compiler needs.
    drop(decoded);
    let code = checked.and_then(|()| Ok(compiler.compile(bytes, threads)?));
    Examined { description: Some(description), code }
}

/// Examines a plugin for a host: the whole of a program that [`Examiner::Program`](super::Examiner) names.
///
/// Returns what the program is to exit with. Does nothing of use when a person starts it.
#[must_use]
pub fn examiner_main() -> ExitCode {
    let argument = std::env::args_os().next_back().unwrap_or_default();
    let request: Request = match serde_json::from_slice(argument.as_encoded_bytes()) {
        Ok(request) => request,
        Err(error) => return fails(&format!("this is for hosts to start, not for people: {error}")),
    };
    if let Err(error) = confine(&request) {
        return fails(&format!("the limits for examining plugins cannot be set: {error}"));
    }
    let work = move || match io::stdin().as_fd().try_clone_to_owned() {
        Ok(input) => respond(&request, &File::from(input)).unwrap_or_else(|error| failed(&error)),
        Err(error) => failed(&error),
    };
    let thread = std::thread::Builder::new().name("examiner".to_owned()).stack_size(STACK_BYTES).spawn(work);
    let answer = match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(answer)) => answer,
        // The panic's message is on standard error.
        Ok(Err(_)) => return ExitCode::from(PANICKED),
        Err(error) => failed(&error),
    };
    let mut written = answer.written();
    if written.len() > MAX_ANSWER_BYTES {
        let reason =
            format!("it describes itself with {} bytes, at most {MAX_ANSWER_BYTES} are allowed", written.len());
        written = Answer::problem(PluginError::TooCostly(reason)).written();
    }
    let mut output = io::stdout().lock();
    match output.write_all(&written).and_then(|()| output.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fails(&format!("the answer cannot be written: {error}")),
    }
}

fn fails(message: &str) -> ExitCode {
    // Nothing can be done if it cannot be written.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::FAILURE
}

fn failed(error: &io::Error) -> Answer {
    Answer::problem(PluginError::NotExaminable(error.to_string()))
}

fn respond(request: &Request, file: &File) -> io::Result<Answer> {
    let compiler = match Compiler::new(&request.sandbox) {
        Ok(compiler) => compiler,
        Err(error) => return Ok(Answer::problem(error.into())),
    };
    match request.step {
        Step::Compile => compile(&compiler, request, file),
        Step::Load => load(&compiler, request.wasi, file),
    }
}

fn compile(compiler: &Compiler, request: &Request, mut file: &File) -> io::Result<Answer> {
    let bytes = read_from_start(file)?;
    let Examined { description, code } = examine(compiler, &bytes, request.wasi, 1);
    let max = max_code_bytes(&request.sandbox);
    let code = code.and_then(|code| {
        let reason =
            format!("it is compiled to {} bytes, at most {max} are allowed (sandbox.max_plugin_bytes)", code.len());
        if code.len() as u64 > max { Err(PluginError::TooCostly(reason)) } else { Ok(code) }
    });
    let code = match code {
        Ok(code) => code,
        Err(problem) => return Ok(Answer { description, problem: Some(problem), code_bytes: 0 }),
    };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&code)?;
    Ok(Answer { description, problem: None, code_bytes: code.len() as u64 })
}

/// Loads compiled code as a host does, and measures the memory that this takes.
fn load(compiler: &Compiler, wasi: Wasi, file: &File) -> io::Result<Answer> {
    let before = memory("VmRSS:")?;
    let loaded = compiler.load(file, wasi == Wasi::Inert);
    let taken = memory("VmHWM:")?.saturating_sub(before);
    Ok(match loaded {
        Err(problem) => Answer::problem(problem.into()),
        Ok(_) if taken > MAX_LOADED_BYTES => {
            let reason = format!(
                "loading it takes {taken} bytes of memory, at most {MAX_LOADED_BYTES} are allowed; make its tables and lists of elements smaller"
            );
            Answer::problem(PluginError::TooCostly(reason))
        }
        Ok(_) => Answer::default(),
    })
}

/// Reads a figure of this process's memory, in bytes.
#[cfg(target_os = "linux")]
fn memory(name: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes
        .map(|kibibytes| kibibytes << 10)
        .ok_or_else(|| io::Error::other(format!("/proc/self/status has no {name}")))
}

/// Other systems have no such figure: loading is bounded by the address space alone.
#[cfg(not(target_os = "linux"))]
fn memory(_: &str) -> io::Result<u64> {
    Ok(0)
}

/// Sets the limits of this process, for good.
fn confine(request: &Request) -> io::Result<()> {
    let SandboxSettings { max_compile_ms, max_compile_memory_bytes, .. } = request.sandbox;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
        // When memory runs out, the kernel should kill this process and not the host. If the kernel refuses, the process goes on.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Programs that collect core files ignore RLIMIT_CORE.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    let file_bytes = match request.step {
        Step::Compile => max_code_bytes(&request.sandbox),
        Step::Load => 0,
    };
    // The host kills this process by the clock; this limit works also if the host cannot.
    let seconds = max_compile_ms.div_ceil(1000).saturating_add(1);
    for (resource, soft, hard) in [
        (Resource::As, max_compile_memory_bytes, max_compile_memory_bytes),
        // The soft limit has a signal of its own, which says what happened.
        (Resource::Cpu, seconds, seconds.saturating_add(1)),
        (Resource::Core, 0, 0),
        (Resource::Fsize, file_bytes, file_bytes),
    ] {
        // A limit that is lower already stays.
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        setrlimit(resource, Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) })?;
    }
    Ok(())
}

impl From<NotCompiled> for PluginError {
    fn from(error: NotCompiled) -> Self {
        match error {
            NotCompiled::Refused(reason) => Self::NotCompilable(reason),
            NotCompiled::TooSlow { max_ms } => Self::TooSlow { max_ms },
        }
    }
}
