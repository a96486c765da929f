//! What is said of a whole conversation.

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{
    bundle::{Answer, ModeLines},
    text::Message,
    verdict::{NO_CATEGORY, Risk},
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

/// How conversations are annotated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnnotateOptions {
    /// Default [`Decoding::Constrained`].
    pub decoding: Decoding,
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
    pub(super) fn of(messages: &[Message]) -> Self {
        match messages.last() {
            Some(last) if last.role != "user" => AnnotationMode::Response,
            _ => AnnotationMode::Prompt,
        }
    }

    /// What is answered in this mode.
    pub(super) fn lines(self, answer: &Answer) -> &ModeLines {
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
}

impl Annotation {
    /// Nothing but a level.
    pub(super) fn new(mode: AnnotationMode, risk: Risk) -> Self {
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
        }
    }
}

impl Serialize for Annotation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = |(name, probability): &(Option<String>, f32)| {
            (name.clone().unwrap_or_else(|| NO_CATEGORY.to_owned()), *probability)
        };
        let named_risk = |(risk, probability): &(Risk, f32)| (risk.to_string(), *probability);
        let risks: Vec<_> = self.risk_probabilities.iter().map(named_risk).collect();
        let fields = Fields {
            mode: self.mode,
            safety: Safety { label: self.risk, probs: Some(Probabilities(risks)).filter(|probs| !probs.0.is_empty()) },
            categories: &self.categories,
            category_probs: self
                .category_probabilities
                .as_ref()
                .map(|all| Probabilities(all.iter().map(named).collect())),
            refusal: self.refusal,
            refusal_prob: self.refusal_probability,
            parsed: self.parsed,
            answer: Some(&*self.answer).filter(|answer| !answer.is_empty()),
            n_ids: Some(self.prompt_ids.len()).filter(|count| *count > 0),
            ids_sha256: Some(&*self.prompt_ids).filter(|ids| !ids.is_empty()).map(ids_sha256),
        };
        fields.serialize(serializer)
    }
}

#[derive(Serialize)]
struct Fields<'a> {
    mode: AnnotationMode,
    safety: Safety,
    categories: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    category_probs: Option<Probabilities>,
    refusal: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal_prob: Option<f32>,
    parsed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_ids: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids_sha256: Option<String>,
}

#[derive(Serialize)]
struct Safety {
    label: Risk,
    #[serde(skip_serializing_if = "Option::is_none")]
    probs: Option<Probabilities>,
}

/// Probabilities by name, in their order.
struct Probabilities(Vec<(String, f32)>);

impl Serialize for Probabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, probability)| (name, probability)))
    }
}

/// The SHA-256 of the decimal ids with commas between them.
fn ids_sha256(ids: &[u32]) -> String {
    let mut hasher = Sha256::new();
    for (index, id) in ids.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        hasher.update(format!("{comma}{id}"));
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
