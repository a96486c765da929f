//! A stream: one conversation being moderated.

mod answer;
mod call;
mod dispute;
#[cfg(test)]
pub(crate) mod fault;
mod opinion;
mod outcome;
mod prompt;
mod replay;
mod settling;
mod tape;
#[cfg(test)]
mod tests;
mod tokens;
mod turn;
mod update;

use std::{fmt, sync::Arc, time::Instant};

use crate::{
    Error, Result,
    engine::{Batch, Notify, Sequence},
    opened::Opened,
    policy::Policy,
    process::Owned,
    second::Second,
    text::{Message, TokenId, size},
};

use answer::Change;
pub(crate) use call::BegunCall;
use call::Work;
pub use call::{Call, Reply};
use opinion::{Changing, Judges};
use prompt::Prompt;
use turn::Turn;
pub use update::{
    Opinion, OpinionOutcome, OpinionTrigger, PromptCheck, PromptFinding, TokenVerdict, Update, Violation,
};

/// One conversation being moderated: light, one owner at a time. Dropping it gives its memory back.
///
/// First the prompt, then the answer as it is produced: as text ([`Stream::push_text`]) from any model, or as tokens
/// ([`Stream::push_tokens`]) from a model with the guard's own vocabulary; then [`Stream::finish`]. After it comes the
/// next turn ([`Stream::next_turn`]), or [`Stream::prompt`] again with a conversation that the host keeps. A call that
/// fails leaves the stream as it was.
///
/// An answer may begin with thinking, which is judged by rules of its own ([`Policy::thinking`]): the tags
/// `<think>` and `</think>` in the text are found, or the caller says what is thinking ([`Stream::push_thinking`]).
/// Places count in everything that was pushed, tags and thinking included.
///
/// If streams may expire, see [`EngineConfig::idle_seconds`](crate::EngineConfig::idle_seconds), any call can fail with
/// [`Error::Expired`].
pub struct Stream {
    shared: Arc<Owned<Opened>>,
    second: Option<Arc<Second>>,
    sequence: Sequence,
    policy: Arc<Policy>,
    turn: Option<Turn>,
    /// Whether its verdicts are counted: those of an annotation are not, which counts as one.
    is_counted: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stream").field("context_used", &self.context_used()).finish_non_exhaustive()
    }
}

impl Stream {
    /// A stream whose verdicts are not counted.
    pub(crate) fn new(shared: Arc<Owned<Opened>>, policy: Policy) -> Result<Self> {
        Ok(Stream { is_counted: false, ..Self::with_second(shared, None, policy)? })
    }

    /// A stream that may ask a second guard, if there is one.
    pub(crate) fn with_second(shared: Arc<Owned<Opened>>, second: Option<Arc<Second>>, policy: Policy) -> Result<Self> {
        shared.response_heads()?;
        let sequence = shared.engine.sequence()?;
        Ok(Stream { shared, second, sequence, policy: Arc::new(policy), turn: None, is_counted: true })
    }

    /// Gives the conversation and judges its last message of the user.
    ///
    /// The conversation is rendered by the checkpoint's own template, thinking off, and the query heads are read at the
    /// `<|im_end|>` of the judged message's turn. [`PromptRules::roles`](crate::policy::PromptRules::roles) may have results of
    /// tools judged as well: then it is the last message of either role, and results that the template puts into one
    /// turn are judged together. A message of the assistant at the end is the beginning of the answer; if it ends within
    /// thinking, the answer goes on there. It is given to the model but not judged, and so is all between the judged
    /// message and the answer.
    ///
    /// Every message must be in the rendering, all of it but white space at its edges and the thinking of earlier
    /// answers. Roles are as the template knows them, to the letter; `developer` is rendered as `system`.
    ///
    /// On a stream that had a prompt this starts the next turn. Only what differs from the tokens so far is computed;
    /// the template drops an earlier answer's thinking, so this is usually from that answer on.
    ///
    /// # Errors
    /// [`Error::Conversation`] if there is no message to judge, the template refuses the messages, or it leaves one out:
    /// the error names its role and its index, counted from 0. [`Error::ContextFull`] if the prompt is longer than the
    /// model's context; what cannot fit by its bytes alone is refused at once, other texts are tokenized up to there.
    pub fn prompt(&mut self, messages: &[Message]) -> Result<PromptCheck> {
        self.prompted(Call::Prompt(messages))
    }

    /// Goes on with the conversation: the messages so far, the answer as it was pushed, and these. The last message of
    /// the user is judged, as [`Stream::prompt`] says.
    ///
    /// # Errors
    /// [`Error::WrongState`] before the end of the answer; [`Error::Conversation`] also if the answer came as tokens and
    /// is not UTF-8; and as [`Stream::prompt`].
    pub fn next_turn(&mut self, messages: &[Message]) -> Result<PromptCheck> {
        self.prompted(Call::NextTurn(messages))
    }

    fn prompted(&mut self, call: Call) -> Result<PromptCheck> {
        self.call(call).map(|reply| reply.into_prompt().expect("prompts are answered by prompt checks"))
    }

    fn updated(&mut self, call: Call) -> Result<Update> {
        self.call(call).map(|reply| reply.into_update().expect("such calls are answered by updates"))
    }

    /// Tokens of the model's context that the conversation uses so far, those of the template included: 0 before the
    /// first prompt. With [`Overflow::Restart`](crate::Overflow::Restart) only the part of the answer counts that the
    /// model still sees. Asking is no use of the stream; one that has expired gives what it had.
    pub fn context_used(&self) -> usize {
        self.turn.as_ref().map_or(0, |turn| turn.tape.used(&self.shared, &turn.answer.tokens))
    }

    /// Gives the next tokens of the answer and judges each of them. The ids are those of the guard's own tokenizer, see
    /// [`Guard::encode`](crate::Guard::encode). None of them is provisional. If the first is the tokenizer's `<think>`,
    /// thinking goes up to its `</think>`; the two tags and newlines right after them are not judged.
    ///
    /// After [`Decision::Stop`](crate::Decision::Stop) further tokens are still judged: stopping is the host's to do.
    ///
    /// # Errors
    /// [`Error::WrongState`] before the prompt, after text or after the end of the answer; [`Error::Argument`] for an
    /// id that is no token or more than 1,048,576 of them; [`Error::ContextFull`] if the tokens do not fit the model's context.
    pub fn push_tokens<T: TokenId>(&mut self, tokens: &[T]) -> Result<Update> {
        self.updated(Call::Tokens(&T::ids(tokens)))
    }

    /// Gives the next piece of the answer's text and judges its tokens. The piece may begin and end anywhere, even
    /// inside a character. Only the end of the text is tokenized again; where that changes earlier tokens, the KV cache
    /// is cut back to those that stay.
    ///
    /// After [`Decision::Stop`](crate::Decision::Stop) further text is still judged: stopping is the host's to do.
    ///
    /// # Errors
    /// [`Error::Argument`] if the text is not UTF-8 (it says at which byte of the answer), has more than 1 MiB or the
    /// bundle's tokenizer cannot take text in pieces; [`Error::WrongState`] before the prompt, after tokens or after
    /// the end of the answer; [`Error::ContextFull`] if the text does not fit the model's context.
    pub fn push_text(&mut self, text: impl AsRef<[u8]>) -> Result<Update> {
        self.updated(Call::Text(text.as_ref()))
    }

    /// As [`Stream::push_text`], for a piece of thinking from a host that knows it as such: no tag in it means
    /// anything. The first [`Stream::push_text`] ends the thinking.
    ///
    /// # Errors
    /// As [`Stream::push_text`]; [`Error::WrongState`] also if the answer has begun already or the template has no
    /// place for thinking.
    pub fn push_thinking(&mut self, text: impl AsRef<[u8]>) -> Result<Update> {
        self.updated(Call::Thinking(text.as_ref()))
    }

    /// Says that the answer is complete: what was provisional becomes final. Nothing can be pushed afterwards.
    ///
    /// # Errors
    /// [`Error::WrongState`] before the prompt or after the end of the answer; [`Error::Argument`] if the text ends
    /// inside a character (it says at which byte).
    pub fn finish(&mut self) -> Result<Update> {
        self.updated(Call::Finish)
    }

    /// Another stream with the same conversation so far, which goes its own way from here. It shares the cache of what
    /// is common, so that several drafts of an answer cost their own tokens only.
    ///
    /// # Errors
    /// [`Error::Busy`] if as many streams are open as the configuration allows.
    pub fn fork(&self) -> Result<Stream> {
        Ok(Stream {
            shared: self.shared.clone(),
            second: self.second.clone(),
            sequence: self.sequence.fork()?,
            policy: self.policy.clone(),
            turn: self.turn.clone(),
            is_counted: self.is_counted,
        })
    }

    /// Cuts the answer back to its first `bytes` bytes, as if nothing after them had ever come; a violation after them
    /// is forgotten. For a host that lets its model try again from there. Its last tokens are provisional again, so the horizon
    /// may be before `bytes`, even where more was shown. Costs as much as a push of a few tokens, but within or right after
    /// thinking its text is tokenized anew.
    ///
    /// # Errors
    /// [`Error::Argument`] if the answer is shorter, or that is inside a character or, for pushed tokens, inside a
    /// token; [`Error::WrongState`] before the prompt.
    pub fn truncate(&mut self, bytes: usize) -> Result<Update> {
        self.updated(Call::Truncate(bytes))
    }

    /// As [`Stream::truncate`], to the answer's first `tokens` tokens, as [`TokenVerdict::index`] counts them.
    ///
    /// # Errors
    /// [`Error::Argument`] if the answer is shorter, or its text has no place between characters there;
    /// [`Error::WrongState`] before the prompt.
    pub fn truncate_tokens(&mut self, tokens: usize) -> Result<Update> {
        self.updated(Call::TruncateTokens(tokens))
    }

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
    /// [`Error::DeadlineExceeded`] if it is not done by then: the call is cancelled. And those of the call.
    pub fn call_by(&mut self, call: Call, deadline: Instant) -> Result<Reply> {
        let mut begun = self.begin(call, None, &mut Batch::default())?;
        while begun.wait_until(deadline) {
            if self.advance(&mut begun, &mut Batch::default())? {
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
        let mut begun: Vec<_> = calls.into_iter().map(begin).collect();
        drop(batch);
        // What goes on is begun together, too.
        loop {
            let mut batch = Batch::default();
            let mut goes_on = false;
            for (stream, begun) in &mut begun {
                let Ok(call) = begun else { continue };
                match stream.advance(call, &mut batch) {
                    Ok(done) => goes_on |= !done,
                    Err(error) => *begun = Err(error),
                }
            }
            if !goes_on {
                break;
            }
        }
        begun.into_iter().map(|(stream, begun)| stream.complete(begun?)).collect()
    }

    /// Begins a call: what it changes is found, and its tokens are given to the engine. `notify` is called whenever it can
    /// go on without waiting. An expired stream says so whatever it is asked, any other is used.
    pub(crate) fn begin(&mut self, call: Call, notify: Option<Notify>, batch: &mut Batch) -> Result<BegunCall> {
        let _using = self.sequence.enter()?;
        #[cfg(test)]
        fault::here("begin");
        let work = match call {
            Call::Prompt(messages) => {
                size::check_messages(&self.shared.tokenizer, self.shared.info.context, messages)?;
                self.begin_prompt(size::copy(messages)?, notify, batch)
            }
            Call::NextTurn(messages) => {
                let state = "before the prompt";
                let turn = self.turn.as_ref().ok_or(Error::WrongState { call: "next_turn", state })?;
                self.begin_prompt(turn.with_next(&self.shared, messages)?, notify, batch)
            }
            Call::Text(text) => self.begin_change("push_text", notify, batch, |turn, shared, _| {
                turn.push_text(shared, "push_text", false, text)
            }),
            Call::Thinking(text) => self.begin_change("push_thinking", notify, batch, |turn, shared, _| {
                turn.push_text(shared, "push_thinking", true, text)
            }),
            Call::Tokens(ids) => {
                self.begin_change("push_tokens", notify, batch, |turn, shared, _| turn.push_tokens(shared, ids))
            }
            Call::Finish => {
                self.begin_change("finish", notify, batch, |turn, shared, policy| turn.finish(shared, policy))
            }
            Call::Truncate(bytes) => {
                self.begin_change("truncate", notify, batch, |turn, shared, _| turn.truncate(shared, bytes))
            }
            Call::TruncateTokens(tokens) => self
                .begin_change("truncate_tokens", notify, batch, |turn, shared, _| turn.truncate_tokens(shared, tokens)),
        };
        Ok(BegunCall { work: work?, _using })
    }

    fn begin_prompt(&mut self, messages: Vec<Message>, notify: Option<Notify>, batch: &mut Batch) -> Result<Work> {
        let Stream { shared, sequence, policy, turn, .. } = self;
        Prompt::begin(shared, sequence, policy, turn.as_mut(), messages, notify, batch)
            .map(|prompt| Work::Prompt(Box::new(prompt)))
    }

    /// Begins a change of the answer.
    fn begin_change(
        &mut self,
        call: &'static str,
        notify: Option<Notify>,
        batch: &mut Batch,
        change: impl FnOnce(&Turn, &Opened, &Policy) -> Result<Change>,
    ) -> Result<Work> {
        let turn = self.turn.as_mut().ok_or(Error::WrongState { call, state: "before the prompt" })?;
        let change = change(turn, &self.shared, &self.policy)?;
        let Turn { tape, answer, .. } = turn;
        let feed = tape.feed(&self.shared, &mut self.sequence, &answer.tokens, change, notify, batch)?;
        Ok(Work::Change(Box::new(Changing::new(feed))))
    }

    /// Takes what was computed of a call, waiting for it, and begins what is left: it is computed once the batch is sent.
    /// Returns whether nothing is.
    pub(crate) fn advance(&mut self, begun: &mut BegunCall, batch: &mut Batch) -> Result<bool> {
        let Stream { shared, second, sequence, policy, turn, .. } = self;
        let (Work::Change(changing), Some(turn)) = (&mut begun.work, turn) else { return Ok(true) };
        if !turn.tape.collect(shared, sequence, &turn.answer.tokens, &mut changing.feed, batch)? {
            return Ok(false);
        }
        Ok(changing.settle(Judges { shared, second: second.as_deref(), policy }, turn, batch))
    }

    /// Waits for a call and makes it happen.
    pub(crate) fn complete(&mut self, mut begun: BegunCall) -> Result<Reply> {
        while !self.advance(&mut begun, &mut Batch::default())? {}
        #[cfg(test)]
        fault::here("complete");
        let tally = self.is_counted.then_some(&self.shared.tally);
        match begun.work {
            Work::Prompt(prompt) => {
                let (turn, check) = prompt.complete(&self.shared, &mut self.sequence, &self.policy, tally)?;
                self.turn = Some(turn);
                Ok(Reply::Prompt(check))
            }
            Work::Change(changing) => match &mut self.turn {
                Some(turn) => {
                    let (feed, settled) = changing.settled();
                    Ok(Reply::Update(turn.complete(&self.shared, &self.policy, tally, feed, settled)))
                }
                None => Err(Error::WrongState { call: "complete", state: "before the prompt" }),
            },
        }
    }
}
