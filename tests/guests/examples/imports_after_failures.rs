//! Goes on after the host has refused something, and asks for more; what failed has changed nothing, and the rest answers as
//! ever.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use test_guests::group_store::{
    add_conversations, create_group, evict_oldest, list_groups, page_conversations, remove_conversations, remove_group,
    rename_group,
};

test_guests::plugin!(|group, ids| {
    let failed = [
        create_group(group, ids).is_err(),
        rename_group(group, group).is_err(),
        rename_group("nowhere", "elsewhere").is_err(),
        remove_group("nowhere").is_err(),
        add_conversations("nowhere", ids).is_err(),
        remove_conversations("nowhere", ids).is_err(),
        evict_oldest("nowhere", 1).is_err(),
        page_conversations(Some("nowhere"), 0, 10).is_err(),
    ];
    let there = page_conversations(Some(group), 0, 10).map(|page| page.len());
    test_guests::answer(ids, &alloc::format!("{failed:?} {:?} {there:?}", list_groups()))
});
