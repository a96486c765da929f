//! The texts of an answer's tokens, so that together they are the answer.

use qwenguard::TokenVerdict;

/// Which bytes of an answer the tokens so far have given out. A token that ends inside a character gives it to the token
/// that completes it; a token takes along what stands before it and is not judged, such as tags.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// Of every token: its index, and where its text ends.
    ends: Vec<(usize, usize)>,
}

impl Joined {
    /// The text of a token, after those with a smaller index.
    pub(crate) fn text(&mut self, token: &TokenVerdict, answer: &[u8]) -> String {
        self.next(token.index, token.bytes.end, answer)
    }

    fn next(&mut self, index: usize, end: usize, answer: &[u8]) -> String {
        while self.ends.pop_if(|(known, _)| *known >= index).is_some() {}
        let start = self.end();
        let end = floor(answer, end).max(start);
        self.ends.push((index, end));
        String::from_utf8_lossy(&answer[start..end]).into_owned()
    }

    /// What follows the last token.
    pub(crate) fn rest(&self, answer: &[u8]) -> String {
        String::from_utf8_lossy(&answer[self.end()..]).into_owned()
    }

    fn end(&self) -> usize {
        self.ends.last().map_or(0, |(_, end)| *end)
    }
}

/// The last place at or before a byte that is not inside a character.
pub(crate) fn floor(text: &[u8], at: usize) -> usize {
    let lead = (at.saturating_sub(3)..at).rev().find(|place| text[*place] & 0xC0 != 0x80);
    match lead {
        Some(lead) if lead + width(text[lead]) > at => lead,
        _ => at,
    }
}

/// Bytes of the character that starts with a byte.
fn width(lead: u8) -> usize {
    match lead {
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0.. => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_join_wherever_tokens_are_cut() {
        let answer = "<t>\nab\u{e9} 🍞日</t>";
        for cut in 1..answer.len() {
            for other in cut..answer.len() {
                let mut joined = Joined::default();
                let ends = [cut, other, answer.len() - 4];
                let texts = ends.iter().enumerate().map(|(index, end)| joined.next(index, *end, answer.as_bytes()));
                let texts: String = texts.collect();
                assert_eq!(texts + &joined.rest(answer.as_bytes()), answer);
            }
        }
    }

    #[test]
    fn a_character_is_text_of_the_token_that_completes_it() {
        let (mut joined, bread) = (Joined::default(), "🍞!".as_bytes());
        let texts: Vec<String> = [1, 3, 4, 5].iter().enumerate().map(|(i, end)| joined.next(i, *end, bread)).collect();
        assert_eq!(texts, ["", "", "🍞", "!"]);
        // Two tokens of one place, as normalised text may have; and a token that replaces others.
        assert_eq!((joined.next(4, 5, bread), joined.next(2, 5, bread)), (String::new(), "🍞!".into()));
    }
}
