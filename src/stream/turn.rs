//! A prompt and the answer to it, and what the calls of a stream change in the answer, before the model sees it.

use std::borrow::Cow;

use super::{
    answer::{Answer, Change, End, Input, InputChange},
    outcome::Settled,
    tape::{Feed, Tape},
    tokens,
    update::Update,
};
use crate::{
    Error, Result,
    error::Reason,
    opened::Opened,
    policy::{Debounce, Policy},
    tally::Tally,
    text::{AnswerText, AnswerToken, Channel, Frame, MAX_PUSH, Message, TokenEdit, least_bytes, size},
};

/// The most tokens that one push may have.
const MAX_TOKENS: usize = 1 << 20;

/// A prompt and the answer to it.
#[derive(Clone)]
pub(super) struct Turn {
    messages: Vec<Message>,
    pub(super) tape: Tape,
    pub(super) answer: Answer,
}

impl Turn {
    /// A turn whose prompt the sequence holds.
    pub(super) fn new(messages: Vec<Message>, prompt: Vec<u32>, frame: Frame) -> Self {
        Turn { messages, tape: Tape::new(prompt, frame), answer: Answer::new() }
    }

    /// The next bytes of the answer's text, of thinking if the caller says so.
    pub(super) fn push_text(
        &self,
        shared: &Opened,
        call: &'static str,
        declared: bool,
        bytes: &[u8],
    ) -> Result<Change> {
        self.check_open(call)?;
        if let Input::Tokens = &self.answer.input {
            return Err(Error::WrongState { call, state: "on an answer that comes as tokens" });
        }
        let text = self.text(shared);
        if bytes.len() <= MAX_PUSH {
            let least = shared.tokenizer.least_tokens(least_bytes(bytes));
            self.tape.check_fits(shared, self.answer.final_tokens(), least)?;
        }
        let changed = text.push(&shared.tokenizer, &self.tape.frame, declared, bytes);
        let (tokens, text) = changed.map_err(|error| self.tape.after_prompt(shared, error))?;
        Ok(Change { tokens, input: InputChange::Text(text), end: None })
    }

    /// The next tokens of the answer.
    pub(super) fn push_tokens(&self, shared: &Opened, ids: &[u32]) -> Result<Change> {
        let call = "push_tokens";
        self.check_open(call)?;
        if matches!(&self.answer.input, Input::Text(text) if text.received() > 0) {
            return Err(Error::WrongState { call, state: "on an answer that comes as text" });
        }
        self.tape.check_fits(shared, self.answer.tokens.len(), ids.len())?;
        if ids.len() > MAX_TOKENS {
            let reason = format!("{} tokens at once, the limit is {MAX_TOKENS}: push fewer", ids.len());
            return Err(Error::argument("tokens", reason));
        }
        let mut append: Vec<AnswerToken> = Vec::new();
        let bytes = size_of::<AnswerToken>() * ids.len();
        append.try_reserve_exact(ids.len()).map_err(|_| Error::OutOfMemory { bytes, purpose: "tokens" })?;
        for id in ids {
            let last = append.last().or(self.answer.tokens.last());
            let start = last.map_or(0, |last| last.bytes.end);
            let bytes = start..start + shared.token_bytes(*id)?.len();
            append.push(tokens::next_token(&shared.tokenizer, &self.tape.frame, last, *id, bytes));
        }
        let input = if ids.is_empty() { InputChange::None } else { InputChange::Tokens };
        let keep = self.answer.tokens.len();
        let tokens = TokenEdit { keep, stable: keep + append.len(), append };
        Ok(Change { tokens, input, end: None })
    }

    /// The end of the answer.
    pub(super) fn finish(&self, shared: &Opened, policy: &Policy) -> Result<Change> {
        self.check_open("finish")?;
        let (mut tokens, input) = match &self.answer.input {
            Input::Text(text) => {
                let (tokens, text) = text.finish(&shared.tokenizer, &self.tape.frame)?;
                (tokens, InputChange::Text(text))
            }
            _ => (TokenEdit::keep(self.answer.tokens.len()), InputChange::None),
        };
        let mut closing = 0;
        if policy.answer.debounce == Debounce::Eval {
            let at = self.answer.received();
            let token = |id: &u32| AnswerToken { id: *id, bytes: at..at, channel: Channel::Answer, judged: true };
            closing = self.tape.frame.end.len();
            tokens.append.extend(self.tape.frame.end.iter().map(token));
            tokens.stable += closing;
        }
        Ok(Change { tokens, input, end: Some(End { closing }) })
    }

    /// All after the first `bytes` bytes goes.
    pub(super) fn truncate(&self, shared: &Opened, bytes: usize) -> Result<Change> {
        if let Input::Text(text) = &self.answer.input {
            let (mut tokens, text) = text.truncate(&shared.tokenizer, &self.tape.frame, bytes)?;
            if tokens.stable < tokens.keep.min(self.answer.final_tokens()) {
                // Final tokens near the new end are provisional again: they need verdicts anew.
                tokens.append.splice(..0, self.answer.tokens[tokens.stable..tokens.keep].iter().cloned());
                tokens.keep = tokens.stable;
            }
            return Ok(Change { tokens, input: InputChange::Text(text), end: None });
        }
        let own = &self.answer.tokens[..self.answer.tokens.len() - self.answer.end.map_or(0, |end| end.closing)];
        let kept = own.partition_point(|token| token.bytes.end <= bytes);
        if own[..kept].last().map_or(0, |last| last.bytes.end) != bytes {
            let received = own.last().map_or(0, |last| last.bytes.end);
            let reason = match bytes > received {
                true => format!("{bytes} is more than the {received} bytes so far"),
                false => format!("{bytes} is not the end of a token"),
            };
            return Err(Error::argument("bytes", reason));
        }
        Ok(Change { tokens: TokenEdit::keep(kept), input: InputChange::None, end: None })
    }

    /// All after the first `count` tokens goes.
    pub(super) fn truncate_tokens(&self, shared: &Opened, count: usize) -> Result<Change> {
        let have = self.answer.tokens.len();
        if count > have {
            let reason = format!("{count} is more than the {have} tokens so far");
            return Err(Error::argument("tokens", reason));
        }
        self.truncate(shared, self.answer.tokens[..count].last().map_or(0, |last| last.bytes.end))
    }

    /// Makes a change happen that the model and the policy have judged.
    pub(super) fn complete(
        &mut self,
        shared: &Opened,
        policy: &Policy,
        tally: Option<&Tally>,
        feed: Feed,
        settled: Settled,
    ) -> Update {
        let Feed { change, verdicts, held, .. } = feed;
        self.tape.hold(held);
        let Turn { tape, answer, .. } = self;
        let no_text = || AnswerText::new(&tape.frame, tape.most_tokens(shared));
        answer.apply(tally, policy, change, verdicts, settled, no_text)
    }

    /// The conversation with the answer as a change makes it, up to a byte: whole characters only.
    pub(super) fn up_to(&self, shared: &Opened, change: &Change, end: usize) -> Result<Vec<Message>> {
        let mut all = size::copy(&self.messages)?;
        let mut text = match &change.input {
            InputChange::Text(text) => self.text(shared).after(text).text(),
            _ => {
                let TokenEdit { keep, append, .. } = &change.tokens;
                let tokens = self.answer.tokens[..*keep].iter().chain(append);
                tokens_text(shared, tokens.take_while(|token| token.bytes.end <= end))?
            }
        };
        text.truncate(text.floor_char_boundary(end));
        append(&mut all, &text);
        Ok(all)
    }

    /// The conversation with the answer and the next messages.
    pub(super) fn with_next(&self, shared: &Opened, messages: &[Message]) -> Result<Vec<Message>> {
        if self.answer.end.is_none() {
            return Err(Error::WrongState { call: "next_turn", state: "before the end of the answer" });
        }
        let before = &self.messages;
        let bytes = [before, messages].into_iter().flatten().map(|message| message.role.len() + message.content.len());
        let bytes = bytes.fold(self.answer.received(), usize::saturating_add);
        shared.check_lengths(before.len().saturating_add(messages.len()), bytes)?;
        let mut all = size::copy(before)?;
        append(&mut all, &self.answer_text(shared)?);
        all.extend(size::copy(messages)?);
        Ok(all)
    }

    fn answer_text(&self, shared: &Opened) -> Result<String> {
        if let Input::Text(text) = &self.answer.input {
            return Ok(text.text());
        }
        let text = tokens_text(shared, self.answer.tokens.iter())?;
        if text.len() < self.answer.received() {
            let at = text.len();
            return Err(Error::conversation(format!("the tokens of the answer are not UTF-8 at byte {at}")));
        }
        Ok(text)
    }

    fn text(&self, shared: &Opened) -> Cow<'_, AnswerText> {
        match &self.answer.input {
            Input::Text(text) => Cow::Borrowed(&**text),
            _ => Cow::Owned(AnswerText::new(&self.tape.frame, self.tape.most_tokens(shared))),
        }
    }

    fn check_open(&self, call: &'static str) -> Result<()> {
        match self.answer.end {
            None => Ok(()),
            Some(_) => Err(Error::WrongState { call, state: "after the end of the answer" }),
        }
    }
}

/// Adds the answer, which the last message may be the beginning of.
fn append(messages: &mut Vec<Message>, answer: &str) {
    match messages.last_mut() {
        Some(last) if last.role == "assistant" => last.content.push_str(answer),
        _ => messages.push(Message::assistant(answer)),
    }
}

/// The text that tokens stand for, without a character at its end that is not whole.
fn tokens_text<'t>(shared: &Opened, tokens: impl Iterator<Item = &'t AnswerToken>) -> Result<String> {
    let mut bytes = Vec::new();
    for token in tokens.filter(|token| !token.bytes.is_empty()) {
        bytes.extend_from_slice(shared.token_bytes(token.id)?);
    }
    String::from_utf8(bytes).or_else(|error| {
        let (at, ends) = (error.utf8_error().valid_up_to(), error.utf8_error().error_len().is_none());
        if ends {
            let mut bytes = error.into_bytes();
            bytes.truncate(at);
            return Ok(String::from_utf8(bytes).unwrap_or_default());
        }
        let reason = format!("the tokens of the answer are not UTF-8 at byte {at}");
        Err(Error::conversation(Reason::from(reason).with(error)))
    })
}
