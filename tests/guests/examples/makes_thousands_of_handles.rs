//! Makes thousands of handles to resources of its own, and gives none back.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

test_guests::bindings! {
    inline: "
        package other:thing@1.0.0;
        interface things { resource thing { constructor(); } }
        world hoard { export things; }
    ",
}

use bindings::exports::other::thing::things;

struct Things;

impl things::Guest for Things {
    type Thing = Nothing;
}

struct Nothing;

impl things::GuestThing for Nothing {
    fn new() -> Self {
        Self
    }
}

bindings::export!(Things with_types_in bindings);

test_guests::plugin!(|_, ids| {
    let hoard: alloc::vec::Vec<things::Thing> = (0..5000).map(|_| things::Thing::new(Nothing)).collect();
    test_guests::answer(ids, &alloc::format!("{} handles", hoard.len()))
});
