//! The promises of a delta tokenizer, for tests and the fuzz target.

use super::{DeltaTokenizer, Edit, scan::Cut, stretch};
use crate::text::{TextToken, Tokenizer};

/// A delta tokenizer, all of whose promises are checked with every edit.
pub(super) struct Checked<'t> {
    tokenizer: &'t Tokenizer,
    pub(super) delta: DeltaTokenizer,
    /// How many bytes were pushed.
    pub(super) bytes: usize,
}

impl<'t> Checked<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, tail: usize) -> Self {
        Checked { tokenizer, delta: DeltaTokenizer::with_tail(tail), bytes: 0 }
    }

    pub(super) fn push(&mut self, delta: &[u8]) {
        let edit = self.delta.push(self.tokenizer, delta).unwrap();
        self.bytes += delta.len();
        self.apply(edit);
    }

    pub(super) fn finish(&mut self) {
        let edit = self.delta.end_with(self.tokenizer, &[], "").unwrap();
        self.apply(edit);
        assert_eq!(self.delta.stable(), self.delta.tokens().len());
        assert_eq!(self.delta.text.len(), self.bytes);
    }

    fn apply(&mut self, edit: Edit) {
        let before = self.delta.tokens().to_vec();
        let stable = self.delta.stable();
        assert!(edit.keep >= stable, "a stable token changes: {:?} and {edit:?}", self.delta);
        assert!(edit.stable >= stable && edit.stable <= edit.keep + edit.append.len());
        assert!(before.get(edit.keep).is_none_or(|token| edit.append.first() != Some(token)), "it could have stayed");
        self.delta.apply(edit);
        assert_eq!(self.delta.tokens()[..stable], before[..stable]);
        let Cut { at, .. } = self.delta.cuts.last().copied().unwrap_or_default();
        assert!(self.delta.text.len() - at <= self.delta.tail);
        cover(self.delta.tokens(), self.delta.text.len());
    }

    /// What the text so far is as a whole.
    pub(super) fn whole(&self) -> Vec<TextToken> {
        stretch(self.tokenizer, &self.delta.text, self.delta.tail, true, usize::MAX).unwrap().unwrap().tokens
    }
}

/// Tokens stand for all bytes, in order.
fn cover(tokens: &[TextToken], length: usize) {
    let mut last = 0..0;
    for token in tokens {
        let TextToken { bytes, .. } = token;
        assert!(bytes.start < bytes.end && last.start <= bytes.start && last.end <= bytes.end, "{tokens:?}");
        assert!(bytes.start <= last.end, "{tokens:?}");
        last = bytes.clone();
    }
    assert_eq!(last.end, length);
}

/// Feeds a text in pieces whose lengths the first bytes say, up to the first 0xFF. For the fuzz target.
#[cfg(feature = "_internals")]
pub(crate) fn check_deltas(tokenizer: &Tokenizer, data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0xFF);
    let (lengths, mut rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let tail = if lengths.len() % 2 == 0 { super::TAIL } else { 64 };
    let mut checked = Checked::new(tokenizer, tail);
    for length in lengths.iter().map(|length| *length as usize).chain([usize::MAX]) {
        let (delta, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        if checked.delta.push(tokenizer, delta).is_ok() {
            checked.push(delta);
            assert_eq!(checked.delta.tokens(), checked.whole());
        }
    }
    if checked.delta.end_with(tokenizer, &[], "").is_ok() {
        checked.finish();
        assert_eq!(checked.delta.tokens(), checked.whole());
    }
}
