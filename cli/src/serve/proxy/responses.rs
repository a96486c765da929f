//! OpenAI's Responses: what of an answer is text, how it is judged, and how it is cut.
//!
//! Events tell a text twice: in pieces, and whole at the end of a part, of an item and of the response. Each repetition must
//! be of what was judged. An answer that the guard stops ends as `response.incomplete`, for the reason `content_filter`.

use std::collections::BTreeMap;

use qwenguard::Violation;
use serde_json::{Map, Value, json};

use super::{
    ASIDE, After, Asked, NAMES, Protocol,
    chat::{may_carry_text, text_of},
    events::Message,
    guarded::Guarded,
    held::{Held, Part, Queue, Sent, cut, cut_list},
    shape::{self, is_opaque, keep_logprobs, strip},
    unjudged,
};
use crate::{
    json,
    message::check_rest,
    serve::{calls::Judge, fault::Fault},
};

/// Names that items and their parts have.
const ITEM_NAMES: [&str; 7] = ["type", "id", "status", "role", "call_id", "phase", "object"];

/// Names that a response has.
const RESPONSE_NAMES: [&str; 6] = ["id", "object", "status", "model", "service_tier", "previous_response_id"];

pub(super) struct Answer {
    guarded: Guarded,
    queue: Queue,
    /// The texts that were judged, by output, part and kind.
    heard: BTreeMap<String, String>,
    shown: Shown,
}

/// What the client was told, from which an end is made.
#[derive(Default)]
struct Shown {
    /// The response without its output.
    response: Value,
    /// Items that are complete.
    items: Vec<Value>,
    /// The event by which an item began that is not complete, with what it has so far.
    item: Option<Value>,
    /// The same of a part of it.
    part: Option<Value>,
    sequence: u64,
}

impl Protocol for Answer {
    const PATH: &'static str = "/responses";
    const LAST_WORDS: &'static str = "";

    fn asked(request: &Map<String, Value>) -> Result<Asked, Fault> {
        for field in ["previous_response_id", "conversation", "prompt"] {
            if request.get(field).is_some_and(|value| !value.is_null()) {
                return Err(Fault::field(
                    field,
                    format!("{field} names text that the guard does not see: send all of the input"),
                ));
            }
        }
        check_rest("", request, &[&["input", "instructions"], &ASIDE[..]].concat(), &NAMES).map_err(Fault::request)?;
        let mut messages = Vec::new();
        if let Some(instructions) = request.get("instructions").filter(|instructions| !instructions.is_null()) {
            messages.push(json!({ "role": "system", "content": instructions }));
        }
        match request.get("input") {
            Some(text @ Value::String(_)) => messages.push(json!({ "role": "user", "content": text })),
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let read = read(&format!("input[{index}]"), item);
                    messages.extend(read.map_err(|reason| Fault::field("input", reason))?);
                }
            }
            _ => return Err(Fault::field("input", "input is neither a text nor a list")),
        }
        let tools = request.get("tools").and_then(Value::as_array).into_iter().flatten();
        if let Some(tool) = tools.into_iter().find(|tool| tool["type"] != "function") {
            return Err(Fault::field(
                "tools",
                format!("tools of type {} write text that the guard does not see", tool["type"]),
            ));
        }
        Ok(Asked { messages, field: "input", answers: 1 })
    }

    fn new(prompt: Judge, _: usize) -> Self {
        Answer {
            guarded: Guarded::new(prompt),
            queue: Queue::default(),
            heard: BTreeMap::new(),
            shown: Shown::default(),
        }
    }

    async fn event(&mut self, event: Message) -> Result<(Vec<Sent>, After), Fault> {
        let body = json::read_object(event.data.as_bytes(), &mut Value::Null);
        let body = body.map_err(|reason| unjudged(format!("an event: {reason}")))?;
        let kind = text_of(&body, "type")?.unwrap_or_default().to_owned();
        if kind == "error" {
            return Ok((vec![Sent::named(shape::error(&Value::Object(body), None))], After::Broken));
        }
        let mut body = Value::Object(body);
        let parts = self.judge(&kind, &body).await?;
        tidy(&mut body);
        let is_end = matches!(&*kind, "response.completed" | "response.incomplete" | "response.failed");
        let bytes = event.data.len();
        let event = Sent::named(body);
        self.queue.push(Held { event, parts, end: self.guarded.received(), is_end }, bytes)?;
        let cleared = self.cleared();
        Ok((cleared, if is_end || self.guarded.is_stopped() { After::Done } else { After::More }))
    }

    async fn end(&mut self) -> Result<Vec<Sent>, Fault> {
        self.guarded.finish().await?;
        Ok(self.cleared())
    }

    async fn whole(&mut self, answer: &Value) -> Result<Value, Fault> {
        let items = answer.get("output").and_then(Value::as_array);
        let items = items.ok_or_else(|| unjudged("the answer has no list of output"))?;
        let mut parts = Vec::new();
        let mut ends = Vec::new();
        for (index, item) in items.iter().enumerate() {
            parts.extend(self.item(&format!("/output/{index}"), item).await?);
            self.guarded.end_call().await?;
            ends.push(self.guarded.received());
        }
        self.guarded.finish().await?;
        let mut guarded = answer.clone();
        tidy_response(Some(&mut guarded));
        if !self.guarded.is_stopped() {
            return Ok(guarded);
        }
        without_logprobs(&mut guarded["output"]);
        cut_list(&mut guarded, "/output", &parts, &ends, self.guarded.horizon());
        guarded["status"] = "incomplete".into();
        guarded["incomplete_details"] = json!({ "reason": "content_filter" });
        Ok(guarded)
    }

    fn findings_event(findings: Vec<Value>) -> Sent {
        // Libraries read events of this family, and hand on those that they do not know.
        Sent::named(json!({ "type": "response.qwenguard.findings", "findings": findings }))
    }

    fn found(&mut self) -> (Vec<Violation>, Vec<Violation>) {
        (self.guarded.stop().cloned().into_iter().collect(), self.guarded.take_reported())
    }

    fn error_event(fault: &Fault) -> Sent {
        let error = fault.body()["error"].take();
        Sent::named(
            json!({ "type": "error", "code": error["code"], "message": error["message"], "param": error["param"] }),
        )
    }
}

impl Answer {
    /// Judges what an event says.
    async fn judge(&mut self, kind: &str, body: &Value) -> Result<Vec<Part>, Fault> {
        match kind.strip_prefix("response.").unwrap_or_default() {
            "created" | "in_progress" | "queued" => empty(&body["response"]["output"])?,
            "output_item.added" => self.begin_item(&body["item"]).await?,
            "content_part.added" | "reasoning_summary_part.added" => {
                let part = &body["part"];
                empty(&part["text"]).and(empty(&part["refusal"])).and(empty(&part["annotations"]))?;
            }
            "output_text.delta" | "refusal.delta" => return self.delta(kind, body, false).await,
            "reasoning_text.delta" | "reasoning_summary_text.delta" => return self.delta(kind, body, true).await,
            "function_call_arguments.delta" => {
                let delta = text_in(body, "delta")?.unwrap_or_default();
                self.heard.entry(key(kind, body)).or_default().push_str(delta);
                self.guarded.call_arguments(delta).await?;
            }
            "output_text.done"
            | "refusal.done"
            | "reasoning_text.done"
            | "reasoning_summary_text.done"
            | "function_call_arguments.done" => {
                for field in ["text", "refusal", "arguments"] {
                    self.was_heard(text_in(body, field)?.unwrap_or_default())?;
                }
            }
            "content_part.done" | "reasoning_summary_part.done" => self.repeats(&body["part"])?,
            "output_item.done" => {
                self.guarded.end_call().await?;
                self.repeats(&body["item"])?;
            }
            "completed" | "incomplete" | "failed" => {
                self.guarded.finish().await?;
                self.repeats(&body["response"]["output"])?;
            }
            _ => return Err(unjudged(format!("an event of type {kind:?} is not known"))),
        }
        Ok(Vec::new())
    }

    async fn begin_item(&mut self, item: &Value) -> Result<(), Fault> {
        self.guarded.end_call().await?;
        match item["type"].as_str().unwrap_or_default() {
            "message" => empty(&item["content"]),
            "reasoning" => empty(&item["content"]).and(empty(&item["summary"])),
            "function_call" => {
                let name = text_in(item, "name")?.unwrap_or_default();
                self.heard.insert(format!("name {}", self.heard.len()), name.to_owned());
                self.guarded.call_name(name).await?;
                empty(&item["arguments"])
            }
            kind => Err(unjudged(format!("an item of type {kind:?} is not known"))),
        }
    }

    async fn delta(&mut self, kind: &str, body: &Value, is_thinking: bool) -> Result<Vec<Part>, Fault> {
        let text = text_in(body, "delta")?.unwrap_or_default();
        self.heard.entry(key(kind, body)).or_default().push_str(text);
        let start = self.guarded.received();
        if is_thinking {
            self.guarded.thinking(text).await?
        } else {
            self.guarded.text(text).await?
        }
        Ok(vec![Part { pointer: "/delta".into(), start, length: text.len() }])
    }

    fn was_heard(&self, text: &str) -> Result<(), Fault> {
        match text.is_empty() || self.heard.values().any(|heard| heard == text) {
            true => Ok(()),
            false => Err(unjudged("what is told at the end was not told before")),
        }
    }

    /// All text in what is repeated must have been judged.
    fn repeats(&self, value: &Value) -> Result<(), Fault> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.repeats(item)),
            Value::Object(fields) => fields.iter().try_for_each(|(field, value)| match value {
                // They are looked into when the event is tidied.
                _ if field == "logprobs" => Ok(()),
                Value::String(_) if ITEM_NAMES.contains(&field.as_str()) => Ok(()),
                value if field == "encrypted_content" && is_opaque(Some(value)) => Ok(()),
                Value::String(text) => self.was_heard(text),
                value => self.repeats(value),
            }),
            Value::String(text) => self.was_heard(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    /// Judges an item that came whole.
    async fn item(&mut self, at: &str, item: &Value) -> Result<Vec<Part>, Fault> {
        let mut parts = Vec::new();
        let lists: &[&str] = match item["type"].as_str().unwrap_or_default() {
            "message" => &["content"],
            "reasoning" => &["summary", "content"],
            "function_call" => {
                self.guarded.call_name(text_in(item, "name")?.unwrap_or_default()).await?;
                self.guarded.call_arguments(text_in(item, "arguments")?.unwrap_or_default()).await?;
                return Ok(parts);
            }
            kind => return Err(unjudged(format!("an item of type {kind:?} is not known"))),
        };
        for list in lists {
            for (index, part) in list_in(item, list)?.iter().enumerate() {
                let (field, is_thinking) = match part["type"].as_str().unwrap_or_default() {
                    "output_text" => ("text", false),
                    "refusal" => ("refusal", false),
                    "summary_text" | "reasoning_text" => ("text", true),
                    kind => return Err(unjudged(format!("a part of type {kind:?} is not known"))),
                };
                empty(&part["annotations"])?;
                let text = part[field].as_str().ok_or_else(|| unjudged(format!("{field} is not a text")))?;
                let start = self.guarded.received();
                if is_thinking {
                    self.guarded.thinking(text).await?
                } else {
                    self.guarded.text(text).await?
                }
                parts.push(Part { pointer: format!("{at}/{list}/{index}/{field}"), start, length: text.len() });
            }
        }
        Ok(parts)
    }

    /// The events that may be sent now; after a stop the last of them, and an end.
    fn cleared(&mut self) -> Vec<Sent> {
        let mut cleared = self.queue.cleared(&self.guarded);
        if self.guarded.is_stopped()
            && let Some(Held { mut event, parts, .. }) = self.queue.stopped()
            && cut(&mut event.body, &parts, self.guarded.horizon())
        {
            if event.body.get("logprobs").is_some() {
                event.body["logprobs"] = json!([]);
            }
            cleared.push(event);
        }
        cleared.iter().for_each(|event| self.shown.take(&event.body));
        if self.guarded.is_stopped() {
            cleared.extend(self.shown.end());
        }
        cleared
    }
}

impl Shown {
    fn take(&mut self, body: &Value) {
        self.sequence = body["sequence_number"].as_u64().unwrap_or(self.sequence);
        let kind = body["type"].as_str().unwrap_or_default();
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => self.response = body["response"].clone(),
            "response.output_item.added" => self.item = Some(body.clone()),
            "response.output_item.done" => {
                self.item = None;
                self.items.push(body["item"].clone());
            }
            "response.content_part.added" => self.part = Some(body.clone()),
            "response.content_part.done" => {
                self.part = None;
                self.add_part(body["part"].clone());
            }
            "response.output_text.delta" | "response.refusal.delta" | "response.reasoning_text.delta" => {
                let field = if kind == "response.refusal.delta" { "refusal" } else { "text" };
                if let Some(part) = self.part.as_mut().filter(|part| part["part"].is_object()) {
                    let text = part["part"][field].as_str().unwrap_or_default().to_owned();
                    part["part"][field] = (text + body["delta"].as_str().unwrap_or_default()).into();
                }
            }
            _ => {}
        }
    }

    fn add_part(&mut self, part: Value) {
        if let Some(Value::Array(content)) = self.item.as_mut().map(|item| &mut item["item"]["content"]) {
            content.push(part);
        }
    }

    /// The events that end what has begun.
    fn end(&mut self) -> Vec<Sent> {
        let mut events = Vec::new();
        if let Some(mut part) = self.part.take() {
            let kind = part["part"]["type"].as_str().unwrap_or_default().to_owned();
            let field = if kind == "refusal" { "refusal" } else { "text" };
            let mut text = json!({ "type": format!("response.{kind}.done") });
            for name in ["item_id", "output_index", "content_index"] {
                text[name] = part[name].clone();
            }
            text[field] = part["part"][field].clone();
            if kind == "output_text" {
                text["logprobs"] = json!([]);
            }
            events.push(text);
            part["type"] = "response.content_part.done".into();
            self.add_part(part["part"].clone());
            events.push(part);
        }
        if let Some(mut item) = self.item.take() {
            item["type"] = "response.output_item.done".into();
            item["item"]["status"] = "incomplete".into();
            self.items.push(item["item"].clone());
            events.push(item);
        }
        let mut response = self.response.take();
        if response.is_object() {
            response["status"] = "incomplete".into();
            response["incomplete_details"] = json!({ "reason": "content_filter" });
            response["output"] = std::mem::take(&mut self.items).into();
        }
        events.push(json!({ "type": "response.incomplete", "response": response }));
        let numbered = |mut body: Value| {
            self.sequence += 1;
            body["sequence_number"] = self.sequence.into();
            Sent::named(body)
        };
        events.into_iter().map(numbered).collect()
    }
}

/// Takes away of an event what was not judged.
fn tidy(event: &mut Value) {
    let Some(fields) = event.as_object_mut() else { return };
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    let judged: &[&str] = match kind.rsplit('.').next().unwrap_or_default() {
        "delta" => &["delta", "logprobs"],
        "done" => &["item", "part", "text", "refusal", "arguments", "logprobs"],
        _ => &["item", "part", "response"],
    };
    strip(fields, judged, &["type", "item_id"]);
    let said = ["delta", "text"].iter().find_map(|field| fields.get(*field)?.as_str().map(str::to_owned));
    if let Some(logprobs) = fields.get_mut("logprobs") {
        keep_logprobs(logprobs, &said.unwrap_or_default());
    }
    tidy_item(fields.get_mut("item"));
    tidy_part(fields.get_mut("part"));
    tidy_response(fields.get_mut("response"));
}

fn tidy_response(response: Option<&mut Value>) {
    let Some(Value::Object(fields)) = response else { return };
    let reason = fields.get("incomplete_details").and_then(|details| details["reason"].as_str()).map(str::to_owned);
    let error =
        fields.get("error").filter(|error| error.is_object()).map(|error| shape::error(error, None)["error"].take());
    strip(fields, &["output"], &RESPONSE_NAMES);
    if let Some(reason) = reason.filter(|reason| is_opaque(Some(&reason.as_str().into()))) {
        fields.insert("incomplete_details".into(), json!({ "reason": reason }));
    }
    if let Some(error) = error {
        fields.insert("error".into(), json!({ "code": error["code"], "message": error["message"] }));
    }
    fields.get_mut("output").and_then(Value::as_array_mut).into_iter().flatten().for_each(|item| tidy_item(Some(item)));
}

fn tidy_item(item: Option<&mut Value>) {
    let Some(Value::Object(fields)) = item else { return };
    if !is_opaque(fields.get("encrypted_content")) {
        fields.remove("encrypted_content");
    }
    strip(fields, &["name", "arguments", "content", "summary", "encrypted_content"], &ITEM_NAMES);
    for list in ["content", "summary"] {
        fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(|part| tidy_part(Some(part)));
    }
}

fn tidy_part(part: Option<&mut Value>) {
    let Some(Value::Object(fields)) = part else { return };
    strip(fields, &["text", "refusal", "logprobs"], &ITEM_NAMES);
    let said = fields.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(logprobs) = fields.get_mut("logprobs") {
        keep_logprobs(logprobs, &said);
    }
}

/// Of items that are cut.
fn without_logprobs(output: &mut Value) {
    for item in output.as_array_mut().into_iter().flatten() {
        for part in item.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(logprobs) = part.get_mut("logprobs") {
                *logprobs = json!([]);
            }
        }
    }
}

fn text_in<'v>(value: &'v Value, field: &str) -> Result<Option<&'v str>, Fault> {
    value.as_object().map_or(Ok(None), |fields| text_of(fields, field))
}

fn list_in<'v>(value: &'v Value, field: &str) -> Result<&'v [Value], Fault> {
    match &value[field] {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        _ => Err(unjudged(format!("{field} is not a list"))),
    }
}

/// Which text a delta is of.
fn key(kind: &str, body: &Value) -> String {
    let number = |field: &str| body.get(field).and_then(Value::as_u64).unwrap_or_default();
    format!("{kind} {} {} {}", number("output_index"), number("content_index"), number("summary_index"))
}

fn empty(value: &Value) -> Result<(), Fault> {
    if may_carry_text(value) { Err(unjudged("what begins has content already")) } else { Ok(()) }
}

/// An item of the input as clients of chat completions write it.
fn read(at: &str, item: &Value) -> Result<Option<Value>, String> {
    let fields = item.as_object().ok_or_else(|| format!("{at} is not an object"))?;
    let kind = item["type"].as_str().unwrap_or("message");
    Ok(Some(match kind {
        "message" => {
            check_rest(at, fields, &["type", "role", "content"], &["id", "status", "phase"])?;
            json!({ "role": item["role"], "content": item["content"] })
        }
        "function_call" => {
            check_rest(at, fields, &["type", "name", "arguments"], &["id", "call_id", "status"])?;
            let function = json!({ "name": item["name"], "arguments": item["arguments"] });
            json!({ "role": "assistant", "content": null, "tool_calls": [{ "type": "function", "function": function }] })
        }
        "function_call_output" => {
            check_rest(at, fields, &["type", "output"], &["id", "call_id", "status"])?;
            json!({ "role": "tool", "content": item["output"] })
        }
        // Earlier thinking, which the guard's template leaves out, too.
        "reasoning" => return Ok(None),
        kind => return Err(format!("{at}: an item of type {kind:?} cannot be judged")),
    }))
}
