//! Messages as clients write them, and the texts of their tokens.

use serde_json::{Value, json};

use crate::program::{BAD, HARM, HARMLESS, joined, moderate, of};

/// The exit code and the events of a conversation whose last message this is.
fn judge(arguments: &[&str], mut last: Value) -> (i32, Vec<Value>) {
    last["role"] = "assistant".into();
    let line = json!({ "id": "x", "messages": [{ "role": "user", "content": HARMLESS }, last] });
    moderate(arguments, line.to_string())
}

fn tool_call(text: &str) -> Value {
    json!([{ "id": "1", "type": "function", "function": { "name": "send", "arguments": json!({ "text": text }).to_string() } }])
}

#[test]
fn no_text_of_an_answer_goes_unjudged() {
    let escaped: String = BAD.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
    let hidden = format!("{{\"text\":\"{escaped}\"}}");
    let bad = [
        json!({ "content": BAD }),
        json!({ "content": [{ "type": "text", "text": BAD }] }),
        json!({ "reasoning_content": BAD, "content": "Wipe it." }),
        json!({ "reasoning": BAD, "content": "Wipe it." }),
        json!({ "reasoning": BAD, "content": null }),
        json!({ "content": format!("<think>\n{BAD}\n</think>\n\nWipe it.") }),
        json!({ "content": "", "tool_calls": tool_call(BAD) }),
        json!({ "content": null, "tool_calls": tool_call(BAD) }),
        json!({ "tool_calls": [{ "type": "function", "function": { "name": "send", "arguments": hidden } }] }),
        json!({ "tool_calls": [{ "type": "function", "function": { "name": BAD, "arguments": {} } }] }),
        json!({ "content": null, "function_call": { "name": "send", "arguments": BAD } }),
        json!({ "content": null, "refusal": BAD }),
    ];
    for message in bad {
        let (code, events) = judge(&[], message.clone());
        assert_eq!(code, 3, "{message}");
        let channel = if message.to_string().contains("think")
            || message.get("reasoning").is_some()
            || message.get("reasoning_content").is_some()
        {
            "thinking"
        } else {
            "answer"
        };
        assert_eq!(of(&events, "end")[0]["violation"]["channel"], channel, "{message}");
    }
    let fine = json!({ "content": null, "tool_calls": tool_call("Mix flour.") });
    let (code, events) = judge(&["--no-stop"], fine.clone());
    assert_eq!(code, 0);
    let call = "<tool_call>\n{\"name\": \"send\", \"arguments\": {\"text\":\"Mix flour.\"}}\n</tool_call>";
    assert_eq!(joined(&events, &json!("x")), call);
    let (code, events) = judge(&["--tool-calls", "refuse"], fine);
    assert_eq!(code, 1);
    assert!(of(&events, "error")[0]["error"].as_str().unwrap().contains("messages[1]"));
}

#[test]
fn what_is_not_read_is_an_error_by_name() {
    for (message, named) in [
        (json!({ "content": "Wipe it.", "reasoning_details": [{ "text": BAD }] }), "messages[1].reasoning_details"),
        (json!({ "content": "Wipe it.", "audio": { "transcript": BAD } }), "messages[1].audio"),
        (json!({ "content": [{ "type": "image_url", "image_url": { "url": "data:" } }] }), "image_url"),
        (json!({ "content": "a", "reasoning": "b", "reasoning_content": "c" }), "differ"),
    ] {
        let (code, events) = judge(&[], message);
        assert_eq!((code, events.len()), (1, 1));
        let reason = events[0]["error"].as_str().unwrap();
        assert!(events[0]["id"] == "x" && reason.contains(named), "{reason}");
    }
}

#[test]
fn prompts_are_read_in_every_shape() {
    for content in
        [json!(HARM), json!([{ "type": "text", "text": HARM }]), json!([{ "type": "input_text", "text": HARM }])]
    {
        let line = json!({ "id": 1, "messages": [{ "role": "user", "content": content }] });
        assert_eq!(moderate(&[], line.to_string()).0, 3);
    }
    let tools = json!({ "id": "null", "messages": [
        { "role": "user", "content": "Weather?" },
        { "role": "assistant", "content": null, "tool_calls": [] },
        { "role": "tool", "content": "18 C" },
        { "role": "assistant", "content": "18 degrees." },
    ]});
    let (code, events) = moderate(&[], tools.to_string());
    assert_eq!((code, of(&events, "error").len(), of(&events, "end").len()), (0, 0, 1));
}

#[test]
fn texts_of_tokens_join_to_the_answer() {
    let answers = [
        json!({ "content": "Bread 🍞 is 好吃." }),
        json!({ "content": "👨‍👩‍👧 e\u{301} \u{e9} ﷽ 𝔘 \u{202e}x\u{1b}[0m\r\n\0" }),
        json!({ "content": "<think>\nSo 🍞.\n</think>\n\nBread 🍞." }),
        json!({ "content": "\n\n<think>\n\n</think>\n\n\n🍞" }),
        json!({ "content": "<think>\nOnly thoughts 🍞\n</think>\n" }),
        json!({ "content": "<think>Never closed 🍞" }),
        json!({ "content": "" }),
        json!({ "content": "\n" }),
    ];
    for message in answers {
        let (_, events) = judge(&["--no-stop"], message.clone());
        assert_eq!(joined(&events, &json!("x")), message["content"], "{message}");
        assert!(of(&events, "token").iter().all(|token| !token["text"].as_str().unwrap().contains('\u{fffd}')));
    }
    let told = json!({ "reasoning_content": "So 🍞.", "content": "Bread 🍞.", "tool_calls": tool_call("🍞") });
    let (_, events) = judge(&["--no-stop"], told);
    let call = "<tool_call>\n{\"name\": \"send\", \"arguments\": {\"text\":\"🍞\"}}\n</tool_call>";
    assert_eq!(joined(&events, &json!("x")), format!("So 🍞.Bread 🍞.\n{call}"));
    for token in of(&events, "token") {
        for probabilities in ["risk_probs", "category_probs"] {
            let numbers = token["verdict"][probabilities].as_object().unwrap();
            assert!(numbers.values().all(|p| (0.0..=1.0).contains(&p.as_f64().unwrap())), "{token}");
        }
    }
}
