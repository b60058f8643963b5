//! `types`: the errors that the contract names.

use crate::sandbox::CallState;
use crate::sandbox::bindings::types::{CreationError, Host, LookupError, RenameError};
use crate::store::TransactionError;

impl Host for CallState {
    fn convert_creation_error(&mut self, error: TransactionError) -> wasmtime::Result<CreationError> {
        match error {
            TransactionError::GroupExists => Ok(CreationError::GroupExists),
            error => Err(ends_the_call(error)),
        }
    }

    fn convert_lookup_error(&mut self, error: TransactionError) -> wasmtime::Result<LookupError> {
        match error {
            TransactionError::NoSuchGroup => Ok(LookupError::NoSuchGroup),
            error => Err(ends_the_call(error)),
        }
    }

    fn convert_rename_error(&mut self, error: TransactionError) -> wasmtime::Result<RenameError> {
        match error {
            TransactionError::NoSuchGroup => Ok(RenameError::NoSuchGroup),
            TransactionError::GroupExists => Ok(RenameError::GroupExists),
            TransactionError::Fault(fault) => Err(wasmtime::Error::new(fault)),
        }
    }
}

/// An error that a function of the contract does not have.
fn ends_the_call(error: TransactionError) -> wasmtime::Error {
    match error {
        TransactionError::Fault(fault) => wasmtime::Error::new(fault),
        error => wasmtime::Error::new(error),
    }
}
