//! The steps of a byte-level BPE tokenizer, one at a time: added tokens, normalisation, splitting, merging.
//!
//! `tokenizers` runs them in one go over a whole text. Feeding a text in pieces needs to know what each step did.

use std::{borrow::Cow, ops::Range};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{
    Model, ModelWrapper, NormalizedString, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    Tokenizer as HfTokenizer, models::bpe::BPE, pre_tokenizers::split::SplitPattern, tokenizer::pattern::Pattern,
    utils::SysRegex,
};
use unicode_normalization::{
    IsNormalized,
    char::{canonical_combining_class, decompose_canonical},
    is_nfc_quick,
};

/// How Qwen2, 2.5 and 3 split a text: the only expression whose unstable end is known (see `delta::scan`).
pub(crate) const SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The longest spelling of an added token, in bytes.
const ADDED_LENGTH: usize = 128;

/// To how small a part NFC may shorten a text.
pub(super) const NFC_SHORTENS: usize = 4;

/// A tokenizer's steps. Which tokenizers have them: see [`Pipeline::new`].
pub(crate) struct Pipeline {
    nfc: bool,
    split: SysRegex,
    letters: SysRegex,
    /// Finds the spellings of added tokens in a text as it came, special ones too: they hide others.
    added: AhoCorasick,
    /// Spelling and id of each; none for special tokens, which are text here.
    added_tokens: Vec<(String, Option<u32>)>,
    added_longest: usize,
    /// How the vocabulary writes each byte.
    characters: [char; 256],
}

impl Pipeline {
    /// Reads the steps of a tokenizer. Refused, naming the field of `tokenizer.json`, is every tokenizer that has
    /// others than these: no normalizer or NFC, a split by Qwen's expression, byte-level BPE without dropout over all
    /// 256 bytes, added tokens that are matched exactly and before normalisation.
    pub(crate) fn new(tokenizer: &HfTokenizer, byte_of: impl Fn(char) -> Option<u8>) -> Result<Self, String> {
        let nfc = match tokenizer.get_normalizer() {
            None => false,
            Some(NormalizerWrapper::NFC(_)) => true,
            Some(_) => return Err("normalizer: must be NFC or null".into()),
        };
        check_pre_tokenizer(tokenizer.get_pre_tokenizer())?;
        let model = bpe(tokenizer).ok_or("model.type: must be BPE")?;
        let mut characters = ['\0'; 256];
        for character in (0..0x200).filter_map(char::from_u32) {
            if let Some(byte) = byte_of(character) {
                characters[byte as usize] = character;
            }
        }
        check_model(model, &characters)?;

        let added_tokens = added_tokens(tokenizer)?;
        let added = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(added_tokens.iter().map(|(spelling, _)| spelling))
            .map_err(|error| format!("added_tokens: {error}"))?;
        let regex = |pattern| SysRegex::new(pattern).map_err(|error| format!("pre_tokenizer: {error}"));
        Ok(Pipeline {
            nfc,
            split: regex(SPLIT)?,
            letters: regex(r"\p{L}+")?,
            added,
            added_longest: added_tokens.iter().map(|(spelling, _)| spelling.len()).max().unwrap_or(0),
            added_tokens,
            characters,
        })
    }

    /// The added tokens that a text spells, with their ids.
    pub(crate) fn added<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (Range<usize>, u32)> + 'a {
        self.added.find_iter(text).filter_map(|found| Some((found.range(), self.added_tokens[found.pattern()].1?)))
    }

    /// Where the spelling of an added token may begin that the end of the text cuts off; the text's length if none.
    pub(crate) fn unfinished_added(&self, text: &str) -> usize {
        let begins = |at: &usize| {
            let end = &text.as_bytes()[*at..];
            self.added_tokens.iter().any(|(token, _)| token.len() > end.len() && token.as_bytes().starts_with(end))
        };
        (text.len().saturating_sub(self.added_longest)..text.len()).find(begins).unwrap_or(text.len())
    }

    /// Normalises a text between added tokens.
    pub(crate) fn normalize<'t>(&self, text: &'t str) -> Normalized<'t> {
        if !self.nfc || text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
            return Normalized { text: Cow::Borrowed(text), rewrites: Vec::new() };
        }
        let mut normal = String::with_capacity(text.len());
        let mut rewrites = Vec::new();
        for raw in chunks(text) {
            let chunk = &text[raw.clone()];
            let start = normal.len();
            if is_nfc_quick(chunk.chars()) == IsNormalized::Yes {
                normal.push_str(chunk);
                continue;
            }
            // The tokenizer's own normalisation: its Unicode version is not that of our tables.
            let mut normalized = NormalizedString::from(chunk);
            normalized.nfc();
            normal.push_str(normalized.get());
            if normalized.get() != chunk {
                rewrites.push(Rewrite { raw, normal: start..normal.len() });
            }
        }
        Normalized { text: Cow::Owned(normal), rewrites }
    }

    /// Splits a normalised text: the pieces within which tokens merge.
    pub(crate) fn split(&self, normal: &str) -> tokenizers::Result<Vec<Range<usize>>> {
        if normal.is_empty() {
            return Ok(Vec::new());
        }
        Ok((&self.split).find_matches(normal)?.into_iter().map(|((start, end), _)| start..end).collect())
    }

    /// Where the first run of letters of a text is.
    pub(crate) fn letters(&self, text: &str) -> Option<Range<usize>> {
        self.letters.find_iter(text).next().map(|(start, end)| start..end)
    }

    /// The tokens of one piece: their ids and how many bytes each has.
    pub(crate) fn merge(&self, tokenizer: &HfTokenizer, piece: &str) -> tokenizers::Result<Vec<(u32, usize)>> {
        let written: String = piece.bytes().map(|byte| self.characters[byte as usize]).collect();
        let tokens = tokenizer.get_model().tokenize(&written)?;
        Ok(tokens.into_iter().map(|token| (token.id, token.value.chars().count())).collect())
    }
}

fn bpe(tokenizer: &HfTokenizer) -> Option<&BPE> {
    match tokenizer.get_model() {
        ModelWrapper::BPE(model) => Some(model),
        _ => None,
    }
}

fn check_pre_tokenizer(pre_tokenizer: Option<&PreTokenizerWrapper>) -> Result<(), String> {
    let steps = match pre_tokenizer {
        Some(PreTokenizerWrapper::Sequence(sequence)) => sequence.as_ref(),
        _ => &[],
    };
    let [PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(bytes)] = steps else {
        return Err("pre_tokenizer: must be a Sequence of Split and ByteLevel".into());
    };
    if split.pattern != SplitPattern::Regex(SPLIT.into()) {
        return Err(format!("pre_tokenizer: Split.pattern: must be Qwen's, which is {SPLIT}"));
    }
    if split.behavior != SplitDelimiterBehavior::Isolated || split.invert {
        return Err("pre_tokenizer: Split: must be Isolated and not inverted".into());
    }
    if bytes.add_prefix_space || bytes.use_regex {
        return Err("pre_tokenizer: ByteLevel: must neither add a space nor split".into());
    }
    Ok(())
}

fn check_model(model: &BPE, characters: &[char]) -> Result<(), String> {
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err("model.dropout: must be null".into());
    }
    let affix = |affix: &Option<String>| affix.as_ref().is_some_and(|affix| !affix.is_empty());
    if affix(&model.continuing_subword_prefix) || affix(&model.end_of_word_suffix) {
        return Err("model: continuing_subword_prefix and end_of_word_suffix: must be empty".into());
    }
    let missing = (0..=255u8).find(|byte| model.token_to_id(&characters[*byte as usize].to_string()).is_none());
    missing.map_or(Ok(()), |byte| Err(format!("model.vocab: there is no token for byte 0x{byte:02X}")))
}

/// The added tokens that are looked for before normalisation. Special ones keep no id.
fn added_tokens(tokenizer: &HfTokenizer) -> Result<Vec<(String, Option<u32>)>, String> {
    let mut tokens = Vec::new();
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        let content = &token.content;
        if !token.special && (token.normalized || token.single_word || token.lstrip || token.rstrip) {
            let reason = "normalized, single_word, lstrip and rstrip must be false";
            return Err(format!("added_tokens: {content}: {reason}"));
        }
        if content.len() > ADDED_LENGTH {
            return Err(format!("added_tokens: {content}: must have at most {ADDED_LENGTH} bytes"));
        }
        if !token.normalized {
            tokens.push((content.clone(), (!token.special).then_some(id)));
        }
    }
    Ok(tokens)
}

/// Whether what stands before a character never changes how it normalises, nor the other way round: its decomposition
/// starts with a starter that composes with nothing before it.
///
/// Unicode never changes the normalisation of a character once it is assigned, so newer tables than the tokenizer's say
/// the same about all characters that it knows; the others it leaves alone.
pub(crate) fn starts_chunk(character: char) -> bool {
    if character < '\u{300}' {
        return true;
    }
    let mut first = None;
    decompose_canonical(character, |part| first = first.or(Some(part)));
    let first = first.unwrap_or(character);
    canonical_combining_class(first) == 0 && is_nfc_quick(std::iter::once(first)) == IsNormalized::Yes
}

/// How many bytes a text has at least after normalisation.
pub(crate) fn least_bytes(text: &[u8]) -> usize {
    if text.is_ascii() { text.len() } else { text.len() / NFC_SHORTENS }
}

/// The stretches of a text that normalise each by itself.
fn chunks(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &text[start..];
        let next = rest.char_indices().skip(1).find(|(_, character)| starts_chunk(*character));
        let chunk = start..start + next.map_or(rest.len(), |(at, _)| at);
        start = chunk.end;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// A normalised text, and where it differs from what it was.
pub(crate) struct Normalized<'t> {
    pub(crate) text: Cow<'t, str>,
    rewrites: Vec<Rewrite>,
}

/// A stretch that normalisation writes otherwise.
struct Rewrite {
    raw: Range<usize>,
    normal: Range<usize>,
}

impl Normalized<'_> {
    /// The bytes of the original that a stretch of the normalised text stands for. Where normalisation changed
    /// something, that is all that was changed together.
    pub(crate) fn raw(&self, normal: Range<usize>) -> Range<usize> {
        let start = match self.rewrite_around(normal.start) {
            Some(rewrite) => rewrite.raw.start,
            None => self.shift(normal.start),
        };
        let end = match self.rewrite_around(normal.end) {
            Some(rewrite) => rewrite.raw.end,
            None => self.shift(normal.end),
        };
        start..end
    }

    /// The place in the original for a place in the normalised text, unless it is within a change.
    pub(crate) fn raw_place(&self, normal: usize) -> Option<usize> {
        self.rewrite_around(normal).is_none().then(|| self.shift(normal))
    }

    /// The place in the normalised text for one in the original where a chunk starts.
    pub(crate) fn normal_place(&self, raw: usize) -> usize {
        let before = self.rewrites.partition_point(|rewrite| rewrite.raw.end <= raw);
        match before.checked_sub(1).map(|last| &self.rewrites[last]) {
            Some(rewrite) => raw - rewrite.raw.end + rewrite.normal.end,
            None => raw,
        }
    }

    fn rewrite_around(&self, normal: usize) -> Option<&Rewrite> {
        let before = self.rewrites.partition_point(|rewrite| rewrite.normal.start < normal);
        before.checked_sub(1).map(|last| &self.rewrites[last]).filter(|rewrite| normal < rewrite.normal.end)
    }

    /// For a place that is within no change.
    fn shift(&self, normal: usize) -> usize {
        let before = self.rewrites.partition_point(|rewrite| rewrite.normal.end <= normal);
        match before.checked_sub(1).map(|last| &self.rewrites[last]) {
            Some(rewrite) => normal - rewrite.normal.end + rewrite.raw.end,
            None => normal,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::text::Tokenizer;

    const JSON: &str = include_str!("../../tests/golden/checkpoints/odd-bf16/tokenizer.json");

    /// What is said about a tokenizer one of whose fields has another value.
    fn refusal(pointer: &str, value: Value) -> String {
        let mut json: Value = serde_json::from_str(JSON).unwrap();
        *json.pointer_mut(pointer).unwrap() = value;
        match Tokenizer::new(json.to_string().as_bytes(), 640) {
            Err(reason) => reason.reason,
            Ok(tokenizer) => tokenizer.check_steps().unwrap_err().to_string(),
        }
    }

    #[test]
    fn other_steps_are_refused_by_name() {
        let cases = [
            ("/normalizer", json!({"type": "NFKC"}), "normalizer: must be NFC"),
            ("/pre_tokenizer", json!({"type": "Whitespace"}), "pre_tokenizer: must be a Sequence"),
            ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("."), "pre_tokenizer: Split.pattern"),
            ("/pre_tokenizer/pretokenizers/0/behavior", json!("Removed"), "pre_tokenizer: Split: must be Isolated"),
            ("/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true), "pre_tokenizer: ByteLevel"),
            ("/model/dropout", json!(0.5), "model.dropout"),
            ("/model/end_of_word_suffix", json!("</w>"), "end_of_word_suffix"),
            ("/added_tokens/5/normalized", json!(true), "added_tokens: <think>"),
            ("/added_tokens/5/lstrip", json!(true), "added_tokens: <think>"),
            ("/added_tokens/5/content", json!("x".repeat(200)), "at most 128 bytes"),
        ];
        for (pointer, value, expected) in cases {
            let reason = refusal(pointer, value);
            assert!(reason.contains(expected), "{pointer}: {reason}");
        }
    }

    #[test]
    fn chunks_are_what_normalises_alone() {
        let text = "e\u{301}a\u{1100}\u{1161}\u{11a8}\u{958}\u{212a}\u{f900}\u{f900}";
        let found: Vec<&str> = chunks(text).map(|range| &text[range]).collect();
        let expected = ["e\u{301}", "a", "\u{1100}\u{1161}\u{11a8}", "\u{958}", "\u{212a}", "\u{f900}", "\u{f900}"];
        assert_eq!(found, expected);
    }

    #[test]
    fn places_survive_normalisation() {
        let rewrites = vec![Rewrite { raw: 1..4, normal: 1..3 }, Rewrite { raw: 4..7, normal: 3..9 }];
        let normalized = Normalized { text: Cow::Borrowed("a__------z"), rewrites };
        assert_eq!(normalized.raw(0..1), 0..1);
        assert_eq!(normalized.raw(0..2), 0..4);
        assert_eq!(normalized.raw(2..3), 1..4);
        assert_eq!(normalized.raw(3..9), 4..7);
        assert_eq!(normalized.raw(8..10), 4..8);
        assert_eq!(normalized.raw_place(2), None);
        assert_eq!(normalized.raw_place(3), Some(4));
        assert_eq!(normalized.raw_place(9), Some(7));
        for raw in [0, 1, 4, 7, 8] {
            assert_eq!(normalized.raw_place(normalized.normal_place(raw)), Some(raw));
        }
    }
}
