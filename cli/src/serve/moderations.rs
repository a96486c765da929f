//! `POST /v1/moderations`, as clients of OpenAI's interface know it. Each text is judged as a user's prompt.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use futures_util::{StreamExt, TryStreamExt, stream};
use qwenguard::{Annotation, Decision, Message, PromptCheck, Risk};
use serde_json::{Map, Value, json};

use super::{Shared, body::Fields, fault::Fault, judge, judge::Judged};
use crate::message;

/// Names of OpenAI's interface. Typed clients want all of them in every result.
const NAMES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// Texts of one request that are judged at once.
const AT_ONCE: usize = 32;

/// OpenAI's names of the model's categories.
pub(crate) struct Categories(BTreeMap<String, Vec<String>>);

impl Categories {
    /// The table that comes with the program.
    pub(crate) fn built_in() -> Self {
        Categories(toml::from_str(include_str!("categories.toml")).expect("the table is TOML"))
    }

    /// Its names; its own if it has no other.
    fn names<'c>(&'c self, category: &'c str) -> Vec<&'c str> {
        match self.0.get(category) {
            Some(names) if !names.is_empty() => names.iter().map(String::as_str).collect(),
            _ => vec![category],
        }
    }
}

pub(crate) async fn moderate(State(app): State<Shared>, fields: Fields) -> Result<Json<Value>, Fault> {
    message::check_rest("", &fields.0, &["input", "model", "metadata"], &["user"]).map_err(Fault::request)?;
    let texts = texts(fields.0.get("input"), app.settings.max_inputs)?;
    let judge = |text: String| {
        let app = app.clone();
        async move { judge::prompt(&app, &[Message::user(text)]).await }
    };
    let judged: Vec<Judged> = stream::iter(texts).map(judge).buffered(AT_ONCE).try_collect().await?;
    let results: Vec<Value> = judged.iter().map(|judged| result(&app.categories, judged)).collect();
    Ok(Json(json!({ "id": super::id("modr"), "model": app.guard.info().source, "results": results })))
}

/// The texts to judge, each on its own.
fn texts(input: Option<&Value>, most: usize) -> Result<Vec<String>, Fault> {
    let wrong = |reason: String| Fault::field("input", reason);
    let items = match input {
        None | Some(Value::Null) => return Err(wrong("input is missing".into())),
        Some(Value::String(text)) => return Ok(vec![text.clone()]),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(wrong("input is neither a text nor a list".into())),
    };
    if items.is_empty() || items.len() > most {
        return Err(wrong(format!("input has {} items; 1 to {most} are served", items.len())));
    }
    if items.iter().all(Value::is_object) {
        // Parts of one text.
        let parts = items.iter().enumerate().map(|(index, part)| message::read_part(&format!("input[{index}]"), part));
        return Ok(vec![parts.collect::<Result<String, String>>().map_err(wrong)?]);
    }
    let text = |(index, item): (usize, &Value)| match item {
        Value::String(text) => Ok(text.clone()),
        _ => Err(wrong(format!("input[{index}] is not a text"))),
    };
    items.iter().enumerate().map(text).collect()
}

fn result(categories: &Categories, judged: &Judged) -> Value {
    let mut flags: Map<String, Value> = NAMES.iter().map(|name| ((*name).to_owned(), false.into())).collect();
    let mut scores: Map<String, Value> = NAMES.iter().map(|name| ((*name).to_owned(), 0.0.into())).collect();
    for (category, score) in judged.scores() {
        for name in categories.names(&category) {
            let before = scores.get(name).and_then(Value::as_f64).unwrap_or_default();
            scores.insert(name.to_owned(), before.max(score.into()).into());
            flags.entry(name).or_insert(false.into());
        }
    }
    let flagged = judged.decision() == Decision::Stop;
    for category in judged.found().iter().filter(|_| flagged) {
        for name in categories.names(category) {
            flags.insert(name.to_owned(), true.into());
        }
    }
    let types: Map<String, Value> = flags.keys().map(|name| (name.clone(), json!(["text"]))).collect();
    json!({
        "flagged": flagged,
        "categories": flags,
        "category_scores": scores,
        "category_applied_input_types": types,
        "qwenguard": judged.body(),
    })
}

impl Judged {
    /// Each category with the probability that the text is not Safe and of this category.
    fn scores(&self) -> Vec<(String, f32)> {
        match self {
            Judged::Prompt(PromptCheck { verdict, .. }) => {
                let harmful = 1.0 - verdict.probability(Risk::Safe);
                verdict.category_probabilities().map(|(name, p)| (name.to_owned(), harmful * p)).collect()
            }
            Judged::Annotation(annotation) => of_annotation(annotation),
        }
    }

    /// What the policy found.
    fn found(&self) -> Vec<String> {
        match self {
            Judged::Prompt(check) => check.finding.iter().map(|finding| finding.category.clone()).collect(),
            Judged::Annotation(annotation) => annotation.categories.clone(),
        }
    }
}

/// Without probabilities, a category that is named counts as certain. Of a Safe text the model names none.
fn of_annotation(annotation: &Annotation) -> Vec<(String, f32)> {
    let harmful = 1.0 - annotation.probability(Risk::Safe);
    match &annotation.category_probabilities {
        Some(all) => all.iter().filter_map(|(name, p)| Some((name.clone()?, harmful * p))).collect(),
        None => annotation.categories.iter().map(|name| (name.clone(), harmful)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_is_one_of_openais() {
        for names in Categories::built_in().0.values() {
            assert!(names.iter().all(|name| NAMES.contains(&name.as_str())), "{names:?}");
        }
    }

    #[test]
    fn input_has_three_forms() {
        let read = |input: Value| texts(Some(&input), 3).map_err(|fault| fault.body().to_string());
        assert_eq!(read(json!("a")).unwrap(), ["a"]);
        assert_eq!(read(json!(["a", "b"])).unwrap(), ["a", "b"]);
        assert_eq!(read(json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }])).unwrap(), ["ab"]);
        for (input, named) in [
            (json!([]), "0 items"),
            (json!(["a", "b", "c", "d"]), "4 items"),
            (json!(7), "neither a text nor a list"),
            (json!(["a", 7]), "input[1] is not a text"),
            (json!([[1, 2]]), "input[0] is not a text"),
            (json!([{ "type": "image_url", "image_url": { "url": "x" } }]), "cannot be judged"),
            (json!([{ "type": "text", "text": "a", "more": "b" }]), "is not read"),
        ] {
            let reason = read(input).unwrap_err();
            assert!(reason.contains(named), "{reason}");
        }
        assert!(texts(None, 3).is_err() && texts(Some(&Value::Null), 3).is_err());
    }
}
