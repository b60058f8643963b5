//! Refuses with a mebibyte of escape characters as the reason.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

use test_guests::refuse;

test_guests::plugin!(|_, _| refuse(7, &"\u{1b}".repeat(1 << 20)));
