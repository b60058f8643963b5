//! Plugins: what may be loaded, and why something is not.

mod bounds;
mod code;
mod contract;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub use contract::CONTRACT;
use contract::Description;

use crate::sandbox::{Compiled, NotCompiled, PluginNeeds, Sandbox};

/// The reference plugin, as a component.
#[cfg(feature = "bundled-plugin")]
pub const BUNDLED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reference.wasm"));

/// Where a plugin comes from.
#[derive(Clone, Debug)]
pub enum PluginSource {
    /// The reference plugin that is built in.
    #[cfg(feature = "bundled-plugin")]
    Bundled,
    /// A component's bytes.
    Bytes(Vec<u8>),
    /// A component in a file.
    File(PathBuf),
}

impl PluginSource {
    /// On how many threads it is compiled. What came from elsewhere may be made to take long, and leaves the other processors
    /// to the calls of other hosts in this process.
    fn compile_threads(&self) -> usize {
        match self {
            #[cfg(feature = "bundled-plugin")]
            Self::Bundled => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            Self::Bytes(_) | Self::File(_) => 1,
        }
    }

    fn read(self, max_bytes: u64) -> Result<Vec<u8>, PluginError> {
        match self {
            #[cfg(feature = "bundled-plugin")]
            Self::Bundled => Ok(BUNDLED.to_vec()),
            Self::Bytes(bytes) => check_size(bytes.len() as u64, max_bytes).map(|()| bytes),
            Self::File(path) => {
                let unreadable = |error: std::io::Error| PluginError::Unreadable(path.clone(), error.to_string());
                let file = File::open(&path).map_err(unreadable)?;
                // The size first: a file that is too large is not read at all.
                check_size(file.metadata().map_err(unreadable)?.len(), max_bytes)?;
                // Nor is one to its end that has more than it said, as devices and growing files have.
                let mut bytes = Vec::new();
                file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
                check_size(bytes.len() as u64, max_bytes).map(|()| bytes)
            }
        }
    }
}

fn check_size(bytes: u64, max: u64) -> Result<(), PluginError> {
    if bytes > max { Err(PluginError::TooLarge { bytes, max }) } else { Ok(()) }
}

/// Why a plugin cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    #[error("the plugin does not export {CONTRACT}'s interface conversation-groups; it exports {}", list(.0))]
    NoExport(Vec<String>),
    /// It is made so that it would cost too much to compile.
    #[error("the plugin would cost too much to compile: it has {0}")]
    TooExpensive(String),
    /// It took too long to compile.
    #[error("the plugin took longer than {max_ms} ms to compile (sandbox.max_compile_ms)")]
    TooSlow {
        /// The limit.
        max_ms: u64,
    },
    /// Wasmtime does not take it.
    #[error("the plugin cannot be compiled: {0}")]
    NotCompilable(String),
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
pub(crate) fn load(sandbox: &Sandbox, source: PluginSource) -> Result<Plugin, PluginError> {
    let (info, compiled) = examine(sandbox, source)?;
    match (compiled, info.problem) {
        (Some(compiled), problem) => Ok(Plugin { compiled, info: PluginInfo { problem, ..info } }),
        (None, Some(problem)) => Err(problem),
        (None, None) => Err(PluginError::NotCompilable("for no known reason".to_owned())),
    }
}

/// Tells what can be told of a plugin, whether it can be loaded or not.
pub(crate) fn inspect(sandbox: &Sandbox, source: PluginSource) -> Result<PluginInfo, PluginError> {
    examine(sandbox, source).map(|(info, _)| info)
}

fn examine(sandbox: &Sandbox, source: PluginSource) -> Result<(PluginInfo, Option<Compiled>), PluginError> {
    let threads = source.compile_threads();
    let bytes = source.read(sandbox.settings().max_plugin_bytes)?;
    let mut info = PluginInfo {
        digest: hex(&Sha256::digest(&bytes)),
        bytes: bytes.len() as u64,
        imports: Vec::new(),
        exports: Vec::new(),
        contract: None,
        needs: None,
        compile_time: Duration::ZERO,
        problem: None,
    };
    let description = match Description::of(&bytes, sandbox.settings().max_function_bytes) {
        Ok(description) => description,
        Err(problem) => return Ok((PluginInfo { problem: Some(problem), ..info }, None)),
    };
    info.imports = description.imports();
    info.exports = description.exports();
    info.contract = description.contract();
    if let Err(problem) = description.check(sandbox.wasi()) {
        return Ok((PluginInfo { problem: Some(problem), ..info }, None));
    }
    let started = Instant::now();
    let problem = match sandbox.compile(bytes, &info.digest, description.needs_wasi(), threads) {
        Ok(compiled) => {
            let needs = compiled.needs();
            return Ok((PluginInfo { needs, compile_time: started.elapsed(), ..info }, Some(compiled)));
        }
        Err(NotCompiled::Refused(reason)) => PluginError::NotCompilable(reason),
        Err(NotCompiled::TooSlow) => PluginError::TooSlow { max_ms: sandbox.settings().max_compile_ms },
    };
    Ok((PluginInfo { problem: Some(problem), ..info }, None))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
