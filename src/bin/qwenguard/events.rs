//! The events of `moderate --json`, one JSON object a line.

use qwenguard::{Decision, PromptCheck, TokenVerdict, Verdict, Violation};
use serde_json::{Map, Value, json};

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

/// One token of an answer whose bytes so far are `answer`.
pub(crate) fn token(id: &Value, token: &TokenVerdict, answer: &[u8]) -> Value {
    let text = String::from_utf8_lossy(&answer[token.bytes.clone()]);
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

/// The end of a conversation.
pub(crate) fn end(id: &Value, decision: Decision, found: Option<&Violation>, tokens: usize) -> Value {
    let found = found.map(violation);
    json!({ "id": id, "event": "end", "decision": decision, "violation": found, "tokens": tokens })
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
        "probability": violation.probability,
        "rule": violation.rule,
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
