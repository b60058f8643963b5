//! The reference plugin: every rule of conversation groups and marks, on top of the stores and limits that its host gives it.
//!
//! [`Rules`] is plain code over the traits [`GroupStore`], [`AnnotationStore`] and [`Limits`], so that it runs natively too. On
//! `wasm32-wasip1` the crate is a plugin: the private module `plugin` puts the rules behind the exports of the WIT world
//! and the traits in front of its imports. It needs no WASI, no standard library and no memory beyond a few pages.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

pub mod bindings;
mod ids;
mod listing;
mod marks;
mod names;
mod ports;
mod rules;

#[cfg(target_family = "wasm")]
mod heap;
#[cfg(target_family = "wasm")]
mod plugin;

pub use ports::{AnnotationStore, GroupStore, Limits};
pub use rules::{Rules, code, remark};
