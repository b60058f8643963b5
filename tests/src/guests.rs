//! Plugins that misbehave, as components. `tests/guests/examples/` and `tests/guests/wat/` have their sources, one file each.

use convgroups_host::PluginSource;

/// All of them, by name: those of `tests/guests/`, and `needs_wasi`, which is `tests/wasi-guest/`.
pub const ALL: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// One of them.
///
/// # Panics
///
/// When there is none of that name.
#[must_use]
pub fn guest(name: &str) -> PluginSource {
    PluginSource::Bytes(component(name).to_vec())
}

/// The file of one of them.
///
/// # Panics
///
/// When there is none of that name.
#[must_use]
pub fn component(name: &str) -> &'static [u8] {
    ALL.iter().find(|(known, _)| *known == name).expect("a guest of this name").1
}
