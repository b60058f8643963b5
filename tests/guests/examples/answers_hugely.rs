//! Answers more bytes than may cross to the host at once, though it has the memory.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

test_guests::plugin!(|_, ids| test_guests::answer(ids, &"x".repeat((5 << 20) / ids.len())));
