//! The columns of the verdict.

use qwenguard::{Annotation, AnnotationMode, Decision, Risk, TextOverflow};
use serde_json::{Map, Value};

/// What is said of a row.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) annotation: Annotation,
    /// That of the thinking, if there is any in a column of its own.
    pub(super) thinking: Option<Annotation>,
    pub(super) reward: Option<f64>,
}

impl Verdict {
    /// Whether it counts as stopped for the exit code.
    pub(super) fn stops(&self, by_policy: bool) -> bool {
        match by_policy {
            true => self.annotation.decision == Decision::Stop,
            false => self.annotation.risk != Risk::Safe,
        }
    }

    fn risk_probability(&self, risk: Risk) -> Option<f32> {
        let known = !self.annotation.risk_probabilities.is_empty();
        known.then(|| self.annotation.probability(risk))
    }

    fn category_probabilities(&self) -> Option<Vec<(String, f32)>> {
        let all = self.annotation.category_probabilities.as_ref()?;
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "None".to_owned());
        Some(all.iter().map(|(category, probability)| (name(category), *probability)).collect())
    }

    fn answer(&self) -> Option<String> {
        Some(self.annotation.answer.clone()).filter(|answer| !answer.is_empty())
    }

    fn mode(&self) -> String {
        match self.annotation.mode {
            AnnotationMode::Prompt => "prompt".to_owned(),
            AnnotationMode::Response => "response".to_owned(),
        }
    }

    fn thinking_risk(&self) -> Option<String> {
        self.thinking.as_ref().map(|thinking| thinking.risk.to_string())
    }

    fn thinking_categories(&self) -> Option<Vec<String>> {
        self.thinking.as_ref().map(|thinking| thinking.categories.clone())
    }

    fn rule(&self) -> Option<String> {
        self.annotation.finding.as_ref().map(|finding| finding.rule.clone())
    }

    fn decision(&self) -> String {
        match self.annotation.decision {
            Decision::Continue => "continue".to_owned(),
            Decision::Stop => "stop".to_owned(),
        }
    }
}

/// A value of a column, or none.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(Option<String>),
    Texts(Option<Vec<String>>),
    Bool(Option<bool>),
    Int(Option<i64>),
    Float(Option<f32>),
    Double(Option<f64>),
    /// Numbers by name, in their order.
    Floats(Option<Vec<(String, f32)>>),
}

impl Cell {
    /// As JSON.
    pub(super) fn json(&self) -> Value {
        match self {
            Cell::Text(value) => value.clone().into(),
            Cell::Texts(value) => value.clone().into(),
            Cell::Bool(value) => (*value).into(),
            Cell::Int(value) => (*value).into(),
            Cell::Float(value) => value.map(float).into(),
            Cell::Double(value) => (*value).into(),
            Cell::Floats(value) => match value {
                Some(numbers) => {
                    numbers.iter().map(|(name, number)| (name.clone(), float(*number))).collect::<Map<_, _>>().into()
                }
                None => Value::Null,
            },
        }
    }
}

/// A number with the digits that it needs as what it is: 0.1, not 0.10000000149011612.
fn float(value: f32) -> Value {
    let shortest = value.to_string().parse::<f64>();
    shortest.map_or(Value::Null, Value::from)
}

/// One of the columns: its cell for a verdict, or an empty one.
type Of = fn(Option<&Verdict>) -> Cell;

/// Which columns are written, in which order.
#[derive(Debug)]
pub(super) struct Layout {
    /// What their names begin with.
    pub(super) prefix: String,
    /// Whether rules were given.
    pub(super) by_policy: bool,
    columns: Vec<(String, Of)>,
}

impl Layout {
    pub(super) fn new(prefix: &str, by_policy: bool, rewards: bool, thinking: bool, overflow: TextOverflow) -> Self {
        let mut columns: Vec<(&str, Of)> = vec![
            ("mode", |row| Cell::Text(row.map(Verdict::mode))),
            ("risk", |row| Cell::Text(row.map(|row| row.annotation.risk.to_string()))),
            ("safe", |row| Cell::Float(row.and_then(|row| row.risk_probability(Risk::Safe)))),
            ("controversial", |row| Cell::Float(row.and_then(|row| row.risk_probability(Risk::Controversial)))),
            ("unsafe", |row| Cell::Float(row.and_then(|row| row.risk_probability(Risk::Unsafe)))),
            ("categories", |row| Cell::Texts(row.map(|row| row.annotation.categories.clone()))),
            ("category_probs", |row| Cell::Floats(row.and_then(Verdict::category_probabilities))),
            ("refusal", |row| Cell::Bool(row.and_then(|row| row.annotation.refusal))),
            ("refusal_prob", |row| Cell::Float(row.and_then(|row| row.annotation.refusal_probability))),
            ("parsed", |row| Cell::Bool(row.map(|row| row.annotation.parsed))),
            ("answer", |row| Cell::Text(row.and_then(Verdict::answer))),
        ];
        if overflow != TextOverflow::Refuse {
            columns.push(("is_cut", |row| Cell::Bool(row.map(|row| row.annotation.is_cut))));
            columns.push(("windows", |row| Cell::Int(row.and_then(|row| i64::try_from(row.annotation.windows).ok()))));
        }
        if by_policy {
            columns.push(("decision", |row| Cell::Text(row.map(Verdict::decision))));
            columns.push(("rule", |row| Cell::Text(row.and_then(Verdict::rule))));
        }
        if thinking {
            columns.push(("thinking_risk", |row| Cell::Text(row.and_then(Verdict::thinking_risk))));
            columns.push(("thinking_categories", |row| Cell::Texts(row.and_then(Verdict::thinking_categories))));
        }
        if rewards {
            columns.push(("reward", |row| Cell::Double(row.and_then(|row| row.reward))));
        }
        let columns = columns.into_iter().map(|(name, of)| (format!("{prefix}{name}"), of)).collect();
        Layout { prefix: prefix.to_owned(), by_policy, columns }
    }

    /// The names of the columns. The last one is that of the error.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.columns.iter().map(|(name, _)| name.clone());
        names.chain([format!("{}error", self.prefix)]).collect()
    }

    /// The cells of a row. Of one that could not be judged all but the error are empty.
    pub(super) fn cells(&self, verdict: &Result<Verdict, String>) -> Vec<Cell> {
        let judged = verdict.as_ref().ok();
        let error = Cell::Text(verdict.as_ref().err().cloned());
        self.columns.iter().map(|(_, of)| of(judged)).chain([error]).collect()
    }
}
