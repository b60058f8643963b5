//! Gives conversation after conversation as much custom data as the store takes.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::format;
use alloc::vec::Vec;

use test_guests::answer;
use test_guests::mark_store::{ConversationData, set_conversation_data};

test_guests::plugin!(|_, ids| {
    let custom_data = "x".repeat(4096);
    for batch in 0..20 {
        let note = |number: u32| ConversationData {
            conversation_id: format!("c2c_{batch}_{number}"),
            marks: 0,
            custom_data: custom_data.clone(),
        };
        let data: Vec<ConversationData> = (0..400).map(note).collect();
        set_conversation_data(&data.iter().collect::<Vec<_>>());
    }
    answer(ids, "")
});
