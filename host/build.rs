//! Builds the reference plugin, to be embedded.

#[cfg(feature = "bundled-plugin")]
fn main() -> Result<(), String> {
    use component_build::{Artifact, build_modules, encode_component, out_dir, workspace};

    let root = workspace()?;
    for source in ["wit", "guest", "component-build", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
    for module in build_modules("convgroups-guest", Artifact::Library)? {
        let component = encode_component(&module, &[])?;
        let path = out_dir()?.join("reference.wasm");
        std::fs::write(&path, component).map_err(|error| format!("could not write {}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(not(feature = "bundled-plugin"))]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}
