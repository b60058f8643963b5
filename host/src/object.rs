//! JSON in which only objects are objects.
//!
//! The code that serde derives for a struct also accepts an array of the fields' values, at every depth. What callers and
//! files send is therefore read through `OnlyObjects`, which reads every struct from a map. It does not see into what serde
//! buffers before it knows the type (`untagged`, `flatten`, internally tagged enums): types for untrusted input do without.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

/// Reads a value from JSON. Only objects are read as structs.
///
/// # Errors
///
/// When `text` is not JSON, or not of the type's form.
pub fn from_str<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(OnlyObjects(&mut deserializer))?;
    deserializer.end()?;
    Ok(value)
}

/// Reads `null` like a field that is missing; for `#[serde(default, deserialize_with = …)]`.
pub fn null_is_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Wraps a deserializer, and whatever it hands on: a visitor, the access to a sequence or a map, a seed.
pub(crate) struct OnlyObjects<T>(pub(crate) T);

/// The visitor of a struct: all it takes is a map.
struct Fields<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Fields<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(OnlyObjects(fields))
    }
}

macro_rules! deserialize {
    ($($method:ident($($argument:ident: $kind:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($argument,)* OnlyObjects(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for OnlyObjects<D> {
    type Error = D::Error;

    deserialize! {
        deserialize_any() deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
        deserialize_i128() deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_char() deserialize_str() deserialize_string()
        deserialize_bytes() deserialize_byte_buf() deserialize_option() deserialize_unit() deserialize_seq()
        deserialize_map() deserialize_identifier() deserialize_ignored_any() deserialize_tuple(len: usize)
        deserialize_unit_struct(name: &'static str) deserialize_newtype_struct(name: &'static str)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Fields(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($kind:ty))*) => {
        $(fn $method<E: serde::de::Error>(self, value: $kind) -> Result<V::Value, E> {
            self.0.$method(value)
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
        self.0.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(OnlyObjects(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(OnlyObjects(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(OnlyObjects(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(OnlyObjects(fields))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(OnlyObjects(variant))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for OnlyObjects<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(OnlyObjects(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for OnlyObjects<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(OnlyObjects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for OnlyObjects<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(OnlyObjects(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(OnlyObjects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for OnlyObjects<A> {
    type Error = A::Error;
    type Variant = OnlyObjects<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.0.variant_seed(OnlyObjects(seed))?;
        Ok((value, OnlyObjects(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for OnlyObjects<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(OnlyObjects(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, OnlyObjects(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Fields(visitor))
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
                    (Err(ours), Err(theirs)) => assert_eq!(ours.to_string(), theirs.to_string(), "{text}"),
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
}
