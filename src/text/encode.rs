//! Whole texts to tokens.

use super::{
    delta,
    tokenizer::{TextToken, Tokenizer},
};
use crate::{Error, Result};

/// The most bytes of a text that a tokenizer of unknown steps is given: it takes texts whole, with memory of many times
/// their size.
const MAX_WHOLE: usize = 1 << 20;

/// The tokens of a text with the bytes they stand for, the same as of its deltas (see [`delta`]). Where the tokenizer's
/// normalisation changes the text, spans are whole characters of the original and may overlap.
///
/// # Errors
/// [`Error::Argument`] if the tokenizer cannot encode the text, or takes texts only whole and this is too long for that.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<TextToken>> {
    if tokenizer.has_steps() {
        return delta::encode(tokenizer, text);
    }
    if text.len() > MAX_WHOLE {
        let reason = format!("{} bytes, the limit with this bundle's tokenizer is {MAX_WHOLE}", text.len());
        return Err(Error::argument("text", reason));
    }
    tokenizer.encode_whole(text)
}

/// The ids of a text if they are at most `most`, else how many it has at least: a long text is tokenized up to there
/// only. They are those of [`Tokenizer::ids`].
pub(crate) fn ids_within(tokenizer: &Tokenizer, text: &str, most: usize) -> Result<Result<Vec<u32>, usize>> {
    if text.len() > delta::WINDOW && tokenizer.has_steps() {
        return delta::ids(tokenizer, text, most);
    }
    let ids = tokenizer.ids(text)?;
    Ok(if ids.len() > most { Err(ids.len()) } else { Ok(ids) })
}
