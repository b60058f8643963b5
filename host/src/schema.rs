//! OpenAPI schemas of values whose JSON form is not that of their type, and how schemas refer to each other.

use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, Ref, RefOr, Schema};

/// Schemas by their names, to which others refer.
pub type Schemas = Vec<(String, RefOr<Schema>)>;

/// A reference to the schema of a type, which is added to `schemas` with those it refers to.
pub fn reference<T: ToSchema>(schemas: &mut Schemas) -> Ref {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
    Ref::from_schema_name(T::name())
}

/// A list of a type that is referred to.
pub fn list_of<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    ArrayBuilder::new().items(reference::<T>(schemas)).into()
}

/// A list of texts.
pub(crate) fn strings() -> RefOr<Schema> {
    ArrayBuilder::new().items(ObjectBuilder::new().schema_type(Type::String)).into()
}

/// Marks, one bit each: a number, or its digits in a string; negative if the client's numbers have a sign. What JavaScript
/// prints for other numbers is refused, which a schema cannot say.
pub(crate) fn bits() -> RefOr<Schema> {
    one_of([signed(), digits("^(-[0-9]{1,19}|[0-9]{1,20})$")])
}

/// As [`bits`], or nothing.
pub(crate) fn optional_bits() -> RefOr<Schema> {
    one_of([signed(), digits("^(-[0-9]{1,19}|[0-9]{1,20})$"), ObjectBuilder::new().schema_type(Type::Null)])
}

/// A position, as a number or as its digits in a string; the empty string stands for the beginning.
pub(crate) fn sequence() -> RefOr<Schema> {
    one_of([integer().minimum(Some(0)).maximum(Some(u64::MAX)), digits("^[0-9]{0,19}$")])
}

/// The values of marks: numbers, or their digits in strings where the request asks for that.
pub(crate) fn mark_list() -> RefOr<Schema> {
    let number = integer().minimum(Some(1)).maximum(Some(1_u64 << 63));
    ArrayBuilder::new().items(one_of([number, digits("^[0-9]{1,19}$")])).into()
}

/// What may be false or missing, and not true.
pub(crate) fn not_true() -> RefOr<Schema> {
    let kinds = SchemaType::from_iter([Type::Boolean, Type::Null]);
    ObjectBuilder::new().schema_type(kinds).enum_values(Some([Some(false), None])).into()
}

fn integer() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

fn signed() -> ObjectBuilder {
    integer().minimum(Some(i64::MIN)).maximum(Some(u64::MAX))
}

fn digits(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

fn one_of<const N: usize>(schemas: [ObjectBuilder; N]) -> RefOr<Schema> {
    schemas.into_iter().fold(OneOfBuilder::new(), OneOfBuilder::item).into()
}

/// A number of 32 bits.
pub(crate) fn number() -> RefOr<Schema> {
    integer().minimum(Some(0)).maximum(Some(u32::MAX)).into()
}

/// The number of a conversation type.
pub(crate) fn conversation_type() -> RefOr<Schema> {
    integer().minimum(Some(1)).maximum(Some(2)).description(Some("1: with a user, 2: with a chat group")).into()
}
