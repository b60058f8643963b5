//! Runs into an instruction that traps.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

test_guests::plugin!(|_, _| core::arch::wasm32::unreachable());
