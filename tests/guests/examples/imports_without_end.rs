//! Asks the host for nothing, again and again.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

use test_guests::mark_store::set_conversation_data;

test_guests::plugin!(|_, ids| {
    while set_conversation_data(&[]) == 0 {}
    test_guests::answer(ids, "something was there")
});
