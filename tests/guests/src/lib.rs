//! What the examples of this crate have in common. Each example is a plugin that misbehaves in one way, when it is asked
//! to delete conversations from the group "Work"; it creates, lists and changes groups as it should, so that a test has
//! something to lose. What cannot be said in Rust is in `wat/`: a function in WebAssembly's text format for each, around
//! which `wat/plugin.wat` is the rest of the plugin.
//!
//! ```ignore
//! test_guests::plugin!(|group, ids| answer(ids, "done"));
//! ```
//!
//! On targets other than WebAssembly this crate and its examples are empty.

#![cfg_attr(target_family = "wasm", no_std)]

#[cfg(target_family = "wasm")]
extern crate alloc;
#[cfg(target_family = "wasm")]
pub mod bindings;
#[cfg(target_family = "wasm")]
mod plugin;

#[cfg(target_family = "wasm")]
pub use plugin::*;
