//! `diagnostics`: last words.

use crate::sandbox::CallState;
use crate::sandbox::bindings::diagnostics::Host;

/// More of a message than this is cut.
const MAX_MESSAGE_BYTES: usize = 4096;

/// The plugin reported a panic; carries what it said.
#[derive(Debug, thiserror::Error)]
#[error("the plugin panicked: {0}")]
pub(crate) struct Panicked(pub(crate) String);

impl Host for CallState {
    fn panicked(&mut self, mut message: String) -> wasmtime::Result<()> {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        Err(wasmtime::Error::new(Panicked(message)))
    }
}
