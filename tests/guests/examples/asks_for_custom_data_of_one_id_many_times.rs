//! Gives a conversation custom data, and asks for it ten thousand times in one list.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use test_guests::answer;
use test_guests::mark_store::{ConversationData, get_conversation_data, set_conversation_data};

test_guests::plugin!(|_, ids| {
    let custom_data = "x".repeat(4096);
    set_conversation_data(&[&ConversationData { conversation_id: ids[0].to_string(), marks: 0, custom_data }]);
    let data = get_conversation_data(&vec![ids[0]; 10_000]);
    answer(ids, &format!("{}", data.len()))
});
