//! Annotations as JSON.

use std::ops::Range;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::{Annotation, AnnotationMode};
use crate::verdict::{NO_CATEGORY, Risk};

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
            judged: Some(&self.judged).filter(|_| self.is_cut).map(|Range { start, end }| [*start, *end]),
            windows: Some(self.windows).filter(|windows| *windows > 1),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    judged: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    windows: Option<usize>,
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
