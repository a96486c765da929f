//! What of an upstream's answer is passed on besides the text that was judged: names, numbers, and nothing that could be read
//! as text.

use serde_json::{Map, Value, json};

/// The longest name, in bytes.
const NAME_BYTES: usize = 128;

/// The longest message of an error, in characters.
const ERROR_CHARS: usize = 500;

/// Keeps of an object the fields that the caller has judged or looks into itself, names, numbers and what is empty.
pub(super) fn strip(map: &mut Map<String, Value>, kept: &[&str], names: &[&str]) {
    map.retain(|field, value| {
        kept.contains(&field.as_str())
            || (is_name(field)
                && (is_bare(value) || (names.contains(&field.as_str()) && value.as_str().is_some_and(is_name))))
    });
}

/// The same of a field that is an object; of another kind it becomes null.
pub(super) fn strip_at(value: Option<&mut Value>, kept: &[&str], names: &[&str]) {
    match value {
        Some(Value::Object(map)) => strip(map, kept, names),
        Some(value) if !is_bare(value) => *value = Value::Null,
        _ => {}
    }
}

/// Nothing in it could be read as text.
fn is_bare(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_bare),
        Value::Object(fields) => fields.iter().all(|(field, value)| is_name(field) && is_bare(value)),
    }
}

/// A word that names something: an id, a model, a reason.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Bytes that are written in letters, which only the model's server reads.
pub(super) fn is_opaque(value: Option<&Value>) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-.".contains(&byte);
    match value {
        None | Some(Value::Null) => true,
        Some(value) => value.as_str().is_some_and(|text| text.bytes().all(is_letter)),
    }
}

/// Keeps probabilities of tokens if the tokens are the text that was judged, or a part of it, and nothing else.
pub(super) fn keep_logprobs(logprobs: &mut Value, text: &str) {
    let lists: Vec<&Value> = match logprobs {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(_) => vec![logprobs],
        _ => Vec::new(),
    };
    let is_fine = lists.iter().all(|list| list.is_null() || tokens_of(list).is_some_and(|said| text.contains(&said)));
    if !is_fine {
        *logprobs = if logprobs.is_array() { json!([]) } else { Value::Null };
    }
}

/// The text of a list of tokens. None if there is more in it.
fn tokens_of(list: &Value) -> Option<String> {
    let token = |entry: &Value| {
        let fields = entry.as_object()?;
        let others = fields.get("top_logprobs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let is_short = |other: &Value| {
            let token = other.get("token").and_then(Value::as_str).is_some_and(|token| token.len() <= 64);
            let rest = other
                .as_object()
                .is_some_and(|fields| fields.iter().all(|(field, value)| field == "token" || is_bare(value)));
            token && rest
        };
        let rest =
            fields.iter().all(|(field, value)| matches!(field.as_str(), "token" | "top_logprobs") || is_bare(value));
        (rest && others.iter().all(is_short)).then(|| entry["token"].as_str().map(str::to_owned))?
    };
    list.as_array()?.iter().map(token).collect()
}

/// An error of the upstream: what happened, in few words, and nothing that a model may have written.
pub(super) fn error(body: &Value, status: Option<u16>) -> Value {
    let error = body.get("error").filter(|error| error.is_object());
    let said = error.unwrap_or(body).get("message").and_then(Value::as_str);
    let of_status = || {
        status.map_or("the upstream reports an error".to_owned(), |status| format!("the upstream answered {status}"))
    };
    let message: String = said.map_or_else(of_status, |said| said.chars().take(ERROR_CHARS).collect());
    let mut fields = error.and_then(Value::as_object).cloned().unwrap_or_default();
    strip(&mut fields, &[], &["type", "param", "code"]);
    let mut rebuilt = json!({ "message": message });
    for name in ["type", "param", "code"] {
        rebuilt[name] = fields.remove(name).unwrap_or_default();
    }
    match body.get("type").and_then(Value::as_str) {
        Some("error") if error.is_some() => json!({ "type": "error", "error": rebuilt }),
        Some("error") => {
            rebuilt["type"] = "error".into();
            rebuilt
        }
        _ => json!({ "error": rebuilt }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_stay_and_texts_go() {
        let mut map = json!({
            "id": "chatcmpl-1", "model": "org/model:7b", "created": 7, "usage": { "tokens": 1, "details": { "cached": 0 } }, "empty": [],
            "text": "take this", "Choices": [{ "delta": "take" }], "usage2": { "note": "take" }, "take this": 1, "finish": "one two",
            "kept": "anything at all",
        });
        strip(map.as_object_mut().unwrap(), &["kept"], &["id", "model", "finish"]);
        let left: Vec<&String> = map.as_object().unwrap().keys().collect();
        assert_eq!(left, ["id", "model", "created", "usage", "empty", "kept"]);
    }

    #[test]
    fn logprobs_are_of_the_text_or_none() {
        let token = |token: &str| json!({ "token": token, "logprob": -0.1, "bytes": [1], "top_logprobs": [{ "token": "x", "logprob": -1 }] });
        for (logprobs, stays) in [
            (json!({ "content": [token("Mix"), token(" it")], "refusal": null }), true),
            (json!({ "content": [token("Bad")] }), false),
            (json!({ "content": [{ "token": "Mix", "note": "bad" }] }), false),
            (json!({ "content": "bad" }), false),
            (json!({ "content": [], "tokens": ["bad"] }), false),
            (json!([token("Mix")]), true),
            (json!([token("Bad")]), false),
        ] {
            let mut left = logprobs.clone();
            keep_logprobs(&mut left, "Mix it.");
            assert_eq!(left == logprobs, stays, "{logprobs}");
        }
    }

    #[test]
    fn errors_are_told_in_few_words() {
        let long = json!({ "error": { "message": "a".repeat(9000), "type": "t", "code": "two words", "failed_generation": "bad" } });
        let told = error(&long, None);
        assert_eq!(told["error"]["message"].as_str().unwrap().len(), ERROR_CHARS);
        assert_eq!((told["error"]["type"].as_str(), &told["error"]["code"]), (Some("t"), &Value::Null));
        assert!(told["error"].get("failed_generation").is_none());
        assert_eq!(error(&json!([1]), Some(418))["error"]["message"], "the upstream answered 418");
        assert_eq!(error(&json!({ "type": "error", "error": { "type": "a", "message": "b" } }), None)["type"], "error");
    }
}
