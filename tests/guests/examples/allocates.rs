//! Takes memory without end, and uses it, so that it is really there.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

test_guests::plugin!(|_, _| loop {
    core::mem::forget(core::hint::black_box(alloc::vec![1_u8; 1 << 20]));
});
