//! Asks the host for nothing, again and again.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

use test_guests::annotation_store::set_annotations;

test_guests::plugin!(|_, ids| {
    while set_annotations(&[]) == 0 {}
    test_guests::answer(ids, "something was there")
});
