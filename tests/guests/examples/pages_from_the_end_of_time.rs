//! Asks for all that comes after the last possible place: of the group, and of all groups. Nothing does.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use test_guests::{answer, group_store};

test_guests::plugin!(|group, ids| {
    let pages = [Some(group), None].map(|group| group_store::page_conversations(group, u64::MAX, u32::MAX));
    answer(ids, &alloc::format!("{pages:?}"))
});
