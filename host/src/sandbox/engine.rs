//! The engine: how plugins are compiled and how their instances are laid out in memory.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy, WasmFeatures};

use super::cache::CompileCache;
use super::compile::{NotCompiled, on_threads, within};
use super::run::CallState;
use super::ticker::Ticker;
use crate::bindings::PluginPre;
use crate::imports;
use crate::settings::{SandboxSettings, Wasi};

/// Room beside the calls in flight, for an instance that is made to look at a plugin.
const SPARE_INSTANCES: u32 = 2;

/// Compiles plugins, and runs them.
pub(crate) struct Sandbox {
    pub(super) engine: Engine,
    pub(super) settings: SandboxSettings,
    wasi: Wasi,
    cache: Option<Arc<CompileCache>>,
    _ticker: Ticker,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sandbox").field("settings", &self.settings).field("wasi", &self.wasi).finish()
    }
}

/// A plugin that is ready to be instantiated.
pub(crate) struct Compiled {
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
    /// Sets up an engine for so many calls at once.
    pub(crate) fn new(
        settings: SandboxSettings,
        wasi: Wasi,
        max_concurrent: u32,
        cache_dir: Option<&Path>,
    ) -> Result<Self, String> {
        let cache = cache_dir.map(CompileCache::open).transpose()?.flatten().map(Arc::new);
        let config = configuration(&settings, max_concurrent);
        let engine = Engine::new(&config).map_err(|error| format!("could not set up wasmtime: {error:#}"))?;
        let ticker = Ticker::start(engine.clone(), settings.deadline())
            .map_err(|error| format!("could not start the thread that watches deadlines: {error}"))?;
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
        self.cache.as_ref().map_or(0, |cache| cache.hits())
    }

    /// Compiles a component, known to the cache by its digest, on so many threads, or takes it from the cache; and resolves its
    /// imports.
    pub(crate) fn compile(
        &self,
        bytes: Vec<u8>,
        digest: &str,
        needs_wasi: bool,
        threads: usize,
    ) -> Result<Compiled, NotCompiled> {
        let (engine, cache, digest) = (self.engine.clone(), self.cache.clone(), digest.to_owned());
        let component = within(self.settings.compile_time(), move || {
            let compile = || on_threads(threads, || Component::from_binary(&engine, &bytes));
            let component = match cache {
                Some(cache) => cache.get_or_compile(&engine, &digest, compile),
                None => compile(),
            };
            component.map_err(|error| format!("{error:#}"))
        })?;
        self.link(&component, needs_wasi).map_err(|error| NotCompiled::Refused(format!("{error:#}")))
    }

    fn link(&self, component: &Component, needs_wasi: bool) -> wasmtime::Result<Compiled> {
        let needs = component.resources_required().map(|required| PluginNeeds {
            memories: required.num_memories,
            largest_memory_bytes: required.max_initial_memory_size.unwrap_or_default().saturating_mul(64 << 10),
            tables: required.num_tables,
        });
        let mut linker = Linker::new(&self.engine);
        imports::add_to_linker(&mut linker)?;
        #[cfg(feature = "wasi")]
        if needs_wasi {
            imports::wasi::add_to_linker(&mut linker)?;
        }
        let pre = PluginPre::new(linker.instantiate_pre(component)?)?;
        Ok(Compiled { pre, needs_wasi, needs })
    }
}

impl Compiled {
    /// What an instance takes, if that can be told without making one.
    pub(crate) fn needs(&self) -> Option<PluginNeeds> {
        self.needs
    }
}

fn configuration(settings: &SandboxSettings, max_concurrent: u32) -> Config {
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
        .native_unwind_info(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings, max_concurrent)));
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
