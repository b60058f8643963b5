//! Plugins that misbehave, as components. `tests/guests/examples/` and `tests/guests/wat/` have their sources, one file each.

use convgroups_host::{Examiner, PluginSource};

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

/// The program `convgroups-examiner` of this package, which examines plugins in a child process.
///
/// # Panics
///
/// When it was not built, which Cargo does together with tests and benchmarks of this package.
#[must_use]
pub fn examiner() -> Examiner {
    let test = std::env::current_exe().expect("the system tells which program this is");
    let directory = test.parent().and_then(std::path::Path::parent).expect("a test lies in target/PROFILE/deps");
    let path = directory.join("convgroups-examiner");
    assert!(path.exists(), "{} is not there", path.display());
    Examiner::Program { path, arguments: Vec::new() }
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
