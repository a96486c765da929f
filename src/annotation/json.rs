//! Annotations as JSON.

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Annotation, AnnotationMode};
use crate::{
    policy::Policy,
    verdict::{NO_CATEGORY, Risk},
};

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

/// Reads what [`Annotation`] is as JSON, to judge it by another policy or to reward it, without the model. Decision and finding
/// are those of the default policy. Neither the ids are in the JSON, nor what was judged where that is all of the message:
/// they are empty. Fields that are none of an annotation's are not read.
impl<'de> Deserialize<'de> for Annotation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Read::deserialize(deserializer)?;
        let mut risks = Vec::new();
        for (label, probability) in numbers("safety.probs", read.safety.probs.unwrap_or_default())? {
            let known = Risk::from_label(&label);
            risks.push((known.ok_or_else(|| de::Error::custom(format!("{label:?} is no level")))?, probability));
        }
        let named = |(name, probability)| (Some(name).filter(|name| name != NO_CATEGORY), probability);
        let categories = read.category_probs.map(|all| numbers("category_probs", all)).transpose()?;
        let mut annotation = Annotation {
            risk_probabilities: risks,
            categories: read.categories,
            category_probabilities: categories.map(|all| all.into_iter().map(named).collect()),
            refusal: read.refusal,
            refusal_probability: read.refusal_prob,
            parsed: read.parsed,
            answer: read.answer,
            judged: read.judged.map_or(0..0, |[start, end]| start..end),
            is_cut: read.judged.is_some(),
            windows: read.windows.unwrap_or(1),
            ..Annotation::new(read.mode, read.safety.label)
        };
        (annotation.decision, annotation.finding) = annotation.judge(&Policy::default());
        Ok(annotation)
    }
}

/// Probabilities by name, in their order.
fn numbers<E: de::Error>(field: &str, all: Map<String, Value>) -> Result<Vec<(String, f32)>, E> {
    let number = |(name, value): (String, Value)| match value.as_f64() {
        Some(number) if (0.0..=1.0).contains(&number) => Ok((name, number as f32)),
        _ => Err(E::custom(format!("{field}.{name} is not a probability over 0 to 1: {value}"))),
    };
    all.into_iter().map(number).collect()
}

#[derive(Deserialize)]
struct Read {
    mode: AnnotationMode,
    safety: ReadSafety,
    categories: Vec<String>,
    category_probs: Option<Map<String, Value>>,
    refusal: Option<bool>,
    refusal_prob: Option<f32>,
    parsed: bool,
    #[serde(default)]
    answer: String,
    judged: Option<[usize; 2]>,
    windows: Option<usize>,
}

#[derive(Deserialize)]
struct ReadSafety {
    label: Risk,
    probs: Option<Map<String, Value>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read is what was written, to the bit, but for what is not in the JSON.
    #[test]
    fn what_is_written_is_read() {
        let written = Annotation {
            risk_probabilities: vec![(Risk::Safe, 0.1), (Risk::Unsafe, 0.633_2), (Risk::Controversial, 0.266_8)],
            categories: vec!["PII".into(), "Violent".into()],
            category_probabilities: Some(vec![(Some("Violent".into()), 0.3), (Some("PII".into()), 0.6), (None, 0.1)]),
            refusal: Some(false),
            refusal_probability: Some(0.012_345_678),
            answer: "Safety: Unsafe".into(),
            judged: 3..9,
            is_cut: true,
            windows: 2,
            ..Annotation::new(AnnotationMode::Response, Risk::Unsafe)
        };
        let json = serde_json::to_string(&written).unwrap();
        let read: Annotation = serde_json::from_str(&json).unwrap();
        let (decision, finding) = written.judge(&Policy::default());
        assert_eq!(read, Annotation { decision, finding, ..written });
        let bare = Annotation::new(AnnotationMode::Prompt, Risk::Safe);
        assert_eq!(serde_json::from_str::<Annotation>(&serde_json::to_string(&bare).unwrap()).unwrap(), bare);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = |json: &str| serde_json::from_str::<Annotation>(json).unwrap_err().to_string();
        let with = |probs: &str| {
            format!(
                r#"{{"mode":"prompt","safety":{{"label":"Safe","probs":{probs}}},"categories":[],"refusal":null,"parsed":true}}"#
            )
        };
        assert!(error(&with(r#"{"Good":1}"#)).contains("\"Good\" is no level"));
        assert!(error(&with(r#"{"Safe":1.5}"#)).contains("safety.probs.Safe is not a probability"));
        assert!(error(&with(r#"{"Safe":"x"}"#)).contains("safety.probs.Safe"));
        assert!(error("{}").contains("mode"));
    }
}
