//! Asks the host the same thing again and again.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

use test_guests::group_store::list_groups;

test_guests::plugin!(|_, ids| {
    while !list_groups().is_empty() {}
    test_guests::answer(ids, "nothing is left")
});
