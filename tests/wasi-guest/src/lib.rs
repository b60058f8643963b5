//! A plugin that uses the standard library, and with it WASI. Asked to delete conversations from a group, it tries to
//! reach the world outside of its sandbox instead, and answers what came of it.
//!
//! On targets other than WebAssembly this crate is empty.

#[cfg(target_family = "wasm")]
mod bindings;
#[cfg(target_family = "wasm")]
mod plugin;
