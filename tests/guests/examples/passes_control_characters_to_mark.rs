//! Marks a conversation whose id would clear the terminal of whoever prints it, beside one that is in order.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::string::{String, ToString};

use test_guests::answer;
use test_guests::mark_store::{ConversationData, set_conversation_data};

test_guests::plugin!(|_, ids| {
    let marked = |id: &str| ConversationData { conversation_id: id.to_string(), marks: 1, custom_data: String::new() };
    let count = set_conversation_data(&[&marked(ids[0]), &marked("c2c_\u{1b}[2J")]);
    answer(ids, &alloc::format!("{count}"))
});
