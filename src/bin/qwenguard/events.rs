//! The events of `moderate --json`, one JSON object a line.

use std::ops::Range;

use qwenguard::{Decision, PromptCheck, TokenVerdict, Verdict, Violation};
use serde_json::{Map, Value, json};

/// The verdict on a prompt.
pub(crate) fn prompt(id: &Value, check: &PromptCheck) -> Value {
    json!({ "id": id, "event": "prompt", "verdict": verdict(&check.verdict), "decision": check.decision })
}

/// One token. `text` and `bytes` are what it stands for, and where, in the message.
pub(crate) fn token(id: &Value, token: &TokenVerdict, text: &str, bytes: &Range<usize>) -> Value {
    json!({
        "id": id,
        "event": "token",
        "index": token.index,
        "token_id": token.token_id,
        "text": text,
        "byte_start": bytes.start,
        "byte_end": bytes.end,
        "verdict": verdict(&token.verdict),
    })
}

/// The end of a conversation.
pub(crate) fn end(id: &Value, decision: Decision, found: Option<&Violation>, tokens: usize) -> Value {
    let found = found.map(violation);
    json!({ "id": id, "event": "end", "decision": decision, "violation": found, "tokens": tokens })
}

pub(crate) fn violation(violation: &Violation) -> Value {
    json!({
        "byte_start": violation.bytes.start,
        "byte_end": violation.bytes.end,
        "first_token": violation.first_token,
        "confirming_token": violation.confirming_token,
        "risk": violation.risk,
        "category": violation.category,
        "probability": violation.probability,
    })
}

fn verdict(verdict: &Verdict) -> Value {
    let risks: Map<String, Value> =
        verdict.risk_probabilities().map(|(risk, p)| (risk.to_string(), p.into())).collect();
    let categories: Map<String, Value> =
        verdict.category_probabilities().map(|(category, p)| (category.to_owned(), p.into())).collect();
    json!({
        "risk": verdict.risk(),
        "category": verdict.category(),
        "risk_probs": risks,
        "category_probs": categories,
    })
}
