//! Never returns, and spends its time inside single instructions that take long.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

test_guests::plugin!(|_, _| {
    let mut block = alloc::vec![0_u8; 8 << 20];
    loop {
        core::hint::black_box(&mut block).fill(1);
    }
});
