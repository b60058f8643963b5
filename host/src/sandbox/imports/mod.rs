//! The host's side of what plugins import: one module for each interface of the WIT contract.
//!
//! An error that the contract names is a value for the plugin. Everything else ends the
//! call, as a [`crate::store::Fault`] or as [`Panicked`].

mod annotation_store;
mod diagnostics;
mod group_store;
mod limits;
mod types;
#[cfg(feature = "wasi")]
pub(super) mod wasi;

pub(super) use diagnostics::Panicked;
use wasmtime::component::{HasSelf, Linker};

use super::CallState;
use super::bindings;

/// Puts the interfaces of the contract into a linker; nothing else can be reached through it.
pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    bindings::Plugin::add_to_linker::<_, HasSelf<CallState>>(linker, |state| state)
}

/// IDs as a transaction takes them.
fn borrowed(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}
