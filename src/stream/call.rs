//! Calls of a stream as values: made at once, together with those of other streams, or without waiting.

use std::{sync::Arc, time::Instant};

use super::{
    PromptCheck, Stream, Turn, Update,
    answer::{Answer, Begun, Change},
    expect_update,
    tape::{Notify, Tape},
};
use crate::{
    Error, Message, Result, Verdict,
    engine::{Batch, Pending, Read, Use},
    text::{Frame, size},
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
pub(crate) struct BegunCall {
    work: Work,
    _using: Use,
}

enum Work {
    Prompt(BegunPrompt),
    Change(Begun),
}

/// A prompt that the engine works at.
struct BegunPrompt {
    pending: Pending,
    messages: Vec<Message>,
    ids: Vec<u32>,
    frame: Frame,
}

impl BegunCall {
    /// Whether going on with it does not wait.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.work {
            Work::Prompt(prompt) => prompt.pending.is_ready(),
            Work::Change(begun) => begun.feed.is_ready(),
        }
    }

    fn wait_until(&self, deadline: Instant) -> bool {
        match &self.work {
            Work::Prompt(prompt) => prompt.pending.wait_until(deadline),
            Work::Change(begun) => begun.feed.wait_until(deadline),
        }
    }
}

impl Stream {
    /// Makes a call and waits for it.
    ///
    /// # Errors
    /// Those of the call.
    pub fn call(&mut self, call: Call) -> Result<Reply> {
        let begun = self.begin(call, None, &mut Batch::default())?;
        self.complete(begun)
    }

    /// Makes a call and waits for it until `deadline`.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] if it is not done by then: the call is given up. And those of the call.
    pub fn call_by(&mut self, call: Call, deadline: Instant) -> Result<Reply> {
        let mut begun = self.begin(call, None, &mut Batch::default())?;
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
        let mut batch = Batch::default();
        let begin = |(stream, call): (&'s mut Stream, Call<'c>)| {
            let begun = stream.begin(call, None, &mut batch);
            (stream, begun)
        };
        let begun: Vec<_> = calls.into_iter().map(begin).collect();
        drop(batch);
        begun.into_iter().map(|(stream, begun)| stream.complete(begun?)).collect()
    }

    /// Begins a call. `notify` is called whenever it can go on without waiting.
    pub(crate) fn begin(&mut self, call: Call, notify: Option<Arc<Notify>>, batch: &mut Batch) -> Result<BegunCall> {
        self.begin_use(|stream| match call {
            Call::Prompt(messages) => {
                size::check_messages(&stream.shared.tokenizer, stream.shared.info.context, messages)?;
                stream.begin_prompt(size::copy(messages)?, notify, batch)
            }
            Call::NextTurn(messages) => stream.begin_prompt(stream.with_next(messages)?, notify, batch),
            Call::Text(text) => stream.begin_change("push_text", notify, batch, |stream, answer| {
                answer.push_text(&stream.shared, "push_text", false, text)
            }),
            Call::Thinking(text) => stream.begin_change("push_thinking", notify, batch, |stream, answer| {
                answer.push_text(&stream.shared, "push_thinking", true, text)
            }),
            Call::Tokens(ids) => stream
                .begin_change("push_tokens", notify, batch, |stream, answer| answer.push_tokens(&stream.shared, ids)),
            Call::Finish => stream
                .begin_change("finish", notify, batch, |stream, answer| answer.finish(&stream.shared, &stream.policy)),
        })
    }

    /// Takes what the engine has computed of a call, waiting for it, and begins what is left. Returns whether that is
    /// nothing.
    pub(crate) fn advance(&mut self, begun: &mut BegunCall) -> Result<bool> {
        match (&mut begun.work, &mut self.turn) {
            (Work::Change(begun), Some(Turn { answer, .. })) => answer.advance(&self.shared, &mut self.sequence, begun),
            _ => Ok(true),
        }
    }

    /// Waits for a call and makes it happen.
    pub(crate) fn complete(&mut self, mut begun: BegunCall) -> Result<Reply> {
        while !self.advance(&mut begun)? {}
        #[cfg(test)]
        fault::here("complete");
        match begun.work {
            Work::Prompt(begun) => self.complete_prompt(begun).map(Reply::Prompt),
            Work::Change(begun) => match &mut self.turn {
                Some(Turn { answer, .. }) => Ok(Reply::Update(answer.complete(&self.shared, &self.policy, begun))),
                None => Err(Error::WrongState { call: "complete", state: "before the prompt" }),
            },
        }
    }

    /// Begins a call by a part of it that may fail: an expired stream says so whatever it is asked, any other is used.
    fn begin_use(&mut self, begin: impl FnOnce(&mut Self) -> Result<Work>) -> Result<BegunCall> {
        let using = self.sequence.enter()?;
        #[cfg(test)]
        fault::here("begin");
        Ok(BegunCall { work: begin(self)?, _using: using })
    }

    /// Makes a call that cuts the answer back.
    pub(super) fn cut(
        &mut self,
        call: &'static str,
        change: impl FnOnce(&Self, &Answer) -> Result<Change>,
    ) -> Result<Update> {
        let mut batch = Batch::default();
        let begun = self.begin_use(|stream| stream.begin_change(call, None, &mut batch, change))?;
        drop(batch);
        self.complete(begun).map(expect_update)
    }

    /// Begins a change of the answer.
    fn begin_change(
        &mut self,
        call: &'static str,
        notify: Option<Arc<Notify>>,
        batch: &mut Batch,
        change: impl FnOnce(&Self, &Answer) -> Result<Change>,
    ) -> Result<Work> {
        let Some(Turn { answer, .. }) = &self.turn else {
            return Err(Error::WrongState { call, state: "before the prompt" });
        };
        let change = change(self, answer)?;
        let Some(Turn { answer, .. }) = &mut self.turn else { unreachable!("it was there") };
        let begun = answer.begin(&self.shared, &mut self.sequence, change, notify, batch)?;
        Ok(Work::Change(begun))
    }

    fn begin_prompt(&mut self, messages: Vec<Message>, notify: Option<Arc<Notify>>, batch: &mut Batch) -> Result<Work> {
        let conversation = self.shared.renderer.render(&self.shared.tokenizer, &messages, &self.policy.prompt.roles)?;
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
            // If this fails or is cancelled, the answer is fed anew.
            answer.tape.forget();
        }
        self.sequence.truncate(keep, batch)?;
        let notify = notify.map(|notify| Box::new(move || notify()) as Box<dyn FnOnce() + Send>);
        let read = Read { heads: self.shared.query_heads.into_iter().collect(), from: last - keep };
        let pending = self.sequence.begin_append(ids[keep..].to_vec(), read, notify, batch)?;
        Ok(Work::Prompt(BegunPrompt { pending, messages, ids, frame: conversation.frame }))
    }

    fn complete_prompt(&mut self, begun: BegunPrompt) -> Result<PromptCheck> {
        let BegunPrompt { pending, messages, ids, frame } = begun;
        let logits = self.sequence.complete(pending)?;
        let labels = &self.shared.query_labels;
        let [risk, category] = self.shared.query_heads.map(|head| logits.head(head));
        let verdict = Verdict::from_logits(labels, risk.row(0), category.row(0));
        self.turn = Some(Turn { messages, answer: Answer::new(Tape::new(ids, frame)) });
        Ok(self.check(verdict))
    }
}

/// Bugs on purpose.
#[cfg(test)]
pub(crate) mod fault {
    use std::cell::Cell;

    thread_local! {
        /// Where this thread is to panic, once.
        pub(crate) static AT: Cell<&'static str> = const { Cell::new("") };
    }

    pub(super) fn here(place: &str) {
        if AT.get() == place {
            AT.set("");
            panic!("on purpose, at {place}");
        }
    }
}
