//! Is built for a later version of the contract, with another signature, and exports nothing else.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

test_guests::bindings! {
    inline: "
        package im:conversation-groups@0.2.0;
        interface operations {
            delete-conversations-from-group: func(
                group-name: string, conversation-ids: list<string>, force: bool,
            ) -> list<bool>;
        }
        world plugin { export operations; }
    ",
}

struct Plugin;

impl bindings::exports::im::conversation_groups::operations::Guest for Plugin {
    fn delete_conversations_from_group(_: String, ids: Vec<String>, force: bool) -> Vec<bool> {
        alloc::vec![force; ids.len()]
    }
}

bindings::export!(Plugin with_types_in bindings);
test_guests::panic_in_silence!();
