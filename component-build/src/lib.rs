//! For build scripts: compiles a plugin crate of this workspace to `wasm32-wasip1` and wraps the result as a component.
//!
//! Cargo runs inside cargo here, with a target directory of its own, because the outer one is locked while it runs a build
//! script. That directory is shared by all build scripts of the workspace, so what plugins have in common is built once.

use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip1";
const PROFILE: &str = "plugin";

/// What to build of a package.
#[derive(Clone, Copy, Debug)]
pub enum Artifact<'a> {
    /// Its library.
    Library,
    /// All its examples, each a `cdylib`, by name.
    Examples(&'a [String]),
}

/// Builds `package` and answers the paths of the core modules, in the order asked for.
///
/// # Errors
///
/// A text for people: the target is not installed, or what the compiler said.
pub fn build_modules(package: &str, artifact: Artifact<'_>) -> Result<Vec<PathBuf>, String> {
    let target_dir = target_directory()?;
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(workspace()?)
        .args(["build", "--locked", "--package", package, "--target", TARGET, "--profile", PROFILE])
        .arg("--target-dir")
        .arg(&target_dir);
    match artifact {
        Artifact::Library => cargo.arg("--lib"),
        Artifact::Examples(_) => cargo.arg("--examples"),
    };
    // Flags and wrappers of the outer build are for another target.
    for name in
        ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(name);
    }
    let output = cargo.output().map_err(|error| format!("could not start cargo: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let advice = if said.contains("target may not be installed") {
            "\n\nInstall the target with: rustup target add wasm32-wasip1"
        } else {
            ""
        };
        return Err(format!("building {package} for {TARGET} failed:\n{said}{advice}"));
    }

    let directory = target_dir.join(TARGET).join(PROFILE);
    let modules: Vec<PathBuf> = match artifact {
        Artifact::Library => vec![directory.join(format!("{}.wasm", package.replace('-', "_")))],
        Artifact::Examples(names) => {
            names.iter().map(|name| directory.join("examples").join(format!("{name}.wasm"))).collect()
        }
    };
    Ok(modules)
}

/// Wraps a core module in a file as a component. `adapters` translate other imports of the module, as preview 1 of WASI, by the
/// name of the imported module.
///
/// # Errors
///
/// A text for people: the file cannot be read, or is no module that fits the WIT world it claims.
pub fn encode_component(module: &Path, adapters: &[(&str, &[u8])]) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(module).map_err(|error| format!("could not read {}: {error}", module.display()))?;
    encode_bytes(&bytes, adapters).map_err(|error| format!("{}: {error}", module.display()))
}

/// As [`encode_component`], of a module in memory.
///
/// # Errors
///
/// A text for people: it is no module that fits the WIT world it claims.
pub fn encode_bytes(module: &[u8], adapters: &[(&str, &[u8])]) -> Result<Vec<u8>, String> {
    let failed = |error| format!("could not make a component of it: {error:#}");
    let mut encoder = wit_component::ComponentEncoder::default().validate(true).module(module).map_err(failed)?;
    for (name, adapter) in adapters {
        encoder = encoder.adapter(name, adapter).map_err(failed)?;
    }
    encoder.encode().map_err(failed)
}

/// The directory where the calling build script puts what it makes.
///
/// # Errors
///
/// When not run by cargo as a build script.
pub fn out_dir() -> Result<PathBuf, String> {
    variable("OUT_DIR").map(PathBuf::from)
}

/// The workspace's root.
///
/// # Errors
///
/// When not run by cargo as a build script.
pub fn workspace() -> Result<PathBuf, String> {
    let here = variable("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&here).ancestors().find(|directory| directory.join("Cargo.lock").exists());
    root.map(Path::to_owned).ok_or_else(|| format!("no Cargo.lock above {here}"))
}

/// Beside the outer build's directories, so that `cargo clean` removes it too: `OUT_DIR` is
/// `<target>/<profile>/build/<package>/out`.
fn target_directory() -> Result<PathBuf, String> {
    let out = out_dir()?;
    let target = out.ancestors().nth(4).ok_or_else(|| format!("unexpected OUT_DIR: {}", out.display()))?;
    Ok(target.join("plugins"))
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: this must be called from a build script"))
}
