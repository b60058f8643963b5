//! Remarks on each conversation with escape characters, line breaks and bidirectional controls, at length.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

use test_guests::answer;

test_guests::plugin!(|_, ids| answer(ids, &"\u{1b}\n\u{202e}".repeat(20_000)));
