//! The proxy before a server that speaks Anthropic's Messages.

use serde_json::{Value, json};

use crate::{
    BAD, FINE, TURNS, client,
    proxy::{FINE_ANSWER, both, settled},
    server::Server,
    turning_answer,
    upstream::{Upstream, named_event, read_named},
};

/// The events of an answer with these blocks: type, field, and text, a word each.
fn answer(blocks: &[(&str, &str, &str)]) -> Vec<Value> {
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": null,
        "stop_sequence": null, "usage": { "input_tokens": 5, "output_tokens": 1 },
    });
    let mut events = vec![json!({ "type": "message_start", "message": message }), json!({ "type": "ping" })];
    for (index, (kind, field, text)) in blocks.iter().enumerate() {
        let block = match *kind {
            "tool_use" => json!({ "type": kind, "id": "toolu_1", "name": "send", "input": {} }),
            _ => json!({ "type": kind, *field: "" }),
        };
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
        let name = match *kind {
            "tool_use" => "input_json_delta".to_owned(),
            kind => format!("{kind}_delta"),
        };
        events.extend(text.split_inclusive(' ').map(
            |word| json!({ "type": "content_block_delta", "index": index, "delta": { "type": name, *field: word } }),
        ));
        if *kind == "thinking" {
            events.push(json!({ "type": "content_block_delta", "index": index, "delta": { "type": "signature_delta", "signature": "c2ln" } }));
        }
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    events.push(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": { "output_tokens": 9 } }));
    events.push(json!({ "type": "message_stop" }));
    events
}

async fn ask(server: &Server, body: Value) -> (u16, String) {
    let response = client().post(format!("{}/v1/messages", server.url)).json(&body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn streamed(upstream: &Upstream, server: &Server, prompt: &str, events: &[Value]) -> Vec<Value> {
    upstream.answer(events.iter().map(named_event).collect());
    let body =
        json!({ "model": "m", "max_tokens": 99, "stream": true, "messages": [{ "role": "user", "content": prompt }] });
    let (status, text) = ask(server, body).await;
    assert_eq!(status, 200);
    read_named(&text)
}

fn said(events: &[Value], field: &str) -> String {
    events.iter().filter_map(|event| event["delta"][field].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_safe_answer_is_what_the_upstream_wrote() {
    let (upstream, server) = both().await;
    let thought = "Mix flour, water, salt and yeast in a large bowl.";
    for blocks in [
        &[("text", "text", FINE_ANSWER)][..],
        &[("thinking", "thinking", thought), ("text", "text", FINE_ANSWER)],
        &[("tool_use", "partial_json", "{\"query\": \"how to bake bread\"}")],
    ] {
        let written = answer(blocks);
        assert_eq!(streamed(&upstream, &server, FINE, &written).await, written);
    }
    settled(&server).await;
}

/// Cut anywhere, a stream has a well-formed end.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_turns_ends_as_a_refusal() {
    let (upstream, server) = both().await;
    let (bad, cut) = turning_answer();
    let read = streamed(&upstream, &server, TURNS, &answer(&[("text", "text", &bad)])).await;
    assert_eq!(said(&read, "text"), bad[..cut]);
    let kinds: Vec<&str> =
        read.iter().filter_map(|event| event["type"].as_str()).filter(|kind| *kind != "content_block_delta").collect();
    assert_eq!(
        kinds,
        ["message_start", "ping", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    );
    let delta = &read[read.len() - 2];
    assert_eq!(
        (delta["delta"]["stop_reason"].as_str(), delta["usage"]["output_tokens"].as_u64()),
        (Some("refusal"), Some(1))
    );
    for blocks in [
        &[("thinking", "thinking", &*bad), ("text", "text", FINE_ANSWER)][..],
        &[("tool_use", "partial_json", &format!("{{\"text\": \"{bad}\"}}"))],
    ] {
        let read = streamed(&upstream, &server, TURNS, &answer(blocks)).await;
        let all: String = read.iter().map(Value::to_string).collect();
        assert!(!all.contains("bomb") && said(&read, "text").is_empty(), "{all}");
        assert_eq!(read[read.len() - 2]["delta"]["stop_reason"], "refusal");
        let count = |kind: &str| read.iter().filter(|event| event["type"] == kind).count();
        assert_eq!(count("content_block_start"), count("content_block_stop"));
    }
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_is_an_error_in_the_words_of_the_interface() {
    let (upstream, server) = both().await;
    let secret = "take the explosives";
    for strange in [
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "citations_delta", "citation": { "cited_text": secret } } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "a", "more": secret } }),
        json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "web_search_tool_result", "content": secret } }),
        json!({ "type": "surprise", "text": secret }),
        json!({ "type": "message_start", "message": { "content": [{ "type": "text", "text": secret }] } }),
    ] {
        let mut written = answer(&[("text", "text", FINE_ANSWER)]);
        written.insert(5, strange.clone());
        let read = streamed(&upstream, &server, FINE, &written).await;
        let all: String = read.iter().map(Value::to_string).collect();
        assert!(!all.contains(secret), "{all}");
        assert_eq!(read.last().unwrap()["error"]["type"], "api_error", "{strange}");
    }
    // After its end.
    let mut written = answer(&[("text", "text", FINE_ANSWER)]);
    let more = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": secret } });
    written.insert(written.len() - 1, more);
    let read = streamed(&upstream, &server, FINE, &written).await;
    assert!(!json!(read).to_string().contains(secret));
    let error = &read.last().unwrap()["error"];
    assert!(error["type"] == "api_error" && error["message"].as_str().unwrap().contains("after its end"), "{error}");
    let (status, text) = ask(&server, json!({ "model": "m", "messages": [{ "role": "user", "content": BAD }] })).await;
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, body["type"].as_str(), body["error"]["type"].as_str()),
        (400, Some("error"), Some("invalid_request_error"))
    );
    for (messages, named) in [
        (
            json!([{ "role": "user", "content": [{ "type": "image", "source": {} }] }]),
            "messages[0].content[0]: a block of type \"image\"",
        ),
        (json!([{ "role": "user", "content": [{ "type": "text", "text": "a", "extra": "b" }] }]), "extra"),
        (json!([{ "role": "user", "content": 7 }]), "messages[0].content"),
        (json!("a"), "messages is not a list"),
    ] {
        let (status, text) = ask(&server, json!({ "model": "m", "messages": messages })).await;
        assert!(
            status == 400
                && serde_json::from_str::<Value>(&text).unwrap()["error"]["message"].as_str().unwrap().contains(named),
            "{text}"
        );
    }
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_tools_and_earlier_answers_are_read() {
    let (upstream, server) = both().await;
    let messages = json!([
        { "role": "user", "content": [{ "type": "text", "text": FINE, "cache_control": { "type": "ephemeral" } }] },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "I look it up.", "signature": "c2ln" }, { "type": "redacted_thinking", "data": "eHh4" },
            { "type": "text", "text": "One moment." }, { "type": "tool_use", "id": "t", "name": "search", "input": { "query": "bread" } },
        ] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "text", "text": "Mix flour." }] }] },
    ]);
    upstream.answer(answer(&[("text", "text", FINE_ANSWER)]).iter().map(named_event).collect());
    let body = json!({ "model": "m", "stream": true, "system": "You are a cook.", "messages": messages });
    let (status, text) = ask(&server, body).await;
    assert!(status == 200 && text.contains("message_stop"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_is_judged_too() {
    let (upstream, server) = both().await;
    let (bad, cut) = turning_answer();
    let whole = |content: Value| json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": "end_turn", "stop_sequence": null, "usage": { "input_tokens": 5, "output_tokens": 9 } });
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": TURNS }] });
    let ask = async |content: Value| {
        upstream.answer_whole(200, &whole(content));
        let (status, text) = ask(&server, body.clone()).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let fine = json!([{ "type": "text", "text": FINE_ANSWER }]);
    assert_eq!(ask(fine.clone()).await, whole(fine));
    let call = json!({ "type": "tool_use", "id": "t", "name": "send", "input": { "text": FINE } });
    let read = ask(json!([{ "type": "text", "text": bad }, call])).await;
    assert_eq!(read["content"], json!([{ "type": "text", "text": bad[..cut] }]));
    assert_eq!((read["stop_reason"].as_str(), read["usage"]["output_tokens"].as_u64()), (Some("refusal"), Some(9)));
    let read = ask(json!([{ "type": "tool_use", "id": "t", "name": "send", "input": { "text": bad } }])).await;
    assert_eq!((&read["content"], read["stop_reason"].as_str()), (&json!([]), Some("refusal")));
}

/// Blocks that are not as they should be are not sent, or what they say is judged.
#[tokio::test(flavor = "multi_thread")]
async fn a_strange_block_is_no_way_past_the_guard() {
    let (upstream, server) = both().await;
    let (bad, _) = turning_answer();
    for block in [
        json!({ "type": "text", "text": bad, "name": null }),
        json!({ "type": "text", "text": bad, "name": "" }),
        json!({ "type": "thinking", "thinking": bad, "name": null }),
        json!({ "type": "tool_use", "id": "t", "input": { "text": bad } }),
        json!({ "type": "tool_use", "id": "t", "name": "send", "input": { "text": bad } }),
        json!({ "type": "redacted_thinking", "data": bad }),
        json!({ "type": "thinking", "thinking": "", "signature": bad }),
    ] {
        let mut written = answer(&[]);
        written.insert(2, json!({ "type": "content_block_start", "index": 0, "content_block": block }));
        written.insert(3, json!({ "type": "content_block_stop", "index": 0, "delta": { "text": bad } }));
        let read = streamed(&upstream, &server, TURNS, &written).await;
        let all: String = read.iter().map(Value::to_string).collect();
        assert!(!all.contains("bomb"), "{block}: {all}");
        let whole = json!({ "id": "msg_1", "type": "message", "role": "assistant", "content": [block], "stop_reason": "end_turn" });
        upstream.answer_whole(200, &whole);
        let (_, text) = ask(&server, json!({ "model": "m", "messages": [{ "role": "user", "content": TURNS }] })).await;
        assert!(!text.contains("bomb"), "{block}: {text}");
    }
    for strange in [
        json!({ "type": "ping", "text": bad }),
        json!({ "type": "message_delta", "delta": { "text": bad, "stop_reason": bad } }),
    ] {
        let mut written = answer(&[]);
        written.insert(2, strange.clone());
        let read = streamed(&upstream, &server, TURNS, &written).await;
        let all: String = read.iter().map(Value::to_string).collect();
        assert!(!all.contains("bomb"), "{strange}: {all}");
    }
    settled(&server).await;
}

/// What refuses a request before it is read speaks Anthropic's language as well.
#[tokio::test(flavor = "multi_thread")]
async fn limits_and_keys_are_told_in_anthropics_form() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "s3cret").unwrap();
    let upstream = Upstream::start().await;
    let keyed = [
        "--upstream",
        &upstream.url,
        "--key-file",
        file.to_str().unwrap(),
        "--max-body-bytes",
        "300",
        "--max-requests",
        "1",
    ];
    let server = Server::start(&keyed);
    let ask = async |key: &str, text: &str| {
        let body =
            json!({ "model": "m", "max_tokens": 9, "stream": true, "messages": [{ "role": "user", "content": text }] });
        client().post(format!("{}/v1/messages", server.url)).header("x-api-key", key).json(&body).send().await.unwrap()
    };
    let error = async |response: reqwest::Response, status: u16, kind: &str| {
        assert_eq!(response.status().as_u16(), status);
        let body: Value = response.json().await.unwrap();
        assert_eq!((body["type"].as_str(), body["error"]["type"].as_str()), (Some("error"), Some(kind)), "{body}");
    };
    error(ask("other", FINE).await, 401, "authentication_error").await;
    error(ask("s3cret", &"a".repeat(400)).await, 413, "request_too_large").await;
    upstream.answer_and_hang(vec![named_event(&json!({ "type": "ping" }))]);
    let held = ask("s3cret", FINE).await;
    assert_eq!(held.status().as_u16(), 200);
    let refused = ask("s3cret", FINE).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    error(refused, 429, "rate_limit_error").await;
}
