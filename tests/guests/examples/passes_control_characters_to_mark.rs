//! Marks a conversation whose id would clear the terminal of whoever prints it, beside one that is in order.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::string::{String, ToString};

use test_guests::Annotation;
use test_guests::annotation_store::set_annotations;
use test_guests::answer;

test_guests::plugin!(|_, ids| {
    let marked = |id: &str| Annotation { conversation_id: id.to_string(), marks: 1, custom_data: String::new() };
    let count = set_annotations(&[&marked(ids[0]), &marked("c2c_\u{1b}[2J")]);
    answer(ids, &alloc::format!("{count}"))
});
