//! The answer of a stream: its tokens, which of them are final, and what the policy made of those.

use std::ops::Range;

use super::{TokenVerdict, Update, Violation};
use crate::{
    Decision, Error, Policy, Result, Risk, TextToken, Verdict,
    engine::{Read, Sequence},
    guard::Shared,
    policy::Debounce,
    text::{DeltaTokenizer, Edit, Tokenizer},
};

/// An answer that is being judged.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// What the template puts before the answer. Fed with its first tokens.
    scaffold: Vec<u32>,
    /// Tokens in the sequence before the scaffold.
    prompt: usize,
    pub(super) input: Input,
    /// The bytes of every token.
    pub(super) spans: Vec<Range<usize>>,
    /// Tokens that are in the sequence. Fewer than there are only after a feed that failed.
    fed: usize,
    /// The levels of the final tokens.
    risks: Vec<Risk>,
    /// The verdicts of the provisional tokens.
    provisional: Vec<Verdict>,
    debounce: Debounce,
    /// How many of `risks` the debounce has seen.
    debounced: usize,
    violation: Option<Violation>,
    pub(super) finished: bool,
}

/// How an answer comes.
#[derive(Debug, Clone)]
pub(super) enum Input {
    Unknown,
    Tokens,
    Text(DeltaTokenizer),
}

impl Answer {
    pub(super) fn new(prompt: usize, scaffold: Vec<u32>) -> Self {
        Answer {
            scaffold,
            prompt,
            input: Input::Unknown,
            spans: Vec::new(),
            fed: 0,
            risks: Vec::new(),
            provisional: Vec::new(),
            debounce: Debounce::default(),
            debounced: 0,
            violation: None,
            finished: false,
        }
    }

    /// The text of the answer, which must not have come as tokens so far.
    pub(super) fn deltas(&mut self, call: &'static str, tokenizer: &Tokenizer) -> Result<&DeltaTokenizer> {
        if let Input::Unknown = self.input {
            self.input = Input::Text(DeltaTokenizer::new(tokenizer)?);
        }
        match &self.input {
            Input::Text(deltas) => Ok(deltas),
            _ => Err(Error::WrongState { call, state: "on an answer that comes as tokens" }),
        }
    }

    /// Makes an edit of the text happen.
    pub(super) fn apply(&mut self, edit: Edit) {
        if let Input::Text(deltas) = &mut self.input {
            deltas.apply(edit);
        }
    }

    /// Keeps the first `keep` tokens, puts `append` after them and judges those. If that fails the answer is as before.
    pub(super) fn feed(
        &mut self,
        shared: &Shared,
        sequence: &mut Sequence,
        keep: usize,
        append: Vec<TextToken>,
    ) -> Result<Vec<TokenVerdict>> {
        // Tokens that an earlier failure took out of the sequence come first.
        let from = keep.min(self.fed);
        let mut ids = Vec::new();
        if let Input::Text(deltas) = &self.input {
            ids.extend(deltas.tokens()[from..keep].iter().map(|token| token.id));
        }
        let again = ids.len();
        ids.extend(append.iter().map(|token| token.id));

        let start = self.prompt + self.scaffold.len();
        let unfed = if sequence.len() < start { self.scaffold.as_slice() } else { &[] };
        let read = Read::Response { from: unfed.len() + again };
        let at = if unfed.is_empty() { start + from } else { self.prompt };
        let nothing = ids.is_empty();
        let fed = if nothing { Vec::new() } else { [unfed, &ids].concat() };
        sequence.check_room(at, fed.len())?;
        sequence.truncate(at)?;
        self.fed = from;
        let logits = sequence.append(fed, read)?;
        self.fed = keep + append.len();

        self.cut_back(keep);
        let mut judged = Vec::with_capacity(append.len());
        for (row, token) in append.into_iter().enumerate() {
            let labels = &shared.response_labels;
            let verdict = Verdict::from_logits(labels, logits.risk.row(row), logits.category.row(row));
            self.provisional.push(verdict.clone());
            self.spans.push(token.bytes.clone());
            judged.push(TokenVerdict { index: keep + row, token_id: token.id, bytes: token.bytes, verdict });
        }
        Ok(judged)
    }

    /// Forgets the tokens from `keep` on. Final ones are only among them if the text was cut back.
    fn cut_back(&mut self, keep: usize) {
        self.spans.truncate(keep);
        self.provisional.truncate(keep.saturating_sub(self.risks.len()));
        if keep < self.risks.len() {
            self.risks.truncate(keep);
            self.violation.take_if(|violation| violation.confirming_token >= keep);
            self.debounce = Debounce::default();
            self.debounced = 0;
        }
    }

    /// Makes the first `stable` tokens final and lets the policy see them.
    pub(super) fn settle(&mut self, policy: &Policy, stable: usize) {
        let before = self.risks.len();
        let settled: Vec<Verdict> = self.provisional.drain(..stable.saturating_sub(before)).collect();
        self.risks.extend(settled.iter().map(Verdict::risk));
        for (index, risk) in self.risks.iter().enumerate().skip(self.debounced) {
            let fired = self.debounce.next(policy, *risk);
            // After a cut the debounce sees old tokens again, and the violation that it finds there is known.
            if let (Some(run), None) = (fired, &self.violation) {
                let verdict = &settled[index - before];
                self.violation = Some(Violation {
                    bytes: self.spans[index + 1 - run].start..self.spans[index].end,
                    first_token: index + 1 - run,
                    confirming_token: index,
                    risk: *risk,
                    category: verdict.category().unwrap_or_default().to_owned(),
                    probability: verdict.probability(*risk),
                });
            }
        }
        self.debounced = self.risks.len();
    }

    /// What the caller gets to know.
    pub(super) fn update(&self, tokens: Vec<TokenVerdict>) -> Update {
        Update {
            decision: if self.violation.is_some() { Decision::Stop } else { Decision::Continue },
            horizon: self.horizon(),
            violation: self.violation.clone(),
            tokens,
            final_tokens: self.risks.len(),
        }
    }

    fn horizon(&self) -> usize {
        let cleared = match &self.violation {
            Some(violation) => violation.bytes.start,
            None => {
                let pending = if self.finished { 0 } else { self.debounce.run() };
                self.spans.get(self.risks.len() - pending).map_or(usize::MAX, |span| span.start)
            }
        };
        match &self.input {
            Input::Text(deltas) => deltas.text().floor_char_boundary(cleared),
            _ => cleared.min(self.spans.last().map_or(0, |last| last.end)),
        }
    }
}
