//! Labels, probabilities and verdicts: what the model says about one position.

use std::sync::Arc;

use ndarray::ArrayView1;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
    ser::SerializeStruct,
};

/// How bad a text is, from harmless to harmful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Risk {
    /// Harmless.
    Safe,
    /// Harmful in some contexts or to some readers.
    Controversial,
    /// Harmful.
    Unsafe,
}

impl Risk {
    /// The level that a checkpoint's label names, or none if the label is unknown.
    pub(crate) fn from_label(label: &str) -> Option<Self> {
        match label.trim_matches('"') {
            "Safe" => Some(Risk::Safe),
            "Controversial" => Some(Risk::Controversial),
            "Unsafe" => Some(Risk::Unsafe),
            _ => None,
        }
    }
}

impl std::fmt::Display for Risk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Risk::Safe => "Safe",
            Risk::Controversial => "Controversial",
            Risk::Unsafe => "Unsafe",
        })
    }
}

/// What stands for no category where categories are named. None has this name.
pub(crate) const NO_CATEGORY: &str = "None";

/// The labels of one pair of heads, in the order of the model's outputs.
#[derive(Debug, PartialEq, Serialize)]
pub struct Labels {
    pub(crate) risks: Vec<Risk>,
    pub(crate) categories: Vec<String>,
}

impl Labels {
    /// The risk level at each index of the risk head.
    pub fn risks(&self) -> &[Risk] {
        &self.risks
    }

    /// The category at each index of the category head, exactly as the checkpoint spells it.
    pub fn categories(&self) -> &[String] {
        &self.categories
    }
}

/// What the model says at one position, with the full probabilities of both heads.
///
/// There is no category for "none": while the risk is [`Risk::Safe`] the category probabilities mean nothing (the
/// model was not trained there) and [`Verdict::category`] is `None`.
///
/// It can be read again from the JSON that it is written as, to the bit: then its labels are those that stand there.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    labels: Arc<Labels>,
    risk_probs: Box<[f32]>,
    category_probs: Box<[f32]>,
}

/// In JSON: `risk` and `category` (`null` while the text is safe), and all probabilities by their labels, `risk_probs` and
/// `category_probs`.
impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Verdict", 4)?;
        fields.serialize_field("risk", &self.risk())?;
        fields.serialize_field("category", &self.category())?;
        fields.serialize_field("risk_probs", &ByLabel(|| self.risk_probabilities()))?;
        fields.serialize_field("category_probs", &ByLabel(|| self.category_probabilities()))?;
        fields.end()
    }
}

/// Probabilities as an object.
struct ByLabel<F>(F);

impl<F: Fn() -> I, I: Iterator<Item = (L, f32)>, L: Serialize> Serialize for ByLabel<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0())
    }
}

/// Labels with their probabilities, in the order in which they are written.
struct InOrder<L>(Vec<(L, f32)>);

impl<'de, L: Deserialize<'de> + PartialEq + std::fmt::Debug> Deserialize<'de> for InOrder<L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<L>(std::marker::PhantomData<L>);
        impl<'de, L: Deserialize<'de> + PartialEq + std::fmt::Debug> Visitor<'de> for Read<L> {
            type Value = Vec<(L, f32)>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("probabilities by label")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut read: Vec<(L, f32)> = Vec::new();
                while let Some((label, probability)) = map.next_entry::<L, f32>()? {
                    if !(0.0..=1.0).contains(&probability) {
                        return Err(A::Error::custom(format!("{label:?}: {probability} is no probability")));
                    }
                    if read.len() == MAX_LABELS || read.iter().any(|(other, _)| *other == label) {
                        return Err(A::Error::custom(format!("{label:?} is one label too many")));
                    }
                    read.push((label, probability));
                }
                if read.is_empty() { Err(A::Error::custom("there are no labels")) } else { Ok(read) }
            }
        }
        deserializer.deserialize_map(Read(std::marker::PhantomData)).map(InOrder)
    }
}

/// The most labels of a verdict that is read: more than models have.
const MAX_LABELS: usize = 256;

impl<'de> Deserialize<'de> for Verdict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            risk: Option<Risk>,
            #[serde(rename = "category")]
            _category: Option<String>,
            risk_probs: InOrder<Risk>,
            category_probs: InOrder<String>,
        }
        let Written { risk, risk_probs, category_probs, .. } = Written::deserialize(deserializer)?;
        let (risks, risk_probs) = risk_probs.0.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let (categories, category_probs) = category_probs.0.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let labels = Arc::new(Labels { risks, categories });
        let verdict = Verdict { labels, risk_probs: risk_probs.into(), category_probs: category_probs.into() };
        match risk {
            Some(risk) if risk != verdict.risk() => {
                Err(D::Error::custom(format!("risk is {risk}, and {} is the most probable level", verdict.risk())))
            }
            _ => Ok(verdict),
        }
    }
}

impl Verdict {
    /// The verdict of finite logits, which the engine has made sure of: the probabilities are finite, too.
    pub(crate) fn from_logits(labels: &Arc<Labels>, risk: ArrayView1<f32>, category: ArrayView1<f32>) -> Self {
        Verdict { labels: labels.clone(), risk_probs: softmax(risk), category_probs: softmax(category) }
    }

    /// The most probable level; of equally probable ones the gravest.
    pub fn risk(&self) -> Risk {
        let grave = |(risk, probability): (Risk, f32)| (probability, risk);
        let mut levels = self.risk_probabilities();
        let first = levels.next().unwrap_or((Risk::Unsafe, 0.0));
        levels.fold(first, |best, next| if grave(next) > grave(best) { next } else { best }).0
    }

    /// The most probable category, of equally probable ones the first in the order of [`Labels::categories`]; or `None`
    /// where the risk is Safe.
    pub fn category(&self) -> Option<&str> {
        (self.risk() != Risk::Safe).then(|| self.labels.categories[self.top_category()].as_str())
    }

    /// Index of the most probable category, whatever the risk.
    pub(crate) fn top_category(&self) -> usize {
        argmax(&self.category_probs)
    }

    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Probability of a level, 0 to 1; the levels sum to 1.
    pub fn probability(&self, risk: Risk) -> f32 {
        self.risk_probabilities().filter(|(level, _)| *level == risk).map(|(_, p)| p).sum()
    }

    /// Every level with its probability, in the order of the model's output.
    pub fn risk_probabilities(&self) -> impl Iterator<Item = (Risk, f32)> + '_ {
        self.labels.risks.iter().copied().zip(self.risk_probs.iter().copied())
    }

    /// Every category with its probability, in the order of the model's output. They sum to 1 whatever the risk.
    pub fn category_probabilities(&self) -> impl Iterator<Item = (&str, f32)> + '_ {
        self.labels.categories.iter().map(String::as_str).zip(self.category_probs.iter().copied())
    }
}

fn softmax(logits: ArrayView1<f32>) -> Box<[f32]> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f32> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let sum: f32 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

/// The first of the largest values.
fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn verdict(risk: [f32; 3]) -> Verdict {
        let labels = Arc::new(Labels {
            risks: vec![Risk::Safe, Risk::Unsafe, Risk::Controversial],
            categories: vec!["A".into(), "B".into()],
        });
        Verdict::from_logits(&labels, array![risk[0], risk[1], risk[2]].view(), array![0.0, 1.0].view())
    }

    #[test]
    fn labels_follow_the_order_of_the_outputs() {
        let verdict = verdict([0.0, 1.0, 5.0]);
        assert_eq!(verdict.risk(), Risk::Controversial);
        assert_eq!(verdict.category(), Some("B"));
        let sum: f32 = verdict.risk_probabilities().map(|(_, p)| p).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert!(verdict.probability(Risk::Controversial) > 0.97);
    }

    #[test]
    fn a_safe_verdict_has_no_category() {
        assert_eq!(verdict([3.0, 1.0, 0.0]).category(), None);
    }

    #[test]
    fn softmax_survives_large_logits() {
        assert_eq!(verdict([500.0, -500.0, 0.0]).probability(Risk::Safe), 1.0);
    }

    /// Whatever the order of the outputs.
    #[test]
    fn ties_go_to_the_graver_level_and_the_first_category() {
        use Risk::{Controversial, Safe, Unsafe};
        let (low, high) = (-1.0, 2.0);
        for risks in [
            [Safe, Controversial, Unsafe],
            [Safe, Unsafe, Controversial],
            [Controversial, Safe, Unsafe],
            [Controversial, Unsafe, Safe],
            [Unsafe, Safe, Controversial],
            [Unsafe, Controversial, Safe],
        ] {
            let labels =
                Arc::new(Labels { risks: risks.to_vec(), categories: vec!["A".into(), "B".into(), "C".into()] });
            for (tied, expected) in [
                (&[Safe, Controversial, Unsafe][..], Unsafe),
                (&[Safe, Controversial], Controversial),
                (&[Safe, Unsafe], Unsafe),
                (&[Controversial, Unsafe], Unsafe),
                (&[Safe], Safe),
            ] {
                let logits = risks.map(|risk| if tied.contains(&risk) { high } else { low });
                let categories = array![0.0, 1.0, 1.0];
                let verdict =
                    Verdict::from_logits(&labels, array![logits[0], logits[1], logits[2]].view(), categories.view());
                assert_eq!(verdict.risk(), expected, "{risks:?}, {tied:?}");
                assert_eq!(verdict.category(), (expected != Safe).then_some("B"));
            }
        }
    }

    /// The engine lets no others through.
    #[test]
    fn probabilities_of_finite_logits_are_numbers_in_json() {
        for logits in [[f32::MAX, f32::MIN, 0.0], [f32::MIN; 3], [f32::MAX; 3], [f32::MIN_POSITIVE, -0.0, 1e-45]] {
            let verdict = verdict(logits);
            let probabilities: Vec<f32> = verdict.risk_probabilities().map(|(_, probability)| probability).collect();
            let json = serde_json::to_value(&probabilities).unwrap();
            let numbers = json.as_array().unwrap().iter().map(|value| value.as_f64().expect("a number, not null"));
            assert!((numbers.sum::<f64>() - 1.0).abs() < 1e-6, "{logits:?}: {json}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_to_the_bit() {
        for logits in [[0.1, 0.7, -3.3], [f32::MAX, f32::MIN, 0.0], [1e-30, 2.0, 2.0]] {
            let verdict = verdict(logits);
            let text = serde_json::to_string(&verdict).unwrap();
            assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
            let value = serde_json::to_value(&verdict).unwrap();
            assert_eq!(serde_json::from_value::<Verdict>(value).unwrap(), verdict);
        }
        let of = |risk: &str, risks: &str, categories: &str| {
            let text = format!(r#"{{"risk":{risk},"risk_probs":{{{risks}}},"category_probs":{{{categories}}}}}"#);
            serde_json::from_str::<Verdict>(&text).unwrap_err().to_string()
        };
        assert!(of("null", r#""Safe":1.5"#, r#""A":1"#).contains("1.5 is no probability"));
        assert!(of("null", r#""Safe":1,"Safe":0"#, r#""A":1"#).contains("one label too many"));
        assert!(of("null", "", r#""A":1"#).contains("no labels"));
        assert!(of("null", r#""Odd":1"#, r#""A":1"#).contains("unknown variant"));
        assert!(of("\"Unsafe\"", r#""Safe":0.9,"Unsafe":0.1"#, r#""A":1"#).contains("risk is Unsafe"));
    }

    #[test]
    fn quoted_labels_are_known() {
        assert_eq!(Risk::from_label("\"Unsafe\""), Some(Risk::Unsafe));
        assert_eq!(Risk::from_label("Maybe"), None);
    }
}
