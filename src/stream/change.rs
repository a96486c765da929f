//! What the calls of a stream change in its answer, before the model sees it.

use std::borrow::Cow;

use super::{
    answer::{Answer, Change, End, Input, Source},
    tokens,
};
use crate::{
    Error, Result,
    opened::Opened,
    policy::{Debounce, Policy},
    text::{AnswerText, AnswerToken, Channel, MAX_PUSH, TextEdit, least_bytes},
};

/// The most tokens that one push may have.
const MAX_TOKENS: usize = 1 << 20;

impl Change {
    fn of_text(fresh: Option<Box<AnswerText>>, mut edit: TextEdit) -> Self {
        let append = std::mem::take(&mut edit.append);
        Change {
            keep: edit.keep,
            append,
            stable: edit.stable,
            source: Source::Text { fresh, edit: Box::new(edit) },
            end: None,
        }
    }

    fn of_tokens(keep: usize, append: Vec<AnswerToken>, source: Source) -> Self {
        Change { keep, stable: keep + append.len(), append, source, end: None }
    }
}

impl Answer {
    /// The next bytes of the answer's text, of thinking if the caller says so.
    pub(super) fn push_text(&self, shared: &Opened, call: &'static str, told: bool, bytes: &[u8]) -> Result<Change> {
        self.check_open(call)?;
        let text = match &self.input {
            Input::Unknown => Cow::Owned(AnswerText::new(&self.tape.frame, self.tape.most_tokens(shared))),
            Input::Text(text) => Cow::Borrowed(&**text),
            Input::Tokens => return Err(Error::WrongState { call, state: "on an answer that comes as tokens" }),
        };
        if bytes.len() <= MAX_PUSH {
            let least = shared.tokenizer.least_tokens(least_bytes(bytes));
            self.tape.check_fits(shared, self.final_tokens(), least)?;
        }
        let edit = text.push(&shared.tokenizer, &self.tape.frame, told, bytes);
        let edit = edit.map_err(|error| self.tape.after_prompt(shared, error))?;
        let fresh = if let Cow::Owned(text) = text { Some(Box::new(text)) } else { None };
        Ok(Change::of_text(fresh, edit))
    }

    /// The next tokens of the answer.
    pub(super) fn push_tokens(&self, shared: &Opened, ids: &[u32]) -> Result<Change> {
        let call = "push_tokens";
        self.check_open(call)?;
        if matches!(&self.input, Input::Text(text) if text.received() > 0) {
            return Err(Error::WrongState { call, state: "on an answer that comes as text" });
        }
        self.tape.check_fits(shared, self.tokens.len(), ids.len())?;
        if ids.len() > MAX_TOKENS {
            let reason = format!("{} tokens at once, the limit is {MAX_TOKENS}: push fewer", ids.len());
            return Err(Error::Argument { argument: "tokens", reason });
        }
        let mut append: Vec<AnswerToken> = Vec::new();
        let bytes = size_of::<AnswerToken>() * ids.len();
        append.try_reserve_exact(ids.len()).map_err(|_| Error::OutOfMemory { bytes, purpose: "tokens" })?;
        for id in ids {
            let last = append.last().or(self.tokens.last());
            let start = last.map_or(0, |last| last.bytes.end);
            let bytes = start..start + shared.token_bytes(*id)?.len();
            append.push(tokens::next_token(&shared.tokenizer, &self.tape.frame, last, *id, bytes));
        }
        let source = if ids.is_empty() { Source::Nothing } else { Source::Tokens };
        Ok(Change::of_tokens(self.tokens.len(), append, source))
    }

    /// The end of the answer.
    pub(super) fn finish(&self, shared: &Opened, policy: &Policy) -> Result<Change> {
        self.check_open("finish")?;
        let mut change = match &self.input {
            Input::Text(text) => Change::of_text(None, text.finish(&shared.tokenizer, &self.tape.frame)?),
            _ => Change::of_tokens(self.tokens.len(), Vec::new(), Source::Nothing),
        };
        let mut closing = 0;
        if policy.answer.debounce == Debounce::Eval {
            let at = self.received();
            let token = |id: &u32| AnswerToken { id: *id, bytes: at..at, channel: Channel::Answer, judged: true };
            closing = self.tape.frame.end.len();
            change.append.extend(self.tape.frame.end.iter().map(token));
            change.stable += closing;
        }
        change.end = Some(End { closing });
        Ok(change)
    }

    /// All after the first `bytes` bytes goes.
    pub(super) fn truncate(&self, shared: &Opened, bytes: usize) -> Result<Change> {
        if let Input::Text(text) = &self.input {
            return Ok(Change::of_text(None, text.truncate(&shared.tokenizer, &self.tape.frame, bytes)?));
        }
        let own = &self.tokens[..self.tokens.len() - self.end.map_or(0, |end| end.closing)];
        let kept = own.partition_point(|token| token.bytes.end <= bytes);
        if own[..kept].last().map_or(0, |last| last.bytes.end) != bytes {
            return Err(Error::Argument { argument: "bytes", reason: format!("{bytes} is not the end of a token") });
        }
        Ok(Change::of_tokens(kept, Vec::new(), Source::Nothing))
    }

    /// All after the first `tokens` tokens goes.
    pub(super) fn truncate_tokens(&self, shared: &Opened, tokens: usize) -> Result<Change> {
        let have = self.tokens.len();
        let Some(kept) = self.tokens.get(..tokens) else {
            let reason = format!("{tokens} is more than the {have} tokens so far");
            return Err(Error::Argument { argument: "tokens", reason });
        };
        self.truncate(shared, kept.last().map_or(0, |last| last.bytes.end))
    }

    fn check_open(&self, call: &'static str) -> Result<()> {
        match self.end {
            None => Ok(()),
            Some(_) => Err(Error::WrongState { call, state: "after the end of the answer" }),
        }
    }
}
