//! Gives a conversation custom data of a mebibyte.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::string::ToString;

use test_guests::Annotation;
use test_guests::annotation_store::set_annotations;
use test_guests::answer;

test_guests::plugin!(|_, ids| {
    let custom_data = "x".repeat(1 << 20);
    let count = set_annotations(&[&Annotation { conversation_id: ids[0].to_string(), marks: 0, custom_data }]);
    answer(ids, &alloc::format!("{count}"))
});
