//! Creates a group without a name.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use test_guests::{answer, group_store};

test_guests::plugin!(|_, ids| {
    let created = group_store::create_group("", ids);
    answer(ids, &alloc::format!("{created:?}"))
});
