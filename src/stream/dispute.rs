//! What waits for a second opinion.

use super::update::OpinionTrigger;
use crate::{
    policy::{Action, OnUncertain, OnViolation, Rules, What},
    text::Channel,
};

/// What of a channel a second opinion is to be asked about. It is about all of it at once.
#[derive(Debug, Clone)]
pub(super) struct Dispute {
    pub(super) channel: Channel,
    /// In the order of the tokens that completed them; at least one.
    raised: Vec<Raised>,
}

/// A violation or uncertain tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raised {
    pub(super) what: What,
    pub(super) weight: Weight,
    pub(super) first_token: usize,
    /// The token that completed it.
    pub(super) token: usize,
}

/// What hangs on an opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// Nothing: it is reported.
    Report,
    /// Whether there is a flag.
    Flag,
    /// Whether there is a violation that stops: the horizon waits.
    Hold,
}

impl Weight {
    /// None if the rules do not ask.
    pub(super) fn of(what: What, rules: &Rules) -> Option<Self> {
        match what {
            What::Violation(action) => rules.second_opinion.violation.map(|word| match (word, action) {
                (OnViolation::Report, _) => Weight::Report,
                (OnViolation::Lift, Action::Stop) => Weight::Hold,
                (OnViolation::Lift, _) => Weight::Flag,
            }),
            What::Doubt => rules.second_opinion.uncertain.map(|uncertain| match uncertain.word {
                OnUncertain::Report => Weight::Report,
                OnUncertain::Confirm => Weight::Hold,
            }),
        }
    }
}

impl Dispute {
    pub(super) fn new(channel: Channel, raised: Raised) -> Self {
        Dispute { channel, raised: vec![raised] }
    }

    pub(super) fn push(&mut self, raised: Raised) {
        self.raised.push(raised);
    }

    pub(super) fn weight(&self) -> Weight {
        self.raised.iter().map(|raised| raised.weight).max().unwrap_or(Weight::Report)
    }

    /// What an opinion decides.
    pub(super) fn decided(&self) -> impl Iterator<Item = &Raised> {
        self.raised.iter().filter(|raised| raised.weight > Weight::Report)
    }

    /// The first token of what weighs most.
    pub(super) fn first_token(&self) -> usize {
        self.first_of(self.weight()).unwrap_or_default()
    }

    /// The first token that the horizon waits before.
    pub(super) fn held_from(&self) -> Option<usize> {
        self.first_of(Weight::Hold)
    }

    fn first_of(&self, weight: Weight) -> Option<usize> {
        self.raised.iter().filter(|raised| raised.weight == weight).map(|raised| raised.first_token).min()
    }

    /// Of what an opinion decides, if it decides anything.
    pub(super) fn trigger(&self) -> OpinionTrigger {
        let least = if self.weight() > Weight::Report { Weight::Flag } else { Weight::Report };
        let is_violation = |raised: &Raised| raised.weight >= least && matches!(raised.what, What::Violation(_));
        match self.raised.iter().any(is_violation) {
            true => OpinionTrigger::Violation,
            false => OpinionTrigger::Uncertain,
        }
    }
}
