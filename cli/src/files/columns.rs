//! From the columns of a row to a conversation.

use std::path::Path;

use qwenguard::Message;
use serde_json::Value;

use super::{named, verdict::Layout};
use crate::{
    Failure, json, look,
    message::{self, ToolCalls},
};

/// Which columns hold the conversation.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Columns {
    /// All messages.
    Messages(String),
    /// A prompt, and perhaps an answer to it.
    Texts { prompt: String, response: Option<String> },
}

/// How rows are read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) columns: Columns,
    /// The column with the score of helpfulness.
    pub(super) helpfulness: Option<String>,
    /// The column with what the model thought before its answer.
    pub(super) thinking: Option<String>,
    pub(super) tool_calls: ToolCalls,
}

/// What a row says.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) messages: Vec<Message>,
    /// The prompt with the thinking as a response to it, if there is any in a column of its own.
    pub(super) thinking: Option<Vec<Message>>,
    /// Not a number where there is none.
    pub(super) helpfulness: f64,
}

impl Reading {
    /// The columns that are read.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names = match &self.columns {
            Columns::Messages(name) => vec![&**name],
            Columns::Texts { prompt, response } => std::iter::once(&**prompt).chain(response.as_deref()).collect(),
        };
        names.extend(self.thinking.as_deref());
        names.extend(self.helpfulness.as_deref());
        names
    }

    /// The conversation of a row whose columns `get` gives. Errors name the column.
    pub(super) fn said(&self, get: impl Fn(&str) -> Result<Value, String>) -> Result<Said, String> {
        let messages = match &self.columns {
            Columns::Messages(name) => self.messages(name, get(name)?)?,
            Columns::Texts { prompt, response } => {
                let mut messages = vec![Message::user(text(prompt, get(prompt)?)?)];
                if let Some(response) = response {
                    messages.push(Message::assistant(text(response, get(response)?)?));
                }
                messages
            }
        };
        let thinking = match &self.thinking {
            None => None,
            Some(name) => thought(name, get(name)?)?.map(|thought| vec![messages[0].clone(), thought]),
        };
        let helpfulness = match &self.helpfulness {
            None => f64::NAN,
            Some(name) => get(name)?.as_f64().ok_or_else(|| format!("{name} is not a number"))?,
        };
        Ok(Said { messages, thinking, helpfulness })
    }

    fn messages(&self, name: &str, value: Value) -> Result<Vec<Message>, String> {
        let list = match value {
            Value::Array(list) => list,
            Value::String(text) => {
                match json::read_value(text.as_bytes()).map_err(|error| format!("{name}: {error}"))? {
                    Value::Array(list) => list,
                    _ => return Err(format!("{name} is a text, but not a list of messages in JSON")),
                }
            }
            Value::Null => return Err(format!("{name} is null")),
            _ => return Err(format!("{name} is not a list of messages")),
        };
        message::read_whole(&list, self.tool_calls)
    }
}

/// Refuses columns that are not there, or that are there already.
pub(super) fn check(path: &Path, found: &[&str], reading: &Reading, layout: &Layout) -> Result<(), Failure> {
    if let Some(name) = reading.names().into_iter().find(|name| !found.contains(name)) {
        let found = look::error_line(&found.join(", ")).into_owned();
        return Err(named(path, format!("there is no column {name}: there are {found}")));
    }
    match layout.names().into_iter().find(|name| found.contains(&&**name)) {
        Some(name) => Err(named(path, format!("there is a column {name} already: name another --prefix"))),
        None => Ok(()),
    }
}

/// What was thought. Where a model left out its thinking there is null, or nothing.
fn thought(name: &str, value: Value) -> Result<Option<Message>, String> {
    match value {
        Value::Null => Ok(None),
        value => Ok(Some(text(name, value)?).filter(|text| !text.is_empty()).map(Message::assistant)),
    }
}

fn text(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Err(format!("{name} is null")),
        _ => Err(format!("{name} is not a text")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(columns: Columns, row: &Value) -> Result<Vec<Message>, String> {
        let reading = Reading { columns, helpfulness: None, thinking: None, tool_calls: ToolCalls::Judge };
        let get = |name: &str| row.get(name).cloned().ok_or_else(|| format!("{name} is missing"));
        reading.said(get).map(|said| said.messages)
    }

    #[test]
    fn conversations_are_messages_texts_of_them_or_a_prompt_and_its_answer() {
        let messages = || Columns::Messages("chat".into());
        let list = json!([{"role": "user", "content": "Hi"}]);
        let hi = vec![Message::user("Hi")];
        assert_eq!(said(messages(), &json!({ "chat": list })), Ok(hi.clone()));
        assert_eq!(said(messages(), &json!({ "chat": list.to_string() })), Ok(hi.clone()));
        let texts = |response: Option<&str>| Columns::Texts { prompt: "p".into(), response: response.map(Into::into) };
        assert_eq!(said(texts(None), &json!({"p": "Hi", "r": 7})), Ok(hi.clone()));
        let both = [hi, vec![Message::assistant("Ho")]].concat();
        assert_eq!(said(texts(Some("r")), &json!({"p": "Hi", "r": "Ho"})), Ok(both));
        for (row, named) in [
            (json!({}), "chat is missing"),
            (json!({"chat": null}), "chat is null"),
            (json!({"chat": 7}), "chat is not a list"),
            (json!({"chat": "Hi"}), "chat: column 1"),
            (json!({"chat": "{}"}), "chat is a text, but not a list"),
            (json!({"chat": r#"[{"role":"user","role":"user","content":"Hi"}]"#}), "twice"),
            (json!({"chat": [{"role": "user", "content": "Hi", "audio": "x"}]}), "audio"),
        ] {
            let reason = said(messages(), &row).unwrap_err();
            assert!(reason.contains(named), "{reason}");
        }
        assert_eq!(said(texts(Some("r")), &json!({"p": "Hi", "r": null})).unwrap_err(), "r is null");
        assert_eq!(said(texts(None), &json!({"p": ["Hi"]})).unwrap_err(), "p is not a text");
    }
}
