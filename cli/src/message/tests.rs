use serde_json::json;

use super::*;

fn read(messages: Value) -> Result<Said, String> {
    read_messages(messages.as_array().unwrap(), ToolCalls::Judge)
}

/// The answer of a message of the assistant: thinking and all else.
fn answer(message: Value) -> Result<(String, String), String> {
    let answer = read(json!([{ "role": "user", "content": "Hi" }, message]))?.answer.unwrap();
    let (thinking, text) = answer.text.split_at(answer.thinking);
    Ok((thinking.to_owned(), text.to_owned()))
}

fn call(name: &str, arguments: &str) -> String {
    format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>")
}

#[test]
fn content_is_text_or_text_parts() {
    let table = [
        (json!("Hello"), "Hello"),
        (json!(""), ""),
        (json!([]), ""),
        (json!([{ "type": "text", "text": "Hel" }, { "type": "input_text", "text": "lo" }]), "Hello"),
        (
            json!([{ "type": "output_text", "text": "No", "annotations": [] }, { "type": "refusal", "refusal": "!" }]),
            "No!",
        ),
    ];
    for (content, expected) in table {
        for role in ["user", "system", "tool", "assistant"] {
            let said = read(json!([{ "role": role, "content": content }, { "role": "user", "content": "?" }])).unwrap();
            assert_eq!(said.history[0], Message::new(role, expected));
            assert_eq!(said.answer, None);
        }
    }
}

#[test]
fn only_a_message_of_the_assistant_at_the_end_is_the_answer() {
    let said = read(json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": "b" }])).unwrap();
    assert_eq!(said.answer, Some(Answer { text: "b".into(), thinking: 0 }));
    assert_eq!(said.history, [Message::user("a")]);
    for role in ["model", "Assistant", "tool"] {
        let said = read(json!([{ "role": "user", "content": "a" }, { "role": role, "content": "b" }])).unwrap();
        assert_eq!((said.answer, said.history.len()), (None, 2));
    }
    let twice = json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": "b" },
        { "role": "assistant", "content": "c" }]);
    assert!(read(twice).unwrap_err().contains("messages[1] and messages[2]"));
    assert_eq!(read(json!([])), Ok(Said { history: vec![], answer: None }));
}

#[test]
fn thinking_has_fields_of_its_own() {
    let table = [
        (json!({ "role": "assistant", "reasoning_content": "t", "content": "a" }), ("t", "a")),
        (json!({ "role": "assistant", "reasoning": "t", "content": "a" }), ("t", "a")),
        (json!({ "role": "assistant", "reasoning": "t", "reasoning_content": "t", "content": "a" }), ("t", "a")),
        (json!({ "role": "assistant", "reasoning": "", "reasoning_content": "t", "content": null }), ("t", "")),
        (json!({ "role": "assistant", "reasoning": null, "reasoning_content": null, "content": "a" }), ("", "a")),
    ];
    for (message, (thinking, text)) in table {
        assert_eq!(answer(message), Ok((thinking.into(), text.into())));
    }
    let differ = json!({ "role": "assistant", "reasoning": "t", "reasoning_content": "u", "content": "a" });
    assert!(answer(differ).unwrap_err().contains("messages[1].reasoning_content and messages[1].reasoning differ"));
}

#[test]
fn thinking_of_earlier_answers_is_where_the_template_keeps_it() {
    let thought = |text: &str| json!({ "role": "assistant", "reasoning": format!("\n{text}\n"), "content": text });
    let user = json!({ "role": "user", "content": "?" });
    let said = read(json!([user, thought("old"), user, thought("new"), { "role": "tool", "content": "18" }])).unwrap();
    assert_eq!(said.history[1], Message::assistant("old"));
    assert_eq!(said.history[3], Message::assistant("<think>\nnew\n</think>\n\nnew"));
}

#[test]
fn tool_calls_are_written_as_by_the_template() {
    let function = json!({ "name": "send", "arguments": "{\"a\":1}" });
    let other = json!({ "name": "get", "arguments": { "b": [1, 2], "c": "é\n" } });
    let calls = json!([{ "id": "1", "type": "function", "index": 0, "function": function }, other]);
    let (one, two) = (call("send", "{\"a\":1}"), call("get", "{\"b\": [1, 2], \"c\": \"é\\n\"}"));
    let both = format!("{one}\n{two}");
    let table = [
        (json!({ "role": "assistant", "content": null, "tool_calls": calls }), both.clone()),
        (json!({ "role": "assistant", "tool_calls": calls }), both.clone()),
        (json!({ "role": "assistant", "content": "Wait.", "tool_calls": calls }), format!("Wait.\n{both}")),
        (json!({ "role": "assistant", "content": null, "function_call": function }), one.clone()),
        (json!({ "role": "assistant", "content": null, "tool_calls": [] }), String::new()),
        (json!({ "role": "assistant", "content": "", "tool_calls": null, "function_call": null }), String::new()),
    ];
    for (message, text) in table {
        assert_eq!(answer(message), Ok((String::new(), text)));
    }
    // Earlier in the conversation too, and refused if that is asked for.
    let earlier = json!([{ "role": "user", "content": "?" }, { "role": "assistant", "content": "", "tool_calls": calls },
        { "role": "tool", "tool_call_id": "1", "name": "send", "content": "ok" }, { "role": "assistant", "content": "Sent." }]);
    assert_eq!(read(earlier.clone()).unwrap().history[1], Message::assistant(both));
    let refused = read_messages(earlier.as_array().unwrap(), ToolCalls::Refuse).unwrap_err();
    assert!(refused.contains("messages[1]") && refused.contains("--tool-calls"), "{refused}");
    let legacy = json!([{ "role": "assistant", "content": null, "function_call": function }]);
    assert!(read_messages(legacy.as_array().unwrap(), ToolCalls::Refuse).is_err());
}

/// The messages whose rendering by Qwen's own template the library's tests compare with the reference.
#[test]
fn clients_messages_are_what_the_template_makes_of_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/qwen/conversations.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let expected: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        assert_eq!(read(case["client"].clone()).unwrap().history, expected, "{}", case["name"]);
    }
    assert!(cases.as_array().unwrap().len() >= 8);
}

#[test]
fn arguments_do_not_hide_text_in_escapes() {
    let table = [
        (r#"{"t":"\u0062om\u0062"}"#, r#"{"t":"bomb"}"#),
        (r#"{"t":"\u7206\u5f3e \ud83d\udca3"}"#, r#"{"t":"爆弾 💣"}"#),
        // Escapes that JSON needs stay, as do those of backslashes and of half a pair.
        (r#"{"t":"\u0022\u005c\u000a\n\"\\u0062\/"}"#, r#"{"t":"\u0022\u005c\u000a\n\"\\u0062\/"}"#),
        (r#"{"t":"\ud83d\u0062"#, r#"{"t":"\ud83db"#),
        (r"\u006", r"\u006"),
        (r"\u+062", r"\u+062"),
        ("\\", "\\"),
        ("\\é", "\\é"),
    ];
    for (arguments, expected) in table {
        let message = json!({ "role": "assistant", "content": null,
            "tool_calls": [{ "type": "function", "function": { "name": "f", "arguments": arguments } }] });
        assert_eq!(answer(message).unwrap().1, call("f", expected));
    }
}

#[test]
fn a_refusal_is_part_of_the_answer() {
    let table = [
        (json!({ "role": "assistant", "content": null, "refusal": "I cannot." }), "I cannot."),
        (json!({ "role": "assistant", "content": "Well.", "refusal": "I cannot." }), "Well.\nI cannot."),
        (json!({ "role": "assistant", "content": "Well.", "refusal": null }), "Well."),
    ];
    for (message, text) in table {
        assert_eq!(answer(message).unwrap().1, text);
    }
}

/// As `model_dump` of OpenAI's client gives it.
#[test]
fn fields_without_text_do_no_harm() {
    let message = json!({ "role": "assistant", "content": "Hi", "refusal": null, "annotations": [], "audio": null,
        "function_call": null, "tool_calls": null, "name": "bot", "id": "msg_1", "weight": 1, "prefix": true,
        "status": "completed", "type": "message", "logprobs": {} });
    assert_eq!(answer(message).unwrap().1, "Hi");
}

#[test]
fn what_is_not_judged_is_refused_by_name() {
    let assistant = [
        (json!({ "content": "a", "reasoning_details": [{ "text": "t" }] }), "messages[1].reasoning_details"),
        (json!({ "content": "a", "thinking": "t" }), "messages[1].thinking"),
        (json!({ "content": "a", "audio": { "transcript": "t" } }), "messages[1].audio"),
        (json!({ "content": "a", "annotations": [{ "title": "t" }] }), "messages[1].annotations"),
        (json!({ "content": "a", "token_ids": [1, 2] }), "messages[1].token_ids"),
        (json!({ "content": "a", "name": { "text": "t" } }), "messages[1].name"),
        (json!({ "content": "a", "Content": "t" }), "messages[1].Content"),
        (json!({ "content": "a", "reasoning": { "text": "t" } }), "messages[1].reasoning"),
        (json!({ "content": "a", "refusal": ["t"] }), "messages[1].refusal"),
        (json!({ "content": null }), "messages[1].content is null"),
        (json!({}), "messages[1].content is missing"),
        (json!({ "content": 7 }), "messages[1].content"),
        (json!({ "content": { "text": "a" } }), "messages[1].content"),
        (json!({ "content": ["a"] }), "messages[1].content[0]"),
        (
            json!({ "content": [{ "type": "text", "text": "a" }, { "type": "image_url", "image_url": {} }] }),
            "image_url",
        ),
        (json!({ "content": [{ "type": "input_audio", "input_audio": {} }] }), "messages[1].content[0]"),
        (json!({ "content": [{ "type": "text" }] }), "messages[1].content[0].text is missing"),
        (json!({ "content": [{ "text": "a" }] }), "messages[1].content[0].type is missing"),
        (json!({ "content": [{ "type": "text", "text": null }] }), "messages[1].content[0].text is null"),
        (json!({ "content": [{ "type": "text", "text": "a", "alt": "b" }] }), "messages[1].content[0].alt"),
        (json!({ "content": "", "tool_calls": { "0": {} } }), "messages[1].tool_calls"),
        (json!({ "content": "", "tool_calls": ["a"] }), "messages[1].tool_calls[0]"),
        (json!({ "content": "", "tool_calls": [{ "type": "custom", "custom": { "input": "a" } }] }), "custom"),
        (json!({ "content": "", "tool_calls": [{ "function": { "name": "f" } }] }), "function.arguments is missing"),
        (json!({ "content": "", "tool_calls": [{ "function": { "arguments": "" } }] }), "function.name is missing"),
        (json!({ "content": "", "tool_calls": [{ "function": null }] }), "messages[1].tool_calls[0].function"),
        (
            json!({ "content": "", "tool_calls": [{ "function": { "name": "f", "arguments": "", "more": "t" } }] }),
            "more",
        ),
        (json!({ "content": "", "tool_calls": [{ "name": "f", "arguments": "", "more": "t" }] }), "more"),
        (
            json!({ "content": "", "tool_calls": [{ "function": { "name": "f", "arguments": "" }, "text": "t" }] }),
            "text",
        ),
        (json!({ "content": "", "function_call": "auto" }), "messages[1].function_call"),
    ];
    for (mut message, named) in assistant {
        message["role"] = "assistant".into();
        let reason = answer(message.clone()).unwrap_err();
        assert!(reason.contains(named), "{reason} for {message}");
    }
    // Fields of an answer mean nothing elsewhere.
    for field in ["tool_calls", "reasoning_content", "refusal"] {
        let reason = read(json!([{ "role": "user", "content": "a", field: ["t"] }])).unwrap_err();
        assert!(reason.contains(&format!("messages[0].{field}")), "{reason}");
    }
    for (message, named) in [
        (json!("a"), "messages[0]"),
        (json!({ "content": "a" }), "messages[0].role is missing"),
        (json!({ "role": 1, "content": "a" }), "messages[0].role"),
        (json!({ "role": "user", "content": null }), "null"),
    ] {
        let reason = read(json!([message])).unwrap_err();
        assert!(reason.contains(named), "{reason}");
    }
    let hides = json!([{ "role": "user", "content": "?" },
        { "role": "assistant", "content": "a", "tool_calls": [{ "name": "f", "arguments": "</think>" }] },
        { "role": "tool", "content": "b" }]);
    assert!(read(hides).unwrap_err().contains("messages[1]"));
}

/// Whatever the pieces, letters come as they would of the whole.
#[cfg(feature = "serve")]
#[test]
fn escapes_may_be_cut_anywhere() {
    for json in [
        r"caf\u00e9",
        r"\ud83c\udf5e",
        r"a\\u0041",
        r"\u0041\n\u0042",
        r"\ud83c!",
        r"\ud83c\u0041",
        r"\u",
        r"x\",
        r"\\",
        r"\u00zz",
    ] {
        let expected = unescape(json);
        for size in 1..=json.len() {
            let (mut begun, mut plain) = (String::new(), String::new());
            for piece in json.as_bytes().chunks(size) {
                begun += std::str::from_utf8(piece).unwrap();
                let rest = begun.split_off(whole_escapes(&begun));
                plain += &unescape(&begun);
                begun = rest;
            }
            assert_eq!(plain + &begun, expected, "{json} in pieces of {size}");
        }
    }
}
