//! Counts its calls, and answers the count: always 1, for no instance sees a second call.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::string::ToString;
use core::sync::atomic::{AtomicU32, Ordering};

static CALLS: AtomicU32 = AtomicU32::new(0);

test_guests::plugin!(|_, ids| {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    test_guests::answer(ids, &calls.to_string())
});
