//! OpenAPI schemas of operations.

use utoipa::ToSchema;
use utoipa::openapi::{Ref, RefOr, Schema};

use super::Contents;
use crate::schema::{Schemas, reference};

/// The JSON form of an operation.
#[derive(Clone)]
#[non_exhaustive]
pub struct OperationSchema {
    /// Of its parameters.
    pub parameters: Ref,
    /// Whether it has parameters.
    pub has_parameters: bool,
    /// Of `data` in the result; none where the SDK has none.
    pub data: Option<RefOr<Schema>>,
    /// Whether there are marks in `data`.
    pub has_marks: bool,
    /// What these refer to.
    pub schemas: Schemas,
}

impl OperationSchema {
    /// Of an operation with these parameters.
    pub(crate) fn new<P: ToSchema, O: Contents>(parameters: &[&str]) -> Self {
        let mut schemas = Vec::new();
        Self {
            parameters: reference::<P>(&mut schemas),
            has_parameters: !parameters.is_empty(),
            data: O::schema(&mut schemas),
            has_marks: O::HAS_MARKS,
            schemas,
        }
    }
}
