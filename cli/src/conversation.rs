//! A line of the input: one conversation.

use qwenguard::Message;
use serde_json::Value;

use crate::{
    json,
    message::{self, Answer, Said, ToolCalls},
};

/// Fields of a line that are not what anybody says. Clients send them along; they are not read.
const ASIDE: [&str; 6] = ["tools", "tool_choice", "functions", "function_call", "response_format", "metadata"];

/// Fields that name something. As text or number they are not read.
const LABELS: [&str; 6] = ["model", "user", "source", "label", "object", "service_tier"];

/// From here on, numbers that are no 64-bit integers lose digits: 2^53.
const LARGE: f64 = 9_007_199_254_740_992.0;

/// One line of the input.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// The caller's name for it; null if it has none.
    pub(crate) id: Value,
    pub(crate) history: Vec<Message>,
    pub(crate) answer: Option<Answer>,
}

/// A line that is no conversation.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its id, as far as it could be read.
    pub(crate) id: Value,
    pub(crate) reason: String,
}

impl Conversation {
    /// Reads a line.
    pub(crate) fn read(line: &[u8], tool_calls: ToolCalls) -> Result<Self, Refused> {
        let mut id = Value::Null;
        match read(line, &mut id, |messages| message::read_messages(messages, tool_calls)) {
            Ok(Said { history, answer }) => Ok(Conversation { id, history, answer }),
            Err(reason) => Err(Refused { id, reason }),
        }
    }
}

/// Reads a line for a verdict on the whole: its id, and all messages.
pub(crate) fn read_whole(line: &[u8], tool_calls: ToolCalls) -> Result<(Value, Vec<Message>), Refused> {
    let mut id = Value::Null;
    match read(line, &mut id, |messages| message::read_whole(messages, tool_calls)) {
        Ok(messages) => Ok((id, messages)),
        Err(reason) => Err(Refused { id, reason }),
    }
}

fn read<T>(line: &[u8], id: &mut Value, said: impl FnOnce(&[Value]) -> Result<T, String>) -> Result<T, String> {
    let object = json::read_object(line, id)?;
    if id.as_f64().is_some_and(|number| id.is_f64() && number.abs() >= LARGE) {
        return Err("id is too large a number to be kept: write it as a text".into());
    }
    let messages = match object.get("messages") {
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err("messages is not a list".into()),
        None => return Err("messages is missing".into()),
    };
    message::check_rest("", &object, &[&["id", "messages"], &ASIDE[..]].concat(), &LABELS)?;
    said(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Conversation, String> {
        Conversation::read(line.as_bytes(), ToolCalls::Judge).map_err(|refused| refused.reason)
    }

    #[test]
    fn a_line_is_a_conversation_with_what_clients_send_along() {
        let line = r#"{"id":"a","model":"m","tools":[{"type":"function"}],"temperature":0.5,"stream":true,"stop":null,
            "metadata":{"note":"n"},"messages":[{"role":"user","content":"Hi"}]}"#;
        let conversation = read(line).unwrap();
        assert_eq!((conversation.id, conversation.history), (Value::from("a"), vec![Message::user("Hi")]));
        assert!(conversation.answer.is_none());
        assert!(read(r#"{"messages":[{"role":"user","content":"Hi"}]}"#).unwrap().id.is_null());
    }

    #[test]
    fn what_else_carries_text_is_refused_by_name() {
        for field in ["response", "choices", "Messages", "me\u{17f}\u{17f}ages", "prompt", "input", "instructions"] {
            let line = format!(r#"{{"messages":[{{"role":"user","content":"Hi"}}],"{field}":["bad"]}}"#);
            assert!(read(&line).unwrap_err().contains(field));
        }
        for (line, named) in [
            (r#"{"id":1}"#, "messages is missing"),
            (r#"{"id":123456789012345678901234567890}"#, "id is too large"),
            (r#"{"messages":{}}"#, "messages is not a list"),
            (r#"{"messages":null}"#, "messages is not a list"),
            (r#"{"messages":[1]}"#, "messages[0] is not an object"),
            (r#"{"messages":[],"messages":[]}"#, "twice"),
        ] {
            let reason = read(line).unwrap_err();
            assert!(reason.contains(named), "{reason}");
        }
    }
}
