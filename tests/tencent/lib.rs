//! Nothing: the test in `tests/client.rs` is all.
