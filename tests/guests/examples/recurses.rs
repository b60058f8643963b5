//! Calls itself without end.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

/// Keeps no memory beside the call stack, so that it is this that ends. What it does with the answer of the inner call
/// keeps the compiler from making a loop of it.
fn descend(depth: u64) -> u64 {
    if depth == 0 { 1 } else { descend(depth - 1).rotate_left(7) ^ depth }
}

test_guests::plugin!(|group, ids| {
    let bottom = descend(u64::MAX - group.len() as u64);
    test_guests::answer(ids, if bottom == 0 { "even" } else { "odd" })
});
