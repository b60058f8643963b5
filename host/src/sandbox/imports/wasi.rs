//! WASI that leads nowhere, for plugins whose toolchain imports it.
//!
//! Everything of WASI 0.2's command world is there, over an empty context: no files, environment, arguments or network.
//! Clocks tell the time, but waiting for one returns at once: a plugin that sleeps would hold its call, and the deadline
//! cannot wake it.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::clocks::WasiClocksView as _;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::sandbox::CallState;

/// More output than this ends the call.
const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// More random bytes at once than this are refused.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// The WASI of one call.
pub(crate) struct InertWasi {
    context: WasiCtx,
    table: ResourceTable,
    output: MemoryOutputPipe,
}

impl InertWasi {
    pub(crate) fn new(max_handles: usize) -> Self {
        let output = MemoryOutputPipe::new(MAX_OUTPUT_BYTES);
        let context = WasiCtxBuilder::new()
            .stdout(output.clone())
            .stderr(output.clone())
            .max_random_size(MAX_RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(max_handles);
        Self { context, table, output }
    }

    /// What the plugin wrote to its standard output and standard error.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.contents()).into_owned()
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.as_mut().expect("a linker with WASI is only used with a state that has it");
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

/// Adds WASI to a linker.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<CallState, Clock<'static>>(linker, clock)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn clock(state: &mut CallState) -> Clock<'_> {
    Clock(state)
}

/// A monotonic clock that nobody can wait for.
struct Clock<'a>(&'a mut CallState);

impl HasData for Clock<'static> {
    type Data<'a> = Clock<'a>;
}

struct Ready;

#[wasmtime_wasi::async_trait]
impl Pollable for Ready {
    async fn ready(&mut self) {}
}

impl Clock<'_> {
    fn ready(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let table = self.0.ctx().table;
        let ready = table.push(Ready)?;
        subscribe(table, ready)
    }
}

impl monotonic_clock::Host for Clock<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        monotonic_clock::Host::now(&mut self.0.clocks())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        monotonic_clock::Host::resolution(&mut self.0.clocks())
    }

    fn subscribe_instant(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.ready()
    }

    fn subscribe_duration(&mut self, _duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.ready()
    }
}
