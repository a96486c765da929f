//! Which part of a text fits, where all of it does not.

use std::ops::Range;

use super::{encode, tokenizer::Tokenizer};
use crate::{Error, Result};

/// The fewest tokens of a text that are worth judging.
const LEAST_TOKENS: usize = 16;
/// Windows overlap by their tokens divided by this.
const OVERLAP: usize = 4;
/// Bytes of a text that are tokenized at first, for each token that fits.
const BYTES_PER_TOKEN: usize = 8;

/// A text that stands among others, which take some tokens of their own.
pub(crate) struct Fit<'f> {
    tokenizer: &'f Tokenizer,
    text: &'f str,
    /// The most tokens of all together.
    limit: usize,
    /// Tokens of all together, with so much of the text.
    measure: &'f dyn Fn(&str) -> Result<usize>,
    /// Tokens of the text that fit, about.
    room: usize,
}

impl<'f> Fit<'f> {
    /// # Errors
    /// [`Error::ContextFull`] if the others leave room for fewer than 16 tokens; and those of `measure`.
    pub(crate) fn new(
        tokenizer: &'f Tokenizer,
        text: &'f str,
        limit: usize,
        measure: &'f dyn Fn(&str) -> Result<usize>,
    ) -> Result<Self> {
        let start = text.len() - text.trim_start().len();
        let first = text[start..].chars().next().map_or(0, char::len_utf8);
        let others = measure(&text[start..start + first])?;
        let room = limit.saturating_sub(others);
        if room < LEAST_TOKENS {
            return Err(Error::ContextFull { used: others, wanted: LEAST_TOKENS, limit });
        }
        Ok(Fit { tokenizer, text, limit, measure, room })
    }

    /// The longest part from a place on.
    pub(crate) fn from(&self, start: usize) -> Result<Range<usize>> {
        let rest = &self.text[start..];
        let mut bytes = self.room * BYTES_PER_TOKEN;
        loop {
            let some = &rest[..rest.floor_char_boundary(bytes)];
            let ends: Vec<usize> = encode(self.tokenizer, some)?.iter().map(|token| token.bytes.end).collect();
            if ends.len() <= self.room && some.len() < rest.len() {
                bytes = bytes.saturating_mul(2);
                continue;
            }
            return self.shrink(ends.len(), |keep| {
                let end = if keep == ends.len() { some.len() } else { some.floor_char_boundary(ends[keep - 1]) };
                start..start + end
            });
        }
    }

    /// The longest part up to the end.
    pub(crate) fn to_end(&self) -> Result<Range<usize>> {
        let mut bytes = self.room * BYTES_PER_TOKEN;
        loop {
            let start = self.text.ceil_char_boundary(self.text.len().saturating_sub(bytes));
            let some = &self.text[start..];
            let starts: Vec<usize> = encode(self.tokenizer, some)?.iter().map(|token| token.bytes.start).collect();
            if starts.len() <= self.room && start > 0 {
                bytes = bytes.saturating_mul(2);
                continue;
            }
            return self.shrink(starts.len(), |keep| {
                let from = if keep == starts.len() { 0 } else { starts[starts.len() - keep] };
                start + some.ceil_char_boundary(from)..self.text.len()
            });
        }
    }

    /// Parts that have all of the text, each as long as fits, which overlap.
    pub(crate) fn windows(&self) -> Result<Vec<Range<usize>>> {
        let mut windows: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        loop {
            let window = self.from(start)?;
            let end = window.end;
            let tokens = encode(self.tokenizer, &self.text[window.clone()])?;
            if windows.is_empty() || !self.text[window.clone()].trim().is_empty() {
                windows.push(window);
            }
            if end == self.text.len() {
                return Ok(windows);
            }
            let next = tokens.get(tokens.len() - tokens.len() / OVERLAP).map_or(end, |token| start + token.bytes.start);
            start = self.text.floor_char_boundary(next).max(start + 1);
            start = self.text.ceil_char_boundary(start).min(end);
        }
    }

    /// The first part that fits, of those with ever fewer tokens.
    fn shrink(&self, tokens: usize, part: impl Fn(usize) -> Range<usize>) -> Result<Range<usize>> {
        let mut keep = tokens.min(self.room);
        loop {
            if keep < LEAST_TOKENS.min(tokens) {
                let used = self.limit.saturating_sub(self.room);
                return Err(Error::ContextFull { used, wanted: LEAST_TOKENS, limit: self.limit });
            }
            let part = part(keep);
            let count = match (self.measure)(&self.text[part.clone()]) {
                Err(Error::ContextFull { used, wanted, .. }) => (used + wanted).max(self.limit + 1),
                count => count?,
            };
            match count.saturating_sub(self.limit) {
                0 => return Ok(part),
                excess => keep = keep.saturating_sub(excess),
            }
        }
    }
}
