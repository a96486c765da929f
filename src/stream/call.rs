//! Calls of a stream as values, and calls on their way.

use std::time::Instant;

use super::{
    opinion::Changing,
    prompt::Prompt,
    update::{PromptCheck, Update},
};
use crate::{annotation::Annotation, engine::Use, text::Message};

/// One call of a [`Stream`](crate::Stream).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Call<'a> {
    /// [`Stream::prompt`](crate::Stream::prompt)
    Prompt(&'a [Message]),
    /// [`Stream::next_turn`](crate::Stream::next_turn)
    NextTurn(&'a [Message]),
    /// [`Stream::push_text`](crate::Stream::push_text)
    Text(&'a [u8]),
    /// [`Stream::push_thinking`](crate::Stream::push_thinking)
    Thinking(&'a [u8]),
    /// [`Stream::push_tokens`](crate::Stream::push_tokens)
    Tokens(&'a [u32]),
    /// [`Stream::finish`](crate::Stream::finish)
    Finish,
    /// [`Stream::truncate`](crate::Stream::truncate), to so many bytes.
    Truncate(usize),
    /// [`Stream::truncate_tokens`](crate::Stream::truncate_tokens), to so many tokens.
    TruncateTokens(usize),
}

/// What a call answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To a prompt or a next turn.
    Prompt(PromptCheck),
    /// To all other calls of a stream.
    Update(Update),
    /// To [`CompletionQueue::annotate`](crate::CompletionQueue::annotate).
    Annotation(Annotation),
}

impl Reply {
    /// The update, if it is one.
    pub fn into_update(self) -> Option<Update> {
        if let Reply::Update(update) = self { Some(update) } else { None }
    }

    /// The prompt check, if it is one.
    pub fn into_prompt(self) -> Option<PromptCheck> {
        if let Reply::Prompt(check) = self { Some(check) } else { None }
    }

    /// The annotation, if it is one.
    pub fn into_annotation(self) -> Option<Annotation> {
        if let Reply::Annotation(annotation) = self { Some(annotation) } else { None }
    }
}

/// A call that the engine works at. Dropping it cancels the call: the stream is then as it was before.
pub(crate) struct BegunCall {
    pub(super) work: Work,
    pub(super) _using: Use,
}

pub(super) enum Work {
    Prompt(Box<Prompt>),
    Change(Box<Changing>),
}

impl BegunCall {
    /// Whether going on with it does not wait.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.work {
            Work::Prompt(prompt) => prompt.pending.is_ready(),
            Work::Change(changing) => changing.is_ready(),
        }
    }

    /// Waits until it does not, but not beyond a moment. Returns whether it is so.
    pub(super) fn wait_until(&self, deadline: Instant) -> bool {
        match &self.work {
            Work::Prompt(prompt) => prompt.pending.wait_until(deadline),
            Work::Change(changing) => changing.wait_until(deadline),
        }
    }
}
