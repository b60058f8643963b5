//! Panics with a message that forges lines of a log and drives a terminal.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

#[expect(clippy::panic, reason = "what this plugin is for")]
fn delete(_: &str, _: &[&str]) -> test_guests::Answer {
    panic!("{}", "forged\n\u{1b}[2J".repeat(10_000))
}

test_guests::plugin!(delete);
