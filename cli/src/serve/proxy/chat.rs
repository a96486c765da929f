//! Chat completions: what of an answer is text, how it is judged, and how it is cut.
//!
//! A chunk is held until the guard has cleared all of its text. Where the guard stops an answer, the last chunk is cut there
//! and the answer ends as one that a content filter ended.

use std::collections::{BTreeMap, VecDeque};

use qwenguard::Violation;
use serde_json::{Map, Value, json};

use super::guarded::Guarded;
use crate::{
    message,
    serve::{calls::Judge, fault::Fault},
};

/// Fields of a message or a delta with text that is shown, in the order in which they are judged, and whether it is thinking.
const TEXTS: [(&str, bool); 4] =
    [("reasoning_content", true), ("reasoning", true), ("content", false), ("refusal", false)];

/// Fields that hold no text of the model, or whose text is judged in a way of its own.
const OTHERS: [&str; 3] = ["role", "tool_calls", "function_call"];

/// Choices of an answer that are guarded at once.
const CHOICES: usize = 128;

/// The answers to one prompt.
pub(crate) struct Answers {
    /// The prompt, judged. Each answer goes on from it.
    prompt: Judge,
    choices: BTreeMap<u64, Choice>,
    /// How many answers were asked for.
    wanted: usize,
}

struct Choice {
    guarded: Guarded,
    held: VecDeque<Held>,
    /// Nothing more of it is sent.
    is_over: bool,
    /// A tool call's arguments are being written.
    in_call: bool,
    /// The beginning of an escape in those.
    escape: String,
}

/// A chunk whose text is not all cleared.
struct Held {
    chunk: Value,
    parts: Vec<Part>,
    /// It may be sent when so much of the answer may be shown.
    end: usize,
}

/// Text of a chunk that can be cut.
struct Part {
    field: &'static str,
    /// Where in the answer it starts.
    start: usize,
    length: usize,
}

impl Answers {
    pub(crate) fn new(prompt: Judge, wanted: usize) -> Self {
        Answers { prompt, choices: BTreeMap::new(), wanted }
    }

    /// Whether the guard has stopped all answers: nothing that comes is sent.
    pub(crate) fn are_over(&self) -> bool {
        self.choices.len() >= self.wanted && self.choices.values().all(|choice| choice.is_over)
    }

    fn choice(&mut self, index: u64) -> Result<&mut Choice, Fault> {
        if !self.choices.contains_key(&index) {
            if self.choices.len() == CHOICES {
                return Err(unjudged(format!("the answer has more than {CHOICES} choices")));
            }
            let guarded = Guarded::new(self.prompt.fork()?);
            let choice =
                Choice { guarded, held: VecDeque::new(), is_over: false, in_call: false, escape: String::new() };
            self.choices.insert(index, choice);
        }
        Ok(self.choices.get_mut(&index).expect("it was just put there"))
    }

    /// Takes a chunk of a stream, and gives the chunks that may be sent now.
    pub(crate) async fn chunk(&mut self, chunk: Value) -> Result<Vec<Value>, Fault> {
        let Value::Object(mut fields) = chunk else { return Err(unjudged("a chunk is not an object")) };
        let choices = match fields.insert("choices".into(), Value::Array(Vec::new())) {
            Some(Value::Array(choices)) => choices,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err(unjudged("choices is not a list")),
        };
        if choices.is_empty() {
            return Ok(vec![Value::Object(fields)]);
        }
        let mut cleared = Vec::new();
        for choice in choices {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or_default();
            let mut chunk = fields.clone();
            chunk.insert("choices".into(), json!([choice]));
            cleared.extend(self.choice(index)?.take(index, Value::Object(chunk)).await?);
        }
        Ok(cleared)
    }

    /// The stream has ended: what is held is judged to its end. Gives what may be sent.
    pub(crate) async fn end(&mut self) -> Result<Vec<Value>, Fault> {
        let mut cleared = Vec::new();
        for (index, choice) in &mut self.choices {
            choice.end_call().await?;
            choice.guarded.finish().await?;
            cleared.extend(choice.cleared(*index));
        }
        Ok(cleared)
    }

    /// What was found, whether it stops an answer or not.
    pub(crate) fn take_reported(&mut self) -> Vec<Violation> {
        self.choices.values_mut().flat_map(|choice| choice.guarded.take_reported()).collect()
    }

    /// Judges a whole completion. `None` if it may be sent as it is.
    pub(crate) async fn whole(&mut self, completion: &Value) -> Result<Option<Value>, Fault> {
        let choices = completion.get("choices").and_then(Value::as_array);
        let choices = choices.ok_or_else(|| unjudged("the answer has no list of choices"))?;
        let mut guarded = completion.clone();
        let mut is_cut = false;
        for (place, choice) in choices.iter().enumerate() {
            let message = choice.get("message").and_then(Value::as_object);
            let message = message.ok_or_else(|| unjudged(format!("choices[{place}] has no message")))?;
            let of = self.choice(place as u64)?;
            let parts = of.judge(message).await?;
            of.end_call().await?;
            of.guarded.finish().await?;
            if of.guarded.is_stopped() {
                is_cut = true;
                let horizon = of.guarded.horizon();
                let choice = &mut guarded["choices"][place];
                cut(&mut choice["message"], &parts, horizon);
                choice["finish_reason"] = "content_filter".into();
                if choice.get("logprobs").is_some() {
                    choice["logprobs"] = Value::Null;
                }
            }
        }
        Ok(is_cut.then_some(guarded))
    }

    /// Violations that stopped answers.
    pub(crate) fn stops(&self) -> impl Iterator<Item = &Violation> {
        self.choices.values().filter_map(|choice| choice.guarded.stop())
    }
}

impl Choice {
    /// Takes the next chunk of this choice alone.
    async fn take(&mut self, index: u64, chunk: Value) -> Result<Vec<Value>, Fault> {
        if self.is_over {
            return Ok(Vec::new());
        }
        let choice = &chunk["choices"][0];
        let nothing = Map::new();
        let delta = match choice.get("delta") {
            None | Some(Value::Null) => &nothing,
            Some(Value::Object(delta)) => delta,
            Some(_) => return Err(unjudged("a delta is not an object")),
        };
        check_choice(choice)?;
        let parts = self.judge(delta).await?;
        if choice.get("finish_reason").is_some_and(|reason| !reason.is_null()) {
            self.end_call().await?;
            self.guarded.finish().await?;
        }
        self.held.push_back(Held { parts, end: self.guarded.received(), chunk });
        Ok(self.cleared(index))
    }

    /// Judges the text of a message or a delta.
    async fn judge(&mut self, message: &Map<String, Value>) -> Result<Vec<Part>, Fault> {
        check_fields(message)?;
        let mut parts = Vec::new();
        let mut thought: Option<&str> = None;
        for (field, is_thinking) in TEXTS {
            let Some(text) = text_of(message, field)? else { continue };
            let start = self.guarded.received();
            if is_thinking {
                // Some servers send thinking under both names. It is judged once.
                if let Some(thought) = thought.replace(text) {
                    if thought != text {
                        return Err(unjudged("reasoning_content and reasoning differ"));
                    }
                    parts.push(Part { field, start: start - text.len(), length: text.len() });
                    continue;
                }
                self.guarded.thinking(text).await?;
            } else {
                self.end_call().await?;
                self.guarded.text(text).await?;
            }
            parts.push(Part { field, start, length: text.len() });
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
            match call.get("function") {
                None | Some(Value::Null) if call.get("custom").is_none() => {}
                Some(Value::Object(function)) => self.judge_call(function).await?,
                _ => return Err(unjudged("a tool call has no function")),
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
            self.end_call().await?;
            self.guarded.text(&format!("\n<tool_call>\n{{\"name\": \"{name}\", \"arguments\": ")).await?;
            self.in_call = true;
        }
        if let Some(arguments) = text_of(function, "arguments")? {
            // Letters that are spelled as escapes are judged as letters.
            let all = std::mem::take(&mut self.escape) + arguments;
            let (whole, begun) = all.split_at(message::whole_escapes(&all));
            self.escape = begun.to_owned();
            self.guarded.text(&message::unescape(whole)).await?;
        }
        Ok(())
    }

    async fn end_call(&mut self) -> Result<(), Fault> {
        if std::mem::take(&mut self.in_call) {
            let rest = std::mem::take(&mut self.escape);
            self.guarded.text(&(rest + "}\n</tool_call>\n")).await?;
        }
        Ok(())
    }

    /// The chunks that may be sent now; after a stop the last of them, and an end.
    fn cleared(&mut self, index: u64) -> Vec<Value> {
        let horizon = self.guarded.horizon();
        let mut cleared = Vec::new();
        while self.held.front().is_some_and(|held| held.end <= horizon && !(self.guarded.is_stopped() && ends(held))) {
            cleared.extend(self.held.pop_front().map(|held| held.chunk));
        }
        if self.guarded.is_stopped() && !self.is_over {
            self.is_over = true;
            if let Some(mut held) = self.held.pop_front() {
                let choice = &mut held.chunk["choices"][0];
                if choice.get("logprobs").is_some() {
                    choice["logprobs"] = Value::Null;
                }
                choice["finish_reason"] = Value::Null;
                let is_left = cut(&mut choice["delta"], &held.parts, horizon);
                let mut end = held.chunk.clone();
                end["choices"] =
                    json!([{ "index": index, "delta": {}, "logprobs": null, "finish_reason": "content_filter" }]);
                cleared.extend(is_left.then_some(held.chunk));
                cleared.push(end);
            }
            self.held.clear();
        }
        cleared
    }
}

/// Whether a chunk says how its choice ended.
fn ends(held: &Held) -> bool {
    held.chunk["choices"][0].get("finish_reason").is_some_and(|reason| !reason.is_null())
}

/// Cuts the texts of a message at the horizon, and takes its tool calls away. Tells whether text is left.
fn cut(message: &mut Value, parts: &[Part], horizon: usize) -> bool {
    let Some(message) = message.as_object_mut() else { return false };
    message.retain(|field, _| !matches!(field.as_str(), "tool_calls" | "function_call"));
    let mut is_left = false;
    for Part { field, start, length } in parts {
        let end = horizon.saturating_sub(*start).min(*length);
        if let Some(Value::String(text)) = message.get_mut(*field) {
            // The horizon is between characters; what is not is the guard's error, and is not shown.
            let end = (0..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
            text.truncate(end);
            is_left |= end > 0;
        }
    }
    is_left
}

/// A text that is there and not empty.
fn text_of<'v>(map: &'v Map<String, Value>, field: &str) -> Result<Option<&'v str>, Fault> {
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

fn check_choice(choice: &Value) -> Result<(), Fault> {
    let known = ["index", "delta", "logprobs", "finish_reason", "stop_reason"];
    let fields = choice.as_object().ok_or_else(|| unjudged("a choice is not an object"))?;
    match fields.iter().find(|(field, value)| !known.contains(&field.as_str()) && may_carry_text(value)) {
        Some((field, _)) => Err(unjudged(format!("the field {field:?} of a choice cannot be judged"))),
        None => Ok(()),
    }
}

fn may_carry_text(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The upstream's answer has something that the guard cannot judge, and so nothing more of it is sent.
pub(super) fn unjudged(reason: impl std::fmt::Display) -> Fault {
    let message = format!("the upstream's answer cannot be judged: {reason}");
    Fault::server(axum::http::StatusCode::BAD_GATEWAY, "unjudged_answer", message)
}
