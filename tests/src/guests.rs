//! Plugins that misbehave, as components. `tests/guests/examples/` has their sources, one file each.

use convgroups_host::PluginSource;

/// All of them, by name: those of `tests/guests/examples/`, and `needs_wasi`, which is `tests/wasi-guest/`.
pub const ALL: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// One of them.
///
/// # Panics
///
/// When there is none of that name.
#[must_use]
pub fn guest(name: &str) -> PluginSource {
    let (_, component) = ALL.iter().find(|(known, _)| *known == name).expect("a guest of this name");
    PluginSource::Bytes(component.to_vec())
}
