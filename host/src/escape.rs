//! Text from plugins and their files, made safe for people to look at.

use std::fmt::Write;

/// Returns a text without what would drive a terminal, forge lines of a log or turn the order of letters around, cut to so
/// many characters.
pub(crate) fn for_people(text: &str, max_chars: usize) -> String {
    let mut escaped = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(max_chars) {
        if drives(character) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    if characters.next().is_some() {
        escaped.push('…');
    }
    escaped
}

/// Control characters, C1 and DEL included, separators of lines, and what changes the direction of text.
fn drives(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::for_people;

    #[test]
    fn text_that_drives_a_terminal_or_forges_lines_is_escaped_and_cut() {
        for (text, expected) in [
            ("plain – ü", "plain – ü"),
            ("a\nb\x1b[31m", "a\\u{a}b\\u{1b}[31m"),
            ("\u{9b}\u{7f}\u{202e}\u{2028}", "\\u{9b}\\u{7f}\\u{202e}\\u{2028}"),
            ("0123456789x", "0123456789…"),
        ] {
            assert_eq!(for_people(text, 10), expected);
        }
    }
}
