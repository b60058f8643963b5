//! Removes the ids, and then panics.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

#[expect(clippy::panic, reason = "what this plugin is for")]
fn delete(group: &str, ids: &[&str]) -> test_guests::Answer {
    test_guests::stage_removal(group, ids);
    panic!("after the change")
}

test_guests::plugin!(delete);
