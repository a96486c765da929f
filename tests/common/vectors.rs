//! What the tests of `tests/vectors` share.

use std::path::{Path, PathBuf};

use qwenguard::{Decision, Error, Message};
use serde_json::{Value, json};

/// How far a probability may be from that of another machine.
pub(crate) const TOLERANCE: f64 = 1e-3;

/// And from that of weights and a cache in other numbers.
pub(crate) const OTHER_NUMBERS: f64 = 2e-2;

/// The provider that QWENGUARD_TEST_PROVIDER names, if it is set.
pub(crate) fn provider() -> Option<String> {
    std::env::var("QWENGUARD_TEST_PROVIDER").ok().filter(|name| !name.is_empty())
}

/// A file's configuration for that provider.
pub(crate) fn on_provider(config: &str) -> String {
    let provider = provider().expect("QWENGUARD_TEST_PROVIDER names a provider");
    let graphs = std::env::var_os("QWENGUARD_TEST_CUDA_GRAPHS").is_some();
    format!("{config}\nruntime.provider = {provider:?}\nruntime.cuda.graphs = {graphs}")
}

/// The bundle with graphs for other providers that is of a bundle's checkpoint, or of a guard that is built in.
pub(crate) fn gpu_bundle(name: &str) -> PathBuf {
    let name = match name {
        "nano" => "target/golden-gpu/nano".to_owned(),
        name => name.replace("/golden-gen/", "/golden-gpu-gen/").replace("-fp32", ""),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    assert!(folder.join("guard.toml").is_file(), "{} is missing: run `make test-data`", folder.display());
    folder
}

fn status(error: &Error) -> &'static str {
    match error {
        Error::Config { .. } => "QG_ERROR_CONFIG",
        Error::Conversation { .. } => "QG_ERROR_CONVERSATION",
        Error::Argument { .. } => "QG_ERROR_ARGUMENT",
        Error::WrongState { .. } => "QG_ERROR_WRONG_STATE",
        Error::ContextFull { .. } => "QG_ERROR_CONTEXT_FULL",
        Error::Busy { .. } => "QG_ERROR_BUSY",
        other => panic!("not in the vectors: {other}"),
    }
}

/// Four decimals say enough for the tolerance.
pub(crate) fn rounded(probability: f32) -> Value {
    json!((f64::from(probability) * 1e4).round() / 1e4)
}

pub(crate) fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Continue => "continue",
        Decision::Stop => "stop",
    }
}

pub(crate) fn messages(step: &Value) -> Vec<Message> {
    let text = |message: &Value, field: &str| message[field].as_str().unwrap().to_owned();
    let messages = step["messages"].as_array().unwrap().iter();
    messages.map(|message| Message::new(text(message, "role"), text(message, "content"))).collect()
}

pub(crate) fn failure(error: &Error) -> Value {
    json!({ "error": { "status": status(error), "message": error.to_string() } })
}

/// Numbers with a point are probabilities, and may be so far from each other. All else is equal or not.
pub(crate) fn same(a: &Value, b: &Value, tolerance: f64) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() <= tolerance
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, tolerance)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b, tolerance)))
        }
        _ => a == b,
    }
}

/// Whether expectations are written anew.
pub(crate) fn updating() -> bool {
    std::env::var_os("QWENGUARD_UPDATE_VECTORS").is_some()
}

/// What a difference is compared with: none is kept where expectations are written anew.
pub(crate) fn kept(tolerance: f64) -> f64 {
    if updating() && tolerance == TOLERANCE { 0.0 } else { tolerance }
}

/// Labels must not hang on less than the widest tolerance: a provider whose numbers differ would choose another one.
pub(crate) fn far_from_ties(value: &Value, place: &str) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| far_from_ties(value, place)),
        Value::Object(fields) => {
            let mut lists = vec!["risk_probs"];
            if fields.get("risk").is_some_and(|risk| risk != "Safe") {
                lists.push("category_probs");
            }
            if let Some(refusal) = fields.get("refusal_prob").and_then(Value::as_f64) {
                assert!((refusal - 0.5).abs() > OTHER_NUMBERS, "{place}: the refusal is almost a tie: {fields:?}");
            }
            for list in lists {
                let Some(values) = fields.get(list).and_then(Value::as_array) else { continue };
                let mut values: Vec<f64> = values.iter().map(|p| p.as_f64().unwrap()).collect();
                values.sort_by(f64::total_cmp);
                let gap = values[values.len() - 1] - values[values.len() - 2];
                assert!(gap > 2.0 * OTHER_NUMBERS, "{place}: {list} is almost a tie, choose another text: {fields:?}");
            }
            fields.values().for_each(|value| far_from_ties(value, place));
        }
        _ => {}
    }
}
