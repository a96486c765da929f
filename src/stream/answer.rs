//! The answer of a stream: its tokens, which of them are final, and what the policy made of those.

use super::update::{TokenVerdict, Update, Violation};
use crate::{
    opened::Opened,
    policy::{Action, Debounce, Finding, Policy, Rules, Watch},
    text::{AnswerText, AnswerToken, Channel, TextChange, TokenEdit},
    verdict::{Labels, Verdict},
};

/// An answer that is being judged.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) input: Input,
    pub(super) tokens: Vec<AnswerToken>,
    /// What the policy finds in the final tokens.
    findings: Vec<Option<Finding>>,
    /// The verdicts of the provisional tokens, of those that are judged.
    provisional: Vec<Option<Verdict>>,
    outcome: Outcome,
    pub(super) end: Option<End>,
}

/// The end of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// How many of the tokens are the template's, after the answer.
    pub(super) closing: usize,
}

/// A change of an answer that the model is to judge before it happens.
pub(super) struct Change {
    pub(super) tokens: TokenEdit,
    pub(super) input: InputChange,
    /// How the answer ends afterwards, if it does.
    pub(super) end: Option<End>,
}

/// What a change does to how the answer comes.
pub(super) enum InputChange {
    None,
    Tokens,
    Text(TextChange),
}

/// How an answer comes.
#[derive(Debug, Clone)]
pub(super) enum Input {
    Unknown,
    Tokens,
    Text(Box<AnswerText>),
}

/// What the policy made of the final tokens so far.
#[derive(Debug, Clone, Default)]
struct Outcome {
    /// How many tokens it has seen.
    seen: usize,
    thinking: Watch,
    answer: Watch,
    violation: Option<Violation>,
    /// Where the first violation starts, in bytes: an escalation may have taken its place.
    stop_at: Option<usize>,
    flags: Vec<Violation>,
    /// How many of the flags were reported.
    reported: usize,
}

impl Answer {
    pub(super) fn new() -> Self {
        Answer {
            input: Input::Unknown,
            tokens: Vec::new(),
            findings: Vec::new(),
            provisional: Vec::new(),
            outcome: Outcome::default(),
            end: None,
        }
    }

    /// Makes a change happen whose tokens have these verdicts, those of them that are judged. `no_text` is what the text
    /// of an answer starts with.
    pub(super) fn apply(
        &mut self,
        shared: &Opened,
        policy: &Policy,
        change: Change,
        verdicts: Vec<Option<Verdict>>,
        no_text: impl FnOnce() -> AnswerText,
    ) -> Update {
        let Change { tokens: TokenEdit { keep, append, stable }, input, end } = change;
        self.cut_back(keep);
        let judged = append.iter().zip(&verdicts).enumerate().filter_map(|(row, (token, verdict))| {
            Some(TokenVerdict {
                index: keep + row,
                token_id: token.id,
                bytes: token.bytes.clone(),
                channel: token.channel,
                is_final: false,
                verdict: verdict.clone()?,
            })
        });
        let judged = judged.collect();
        self.tokens.extend(append);
        self.provisional.extend(verdicts);
        self.end = end;
        match input {
            InputChange::None => {}
            InputChange::Tokens => self.input = Input::Tokens,
            InputChange::Text(change) => {
                if !matches!(self.input, Input::Text(_)) {
                    self.input = Input::Text(Box::new(no_text()));
                }
                if let Input::Text(text) = &mut self.input {
                    text.apply(change);
                }
            }
        }
        self.settle(shared, policy, stable, keep, judged)
    }

    /// Forgets the tokens from `keep` on. Final ones are only among them if the answer was cut back.
    fn cut_back(&mut self, keep: usize) {
        self.tokens.truncate(keep);
        self.provisional.truncate(keep.saturating_sub(self.findings.len()));
        if keep < self.findings.len() {
            self.findings.truncate(keep);
            let reported = self.outcome.flags.iter().filter(|flag| flag.confirming_token < keep).count();
            self.outcome = Outcome { reported, ..Outcome::default() };
        }
    }

    /// Makes the first `stable` tokens final, lets the policy see them, and says what the caller gets to know.
    fn settle(
        &mut self,
        shared: &Opened,
        policy: &Policy,
        stable: usize,
        void_from: usize,
        mut judged: Vec<TokenVerdict>,
    ) -> Update {
        for verdict in self.provisional.drain(..stable.saturating_sub(self.findings.len())) {
            let rules = rules(policy, self.tokens[self.findings.len()].channel);
            self.findings.push(verdict.and_then(|verdict| rules.judge().find(&verdict)));
        }
        for index in self.outcome.seen..self.findings.len() {
            if self.tokens[index].judged {
                self.watch(&shared.response_labels, policy, index);
            }
        }
        self.outcome.seen = self.findings.len();
        for token in &mut judged {
            token.is_final = token.index < self.findings.len();
        }
        self.update(policy, void_from, judged)
    }

    /// Lets the policy see a token.
    fn watch(&mut self, labels: &Labels, policy: &Policy, index: usize) {
        let channel = self.tokens[index].channel;
        let rules = rules(policy, channel);
        let fired = self.outcome.watch(channel).next(rules.debounce, self.findings[index].as_ref());
        let (Some(fired), Some(finding)) = (fired, self.findings[index]) else { return };
        let first_token = index + 1 - fired.tokens;
        let name = match channel {
            Channel::Thinking => "thinking",
            Channel::Answer => "answer",
        };
        let found = Violation {
            action: fired.action,
            channel,
            bytes: self.tokens[first_token].bytes.start..self.tokens[index].bytes.end,
            first_token,
            confirming_token: index,
            risk: finding.risk,
            category: labels.categories()[finding.category as usize].clone(),
            probability: finding.probability,
            rule: format!("{}: {}", rules.judge().name(name, &finding, labels), rules.debounce),
        };
        let outcome = &mut self.outcome;
        match fired.action {
            Action::Stop => {
                outcome.stop_at.get_or_insert(found.bytes.start);
                let escalates = |known: &Violation| {
                    rules.debounce == Debounce::Eval && known.channel == channel && known.risk < found.risk
                };
                if outcome.violation.as_ref().is_none_or(escalates) {
                    outcome.violation = Some(found);
                }
            }
            Action::Flag | Action::Ignore => outcome.flags.push(found),
        }
    }

    /// What the caller gets to know.
    fn update(&mut self, policy: &Policy, void_from: usize, tokens: Vec<TokenVerdict>) -> Update {
        let (horizon, received) = (self.horizon(policy), self.received());
        let outcome = &mut self.outcome;
        let flags = outcome.flags[outcome.reported.min(outcome.flags.len())..].to_vec();
        outcome.reported = outcome.flags.len();
        Update {
            decision: policy.decide(outcome.violation.as_ref().map(|violation| violation.action)),
            horizon,
            horizon_tokens: self.tokens.partition_point(|token| token.bytes.end <= horizon),
            received,
            violation: outcome.violation.clone(),
            flags,
            tokens,
            void_from,
            final_tokens: self.findings.len(),
        }
    }

    /// How many of its tokens are final.
    pub(super) fn final_tokens(&self) -> usize {
        self.findings.len()
    }

    /// Bytes that were pushed so far.
    pub(super) fn received(&self) -> usize {
        match &self.input {
            Input::Text(text) => text.received(),
            _ => self.tokens.last().map_or(0, |last| last.bytes.end),
        }
    }

    fn horizon(&self, policy: &Policy) -> usize {
        let stop_at = self.outcome.stop_at.filter(|_| !policy.shadow);
        let cleared = stop_at.unwrap_or_else(|| {
            let first = self.findings.len() - self.pending(policy);
            self.tokens.get(first).map_or(usize::MAX, |token| token.bytes.start)
        });
        match &self.input {
            Input::Text(text) => text.floor(cleared),
            _ => cleared.min(self.received()),
        }
    }

    /// How many of the final tokens may still turn out to be part of a violation that stops.
    fn pending(&self, policy: &Policy) -> usize {
        match self.findings.len().checked_sub(1) {
            Some(last) if self.end.is_none() && !policy.shadow => {
                let channel = self.tokens[last].channel;
                let outcome = &self.outcome;
                let watch = if channel == Channel::Thinking { &outcome.thinking } else { &outcome.answer };
                watch.pending(rules(policy, channel).debounce)
            }
            _ => 0,
        }
    }
}

impl Outcome {
    fn watch(&mut self, channel: Channel) -> &mut Watch {
        match channel {
            Channel::Thinking => &mut self.thinking,
            Channel::Answer => &mut self.answer,
        }
    }
}

fn rules(policy: &Policy, channel: Channel) -> &Rules {
    match channel {
        Channel::Thinking => &policy.thinking,
        Channel::Answer => &policy.answer,
    }
}
