//! What the policy made of an answer.

use super::update::{Opinion, Violation};
use crate::{
    policy::{Look, Policy, Rules, Watch},
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
    /// Where the first violation starts, in bytes: an escalation may have taken its place.
    pub(super) stop_at: Option<usize>,
}

/// What came of a second opinion: it holds as long as the token that brought it about is there.
#[derive(Debug, Clone)]
pub(super) struct Ruling {
    pub(super) token: usize,
    pub(super) effect: Effect,
}

#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// The tokens in dispute do not count any more.
    Cleared,
    /// All is as if it had not been asked for.
    None,
    /// Uncertain tokens are a violation.
    Confirmed(Box<Violation>),
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
