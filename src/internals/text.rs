//! Texts that grow.

use crate::text::{DeltaTokenizer, Tokenizer, check_answer, check_deltas};

/// A text that is tokenized as it grows.
pub struct TextDeltas {
    tokenizer: Tokenizer,
    text: DeltaTokenizer,
}

impl TextDeltas {
    /// An empty text for the tokenizer of this `tokenizer.json`.
    pub fn new(json: &[u8]) -> Self {
        let tokenizer = Tokenizer::new(json, 1 << 20).unwrap_or_else(|reason| panic!("{reason}"));
        let text = DeltaTokenizer::new(&tokenizer, 0, usize::MAX).unwrap_or_else(|error| panic!("{error}"));
        TextDeltas { tokenizer, text }
    }

    /// Adds a delta.
    pub fn push(&mut self, delta: &[u8]) {
        let edit = self.text.push(&self.tokenizer, delta).unwrap_or_else(|error| panic!("{error}"));
        self.text.apply(edit);
    }

    /// Cuts the text back to so many bytes.
    pub fn truncate(&mut self, bytes: usize) {
        let edit = self.text.truncate(&self.tokenizer, bytes).unwrap_or_else(|error| panic!("{error}"));
        self.text.apply(edit);
    }

    /// Tokens so far.
    pub fn tokens(&self) -> usize {
        self.text.tokens().len()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.text.bytes()
    }
}

/// For fuzzing: texts whose every promise is checked.
pub struct CheckedTexts(Tokenizer);

impl CheckedTexts {
    /// Texts for the tokenizer of this `tokenizer.json`.
    pub fn new(json: &[u8]) -> Self {
        CheckedTexts(Tokenizer::new(json, 640).unwrap_or_else(|reason| panic!("{reason}")))
    }

    /// A text in pieces whose lengths the first bytes say, up to the first 0xFF.
    pub fn deltas(&self, data: &[u8]) {
        check_deltas(&self.0, data);
    }

    /// An answer: each step is an instruction, a length and as many bytes.
    pub fn answer(&self, data: &[u8]) {
        check_answer(&self.0, data);
    }
}
