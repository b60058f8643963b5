//! Marks of conversations: one bit each, set and cleared by the user.
//!
//! As JSON they are what the SDK calls `markList`: the values of the bits that are set, ascending. Each is a power of two,
//! and so exact even where all numbers are floating-point. Clients whose integers have 64 bits with a sign cannot represent
//! the last one; [`Form::Strings`] is for them.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserializer, Serialize, Serializer};
use serde_json::ser::Formatter;

/// The SDK's mark for a starred conversation.
pub const STAR: u64 = 1;
/// The SDK's mark for a conversation that counts as unread.
pub const UNREAD: u64 = 1 << 1;
/// The SDK's mark for a folded conversation.
pub const FOLD: u64 = 1 << 2;
/// The SDK's mark for a hidden conversation.
pub const HIDE: u64 = 1 << 3;

/// The value of each mark, ascending.
pub fn values(marks: u64) -> impl Iterator<Item = u64> {
    (0..u64::BITS).map(|bit| 1 << bit).filter(move |value| marks & value != 0)
}

/// Writes marks as a list of their values; for `#[serde(with = …)]`.
///
/// # Errors
///
/// When the serializer fails.
pub fn serialize<S: Serializer>(marks: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values(*marks))
}

/// Reads marks from a list of their values, in any order; for `#[serde(with = …)]`.
///
/// # Errors
///
/// When it is no list of powers of two, or one is there twice.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Values;

    impl<'de> Visitor<'de> for Values {
        type Value = u64;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of powers of two, each once")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<u64, A::Error> {
            let mut marks = 0;
            while let Some(value) = values.next_element::<u64>()? {
                if !value.is_power_of_two() || marks & value != 0 {
                    return Err(A::Error::invalid_value(Unexpected::Unsigned(value), &self));
                }
                marks |= value;
            }
            Ok(marks)
        }
    }

    deserializer.deserialize_seq(Values)
}

/// How the values in a `markList` are written as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As numbers, as in the SDK.
    #[default]
    Numbers,
    /// As their digits in strings.
    Strings,
}

impl fmt::Display for Form {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Numbers => "numbers",
            Self::Strings => "strings",
        })
    }
}

impl FromStr for Form {
    type Err = UnknownForm;

    fn from_str(name: &str) -> Result<Self, UnknownForm> {
        match name {
            "numbers" => Ok(Self::Numbers),
            "strings" => Ok(Self::Strings),
            _ => Err(UnknownForm { name: name.to_owned() }),
        }
    }
}

/// No form of a `markList` has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?}: expected \"numbers\" or \"strings\"")]
pub struct UnknownForm {
    /// The name.
    pub name: String,
}

/// Writes a value as JSON, with each `markList` in a form.
///
/// # Errors
///
/// When the value has no JSON form.
pub fn to_json<T: Serialize>(value: &T, form: Form) -> serde_json::Result<String> {
    if form == Form::Numbers {
        return serde_json::to_string(value);
    }
    let mut json = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, DigitsInStrings::default()))?;
    String::from_utf8(json).map_err(serde::ser::Error::custom)
}

const MARK_LIST: &str = "markList";

/// Writes compact JSON, and in each `markList` the digits of numbers in strings.
#[derive(Default)]
struct DigitsInStrings {
    place: Place,
}

/// What is being written.
#[derive(Default, PartialEq)]
enum Place {
    #[default]
    Elsewhere,
    /// The key of a field.
    Key,
    /// The key `markList`, or what is between it and its list.
    MarkListKey,
    /// The list itself.
    MarkList,
}

impl Formatter for DigitsInStrings {
    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        self.place = Place::Key;
        if is_first { Ok(()) } else { writer.write_all(b",") }
    }

    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if self.place == Place::Key {
            self.place = if fragment == MARK_LIST { Place::MarkListKey } else { Place::Elsewhere };
        }
        writer.write_all(fragment.as_bytes())
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.place = if self.place == Place::MarkListKey { Place::MarkList } else { Place::Elsewhere };
        writer.write_all(b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.place = Place::Elsewhere;
        writer.write_all(b"]")
    }

    fn write_u64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        if self.place == Place::MarkList { write!(writer, "\"{value}\"") } else { write!(writer, "{value}") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Form, to_json};
    use crate::model::ConversationData;

    #[test]
    fn digits_are_in_strings_in_mark_lists_and_nowhere_else() {
        let value = json!({
            "version": 7, "markList": [1, 9_223_372_036_854_775_808_u64], "a markList": [1],
            "customData": "markList", "list": ["markList", [2]], "more": { "markList": [], "count": 3 }, "last": [4],
        });
        let expected = value.to_string().replace("[1,9223372036854775808]", r#"["1","9223372036854775808"]"#);
        assert_eq!(to_json(&value, Form::Strings).expect("it writes"), expected);
        assert_eq!(to_json(&value, Form::Numbers).expect("it writes"), value.to_string());
    }

    #[test]
    fn marks_are_a_list_of_powers_of_two_as_json() {
        let json = r#"{"conversationID":"c2c_bob","markList":[1,8,4294967296,9223372036854775808],"customData":"x"}"#;
        let data: ConversationData = serde_json::from_str(json).expect("it reads");
        assert_eq!(data.marks, 1 | 8 | 1 << 32 | 1 << 63);
        assert_eq!(serde_json::to_string(&data).expect("it writes"), json);
        for (list, reason) in [
            ("[0]", "invalid value: integer `0`, expected a list of powers of two, each once"),
            ("[3]", "integer `3`"),
            ("[2,2]", "integer `2`"),
            ("[-1]", "integer `-1`"),
            ("[18446744073709551616]", "floating point"),
            ("[\"1\"]", "string \"1\""),
            ("1", "integer `1`, expected a list of powers of two"),
        ] {
            let json = format!(r#"{{"conversationID":"c2c_bob","markList":{list},"customData":""}}"#);
            let error = serde_json::from_str::<ConversationData>(&json).expect_err(list).to_string();
            assert!(error.contains(reason), "{list}: {error}");
        }
    }
}
