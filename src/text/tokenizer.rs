//! The tokenizer of a bundle.

use std::{borrow::Cow, ops::Range};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::Tokenizer as HfTokenizer;
use unicode_normalization::{IsNormalized, is_nfc_quick};

use super::{
    definition,
    pipeline::{Pipeline, least_bytes},
};
use crate::{Error, Result, error::Reason};

/// One token of an encoded text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextToken {
    /// The token's id.
    pub id: u32,
    /// The bytes of the text that it stands for.
    pub bytes: Range<usize>,
}

/// A token as a caller may have it: its id, or what [`Guard::encode`](crate::Guard::encode) gives.
pub trait TokenId: sealed::Sealed + Sized {
    /// The ids of some tokens.
    #[doc(hidden)]
    fn ids(tokens: &[Self]) -> Cow<'_, [u32]>;
}

impl TokenId for u32 {
    fn ids(tokens: &[Self]) -> Cow<'_, [u32]> {
        tokens.into()
    }
}

impl TokenId for TextToken {
    fn ids(tokens: &[Self]) -> Cow<'_, [u32]> {
        tokens.iter().map(|token| token.id).collect()
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for u32 {}
    impl Sealed for super::TextToken {}
}

/// A Hugging Face tokenizer that reads every text as text: special tokens are never found in it.
pub(crate) struct Tokenizer {
    inner: HfTokenizer,
    /// Finds the spellings of special tokens; the index of a spelling is that of its id in `special_ids`.
    special: AhoCorasick,
    special_ids: Vec<u32>,
    /// The bytes of every token, by id.
    bytes: Vec<Box<[u8]>>,
    /// How many bytes the longest token has.
    longest: usize,
    /// The ids of all tokens that have bytes, sorted by these.
    sorted: Vec<u32>,
    /// The ids of `<think>` and `</think>`, if these are tokens.
    think_tags: Option<(u32, u32)>,
    /// The tokenizer's steps, or the field of `tokenizer.json` that is of an unknown kind.
    pipeline: Result<Pipeline, String>,
}

/// How far the vocabulary's tokens reach from one place of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The longest token there has this many bytes, whatever follows.
    Known(usize),
    /// The text ends where a longer token may still come.
    Open,
}

impl Tokenizer {
    /// Reads the `tokenizer.json` of a model with so many token ids; the error says what is wrong with it.
    pub(crate) fn new(json: &[u8], vocab_size: usize) -> Result<Self, Reason> {
        let used = definition::checked(json, vocab_size)?;
        let mut inner = HfTokenizer::from_bytes(used).map_err(Reason::of_any)?;
        let added = inner.get_added_tokens_decoder();
        let (special_ids, spellings): (Vec<u32>, Vec<&str>) =
            added.iter().filter(|(_, token)| token.special).map(|(id, token)| (*id, token.content.as_str())).unzip();
        let special =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(spellings).map_err(Reason::of)?;
        let len = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        // The ids that added tokens really get are not always those that the file gives them.
        if len > vocab_size {
            let last = len - 1;
            return Err(format!("id {last} is not below model.vocab_size {vocab_size} of guard.toml").into());
        }
        let bytes: Vec<Box<[u8]>> = (0..len as u32)
            .map(|id| match added.get(&id) {
                Some(token) => token.content.as_bytes().into(),
                None => inner.id_to_token(id).map_or_else(Box::default, |token| byte_level(&token)),
            })
            .collect();
        let mut sorted: Vec<u32> = (0..len as u32).filter(|id| !bytes[*id as usize].is_empty()).collect();
        sorted.sort_unstable_by_key(|id| &bytes[*id as usize]);
        let think_tags = inner.token_to_id("<think>").zip(inner.token_to_id("</think>"));
        let pipeline = Pipeline::new(&inner, byte_of);
        // From here on `<|im_end|>` in a text is eleven characters.
        inner.set_encode_special_tokens(true);
        let longest = bytes.iter().map(|bytes| bytes.len()).max().unwrap_or(0).max(1);
        Ok(Tokenizer { inner, special, special_ids, bytes, longest, sorted, think_tags, pipeline })
    }

    /// The first special token that a text spells, the longest if several start there: where, and its id.
    pub(crate) fn find_special(&self, text: &str) -> Option<(Range<usize>, u32)> {
        let found = self.special.find(text)?;
        Some((found.range(), self.special_ids[found.pattern()]))
    }

    /// The special tokens that a text spells, in order: where, and their ids.
    pub(crate) fn specials(&self, text: &str) -> impl Iterator<Item = (Range<usize>, u32)> {
        self.special.find_iter(text).map(|found| (found.range(), self.special_ids[found.pattern()]))
    }

    /// Whether a token is a special one.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// The ids of `<think>` and `</think>`, if these are tokens.
    pub(crate) fn think_tags(&self) -> Option<(u32, u32)> {
        self.think_tags
    }

    /// The bytes that a token stands for, or none if there is no such token.
    pub(crate) fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id as usize).map(|bytes| &**bytes)
    }

    /// How many tokens so many bytes of normalised text are at least.
    pub(crate) fn least_tokens(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.longest)
    }

    /// How many tokens a long stretch of text is at least, whatever follows: by the longest token of the bytes in it.
    pub(crate) fn least_tokens_of(&self, text: &str) -> usize {
        if !text.is_ascii() && is_nfc_quick(text.chars()) != IsNormalized::Yes {
            return self.least_tokens(least_bytes(text.as_bytes()));
        }
        let mut found = [false; 256];
        text.bytes().for_each(|byte| found[byte as usize] = true);
        let of_these = self.bytes.iter().filter(|token| token.iter().all(|byte| found[*byte as usize]));
        let longest = of_these.map(|token| token.len()).max().unwrap_or(0).max(1);
        // The last token may go on beyond the end, and the last character may compose to others of up to four bytes, which
        // as many tokens may hold.
        text.len().saturating_sub(4 * self.longest).div_ceil(longest)
    }

    /// The ids of a text.
    pub(crate) fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(unencodable)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokens of a whole text with the bytes they stand for. Where normalisation changes the text, spans are whole
    /// characters of the original and may overlap.
    pub(crate) fn encode_whole(&self, text: &str) -> Result<Vec<TextToken>> {
        let encoding = self.inner.encode(text, false).map_err(unencodable)?;
        let exact = self.exact_spans(encoding.get_ids(), text);
        let spans = exact.unwrap_or_else(|| covering_spans(encoding.get_offsets(), text.len()));
        Ok(encoding.get_ids().iter().zip(spans).map(|(id, bytes)| TextToken { id: *id, bytes }).collect())
    }

    /// How long tokens can be that start where `text` starts.
    pub(crate) fn reach(&self, text: &[u8]) -> Reach {
        let bytes = |id: &u32| &self.bytes[*id as usize];
        let mut tokens = &self.sorted[..];
        let mut longest = 0;
        for depth in 0.. {
            // Those left all start with the text so far, so the shortest come first.
            while let Some((first, longer)) = tokens.split_first().filter(|(first, _)| bytes(first).len() == depth) {
                debug_assert!(text.starts_with(bytes(first)));
                longest = depth;
                tokens = longer;
            }
            if tokens.is_empty() {
                break;
            }
            let Some(byte) = text.get(depth) else { return Reach::Open };
            tokens = &tokens[tokens.partition_point(|token| bytes(token)[depth] < *byte)..];
            tokens = &tokens[..tokens.partition_point(|token| bytes(token)[depth] == *byte)];
        }
        Reach::Known(longest)
    }

    /// Spans by adding up the tokens' own bytes: exact within characters. None if the bytes are not those of the text.
    fn exact_spans(&self, ids: &[u32], text: &str) -> Option<Vec<Range<usize>>> {
        let mut end = 0;
        let mut spans = Vec::with_capacity(ids.len());
        for id in ids {
            let bytes = self.token_bytes(*id)?;
            if !text.as_bytes()[end..].starts_with(bytes) {
                return None;
            }
            spans.push(end..end + bytes.len());
            end += bytes.len();
        }
        (end == text.len()).then_some(spans)
    }

    /// Whether [`Self::check_steps`] accepts the tokenizer.
    pub(crate) fn has_steps(&self) -> bool {
        self.pipeline.is_ok()
    }

    /// Whether the tokenizer's steps are known one by one, as text in pieces needs them. If not, the error says which
    /// field of `tokenizer.json` is of another kind.
    pub(crate) fn check_steps(&self) -> Result<()> {
        let unknown = |field: &String| {
            let reason = format!("this bundle's tokenizer takes no text in pieces: tokenizer.json: {field}");
            Error::argument("text", reason)
        };
        self.pipeline.as_ref().map(|_| ()).map_err(unknown)
    }

    /// The steps that the tokenizer takes. Only for tokenizers that [`Self::check_steps`] accepts.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        self.pipeline.as_ref().expect("the tokenizer's steps are known, see check_steps")
    }

    /// Splits a normalised text: the pieces within which tokens merge.
    pub(crate) fn split(&self, normal: &str) -> Result<Vec<Range<usize>>> {
        self.pipeline().split(normal).map_err(unencodable)
    }

    /// The tokens of one such piece: their ids and how many bytes each has.
    pub(crate) fn merge(&self, piece: &str) -> Result<Vec<(u32, usize)>> {
        self.pipeline().merge(&self.inner, piece).map_err(unencodable)
    }
}

/// Spans by the tokenizer's offsets. Where normalisation composes characters they name only the first one; the bytes
/// that nobody names belong to the token before them.
fn covering_spans(offsets: &[(usize, usize)], len: usize) -> Vec<Range<usize>> {
    let starts = offsets.iter().skip(1).map(|(start, _)| *start).chain([len]);
    offsets.iter().zip(starts).map(|((start, end), next)| *start..(*end).max(next)).collect()
}

fn unencodable(error: tokenizers::Error) -> Error {
    Error::argument("text", Reason::of_any(error))
}

/// The bytes of a byte-level BPE token. Every byte is written as one character: printable ones as themselves, the
/// others shifted to U+0100 and up (the table of GPT-2's `bytes_to_unicode`).
fn byte_level(token: &str) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(token.len());
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => return token.as_bytes().into(),
        }
    }
    bytes.into()
}

fn byte_of(character: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(character) {
        code @ 0..=0xFF => Some(code as u8).filter(|byte| printable(*byte)),
        code => (0..=255u8).filter(|byte| !printable(*byte)).nth(usize::try_from(code - 0x100).ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_characters_cover_every_byte_once() {
        let mut seen = [false; 256];
        for character in (0..0x200).filter_map(char::from_u32) {
            if let Some(byte) = byte_of(character) {
                assert!(!std::mem::replace(&mut seen[byte as usize], true), "{byte}");
            }
        }
        assert!(seen.iter().all(|seen| *seen));
        assert_eq!(&*byte_level("Ġhi"), b" hi");
        assert_eq!(&*byte_level("Ċ"), b"\n");
    }

    #[test]
    fn tokens_reach_as_far_as_the_vocabulary_says() {
        let json = include_bytes!("../../tests/golden/checkpoints/odd-bf16/tokenizer.json");
        let tokenizer = Tokenizer::new(json, 640).unwrap();
        let longest = tokenizer.bytes.iter().max_by_key(|token| token.len()).unwrap();
        assert_eq!(tokenizer.reach(longest), Reach::Known(longest.len()));
        assert_eq!(tokenizer.reach(&longest[..longest.len() - 1]), Reach::Open);
        assert_eq!(tokenizer.reach(&[]), Reach::Open);
        assert_eq!(tokenizer.reach(&[0xFF, 0xFF]), Reach::Known(1));
    }
}
