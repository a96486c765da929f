//! An answer that comes as tokens of the guard's own vocabulary: which of them are thinking.

use std::ops::Range;

use crate::text::{AnswerToken, Channel, Frame, Tokenizer};

/// What the next token of an answer is, after the one before it. Thinking is what stands between the tokenizer's own
/// tags; the tags, and newlines right after them, are fed but not judged.
pub(super) fn next_token(
    tokenizer: &Tokenizer,
    frame: &Frame,
    last: Option<&AnswerToken>,
    id: u32,
    bytes: Range<usize>,
) -> AnswerToken {
    let newlines = || tokenizer.token_bytes(id).is_some_and(|bytes| bytes.iter().all(|byte| *byte == b'\n'));
    let tags = tokenizer.think_tags().filter(|_| frame.thinking.is_some());
    let opens = tags.is_some_and(|(open, _)| open == id);
    let closes = tags.is_some_and(|(_, close)| close == id);
    let (channel, judged) = match last.map(|last| (last.channel, last.judged)) {
        None if frame.starts_thinking() && closes => (Channel::Answer, false),
        None if frame.starts_thinking() => (Channel::Thinking, true),
        None if opens => (Channel::Thinking, false),
        None => (Channel::Answer, true),
        Some((Channel::Thinking, _)) if closes => (Channel::Answer, false),
        Some((Channel::Thinking, begun)) => (Channel::Thinking, begun || !newlines()),
        Some((Channel::Answer, begun)) => (Channel::Answer, begun || !newlines()),
    };
    AnswerToken { id, bytes, channel, judged }
}
