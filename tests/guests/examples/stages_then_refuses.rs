//! Removes the ids, and then refuses to.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

test_guests::plugin!(|group, ids| {
    test_guests::stage_removal(group, ids);
    test_guests::refuse(7, "on second thoughts")
});
