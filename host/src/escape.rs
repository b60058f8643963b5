//! Text that a plugin, a caller or a file wrote, made safe for people to read.
//!
//! A line break forges lines of a server log, an escape sequence drives the terminal that shows it, and a bidirectional
//! control reorders what stands around it. Every such text is escaped and cut where it leaves for people: log lines, error
//! messages, tables.

use std::borrow::Cow;
use std::fmt::Write;

/// Escapes the characters that would do something to a terminal or a log, as `\n` or `\u{1b}`, and cuts the text after `max_chars`
/// characters, with `…` in place of the rest.
#[must_use]
pub fn for_people(text: &str, max_chars: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(max_chars));
    let mut rest = text.chars();
    for character in rest.by_ref().take(max_chars) {
        if is_unsafe(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    if rest.next().is_some() {
        escaped.push('…');
    }
    escaped
}

/// Escapes the same characters in JSON that a terminal may show. It stays the same JSON: they can only be in its strings, and
/// those below U+0020 are escaped there already.
#[must_use]
pub fn json_for_people(json: &str) -> Cow<'_, str> {
    if json.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if is_unsafe(character) {
            // All of them have one unit of UTF-16. Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Does what [`for_people`] does, without a copy where nothing needs to be done.
pub(crate) fn made_for_people(text: String, max_chars: usize) -> String {
    let clean = text.len() <= max_chars && text.bytes().all(|byte| (b' '..0x7f).contains(&byte));
    if clean { text } else { for_people(&text, max_chars) }
}

/// Control characters, line and paragraph separators, and the controls of bidirectional text.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_for_people_is_the_same_json_without_what_drives_a_terminal() {
        let strings = ["plain", "中文", "\u{7f}\u{9b}31m\u{202e}\u{2028}", "\u{1b}[2J\n\"\\"];
        let json = serde_json::to_string(&strings).expect("strings are JSON");
        let escaped = json_for_people(&json);
        assert!(!escaped.contains(is_unsafe), "{escaped}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&escaped).expect("it is still JSON"), strings);
    }

    #[test]
    fn escapes_what_drives_a_terminal_or_a_log_and_cuts_what_is_too_long() {
        for (text, expected) in [
            ("plain, with 中文 and 👨‍👩‍👧", "plain, with 中文 and 👨‍👩‍👧"),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\u{1b}[2J\u{7f}\u{9b}", r"\u{1b}[2J\u{7f}\u{9b}"),
            ("\u{202e}drow\u{2066}\u{2069}\u{2028}", r"\u{202e}drow\u{2066}\u{2069}\u{2028}"),
            (&"x".repeat(101), &format!("{}…", "x".repeat(100))),
            (&"ü".repeat(100), &"ü".repeat(100)),
        ] {
            assert_eq!(for_people(text, 100), expected);
            assert_eq!(made_for_people(text.to_owned(), 100), expected);
        }
    }
}
