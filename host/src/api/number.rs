//! Whole numbers of 64 bits as JSON, which JavaScript reads and writes as doubles.

use serde::Deserialize;

/// An empty string is what some SDK versions send for the first page.
pub(super) fn next_seq<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Number { of_nothing: Some(0), is_bits: false })
}

pub(super) fn bits<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Number { of_nothing: None, is_bits: true })
}

pub(super) fn optional_bits<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Given(#[serde(deserialize_with = "bits")] u64);

    Ok(Option::deserialize(deserializer)?.map(|Given(number)| number))
}

/// Writes a number as its digits in a string: clients read it as a text and send it back.
pub(super) fn digits<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// Writes a number that every reader of JSON reads exactly; a greater one as its digits in a string.
pub(super) fn exact<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if *number <= MAX_SAFE { serializer.serialize_u64(*number) } else { serializer.collect_str(number) }
}

pub(super) fn optional_exact<S: serde::Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => exact(number, serializer),
        None => serializer.serialize_none(),
    }
}

/// Up to here a double represents every whole number.
const MAX_SAFE: u64 = 1 << 53;

/// The whole number that JavaScript prints as `number`, where it is another one: it prints the fewest digits that lead to
/// the same double, and zeros for the others.
fn meant_by_javascript(number: u64) -> Option<u128> {
    let double = number as f64;
    let exact = double as u128;
    // Rust prints doubles with the same digits.
    (exact != u128::from(number) && double.to_string() == number.to_string()).then_some(exact)
}

fn unambiguous<E: serde::de::Error>(sign: &str, number: u64) -> Result<u64, E> {
    match meant_by_javascript(number) {
        None => Ok(number),
        Some(meant) => Err(E::custom(format_args!(
            "ambiguous number {sign}{number}: JavaScript prints {sign}{meant} like this; send the digits in a string"
        ))),
    }
}

/// A number, or its digits in a string: JavaScript has no way to write large numbers.
struct Number {
    /// What the empty string stands for, if it may stand for anything.
    of_nothing: Option<u64>,
    /// Whether the number stands for its bits, so that it may be a signed one.
    is_bits: bool,
}

impl Number {
    /// The bits of a negative number, where those are asked for.
    fn negative(&self, number: i64) -> Option<u64> {
        (self.is_bits && number < 0).then_some(number.cast_unsigned())
    }
}

impl serde::de::Visitor<'_> for Number {
    type Value = u64;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a whole number, or its digits in a string")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<u64, E> {
        unambiguous("", number)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<u64, E> {
        let bits = self.negative(number);
        let bits = bits.ok_or_else(|| E::invalid_type(serde::de::Unexpected::Signed(number), &self))?;
        unambiguous("-", number.unsigned_abs()).map(|_| bits)
    }

    /// What has no 64 bits, or was written with a point or an exponent.
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<u64, E> {
        if number.fract() == 0.0 && number.abs() > MAX_SAFE as f64 {
            return Err(E::custom(format_args!(
                "number {number} cannot be read exactly: expected a whole number of 64 bits; send the digits in a string"
            )));
        }
        Err(E::invalid_type(serde::de::Unexpected::Float(number), &self))
    }

    fn visit_str<E: serde::de::Error>(self, digits: &str) -> Result<u64, E> {
        let number = match digits.as_bytes() {
            [] => self.of_nothing,
            // Which Rust would read.
            [b'+', ..] => None,
            [b'-', ..] => digits.parse().ok().and_then(|number| self.negative(number)),
            _ => digits.parse().ok(),
        };
        number.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(digits), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::super::MarkConversation;

    fn read(number: &str) -> Result<u64, String> {
        let json = format!(r#"{{"markType":{number},"enableMark":true,"conversationIDList":[]}}"#);
        serde_json::from_str::<MarkConversation>(&json).map(|mark| mark.mark_type).map_err(|error| error.to_string())
    }

    #[test]
    fn what_javascript_prints_is_the_number_that_was_meant_or_refused() {
        // What JSON.stringify prints for two to the power of each, as Node.js 20 does.
        let printed = [
            (53, "9007199254740992"),
            (54, "18014398509481984"),
            (55, "36028797018963970"),
            (56, "72057594037927940"),
            (57, "144115188075855870"),
            (58, "288230376151711740"),
            (59, "576460752303423500"),
            (60, "1152921504606847000"),
            (61, "2305843009213694000"),
            (62, "4611686018427388000"),
            (63, "9223372036854776000"),
        ];
        for (bit, text) in printed {
            let meant = 1_u64 << bit;
            let refused = |text: &str| read(text).expect_err(text).contains("ambiguous number");
            assert_eq!(read(&meant.to_string()), Ok(meant), "with all digits");
            assert_eq!(read(&format!("\"{meant}\"")), Ok(meant), "in a string");
            if text == meant.to_string() {
                continue;
            }
            assert!(refused(text), "{text}");
            assert_eq!(read(&format!("\"{text}\"")), Ok(text.parse().expect("digits")), "in a string");
            // -2^63 as JavaScript prints it has no 64 bits.
            let negative = read(&format!("-{text}")).expect_err(text);
            let reason = if bit < 63 { "ambiguous number" } else { "cannot be read exactly" };
            assert!(negative.contains(reason) && negative.contains("digits in a string"), "-{text}: {negative}");
        }
        // Two bits: 60 and 40, 63 and 32, 59 and 55.
        for text in ["1152922604118474800", "9223372041149743000", "612489549322387500"] {
            assert!(read(text).expect_err(text).contains("ambiguous number"), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for mark_type in [0, 1, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, 576_460_752_303_423_500, 1 << 63, u64::MAX] {
            let mark = MarkConversation { mark_type, enable_mark: true, conversation_id_list: Vec::new() };
            let json = serde_json::to_string(&mark).expect("it writes");
            assert_eq!(serde_json::from_str::<MarkConversation>(&json).expect("it reads"), mark, "{json}");
        }
    }
}
