//! `POST /v1/guard/replay`: verdicts that were given before, judged by another policy. The library's rules run, the model does
//! not, and nothing is kept here: the caller sends what it was told.

use axum::{Json, extract::State};
use qwenguard::{Error, Policy, TokenVerdict, Verdict};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Shared, body::Fields, fault::Fault};
use crate::message;

pub(crate) async fn replay(State(app): State<Shared>, mut fields: Fields) -> Result<Json<Value>, Fault> {
    message::check_rest("", &fields.0, &["policy", "prompt", "tokens"], &[]).map_err(Fault::request)?;
    let policy = match fields.0.remove("policy") {
        None | Some(Value::Null) => app.policy.clone(),
        Some(Value::String(text)) => Policy::from_toml(&text).map_err(refused)?,
        Some(policy) => read("policy", policy)?,
    };
    let prompt: Option<Verdict> = read("prompt", fields.0.remove("prompt").unwrap_or_default())?;
    let tokens: Option<Vec<TokenVerdict>> = read("tokens", fields.0.remove("tokens").unwrap_or_default())?;
    let prompt = prompt.map(|verdict| policy.replay_prompt(&verdict)).transpose().map_err(refused)?;
    let answer = tokens.map(|tokens| policy.replay(&tokens)).transpose().map_err(refused)?;
    let answer = answer.map(|update| {
        json!({
            "decision": update.decision,
            "horizon": update.horizon,
            "violation": update.violation,
            "flags": update.flags,
        })
    });
    Ok(Json(json!({ "prompt": prompt, "answer": answer })))
}

fn read<T: DeserializeOwned>(field: &str, value: Value) -> Result<T, Fault> {
    serde_json::from_value(value).map_err(|error| Fault::field(field, format!("{field}: {error}")))
}

/// The policy, or what it is to judge, is the caller's.
fn refused(error: Error) -> Fault {
    match error {
        Error::Config { .. } => Fault::field("policy", error.to_string()),
        error => error.into(),
    }
}
