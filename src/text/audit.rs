//! Whether a template writes every message of a conversation.
//!
//! A template may leave a message out: one of a role that it does not know, a system message that is not the first. What
//! is left out is not judged. So conversations are rendered a second time for an audit, with marks in each message's
//! content, and all marks must come out, in order, each once. This rendering is read for its marks and control tokens
//! only; the model is fed the other one.
//!
//! A message has two marks, after the first character of its content and at its end, so that a template which writes a
//! part is found too, one which trims white space is not, and one which looks at how a content begins sees almost what
//! it would see. What a template may leave out of an answer, all up to its last `</think>`, is before both.
//!
//! Whole contents are rendered, not stand-ins for them, because templates look at them.

use super::{message::Message, tokenizer::Tokenizer};
use crate::{Error, Result};

/// Between these characters stands a mark's number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brackets {
    pub(super) open: char,
    pub(super) close: char,
}

/// The control tokens of a rendered text, and where messages end among them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Audit {
    /// All control tokens, in order.
    pub(super) controls: Vec<u32>,
    /// For each message, how many of them are before its end.
    pub(super) ends: Vec<usize>,
}

/// What is wrong with a message whose content changes what the template writes around it.
pub(super) const OTHER_TURNS: &str = "the chat template leaves it out, or writes other turns, for its content";

impl Audit {
    /// Whether the control tokens of a rendering without marks are others, and then the message that this begins in, if
    /// it is one.
    pub(super) fn differs(&self, controls: impl ExactSizeIterator<Item = u32>) -> Option<Option<usize>> {
        let count = controls.len().max(self.controls.len());
        let same = controls.zip(&self.controls).take_while(|(id, marked)| id == *marked).count();
        (same < count).then(|| self.ends.iter().position(|end| *end > same))
    }
}

impl Brackets {
    /// The content of message number `index`, with its marks.
    pub(super) fn mark(self, role: &str, content: &str, index: usize) -> String {
        self.mark_from(rendered_start(role, content), content, index)
    }

    /// The same where all of the content must be written from a place on.
    pub(super) fn mark_from(self, start: usize, content: &str, index: usize) -> String {
        let first = content[start..].chars().next().map_or(start, |character| start + character.len_utf8());
        let (before, after) = content.split_at(first);
        let Brackets { open, close } = self;
        format!("{before}{open}{}{close}{after}{open}{}{close}", 2 * index, 2 * index + 1)
    }

    /// Reads a rendering of marked messages, up to the answer.
    ///
    /// # Errors
    /// [`Error::Conversation`] for the first message that is not there once, whole and in its place.
    pub(super) fn audit(self, tokenizer: &Tokenizer, messages: &[Message], rendered: &str) -> Result<Audit> {
        let mut audit = Audit { controls: Vec::new(), ends: Vec::new() };
        let mut found = Vec::new();
        for (place, piece) in rendered.split(self.open).enumerate() {
            let mut text = piece;
            if let Some((number, rest)) = piece.split_once(self.close).filter(|_| place > 0) {
                text = rest;
                if let Ok(number) = number.parse::<usize>() {
                    found.push(number);
                    audit.ends.push(audit.controls.len());
                }
            }
            audit.controls.extend(tokenizer.specials(text).map(|(_, id)| id));
        }
        if let Some((index, what)) = missing(messages.len(), &found) {
            return Err(refused(index, &messages[index].role, what));
        }
        // Every second mark is at an end.
        audit.ends = audit.ends.into_iter().skip(1).step_by(2).collect();
        Ok(audit)
    }
}

/// The first message whose marks are not as they must be, and what is wrong with it.
fn missing(messages: usize, found: &[usize]) -> Option<(usize, &'static str)> {
    if messages == 0 || found.iter().copied().eq(0..2 * messages) {
        return None;
    }
    let mut times = vec![0u32; 2 * messages];
    for number in found {
        if let Some(times) = times.get_mut(*number) {
            *times += 1;
        }
    }
    let wrong = times.chunks_exact(2).enumerate().find_map(|(index, pair)| match pair {
        [0, 0] => Some((index, "the chat template leaves it out")),
        [0, _] | [_, 0] => Some((index, "the chat template leaves a part of it out")),
        [1, 1] => None,
        _ => Some((index, "the chat template writes it more than once")),
    });
    let disorder = found.iter().enumerate().find(|(place, number)| place != *number);
    let moved = disorder.map(|(place, _)| ((place / 2).min(messages - 1), "the chat template moves it"));
    wrong.or(moved)
}

/// Where the part of a content begins that every template must write.
pub(super) fn rendered_start(role: &str, content: &str) -> usize {
    const CLOSE: &str = "</think>";
    if role != "assistant" {
        return 0;
    }
    content.rfind(CLOSE).map_or(0, |at| at + CLOSE.len())
}

/// What is wrong with a message. Indices count from 0.
pub(super) fn refused(index: usize, role: &str, what: &str) -> Error {
    Error::conversation(format!("message {index} (counted from 0) of role {role:?}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRACKETS: Brackets = Brackets { open: '[', close: ']' };

    #[test]
    fn marks_are_after_the_first_character_and_at_the_end() {
        assert_eq!(BRACKETS.mark("user", "", 0), "[0][1]");
        assert_eq!(BRACKETS.mark("user", "日本", 3), "日[6]本[7]");
        assert_eq!(BRACKETS.mark("user", "a</think>b", 0), "a[0]</think>b[1]");
        assert_eq!(BRACKETS.mark("assistant", "<think>a</think>\nbc", 0), "<think>a</think>\n[0]bc[1]");
        assert_eq!(BRACKETS.mark("assistant", "a</think>", 0), "a</think>[0][1]");
    }

    #[test]
    fn what_is_wrong_is_said_of_the_right_message() {
        let wrong =
            |found: &[usize]| missing(3, found).map(|(index, what)| (index, &what["the chat template ".len()..]));
        assert_eq!(wrong(&[0, 1, 2, 3, 4, 5]), None);
        assert_eq!(wrong(&[0, 1, 4, 5]), Some((1, "leaves it out")));
        assert_eq!(wrong(&[]), Some((0, "leaves it out")));
        assert_eq!(wrong(&[0, 1, 2, 4, 5]), Some((1, "leaves a part of it out")));
        assert_eq!(wrong(&[0, 1, 0, 1, 2, 3, 4, 5]), Some((0, "writes it more than once")));
        assert_eq!(wrong(&[4, 5, 2, 3, 0, 1]), Some((0, "moves it")));
        assert_eq!(wrong(&[0, 1, 4, 5, 2, 3]), Some((1, "moves it")));
        assert_eq!(wrong(&[0, 1, 2, 3, 4, 5, 77]), Some((2, "moves it")));
    }
}
