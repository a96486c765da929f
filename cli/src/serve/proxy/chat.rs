//! Chat completions: what of an answer is text, how it is judged, and how it is cut.
//!
//! A chunk is held until the guard has cleared all of its text. Where the guard stops an answer, the last chunk is cut there
//! and the answer ends as one that a content filter ended.

use std::collections::BTreeMap;

use qwenguard::Violation;
use serde_json::{Map, Value, json};

use super::{
    ASIDE, After, Asked, NAMES, Protocol,
    events::Message,
    guarded::Guarded,
    held::{Held, Part, Queue, Sent, cut},
    shape::{self, keep_logprobs, strip, strip_at},
    unjudged,
};
use crate::{
    json,
    message::check_rest,
    serve::{calls::Judge, fault::Fault},
};

/// Fields of a message or a delta with text that is shown, in the order in which they are judged, and whether it is thinking.
const TEXTS: [(&str, bool); 4] =
    [("reasoning_content", true), ("reasoning", true), ("content", false), ("refusal", false)];

/// Fields that hold no text of the model, or whose text is judged in a way of its own.
const OTHERS: [&str; 3] = ["role", "tool_calls", "function_call"];

/// Names that an answer, or a chunk of one, has.
const ANSWER_NAMES: [&str; 5] = ["id", "object", "model", "system_fingerprint", "service_tier"];

/// Choices of an answer that are guarded at once.
const CHOICES: usize = 128;

/// The answers to one prompt.
pub(super) struct Answers {
    /// The prompt, judged. Each answer goes on from it.
    prompt: Judge,
    choices: BTreeMap<u64, Choice>,
    /// How many answers were asked for.
    wanted: usize,
}

struct Choice {
    guarded: Guarded,
    queue: Queue,
    /// Nothing more of it is sent.
    is_over: bool,
}

impl Answers {
    fn choice(&mut self, index: u64) -> Result<&mut Choice, Fault> {
        if !self.choices.contains_key(&index) {
            if self.choices.len() == CHOICES {
                return Err(unjudged(format!("the answer has more than {CHOICES} choices")));
            }
            let guarded = Guarded::new(self.prompt.fork()?);
            let choice = Choice { guarded, queue: Queue::default(), is_over: false };
            self.choices.insert(index, choice);
        }
        Ok(self.choices.get_mut(&index).expect("it was just put there"))
    }

    async fn chunk(&mut self, bytes: usize, chunk: Map<String, Value>) -> Result<Vec<Sent>, Fault> {
        let mut fields = chunk;
        strip(&mut fields, &["choices"], &ANSWER_NAMES);
        let choices = match fields.insert("choices".into(), Value::Array(Vec::new())) {
            Some(Value::Array(choices)) => choices,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err(unjudged("choices is not a list")),
        };
        if choices.is_empty() {
            return Ok(vec![Sent { head: String::new(), body: Value::Object(fields) }]);
        }
        let mut cleared = Vec::new();
        for choice in choices {
            let index = match choice.get("index") {
                None | Some(Value::Null) => 0,
                Some(index) => index.as_u64().ok_or_else(|| unjudged("an index is no number of a choice"))?,
            };
            let mut chunk = fields.clone();
            chunk.insert("choices".into(), json!([choice]));
            let event = Sent { head: String::new(), body: Value::Object(chunk) };
            cleared.extend(self.choice(index)?.take(index, event, bytes).await?);
        }
        Ok(cleared)
    }
}

impl Protocol for Answers {
    const PATH: &'static str = "/chat/completions";
    const LAST_WORDS: &'static str = "data: [DONE]\n\n";

    fn asked(request: &Map<String, Value>) -> Result<Asked, Fault> {
        let answers = match request.get("n") {
            None | Some(Value::Null) => 1,
            Some(n) => {
                let n = n.as_u64().filter(|n| (1..=CHOICES as u64).contains(n));
                n.ok_or_else(|| Fault::field("n", "n is out of range"))? as usize
            }
        };
        check_rest("", request, &[&["messages"], &ASIDE[..]].concat(), &NAMES).map_err(Fault::request)?;
        let messages = request.get("messages").and_then(Value::as_array);
        let messages = messages.ok_or_else(|| Fault::field("messages", "messages is not a list"))?;
        Ok(Asked { messages: messages.clone(), field: "messages", answers })
    }

    fn new(prompt: Judge, answers: usize) -> Self {
        Answers { prompt, choices: BTreeMap::new(), wanted: answers }
    }

    async fn event(&mut self, event: Message) -> Result<(Vec<Sent>, After), Fault> {
        if event.data.trim() == "[DONE]" {
            return Ok((self.end().await?, After::Done));
        }
        let chunk = json::read_object(event.data.as_bytes(), &mut Value::Null);
        let chunk = chunk.map_err(|reason| unjudged(format!("a chunk: {reason}")))?;
        if chunk.get("error").is_some_and(|error| !error.is_null()) && !chunk.contains_key("choices") {
            let body = shape::error(&Value::Object(chunk), None);
            return Ok((vec![Sent { head: String::new(), body }], After::Broken));
        }
        let cleared = self.chunk(event.data.len(), chunk).await?;
        // The upstream may write for long: nobody waits for it.
        let is_over = self.choices.len() >= self.wanted && self.choices.values().all(|choice| choice.is_over);
        Ok((cleared, if is_over { After::Done } else { After::More }))
    }

    async fn end(&mut self) -> Result<Vec<Sent>, Fault> {
        let mut cleared = Vec::new();
        for (index, choice) in &mut self.choices {
            choice.guarded.finish().await?;
            cleared.extend(choice.cleared(*index));
        }
        Ok(cleared)
    }

    async fn whole(&mut self, completion: &Value) -> Result<Value, Fault> {
        let choices = completion.get("choices").and_then(Value::as_array);
        let choices = choices.ok_or_else(|| unjudged("the answer has no list of choices"))?;
        let mut guarded = completion.clone();
        strip_at(Some(&mut guarded), &["choices"], &ANSWER_NAMES);
        for (place, choice) in choices.iter().enumerate() {
            check_choice(choice, "message")?;
            let message = choice.get("message").and_then(Value::as_object);
            let message = message.ok_or_else(|| unjudged(format!("choices[{place}] has no message")))?;
            let of = self.choice(place as u64)?;
            let parts = of.judge("/message", message).await?;
            of.guarded.finish().await?;
            let choice = &mut guarded["choices"][place];
            tidy(choice, "message");
            if of.guarded.is_stopped() {
                without_calls(&mut choice["message"]);
                cut(choice, &parts, of.guarded.horizon());
                choice["finish_reason"] = "content_filter".into();
                if choice.get("logprobs").is_some() {
                    choice["logprobs"] = Value::Null;
                }
            }
        }
        Ok(guarded)
    }

    fn findings_event(findings: Vec<Value>) -> Sent {
        // Clients read chunks without choices as they read the one with usage.
        let body = json!({
            "id": "", "object": "chat.completion.chunk", "created": 0, "model": "", "choices": [],
            "qwenguard": { "findings": findings },
        });
        Sent { head: String::new(), body }
    }

    fn found(&mut self) -> (Vec<Violation>, Vec<Violation>) {
        let stops = self.choices.values().filter_map(|choice| choice.guarded.stop().cloned()).collect();
        (stops, self.choices.values_mut().flat_map(|choice| choice.guarded.take_reported()).collect())
    }
}

impl Choice {
    /// Takes the next chunk of this choice alone.
    async fn take(&mut self, index: u64, mut event: Sent, bytes: usize) -> Result<Vec<Sent>, Fault> {
        if self.is_over {
            return Ok(Vec::new());
        }
        let choice = &event.body["choices"][0];
        let nothing = Map::new();
        let delta = match choice.get("delta") {
            None | Some(Value::Null) => &nothing,
            Some(Value::Object(delta)) => delta,
            Some(_) => return Err(unjudged("a delta is not an object")),
        };
        check_choice(choice, "delta")?;
        let parts = self.judge("/choices/0/delta", delta).await?;
        let is_end = choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
        if is_end {
            self.guarded.finish().await?;
        }
        tidy(&mut event.body["choices"][0], "delta");
        self.queue.push(Held { parts, end: self.guarded.received(), is_end, event }, bytes)?;
        Ok(self.cleared(index))
    }

    /// Judges the text of a message or a delta.
    async fn judge(&mut self, at: &str, message: &Map<String, Value>) -> Result<Vec<Part>, Fault> {
        check_fields(message)?;
        let mut parts = Vec::new();
        let mut thought: Option<(&str, usize)> = None;
        for (field, is_thinking) in TEXTS {
            let Some(text) = text_of(message, field)? else { continue };
            self.guarded.end_call().await?;
            let (pointer, start) = (format!("{at}/{field}"), self.guarded.received());
            if is_thinking {
                // Some servers send thinking under both names. It is judged once.
                if let Some((thought, start)) = thought {
                    if thought != text {
                        return Err(unjudged("reasoning_content and reasoning differ"));
                    }
                    parts.push(Part { pointer, start, length: text.len() });
                    continue;
                }
                thought = Some((text, start));
                self.guarded.thinking(text).await?;
            } else {
                self.guarded.text(text).await?;
            }
            parts.push(Part { pointer, start, length: text.len() });
        }
        self.judge_calls(message).await?;
        Ok(parts)
    }

    /// Tool calls are judged as Qwen's template writes them. They cannot be cut: they are sent whole or not at all.
    async fn judge_calls(&mut self, message: &Map<String, Value>) -> Result<(), Fault> {
        let calls = match message.get("tool_calls") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(calls)) => calls.iter().collect(),
            Some(_) => return Err(unjudged("tool_calls is not a list")),
        };
        for call in calls {
            if call.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "function") {
                return Err(unjudged("a tool call is of a type that cannot be judged"));
            }
            if call.get("custom").is_some_and(may_carry_text) {
                return Err(unjudged("a tool call is of a type that cannot be judged"));
            }
            match call.get("function") {
                None | Some(Value::Null) => {}
                Some(Value::Object(function)) => self.judge_call(function).await?,
                Some(_) => return Err(unjudged("a function is not an object")),
            }
        }
        match message.get("function_call") {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Object(function)) => self.judge_call(function).await,
            Some(_) => Err(unjudged("function_call is not an object")),
        }
    }

    async fn judge_call(&mut self, function: &Map<String, Value>) -> Result<(), Fault> {
        if let Some(name) = text_of(function, "name")? {
            self.guarded.call_name(name).await?;
        }
        if let Some(arguments) = text_of(function, "arguments")? {
            self.guarded.call_arguments(arguments).await?;
        }
        Ok(())
    }

    /// The chunks that may be sent now; after a stop the last of them, and an end.
    fn cleared(&mut self, index: u64) -> Vec<Sent> {
        let mut cleared = self.queue.cleared(&self.guarded);
        if self.guarded.is_stopped() && !self.is_over {
            self.is_over = true;
            if let Some(Held { mut event, parts, .. }) = self.queue.stopped() {
                let choice = &mut event.body["choices"][0];
                if choice.get("logprobs").is_some() {
                    choice["logprobs"] = Value::Null;
                }
                choice["finish_reason"] = Value::Null;
                without_calls(&mut choice["delta"]);
                let is_left = cut(&mut event.body, &parts, self.guarded.horizon());
                let mut end = event.clone();
                end.body["choices"] =
                    json!([{ "index": index, "delta": {}, "logprobs": null, "finish_reason": "content_filter" }]);
                cleared.extend(is_left.then_some(event));
                cleared.push(end);
            }
        }
        cleared
    }
}

/// Takes tool calls away, which cannot be cut.
fn without_calls(message: &mut Value) {
    if let Some(message) = message.as_object_mut() {
        message.retain(|field, _| !matches!(field.as_str(), "tool_calls" | "function_call"));
    }
}

/// A text that is there and not empty.
pub(super) fn text_of<'v>(map: &'v Map<String, Value>, field: &str) -> Result<Option<&'v str>, Fault> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(unjudged(format!("{field} is not a text"))),
    }
}

/// Refuses text in fields that are not judged.
fn check_fields(message: &Map<String, Value>) -> Result<(), Fault> {
    let is_known = |field: &str| TEXTS.iter().any(|(known, _)| *known == field) || OTHERS.contains(&field);
    match message.iter().find(|(field, value)| !is_known(field) && may_carry_text(value)) {
        Some((field, _)) => Err(unjudged(format!("the field {field:?} of the answer cannot be judged"))),
        None => Ok(()),
    }
}

fn check_choice(choice: &Value, of: &str) -> Result<(), Fault> {
    let known = ["index", of, "logprobs", "finish_reason", "stop_reason"];
    let fields = choice.as_object().ok_or_else(|| unjudged("a choice is not an object"))?;
    match fields.iter().find(|(field, value)| !known.contains(&field.as_str()) && may_carry_text(value)) {
        Some((field, _)) => Err(unjudged(format!("the field {field:?} of a choice cannot be judged"))),
        None => Ok(()),
    }
}

/// Takes away what was not judged.
fn tidy(choice: &mut Value, of: &str) {
    strip_at(Some(choice), &[of, "logprobs"], &["finish_reason", "stop_reason"]);
    let Some(Value::Object(message)) = choice.get_mut(of) else { return };
    let kept: Vec<&str> = TEXTS.iter().map(|(field, _)| *field).chain(["tool_calls", "function_call"]).collect();
    strip(message, &kept, &["role"]);
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        strip_at(Some(call), &["function"], &["id", "type"]);
        strip_at(call.get_mut("function"), &["name", "arguments"], &[]);
    }
    strip_at(message.get_mut("function_call"), &["name", "arguments"], &[]);
    let said: String = ["content", "refusal"].iter().filter_map(|field| message.get(*field)?.as_str()).collect();
    if let Some(logprobs) = choice.get_mut("logprobs") {
        keep_logprobs(logprobs, &said);
    }
}

pub(super) fn may_carry_text(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}
