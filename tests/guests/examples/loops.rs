//! Never returns.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

test_guests::plugin!(|_, _| loop {
    core::hint::spin_loop();
});
