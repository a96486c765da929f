//! `POST /v1/guard/prompt` and `/v1/guard/answer`: conversations in the guard's own terms.

use axum::{Json, extract::State};
use qwenguard::{Annotation, Call, Decision, Message, Opinion, PromptCheck, Reply, TokenVerdict, Update, Violation};
use serde_json::{Value, json};

use super::{
    App, Shared,
    body::Fields,
    calls::{self, Judge},
    fault::Fault,
    id,
};
use crate::message::{self, Answer, Said, ToolCalls};

/// Bytes of an answer that are pushed at once. A violation ends it after that many at most.
const PIECE: usize = 4096;

/// Fields of a request for a verdict that name something or are not what anybody says.
const ASIDE: [&str; 4] = ["messages", "tokens", "model", "metadata"];

/// The verdict on a prompt, by the kind of model.
pub(crate) enum Judged {
    Prompt(PromptCheck),
    Annotation(Annotation),
}

impl Judged {
    pub(crate) fn decision(&self) -> Decision {
        match self {
            Judged::Prompt(check) => check.decision,
            Judged::Annotation(annotation) => annotation.decision,
        }
    }

    /// What is answered: of a stream model `prompt`, of a gen model `annotation` and what the policy found in it.
    pub(crate) fn body(&self) -> Value {
        match self {
            Judged::Prompt(check) => json!({ "decision": check.decision, "prompt": check }),
            Judged::Annotation(annotation) => annotated(annotation),
        }
    }
}

fn annotated(annotation: &Annotation) -> Value {
    json!({ "decision": annotation.decision, "annotation": annotation, "finding": annotation.finding })
}

/// Judges the last message of a conversation, which is the user's.
pub(crate) async fn prompt(app: &App, messages: &[Message]) -> Result<Judged, Fault> {
    if app.is_gen() {
        let annotation = calls::annotate(&app.guard, messages, &app.terms).await?;
        return Ok(Judged::Annotation(annotation));
    }
    match app.judge()?.call(Call::Prompt(messages)).await? {
        Reply::Prompt(check) => Ok(Judged::Prompt(check)),
        _ => unreachable!("a prompt is answered by a check"),
    }
}

pub(crate) async fn judge_prompt(State(app): State<Shared>, fields: Fields) -> Result<Json<Value>, Fault> {
    let said = said(&fields)?;
    if said.answer.is_some() {
        return Err(Fault::field("messages", "the last message is an answer: POST /v1/guard/answer judges those"));
    }
    let judged = prompt(&app, &said.history).await?;
    Ok(named(&app, judged.body()))
}

pub(crate) async fn judge_answer(State(app): State<Shared>, fields: Fields) -> Result<Json<Value>, Fault> {
    let wants_tokens = fields.flag("tokens")?;
    if app.is_gen() && wants_tokens {
        let reason = "tokens: this model judges whole conversations, and not each token";
        return Err(Fault::field("tokens", reason));
    }
    if app.is_gen() {
        check_rest(&fields)?;
        let messages = message::read_whole(fields.list("messages")?, ToolCalls::Judge).map_err(of_messages)?;
        if messages.last().is_none_or(|last| last.role != "assistant") {
            return Err(no_answer());
        }
        let annotation = calls::annotate(&app.guard, &messages, &app.terms).await?;
        return Ok(named(&app, annotated(&annotation)));
    }
    let Said { history, answer: Some(answer) } = said(&fields)? else { return Err(no_answer()) };
    let mut judge = app.judge()?;
    let Reply::Prompt(check) = judge.call(Call::Prompt(&history)).await? else { unreachable!("a prompt's reply") };
    let mut whole = Whole::default();
    if check.decision == Decision::Continue {
        whole.judge(&mut judge, &answer).await?;
    }
    let mut body = json!({ "decision": check.decision, "prompt": check, "answer": null });
    if check.decision == Decision::Continue {
        body["decision"] = json!(whole.decision);
        body["answer"] = whole.body(wants_tokens);
    }
    Ok(named(&app, body))
}

fn said(fields: &Fields) -> Result<Said, Fault> {
    check_rest(fields)?;
    message::read_messages(fields.list("messages")?, ToolCalls::Judge).map_err(of_messages)
}

fn check_rest(fields: &Fields) -> Result<(), Fault> {
    message::check_rest("", &fields.0, &ASIDE, &["user"]).map_err(Fault::request)
}

fn of_messages(reason: String) -> Fault {
    Fault::field("messages", reason)
}

fn no_answer() -> Fault {
    Fault::field("messages", "the last message is not the assistant's: there is no answer to judge")
}

fn named(app: &App, mut body: Value) -> Json<Value> {
    body["id"] = id("guard").into();
    body["model"] = app.guard.info().source.clone().into();
    Json(body)
}

/// What was said about a whole answer.
struct Whole {
    decision: Decision,
    horizon: usize,
    violation: Option<Violation>,
    flags: Vec<Violation>,
    opinions: Vec<Opinion>,
    tokens: Vec<TokenVerdict>,
}

impl Default for Whole {
    fn default() -> Self {
        Whole {
            decision: Decision::Continue,
            horizon: 0,
            violation: None,
            flags: Vec::new(),
            opinions: Vec::new(),
            tokens: Vec::new(),
        }
    }
}

impl Whole {
    /// Judges an answer to its end, or to the violation that stops it.
    async fn judge(&mut self, judge: &mut Judge, answer: &Answer) -> Result<(), Fault> {
        let (thinking, text) = answer.text.as_bytes().split_at(answer.thinking);
        let pieces = thinking.chunks(PIECE).map(Call::Thinking).chain(text.chunks(PIECE).map(Call::Text));
        for call in pieces.chain([Call::Finish]) {
            let Reply::Update(update) = judge.call(call).await? else { unreachable!("an answer's reply") };
            self.take(update);
            if self.decision == Decision::Stop {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, update: Update) {
        self.tokens.truncate(self.tokens.partition_point(|token| token.index < update.void_from));
        self.flags.retain(|flag| flag.confirming_token < update.void_from);
        self.opinions.retain(|opinion| opinion.confirming_token < update.void_from);
        self.tokens.extend(update.tokens);
        self.flags.extend(update.flags);
        self.opinions.extend(update.opinions);
        (self.decision, self.horizon, self.violation) = (update.decision, update.horizon, update.violation);
    }

    fn body(&self, wants_tokens: bool) -> Value {
        let Whole { horizon, violation, flags, opinions, tokens, .. } = self;
        let mut body = json!({ "horizon": horizon, "violation": violation, "flags": flags, "opinions": opinions });
        if wants_tokens {
            body["tokens"] = json!(tokens);
        }
        body
    }
}
