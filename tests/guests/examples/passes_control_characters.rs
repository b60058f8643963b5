//! Passes a conversation id that would clear the terminal of whoever prints it.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use test_guests::{answer, group_store};

test_guests::plugin!(|group, ids| {
    let added = group_store::add_conversations(group, &["c2c_\u{1b}[2J"]);
    answer(ids, &alloc::format!("{added:?}"))
});
