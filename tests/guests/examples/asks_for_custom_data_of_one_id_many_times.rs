//! Gives a conversation custom data, and asks for it ten thousand times in one list.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use test_guests::Annotation;
use test_guests::annotation_store::{get_annotations, set_annotations};
use test_guests::answer;

test_guests::plugin!(|_, ids| {
    let custom_data = "x".repeat(4096);
    set_annotations(&[&Annotation { conversation_id: ids[0].to_string(), marks: 0, custom_data }]);
    let data = get_annotations(&vec![ids[0]; 10_000]);
    answer(ids, &format!("{}", data.len()))
});
