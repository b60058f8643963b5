//! Refuses with the code that means success.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

test_guests::plugin!(|_, _| test_guests::refuse(0, "an error that is none"));
