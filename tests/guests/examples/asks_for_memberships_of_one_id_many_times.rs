//! Asks a thousand times in one list for the groups that hold one conversation.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::format;
use alloc::vec;

use test_guests::{answer, group_store};

test_guests::plugin!(|_, ids| {
    let memberships = group_store::memberships(&vec![ids[0]; 1000]);
    answer(ids, &format!("{}", memberships.len()))
});
