//! What the policy made of an answer.

use super::{
    dispute::Dispute,
    update::{Opinion, Violation},
};
use crate::{
    policy::{AnnotationFinding, Look, Policy, Rules, Watch},
    text::Channel,
};

/// What the policy made of the final tokens so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// How many tokens it has seen.
    pub(super) seen: usize,
    thinking: Watch,
    answer: Watch,
    pub(super) violation: Option<Violation>,
    /// The first byte that must not be shown: where the first violation starts, whose place an escalation may have taken, or
    /// what was in dispute then.
    pub(super) stop_at: Option<usize>,
    /// What waits for a second opinion.
    pub(super) dispute: Option<Dispute>,
    /// The token at which the last one was asked for.
    pub(super) asked: Option<usize>,
}

/// What a second opinion said: it holds as long as the token at which it was asked for is there.
#[derive(Debug, Clone)]
pub(super) struct Ruling {
    pub(super) token: usize,
    pub(super) word: Word,
}

/// What a second opinion says by the rules.
#[derive(Debug, Clone)]
pub(super) enum Word {
    Nothing,
    Found(Box<AnnotationFinding>),
    /// It could not be had.
    Failed,
}

/// What a change comes to that is to happen.
#[derive(Default)]
pub(super) struct Settled {
    /// What the policy sees in the tokens that it makes final.
    pub(super) looks: Vec<Look>,
    pub(super) outcome: Outcome,
    pub(super) flags: Vec<Violation>,
    pub(super) rulings: Vec<Ruling>,
    pub(super) opinions: Vec<Opinion>,
}

impl Outcome {
    pub(super) fn watch(&self, channel: Channel) -> &Watch {
        match channel {
            Channel::Thinking => &self.thinking,
            Channel::Answer => &self.answer,
        }
    }

    pub(super) fn watch_mut(&mut self, channel: Channel) -> &mut Watch {
        match channel {
            Channel::Thinking => &mut self.thinking,
            Channel::Answer => &mut self.answer,
        }
    }
}

/// The rules for a channel.
pub(super) fn rules(policy: &Policy, channel: Channel) -> &Rules {
    match channel {
        Channel::Thinking => &policy.thinking,
        Channel::Answer => &policy.answer,
    }
}
