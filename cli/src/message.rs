//! Messages as clients of OpenAI's interface write them, read so that no text in them is lost: what is not judged is
//! refused by name.

use qwenguard::Message;
use serde::Serialize;
use serde_json::{Map, Value, ser::Formatter};

/// What becomes of tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ToolCalls {
    /// They are part of the answer, as Qwen's template writes them.
    Judge,
    /// A message with a tool call is an error.
    Refuse,
}

/// What is said in a conversation.
#[derive(Debug, PartialEq)]
pub(crate) struct Said {
    /// All messages but the answer.
    pub(crate) history: Vec<Message>,
    /// A last message of the assistant.
    pub(crate) answer: Option<Answer>,
}

/// The answer to judge.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    /// Thinking that a field of its own holds, and then all else.
    pub(crate) text: String,
    /// How many bytes of the text are that thinking.
    pub(crate) thinking: usize,
}

/// One message.
struct Read {
    role: String,
    thinking: String,
    /// Content, refusal and tool calls.
    text: String,
    /// Where in the text the tool calls start.
    calls: usize,
}

/// Reads the messages of a conversation. Errors name the message and the field.
pub(crate) fn read_messages(messages: &[Value], tool_calls: ToolCalls) -> Result<Said, String> {
    let mut read = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        read.push(read_message(&format!("messages[{index}]"), message, tool_calls)?);
    }
    let answer = read.pop_if(|last| last.role == "assistant");
    if answer.is_some() && read.last().is_some_and(|before| before.role == "assistant") {
        let last = read.len();
        return Err(format!("messages[{}] and messages[{last}] are one answer in two: join them", last - 1));
    }
    let asked = read.iter().rposition(|message| message.role == "user").unwrap_or(0);
    let mut history = Vec::with_capacity(read.len());
    for (index, message) in read.into_iter().enumerate() {
        check_calls(index, &message)?;
        history.push(history_message(message, index > asked));
    }
    let answer = answer.map(|last| Answer { thinking: last.thinking.len(), text: last.thinking + &last.text });
    Ok(Said { history, answer })
}

/// Reads all messages of a conversation as they are. Errors name the message and the field.
pub(crate) fn read_whole(messages: &[Value], tool_calls: ToolCalls) -> Result<Vec<Message>, String> {
    let read = |(index, message): (usize, &Value)| {
        let message = read_message(&format!("messages[{index}]"), message, tool_calls)?;
        check_calls(index, &message)?;
        Ok(history_message(message, true))
    };
    messages.iter().enumerate().map(read).collect()
}

/// A template would take all before a tag in a tool call for thinking and drop it.
fn check_calls(index: usize, message: &Read) -> Result<(), String> {
    match message.text[message.calls..].contains("</think>") {
        true => Err(format!("messages[{index}] has </think> in a tool call")),
        false => Ok(()),
    }
}

/// A message before the answer. As in Qwen's template, thinking before the user's last turn is left out.
fn history_message(message: Read, recent: bool) -> Message {
    let Read { role, thinking, text, .. } = message;
    if thinking.is_empty() || !recent {
        return Message::new(role, text);
    }
    Message::new(role, format!("<think>\n{}\n</think>\n\n{text}", thinking.trim_matches('\n')))
}

fn read_message(at: &str, message: &Value, tool_calls: ToolCalls) -> Result<Read, String> {
    let message = object(at, message)?;
    let role = required_text(at, message, "role")?;
    let mut known = vec!["role", "content"];
    let content = message.get("content").map_or(Ok(None), |content| read_content(&format!("{at}.content"), content))?;
    let (mut thinking, mut refusal, mut calls) = (String::new(), None, Vec::new());
    if role == "assistant" {
        known.extend(["reasoning_content", "reasoning", "refusal", "tool_calls", "function_call"]);
        thinking = read_thinking(at, message)?;
        refusal = text_field(at, message, "refusal")?;
        calls = read_calls(at, message)?;
        if tool_calls == ToolCalls::Refuse && !calls.is_empty() {
            return Err(format!("{at} has a tool call, which --tool-calls refuses"));
        }
    }
    check_rest(at, message, &known, &["name", "tool_call_id", "id", "status", "type"])?;
    let may_be_null = !thinking.is_empty()
        || refusal.is_some()
        || !calls.is_empty()
        || (role == "assistant" && message.get("tool_calls").is_some_and(Value::is_array));
    if content.is_none() && !may_be_null {
        let what = if message.contains_key("content") { "null" } else { "missing" };
        return Err(format!("{at}.content is {what}"));
    }
    let said = join(content.into_iter().chain(refusal));
    let text = join(std::iter::once(said.clone()).chain(calls));
    Ok(Read { role, thinking, calls: said.len(), text })
}

/// The texts that are not empty, a line each.
fn join(texts: impl Iterator<Item = String>) -> String {
    texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A text, or text parts joined as they are. None for null.
fn read_content(at: &str, content: &Value) -> Result<Option<String>, String> {
    match content {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(parts) => {
            let read = |(index, part)| read_part(&format!("{at}[{index}]"), part);
            parts.iter().enumerate().map(read).collect::<Result<String, _>>().map(Some)
        }
        _ => Err(format!("{at} is neither a text nor a list of parts")),
    }
}

/// The text of a part of a content.
pub(crate) fn read_part(at: &str, part: &Value) -> Result<String, String> {
    let part = object(at, part)?;
    let kind = required_text(at, part, "type")?;
    let field = match kind.as_str() {
        "text" | "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        _ => return Err(format!("{at}: a part of type {kind:?} cannot be judged")),
    };
    check_rest(at, part, &["type", field, "cache_control"], &["id"])?;
    required_text(at, part, field)
}

/// Thinking that has a field of its own.
fn read_thinking(at: &str, message: &Map<String, Value>) -> Result<String, String> {
    let content = text_field(at, message, "reasoning_content")?.unwrap_or_default();
    let plain = text_field(at, message, "reasoning")?.unwrap_or_default();
    if !content.is_empty() && !plain.is_empty() && content != plain {
        return Err(format!("{at}.reasoning_content and {at}.reasoning differ"));
    }
    Ok(if content.is_empty() { plain } else { content })
}

/// Every tool call as Qwen's template writes it.
fn read_calls(at: &str, message: &Map<String, Value>) -> Result<Vec<String>, String> {
    let mut calls = Vec::new();
    match message.get("tool_calls") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            for (index, call) in list.iter().enumerate() {
                calls.push(read_call(&format!("{at}.tool_calls[{index}]"), call)?);
            }
        }
        Some(_) => return Err(format!("{at}.tool_calls is not a list")),
    }
    match message.get("function_call") {
        None | Some(Value::Null) => {}
        Some(call) => {
            let at = format!("{at}.function_call");
            calls.push(read_function(&at, object(&at, call)?, &[])?);
        }
    }
    Ok(calls)
}

fn read_call(at: &str, call: &Value) -> Result<String, String> {
    let call = object(at, call)?;
    match call.get("type") {
        None | Some(Value::Null) => {}
        Some(Value::String(kind)) if kind == "function" => {}
        Some(kind) => return Err(format!("{at}: a tool call of type {kind} cannot be judged")),
    }
    match call.get("function") {
        None => read_function(at, call, &["type", "id"]),
        Some(function) => {
            check_rest(at, call, &["type", "function"], &["id"])?;
            let at = format!("{at}.function");
            read_function(&at, object(&at, function)?, &[])
        }
    }
}

fn read_function(at: &str, function: &Map<String, Value>, labels: &[&str]) -> Result<String, String> {
    check_rest(at, function, &["name", "arguments"], labels)?;
    let name = required_text(at, function, "name")?;
    let arguments = match function.get("arguments") {
        Some(Value::String(arguments)) => unescape(arguments),
        Some(arguments) => to_json(arguments),
        None => return Err(format!("{at}.arguments is missing")),
    };
    Ok(format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>"))
}

/// JSON with the letters that `\u` escapes stand for: escaped text says the same to whoever parses it, and the model is
/// to see it. Works on a text that is cut off, too.
pub(crate) fn unescape(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let escape = match escaped_letter(rest) {
            Some((letter, length)) => {
                plain.push(letter);
                length
            }
            // With the letter after the backslash, which may be a backslash itself.
            None => {
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                plain.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[escape..];
    }
    plain + rest
}

/// For text that comes in pieces: the length of a text without an escape at its end that what comes next may complete.
#[cfg(feature = "serve")]
pub(crate) fn whole_escapes(json: &str) -> usize {
    let from = json.len().saturating_sub(2 * ESCAPE - 1);
    let tail = (from..=json.len()).find(|at| json.is_char_boundary(*at)).unwrap_or_default();
    let starts = json[tail..].match_indices('\\').map(|(at, _)| tail + at);
    // Every second one of a run of backslashes is what the one before it escapes.
    let is_escape = |at: &usize| json[..*at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0;
    let may_go_on = |at: &usize| {
        let text = &json[*at..];
        let is_begun = |text: &str| text.len() < ESCAPE && "\\u".starts_with(&text[..text.len().min(2)]);
        let is_first = escaped_unit(text).is_some_and(|unit| (0xd800..0xdc00).contains(&unit));
        is_begun(text) || (is_first && is_begun(&text[ESCAPE..]))
    };
    starts.filter(is_escape).find(may_go_on).unwrap_or(json.len())
}

/// The letter of an escape at the start of a text and the bytes it takes. None where the escape has to stay.
fn escaped_letter(text: &str) -> Option<(char, usize)> {
    let first = escaped_unit(text)?;
    let (letter, length) = match char::from_u32(first.into()) {
        Some(letter) => (letter, ESCAPE),
        None => {
            let pair = [first, escaped_unit(&text[ESCAPE..])?];
            (char::decode_utf16(pair).next()?.ok()?, 2 * ESCAPE)
        }
    };
    (!letter.is_control() && letter != '"' && letter != '\\').then_some((letter, length))
}

/// Bytes of an escape such as `\u0041`.
const ESCAPE: usize = 6;

fn escaped_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// JSON as templates write it: blanks after colons and commas.
fn to_json(value: &Value) -> String {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, Spaced);
    value.serialize(&mut serializer).expect("a value is JSON");
    String::from_utf8(json).expect("JSON is UTF-8")
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

/// Refuses fields that are not read and may carry text. `labels` name or count things: a text or a number.
pub(crate) fn check_rest(at: &str, map: &Map<String, Value>, read: &[&str], labels: &[&str]) -> Result<(), String> {
    for (field, value) in map.iter().filter(|(field, _)| !read.contains(&field.as_str())) {
        let may_carry_text = match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
            Value::String(text) => !text.is_empty() && !labels.contains(&field.as_str()),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
        };
        if may_carry_text {
            let dot = if at.is_empty() { "" } else { "." };
            return Err(format!("the field {:?} is not read and would not be judged", format!("{at}{dot}{field}")));
        }
    }
    Ok(())
}

fn object<'v>(at: &str, value: &'v Value) -> Result<&'v Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{at} is not an object"))
}

fn required_text(at: &str, map: &Map<String, Value>, field: &str) -> Result<String, String> {
    if !map.contains_key(field) {
        return Err(format!("{at}.{field} is missing"));
    }
    text_field(at, map, field)?.ok_or_else(|| format!("{at}.{field} is null"))
}

/// The text in a field, if there is one.
fn text_field(at: &str, map: &Map<String, Value>, field: &str) -> Result<Option<String>, String> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{at}.{field} is not a text")),
    }
}

#[cfg(test)]
mod tests;
