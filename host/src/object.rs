//! Strict JSON for untrusted input, with errors in the words of this project.
//!
//! The code that serde derives for a struct also accepts an array of the fields' values, at every depth. `OnlyObjects` wraps a
//! deserializer and everything that it passes on, and reads every struct from a map. It does not see into values that serde
//! buffers before it knows their type (`untagged`, `flatten`, internally tagged enums): types for untrusted input do without
//! them.
//!
//! serde and serde_json name types as Rust does ("expected a sequence", "expected u32"). `OnlyObjects` lets every value choose
//! how it is read, so that the visitor makes the error, and `Worded` makes its text.

use std::fmt;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};

/// Reads a value from JSON. Only objects are read as structs.
///
/// # Errors
///
/// When `text` is not JSON, or not of the type's form.
pub fn from_str<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(OnlyObjects(&mut deserializer)).map_err(|Worded(error)| error)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads `null` like a field that is missing; for `#[serde(default, deserialize_with = …)]`.
pub fn null_is_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An error of a deserializer in the words of this project.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Worded<E>(pub(crate) E);

impl<E: serde::de::Error> serde::de::Error for Worded<E> {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(E::custom(message))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(Mismatch { found: Found(found), expected: &expected.to_string() })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        let found = format_args!("{length} elements");
        Self::custom(Mismatch { found, expected: &expected.to_string() })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(Unknown { what: "value", name: variant, expected })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(Unknown { what: "field", name: field, expected })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("missing field {field:?}"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(format_args!("duplicate field {field:?}: expected it once"))
    }
}

/// A value that is not what was expected, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Mismatch<'a, F> {
    /// The value, as the message is to have it.
    pub found: F,
    /// What was expected, as serde says it.
    pub expected: &'a str,
}

impl<F: fmt::Display> fmt::Display for Mismatch<'_, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = match self.expected {
            "a sequence" => "a list",
            "a map" => "an object",
            "a boolean" => "true or false",
            "u8" => "a whole number from 0 to 255",
            "u16" => "a whole number from 0 to 65535",
            "u32" => "a whole number from 0 to 4294967295",
            "u64" => "a whole number, not negative",
            "i32" | "i64" => "a whole number",
            kind if kind.starts_with("struct ") => "an object",
            kind => kind,
        };
        write!(formatter, "expected {expected}, got {}", self.found)
    }
}

/// What JSON has in the place of something else.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(formatter, "{value}"),
            Unexpected::Unsigned(number) => write!(formatter, "{number}"),
            Unexpected::Signed(number) => write!(formatter, "{number}"),
            Unexpected::Float(number) => write!(formatter, "{number:?}"),
            Unexpected::Char(character) => write!(formatter, "{:?}", character.to_string()),
            Unexpected::Str(text) => write!(formatter, "{text:?}"),
            Unexpected::Unit | Unexpected::Option => formatter.write_str("null"),
            Unexpected::Seq => formatter.write_str("a list"),
            Unexpected::Map => formatter.write_str("an object"),
            other => write!(formatter, "{other}"),
        }
    }
}

/// A name that nothing has, for messages: with the names that are expected, and the one that was probably meant.
#[derive(Clone, Copy, Debug)]
pub struct Unknown<'a> {
    /// What has a name: "field", "setting".
    pub what: &'a str,
    /// The name.
    pub name: &'a str,
    /// The names that are expected.
    pub expected: &'a [&'a str],
}

/// How much a name must be like another one to be suggested for it, from 0 to 1.
const LIKENESS: f64 = 0.7;

impl fmt::Display for Unknown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, name, expected } = self;
        if expected.is_empty() {
            return write!(formatter, "unknown {what} {name:?}: expected none");
        }
        write!(formatter, "unknown {what} {name:?}: expected {}", expected.join(", "))?;
        let likeness =
            |other: &str| strsim::normalized_damerau_levenshtein(&other.to_lowercase(), &name.to_lowercase());
        let nearest =
            expected.iter().map(|other| (likeness(other), other)).max_by(|one, other| one.0.total_cmp(&other.0));
        match nearest {
            Some((likeness, nearest)) if likeness >= LIKENESS && expected.len() > 1 => {
                write!(formatter, "; did you mean {nearest}?")
            }
            _ => Ok(()),
        }
    }
}

/// Wraps a deserializer and everything that it passes on: a visitor, the access to a sequence or a map, a seed.
pub(crate) struct OnlyObjects<T>(pub(crate) T);

/// Takes the words off an error, for a deserializer or an access that has none.
fn plain<T, E>(result: Result<T, Worded<E>>) -> Result<T, E> {
    result.map_err(|Worded(error)| error)
}

macro_rules! visit_wrong {
    ($($method:ident($kind:ty) $found:ident,)*) => {
        $(fn $method<E: serde::de::Error>(self, value: $kind) -> Result<V::Value, E> {
            plain(Err(Worded::invalid_type(Unexpected::$found(value), &self)))
        })*
    };
}

/// The visitor of a struct, which takes nothing but a map.
struct Fields<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Fields<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        plain(self.0.visit_map(OnlyObjects(fields)))
    }

    visit_wrong! {
        visit_bool(bool) Bool, visit_i64(i64) Signed, visit_u64(u64) Unsigned, visit_f64(f64) Float, visit_str(&str) Str,
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        plain(Err(Worded::invalid_type(Unexpected::Unit, &self)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<V::Value, A::Error> {
        plain(Err(Worded::invalid_type(Unexpected::Seq, &self)))
    }
}

macro_rules! deserialize {
    ($($method:ident($($argument:ident: $kind:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, Self::Error> {
            self.0.$method($($argument,)* OnlyObjects(visitor)).map_err(Worded)
        })*
    };
}

macro_rules! deserialize_any {
    ($($method:ident($($argument:ident: $kind:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, Self::Error> {
            self.deserialize_any(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for OnlyObjects<D> {
    type Error = Worded<D::Error>;

    deserialize! {
        deserialize_any() deserialize_i128() deserialize_u128() deserialize_bytes() deserialize_byte_buf()
        deserialize_option() deserialize_identifier() deserialize_ignored_any()
        deserialize_newtype_struct(name: &'static str)
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    // The value says how it is read: a visitor that cannot take it makes the error.
    deserialize_any! {
        deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_u8()
        deserialize_u16() deserialize_u32() deserialize_u64() deserialize_f32() deserialize_f64() deserialize_char()
        deserialize_str() deserialize_string() deserialize_unit() deserialize_seq() deserialize_map()
        deserialize_tuple(_len: usize) deserialize_unit_struct(_name: &'static str)
        deserialize_tuple_struct(_name: &'static str, _len: usize)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_any(Fields(visitor)).map_err(Worded)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($kind:ty))*) => {
        $(fn $method<E: serde::de::Error>(self, value: $kind) -> Result<V::Value, E> {
            plain(self.0.$method(value))
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OnlyObjects<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }

    visit! {
        visit_bool(bool) visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128) visit_u8(u8)
        visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128) visit_f32(f32) visit_f64(f64) visit_char(char)
        visit_str(&str) visit_borrowed_str(&'de str) visit_string(String) visit_bytes(&[u8])
        visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        plain(self.0.visit_none())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        plain(self.0.visit_unit())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        plain(self.0.visit_some(OnlyObjects(deserializer)))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        plain(self.0.visit_newtype_struct(OnlyObjects(deserializer)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<V::Value, A::Error> {
        plain(self.0.visit_seq(OnlyObjects(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        plain(self.0.visit_map(OnlyObjects(fields)))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        plain(self.0.visit_enum(OnlyObjects(variant)))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for OnlyObjects<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        plain(self.0.deserialize(OnlyObjects(deserializer)))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for OnlyObjects<A> {
    type Error = Worded<A::Error>;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Self::Error> {
        self.0.next_element_seed(OnlyObjects(seed)).map_err(Worded)
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for OnlyObjects<A> {
    type Error = Worded<A::Error>;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Self::Error> {
        self.0.next_key_seed(OnlyObjects(seed)).map_err(Worded)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Self::Error> {
        self.0.next_value_seed(OnlyObjects(seed)).map_err(Worded)
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for OnlyObjects<A> {
    type Error = Worded<A::Error>;
    type Variant = OnlyObjects<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), Self::Error> {
        let (value, variant) = self.0.variant_seed(OnlyObjects(seed)).map_err(Worded)?;
        Ok((value, OnlyObjects(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for OnlyObjects<A> {
    type Error = Worded<A::Error>;

    fn unit_variant(self) -> Result<(), Self::Error> {
        self.0.unit_variant().map_err(Worded)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Self::Error> {
        self.0.newtype_variant_seed(OnlyObjects(seed)).map_err(Worded)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.tuple_variant(len, OnlyObjects(visitor)).map_err(Worded)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.struct_variant(fields, Fields(visitor)).map_err(Worded)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Point {
        x: u8,
        #[serde(default)]
        next: Option<Box<Point>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Wrapped(Point);

    #[derive(Debug, Deserialize, PartialEq)]
    enum Shape {
        Dot(Point),
        Line { from: Point, to: Point },
        Nothing,
    }

    fn refused<'de, T: Debug + Deserialize<'de>>(texts: &[&'de str]) {
        for text in texts {
            let error = from_str::<T>(text).expect_err(text).to_string();
            assert!(error.contains("expected an object"), "{text}: {error}");
            assert!(serde_json::from_str::<T>(text).is_ok(), "{text}: serde itself accepts it");
        }
    }

    #[test]
    fn structs_are_read_from_objects_only_wherever_they_are() {
        refused::<Point>(&["[1,null]", r#"{"x":1,"next":[2,null]}"#]);
        refused::<Vec<Point>>(&["[[1,null]]", r#"[{"x":1},{"x":2,"next":[3,null]}]"#]);
        refused::<(Point, u8)>(&["[[1,null],1]"]);
        refused::<Option<Point>>(&["[1,null]"]);
        refused::<Wrapped>(&["[1,null]"]);
        refused::<BTreeMap<String, Point>>(&[r#"{"a":[1,null]}"#]);
        refused::<Shape>(&[
            r#"{"Dot":[1,null]}"#,
            r#"{"Line":[{"x":1},{"x":2}]}"#,
            r#"{"Line":{"from":{"x":1},"to":[2,null]}}"#,
        ]);
    }

    #[test]
    fn everything_else_is_read_as_serde_reads_it() {
        fn same<'de, T: Debug + Deserialize<'de> + PartialEq>(texts: &[&'de str]) {
            for text in texts {
                let (ours, theirs) = (from_str::<T>(text), serde_json::from_str::<T>(text));
                match (ours, theirs) {
                    (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{text}"),
                    (Err(ours), Err(theirs)) => {
                        let place = |error: &serde_json::Error| (error.classify(), error.line(), error.column());
                        assert_eq!(place(&ours), place(&theirs), "{text}");
                    }
                    (ours, theirs) => panic!("{text}: {ours:?} {theirs:?}"),
                }
            }
        }
        same::<Point>(&[r#"{"x":1}"#, r#"{"x":1,"next":{"x":2},"y":[1]}"#, r#"{"x":256}"#, "{}", r#"{"x":1} x"#]);
        same::<Shape>(&[r#""Nothing""#, r#"{"Dot":{"x":1}}"#, r#"{"Line":{"from":{"x":1},"to":{"x":2}}}"#, r#""No""#]);
        same::<(u64, i64, f64, bool, char, String, ())>(&[r#"[18446744073709551615,-1,1.5,true,"é","\n",null]"#]);
        same::<&str>(&[r#""borrowed""#]);
        same::<serde_json::Value>(&[r#"{"a":[1,-2,2.5,"x",null,{"b":[[]]}]}"#, "[", ""]);
        let raw: &serde_json::value::RawValue = from_str("[1, 2]").expect("it is JSON");
        assert_eq!(raw.get(), "[1, 2]");
    }

    #[test]
    fn errors_name_the_value_and_what_was_expected_in_the_words_of_json() {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[expect(dead_code, reason = "it is only read")]
        struct Parameters {
            group_name: String,
            #[serde(default)]
            conversations: Vec<String>,
            #[serde(default)]
            count: u32,
            #[serde(default)]
            enabled: bool,
            #[serde(default)]
            filter: Option<Point>,
        }

        for (text, expected) in [
            ("[]", "expected an object, got a list"),
            ("7", "expected an object, got 7"),
            ("\"x\"", "expected an object, got \"x\""),
            ("null", "expected an object, got null"),
            ("{}", "missing field \"groupName\""),
            (r#"{"groupName":"a","groupName":"b"}"#, "duplicate field \"groupName\": expected it once"),
            (r#"{"groupName":7}"#, "expected a string, got 7"),
            (r#"{"groupName":{}}"#, "expected a string, got an object"),
            (r#"{"conversations":"x"}"#, "expected a list, got \"x\""),
            (r#"{"conversations":{}}"#, "expected a list, got an object"),
            (r#"{"count":-1}"#, "expected a whole number from 0 to 4294967295, got -1"),
            (r#"{"count":1.5}"#, "expected a whole number from 0 to 4294967295, got 1.5"),
            (r#"{"count":"1"}"#, "expected a whole number from 0 to 4294967295, got \"1\""),
            (r#"{"enabled":1}"#, "expected true or false, got 1"),
            (r#"{"filter":[1]}"#, "expected an object, got a list"),
            (r#"{"filter":false}"#, "expected an object, got false"),
            (
                r#"{"groupname":"x"}"#,
                "unknown field \"groupname\": expected groupName, conversations, count, enabled, filter; did you mean groupName?",
            ),
            (
                r#"{"nonsense":1}"#,
                "unknown field \"nonsense\": expected groupName, conversations, count, enabled, filter at",
            ),
        ] {
            let error = from_str::<Parameters>(text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
