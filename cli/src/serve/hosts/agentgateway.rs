//! `POST /request` and `POST /response`: the webhook of agentgateway.
//!
//! A question has messages or choices, and no more: an answer comes without its prompt, and one that is streamed in
//! windows of its text. All that is not passed is rejected by an answer, not by an error, which the gateway may be told to
//! ignore.

use axum::{Json, extract::State};
use qwenguard::{Decision, Message};
use serde_json::{Map, Value, json};

use super::{NO_PROMPT, check_streams, judge_prompt, stopped};
use crate::{
    message::{self, ToolCalls},
    serve::{
        App, Shared,
        body::Fields,
        fault::Fault,
        judge,
        proxy::{guarded::Guarded, note},
    },
};

/// The most answers of a question.
const CHOICES: usize = 128;

pub(crate) async fn request(State(app): State<Shared>, fields: Result<Fields, Fault>) -> Json<Value> {
    let judged = async { judge_request(&app, &fields?.0).await };
    action(judged.await)
}

pub(crate) async fn response(State(app): State<Shared>, fields: Result<Fields, Fault>) -> Json<Value> {
    let judged = async { judge_response(&app, &fields?.0).await };
    action(judged.await)
}

/// Pass, or reject. Which of them it is the fields tell.
fn action(judged: Result<(), Fault>) -> Json<Value> {
    Json(match judged {
        Ok(()) => json!({ "action": { "reason": "the policy finds nothing that stops it" } }),
        Err(fault) => json!({ "action": {
            "body": fault.body().to_string(), "status_code": fault.status.as_u16(), "reason": fault.message(),
        } }),
    })
}

async fn judge_request(app: &App, fields: &Map<String, Value>) -> Result<(), Fault> {
    let messages = list(fields, "messages")?;
    let wrong = |reason: String| Fault::field("body", format!("body.{reason}"));
    let said = message::read_messages(messages, ToolCalls::Judge).map_err(wrong)?;
    if said.answer.is_some() {
        return Err(wrong("messages: the last one is the assistant's: an answer that goes on is not guarded".into()));
    }
    if app.is_gen() {
        return match judge::prompt(app, &said.history).await?.decision() {
            Decision::Stop => Err(Fault::filtered("the prompt is stopped by the policy")),
            Decision::Continue => Ok(()),
        };
    }
    let check = judge_prompt(&mut app.judge()?, &said.history).await?;
    stopped(&check).map_or(Ok(()), |reason| Err(Fault::filtered(reason)))
}

async fn judge_response(app: &App, fields: &Map<String, Value>) -> Result<(), Fault> {
    check_streams(app)?;
    let choices = list(fields, "choices")?;
    if choices.len() > CHOICES {
        return Err(Fault::field("body", format!("body.choices has more than {CHOICES} items")));
    }
    for (index, choice) in choices.iter().enumerate() {
        let at = format!("body.choices[{index}]");
        let wrong = |reason: String| Fault::field("body", reason);
        let fields = choice.as_object().ok_or_else(|| wrong(format!("{at} is not an object")))?;
        message::check_rest(&at, fields, &["message"], &["finish_reason"]).map_err(wrong)?;
        let message = fields.get("message").ok_or_else(|| wrong(format!("{at}.message is missing")))?;
        let said = message::read_messages(std::slice::from_ref(message), ToolCalls::Judge);
        let said = said.map_err(|reason| wrong(format!("{at}.message: {reason}")))?;
        let answer = said.answer.ok_or_else(|| wrong(format!("{at}.message is not the assistant's")))?;
        judge_answer(app, &answer).await?;
    }
    Ok(())
}

async fn judge_answer(app: &App, answer: &message::Answer) -> Result<(), Fault> {
    let mut judge = app.judge()?;
    judge_prompt(&mut judge, &[Message::user(NO_PROMPT)]).await?;
    let mut guarded = Guarded::new(judge);
    let (thinking, text) = answer.text.split_at(answer.thinking);
    guarded.thinking(thinking).await?;
    guarded.text(text).await?;
    guarded.finish().await?;
    for violation in guarded.take_reported() {
        note(&violation, Decision::Continue);
    }
    if !guarded.is_stopped() {
        return Ok(());
    }
    let category = guarded.stop().map(|violation| violation.category.as_str()).unwrap_or_default();
    if let Some(violation) = guarded.stop() {
        note(violation, Decision::Stop);
    }
    Err(Fault::filtered(format!("the answer is stopped by the policy: {category}")))
}

/// The list in the body of a question, which has nothing else.
fn list<'f>(fields: &'f Map<String, Value>, name: &str) -> Result<&'f [Value], Fault> {
    let wrong = |reason: String| Fault::field("body", reason);
    message::check_rest("", fields, &["body"], &[]).map_err(wrong)?;
    let body = fields.get("body").and_then(Value::as_object).ok_or_else(|| wrong("body is not an object".into()))?;
    message::check_rest("body", body, &[name], &[]).map_err(wrong)?;
    match body.get(name) {
        Some(Value::Array(list)) if !list.is_empty() => Ok(list),
        Some(Value::Array(_)) => Err(wrong(format!("body.{name} is empty"))),
        _ => Err(wrong(format!("body.{name} is not a list"))),
    }
}
