//! Characters that a terminal obeys or does not show, made visible.

use std::{borrow::Cow, fmt::Write};

/// The text with every control, formatting or invisible character as `<U+001B>`. Line breaks and tabs stay.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    shown(text, |letter| is_hidden(letter) && letter != '\n' && letter != '\t')
}

/// As [`visible`], for what must stay on one line: line breaks and tabs too.
pub(crate) fn visible_line(text: &str) -> Cow<'_, str> {
    shown(text, is_hidden)
}

/// A JSON text with these characters as escapes: the same JSON.
pub(crate) fn visible_json(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_hidden(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(letter);
        }
    }
    escaped.into()
}

fn shown(text: &str, hidden: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(hidden) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if hidden(letter) {
            let _ = write!(shown, "<U+{:04X}>", u32::from(letter));
        } else {
            shown.push(letter);
        }
    }
    shown.into()
}

/// Control characters, and what Unicode lets a terminal ignore, reorder or break lines at. Variation selectors that
/// choose between a letter and its picture are left as they are.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        let table = [
            ("plain, 日本 🍞 é\u{301} ❤\u{FE0F}", "plain, 日本 🍞 é\u{301} ❤\u{FE0F}"),
            ("\u{1b}]0;t\u{7}\r\u{8}\u{7f}", "<U+001B>]0;t<U+0007><U+000D><U+0008><U+007F>"),
            ("\u{9b}31m\u{85}", "<U+009B>31m<U+0085>"),
            ("a\u{202E}b\u{2066}\u{2069}", "a<U+202E>b<U+2066><U+2069>"),
            ("\u{200B}\u{200F}\u{FEFF}\u{2028}\u{2029}", "<U+200B><U+200F><U+FEFF><U+2028><U+2029>"),
            ("\u{AD}\u{61C}\u{E0041}", "<U+00AD><U+061C><U+E0041>"),
            ("a\tb\nc", "a\tb\nc"),
        ];
        for (text, expected) in table {
            assert_eq!(visible(text), expected);
        }
        assert_eq!(visible_line("a\tb\nc"), "a<U+0009>b<U+000A>c");
    }

    #[test]
    fn json_stays_the_same_json() {
        let text = "\u{1b}\u{7f}\u{9b}\u{202E}\u{E0041}\n日本";
        let json = serde_json::json!({ text: text });
        let shown = visible_json(&json.to_string()).into_owned();
        assert!(!shown.contains(is_hidden), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json);
    }
}
