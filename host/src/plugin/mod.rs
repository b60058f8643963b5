//! Plugins: what may be loaded, and why something is not.

mod child;
mod contract;
mod examine;
mod source;

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use child::Examiner;
use child::{Found, Program};
pub use contract::CONTRACT;
use contract::{Description, WIT};
use examine::Examined;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use examine::examiner_answer;
pub use examine::examiner_main;
use serde::{Deserialize, Serialize};
pub use source::PluginSource;
use source::{Component, Deadline};

use crate::escape::for_people;
use crate::sandbox::{Compiled, PluginNeeds, Sandbox, in_memory, within};

/// The reference plugin, as a component.
#[cfg(feature = "bundled-plugin")]
pub const BUNDLED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reference.wasm"));

/// How many names or lines from a plugin's file people are shown, and the most characters of each, and of a reason.
const MAX_NAMES: usize = 100;
const MAX_NAME_CHARS: usize = 200;
const MAX_REASON_CHARS: usize = 2000;

/// Why a plugin cannot be loaded. What the plugin's file says is escaped and cut (see [`crate::escape`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// Its file cannot be read.
    #[error("could not read the plugin {}: {}", .0.display(), .1)]
    Unreadable(PathBuf, String),
    /// Its file is too large.
    #[error("the plugin has {bytes} bytes, at most {max} are allowed (sandbox.max_plugin_bytes)")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// It is something else than a component.
    #[error("the plugin is not a WebAssembly component: {0}")]
    NotAComponent(String),
    /// It wants more than a plugin gets.
    #[error(
        "the plugin imports what no plugin gets: {}. Only the interfaces of {CONTRACT} can be imported{}",
        .imports.join(", "),
        if *.wasi_would_do { "; the setting wasi = \"inert\" admits the wasi: ones, with nothing behind them" } else { "" }
    )]
    ForeignImports {
        /// The offending imports.
        imports: Vec<String>,
        /// Whether inert WASI would satisfy them.
        wasi_would_do: bool,
    },
    /// It was built for a contract that is not this host's.
    #[error("the plugin is built for {plugin}, this host speaks {CONTRACT}. The difference:\n{difference}")]
    OtherContract {
        /// The contract it was built for.
        plugin: String,
        /// Item by item: `-` the plugin's, `+` the host's.
        difference: String,
    },
    /// It does not provide the operations.
    #[error("the plugin does not export {CONTRACT}'s interface operations; it exports {}", list(.0))]
    NoExport(Vec<String>),
    /// The process that examines it crashed, was killed or could not be started.
    #[error("the plugin could not be examined: {0}")]
    NotExaminable(String),
    /// Its compiled code or description is too large.
    #[error("the plugin costs too much to load: {0}")]
    TooCostly(String),
    /// It took too long to read, check and compile.
    #[error("the plugin took longer than {max_ms} ms to read, check and compile (sandbox.max_compile_ms)")]
    TooSlow {
        /// The limit.
        max_ms: u64,
    },
    /// Wasmtime does not take it.
    #[error("the plugin cannot be compiled: {0}")]
    NotCompilable(String),
}

impl PluginError {
    /// The same problem, with what the plugin's file says escaped and cut.
    fn for_people(self) -> Self {
        match self {
            Self::NotAComponent(reason) => Self::NotAComponent(for_people(&reason, MAX_REASON_CHARS)),
            Self::ForeignImports { imports, wasi_would_do } => {
                Self::ForeignImports { imports: names_for_people(&imports), wasi_would_do }
            }
            Self::OtherContract { plugin, difference } => {
                let lines: Vec<String> = difference.lines().map(str::to_owned).collect();
                let difference = names_for_people(&lines).join("\n");
                Self::OtherContract { plugin: for_people(&plugin, MAX_NAME_CHARS), difference }
            }
            Self::NoExport(exports) => Self::NoExport(names_for_people(&exports)),
            Self::NotExaminable(reason) => Self::NotExaminable(for_people(&reason, MAX_REASON_CHARS)),
            Self::TooCostly(reason) => Self::TooCostly(for_people(&reason, MAX_REASON_CHARS)),
            Self::NotCompilable(reason) => Self::NotCompilable(for_people(&reason, MAX_REASON_CHARS)),
            // A path is the operator's own word.
            problem @ (Self::Unreadable(..) | Self::TooLarge { .. } | Self::TooSlow { .. }) => problem,
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// What can be told of a plugin.
#[derive(Clone, Debug)]
pub struct PluginInfo {
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// Size of the file, in bytes.
    pub bytes: u64,
    /// Interfaces that it imports.
    pub imports: Vec<String>,
    /// Interfaces that it exports.
    pub exports: Vec<String>,
    /// The contract that it was built for, if it is one of ours: `im:conversation-groups@VERSION`.
    pub contract: Option<String>,
    /// What an instance takes from the start; known when the plugin can be loaded.
    pub needs: Option<PluginNeeds>,
    /// How long it took to compile, or to take from the cache.
    pub compile_time: Duration,
    /// Why it cannot be loaded, if so.
    pub problem: Option<PluginError>,
}

/// A plugin that is ready for calls.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) compiled: Compiled,
    pub(crate) info: PluginInfo,
}

/// Checks and compiles a plugin.
pub(crate) fn load(sandbox: &Sandbox, source: &PluginSource, examiner: &Examiner) -> Result<Plugin, PluginError> {
    let (info, compiled) = examine(sandbox, source, examiner)?;
    match (compiled, info.problem) {
        (Some(compiled), problem) => Ok(Plugin { compiled, info: PluginInfo { problem, ..info } }),
        (None, Some(problem)) => Err(problem),
        (None, None) => Err(PluginError::NotCompilable("for no known reason".to_owned())),
    }
}

/// Tells what can be told of a plugin, whether it can be loaded or not.
pub(crate) fn inspect(
    sandbox: &Sandbox,
    source: &PluginSource,
    examiner: &Examiner,
) -> Result<PluginInfo, PluginError> {
    examine(sandbox, source, examiner).map(|(info, _)| info)
}

fn examine(
    sandbox: &Sandbox,
    source: &PluginSource,
    examiner: &Examiner,
) -> Result<(PluginInfo, Option<Compiled>), PluginError> {
    let deadline = Deadline::after(sandbox.settings().max_compile_ms);
    let component = source.read(sandbox.settings().max_plugin_bytes, &deadline)?;
    let mut info = PluginInfo {
        digest: component.digest.clone(),
        bytes: component.bytes,
        imports: Vec::new(),
        exports: Vec::new(),
        contract: None,
        needs: None,
        compile_time: Duration::ZERO,
        problem: None,
    };
    let started = Instant::now();
    let mut described = None;
    // Another contract or other settings may make something else of the same file.
    let depends_on = (WIT, sandbox.wasi());
    let compiled: Result<Compiled, PluginError> = sandbox
        .kept_or_made(&component.digest.clone(), depends_on, deadline.at, || {
            let (description, code) = make(sandbox, source, examiner, component, &deadline)?;
            let note = description.as_ref().map(serde_json::to_vec).transpose();
            described = description;
            let unwritten = |error: serde_json::Error| PluginError::NotExaminable(error.to_string());
            Ok((note.map_err(unwritten)?.unwrap_or_default(), code?))
        })
        .and_then(|kept| {
            let unread = |error: serde_json::Error| PluginError::NotExaminable(error.to_string());
            let description: Description = serde_json::from_slice(&kept.note).map_err(unread)?;
            let needs_wasi = description.needs_wasi();
            described = Some(description);
            Ok(sandbox.link(&kept.component, needs_wasi)?)
        });
    if let Some(Description { imports, exports, contract }) = described {
        let contract = contract.map(|contract| for_people(&contract, MAX_NAME_CHARS));
        info =
            PluginInfo { imports: names_for_people(&imports), exports: names_for_people(&exports), contract, ..info };
    }
    Ok(match compiled {
        Ok(compiled) => {
            let needs = compiled.needs();
            (PluginInfo { needs, compile_time: started.elapsed(), ..info }, Some(compiled))
        }
        Err(problem) => (PluginInfo { problem: Some(problem.for_people()), ..info }, None),
    })
}

/// Names that a plugin's file chose, escaped and cut, and the first of them if there are very many.
fn names_for_people(names: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = names.iter().take(MAX_NAMES).map(|name| for_people(name, MAX_NAME_CHARS)).collect();
    if let Some(more) = names.len().checked_sub(MAX_NAMES).filter(|more| *more > 0) {
        shown.push(format!("… and {more} more"));
    }
    shown
}

/// A plugin's description, and a file with its compiled code or the problem.
type Made = (Option<Description>, Result<File, PluginError>);

fn make(
    sandbox: &Sandbox,
    source: &PluginSource,
    examiner: &Examiner,
    component: Component,
    deadline: &Deadline,
) -> Result<Made, PluginError> {
    match examiner {
        Examiner::Program { path, arguments } if !source.is_trusted() => {
            let program = Program { path, arguments, sandbox: sandbox.settings(), wasi: sandbox.wasi() };
            let Found { description, problem } = program.examine(&component, deadline)?;
            // Checked again here, because this process provides the imports.
            let problem = problem.or_else(|| description.as_ref()?.check_imports(sandbox.wasi()).err());
            Ok((description, problem.map_or(Ok(component.file), Err)))
        }
        Examiner::Program { .. } | Examiner::InProcess => {
            let unreadable = |error: std::io::Error| PluginError::NotExaminable(error.to_string());
            let bytes = component.read_all().map_err(unreadable)?;
            let (compiler, wasi, threads) = (sandbox.compiler(), sandbox.wasi(), threads(source));
            let Examined { description, code } = within(deadline.left(), move || {
                Ok::<_, PluginError>(examine::examine(&compiler, &bytes, wasi, threads))
            })
            .map_err(|error| match error {
                PluginError::TooSlow { .. } => deadline.missed(),
                error => error,
            })?;
            Ok((description, code.and_then(|code| in_memory(&code).map_err(unreadable))))
        }
    }
}

/// Returns the number of threads for compiling a plugin in this process. Untrusted plugins may compile slowly, and leave the other
/// processors to calls.
fn threads(source: &PluginSource) -> usize {
    if source.is_trusted() { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) } else { 1 }
}
