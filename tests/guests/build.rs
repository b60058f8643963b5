//! Linking, as in the reference plugin: a small stack, and `memcmp` and its like out of the C library, which only `std`
//! would link. Without naming a kind of target: for cargo, an example that is a `cdylib` is neither an example nor a
//! `cdylib` when it comes to link arguments.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo:rustc-link-arg=-zstack-size=16384");
        println!("cargo:rustc-link-arg=-lc");
    }
}
