//! Tries to reach what others have by the names it gives to groups; answers what came of it, each outcome once.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use test_guests::group_store::{LookupError, remove_conversations};

test_guests::plugin!(|_, ids| {
    let names = ["bob/Work", "../bob", "../bob/Work", "bob:Work", "%", "' OR ''='"];
    let outcomes = names.map(|name| match remove_conversations(name, ids) {
        Err(LookupError::NoSuchGroup) => "no such group",
        Ok(removed) if removed.contains(&true) => "removed",
        Ok(_) => "not in the group",
    });
    let distinct: Vec<&str> = BTreeSet::from(outcomes).into_iter().collect();
    test_guests::answer(ids, &distinct.join("; "))
});
