//! The proxy before a server that speaks OpenAI's Responses.

use serde_json::{Value, json};

use crate::{
    BAD, FINE, TURNS, client,
    proxy::{FINE_ANSWER, both, settled},
    server::Server,
    turning_answer,
    upstream::{Upstream, named_event, read_named},
};

fn response(status: &str, output: &[Value]) -> Value {
    json!({ "id": "resp_1", "object": "response", "status": status, "model": "m", "output": output, "incomplete_details": null })
}

/// The events of an answer: thinking if there is any, then a text, a word each.
fn answer(thinking: &str, text: &str) -> Vec<Value> {
    let mut events = vec![json!({ "type": "response.created", "response": response("in_progress", &[]) })];
    let mut output = Vec::new();
    if !thinking.is_empty() {
        let item = |summary: Value| json!({ "type": "reasoning", "id": "rs_1", "summary": summary });
        let part = |text: &str| json!({ "type": "summary_text", "text": text });
        events.push(json!({ "type": "response.output_item.added", "output_index": 0, "item": item(json!([])) }));
        events.push(json!({ "type": "response.reasoning_summary_part.added", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "part": part("") }));
        events.extend(thinking.split_inclusive(' ').map(|word| json!({ "type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "delta": word })));
        events.push(json!({ "type": "response.reasoning_summary_text.done", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "text": thinking }));
        events.push(json!({ "type": "response.reasoning_summary_part.done", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "part": part(thinking) }));
        output.push(item(json!([part(thinking)])));
        events.push(json!({ "type": "response.output_item.done", "output_index": 0, "item": output[0] }));
    }
    let index = output.len();
    let item = |status: &str, content: Value| json!({ "type": "message", "id": "msg_1", "status": status, "role": "assistant", "content": content });
    let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
    events.push(
        json!({ "type": "response.output_item.added", "output_index": index, "item": item("in_progress", json!([])) }),
    );
    events.push(json!({ "type": "response.content_part.added", "item_id": "msg_1", "output_index": index, "content_index": 0, "part": part("") }));
    events.extend(text.split_inclusive(' ').map(|word| json!({ "type": "response.output_text.delta", "item_id": "msg_1", "output_index": index, "content_index": 0, "delta": word, "logprobs": [] })));
    events.push(json!({ "type": "response.output_text.done", "item_id": "msg_1", "output_index": index, "content_index": 0, "text": text, "logprobs": [] }));
    events.push(json!({ "type": "response.content_part.done", "item_id": "msg_1", "output_index": index, "content_index": 0, "part": part(text) }));
    output.push(item("completed", json!([part(text)])));
    events.push(json!({ "type": "response.output_item.done", "output_index": index, "item": output[index] }));
    events.push(json!({ "type": "response.completed", "response": response("completed", &output) }));
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = number.into();
    }
    events
}

async fn ask(server: &Server, body: Value) -> (u16, String) {
    let response = client().post(format!("{}/v1/responses", server.url)).json(&body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn streamed(upstream: &Upstream, server: &Server, prompt: &str, events: &[Value]) -> Vec<Value> {
    upstream.answer(events.iter().map(named_event).collect());
    let (status, text) = ask(server, json!({ "model": "m", "stream": true, "input": prompt })).await;
    assert_eq!(status, 200);
    read_named(&text)
}

const THOUGHT: &str = "Mix flour, water, salt and yeast in a large bowl.";

#[tokio::test(flavor = "multi_thread")]
async fn a_safe_answer_is_what_the_upstream_wrote() {
    let (upstream, server) = both().await;
    for thinking in ["", THOUGHT] {
        let written = answer(thinking, FINE_ANSWER);
        assert_eq!(streamed(&upstream, &server, FINE, &written).await, written);
    }
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_turns_ends_as_incomplete() {
    let (upstream, server) = both().await;
    let (bad, cut) = turning_answer();
    let read = streamed(&upstream, &server, TURNS, &answer("", &bad)).await;
    let deltas: String = read.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(deltas, bad[..cut]);
    let last: Vec<&Value> = read.iter().rev().take(4).collect();
    let kinds: Vec<&str> = last.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["response.incomplete", "response.output_item.done", "response.content_part.done", "response.output_text.done"]
    );
    assert_eq!((last[3]["text"].as_str(), last[2]["part"]["text"].as_str()), (Some(&bad[..cut]), Some(&bad[..cut])));
    let whole = &last[0]["response"];
    assert_eq!(
        (whole["status"].as_str(), whole["incomplete_details"]["reason"].as_str()),
        (Some("incomplete"), Some("content_filter"))
    );
    assert_eq!(whole["output"][0], last[1]["item"]);
    assert_eq!(
        (last[1]["item"]["status"].as_str(), last[1]["item"]["content"][0]["text"].as_str()),
        (Some("incomplete"), Some(&bad[..cut]))
    );
    let numbers: Vec<u64> = read.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
    // Thinking that turns.
    let read = streamed(&upstream, &server, TURNS, &answer(&bad, FINE_ANSWER)).await;
    let all: String = read.iter().map(Value::to_string).collect();
    assert!(!all.contains("bomb") && !all.contains("flour"), "{all}");
    assert_eq!(read.last().unwrap()["response"]["incomplete_details"]["reason"], "content_filter");
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_functions_are_judged() {
    let (upstream, server) = both().await;
    let (bad, _) = turning_answer();
    let call = |arguments: &str| {
        let item = |status: &str, arguments: &str| json!({ "type": "function_call", "id": "fc_1", "call_id": "c", "name": "send", "arguments": arguments, "status": status });
        let mut events = vec![
            json!({ "type": "response.created", "response": response("in_progress", &[]) }),
            json!({ "type": "response.output_item.added", "output_index": 0, "item": item("in_progress", "") }),
        ];
        events.extend(arguments.split_inclusive(' ').map(|word| json!({ "type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 0, "delta": word })));
        events.push(json!({ "type": "response.function_call_arguments.done", "item_id": "fc_1", "output_index": 0, "arguments": arguments }));
        events.push(
            json!({ "type": "response.output_item.done", "output_index": 0, "item": item("completed", arguments) }),
        );
        events.push(
            json!({ "type": "response.completed", "response": response("completed", &[item("completed", arguments)]) }),
        );
        events
    };
    let fine = call("{\"query\": \"how to bake bread\"}");
    assert_eq!(streamed(&upstream, &server, FINE, &fine).await, fine);
    let read = streamed(&upstream, &server, TURNS, &call(&format!("{{\"text\": \"{bad}\"}}"))).await;
    let all: String = read.iter().map(Value::to_string).collect();
    assert!(!all.contains("bomb"), "{all}");
    assert_eq!(read.last().unwrap()["response"]["status"], "incomplete");
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_repeated_is_what_was_told() {
    let (upstream, server) = both().await;
    let secret = "take the explosives";
    let mut cases: Vec<Value> = ["response.output_text.done", "response.refusal.done"]
        .map(|kind| json!({ "type": kind, "text": secret }))
        .to_vec();
    cases.extend([
        json!({ "type": "response.content_part.done", "part": { "type": "output_text", "text": secret } }),
        json!({ "type": "response.content_part.done", "part": { "type": "output_text", "text": "", "annotations": [{ "title": secret }] } }),
        json!({ "type": "response.output_item.done", "item": { "type": "message", "content": [{ "type": "output_text", "text": secret }] } }),
        json!({ "type": "response.completed", "response": { "output": [{ "type": "message", "content": [{ "text": secret }] }] } }),
        json!({ "type": "response.output_item.added", "item": { "type": "web_search_call", "query": secret } }),
        json!({ "type": "response.output_text.annotation.added", "annotation": { "title": secret } }),
        json!({ "type": "response.audio.delta", "delta": secret }),
    ]);
    for strange in cases {
        let mut written = answer("", FINE_ANSWER);
        written.insert(6, strange.clone());
        let read = streamed(&upstream, &server, FINE, &written).await;
        let all: String = read.iter().map(Value::to_string).collect();
        assert!(!all.contains(secret), "{all}");
        let last = read.last().unwrap();
        assert_eq!(
            (last["type"].as_str(), last["code"].as_str()),
            (Some("error"), Some("unjudged_answer")),
            "{strange}"
        );
    }
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_are_read_in_every_shape() {
    let (upstream, server) = both().await;
    let input = json!([
        { "role": "user", "content": [{ "type": "input_text", "text": FINE }] },
        { "type": "reasoning", "id": "rs_1", "summary": [] },
        { "type": "function_call", "call_id": "c", "name": "search", "arguments": "{\"query\": \"bread\"}" },
        { "type": "function_call_output", "call_id": "c", "output": "Mix flour." },
    ]);
    upstream.answer(answer("", FINE_ANSWER).iter().map(named_event).collect());
    let (status, text) =
        ask(&server, json!({ "model": "m", "stream": true, "instructions": "You are a cook.", "input": input })).await;
    assert!(status == 200 && text.contains("response.completed"), "{text}");
    for (body, named) in [
        (json!({ "input": BAD }), "content_filter"),
        (json!({ "input": 7 }), "input is neither"),
        (json!({ "input": FINE, "previous_response_id": "resp_0" }), "previous_response_id"),
        (json!({ "input": [{ "type": "item_reference", "id": "x" }] }), "input[0]: an item of type"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_image", "image_url": "x" }] }] }),
            "input_image",
        ),
    ] {
        upstream.answer(answer("", FINE_ANSWER).iter().map(named_event).collect());
        let (status, text) = ask(&server, body).await;
        assert!(status == 400 && text.contains(named), "{text}");
    }
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_is_judged_too() {
    let (upstream, server) = both().await;
    let (bad, cut) = turning_answer();
    let whole = |text: &str| {
        let part = json!({ "type": "output_text", "text": text, "annotations": [] });
        response("completed", &[json!({ "type": "message", "id": "msg_1", "role": "assistant", "content": [part] })])
    };
    let ask = async |answer: &Value| {
        upstream.answer_whole(200, answer);
        let (status, text) = ask(&server, json!({ "model": "m", "input": TURNS })).await;
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    assert_eq!(ask(&whole(FINE_ANSWER)).await, (200, whole(FINE_ANSWER)));
    let (_, read) = ask(&whole(&bad)).await;
    assert_eq!(read["output"][0]["content"][0]["text"].as_str(), Some(&bad[..cut]));
    assert_eq!(
        (read["status"].as_str(), read["incomplete_details"]["reason"].as_str()),
        (Some("incomplete"), Some("content_filter"))
    );
    let call = json!({ "type": "function_call", "name": "send", "arguments": format!("{{\"text\": \"{bad}\"}}") });
    let (_, read) = ask(&response("completed", &[call])).await;
    assert_eq!(read["output"], json!([]));
    let (status, read) = ask(&response("completed", &[json!({ "type": "web_search_call", "query": bad })])).await;
    assert_eq!((status, read["error"]["code"].as_str()), (502, Some("unjudged_answer")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strange_item_is_no_way_past_the_guard() {
    let (upstream, server) = both().await;
    let (bad, _) = turning_answer();
    for item in [
        json!({ "type": "message", "content": bad }),
        json!({ "type": "message", "content": { "text": bad } }),
        json!({ "type": "reasoning", "summary": bad }),
        json!({ "type": "function_call", "name": "send", "arguments": { "text": bad } }),
        json!({ "type": "function_call", "name": [bad], "arguments": "{}" }),
        json!({ "type": "message", "content": [{ "type": "output_text", "text": "Fine.", "logprobs": [{ "token": bad }] }], "note": bad }),
    ] {
        upstream.answer_whole(200, &response("completed", std::slice::from_ref(&item)));
        let (_, text) = ask(&server, json!({ "model": "m", "input": TURNS })).await;
        assert!(!text.contains("bomb"), "{item}: {text}");
    }
    // Events that lack what they should have end the answer, and the server goes on.
    for strange in [
        json!({ "type": "response.created" }),
        json!({ "type": "response.output_item.added" }),
        json!({ "type": "response.content_part.added", "part": [] }),
        json!({ "type": "response.content_part.done" }),
        json!({ "type": "response.completed" }),
        json!({ "type": "response.created", "response": { "output": [], "output_text": bad, "error": { "message": "x", "text": bad } } }),
        json!({ "type": "response.output_text.delta", "delta": "Fine.", "text": bad, "obfuscation": bad, "logprobs": [{ "token": bad }] }),
    ] {
        let mut written = answer("", FINE_ANSWER);
        written.insert(4, strange.clone());
        let read = streamed(&upstream, &server, FINE, &written).await;
        let all: String = read.iter().map(Value::to_string).collect();
        assert!(!read.is_empty() && !all.contains("bomb"), "{strange}: {all}");
    }
    settled(&server).await;
    let tools = json!([{ "type": "web_search" }]);
    let (status, text) = ask(&server, json!({ "model": "m", "input": FINE, "tools": tools })).await;
    assert!(status == 400 && text.contains("tools"), "{text}");
}
