//! Marks of conversations: one bit each, set and cleared by the user.
//!
//! As JSON they are what the SDK calls `markList`: the values of the bits that are set, ascending. Each is a power of two,
//! and so exact even where all numbers are floating-point.

use std::fmt;

use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

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

#[cfg(test)]
mod tests {
    use crate::model::ConversationData;

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
