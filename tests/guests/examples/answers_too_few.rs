//! Leaves out the result of the last id.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

test_guests::plugin!(|_, ids| test_guests::answer(&ids[..ids.len() - 1], ""));
