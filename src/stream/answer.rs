//! The answer of a stream: its tokens, which of them are final, and what the policy made of those.

use super::{
    dispute::Dispute,
    outcome::{Outcome, Ruling, Settled, rules},
    update::{Opinion, TokenVerdict, Update, Violation},
};
use crate::{
    policy::{Look, Policy},
    stats::VerdictChannel,
    tally::{Made, Tally},
    text::{AnswerText, AnswerToken, Channel, TextChange, TokenEdit},
    verdict::Verdict,
};

/// An answer that is being judged.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) input: Input,
    pub(super) tokens: Vec<AnswerToken>,
    /// What the policy sees in the final tokens.
    pub(super) looks: Vec<Look>,
    /// The verdicts of the provisional tokens, of those that are judged.
    pub(super) provisional: Vec<Option<Verdict>>,
    pub(super) outcome: Outcome,
    /// Of second opinions.
    pub(super) rulings: Vec<Ruling>,
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

impl Answer {
    pub(super) fn new() -> Self {
        Answer {
            input: Input::Unknown,
            tokens: Vec::new(),
            looks: Vec::new(),
            provisional: Vec::new(),
            outcome: Outcome::default(),
            rulings: Vec::new(),
            end: None,
        }
    }

    /// Makes a change happen whose tokens have these verdicts, those of them that are judged, and which is settled. `no_text`
    /// is what the text of an answer starts with.
    pub(super) fn apply(
        &mut self,
        tally: Option<&Tally>,
        policy: &Policy,
        change: Change,
        verdicts: Vec<Option<Verdict>>,
        settled: Settled,
        no_text: impl FnOnce() -> AnswerText,
    ) -> Update {
        let Change { tokens: TokenEdit { keep, append, .. }, input, end } = change;
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
        let mut judged: Vec<TokenVerdict> = judged.collect();
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
        let Settled { looks, outcome, flags, rulings, opinions } = settled;
        let first = self.looks.len();
        for (verdict, token) in self.provisional.drain(..looks.len()).zip(&self.tokens[first..]) {
            if let (Some(tally), Some(verdict)) = (tally, verdict) {
                tally.verdict(counted(token.channel), &verdict);
            }
        }
        self.looks.extend(looks);
        if let Some(tally) = tally {
            count_found(tally, policy, self.outcome.violation.as_ref(), outcome.violation.as_ref(), &flags);
        }
        self.outcome = outcome;
        self.rulings.extend(rulings);
        for token in &mut judged {
            token.is_final = token.index < self.looks.len();
        }
        self.update(policy, keep, judged, flags, opinions)
    }

    /// Forgets the tokens from `keep` on. Final ones are only among them if the answer was cut back.
    fn cut_back(&mut self, keep: usize) {
        self.tokens.truncate(keep);
        self.provisional.truncate(keep.saturating_sub(self.looks.len()));
        self.looks.truncate(keep);
        self.rulings.retain(|ruling| ruling.token < keep);
    }

    /// What the caller gets to know.
    fn update(
        &self,
        policy: &Policy,
        void_from: usize,
        tokens: Vec<TokenVerdict>,
        flags: Vec<Violation>,
        opinions: Vec<Opinion>,
    ) -> Update {
        let (horizon, received) = (self.horizon(policy), self.received());
        let violation = self.outcome.violation.clone();
        Update {
            decision: policy.decide(violation.as_ref().map(|violation| violation.action)),
            horizon,
            horizon_tokens: self.tokens.partition_point(|token| token.bytes.end <= horizon),
            received,
            violation,
            flags,
            opinions,
            tokens,
            void_from,
            final_tokens: self.looks.len(),
        }
    }

    /// How many of its tokens are final.
    pub(super) fn final_tokens(&self) -> usize {
        self.looks.len()
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
            let held = self.outcome.dispute.as_ref().filter(|_| !policy.shadow).and_then(Dispute::held_from);
            let first = (self.looks.len() - self.pending(policy)).min(held.unwrap_or(usize::MAX));
            self.tokens.get(first).map_or(usize::MAX, |token| token.bytes.start)
        });
        match &self.input {
            Input::Text(text) => text.floor(cleared),
            _ => cleared.min(self.received()),
        }
    }

    /// How many of the final tokens may still turn out to be part of a violation that stops.
    fn pending(&self, policy: &Policy) -> usize {
        match self.looks.len().checked_sub(1) {
            Some(last) if self.end.is_none() && !policy.shadow => {
                let channel = self.tokens[last].channel;
                let rules = rules(policy, channel);
                self.outcome.watch(channel).pending(rules.debounce, rules.second_opinion.holds())
            }
            _ => 0,
        }
    }
}

/// Where a channel's verdicts are counted.
fn counted(channel: Channel) -> VerdictChannel {
    match channel {
        Channel::Thinking => VerdictChannel::Thinking,
        Channel::Answer => VerdictChannel::Answer,
    }
}

/// Counts what a change brings about: that the answer has to stop, where it had not before, and what is flagged.
fn count_found(
    tally: &Tally,
    policy: &Policy,
    before: Option<&Violation>,
    after: Option<&Violation>,
    flags: &[Violation],
) {
    let shadow = if policy.shadow { Made::Flag } else { Made::Stop };
    let new = after.filter(|_| before.is_none()).map(|violation| (violation, shadow));
    for (found, made) in new.into_iter().chain(flags.iter().map(|flag| (flag, Made::Flag))) {
        tally.found(counted(found.channel), found.risk, Some(&found.category), made);
    }
}
