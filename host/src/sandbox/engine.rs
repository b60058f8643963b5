//! The engine: how plugins are compiled and how their instances are laid out in memory.

use std::fmt;
use std::fs::File;
use std::hash::Hash;
use std::io::Write;
use std::time::Instant;

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy, WasmFeatures};

use super::cache::{CompileCache, Kept, TookTooLong, Turn};
use super::code;
use super::compile::{NotCompiled, on_threads};
use super::imports;
use super::run::CallState;
use super::ticker::Ticker;
use crate::sandbox::bindings::PluginPre;
use crate::settings::{SandboxSettings, Wasi};

/// Room beside the calls in flight, for an instance that is made to look at a plugin.
const SPARE_INSTANCES: u32 = 2;

/// The sandbox cannot be set up on this machine with these settings.
#[derive(Debug)]
pub struct SandboxError(Reason);

#[derive(Debug)]
enum Reason {
    Engine(wasmtime::Error),
    Ticker(std::io::Error),
}

impl fmt::Display for SandboxError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Engine(error) => write!(formatter, "could not set up wasmtime: {error:#}"),
            Reason::Ticker(error) => write!(formatter, "could not start the thread that watches deadlines: {error}"),
        }
    }
}

impl std::error::Error for SandboxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Reason::Engine(error) => Some(error.as_ref()),
            Reason::Ticker(error) => Some(error),
        }
    }
}

/// Compiles plugins, and runs them.
pub struct Sandbox {
    pub(super) engine: Engine,
    pub(super) settings: SandboxSettings,
    wasi: Wasi,
    cache: Option<CompileCache>,
    _ticker: Ticker,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sandbox").field("settings", &self.settings).field("wasi", &self.wasi).finish()
    }
}

/// A plugin that is ready to be instantiated.
pub struct Compiled {
    pub(super) pre: PluginPre<CallState>,
    pub(super) needs_wasi: bool,
    needs: Option<PluginNeeds>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Compiled").field("needs_wasi", &self.needs_wasi).field("needs", &self.needs).finish()
    }
}

/// What an instance of a plugin takes from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginNeeds {
    /// Linear memories.
    pub memories: u32,
    /// The largest of them, in bytes, before it grows.
    pub largest_memory_bytes: u64,
    /// Tables.
    pub tables: u32,
}

impl Sandbox {
    /// Sets up an engine for this many calls at once.
    pub(crate) fn new(
        settings: SandboxSettings,
        wasi: Wasi,
        max_concurrent: u32,
        cache: Option<CompileCache>,
    ) -> Result<Self, SandboxError> {
        let mut config = configuration(&settings);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(&settings, max_concurrent)));
        let engine = Engine::new(&config).map_err(|error| SandboxError(Reason::Engine(error)))?;
        let ticker =
            Ticker::start(engine.clone(), settings.deadline()).map_err(|error| SandboxError(Reason::Ticker(error)))?;
        Ok(Self { engine, settings, wasi, cache, _ticker: ticker })
    }

    /// What plugins may do with WASI.
    pub(crate) fn wasi(&self) -> Wasi {
        self.wasi
    }

    /// The limits in force.
    pub(crate) fn settings(&self) -> &SandboxSettings {
        &self.settings
    }

    /// How many compilations the cache on disk has spared this process.
    pub(crate) fn cache_hits(&self) -> usize {
        self.cache.as_ref().map_or(0, CompileCache::hits)
    }

    /// What a plugin was compiled to and the note that goes with it, from the cache or as `make` makes them. The plugin is known
    /// by the SHA-256 of its file in hex, and by what else the result depends on. Of all hosts that want the same at once, in
    /// this process and others, one makes it, and the others wait for that, at most until a moment.
    pub(crate) fn kept_or_made<E: From<NotCompiled>>(
        &self,
        digest: &str,
        depends_on: impl Hash,
        until: Instant,
        make: impl FnOnce() -> Result<(Vec<u8>, File), E>,
    ) -> Result<Kept, E> {
        let made = |made: Result<(Vec<u8>, File), E>| {
            let (note, code) = made?;
            let component = code::load(&self.engine, &code).map_err(|error| refused(&error))?;
            Ok((Kept { note, component }, code))
        };
        let Some(cache) = &self.cache else { return made(make()).map(|(kept, _)| kept) };
        let path = cache.path(&self.engine, digest, depends_on);
        if let Some(kept) = cache.get(&self.engine, &path) {
            return Ok(kept);
        }
        let too_slow = |TookTooLong| NotCompiled::TooSlow { max_ms: self.settings.max_compile_ms };
        let _turn = Turn::wait(&path, until).map_err(too_slow)?;
        if let Some(kept) = cache.get(&self.engine, &path) {
            return Ok(kept);
        }
        let (kept, code) = made(make())?;
        cache.keep(&path, &kept.note, &code);
        Ok(kept)
    }

    /// Compiles for this sandbox.
    pub(crate) fn compiler(&self) -> Compiler {
        Compiler { engine: self.engine.clone() }
    }

    /// Resolves the imports of a component.
    pub(crate) fn link(&self, component: &Component, needs_wasi: bool) -> Result<Compiled, NotCompiled> {
        link(&self.engine, component, needs_wasi).map_err(|error| refused(&error))
    }
}

/// Compiles plugins for a [`Sandbox`] with the same settings, here or in another process, and runs none. It reserves no memory
/// for instances.
pub(crate) struct Compiler {
    engine: Engine,
}

impl Compiler {
    pub(crate) fn new(settings: &SandboxSettings) -> Result<Self, NotCompiled> {
        Ok(Self { engine: Engine::new(&configuration(settings)).map_err(|error| refused(&error))? })
    }

    /// Compiles a component on `threads` threads for [`Sandbox::kept_or_made`].
    pub(crate) fn compile(&self, bytes: &[u8], threads: usize) -> Result<Vec<u8>, NotCompiled> {
        on_threads(threads, || self.engine.precompile_component(bytes)).map_err(|error| refused(&error))
    }

    /// Does with compiled code all that a sandbox does when it loads it.
    pub(crate) fn load(&self, code: &File, needs_wasi: bool) -> Result<Compiled, NotCompiled> {
        let component = code::load(&self.engine, code).map_err(|error| refused(&error))?;
        link(&self.engine, &component, needs_wasi).map_err(|error| refused(&error))
    }
}

/// Compiled code as a file in memory, which [`Sandbox::kept_or_made`] loads.
pub(crate) fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = code::memory_file()?;
    file.write_all(bytes)?;
    Ok(file)
}

fn refused(error: &wasmtime::Error) -> NotCompiled {
    NotCompiled::Refused(format!("{error:#}"))
}

fn link(engine: &Engine, component: &Component, needs_wasi: bool) -> wasmtime::Result<Compiled> {
    let needs = component.resources_required().map(|required| PluginNeeds {
        memories: required.num_memories,
        largest_memory_bytes: required.max_initial_memory_size.unwrap_or_default().saturating_mul(64 << 10),
        tables: required.num_tables,
    });
    let mut linker = Linker::new(engine);
    imports::add_to_linker(&mut linker)?;
    #[cfg(feature = "wasi")]
    if needs_wasi {
        imports::wasi::add_to_linker(&mut linker)?;
    }
    let pre = PluginPre::new(linker.instantiate_pre(component)?)?;
    Ok(Compiled { pre, needs_wasi, needs })
}

impl Compiled {
    /// What an instance takes, if that can be told without making one.
    pub(crate) fn needs(&self) -> Option<PluginNeeds> {
        self.needs
    }
}

/// What code is compiled for. How memory for instances is laid out is added for those who make instances.
fn configuration(settings: &SandboxSettings) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .max_wasm_stack(settings.max_stack_bytes)
        // Calls are plain functions on the caller's thread: no fibers, no component-level tasks.
        .concurrency_support(false)
        .wasm_component_model(true)
        // What plugins do not need is not there to be attacked.
        .wasm_features(
            WasmFeatures::THREADS
                | WasmFeatures::MEMORY64
                | WasmFeatures::GC
                | WasmFeatures::EXCEPTIONS
                | WasmFeatures::RELAXED_SIMD,
            false,
        )
        .native_unwind_info(false);
    // Memory accesses are checked in code rather than by guard pages. Setting those up and down costs two system calls for
    // each instance, which also stop all threads for a moment; short calls are several times faster without.
    config
        .signals_based_traps(false)
        .memory_init_cow(false)
        .memory_guard_size(0)
        .memory_reservation(settings.max_memory_bytes as u64)
        .memory_reservation_for_growth(0)
        .guard_before_linear_memory(false);
    config
}

fn pool(settings: &SandboxSettings, max_concurrent: u32) -> PoolingAllocationConfig {
    let instances = max_concurrent + SPARE_INSTANCES;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(settings.max_core_instances))
        .total_memories(instances.saturating_mul(settings.max_memories))
        .total_tables(instances.saturating_mul(settings.max_tables))
        .max_core_instances_per_component(settings.max_core_instances)
        .max_memories_per_component(settings.max_memories)
        .max_tables_per_component(settings.max_tables)
        .max_tables_per_module(settings.max_tables)
        .max_memories_per_module(settings.max_memories)
        .table_elements(settings.max_table_elements)
        .max_memory_size(settings.max_memory_bytes)
        .linear_memory_keep_resident(settings.keep_resident_bytes)
        .table_keep_resident(settings.keep_resident_bytes)
        .pagemap_scan(Enabled::No);
    pool
}
