//! Which new names of groups mislead the people who read them.
//!
//! Names are compared byte by byte and shown by apps. One that has nothing to see, that looks like another, or that turns the
//! text around it is refused, unless the settings allow it. Characters that are invisible and needed stay possible where they
//! are needed: joiners in scripts that join letters and in emoji, variation selectors, the tags of flags. The ranges below
//! cover `Default_Ignorable_Code_Point` and `Bidi_Control` of Unicode, and three more that show nothing.

use alloc::format;
use alloc::string::String;

const CANCEL_TAG: char = '\u{E007F}';

/// What is wrong with a name that is not empty; nothing, if nothing is.
pub(crate) fn oddity(name: &str) -> Option<String> {
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        let is_blank = name.chars().all(char::is_whitespace);
        return Some(String::from(if is_blank { "is blank" } else { "begins or ends with a blank" }));
    }
    // Without control characters, which no name has, that is all that ASCII can do.
    if name.is_ascii() {
        return None;
    }
    let odd = first_odd(name)?;
    let kind = if is_bidi_control(odd) { "bidirectional control" } else { "invisible character" };
    Some(format!("has the {kind} U+{:04X} where it does not belong", u32::from(odd)))
}

/// The first character that does not belong where it is.
fn first_odd(name: &str) -> Option<char> {
    // The visible character before, and whether a selector or a joiner follows it already.
    let (mut base, mut is_selected, mut is_joined) = (None, false, false);
    let mut chars = name.chars();
    while let Some(this) = chars.next() {
        let next = chars.clone().next();
        if is_selector(this) {
            let is_keycap = this == '\u{FE0F}' && next == Some('\u{20E3}') && base.is_some_and(has_keycap);
            if is_selected || is_joined || !(is_keycap || base.is_some_and(has_variants)) {
                return Some(this);
            }
            is_selected = true;
        } else if is_joiner(this) {
            let joins = base.is_some_and(is_virama) || (base.is_some_and(joins) && next.is_some_and(joins));
            if is_joined || !joins {
                return Some(this);
            }
            is_joined = true;
        } else if is_bidi_control(this) || is_invisible(this) {
            return Some(this);
        } else {
            if this == '\u{1F3F4}' {
                skip_tags(&mut chars);
            }
            (base, is_selected, is_joined) = (Some(this), false, false);
        }
    }
    None
}

/// Skips what makes a black flag that of a region: two to six tags, and the one that ends them.
fn skip_tags(chars: &mut core::str::Chars<'_>) {
    let mut ahead = chars.clone();
    for count in 0..=6 {
        match ahead.next() {
            Some(CANCEL_TAG) if count >= 2 => {
                *chars = ahead;
                return;
            }
            Some('\u{E0030}'..='\u{E0039}' | '\u{E0061}'..='\u{E007A}') => {}
            _ => return,
        }
    }
}

fn is_bidi_control(this: char) -> bool {
    matches!(this, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn is_joiner(this: char) -> bool {
    // The last one joins in Mongolian.
    matches!(this, '\u{200C}' | '\u{200D}' | '\u{180E}')
}

fn is_selector(this: char) -> bool {
    matches!(this, '\u{180B}'..='\u{180D}' | '\u{180F}' | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}')
}

/// What shows nothing and is needed nowhere in a name.
fn is_invisible(this: char) -> bool {
    matches!(
        this,
        '\u{00AD}'
            | '\u{034F}'
            | '\u{115F}'..='\u{1160}'
            | '\u{17B4}'..='\u{17B5}'
            | '\u{200B}'
            | '\u{2028}'..='\u{2029}'
            | '\u{2060}'..='\u{2065}'
            | '\u{206A}'..='\u{206F}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFB}'
            | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}'
    )
}

/// Characters of scripts in which joiners change how letters look, and emoji. Latin, Greek, Cyrillic and Armenian are before
/// the first range, Chinese, Japanese and Korean between the others: a joiner there would only make two names look alike.
fn joins(this: char) -> bool {
    let is_script = matches!(
        this,
        '\u{0590}'..='\u{10FF}'
            | '\u{1200}'..='\u{1CFF}'
            | '\u{A800}'..='\u{ABFF}'
            | '\u{FB1D}'..='\u{FDFF}'
            | '\u{FE70}'..='\u{FEFE}'
            | '\u{10A00}'..='\u{11FFF}'
            | '\u{1E800}'..='\u{1EFFF}'
    );
    let is_emoji = matches!(this, '\u{2190}'..='\u{27FF}' | '\u{2900}'..='\u{2BFF}' | '\u{1F000}'..='\u{1FBFF}');
    (is_script || is_emoji) && !is_unseen(this)
}

/// The signs of Indic scripts that take the vowel from a letter. After them a joiner chooses the form, whatever follows.
fn is_virama(this: char) -> bool {
    (matches!(this, '\u{0900}'..='\u{0D7F}') && u32::from(this) & 0x7F == 0x4D) || this == '\u{0DCA}'
}

fn has_variants(this: char) -> bool {
    (this >= '\u{1000}' || matches!(this, '©' | '®')) && !this.is_whitespace()
}

fn has_keycap(this: char) -> bool {
    matches!(this, '0'..='9' | '#' | '*')
}

fn is_unseen(this: char) -> bool {
    this.is_whitespace() || is_bidi_control(this) || is_joiner(this) || is_selector(this) || is_invisible(this)
}

#[cfg(test)]
mod tests {
    use super::oddity;

    #[test]
    fn names_that_people_use_are_not_odd() {
        let names = [
            "Work",
            "a b  c",
            "Büro ☕",
            "家\u{3000}庭",
            // Emoji: a family, a red heart, a heart on fire, a skin and a profession, a keycap, flags.
            "👨\u{200D}👩\u{200D}👧",
            "❤\u{FE0F}",
            "❤\u{FE0F}\u{200D}🔥",
            "👩🏽\u{200D}🚀",
            "1\u{FE0F}\u{20E3}",
            "🇩🇪",
            "🏴\u{200D}☠\u{FE0F}",
            "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F} x",
            "©\u{FE0F}",
            // Persian, Hindi, Sinhala, Bengali and Malayalam with joiners, the last two at the end; Hebrew, Arabic.
            "می\u{200C}خواهم",
            "क्\u{200D}ष",
            "ශ්\u{200D}රී",
            "উৎ ত্\u{200D}",
            "അവന്\u{200D}",
            "עבודה",
            "عمل",
            // Mongolian, and a Japanese name with a variant of its first letter.
            "ᠠ\u{180B}ᠨ\u{180E}ᠠ",
            "葛\u{E0100}城",
        ];
        for name in names {
            assert_eq!(oddity(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_that_mislead_are_odd_and_the_reason_is_named() {
        let cases = [
            (" ", "is blank"),
            ("\u{3000}\u{A0}", "is blank"),
            (" Work", "begins or ends with a blank"),
            ("Work\u{2003}", "begins or ends with a blank"),
            ("\u{200B}", "invisible character U+200B"),
            ("Wo\u{200B}rk", "invisible character U+200B"),
            ("Wo\u{AD}rk", "invisible character U+00AD"),
            ("Work\u{FEFF}", "invisible character U+FEFF"),
            ("\u{2800}", "invisible character U+2800"),
            ("\u{3164}", "invisible character U+3164"),
            ("a\u{2028}b", "invisible character U+2028"),
            ("Work\u{202E}", "bidirectional control U+202E"),
            ("\u{2066}Work\u{2069}", "bidirectional control U+2066"),
            ("\u{200F}עבודה", "bidirectional control U+200F"),
            // Joiners where nothing joins: between Latin or Chinese letters, at an end, twice, alone.
            ("Wo\u{200D}rk", "invisible character U+200D"),
            ("家\u{200C}庭", "invisible character U+200C"),
            ("می\u{200C}", "invisible character U+200C"),
            ("👨\u{200D}", "invisible character U+200D"),
            ("\u{200D}👨", "invisible character U+200D"),
            ("👨\u{200D}\u{200D}👩", "invisible character U+200D"),
            ("می\u{200C} خواهم", "invisible character U+200C"),
            ("क्\u{200D}\u{200D}ष", "invisible character U+200D"),
            // Selectors after what has no variants, twice, or at the beginning.
            ("Work\u{FE0F}", "invisible character U+FE0F"),
            ("1\u{FE0F}", "invisible character U+FE0F"),
            ("❤\u{FE0F}\u{FE0F}", "invisible character U+FE0F"),
            ("\u{FE0F}❤", "invisible character U+FE0F"),
            ("a\u{3000}\u{FE0F}b", "invisible character U+FE0F"),
            // Tags without a flag, or without an end.
            ("Work\u{E0067}\u{E007F}", "invisible character U+E0067"),
            ("🏴\u{E0067}\u{E0062}", "invisible character U+E0067"),
            ("🏴\u{E0067}\u{E007F}", "invisible character U+E0067"),
        ];
        for (name, reason) in cases {
            let oddity = oddity(name);
            assert!(oddity.as_ref().is_some_and(|oddity| oddity.contains(reason)), "{name:?}: {oddity:?}");
        }
    }
}
