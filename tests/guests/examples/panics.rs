//! Panics, with a message that belongs into the operator's log.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

#[expect(clippy::panic, reason = "what this plugin is for")]
fn delete(_: &str, _: &[&str]) -> test_guests::Answer {
    panic!("a message to find in the log")
}

test_guests::plugin!(delete);
