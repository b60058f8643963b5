//! Lets as many conversations go as there are numbers.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use test_guests::{answer, group_store};

test_guests::plugin!(|group, ids| {
    let evicted = group_store::evict_oldest(group, u32::MAX);
    answer(ids, &alloc::format!("{evicted:?}"))
});
