//! Calls of a stream as values: made at once, together with those of other streams, or without waiting.

use std::{sync::Arc, time::Instant};

use super::{
    PromptCheck, Stream, Turn, Update,
    answer::{Answer, Begun, Change},
    tape::{Notify, Tape},
};
use crate::{
    Error, Message, Result, Verdict,
    engine::{self, Pending, Read},
    text::Frame,
};

/// One call of a [`Stream`].
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// [`Stream::prompt`]
    Prompt(&'a [Message]),
    /// [`Stream::next_turn`]
    NextTurn(&'a [Message]),
    /// [`Stream::push_text`]
    Text(&'a [u8]),
    /// [`Stream::push_thinking`]
    Thinking(&'a [u8]),
    /// [`Stream::push_tokens`]
    Tokens(&'a [u32]),
    /// [`Stream::finish`]
    Finish,
}

/// What a call answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To a prompt or a next turn.
    Prompt(PromptCheck),
    /// To all other calls.
    Update(Update),
}

impl Reply {
    /// The update, if it is one.
    pub fn update(self) -> Option<Update> {
        if let Reply::Update(update) = self { Some(update) } else { None }
    }

    /// The prompt check, if it is one.
    pub fn prompt(self) -> Option<PromptCheck> {
        if let Reply::Prompt(check) = self { Some(check) } else { None }
    }
}

/// A call that the engine works at. Dropping it gives the call up: the stream is then as it was before.
pub(crate) enum BegunCall {
    Prompt(BegunPrompt),
    Change(Begun),
}

/// A prompt that the engine works at.
pub(crate) struct BegunPrompt {
    pending: Pending,
    messages: Vec<Message>,
    ids: Vec<u32>,
    frame: Frame,
}

impl BegunCall {
    /// Whether going on with it does not wait.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            BegunCall::Prompt(prompt) => prompt.pending.is_ready(),
            BegunCall::Change(begun) => begun.feed.is_ready(),
        }
    }

    fn wait_until(&self, deadline: Instant) -> bool {
        match self {
            BegunCall::Prompt(prompt) => prompt.pending.wait_until(deadline),
            BegunCall::Change(begun) => begun.feed.wait_until(deadline),
        }
    }
}

impl Stream {
    /// Makes a call and waits for it.
    ///
    /// # Errors
    /// Those of the call.
    pub fn call(&mut self, call: Call) -> Result<Reply> {
        let begun = self.begin(call, None)?;
        self.complete(begun)
    }

    /// Makes a call and waits for it until `deadline`.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] if it is not done by then: the call is given up. And those of the call.
    pub fn call_by(&mut self, call: Call, deadline: Instant) -> Result<Reply> {
        let mut begun = self.begin(call, None)?;
        while begun.wait_until(deadline) {
            if self.advance(&mut begun)? {
                return self.complete(begun);
            }
        }
        Err(Error::DeadlineExceeded)
    }

    /// Makes calls of many streams, which the engine takes together, and waits for all of them. The results are in the
    /// order of the calls; one that fails leaves the others alone.
    pub fn call_all<'s, 'c>(calls: impl IntoIterator<Item = (&'s mut Stream, Call<'c>)>) -> Vec<Result<Reply>> {
        let begin = |(stream, call): (&'s mut Stream, Call<'c>)| {
            let begun = stream.begin(call, None);
            (stream, begun)
        };
        let calls: Vec<_> = calls.into_iter().collect();
        let begun: Vec<_> = engine::together(|| calls.into_iter().map(begin).collect());
        begun.into_iter().map(|(stream, begun)| stream.complete(begun?)).collect()
    }

    /// Begins a call. `notify` is called whenever it can go on without waiting.
    pub(crate) fn begin(&mut self, call: Call, notify: Option<Arc<Notify>>) -> Result<BegunCall> {
        self.shared.process().check()?;
        match call {
            Call::Prompt(messages) => self.begin_prompt(messages.to_vec(), notify),
            Call::NextTurn(messages) => self.begin_prompt(self.with_next(messages)?, notify),
            Call::Text(text) => self.begin_change("push_text", notify, |stream, answer| {
                answer.push_text(&stream.shared, "push_text", false, text)
            }),
            Call::Thinking(text) => self.begin_change("push_thinking", notify, |stream, answer| {
                answer.push_text(&stream.shared, "push_thinking", true, text)
            }),
            Call::Tokens(ids) => {
                self.begin_change("push_tokens", notify, |stream, answer| answer.push_tokens(&stream.shared, ids))
            }
            Call::Finish => {
                self.begin_change("finish", notify, |stream, answer| answer.finish(&stream.shared, &stream.policy))
            }
        }
    }

    /// Takes what the engine has computed of a call, waiting for it, and begins what is left. Returns whether that is
    /// nothing.
    pub(crate) fn advance(&mut self, begun: &mut BegunCall) -> Result<bool> {
        match (begun, &mut self.turn) {
            (BegunCall::Change(begun), Some(Turn { answer, .. })) => {
                answer.advance(&self.shared, &mut self.sequence, begun)
            }
            _ => Ok(true),
        }
    }

    /// Waits for a call and makes it happen.
    pub(crate) fn complete(&mut self, mut begun: BegunCall) -> Result<Reply> {
        while !self.advance(&mut begun)? {}
        match begun {
            BegunCall::Prompt(begun) => self.complete_prompt(begun).map(Reply::Prompt),
            BegunCall::Change(begun) => match &mut self.turn {
                Some(Turn { answer, .. }) => Ok(Reply::Update(answer.complete(&self.shared, &self.policy, begun))),
                None => Err(Error::WrongState { call: "complete", state: "before the prompt" }),
            },
        }
    }

    /// Gives a call up of which the engine has computed a part, or all.
    pub(crate) fn give_up(&mut self, begun: BegunCall) {
        drop(begun);
        if let Some(Turn { answer, .. }) = &mut self.turn {
            // It fails if the engine has stopped, as the next call says.
            let _ = answer.tape.cut(&mut self.sequence, answer.tokens.len());
        }
    }

    /// Begins a change of the answer.
    pub(super) fn begin_change(
        &mut self,
        call: &'static str,
        notify: Option<Arc<Notify>>,
        change: impl FnOnce(&Self, &Answer) -> Result<Change>,
    ) -> Result<BegunCall> {
        self.shared.process().check()?;
        let Some(Turn { answer, .. }) = &self.turn else {
            return Err(Error::WrongState { call, state: "before the prompt" });
        };
        let change = change(self, answer)?;
        let Some(Turn { answer, .. }) = &mut self.turn else { unreachable!("it was there") };
        let begun = answer.begin(&self.shared, &mut self.sequence, change, notify)?;
        Ok(BegunCall::Change(begun))
    }

    fn begin_prompt(&mut self, messages: Vec<Message>, notify: Option<Arc<Notify>>) -> Result<BegunCall> {
        let conversation = self.shared.renderer.render(&self.shared.tokenizer, &messages)?;
        let ids = conversation.prompt;
        let last = ids.len() - 1;
        let held = self
            .turn
            .as_ref()
            .map_or(0, |Turn { answer, .. }| answer.tape.common_prefix(&self.sequence, &answer.tokens, &ids));
        // The logits of the last token are needed.
        let keep = held.min(last);
        self.sequence.check_room(keep, ids.len() - keep)?;
        if let Some(Turn { answer, .. }) = &mut self.turn {
            // If this fails or is given up, the answer is fed anew.
            answer.tape.forget();
        }
        self.sequence.truncate(keep)?;
        let notify = notify.map(|notify| Box::new(move || notify()) as Box<dyn FnOnce() + Send>);
        let pending = self.sequence.begin(ids[keep..].to_vec(), Read::Query { from: last - keep }, notify)?;
        Ok(BegunCall::Prompt(BegunPrompt { pending, messages, ids, frame: conversation.frame }))
    }

    fn complete_prompt(&mut self, begun: BegunPrompt) -> Result<PromptCheck> {
        let BegunPrompt { pending, messages, ids, frame } = begun;
        let logits = self.sequence.complete(pending)?;
        let labels = &self.shared.query_labels;
        let verdict = Verdict::from_logits(labels, logits.risk.row(0), logits.category.row(0));
        self.turn = Some(Turn { messages, answer: Answer::new(Tape::new(ids, frame)) });
        Ok(self.check(verdict))
    }
}
