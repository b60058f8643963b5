//! Builds the plugins that misbehave and makes components of them.

use std::fmt::Write;
use std::path::Path;

use component_build::{Artifact, build_modules, encode_component, out_dir, workspace};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};

fn main() -> Result<(), String> {
    let root = workspace()?;
    for source in ["wit", "tests/guests", "tests/wasi-guest", "component-build", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
    let names = example_names(&root.join("tests/guests/examples"))?;
    let mut table = String::from("&[\n");
    for (name, module) in names.iter().zip(build_modules("test-guests", Artifact::Examples(&names))?) {
        add(&mut table, name, &encode_component(&module, &[])?)?;
    }
    for module in build_modules("wasi-guest", Artifact::Library)? {
        let adapter = (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
        add(&mut table, "needs_wasi", &encode_component(&module, &[adapter])?)?;
    }
    table.push_str("]\n");
    write(&out_dir()?.join("guests.rs"), table.as_bytes())
}

fn example_names(directory: &Path) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("could not read {}: {error}", directory.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        names.extend(name.filter(|_| path.extension().is_some_and(|kind| kind == "rs")).map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

/// Writes a component and a line of the table that includes it.
fn add(table: &mut String, name: &str, component: &[u8]) -> Result<(), String> {
    let path = out_dir()?.join(format!("{name}.wasm"));
    write(&path, component)?;
    // Writing to a string cannot fail.
    let _ = writeln!(table, "({name:?}, include_bytes!({path:?})),");
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|error| format!("could not write {}: {error}", path.display()))
}
