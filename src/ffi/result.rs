//! What calls answer, as plain structs, and the numbers in them.

use std::ffi::{CStr, c_char};

use safer_ffi::derive_ReprC;

use super::boundary;
use crate::{
    Channel, Decision, Guard, Labels, Opinion, OpinionOutcome, OpinionTrigger, PromptCheck, Risk, TokenVerdict, Update,
    Verdict, Violation, policy::Action,
};

/// The conversation may go on.
pub const QG_DECISION_CONTINUE: i32 = 0;
/// Stop writing, and show nothing past the horizon.
pub const QG_DECISION_STOP: i32 = 1;

/// Harmless.
pub const QG_RISK_SAFE: i32 = 0;
/// Harmful in some contexts or to some readers.
pub const QG_RISK_CONTROVERSIAL: i32 = 1;
/// Harmful.
pub const QG_RISK_UNSAFE: i32 = 2;

/// Nothing is to be done: no rule of the policy applies.
pub const QG_ACTION_IGNORE: i32 = 0;
/// Report it and go on.
pub const QG_ACTION_FLAG: i32 = 1;
/// Stop.
pub const QG_ACTION_STOP: i32 = 2;

/// What the answer says.
pub const QG_CHANNEL_ANSWER: i32 = 0;
/// The thinking before it.
pub const QG_CHANNEL_THINKING: i32 = 1;

/// A violation was confirmed.
pub const QG_TRIGGER_VIOLATION: i32 = 0;
/// Tokens were uncertain.
pub const QG_TRIGGER_UNCERTAIN: i32 = 1;

/// It found something: the violation stands, or uncertain tokens are one.
pub const QG_OPINION_CONFIRMED: i32 = 0;
/// It found nothing: the violation is lifted.
pub const QG_OPINION_LIFTED: i32 = 1;
/// It found nothing: uncertain tokens do not count any more.
pub const QG_OPINION_CLEARED: i32 = 2;
/// By the policy it changes nothing.
pub const QG_OPINION_REPORTED: i32 = 3;
/// It could not be had: the violation stands, or uncertain tokens count as one, unless by the policy it changes nothing.
pub const QG_OPINION_FAILED: i32 = 4;

/// The labels of the model's heads that judge prompts.
pub const QG_HEADS_PROMPT: u32 = 0;
/// The labels of the model's heads that judge answers, thinking included.
pub const QG_HEADS_ANSWER: u32 = 1;

/// The most categories that a verdict can carry. A bundle with more is refused.
pub const QG_MAX_CATEGORIES: usize = 16;

/// What the model says at one position.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct qg_verdict {
    /// The most probable level: `QG_RISK_`.
    pub risk: i32,
    /// Index of the most probable category, or -1 while the risk is `QG_RISK_SAFE`. Its name is
    /// `qg_guard_category_name`'s.
    pub category: i32,
    /// Probability of each level, 0 to 1, by its `QG_RISK_` number. They sum to 1.
    pub risk_probabilities: [f32; 3],
    /// How many categories the model has.
    pub category_count: u32,
    /// Probability of each category, 0 to 1. They sum to 1 whatever the risk, and mean nothing while it is
    /// `QG_RISK_SAFE`. Those from `category_count` on are 0.
    pub category_probabilities: [f32; 16],
    /// 0.
    pub reserved: [u32; 2],
}

/// The verdict on a prompt.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct qg_prompt_check {
    /// What the policy makes of it: `QG_DECISION_`.
    pub decision: i32,
    /// 1 if a rule of the policy applies, else 0 and the four fields that follow are 0.
    pub has_finding: u32,
    /// What is to be done about it: `QG_ACTION_FLAG` or `QG_ACTION_STOP`.
    pub action: i32,
    /// The level that it counts as: `QG_RISK_`.
    pub risk: i32,
    /// Index of the category, among those of `QG_HEADS_PROMPT`.
    pub category: i32,
    /// Probability of the level, 0 to 1.
    pub probability: f32,
    /// What the model says about the message that is judged, in the light of all before it.
    pub verdict: qg_verdict,
    /// 0.
    pub reserved: [u64; 2],
}

/// Where an answer turned. Bytes and tokens count from the start of the answer, tags and thinking included.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct qg_violation {
    /// What is to be done about it: `QG_ACTION_FLAG` or `QG_ACTION_STOP`.
    pub action: i32,
    /// Whether it is in the thinking: `QG_CHANNEL_`.
    pub channel: i32,
    /// The level that it counts as: `QG_RISK_`.
    pub risk: i32,
    /// Index of the category, among those of `QG_HEADS_ANSWER`.
    pub category: i32,
    /// Where the first token that counts begins, in bytes.
    pub byte_start: u64,
    /// Where the token that confirmed it ends, in bytes.
    pub byte_end: u64,
    /// The first token that counts.
    pub first_token: u64,
    /// The token that confirmed it. Level, category and probability are those of its verdict, or of what a second opinion
    /// confirmed at it.
    pub confirming_token: u64,
    /// Probability of the level, 0 to 1.
    pub probability: f32,
    /// 0.
    pub reserved: [u32; 3],
}

/// The result of a push.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct qg_update {
    /// Whether the answer may go on: `QG_DECISION_`. Once it is `QG_DECISION_STOP` it stays so, until the answer is cut
    /// back.
    pub decision: i32,
    /// 1 if `violation` says something, else 0 and it is all 0.
    pub has_violation: u32,
    /// How many bytes of the answer may be shown: whole characters only, and none of a violation. For an answer that
    /// grows it never moves back.
    pub horizon: u64,
    /// How many tokens of the answer are within the horizon.
    pub horizon_tokens: u64,
    /// How many bytes of the answer were pushed so far.
    pub received: u64,
    /// For a host that shows text as it comes: how many of those bytes it has to take back. 0 while the answer may go
    /// on.
    pub excess: u64,
    /// How many tokens of the answer are final. Those after them are provisional: the next text may merge with them.
    pub final_tokens: u64,
    /// How many tokens were judged now: `qg_stream_tokens` copies their verdicts.
    pub token_count: u64,
    /// How many places rules of the policy flag, found now: `qg_stream_flags` copies them.
    pub flag_count: u64,
    /// Where the answer must stop, found now or in an earlier push.
    pub violation: qg_violation,
    /// From which token on, by `qg_token_verdict.index`, what was said earlier is void: verdicts, and flags that such a
    /// token confirmed. The tokens judged now take their place, if the answer still has as many. Where nothing is void
    /// this is how many tokens the answer had before the call, those that are not judged included.
    pub void_from: u64,
    /// How many second opinions were asked for: `qg_stream_opinions` copies them.
    pub opinion_count: u64,
    /// 0.
    pub reserved: [u64; 2],
}

/// A second opinion on an answer, of the guard that `second_opinion` names in the configuration. Bytes and tokens count from
/// the start of the answer, tags and thinking included.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct qg_opinion {
    /// Why it was asked for: `QG_TRIGGER_`.
    pub trigger: i32,
    /// What came of it: `QG_OPINION_`.
    pub outcome: i32,
    /// Whether what is in dispute is in the thinking: `QG_CHANNEL_`.
    pub channel: i32,
    /// The level that it says: `QG_RISK_`. 0 if it failed.
    pub risk: i32,
    /// Probability of each level, 0 to 1, by its `QG_RISK_` number. They sum to 1. All 0 if it failed.
    pub risk_probabilities: [f32; 3],
    /// 1 if it could be had; else 0, and its outcome is `QG_OPINION_FAILED`.
    pub is_annotated: u32,
    /// Where the first token in dispute begins, in bytes.
    pub byte_start: u64,
    /// Where the last one ends. The opinion is about all of the answer up to there, whole characters only.
    pub byte_end: u64,
    /// The first token in dispute.
    pub first_token: u64,
    /// The last one, at which it was asked for.
    pub confirming_token: u64,
    /// 0.
    pub reserved: [u64; 3],
}

/// One judged token of an answer.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct qg_token_verdict {
    /// Which token of the answer, from 0. Those around thinking count but are not judged. See
    /// `qg_update.void_from` for which earlier ones it takes the place of.
    pub index: u64,
    /// Where the bytes of the answer begin that it stands for.
    pub byte_start: u64,
    /// Where they end.
    pub byte_end: u64,
    /// Its id in the guard's vocabulary.
    pub token_id: u32,
    /// Whether it is thinking: `QG_CHANNEL_`.
    pub channel: i32,
    /// 1 if no later text can change it. A provisional token (0) moves neither the horizon nor the decision.
    pub is_final: u32,
    /// 0.
    pub reserved: u32,
    /// What the model says about the answer up to here. Categories are those of `QG_HEADS_ANSWER`.
    pub verdict: qg_verdict,
}

/// A part of a text, in bytes.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct qg_span {
    /// Where it begins.
    pub start: u64,
    /// Where it ends: the first byte after it.
    pub end: u64,
}

impl qg_verdict {
    fn new(verdict: &Verdict, labels: &Labels) -> Self {
        let mut category_probabilities = [0.0; QG_MAX_CATEGORIES];
        for (place, (_, probability)) in category_probabilities.iter_mut().zip(verdict.category_probabilities()) {
            *place = probability;
        }
        qg_verdict {
            risk: risk(verdict.risk()),
            category: verdict.category().map_or(-1, |name| category(labels, name)),
            risk_probabilities: [Risk::Safe, Risk::Controversial, Risk::Unsafe].map(|risk| verdict.probability(risk)),
            category_count: labels.categories().len() as u32,
            category_probabilities,
            reserved: [0; 2],
        }
    }
}

impl qg_prompt_check {
    pub(super) fn new(check: &PromptCheck, guard: &Guard) -> Self {
        let labels = guard.query_labels();
        let verdict = qg_verdict::new(&check.verdict, labels);
        let decision = decision(check.decision);
        match &check.finding {
            None => qg_prompt_check { decision, verdict, ..Default::default() },
            Some(finding) => qg_prompt_check {
                decision,
                has_finding: 1,
                action: action(finding.action),
                risk: risk(finding.risk),
                category: category(labels, &finding.category),
                probability: finding.probability,
                verdict,
                reserved: [0; 2],
            },
        }
    }
}

impl qg_violation {
    pub(super) fn new(violation: &Violation, guard: &Guard) -> Self {
        qg_violation {
            action: action(violation.action),
            channel: channel(violation.channel),
            risk: risk(violation.risk),
            category: category(guard.response_labels(), &violation.category),
            byte_start: violation.bytes.start as u64,
            byte_end: violation.bytes.end as u64,
            first_token: violation.first_token as u64,
            confirming_token: violation.confirming_token as u64,
            probability: violation.probability,
            reserved: [0; 3],
        }
    }
}

impl qg_update {
    pub(super) fn new(update: &Update, guard: &Guard) -> Self {
        qg_update {
            decision: decision(update.decision),
            has_violation: update.violation.is_some().into(),
            horizon: update.horizon as u64,
            horizon_tokens: update.horizon_tokens as u64,
            received: update.received as u64,
            excess: update.excess() as u64,
            final_tokens: update.final_tokens as u64,
            token_count: update.tokens.len() as u64,
            flag_count: update.flags.len() as u64,
            violation: update.violation.as_ref().map_or(Default::default(), |found| qg_violation::new(found, guard)),
            void_from: update.void_from as u64,
            opinion_count: update.opinions.len() as u64,
            reserved: [0; 2],
        }
    }
}

impl qg_opinion {
    pub(super) fn new(opinion: &Opinion) -> Self {
        let levels = [Risk::Safe, Risk::Controversial, Risk::Unsafe];
        let annotation = opinion.annotation.as_ref().ok();
        qg_opinion {
            trigger: match opinion.trigger {
                OpinionTrigger::Violation => QG_TRIGGER_VIOLATION,
                OpinionTrigger::Uncertain => QG_TRIGGER_UNCERTAIN,
            },
            outcome: match opinion.outcome {
                OpinionOutcome::Confirmed => QG_OPINION_CONFIRMED,
                OpinionOutcome::Lifted => QG_OPINION_LIFTED,
                OpinionOutcome::Cleared => QG_OPINION_CLEARED,
                OpinionOutcome::Reported => QG_OPINION_REPORTED,
                OpinionOutcome::Failed => QG_OPINION_FAILED,
            },
            channel: channel(opinion.channel),
            risk: annotation.map_or(0, |annotation| risk(annotation.risk)),
            risk_probabilities: annotation
                .map_or([0.0; 3], |annotation| levels.map(|level| annotation.probability(level))),
            is_annotated: annotation.is_some().into(),
            byte_start: opinion.bytes.start as u64,
            byte_end: opinion.bytes.end as u64,
            first_token: opinion.first_token as u64,
            confirming_token: opinion.confirming_token as u64,
            reserved: [0; 3],
        }
    }
}

impl qg_token_verdict {
    pub(super) fn new(token: &TokenVerdict, guard: &Guard) -> Self {
        qg_token_verdict {
            index: token.index as u64,
            byte_start: token.bytes.start as u64,
            byte_end: token.bytes.end as u64,
            token_id: token.token_id,
            channel: channel(token.channel),
            is_final: token.is_final.into(),
            reserved: 0,
            verdict: qg_verdict::new(&token.verdict, guard.response_labels()),
        }
    }
}

pub(super) fn decision(decision: Decision) -> i32 {
    match decision {
        Decision::Continue => QG_DECISION_CONTINUE,
        Decision::Stop => QG_DECISION_STOP,
    }
}

pub(super) fn risk(risk: Risk) -> i32 {
    match risk {
        Risk::Safe => QG_RISK_SAFE,
        Risk::Controversial => QG_RISK_CONTROVERSIAL,
        Risk::Unsafe => QG_RISK_UNSAFE,
    }
}

pub(super) fn action(action: Action) -> i32 {
    match action {
        Action::Ignore => QG_ACTION_IGNORE,
        Action::Flag => QG_ACTION_FLAG,
        Action::Stop => QG_ACTION_STOP,
    }
}

fn channel(channel: Channel) -> i32 {
    match channel {
        Channel::Answer => QG_CHANNEL_ANSWER,
        Channel::Thinking => QG_CHANNEL_THINKING,
    }
}

/// Verdicts and violations name categories by the labels they are looked up in.
pub(super) fn category(labels: &Labels, name: &str) -> i32 {
    labels.categories().iter().position(|category| category == name).map_or(-1, |index| index as i32)
}

/// The name of a level, such as "Unsafe": a constant text that ends with a NUL. NULL if there is no such level.
#[unsafe(no_mangle)]
pub extern "C" fn qg_risk_name(risk: i32) -> *const c_char {
    boundary::value(std::ptr::null(), || {
        let name = match risk {
            QG_RISK_SAFE => Some(c"Safe"),
            QG_RISK_CONTROVERSIAL => Some(c"Controversial"),
            QG_RISK_UNSAFE => Some(c"Unsafe"),
            _ => None,
        };
        name.map_or(std::ptr::null(), CStr::as_ptr)
    })
}
