//! Never returns, and spends its time inside single instructions that move much memory.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

test_guests::plugin!(|_, _| {
    let mut block = alloc::vec![1_u8; 8 << 20];
    loop {
        core::hint::black_box(&mut block).copy_within(1.., 0);
    }
});
