//! A whole conversation as a model reads it that writes its verdict: the template's rendering of the messages as they are.

use super::{Marks, Renderer, Rendering};
use crate::{
    Error, Result,
    text::{audit, message::Message, size, tokenizer::Tokenizer},
};

impl Renderer {
    /// Renders messages, all of which are judged, and encodes the whole at once: messages may merge with what the template
    /// writes around them.
    ///
    /// # Errors
    /// [`Error::Conversation`] if there is no message, the template refuses them or leaves a part of one out;
    /// [`Error::ContextFull`]
    pub(crate) fn render_whole(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>> {
        if messages.is_empty() {
            return Err(Error::conversation("there is no message to judge"));
        }
        size::check_whole(tokenizer, self.context, messages)?;
        let rendering = Rendering { renderer: self, tokenizer, marks: Marks::absent_from(messages)? };
        let mut plain = rendering.plain(messages);
        let rendered = self.template.render_whole(&plain)?;
        let brackets = rendering.marks.audit;
        for (index, message) in plain.iter_mut().enumerate() {
            message.content = brackets.mark_from(0, &message.content, index);
        }
        let audit = brackets.audit(tokenizer, messages, &self.template.render_whole(&plain)?)?;
        let controls: Vec<u32> = tokenizer.specials(&rendered).map(|(_, id)| id).collect();
        if let Some(index) = audit.differs(controls.into_iter()) {
            let index = index.unwrap_or(messages.len() - 1);
            return Err(audit::refused(index, &messages[index].role, audit::OTHER_TURNS));
        }
        rendering.ids(&rendered)
    }
}
