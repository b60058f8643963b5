//! Answers as many results as ids, of a conversation that nobody asked about.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

test_guests::plugin!(|_, ids| test_guests::answer(&alloc::vec!["c2c_somebody_else"; ids.len()], ""));
