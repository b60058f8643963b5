//! Creates empty groups without end: each change is small, and makes the next one more work for the host.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::format;

use test_guests::group_store::create_group;

test_guests::plugin!(|_, ids| {
    let refused = (0_u32..).find(|number| create_group(&format!("fresh {number}"), &[]).is_err());
    test_guests::answer(ids, &format!("{refused:?}"))
});
