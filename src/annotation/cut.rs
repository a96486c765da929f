//! What of a conversation is judged that is longer than the model's context.

use std::ops::Range;

use super::TextOverflow;
use crate::{
    Result,
    text::{Fit, Message, Tokenizer},
};

impl TextOverflow {
    /// Which bytes of the last message's content are judged at once: one part, or with windows several. `measure` tells how
    /// many tokens such a conversation has.
    pub(crate) fn cut(
        self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        limit: usize,
        measure: &dyn Fn(&[Message]) -> Result<usize>,
    ) -> Result<Vec<Range<usize>>> {
        let content = messages.last().map_or("", |last| &last.content);
        let measure = |text: &str| measure(&with_last(messages, text));
        let fit = Fit::new(tokenizer, content, limit, &measure)?;
        match self {
            // What is refused is not cut.
            TextOverflow::Refuse | TextOverflow::Head => Ok(vec![fit.from(0)?]),
            TextOverflow::Tail => Ok(vec![fit.to_end()?]),
            TextOverflow::Windows => fit.windows(),
        }
    }
}

/// The messages, the last of them with this text.
pub(crate) fn with_last(messages: &[Message], text: &str) -> Vec<Message> {
    let Some((last, before)) = messages.split_last() else { return Vec::new() };
    before.iter().cloned().chain([Message::new(last.role.clone(), text)]).collect()
}
