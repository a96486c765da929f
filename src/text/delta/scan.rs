//! What is certain about the tokens of a text that goes on.
//!
//! The tokenizer takes four steps: it finds added tokens in the text as it came, normalises what is between them, splits
//! that into pieces by an expression, and merges bytes to tokens within each piece. What follows a text can change each
//! step's work on its end:
//!
//! - *Added tokens.* The end may be the beginning of one. Up to where that begins the text is either followed by what
//!   stands there or ends there; what is certain must hold for both.
//! - *Normalisation* (NFC) never looks across the start of a chunk, a character that composes with nothing before it.
//!   So text is fixed up to the last such character, and that character can still compose with what follows, but
//!   stays what the expression takes it for: white space, letter, number or neither.
//! - *Splitting* goes from left to right and never looks back. To find a piece it reads the piece itself, then at most
//!   white space, then one character, of which only the kind matters. Contractions, `'re`, read letters that are
//!   themselves in the piece or in the one that reaches the end. So every piece that ends at or before the last character
//!   that is not white space is certain: that character, where a chunk starts, is the *anchor*.
//! - *Merging* stays within a piece. In a run of letters, where only more letters can come and no token of the whole
//!   vocabulary could span a place, no merge ever crosses it. That settles text which has no spaces, such as Chinese.
//!
//! A *cut* is a place from which the rest of the text can be tokenized without what is before it: the end of a certain
//! piece where a chunk starts (the expression starts anew at each piece), or such a place in a run of letters.

use std::ops::Range;

use crate::{
    Result,
    text::{
        pipeline::{Normalized, starts_chunk},
        tokenizer::{Reach, TextToken, Tokenizer},
    },
};

/// How far into a run of letters places are sought that no token can span.
const RUN: usize = 256;

/// A place in the text from which the rest is tokenized without what is before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cut {
    pub(super) at: usize,
    /// How many tokens are before it.
    pub(super) tokens: usize,
    /// So long a text must be to have this cut.
    pub(super) known: usize,
}

/// What a text that starts at a cut and goes on becomes.
pub(super) struct Scan {
    /// Its tokens if it ended here; their bytes count from its start.
    pub(super) tokens: Vec<TextToken>,
    /// So many of them are certain.
    pub(super) stable: usize,
    /// The last cut in it, at its start if there is none.
    pub(super) cut: Cut,
    /// Where it is cut if it must be: not within an added token, and where a chunk starts if there is such a place.
    pub(super) forced: usize,
}

/// The tokens of a text that ends.
pub(super) fn whole(tokenizer: &Tokenizer, text: &str) -> Result<Vec<TextToken>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    for (span, id) in tokenizer.pipeline().added(text) {
        plain(tokenizer, &text[at..span.start], at, &mut tokens)?;
        at = span.end;
        tokens.push(TextToken { id, bytes: span });
    }
    plain(tokenizer, &text[at..], at, &mut tokens)?;
    Ok(tokens)
}

/// The tokens of a text without added tokens, which starts at byte `at`.
fn plain(tokenizer: &Tokenizer, text: &str, at: usize, tokens: &mut Vec<TextToken>) -> Result<()> {
    let normalized = tokenizer.pipeline().normalize(text);
    for piece in tokenizer.split(&normalized.text)? {
        let merged = tokenizer.merge(&normalized.text[piece.clone()])?;
        append(&merged, &normalized, piece.start, at, tokens);
    }
    Ok(())
}

/// Appends the tokens of a piece, which starts at `start` of a normalised text whose original starts at byte `at`.
fn append(merged: &[(u32, usize)], text: &Normalized<'_>, start: usize, at: usize, tokens: &mut Vec<TextToken>) {
    let mut end = start;
    for (id, length) in merged {
        let raw = text.raw(end..end + length);
        end += length;
        tokens.push(TextToken { id: *id, bytes: at + raw.start..at + raw.end });
    }
}

/// The tokens of a text that goes on, and what is certain about them.
pub(super) fn open(tokenizer: &Tokenizer, text: &str) -> Result<Scan> {
    let mut limit = tokenizer.pipeline().unfinished_added(text);
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut next = text.len();
    for (span, id) in tokenizer.pipeline().added(text) {
        if span.end > limit {
            limit = limit.min(span.start);
            next = span.start;
            break;
        }
        plain(tokenizer, &text[at..span.start], at, &mut tokens)?;
        at = span.end;
        tokens.push(TextToken { id, bytes: span });
    }

    let cut = Cut { at, tokens: tokens.len(), known: 0 };
    let mut scan = Scan { stable: tokens.len(), cut, tokens, forced: forced_cut(text, limit) };
    settle(tokenizer, &text[at..next], limit - at, &mut scan)?;
    for token in whole(tokenizer, &text[next..])? {
        scan.tokens.push(TextToken { id: token.id, bytes: next + token.bytes.start..next + token.bytes.end });
    }
    Ok(scan)
}

fn forced_cut(text: &str, limit: usize) -> usize {
    let starts_anew = |(at, character): &(usize, char)| *at > 0 && starts_chunk(*character);
    match text.char_indices().rev().find(starts_anew) {
        Some((place, _)) if limit == text.len() => place,
        _ if limit > 0 => limit,
        _ => text.len(),
    }
}

/// Tokenizes the text between the last certain added token, where `scan` stands, and the next uncertain one. Only the
/// text before `limit` is certain not to be in an added token.
fn settle(tokenizer: &Tokenizer, text: &str, limit: usize, scan: &mut Scan) -> Result<()> {
    let at = scan.cut.at;
    let normalized = tokenizer.pipeline().normalize(text);
    let anchor = Anchor::find(&text[..limit.min(text.len())], &normalized);
    let mut certain = anchor.is_some();
    for piece in tokenizer.split(&normalized.text)? {
        let first = scan.tokens.len();
        let merged = tokenizer.merge(&normalized.text[piece.clone()])?;
        append(&merged, &normalized, piece.start, at, &mut scan.tokens);
        let Some(anchor) = anchor.as_ref().filter(|_| certain) else { continue };
        certain = piece.end <= anchor.at;
        let cut = match chunk_start(text, &normalized, piece.end).filter(|_| certain) {
            Some(raw) => Some((raw, merged.len())),
            None => cut_in_letters(tokenizer, text, &normalized, piece, &merged, anchor),
        };
        if certain {
            scan.stable = scan.tokens.len();
        }
        if let Some((raw, tokens)) = cut {
            scan.cut = Cut { at: at + raw, tokens: first + tokens, known: 0 };
            scan.stable = scan.stable.max(scan.cut.tokens);
        }
    }
    Ok(())
}

/// The last character that is not white space and starts a chunk.
struct Anchor {
    /// Where it is in the normalised text.
    at: usize,
    /// Its end there.
    end: usize,
    /// Up to where the normalised text is fixed: its start, or its end if it never composes.
    fixed: usize,
}

impl Anchor {
    fn find(text: &str, normalized: &Normalized<'_>) -> Option<Self> {
        let is_anchor = |(_, character): &(usize, char)| !character.is_whitespace() && starts_chunk(*character);
        let (raw, _) = text.char_indices().rev().find(is_anchor)?;
        let at = normalized.normal_place(raw);
        let character = normalized.text[at..].chars().next()?;
        let end = at + character.len_utf8();
        // Ideographs compose with nothing.
        let fixed = if matches!(character, '\u{3400}'..='\u{9FFF}') { end } else { at };
        Some(Anchor { at, end, fixed })
    }
}

/// The place in the original for a place in the normalised text where a chunk starts.
fn chunk_start(text: &str, normalized: &Normalized<'_>, place: usize) -> Option<usize> {
    let raw = normalized.raw_place(place)?;
    text[raw..].chars().next().is_some_and(starts_chunk).then_some(raw)
}

/// The last cut within a piece, if it is a run of letters: where, and how many of the piece's tokens are before it. It may
/// be the piece that holds the anchor, or one before it: what was a cut while the piece grew must stay one.
fn cut_in_letters(
    tokenizer: &Tokenizer,
    text: &str,
    normalized: &Normalized<'_>,
    piece: Range<usize>,
    merged: &[(u32, usize)],
    anchor: &Anchor,
) -> Option<(usize, usize)> {
    let letters = letters(tokenizer, &normalized.text[piece.start..piece.end.min(anchor.end)])?;
    let ends = merged.iter().scan(piece.start, |end, (_, length)| {
        *end += length;
        Some(*end)
    });
    let last = anchor.at.min(piece.start + RUN);
    let fixed = &normalized.text.as_bytes()[..anchor.fixed];
    let mut cut = None;
    // No token that starts before `start` goes beyond `reach`.
    let (mut start, mut reach) = (piece.start, piece.start);
    for (tokens, end) in ends.take_while(|end| *end <= last).enumerate() {
        while start < end {
            match tokenizer.reach(&fixed[start..]) {
                Reach::Known(length) => reach = reach.max(start + length),
                Reach::Open => return cut,
            }
            start += 1;
        }
        let in_letters = end > piece.start + letters.start && normalized.text.is_char_boundary(end);
        if in_letters && reach <= end {
            cut = chunk_start(text, normalized, end).map(|raw| (raw, tokens + 1)).or(cut);
        }
    }
    cut
}

/// Where the letters are in a piece that can only go on with letters, given up to its anchor: after at most one other
/// character, and not in what may be a contraction.
fn letters(tokenizer: &Tokenizer, piece: &str) -> Option<Range<usize>> {
    let letters = tokenizer.pipeline().letters(piece)?;
    let first = piece.chars().next().map_or(0, char::len_utf8);
    let contraction = piece.starts_with('\'') && piece.chars().count() <= 3;
    (letters.end == piece.len() && letters.start <= first && !contraction).then_some(letters)
}
