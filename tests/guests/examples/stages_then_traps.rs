//! Removes the ids, and then traps.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

test_guests::plugin!(|group, ids| {
    test_guests::stage_removal(group, ids);
    core::arch::wasm32::unreachable()
});
