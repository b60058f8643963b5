//! Sizes the plugin's stack. A fresh instance zeroes what it may touch, so that a small one starts faster; the rules need
//! a few kilobytes.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo:rustc-link-arg-cdylib=-zstack-size=16384");
        // `memcmp` and its like: on this target they live in the C library, which only `std` would link.
        println!("cargo:rustc-link-arg-cdylib=-lc");
    }
}
