//! Passes a list to the host that is longer than may cross at once.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use test_guests::{answer, group_store};

test_guests::plugin!(|group, ids| {
    let removed = group_store::remove_conversations(group, &alloc::vec!["c2c_a"; 1_000_000]);
    answer(ids, &alloc::format!("{removed:?}"))
});
