//! Calls itself without end, and the host at every depth, so that the host runs with ever less stack.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

use test_guests::annotation_store::set_annotations;

/// What it does with the answer of the inner call keeps the compiler from making a loop of it.
fn descend(depth: u64) -> u64 {
    let marked = u64::from(set_annotations(&[]));
    if depth == 0 { marked } else { descend(depth - 1).rotate_left(7) ^ depth ^ marked }
}

test_guests::plugin!(|group, ids| {
    let bottom = descend(u64::MAX - group.len() as u64);
    test_guests::answer(ids, if bottom == 0 { "even" } else { "odd" })
});
