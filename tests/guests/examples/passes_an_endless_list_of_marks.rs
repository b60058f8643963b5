//! Passes a list of records to the host that is longer than may cross at once.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::string::ToString;

use test_guests::annotation_store::set_annotations;
use test_guests::{Annotation, answer};

test_guests::plugin!(|_, ids| {
    let one = Annotation { conversation_id: "c2c_a".to_string(), marks: 1, custom_data: "x".to_string() };
    let count = set_annotations(&alloc::vec![&one; 300_000]);
    answer(ids, &alloc::format!("{count}"))
});
