//! Removes the ids, and then never returns.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

test_guests::plugin!(|group, ids| {
    test_guests::stage_removal(group, ids);
    loop {
        core::hint::spin_loop();
    }
});
