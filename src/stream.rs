//! A stream: one conversation being moderated.

mod answer;

use std::{ops::Range, sync::Arc};

use crate::{
    Decision, Error, Message, Policy, Result, Risk, TextToken, Verdict,
    engine::{Read, Sequence},
    guard::Shared,
};

use answer::{Answer, Input};

/// One conversation being moderated: light, one owner at a time. Dropping it gives its memory back.
///
/// First the prompt, then the answer as it is produced: as text ([`Stream::push_text`]) from any model, or as tokens
/// ([`Stream::push_tokens`]) from a model with the guard's own vocabulary; then [`Stream::finish`]. A call that fails
/// leaves the stream as it was.
pub struct Stream {
    shared: Arc<Shared>,
    sequence: Sequence,
    policy: Policy,
    answer: Option<Answer>,
}

/// The verdict on a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptCheck {
    /// What the model says about the last user turn, in the light of all before it.
    pub verdict: Verdict,
    /// What the policy makes of it.
    pub decision: Decision,
}

/// One judged token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenVerdict {
    /// Which token of the answer, from 0. It takes the place of an earlier one of the same index.
    pub index: usize,
    /// Its id.
    pub token_id: u32,
    /// The bytes of the answer that it stands for: of the text as it was pushed, or, for pushed tokens, by adding up
    /// the tokens' own bytes.
    pub bytes: Range<usize>,
    /// What the model says about the answer up to here.
    pub verdict: Verdict,
}

/// Where an answer turned.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// Bytes of the answer, from the first flagged token of the run to the one that confirmed it.
    pub bytes: Range<usize>,
    /// The first flagged token of the run.
    pub first_token: usize,
    /// The token that completed the run. Level, category and probability are those of its verdict.
    pub confirming_token: usize,
    /// The level.
    pub risk: Risk,
    /// The category.
    pub category: String,
    /// Probability of the level, 0 to 1.
    pub probability: f32,
}

/// The result of a push.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Whether the answer may go on. Once it is [`Decision::Stop`] it stays so.
    pub decision: Decision,
    /// How many bytes of the answer may be shown: all before the first token that is provisional, or flagged in a run
    /// that is not over, or part of the violation; whole characters only. Never moves back.
    pub horizon: usize,
    /// Where the answer turned, now or in an earlier push.
    pub violation: Option<Violation>,
    /// The tokens that were judged now.
    pub tokens: Vec<TokenVerdict>,
    /// How many tokens of the answer are final. Those after them are provisional: the next text may merge with them, so
    /// they move neither the horizon nor the decision.
    pub final_tokens: usize,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, policy: Policy) -> Result<Self> {
        let sequence = shared.engine.sequence()?;
        Ok(Stream { shared, sequence, policy, answer: None })
    }

    /// Gives the conversation up to the user's last turn and judges that turn.
    ///
    /// The conversation is rendered by the checkpoint's own template, thinking off, and the query heads are read at the
    /// `<|im_end|>` of the last user turn. A message of the assistant at the end is the beginning of the answer: it is
    /// given to the model but not judged.
    ///
    /// # Errors
    /// [`Error::Conversation`] if there is no user turn or the template refuses the messages; [`Error::WrongState`] if
    /// the stream has a prompt already; [`Error::ContextFull`] if the prompt is longer than the model's context.
    pub fn prompt(&mut self, messages: &[Message]) -> Result<PromptCheck> {
        if self.answer.is_some() {
            return Err(Error::WrongState { call: "prompt", state: "on a stream that has its prompt" });
        }
        let conversation = self.shared.renderer.render(&self.shared.tokenizer, messages)?;
        let read = Read::Query { from: conversation.prompt.len() - 1 };
        let logits = self.sequence.append(conversation.prompt, read)?;
        let verdict = Verdict::from_logits(&self.shared.query_labels, logits.risk.row(0), logits.category.row(0));
        self.answer = Some(Answer::new(self.sequence.len(), conversation.scaffold));
        Ok(PromptCheck { decision: self.policy.decide_prompt(&verdict), verdict })
    }

    /// Tokens of the model's context that the conversation uses so far, those of the template included.
    pub fn context_used(&self) -> usize {
        self.sequence.len()
    }

    /// Gives the next tokens of the answer and judges each of them. The ids are those of the guard's own tokenizer, see
    /// [`Guard::encode`](crate::Guard::encode). None of them is provisional.
    ///
    /// After [`Decision::Stop`] further tokens are still judged: stopping is the host's to do.
    ///
    /// # Errors
    /// [`Error::WrongState`] before the prompt, after text or after the end of the answer; [`Error::Argument`] for an
    /// id that is no token; [`Error::ContextFull`] if the tokens do not fit the model's context.
    pub fn push_tokens(&mut self, ids: &[u32]) -> Result<Update> {
        let answer = open_answer(&mut self.answer, "push_tokens")?;
        if let Input::Text(_) = answer.input {
            return Err(Error::WrongState { call: "push_tokens", state: "on an answer that comes as text" });
        }
        let mut end = answer.spans.last().map_or(0, |last| last.end);
        let mut tokens = Vec::with_capacity(ids.len());
        for id in ids {
            let start = end;
            end += self.shared.token_bytes(*id)?.len();
            tokens.push(TextToken { id: *id, bytes: start..end });
        }
        let keep = answer.spans.len();
        let judged = answer.feed(&self.shared, &mut self.sequence, keep, tokens)?;
        if !ids.is_empty() {
            answer.input = Input::Tokens;
        }
        answer.settle(&self.policy, keep + ids.len());
        Ok(answer.update(judged))
    }

    /// Gives the next piece of the answer's text and judges its tokens. The piece may begin and end anywhere, even
    /// inside a character. Only the end of the text is tokenized again; where that changes earlier tokens, the KV cache
    /// is cut back to those that stay.
    ///
    /// After [`Decision::Stop`] further text is still judged: stopping is the host's to do.
    ///
    /// # Errors
    /// [`Error::Argument`] if the text is not UTF-8 (it says at which byte of the answer) or the bundle's tokenizer
    /// cannot take text in pieces; [`Error::WrongState`] before the prompt, after tokens or after the end of the
    /// answer; [`Error::ContextFull`] if the text does not fit the model's context.
    pub fn push_text(&mut self, text: &[u8]) -> Result<Update> {
        let answer = open_answer(&mut self.answer, "push_text")?;
        let deltas = answer.deltas("push_text", &self.shared.tokenizer)?;
        let edit = deltas.push(&self.shared.tokenizer, text)?;
        let judged = answer.feed(&self.shared, &mut self.sequence, edit.keep, edit.append.clone())?;
        let stable = edit.stable;
        answer.apply(edit);
        answer.settle(&self.policy, stable);
        Ok(answer.update(judged))
    }

    /// Says that the answer is complete: what was provisional becomes final. Nothing can be pushed afterwards.
    ///
    /// # Errors
    /// [`Error::WrongState`] before the prompt or after the end of the answer; [`Error::Argument`] if the text ends
    /// inside a character (it says at which byte).
    pub fn finish(&mut self) -> Result<Update> {
        let answer = open_answer(&mut self.answer, "finish")?;
        let mut judged = Vec::new();
        if let Input::Text(deltas) = &answer.input {
            let edit = deltas.finish(&self.shared.tokenizer)?;
            judged = answer.feed(&self.shared, &mut self.sequence, edit.keep, edit.append.clone())?;
            answer.apply(edit);
        }
        answer.finished = true;
        answer.settle(&self.policy, answer.spans.len());
        Ok(answer.update(judged))
    }

    /// Another stream with the same conversation so far, which goes its own way from here. It shares the cache of what
    /// is common, so that several drafts of an answer cost their own tokens only.
    ///
    /// # Errors
    /// [`Error::Busy`] if as many streams are open as the configuration allows.
    pub fn fork(&self) -> Result<Stream> {
        Ok(Stream {
            shared: self.shared.clone(),
            sequence: self.sequence.fork()?,
            policy: self.policy.clone(),
            answer: self.answer.clone(),
        })
    }

    /// Cuts the answer back to its first `bytes` bytes, as if nothing after them had ever come; a violation after them
    /// is forgotten. For a host that lets its model try again from there.
    ///
    /// # Errors
    /// [`Error::Argument`] if the answer is shorter, or that is inside a character or, for pushed tokens, inside a
    /// token; [`Error::WrongState`] before the prompt.
    pub fn truncate(&mut self, bytes: usize) -> Result<Update> {
        let Some(answer) = &mut self.answer else {
            return Err(Error::WrongState { call: "truncate", state: "before the prompt" });
        };
        let mut judged = Vec::new();
        let stable = if let Input::Text(deltas) = &answer.input {
            let edit = deltas.truncate(&self.shared.tokenizer, bytes)?;
            // Final tokens near the new end may be provisional again: their verdicts are needed anew.
            let keep = edit.keep.min(edit.stable);
            let append = [&deltas.tokens()[keep..edit.keep], &edit.append].concat();
            judged = answer.feed(&self.shared, &mut self.sequence, keep, append)?;
            let stable = edit.stable;
            answer.apply(edit);
            stable
        } else {
            let keep = answer.spans.partition_point(|span| span.end <= bytes);
            if answer.spans[..keep].last().map_or(0, |last| last.end) != bytes {
                let reason = format!("{bytes} is not the end of a token");
                return Err(Error::Argument { argument: "bytes", reason });
            }
            answer.feed(&self.shared, &mut self.sequence, keep, Vec::new())?;
            keep
        };
        answer.finished = false;
        answer.settle(&self.policy, stable);
        Ok(answer.update(judged))
    }
}

/// The answer that a call can add to.
fn open_answer<'a>(answer: &'a mut Option<Answer>, call: &'static str) -> Result<&'a mut Answer> {
    match answer {
        None => Err(Error::WrongState { call, state: "before the prompt" }),
        Some(answer) if answer.finished => Err(Error::WrongState { call, state: "after the end of the answer" }),
        Some(answer) => Ok(answer),
    }
}
