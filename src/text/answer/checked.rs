//! The promises of an answer's text, for tests and the fuzz target.

use std::ops::Range;

use super::{AnswerText, AnswerToken, TextChange, TokenEdit};
use crate::text::{Frame, ThinkFrame, Tokenizer, markup::Markup};

/// A frame whose ids stand for nothing.
fn frame() -> Frame {
    let thinking = ThinkFrame { open: vec![1], bare: vec![1], tail: "\n".to_owned(), close: vec![2, 3] };
    Frame { plain: vec![1], thinking: Some(thinking), end: vec![4], start: Markup::start() }
}

/// An answer's text, all of whose promises are checked with every edit.
pub(super) struct Checked<'t> {
    tokenizer: &'t Tokenizer,
    frame: Frame,
    text: AnswerText,
    /// The tokens as the model has them: only edits have changed them.
    tokens: Vec<AnswerToken>,
    stable: usize,
    /// Bytes that came, and which of them the caller named as thinking.
    bytes: Vec<u8>,
    declared: Range<usize>,
}

impl<'t> Checked<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> Self {
        let frame = frame();
        let text = AnswerText::new(&frame, usize::MAX);
        Checked { tokenizer, frame, text, tokens: Vec::new(), stable: 0, bytes: Vec::new(), declared: 0..0 }
    }

    /// Pushes bytes if they are acceptable; says whether.
    pub(super) fn push(&mut self, declared: bool, bytes: &[u8]) -> bool {
        let Ok(changed) = self.text.push(self.tokenizer, &self.frame, declared, bytes) else { return false };
        if declared && self.declared.is_empty() {
            self.declared.start = self.bytes.len();
        }
        self.bytes.extend_from_slice(bytes);
        if declared {
            self.declared.end = self.bytes.len();
        }
        self.grow(changed);
        true
    }

    /// Ends the answer, checks that, and takes the end back.
    pub(super) fn finish_and_go_on(&mut self) {
        let Ok(changed) = self.text.finish(self.tokenizer, &self.frame) else { return };
        self.grow(changed);
        assert_eq!(self.stable, self.tokens.len(), "the end leaves nothing open");
        assert_eq!(self.text.floor(usize::MAX), self.bytes.len());
        self.cover();
        self.truncate(self.bytes.len());
    }

    pub(super) fn truncate(&mut self, length: usize) {
        let result = self.text.truncate(self.tokenizer, &self.frame, length);
        let inside = self.bytes.get(length).is_some_and(|byte| byte & 0xC0 == 0x80);
        let Ok(changed) = result else {
            // Only part of a character may be there yet, too.
            let whole = std::str::from_utf8(&self.bytes).map_or_else(|error| error.valid_up_to(), str::len);
            assert!(inside || length > whole, "{length} of {:?}", self.bytes);
            return;
        };
        assert!(!inside && length <= self.bytes.len());
        self.bytes.truncate(length);
        self.declared = self.declared.start.min(length)..self.declared.end.min(length);
        self.apply(changed);
        self.check();
    }

    fn grow(&mut self, changed: (TokenEdit, TextChange)) {
        assert!(changed.0.keep >= self.stable, "a stable token changes");
        assert!(changed.0.stable >= self.stable, "a stable token is open again");
        self.apply(changed);
    }

    fn apply(&mut self, (tokens, text): (TokenEdit, TextChange)) {
        self.tokens.truncate(tokens.keep);
        self.tokens.extend(tokens.append);
        self.stable = tokens.stable;
        self.text.apply(text);
        assert!(self.stable <= self.tokens.len());
        assert_eq!(self.text.tokens(&self.frame), self.tokens);
        assert_eq!(self.text.stable(&self.frame), self.stable);
        assert_eq!(self.text.received(), self.bytes.len());
        let floor = self.text.floor(usize::MAX);
        assert!(self.bytes.get(floor).is_none_or(|byte| byte & 0xC0 != 0x80), "{floor} of {:?}", self.bytes);
    }

    /// The tokens are as if the bytes had come at once. How many are known to be stable may differ: in a long run of
    /// letters that is only looked for near the end.
    pub(super) fn check(&self) {
        let mut whole = AnswerText::new(&self.frame, usize::MAX);
        let (start, end) = (self.declared.start, self.declared.end);
        let parts = [(&self.bytes[..start], false), (&self.bytes[start..end], true), (&self.bytes[end..], false)];
        for (bytes, declared) in parts {
            if !bytes.is_empty() {
                let (_, change) = whole.push(self.tokenizer, &self.frame, declared, bytes).unwrap();
                whole.apply(change);
            }
        }
        assert_eq!(whole.tokens(&self.frame), self.tokens, "{:?}", String::from_utf8_lossy(&self.bytes));
    }

    /// Tokens that are judged stand for all bytes but tags and line breaks around thinking.
    fn cover(&self) {
        let mut end = 0;
        for token in self.tokens.iter().filter(|token| token.judged) {
            if token.bytes.start > end {
                self.check_gap(end, token.bytes.start);
            }
            assert!(token.bytes.start < token.bytes.end);
            end = end.max(token.bytes.end);
        }
        self.check_gap(end, self.bytes.len());
    }

    fn check_gap(&self, start: usize, end: usize) {
        let gap = String::from_utf8_lossy(&self.bytes[start..end]).replace("<think>", "").replace("</think>", "");
        assert_eq!(gap.trim_matches('\n'), "", "bytes {start}..{end} are not judged");
    }
}

/// What a fuzzer's bytes do to an answer: each step is an instruction, a length and as many bytes.
pub(crate) fn check_answer(tokenizer: &Tokenizer, mut data: &[u8]) {
    let mut checked = Checked::new(tokenizer);
    while let [instruction, length, rest @ ..] = data {
        let (bytes, rest) = rest.split_at((*length as usize).min(rest.len()));
        data = rest;
        match instruction % 8 {
            0 => checked.truncate(checked.bytes.len() * *length as usize / 255),
            1 => checked.finish_and_go_on(),
            2 => drop(checked.push(true, bytes)),
            _ => drop(checked.push(false, bytes)),
        }
        checked.check();
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

    use super::*;
    use crate::text::random_text::random_text;

    fn tokenizer() -> Tokenizer {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/checkpoints/odd-bf16/tokenizer.json");
        Tokenizer::new(&std::fs::read(path).unwrap(), 640).unwrap()
    }

    /// Answers as models and attackers write them, in any pieces, cut back and ended at any time.
    #[test]
    fn however_an_answer_comes_its_tokens_are_those_of_the_whole() {
        let tokenizer = tokenizer();
        let mut random = StdRng::seed_from_u64(31);
        for _ in 0..10_000 {
            let mut checked = Checked::new(&tokenizer);
            let starts = ["", "<think>", "\n\n<think>\n", "<think>\n\n</think>", "<think>\nso.\n</think>\n\n"];
            let start = *starts.choose(&mut random).unwrap();
            let text = format!("{start}{}</think>{}", random_text(&mut random), random_text(&mut random));
            let named = if random.random_range(0..4) == 0 { random.random_range(0..=text.len()) } else { 0 };
            let named = text.floor_char_boundary(named);
            let mut at = 0;
            while at < text.len() {
                let declared = at < named;
                let end = if declared { named } else { text.len() }.min(at + random.random_range(0..12));
                assert!(checked.push(declared, &text.as_bytes()[at..end]));
                at = end;
                match random.random_range(0..24) {
                    0 => {
                        checked.truncate(random.random_range(0..=at));
                        break;
                    }
                    1 => checked.finish_and_go_on(),
                    _ => {}
                }
            }
            checked.check();
            checked.finish_and_go_on();
        }
    }

    #[test]
    fn instructions_of_the_fuzzer_are_run() {
        let tokenizer = tokenizer();
        let mut random = StdRng::seed_from_u64(32);
        for _ in 0..5_000 {
            let mut data = Vec::new();
            for _ in 0..random.random_range(0..12) {
                let text = random_text(&mut random);
                let length = random.random_range(0..40).min(text.len());
                data.extend([random.random_range(0..8), length as u8]);
                data.extend(&text.as_bytes()[..length]);
            }
            check_answer(&tokenizer, &data);
        }
    }
}
