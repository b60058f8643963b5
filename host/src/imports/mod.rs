//! The host's side of what plugins import: one module for each interface of the WIT contract.
//!
//! Two lanes for what goes wrong: an error that the contract names is a value for the plugin; everything else ends the
//! call, as a [`crate::store::Fault`] or as [`Panicked`].

mod diagnostics;
mod group_store;
mod mark_store;
mod settings;
#[cfg(feature = "wasi")]
pub(crate) mod wasi;

pub(crate) use diagnostics::Panicked;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings;
use crate::sandbox::CallState;

/// Puts the interfaces of the contract into a linker; nothing else can be reached through it.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    bindings::Plugin::add_to_linker::<_, HasSelf<CallState>>(linker, |state| state)
}
