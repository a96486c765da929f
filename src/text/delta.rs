//! Text deltas to token edits.
//!
//! A text that grows is tokenized as it grows. Of its tokens so far, the *stable* ones are those that no continuation
//! can change (see [`scan`] for why); the others are what the text would be if it ended here. Only the text since the
//! last *cut* is tokenized again, so a delta costs what it and that tail cost, never the whole text.
//!
//! The tail is bounded: when [`TAIL`] bytes go by without a cut, the text is cut by force, before the last character
//! there that starts anew in normalisation. Where that is depends on the text alone, not on how it came, and
//! [`encode`] does the same with a whole text. So the tokens are those of the tokenizer's own encoding, except in text
//! with a stretch of [`TAIL`] bytes that cannot be cut, such as one word of that length.

#[cfg(any(test, feature = "_internals"))]
mod checked;
mod scan;
#[cfg(test)]
mod tests;

#[cfg(feature = "_internals")]
pub(crate) use checked::check_deltas;

use std::collections::TryReserveError;

use super::tokenizer::{TextToken, Tokenizer};
use crate::{Error, Result, error::Reason};
use scan::Cut;

/// The most bytes of text that are tokenized again with each delta.
pub(crate) const TAIL: usize = 1024;

/// How many bytes of a whole text are tokenized at once.
pub(crate) const WINDOW: usize = 8 * 1024;

/// A text that comes in deltas, and its tokens.
#[derive(Debug, Clone)]
pub(crate) struct DeltaTokenizer {
    /// All whole characters so far.
    text: String,
    /// The start of a character that the last delta cut off.
    carry: Vec<u8>,
    tokens: Vec<TextToken>,
    stable: usize,
    cuts: Vec<Cut>,
    tail: usize,
    /// Where the text starts in the caller's bytes: tokens and errors count from there.
    offset: usize,
    /// The most tokens that it may have.
    most: usize,
}

/// A change of a text and its tokens: the first `keep` tokens stay, the others give way to `append`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// How many of the tokens stay.
    pub(crate) keep: usize,
    /// The tokens that follow them. Their bytes are those of the whole text as the caller gave it.
    pub(crate) append: Vec<TextToken>,
    /// How many tokens, of all that there are then, no continuation can change.
    pub(crate) stable: usize,
    text_keep: usize,
    text: String,
    carry: Vec<u8>,
    cuts_keep: usize,
    cuts: Vec<Cut>,
}

/// The tokens of a stretch of text that starts at a cut.
struct Stretch {
    tokens: Vec<TextToken>,
    stable: usize,
    cuts: Vec<Cut>,
}

impl DeltaTokenizer {
    /// An empty text that starts at this byte of the caller's and may have at most so many tokens.
    ///
    /// # Errors
    /// [`Error::Argument`] if the tokenizer is of a kind that takes no text in pieces.
    pub(crate) fn new(tokenizer: &Tokenizer, offset: usize, most: usize) -> Result<Self> {
        tokenizer.check_steps()?;
        Ok(DeltaTokenizer { offset, most, ..Self::with_tail(TAIL) })
    }

    fn with_tail(tail: usize) -> Self {
        DeltaTokenizer {
            text: String::new(),
            carry: Vec::new(),
            tokens: Vec::new(),
            stable: 0,
            cuts: Vec::new(),
            tail,
            offset: 0,
            most: usize::MAX,
        }
    }

    /// All whole characters so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The tokens of the text so far.
    pub(crate) fn tokens(&self) -> &[TextToken] {
        &self.tokens
    }

    /// Where the text starts in the caller's bytes.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes so far, those of a character that is not whole included.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + self.carry.len()
    }

    /// How many of them no continuation can change.
    pub(crate) fn stable(&self) -> usize {
        self.stable
    }

    /// What the next bytes of the text change. A character that they only begin waits for its rest. Nothing happens
    /// until the edit is [applied](Self::apply).
    ///
    /// # Errors
    /// [`Error::Argument`] if the bytes are not UTF-8 where they are. It says at which byte of the text.
    /// [`Error::ContextFull`] as soon as more tokens are certain than the text may have: the rest is not tokenized.
    pub(crate) fn push(&self, tokenizer: &Tokenizer, delta: &[u8]) -> Result<Edit> {
        let (text, carry) = self.decode(delta)?;
        self.edit(tokenizer, self.cuts.len(), self.text.len(), text, carry, false)
    }

    /// What the last bytes of the text change, with `after` right behind them: all tokens become stable. Those bytes
    /// are none of the caller's.
    ///
    /// # Errors
    /// As [`push`](Self::push), also if the text ends within a character.
    pub(crate) fn end_with(&self, tokenizer: &Tokenizer, delta: &[u8], after: &str) -> Result<Edit> {
        let (mut text, carry) = self.decode(delta)?;
        if !carry.is_empty() {
            return Err(self.ends_within_character(self.text.len() + text.len()));
        }
        text.push_str(after);
        self.edit(tokenizer, self.cuts.len(), self.text.len(), text, carry, true)
    }

    /// The whole characters that some bytes add, and the start of one.
    fn decode(&self, delta: &[u8]) -> Result<(String, Vec<u8>)> {
        let mut bytes = [&self.carry, delta].concat();
        let whole = match std::str::from_utf8(&bytes) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(error) => {
                let at = self.offset + self.text.len() + error.valid_up_to();
                return Err(Error::argument("text", Reason::from(format!("it is not UTF-8 at byte {at}")).with(error)));
            }
        };
        let carry = bytes.split_off(whole);
        Ok((String::from_utf8(bytes).expect("it is valid up to there"), carry))
    }

    fn ends_within_character(&self, at: usize) -> Error {
        let reason = format!("it ends within the character that starts at byte {}", self.offset + at);
        Error::argument("text", reason)
    }

    /// What cutting the text back to its first `length` bytes changes. Afterwards all is as if no more had ever come:
    /// tokens near the new end may differ and may no longer be stable.
    ///
    /// # Errors
    /// [`Error::Argument`] if the text is shorter or that is within a character.
    pub(crate) fn truncate(&self, tokenizer: &Tokenizer, length: usize) -> Result<Edit> {
        if !self.text.is_char_boundary(length) {
            return Err(cut_error(self.offset + length, self.offset + self.text.len()));
        }
        let cuts = self.cuts.partition_point(|cut| cut.known <= length);
        self.edit(tokenizer, cuts, length, String::new(), Vec::new(), false)
    }

    /// Makes a change of this text, as it is now, happen.
    pub(crate) fn apply(&mut self, edit: Edit) {
        self.text.truncate(edit.text_keep);
        self.text.push_str(&edit.text);
        self.carry = edit.carry;
        self.tokens.truncate(edit.keep);
        self.tokens.extend(edit.append);
        self.stable = edit.stable;
        self.cuts.truncate(edit.cuts_keep);
        self.cuts.extend(edit.cuts);
    }

    /// Keeps so many cuts and bytes, appends a text, and tokenizes all after the last of those cuts.
    fn edit(
        &self,
        tokenizer: &Tokenizer,
        cuts_keep: usize,
        text_keep: usize,
        text: String,
        carry: Vec<u8>,
        ends: bool,
    ) -> Result<Edit> {
        let base = cuts_keep.checked_sub(1).map_or_else(Cut::default, |last| self.cuts[last]);
        let tail = [&self.text[base.at..text_keep], &text].concat();
        let most = self.most.saturating_sub(base.tokens);
        let full = |new: usize| Error::ContextFull {
            used: self.stable,
            wanted: (base.tokens + new).saturating_sub(self.stable),
            limit: self.most,
        };
        let Stretch { mut tokens, stable, mut cuts } =
            stretch(tokenizer, &tail, self.tail, ends, most)?.map_err(full)?;
        let start = self.offset + base.at;
        for token in &mut tokens {
            token.bytes = start + token.bytes.start..start + token.bytes.end;
        }
        // With a cut, all before it are known.
        let mut known = base.known;
        for cut in &mut cuts {
            known = known.max(base.at + cut.known);
            *cut = Cut { at: base.at + cut.at, tokens: base.tokens + cut.tokens, known };
        }
        let same = self.tokens[base.tokens..].iter().zip(&tokens).take_while(|(old, new)| old == new).count();
        Ok(Edit {
            keep: base.tokens + same,
            append: tokens.split_off(same),
            stable: base.tokens + stable,
            text_keep,
            text,
            carry,
            cuts_keep,
            cuts,
        })
    }
}

/// The tokens of a whole text, the same as of its deltas however they come.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<TextToken>> {
    let stretch = stretch(tokenizer, text, TAIL, true, usize::MAX)?;
    Ok(stretch.expect("no text has so many tokens").tokens)
}

/// The ids of a whole text, or how many there are at least if that is more than `most`. Never cuts by force: the ids are
/// those of the tokenizer itself, and a long stretch that cannot be cut is tokenized as one, if it may fit.
pub(crate) fn ids(tokenizer: &Tokenizer, text: &str, most: usize) -> Result<Result<Vec<u32>, usize>> {
    let mut ids: Vec<u32> = Vec::new();
    let (mut rest, mut window) = (text, WINDOW);
    while ids.len() <= most {
        let piece = &rest[..rest.floor_char_boundary(window)];
        if piece.len() > WINDOW {
            let least = ids.len() + tokenizer.least_tokens_of(piece);
            if least > most {
                return Ok(Err(least));
            }
        }
        if piece.len() == rest.len() {
            ids.extend(scan::whole(tokenizer, piece)?.iter().map(|token| token.id));
            break;
        }
        let scan = scan::open(tokenizer, piece)?;
        ids.extend(scan.tokens[..scan.cut.tokens].iter().map(|token| token.id));
        rest = &rest[scan.cut.at..];
        window = if scan.cut.at > 0 { WINDOW } else { window.saturating_mul(8) };
    }
    Ok(if ids.len() > most { Err(ids.len()) } else { Ok(ids) })
}

/// Why a text of `received` bytes cannot be cut back to `length`.
pub(super) fn cut_error(length: usize, received: usize) -> Error {
    let reason = match length > received {
        true => format!("{length} is more than the {received} bytes so far"),
        false => format!("{length} is not between characters of the {received} bytes so far"),
    };
    Error::argument("bytes", reason)
}

/// Tokenizes a text that starts at a cut, and either ends or goes on. Looks at `tail` bytes at a time, so that the time
/// is bounded by the text's length, and where they have no cut makes one. As soon as more than `most` tokens are certain
/// it stops and gives their number.
fn stretch(
    tokenizer: &Tokenizer,
    text: &str,
    tail: usize,
    ends: bool,
    most: usize,
) -> Result<std::result::Result<Stretch, usize>> {
    let mut tokens: Vec<TextToken> = Vec::new();
    let mut cuts = Vec::new();
    let mut at = 0;
    let append = |at: usize, new: Vec<TextToken>, tokens: &mut Vec<TextToken>| -> Result<()> {
        let bytes = (tokens.len() + new.len()) * size_of::<TextToken>();
        let no_memory = |_: TryReserveError| Error::OutOfMemory { bytes, purpose: "the tokens of a text" };
        tokens.try_reserve(new.len()).map_err(no_memory)?;
        tokens.extend(
            new.into_iter()
                .map(|token| TextToken { id: token.id, bytes: at + token.bytes.start..at + token.bytes.end }),
        );
        Ok(())
    };
    while text.len() - at > tail {
        let window = &text[at..text.floor_char_boundary(at + tail)];
        let mut scan = scan::open(tokenizer, window)?;
        if scan.cut.at > 0 {
            scan.tokens.truncate(scan.cut.tokens);
            scan.cut.known = at + window.len();
        } else {
            scan.tokens = scan::whole(tokenizer, &window[..scan.forced])?;
            scan.cut = Cut { at: scan.forced, tokens: scan.tokens.len(), known: at + tail + 1 };
        }
        append(at, scan.tokens, &mut tokens)?;
        if tokens.len() > most {
            return Ok(Err(tokens.len()));
        }
        at += scan.cut.at;
        cuts.push(Cut { at, tokens: tokens.len(), known: scan.cut.known });
    }
    let rest = &text[at..];
    if ends {
        append(at, scan::whole(tokenizer, rest)?, &mut tokens)?;
        if !rest.is_empty() {
            // Only the end makes this a cut: it goes with any truncation.
            cuts.push(Cut { at: text.len(), tokens: tokens.len(), known: text.len() + 1 });
        }
        return Ok(Ok(Stretch { stable: tokens.len(), tokens, cuts }));
    }
    let scan = scan::open(tokenizer, rest)?;
    let stable = tokens.len() + scan.stable;
    if scan.cut.at > 0 {
        cuts.push(Cut { at: at + scan.cut.at, tokens: tokens.len() + scan.cut.tokens, known: text.len() });
    }
    append(at, scan.tokens, &mut tokens)?;
    Ok(Ok(Stretch { tokens, stable, cuts }))
}
