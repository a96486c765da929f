//! `POST /beta/litellm_basic_guardrail_api`: LiteLLM's generic guardrail.
//!
//! LiteLLM asks about a prompt once, and about an answer again and again while it is written: each time with all of its text so
//! far, and without the prompt. The conversation is kept under the name of the call, and only what is new is judged. One that
//! was lost is judged anew. Which question is the last it does not say, and of the last answer it sends all text: so each
//! is answered as if the answer ended there. Text that may not be shown if it goes on is told as `stream_holdback_chars`.

use std::{mem, sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use qwenguard::{Decision, Message, Violation};
use serde_json::{Map, Value, json};

use super::{NO_PROMPT, check_streams, judge_prompt, kept::Kept, stopped};
use crate::{
    message::{self, ToolCalls},
    serve::{
        App, Shared,
        body::Fields,
        calls::Judge,
        fault::Fault,
        judge,
        proxy::{guarded::Guarded, note},
    },
};

/// Fields that say who asks and how, and definitions of tools, which are the program's words.
const ASIDE: [&str; 6] =
    ["request_data", "request_headers", "additional_provider_specific_params", "tools", "texts", "structured_messages"];

/// Fields that name something.
const NAMES: [&str; 5] = ["input_type", "litellm_call_id", "litellm_trace_id", "litellm_version", "model"];

/// The most texts of one question.
const TEXTS: usize = 256;

/// The most prompts that are kept under one name: whoever asks LiteLLM may choose the name.
const PROMPTS: usize = 4;

/// How often is looked for conversations that are idle.
const SWEEP: Duration = Duration::from_secs(1);

pub(crate) type Conversations = Kept<Conversation>;

/// What is kept of a call.
#[derive(Default)]
pub(crate) struct Conversation(Vec<Thread>);

/// A prompt, and the answers to it as far as they are known.
struct Thread {
    messages: Vec<Message>,
    prompt: Judge,
    /// Why it gets no answer.
    stopped: Option<String>,
    answers: Vec<Answer>,
}

struct Answer {
    text: String,
    guarded: Guarded,
    /// What was found and does not stop it.
    found: Vec<Violation>,
}

/// A question of LiteLLM.
struct Question {
    is_answer: bool,
    call: Option<String>,
    texts: Vec<String>,
    tool_calls: Vec<Value>,
    messages: Vec<Value>,
}

/// Why something is not let through: the policy's word, or that it cannot be judged.
enum Blocked {
    Because(String),
    Fault(Fault),
}

impl From<Fault> for Blocked {
    fn from(fault: Fault) -> Self {
        // What is wrong with a text is wrong at the next try, too. LiteLLM may be told to go on where the guard fails.
        match fault.status.as_u16() {
            400 | 422 => Blocked::Because(fault.message().to_owned()),
            _ => Blocked::Fault(fault),
        }
    }
}

impl From<qwenguard::Error> for Blocked {
    fn from(error: qwenguard::Error) -> Self {
        Fault::from(error).into()
    }
}

pub(crate) async fn guard(State(app): State<Shared>, fields: Fields) -> Result<Json<Value>, Fault> {
    check_streams(&app)?;
    let answered = match Question::read(&fields.0).map_err(Blocked::Because) {
        Ok(question) if question.is_answer => answer(&app, &question).await,
        Ok(question) => prompt(&app, &question).await,
        Err(blocked) => Err(blocked),
    };
    match answered {
        Ok(body) => Ok(Json(body)),
        Err(Blocked::Because(reason)) => Ok(Json(json!({ "action": "BLOCKED", "blocked_reason": reason }))),
        Err(Blocked::Fault(fault)) => Err(fault),
    }
}

/// Lets idle conversations go, as long as there is a server.
pub(crate) fn sweep(app: &Shared) {
    let app = Arc::downgrade(app);
    tokio::spawn(async move {
        while let Some(app) = app.upgrade() {
            app.conversations.drop_idle();
            drop(app);
            tokio::time::sleep(SWEEP).await;
        }
    });
}

impl Question {
    fn read(fields: &Map<String, Value>) -> Result<Self, String> {
        message::check_rest("", fields, &[&ASIDE[..], &["images", "tool_calls"]].concat(), &NAMES)?;
        if !list(fields, "images")?.is_empty() {
            return Err("images cannot be judged".into());
        }
        let text = |(index, text): (usize, &Value)| {
            text.as_str().map(str::to_owned).ok_or_else(|| format!("texts[{index}] is not a text"))
        };
        let texts = list(fields, "texts")?;
        if texts.len() > TEXTS {
            return Err(format!("texts has {} items; at most {TEXTS} are judged", texts.len()));
        }
        let is_answer = match fields.get("input_type").and_then(Value::as_str) {
            Some("request") => false,
            Some("response") => true,
            _ => return Err("input_type is neither request nor response".into()),
        };
        let call = fields.get("litellm_call_id").and_then(Value::as_str);
        Ok(Question {
            is_answer,
            call: call.filter(|call| !call.is_empty()).map(str::to_owned),
            texts: texts.iter().enumerate().map(text).collect::<Result<_, _>>()?,
            tool_calls: list(fields, "tool_calls")?.to_vec(),
            messages: list(fields, "structured_messages")?.to_vec(),
        })
    }

    /// The conversation up to the prompt. Without messages each text is taken for one of the user.
    fn conversation(&self) -> Result<Vec<Message>, String> {
        if self.messages.is_empty() {
            return match self.tool_calls.is_empty() {
                true => Ok(self.texts.iter().map(Message::user).collect()),
                false => Err("tool_calls without structured_messages cannot be judged".into()),
            };
        }
        let said = message::read_messages(&self.messages, ToolCalls::Judge)?;
        match said.answer {
            None => Ok(said.history),
            Some(_) => Err("the last message is the assistant's: an answer that goes on is not guarded".into()),
        }
    }
}

fn list<'f>(fields: &'f Map<String, Value>, field: &str) -> Result<&'f [Value], String> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format!("{field} is not a list")),
    }
}

/// Judges a prompt, and keeps it for its answer.
async fn prompt(app: &App, question: &Question) -> Result<Value, Blocked> {
    let messages = question.conversation().map_err(Blocked::Because)?;
    if messages.is_empty() {
        return Err(Blocked::Because("there is nothing to judge: texts is empty".into()));
    }
    // What the messages do not show is judged by itself.
    let is_shown = |text: &&String| match question.messages.is_empty() {
        true => messages.last().is_some_and(|last| last.content == **text),
        false => messages.iter().any(|message| message.content.contains(text.as_str())),
    };
    for text in question.texts.iter().filter(|text| !is_shown(text)) {
        let judged = judge::prompt(app, &[Message::user(text)]).await?;
        if judged.decision() == Decision::Stop {
            return Err(Blocked::Because("a text of the request is stopped by the policy".into()));
        }
    }
    let mut begun = Thread::begin(app, &messages).await;
    while begun.as_ref().is_err_and(|blocked| has_room(app, blocked)) {
        begun = Thread::begin(app, &messages).await;
    }
    let thread = begun?;
    let reason = thread.stopped.clone();
    if let Some(call) = &question.call {
        app.conversations.get(call).lock().await.keep(thread)?;
    }
    match reason {
        Some(reason) => Err(Blocked::Because(reason)),
        None => Ok(json!({ "action": "NONE" })),
    }
}

/// Judges an answer as far as it is there.
async fn answer(app: &App, question: &Question) -> Result<Value, Blocked> {
    let kept = question.call.as_ref().map(|call| app.conversations.get(call)).unwrap_or_default();
    let mut conversation = kept.lock().await;
    let mut judged = conversation.judge(app, question).await;
    while judged.as_ref().is_err_and(|blocked| has_room(app, blocked)) {
        judged = conversation.judge(app, question).await;
    }
    Ok(json!({ "action": "NONE", "texts": question.texts, "stream_holdback_chars": judged? }))
}

/// Whether another try is worth it: where the guard has no more streams, conversations that are kept make room.
fn has_room(app: &App, blocked: &Blocked) -> bool {
    is(blocked, StatusCode::TOO_MANY_REQUESTS) && app.conversations.drop_oldest()
}

fn is(blocked: &Blocked, status: StatusCode) -> bool {
    matches!(blocked, Blocked::Fault(fault) if fault.status == status)
}

impl Conversation {
    fn keep(&mut self, thread: Thread) -> Result<(), Blocked> {
        if self.0.iter().any(|known| known.messages == thread.messages) {
            return Ok(());
        }
        if self.0.len() == PROMPTS {
            let reason = format!("more than {PROMPTS} prompts have the same litellm_call_id");
            return Err(Blocked::Because(reason));
        }
        self.0.push(thread);
        Ok(())
    }

    /// How many characters of each text may not be shown yet. Where several prompts have the same name, an answer has to
    /// be fine after each of them.
    async fn judge(&mut self, app: &App, question: &Question) -> Result<Vec<usize>, Blocked> {
        if self.0.is_empty() {
            let messages = match question.messages.is_empty() {
                true => vec![Message::user(NO_PROMPT)],
                false => question.conversation().map_err(Blocked::Because)?,
            };
            self.0.push(Thread::begin(app, &messages).await?);
        }
        let mut held_back = vec![0; question.texts.len()];
        for thread in &mut self.0 {
            let mut judged = thread.judge(question).await;
            if judged.as_ref().is_err_and(|blocked| is(blocked, StatusCode::GONE)) {
                // The guard has let it go.
                *thread = Thread::begin(app, &thread.messages).await?;
                judged = thread.judge(question).await;
            }
            for (most, count) in held_back.iter_mut().zip(judged?) {
                *most = count.max(*most);
            }
        }
        Ok(held_back)
    }
}

impl Thread {
    async fn begin(app: &App, messages: &[Message]) -> Result<Self, Blocked> {
        let mut prompt = app.judge()?;
        let check = judge_prompt(&mut prompt, messages).await?;
        Ok(Thread { messages: messages.to_vec(), prompt, stopped: stopped(&check), answers: Vec::new() })
    }

    async fn judge(&mut self, question: &Question) -> Result<Vec<usize>, Blocked> {
        if let Some(reason) = &self.stopped {
            return Err(Blocked::Because(reason.clone()));
        }
        let mut known = mem::take(&mut self.answers);
        let mut held_back = Vec::new();
        for text in &question.texts {
            let mut answer = match longest_beginning(&known, text) {
                Some(index) => known.swap_remove(index),
                None => Answer::new(&self.prompt)?,
            };
            answer.go_on(text).await?;
            let shown = answer.shown_if_it_ends().await?;
            // Python's characters are code points.
            held_back.push(text[text.floor_char_boundary(shown)..].chars().count());
            self.answers.push(answer);
        }
        self.judge_calls(question).await?;
        Ok(held_back)
    }

    /// Judges calls of tools, after the text if there is one. Whose they are is not said.
    async fn judge_calls(&self, question: &Question) -> Result<(), Blocked> {
        if question.tool_calls.is_empty() {
            return Ok(());
        }
        let mut guarded = match &self.answers[..] {
            [answer] => answer.guarded.fork()?,
            _ => Guarded::new(self.prompt.fork()?),
        };
        for (index, call) in question.tool_calls.iter().enumerate() {
            let (name, arguments) = read_call(index, call).map_err(Blocked::Because)?;
            guarded.call_name(name).await?;
            guarded.call_arguments(arguments).await?;
        }
        guarded.finish().await?;
        match guarded.is_stopped() {
            true => Err(stop_of(&guarded)),
            false => Ok(()),
        }
    }
}

/// The answer that is known for the longest beginning of a text. The guard's state is that of the text, whoever wrote it.
fn longest_beginning(answers: &[Answer], text: &str) -> Option<usize> {
    let begins = answers.iter().enumerate().filter(|(_, answer)| text.starts_with(&answer.text));
    begins.max_by_key(|(_, answer)| answer.text.len()).map(|(index, _)| index)
}

fn read_call(index: usize, call: &Value) -> Result<(&str, &str), String> {
    let at = format!("tool_calls[{index}]");
    let fields = call.as_object().ok_or_else(|| format!("{at} is not an object"))?;
    message::check_rest(&at, fields, &["function"], &["id", "type"])?;
    if call.get("type").is_some_and(|kind| !kind.is_null() && kind != "function") {
        return Err(format!("{at} is of a type that cannot be judged"));
    }
    let function = call.get("function").and_then(Value::as_object).ok_or_else(|| format!("{at} has no function"))?;
    message::check_rest(&format!("{at}.function"), function, &["name", "arguments"], &[])?;
    let text = |field: &str| match function.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("{at}.function.{field} is not a text")),
    };
    Ok((text("name")?, text("arguments")?))
}

impl Answer {
    fn new(prompt: &Judge) -> Result<Self, Blocked> {
        Ok(Answer { text: String::new(), guarded: Guarded::new(prompt.fork()?), found: Vec::new() })
    }

    /// Judges what is new in a text.
    async fn go_on(&mut self, text: &str) -> Result<(), Blocked> {
        self.guarded.text(&text[self.text.len()..]).await?;
        text.clone_into(&mut self.text);
        for violation in self.guarded.take_reported() {
            if !self.found.contains(&violation) {
                note(&violation, Decision::Continue);
                self.found.push(violation);
            }
        }
        Ok(())
    }

    /// How much of it may be shown if it goes on, provided that all of it may be shown should it end here.
    async fn shown_if_it_ends(&self) -> Result<usize, Blocked> {
        let horizon = self.guarded.horizon();
        if self.guarded.is_stopped() {
            return Err(stop_of(&self.guarded));
        }
        if horizon == self.text.len() {
            return Ok(horizon);
        }
        let mut ended = self.guarded.fork()?;
        ended.finish().await?;
        match !ended.is_stopped() && ended.horizon() == self.text.len() {
            true => Ok(horizon),
            false => Err(stop_of(&ended)),
        }
    }
}

/// What stops an answer; told, too.
fn stop_of(guarded: &Guarded) -> Blocked {
    let category = guarded.stop().map(|violation| violation.category.as_str()).unwrap_or_default();
    if let Some(violation) = guarded.stop() {
        note(violation, Decision::Stop);
    }
    Blocked::Because(format!("the answer is stopped by the policy: {category}"))
}
