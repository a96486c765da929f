//! Sizes of texts, looked at before anything is copied, rendered or tokenized: what cannot fit the context is refused.
//!
//! Of a tokenizer whose steps are known, every byte of a normalised text is in a token, and no token has more bytes than
//! the vocabulary's longest. NFC leaves at least a quarter of a text's bytes (tested for all that composes), and none of
//! ASCII are changed. So the tokens of a text are at least so many, however well it suits the vocabulary. For other
//! tokenizers the same numbers are limits, not proofs.

use super::{
    audit,
    message::Message,
    pipeline::{NFC_SHORTENS, least_bytes},
    tokenizer::Tokenizer,
};
use crate::{Error, Result};

/// The most bytes of a role's name.
const MAX_ROLE: usize = 64;

/// Texts of messages may have so many bytes together even if they are too many for the context: templates leave out
/// earlier thinking.
const MAX_TEXTS: usize = 16 << 20;

/// Refuses messages by their number and their bytes, roles included. Templates write at least one token for each.
///
/// # Errors
/// [`Error::ContextFull`]
pub(crate) fn check_lengths(tokenizer: &Tokenizer, context: usize, count: usize, bytes: usize) -> Result<()> {
    let wanted = match bytes > MAX_TEXTS {
        true => count.max(tokenizer.least_tokens(bytes / NFC_SHORTENS)),
        false => count,
    };
    if wanted > context { Err(Error::ContextFull { used: 0, wanted, limit: context }) } else { Ok(()) }
}

/// Refuses messages that cannot fit the context, whatever the template leaves out of thinking and white space.
///
/// # Errors
/// [`Error::ContextFull`], with the least number of tokens that the messages can be; [`Error::Conversation`] for a role
/// of more than 64 bytes.
pub(crate) fn check_messages(tokenizer: &Tokenizer, context: usize, messages: &[Message]) -> Result<()> {
    let texts = messages.iter().map(|Message { role, content }| &content[audit::rendered_start(role, content)..]);
    check(tokenizer, context, messages, texts)
}

/// As [`check_messages`], if the template writes thinking, too.
pub(crate) fn check_whole(tokenizer: &Tokenizer, context: usize, messages: &[Message]) -> Result<()> {
    check(tokenizer, context, messages, messages.iter().map(|message| &*message.content))
}

/// Refuses messages of which the template must write these texts, but for white space at their edges.
fn check<'m>(
    tokenizer: &Tokenizer,
    context: usize,
    messages: &'m [Message],
    texts: impl Iterator<Item = &'m str>,
) -> Result<()> {
    let lengths = messages.iter().map(|message| message.role.len().saturating_add(message.content.len()));
    check_lengths(tokenizer, context, messages.len(), lengths.fold(0, usize::saturating_add))?;
    for (index, Message { role, .. }) in messages.iter().enumerate() {
        if role.len() > MAX_ROLE {
            let start = format!("{}...", &role[..role.floor_char_boundary(MAX_ROLE)]);
            return Err(audit::refused(index, &start, "a role has at most 64 bytes"));
        }
    }
    let bytes = texts.map(|text| least_bytes(text.trim().as_bytes())).sum();
    let wanted = tokenizer.least_tokens(bytes);
    if wanted > context { Err(Error::ContextFull { used: 0, wanted, limit: context }) } else { Ok(()) }
}

/// A copy of messages, whose size was checked.
///
/// # Errors
/// [`Error::OutOfMemory`]
pub(crate) fn copy(messages: &[Message]) -> Result<Vec<Message>> {
    let mut copies = Vec::new();
    copies.try_reserve_exact(messages.len()).map_err(|_| no_memory(size_of_val(messages)))?;
    for Message { role, content } in messages {
        copies.push(Message { role: copy_text(role)?, content: copy_text(content)? });
    }
    Ok(copies)
}

/// A copy of a text.
///
/// # Errors
/// [`Error::OutOfMemory`]
pub(crate) fn copy_text(text: &str) -> Result<String> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).map_err(|_| no_memory(text.len()))?;
    copy.push_str(text);
    Ok(copy)
}

fn no_memory(bytes: usize) -> Error {
    Error::OutOfMemory { bytes, purpose: "messages" }
}

#[cfg(test)]
mod tests {
    use unicode_normalization::{UnicodeNormalization, char::decompose_canonical};

    use super::*;

    /// A text that becomes one character is at most so long: each of the parts that this decomposes to may be written by
    /// the longest character that decomposes to the same part, and no character is longer than its parts so written.
    #[test]
    fn nothing_composes_to_less_than_a_quarter() {
        let parts = |character| {
            let mut parts = Vec::new();
            decompose_canonical(character, |part| parts.push(part));
            parts
        };
        let all = || (0..=u32::from(char::MAX)).filter_map(char::from_u32);
        let mut longest = std::collections::HashMap::new();
        for character in all() {
            if let [part] = parts(character)[..] {
                let length = longest.entry(part).or_insert(0);
                *length = character.len_utf8().max(*length);
            }
        }
        let written = |character| parts(character).iter().map(|part| longest[part]).sum::<usize>();
        let mut worst = 0.0f64;
        for character in all() {
            assert!(character.len_utf8() <= written(character), "{character:?}");
            if std::iter::once(character).nfc().eq([character]) {
                worst = worst.max(written(character) as f64 / character.len_utf8() as f64);
            }
        }
        assert!(worst <= NFC_SHORTENS as f64 && worst > 3.0, "{worst}");
        assert_eq!("\u{1FBE}\u{308}\u{301}".nfc().collect::<String>().len(), 2);
    }
}
