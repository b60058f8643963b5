//! Where plugin code runs: a fresh instance for every call, with every limit armed for that call.
//!
//! Nothing here knows how calls are admitted, committed or repeated; it runs one request against one transaction.

mod bindings;
mod cache;
mod code;
mod compile;
mod engine;
mod fault;
mod imports;
#[cfg(feature = "measure")]
mod kept;
mod limiter;
mod operation;
mod run;
mod ticker;

pub(crate) use cache::CompileCache;
pub use cache::UnusableCache;
pub(crate) use code::memory_file;
pub(crate) use compile::{NotCompiled, STACK_BYTES, within};
pub(crate) use engine::{Compiled, Compiler, Sandbox, in_memory};
pub use engine::{PluginNeeds, SandboxError};
pub use fault::{PluginFault, PluginFaultKind};
#[cfg(feature = "measure")]
pub(crate) use kept::Kept;
pub use operation::Operation;
#[cfg(feature = "measure")]
pub(crate) use run::Ran;
pub(crate) use run::{CallState, Ended};
