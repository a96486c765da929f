//! The events of `moderate --json`, one JSON object a line.

use qwenguard::{Decision, PromptCheck, TokenVerdict, Verdict, Violation};
use serde_json::{Map, Number, Value, json};

/// The verdict on a prompt.
pub(crate) fn prompt(id: &Value, check: &PromptCheck) -> Value {
    json!({
        "id": id,
        "event": "prompt",
        "verdict": verdict(&check.verdict),
        "decision": check.decision,
        "finding": check.finding,
    })
}

/// One token of an answer and its text: see [`Joined`](crate::joined::Joined).
pub(crate) fn token(id: &Value, token: &TokenVerdict, text: &str) -> Value {
    json!({
        "id": id,
        "event": "token",
        "index": token.index,
        "token_id": token.token_id,
        "channel": token.channel,
        "final": token.is_final,
        "text": text,
        "byte_start": token.bytes.start,
        "byte_end": token.bytes.end,
        "verdict": verdict(&token.verdict),
    })
}

/// A place that the policy flags.
pub(crate) fn flag(id: &Value, found: &Violation) -> Value {
    json!({ "id": id, "event": "flag", "violation": violation(found) })
}

/// The end of a conversation. `rest` is what of its answer comes after the last token: tags, if anything.
pub(crate) fn end(id: &Value, decision: Decision, found: Option<&Violation>, tokens: usize, rest: &str) -> Value {
    let found = found.map(violation);
    json!({ "id": id, "event": "end", "decision": decision, "violation": found, "tokens": tokens, "rest": rest })
}

/// What could not be judged, or not to its end. `line` is null if it is no line of the input.
pub(crate) fn error(id: &Value, line: Option<usize>, reason: &str) -> Value {
    json!({ "id": id, "event": "error", "line": line, "error": reason })
}

pub(crate) fn violation(violation: &Violation) -> Value {
    json!({
        "action": violation.action,
        "channel": violation.channel,
        "byte_start": violation.bytes.start,
        "byte_end": violation.bytes.end,
        "first_token": violation.first_token,
        "confirming_token": violation.confirming_token,
        "risk": violation.risk,
        "category": violation.category,
        "probability": probability(violation.probability),
        "rule": violation.rule,
    })
}

fn verdict(verdict: &Verdict) -> Value {
    let risks: Map<String, Value> =
        verdict.risk_probabilities().map(|(risk, p)| (risk.to_string(), probability(p))).collect();
    let categories: Map<String, Value> =
        verdict.category_probabilities().map(|(category, p)| (category.to_owned(), probability(p))).collect();
    json!({
        "risk": verdict.risk(),
        "category": verdict.category(),
        "risk_probs": risks,
        "category_probs": categories,
    })
}

/// A probability as a number. The library gives nothing else: a `null` here would be read as harmless.
fn probability(probability: f32) -> Value {
    Number::from_f64(probability.into()).expect("probabilities are finite").into()
}
