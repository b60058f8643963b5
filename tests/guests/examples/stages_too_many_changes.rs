//! Creates groups without end, large ones, so that it comes to many changes in little time.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use test_guests::group_store::create_group;

test_guests::plugin!(|_, ids| {
    let members: Vec<String> = (0..500).map(|member| format!("c2c_{member}")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let refused = (0_u32..).find(|number| create_group(&format!("fresh {number}"), &members).is_err());
    test_guests::answer(ids, &format!("{refused:?}"))
});
