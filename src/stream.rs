//! A stream: one conversation being moderated.

use std::{ops::Range, sync::Arc};

use crate::{
    Decision, Error, Message, Policy, Result, Risk, Verdict,
    engine::{Read, Sequence},
    guard::Shared,
    policy::Debounce,
};

/// One conversation being moderated: light, one owner at a time. Dropping it gives its memory back.
///
/// First the prompt, then the answer as it is produced. A call that fails leaves the stream as it was.
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
    /// Which token of the answer, from 0.
    pub index: usize,
    /// Its id.
    pub token_id: u32,
    /// The bytes of the answer that it stands for, by adding up the tokens' own bytes.
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
    /// Where the answer turned, now or in an earlier push.
    pub violation: Option<Violation>,
    /// The new tokens.
    pub tokens: Vec<TokenVerdict>,
}

/// The state of the answer that is being judged.
struct Answer {
    /// What the template puts before the answer, until it is fed with the first tokens.
    scaffold: Vec<u32>,
    tokens: usize,
    bytes: usize,
    debounce: Debounce,
    violation: Option<Violation>,
    /// Starts of the latest tokens, as many as a run can have.
    starts: Vec<usize>,
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
        self.answer = Some(Answer {
            scaffold: conversation.scaffold,
            tokens: 0,
            bytes: 0,
            debounce: Debounce::default(),
            violation: None,
            starts: Vec::new(),
        });
        Ok(PromptCheck { decision: self.policy.decide_prompt(&verdict), verdict })
    }

    /// Tokens of the model's context that the conversation uses so far, those of the template included.
    pub fn context_used(&self) -> usize {
        self.sequence.len()
    }

    /// Gives the next tokens of the answer and judges each of them. The ids are those of the guard's own tokenizer, see
    /// [`Guard::encode`](crate::Guard::encode).
    ///
    /// After [`Decision::Stop`] further tokens are still judged: stopping is the host's to do.
    ///
    /// # Errors
    /// [`Error::WrongState`] before the prompt; [`Error::Argument`] for an id that is no token; [`Error::ContextFull`]
    /// if the tokens do not fit the model's context.
    pub fn push_tokens(&mut self, ids: &[u32]) -> Result<Update> {
        let Some(answer) = &mut self.answer else {
            return Err(Error::WrongState { call: "push_tokens", state: "before the prompt" });
        };
        let lengths: Vec<usize> =
            ids.iter().map(|id| Ok(self.shared.token_bytes(*id)?.len())).collect::<Result<_>>()?;
        let mut tokens = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            let scaffold = answer.scaffold.len();
            let fed = [&answer.scaffold, ids].concat();
            let logits = self.sequence.append(fed, Read::Response { from: scaffold })?;
            answer.scaffold.clear();
            for (row, (id, length)) in ids.iter().zip(lengths).enumerate() {
                let labels = &self.shared.response_labels;
                let verdict = Verdict::from_logits(labels, logits.risk.row(row), logits.category.row(row));
                tokens.push(answer.judge(&self.policy, *id, length, verdict));
            }
        }
        let violation = answer.violation.clone();
        let decision = if violation.is_some() { Decision::Stop } else { Decision::Continue };
        Ok(Update { decision, violation, tokens })
    }
}

impl Answer {
    fn judge(&mut self, policy: &Policy, token_id: u32, length: usize, verdict: Verdict) -> TokenVerdict {
        let token = TokenVerdict { index: self.tokens, token_id, bytes: self.bytes..self.bytes + length, verdict };
        self.tokens += 1;
        self.bytes += length;
        if self.starts.len() == policy.debounce {
            self.starts.remove(0);
        }
        self.starts.push(token.bytes.start);
        if let Some(run) = self.debounce.next(policy, token.verdict.risk()) {
            self.violation = Some(Violation {
                bytes: self.starts[self.starts.len() - run]..token.bytes.end,
                first_token: token.index + 1 - run,
                confirming_token: token.index,
                risk: token.verdict.risk(),
                category: token.verdict.category().unwrap_or_default().to_owned(),
                probability: token.verdict.probability(token.verdict.risk()),
            });
        }
        token
    }
}
