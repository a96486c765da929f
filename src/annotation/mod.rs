//! What is said of a whole conversation.

mod cut;
mod json;
mod reward;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub(crate) use cut::with_last;
pub use reward::{RewardForm, RewardRule};

use crate::{
    bundle::{Answer, ModeLines},
    policy::{AnnotationFinding, Decision, Policy, Whole},
    text::Message,
    verdict::Risk,
};

/// How a verdict on a whole conversation is had of a model that writes it. It means nothing to a bundle of the variant
/// stream, whose heads judge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoding {
    /// Held to the answer's grammar: the model decides where it can say different things, the rest is given. Always gives
    /// a verdict, and probabilities of all decisions.
    #[default]
    Constrained,
    /// Held to the grammar, and only the level is decided: one run of the model, without categories and refusal.
    LabelOnly,
    /// As the official code has it: the likeliest token each time, up to 128 tokens or the end, and what can be read in
    /// them. Slower by far, and without probabilities.
    Free,
}

/// The most tokens of an answer that the model writes by itself.
pub(crate) const MOST_FREE_TOKENS: usize = 128;

impl Decoding {
    /// The most tokens of an answer.
    pub(crate) fn most_tokens(self, answer: &Answer) -> usize {
        match self {
            Decoding::Constrained => answer.most_tokens(),
            Decoding::LabelOnly => answer.safety.begin.ids.len() + answer.longest_label(),
            Decoding::Free => MOST_FREE_TOKENS,
        }
    }
}

/// What happens to a conversation that is longer than the model's context. Only the text of its last message is ever cut,
/// between characters, so that as many of its tokens as fit are judged; [`Annotation::judged`] says which part that is. If
/// the other messages leave room for fewer than 16 tokens of it, that is [`Error::ContextFull`](crate::Error::ContextFull).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextOverflow {
    /// It is an error.
    #[default]
    Refuse,
    /// The beginning of the text is judged.
    Head,
    /// The end of the text is judged.
    Tail,
    /// All of the text is judged, in windows that are as long as fits and overlap by a quarter, each after all other
    /// messages. The annotation is that of the gravest window, of equally grave ones the first; whether the answer refuses
    /// is said by the first window.
    Windows,
}

/// How conversations are annotated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnnotateOptions {
    /// Default [`Decoding::Constrained`].
    pub decoding: Decoding,
    /// Default [`TextOverflow::Refuse`].
    pub overflow: TextOverflow,
}

/// What of a conversation is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnotationMode {
    /// What the user asks: the last message is the user's.
    Prompt,
    /// What is answered: the last message is of any other role.
    Response,
}

impl AnnotationMode {
    pub(crate) fn of(messages: &[Message]) -> Self {
        match messages.last() {
            Some(last) if last.role != "user" => AnnotationMode::Response,
            _ => AnnotationMode::Prompt,
        }
    }

    /// What is answered in this mode.
    pub(crate) fn lines(self, answer: &Answer) -> &ModeLines {
        match self {
            AnnotationMode::Prompt => &answer.prompt,
            AnnotationMode::Response => &answer.response,
        }
    }
}

/// The verdict on a whole conversation. As JSON it is what `qwenguard annotate` writes, without an `id`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Annotation {
    /// What was judged.
    pub mode: AnnotationMode,
    /// The level; of equally probable ones the gravest.
    pub risk: Risk,
    /// Every level with its probability, 0 to 1, in the model's order. They sum to 1. Empty with [`Decoding::Free`].
    pub risk_probabilities: Vec<(Risk, f32)>,
    /// The categories that the model names, in the order in which it does. Empty also where the level is Safe.
    pub categories: Vec<String>,
    /// Every category of the mode with its probability of being named first, in the model's order; `None` stands for no
    /// category at all. They sum to 1. Not there where the level is Safe, or categories are not decided.
    pub category_probabilities: Option<Vec<(Option<String>, f32)>>,
    /// Whether the answer refuses. Unknown for prompts, and where it is not decided.
    pub refusal: Option<bool>,
    /// The probability that it does, 0 to 1, where that was decided.
    pub refusal_probability: Option<f32>,
    /// Whether all lines of the answer could be read. False with [`Decoding::Free`] only: what is missing is then as above,
    /// and a level that is missing counts as the gravest.
    pub parsed: bool,
    /// What the model writes. Empty if it writes nothing.
    pub answer: String,
    /// The tokens that the model writes its answer to: of the rendered conversation. Empty if it writes nothing.
    pub prompt_ids: Vec<u32>,
    /// Which bytes of the last message's content were judged: all of them, but for [`AnnotateOptions::overflow`].
    pub judged: Range<usize>,
    /// Whether that is a part of it.
    pub is_cut: bool,
    /// How many windows were judged to come to it.
    pub windows: usize,
    /// What the host should do, by the policy of the guard.
    pub decision: Decision,
    /// What that policy found, if anything.
    pub finding: Option<AnnotationFinding>,
}

impl Annotation {
    /// Nothing but a level.
    pub(crate) fn new(mode: AnnotationMode, risk: Risk) -> Self {
        Annotation {
            mode,
            risk,
            risk_probabilities: Vec::new(),
            categories: Vec::new(),
            category_probabilities: None,
            refusal: None,
            refusal_probability: None,
            parsed: true,
            answer: String::new(),
            prompt_ids: Vec::new(),
            judged: 0..0,
            is_cut: false,
            windows: 1,
            decision: Decision::Continue,
            finding: None,
        }
    }

    /// The probability of a level, 0 to 1. Without probabilities ([`Decoding::Free`]) the level that was said has 1.
    pub fn probability(&self, risk: Risk) -> f32 {
        match self.risk_probabilities.is_empty() {
            true => f32::from(self.risk == risk),
            false => self.risk_probabilities.iter().filter(|(level, _)| *level == risk).map(|(_, p)| p).sum(),
        }
    }

    /// What another policy makes of it: what the host should do, and what was found, if anything. The rules for prompts or
    /// those for answers apply, by the mode, to all categories that are named. Where the categories are not known, because
    /// the level is Safe or they were not decided, the rule of every category is tried, and the gravest counts.
    pub fn judge(&self, policy: &Policy) -> (Decision, Option<AnnotationFinding>) {
        let whole = Whole {
            is_prompt: self.mode == AnnotationMode::Prompt,
            risk: self.risk,
            probability: &|risk| self.probability(risk),
            named: &self.categories,
            probabilities: self.category_probabilities.as_deref().unwrap_or_default(),
        };
        let finding = policy.find(&whole);
        (policy.decide(finding.as_ref().map(|finding| finding.action)), finding)
    }
}
