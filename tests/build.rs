//! Builds the plugins that misbehave and makes components of them.

use std::fmt::Write;
use std::path::Path;

use component_build::{Artifact, build_modules, encode_bytes, encode_component, out_dir, workspace};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What `tests/guests/wat/` has the rest of a plugin in.
const FRAME: &str = "plugin";

fn main() -> Result<(), String> {
    let root = workspace()?;
    for source in ["wit", "tests/guests", "tests/wasi-guest", "component-build", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
    let names = names(&root.join("tests/guests/examples"), "rs")?;
    let mut table = String::from("&[\n");
    for (name, module) in names.iter().zip(build_modules("test-guests", Artifact::Examples(&names))?) {
        add(&mut table, name, &encode_component(&module, &[])?)?;
    }
    for module in build_modules("wasi-guest", Artifact::Library)? {
        let adapter = (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
        add(&mut table, "needs_wasi", &encode_component(&module, &[adapter])?)?;
    }
    for (name, module) in modules_in_text(&root)? {
        add(&mut table, &name, &encode_bytes(&module, &[]).map_err(|error| format!("{name}: {error}"))?)?;
    }
    table.push_str("]\n");
    write(&out_dir()?.join("guests.rs"), table.as_bytes())
}

/// The files of a kind, without what says so.
fn names(directory: &Path, kind: &str) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("could not read {}: {error}", directory.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        names.extend(name.filter(|_| path.extension().is_some_and(|found| found == kind)).map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

/// The plugins in WebAssembly's text format, by name: each is one function, which is put into the same frame.
fn modules_in_text(root: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let directory = root.join("tests/guests/wat");
    let read = |name: &str| {
        let path = directory.join(format!("{name}.wat"));
        std::fs::read_to_string(&path).map_err(|error| format!("could not read {}: {error}", path.display()))
    };
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root.join("wit")).map_err(|error| format!("{error:#}"))?;
    let world = resolve.select_world(&[package], Some("plugin")).map_err(|error| format!("{error:#}"))?;

    let frame = read(FRAME)?;
    let mut modules = Vec::new();
    for name in names(&directory, "wat")?.into_iter().filter(|name| name != FRAME) {
        let attack = read(&name)?;
        let mut text = frame.replace(";; The attack.", &attack);
        if attack.contains("(export \"cabi_realloc\")") {
            text = text.replace("(export \"cabi_realloc\" (func $realloc))", "");
        }
        let failed = |error: &dyn std::fmt::Display| format!("{name}: {error:#}");
        let mut module = wat::parse_str(&text).map_err(|error| failed(&error))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(|error| failed(&error))?;
        modules.push((name, module));
    }
    Ok(modules)
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
