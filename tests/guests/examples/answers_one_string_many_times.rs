//! Answers a thousand results that share one string: a gigabyte, once the host has copied each.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::string::String;

use test_guests::ConversationOperationResult;

test_guests::plugin!(|_, _| {
    let text = String::leak("x".repeat(1 << 20));
    let result = |_| ConversationOperationResult {
        conversation_id: String::new(),
        result_code: 0,
        #[allow(unsafe_code, reason = "only so can strings share their bytes; a plugin in C would just do it")]
        // SAFETY: the bytes are a whole allocation, and nobody writes to them. They are never freed: the host only reads
        // the answer, and ends the call instead of asking for it to be dropped.
        result_info: unsafe { String::from_raw_parts(text.as_ptr().cast_mut(), text.len(), text.len()) },
    };
    Ok((0..1000).map(result).collect())
});
