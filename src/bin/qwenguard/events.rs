//! The events of `moderate --json`, one JSON object a line.

use std::io::Write;

use qwenguard::{Decision, PromptCheck, TokenVerdict, Verdict, Violation};
use serde_json::{Map, Value, json};

/// Writes events of one conversation.
pub(crate) struct Events<'a, W> {
    pub(crate) out: W,
    pub(crate) id: &'a Value,
}

impl<W: Write> Events<'_, W> {
    pub(crate) fn prompt(&mut self, check: &PromptCheck) -> std::io::Result<()> {
        self.write(json!({
            "id": self.id,
            "event": "prompt",
            "verdict": verdict(&check.verdict),
            "decision": check.decision,
        }))
    }

    /// `text` is what the token stands for, `base` where the judged text starts in the message.
    pub(crate) fn token(
        &mut self,
        token: &TokenVerdict,
        text: &str,
        bytes: &std::ops::Range<usize>,
    ) -> std::io::Result<()> {
        self.write(json!({
            "id": self.id,
            "event": "token",
            "index": token.index,
            "token_id": token.token_id,
            "text": text,
            "byte_start": bytes.start,
            "byte_end": bytes.end,
            "verdict": verdict(&token.verdict),
        }))
    }

    pub(crate) fn end(
        &mut self,
        decision: Decision,
        violation: Option<&Violation>,
        tokens: usize,
    ) -> std::io::Result<()> {
        let violation = violation.map(|violation| {
            json!({
                "byte_start": violation.bytes.start,
                "byte_end": violation.bytes.end,
                "first_token": violation.first_token,
                "confirming_token": violation.confirming_token,
                "risk": violation.risk,
                "category": violation.category,
                "probability": violation.probability,
            })
        });
        self.write(json!({
            "id": self.id,
            "event": "end",
            "decision": decision,
            "violation": violation,
            "tokens": tokens,
        }))
    }

    fn write(&mut self, event: Value) -> std::io::Result<()> {
        writeln!(self.out, "{event}")
    }
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
