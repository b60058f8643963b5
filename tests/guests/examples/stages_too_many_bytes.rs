//! Gives conversation after conversation as much custom data as the store takes.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::format;

use test_guests::answer;
use test_guests::mark_store::{ConversationData, set_conversation_data};

test_guests::plugin!(|_, ids| {
    let custom_data = "x".repeat(4096);
    for number in 0..9_000 {
        let conversation_id = format!("c2c_{number}");
        set_conversation_data(&[&ConversationData { conversation_id, marks: 0, custom_data: custom_data.clone() }]);
    }
    answer(ids, "")
});
