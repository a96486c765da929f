//! Anthropic's Messages: what of an answer is text, how it is judged, and how it is cut.
//!
//! An answer is a list of blocks: text, thinking, and calls of tools. One that the guard stops ends with the stop reason
//! `refusal`.

use qwenguard::Violation;
use serde_json::{Map, Value, json};

use super::{
    ASIDE, After, Asked, NAMES, Protocol,
    chat::{may_carry_text, text_of},
    events::Message,
    guarded::Guarded,
    held::{Held, Part, Queue, Sent, cut, cut_list},
    shape::{self, is_opaque, strip, strip_at},
    unjudged,
};
use crate::{
    json,
    message::check_rest,
    serve::{calls::Judge, fault::Fault},
};

pub(super) struct Answer {
    guarded: Guarded,
    queue: Queue,
    /// The block of the client's stream that has begun and not ended.
    open: Option<u64>,
    /// The last count of tokens that was sent.
    output_tokens: u64,
}

impl Protocol for Answer {
    const PATH: &'static str = "/messages";
    const LAST_WORDS: &'static str = "";

    fn asked(request: &Map<String, Value>) -> Result<Asked, Fault> {
        let of_field = |reason| Fault::field("messages", reason);
        let messages = request.get("messages").and_then(Value::as_array);
        let messages = messages.ok_or_else(|| of_field("messages is not a list".into()))?;
        check_rest("", request, &[&["messages", "system"], &ASIDE[..]].concat(), &NAMES).map_err(Fault::request)?;
        let mut said = Vec::new();
        if let Some(system) = request.get("system").filter(|system| !system.is_null()) {
            said.push(json!({ "role": "system", "content": system }));
        }
        for (index, message) in messages.iter().enumerate() {
            said.extend(read(&format!("messages[{index}]"), message).map_err(of_field)?);
        }
        Ok(Asked { messages: said, field: "messages", answers: 1 })
    }

    fn new(prompt: Judge, _: usize) -> Self {
        Answer { guarded: Guarded::new(prompt), queue: Queue::default(), open: None, output_tokens: 0 }
    }

    async fn event(&mut self, event: Message) -> Result<(Vec<Sent>, After), Fault> {
        let body = json::read_object(event.data.as_bytes(), &mut Value::Null);
        let body = body.map_err(|reason| unjudged(format!("an event: {reason}")))?;
        let (parts, is_end) = match text_of(&body, "type")?.unwrap_or_default() {
            "ping" => (Vec::new(), false),
            "error" => {
                let body = shape::error(&Value::Object(body), None);
                return Ok((vec![Sent::named(body)], After::Broken));
            }
            "message_start" => {
                self.begin(body.get("message"))?;
                (Vec::new(), false)
            }
            "content_block_start" => (self.block("/content_block", body.get("content_block")).await?, false),
            "content_block_delta" => (self.delta(body.get("delta")).await?, false),
            "content_block_stop" => {
                self.guarded.end_call().await?;
                (Vec::new(), false)
            }
            "message_delta" | "message_stop" => {
                self.guarded.finish().await?;
                (Vec::new(), true)
            }
            kind => return Err(unjudged(format!("an event of type {kind:?} is not known"))),
        };
        let is_stop = body.get("type").is_some_and(|kind| kind == "message_stop");
        let bytes = event.data.len();
        let mut body = body;
        tidy(&mut body);
        let event = Sent::named(Value::Object(body));
        self.queue.push(Held { event, parts, end: self.guarded.received(), is_end }, bytes)?;
        let cleared = self.cleared();
        Ok((cleared, if is_stop || self.guarded.is_stopped() { After::Done } else { After::More }))
    }

    async fn end(&mut self) -> Result<Vec<Sent>, Fault> {
        self.guarded.finish().await?;
        Ok(self.cleared())
    }

    async fn whole(&mut self, answer: &Value) -> Result<Value, Fault> {
        let blocks = answer.get("content").and_then(Value::as_array);
        let blocks = blocks.ok_or_else(|| unjudged("the answer has no list of content"))?;
        let mut parts = Vec::new();
        let mut ends = Vec::new();
        for (index, block) in blocks.iter().enumerate() {
            let at = format!("/content/{index}");
            parts.extend(self.block(&at, Some(block)).await?);
            self.guarded.end_call().await?;
            ends.push(self.guarded.received());
        }
        self.guarded.finish().await?;
        let mut guarded = answer.clone();
        strip_at(Some(&mut guarded), &["content"], &MESSAGE_NAMES);
        guarded["content"].as_array_mut().into_iter().flatten().for_each(|block| tidy_block(Some(block)));
        if !self.guarded.is_stopped() {
            return Ok(guarded);
        }
        cut_list(&mut guarded, "/content", &parts, &ends, self.guarded.horizon());
        guarded["stop_reason"] = "refusal".into();
        guarded["stop_sequence"] = Value::Null;
        Ok(guarded)
    }

    fn found(&mut self) -> (Vec<Violation>, Vec<Violation>) {
        (self.guarded.stop().cloned().into_iter().collect(), self.guarded.take_reported())
    }

    fn error(fault: &Fault) -> Value {
        let of_openai = fault.body();
        let kind = match fault.status.as_u16() {
            401 => "authentication_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            503 => "overloaded_error",
            _ => "api_error",
        };
        json!({ "type": "error", "error": { "type": kind, "message": of_openai["error"]["message"] } })
    }

    fn error_event(fault: &Fault) -> Sent {
        Sent::named(Self::error(fault))
    }
}

impl Answer {
    /// The message begins without text.
    fn begin(&mut self, message: Option<&Value>) -> Result<(), Fault> {
        let message = message.and_then(Value::as_object).ok_or_else(|| unjudged("a message is not an object"))?;
        if message.get("content").is_some_and(may_carry_text) {
            return Err(unjudged("a message begins with content"));
        }
        self.output_tokens =
            message.get("usage").map_or(0, |usage| usage["output_tokens"].as_u64().unwrap_or_default());
        Ok(())
    }

    /// Judges a block, as far as it is there.
    async fn block(&mut self, at: &str, block: Option<&Value>) -> Result<Vec<Part>, Fault> {
        let block = block.and_then(Value::as_object).ok_or_else(|| unjudged("a block is not an object"))?;
        let known: &[&str] = match text_of(block, "type")?.unwrap_or_default() {
            "text" => &["type", "text"],
            "thinking" => &["type", "thinking", "signature"],
            "tool_use" => &["type", "id", "name", "input"],
            // It is encrypted: nobody reads it but the model.
            "redacted_thinking" => {
                only(block, &["type", "data"])?;
                return if is_opaque(block.get("data")) {
                    Ok(Vec::new())
                } else {
                    Err(unjudged("data is not encrypted"))
                };
            }
            kind => return Err(unjudged(format!("a block of type {kind:?} is not known"))),
        };
        only(block, known)?;
        if !is_opaque(block.get("signature")) {
            return Err(unjudged("a signature is none"));
        }
        if block.get("type").is_some_and(|kind| kind == "tool_use") {
            let name = text_of(block, "name")?.ok_or_else(|| unjudged("a call has no name"))?;
            self.guarded.call_name(name).await?;
            if let Some(input) = block.get("input").filter(|input| may_carry_text(input)) {
                self.guarded.call_arguments(&input.to_string()).await?;
            }
            return Ok(Vec::new());
        }
        self.texts(at, block).await
    }

    async fn delta(&mut self, delta: Option<&Value>) -> Result<Vec<Part>, Fault> {
        let delta = delta.and_then(Value::as_object).ok_or_else(|| unjudged("a delta is not an object"))?;
        match text_of(delta, "type")?.unwrap_or_default() {
            "text_delta" => only(delta, &["type", "text"])?,
            "thinking_delta" => only(delta, &["type", "thinking"])?,
            "signature_delta" => {
                only(delta, &["type", "signature"])?;
                return if is_opaque(delta.get("signature")) {
                    Ok(Vec::new())
                } else {
                    Err(unjudged("a signature is none"))
                };
            }
            "input_json_delta" => {
                only(delta, &["type", "partial_json"])?;
                if let Some(json) = text_of(delta, "partial_json")? {
                    self.guarded.call_arguments(json).await?;
                }
                return Ok(Vec::new());
            }
            kind => return Err(unjudged(format!("a delta of type {kind:?} is not known"))),
        }
        self.texts("/delta", delta).await
    }

    /// Judges the text or the thinking of a block or a delta.
    async fn texts(&mut self, at: &str, block: &Map<String, Value>) -> Result<Vec<Part>, Fault> {
        let mut parts = Vec::new();
        for field in ["thinking", "text"] {
            let Some(text) = text_of(block, field)? else { continue };
            let start = self.guarded.received();
            if field == "thinking" {
                self.guarded.thinking(text).await?
            } else {
                self.guarded.text(text).await?
            }
            parts.push(Part { pointer: format!("{at}/{field}"), start, length: text.len() });
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
            cleared.push(event);
        }
        for event in &cleared {
            match event.body["type"].as_str() {
                Some("content_block_start") => self.open = event.body["index"].as_u64(),
                Some("content_block_stop") => self.open = None,
                _ => {}
            }
        }
        if self.guarded.is_stopped() {
            let stop = self.open.take().map(|index| json!({ "type": "content_block_stop", "index": index }));
            let delta = json!({ "stop_reason": "refusal", "stop_sequence": null });
            let usage = json!({ "output_tokens": self.output_tokens });
            let end =
                [json!({ "type": "message_delta", "delta": delta, "usage": usage }), json!({ "type": "message_stop" })];
            cleared.extend(stop.into_iter().chain(end).map(Sent::named));
        }
        cleared
    }
}

/// Names that a message has.
const MESSAGE_NAMES: [&str; 6] = ["id", "type", "role", "model", "stop_reason", "stop_sequence"];

/// Takes away of an event what was not judged.
fn tidy(event: &mut Map<String, Value>) {
    let kept: &[&str] = match event.get("type").and_then(Value::as_str).unwrap_or_default() {
        "message_start" => &["message"],
        "content_block_start" => &["content_block"],
        "content_block_delta" | "message_delta" => &["delta"],
        _ => &[],
    };
    strip(event, kept, &["type"]);
    strip_at(event.get_mut("message"), &[], &MESSAGE_NAMES);
    tidy_block(event.get_mut("content_block"));
    let judged: &[&str] = if event.get("type").is_some_and(|kind| kind == "message_delta") {
        &[]
    } else {
        &["text", "thinking", "partial_json", "signature"]
    };
    strip_at(event.get_mut("delta"), judged, &["type", "stop_reason", "stop_sequence"]);
}

fn tidy_block(block: Option<&mut Value>) {
    strip_at(block, &["text", "thinking", "signature", "data", "name", "input"], &["type", "id"]);
}

/// Refuses text in fields that are not judged.
fn only(map: &Map<String, Value>, known: &[&str]) -> Result<(), Fault> {
    match map.iter().find(|(field, value)| !known.contains(&field.as_str()) && may_carry_text(value)) {
        Some((field, _)) => Err(unjudged(format!("the field {field:?} of the answer cannot be judged"))),
        None => Ok(()),
    }
}

/// A message as clients of chat completions write it: results of tools are messages of their own there.
fn read(at: &str, message: &Value) -> Result<Vec<Value>, String> {
    let message = message.as_object().ok_or_else(|| format!("{at} is not an object"))?;
    check_rest(at, message, &["role", "content"], &["id"])?;
    let role = message.get("role").and_then(Value::as_str).ok_or_else(|| format!("{at}.role is not a text"))?;
    let blocks = match message.get("content") {
        Some(Value::Array(blocks)) => blocks,
        Some(content @ Value::String(_)) => return Ok(vec![json!({ "role": role, "content": content })]),
        _ => return Err(format!("{at}.content is neither a text nor a list of blocks")),
    };
    let mut said: Vec<Value> = Vec::new();
    let (mut parts, mut calls, mut thinking): (Vec<Value>, Vec<Value>, String) = Default::default();
    for (index, block) in blocks.iter().enumerate() {
        let at = format!("{at}.content[{index}]");
        let fields = block.as_object().ok_or_else(|| format!("{at} is not an object"))?;
        match block["type"].as_str().unwrap_or_default() {
            "text" => parts.push(block.clone()),
            "thinking" => {
                check_rest(&at, fields, &["type", "thinking", "signature"], &[])?;
                thinking += block["thinking"].as_str().ok_or_else(|| format!("{at}.thinking is not a text"))?;
            }
            // It is encrypted.
            "redacted_thinking" => check_rest(&at, fields, &["type", "data"], &[])?,
            "tool_use" => {
                check_rest(&at, fields, &["type", "id", "name", "input", "cache_control"], &[])?;
                calls.push(
                    json!({ "type": "function", "function": { "name": block["name"], "arguments": block["input"] } }),
                );
            }
            "tool_result" if role != "user" => return Err(format!("{at}: a result of a tool is the user's to send")),
            "tool_result" => {
                check_rest(&at, fields, &["type", "tool_use_id", "content", "is_error", "cache_control"], &[])?;
                if !parts.is_empty() {
                    said.push(json!({ "role": role, "content": std::mem::take(&mut parts) }));
                }
                let content = block.get("content").cloned().unwrap_or_else(|| "".into());
                said.push(json!({ "role": "tool", "content": content }));
            }
            kind => return Err(format!("{at}: a block of type {kind:?} cannot be judged")),
        }
    }
    if !(parts.is_empty() && calls.is_empty() && thinking.is_empty() && !said.is_empty()) {
        let mut rest = json!({ "role": role, "content": parts });
        if !calls.is_empty() {
            rest["tool_calls"] = calls.into();
        }
        if !thinking.is_empty() {
            rest["reasoning"] = thinking.into();
        }
        said.push(rest);
    }
    Ok(said)
}
