//! The events of `moderate --json`, one JSON object a line. What the library says is written as the library does.

use qwenguard::{Decision, Opinion, PromptCheck, TokenVerdict, Violation};
use serde::Serialize;
use serde_json::{Value, json};

/// The verdict on a prompt.
pub(crate) fn prompt(id: &Value, check: &PromptCheck) -> Value {
    event(id, "prompt", check)
}

/// One token of an answer and its text: see [`Joined`](crate::joined::Joined).
pub(crate) fn token(id: &Value, token: &TokenVerdict, text: &str) -> Value {
    #[derive(Serialize)]
    struct Token<'a> {
        text: &'a str,
        #[serde(flatten)]
        token: &'a TokenVerdict,
    }
    event(id, "token", &Token { text, token })
}

/// A place that the policy flags.
pub(crate) fn flag(id: &Value, found: &Violation) -> Value {
    event(id, "flag", &json!({ "violation": found }))
}

/// A second opinion on an answer.
pub(crate) fn opinion(id: &Value, opinion: &Opinion) -> Value {
    event(id, "opinion", opinion)
}

/// The end of a conversation.
#[derive(Serialize)]
pub(crate) struct End<'e> {
    pub(crate) decision: Decision,
    pub(crate) violation: Option<&'e Violation>,
    /// How many bytes of the answer may be shown.
    pub(crate) horizon: usize,
    pub(crate) tokens: usize,
    /// What of its answer comes after the last token: tags, if anything.
    pub(crate) rest: &'e str,
}

pub(crate) fn end(id: &Value, end: &End) -> Value {
    event(id, "end", end)
}

/// What could not be judged, or not to its end. `line` is null if it is no line of the input.
pub(crate) fn error(id: &Value, line: Option<usize>, reason: &str) -> Value {
    event(id, "error", &json!({ "line": line, "error": reason }))
}

fn event(id: &Value, name: &str, what: &impl Serialize) -> Value {
    #[derive(Serialize)]
    struct Event<'a, W> {
        id: &'a Value,
        event: &'a str,
        #[serde(flatten)]
        what: &'a W,
    }
    serde_json::to_value(Event { id, event: name, what }).expect("these are objects of texts and finite numbers")
}
