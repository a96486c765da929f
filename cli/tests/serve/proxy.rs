//! The guarding proxy: what clients get of what an upstream writes.

use std::path::Path;

use axum::body::Bytes;
use qwenguard::Guard;
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    BAD, FINE, TURNS, client,
    server::Server,
    turning_answer,
    upstream::{Upstream, chunk, chunks, done, event, pieces},
};

/// What a client reads of a stream.
struct Streamed {
    status: u16,
    text: String,
    /// The data of its events, but for the last.
    chunks: Vec<Value>,
    is_done: bool,
}

impl Streamed {
    /// What is said in a field of a choice's deltas.
    fn said(&self, index: u64, field: &str) -> String {
        let of = |chunk: &Value| {
            let choices = chunk["choices"].as_array().unwrap().iter();
            let texts =
                choices.filter(|choice| choice["index"] == index).filter_map(|choice| choice["delta"][field].as_str());
            texts.collect::<String>()
        };
        self.chunks.iter().map(of).collect()
    }

    /// How a choice ended.
    fn finish(&self, index: u64) -> Option<String> {
        let choices = self.chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
        let mut reasons =
            choices.filter(|choice| choice["index"] == index).filter_map(|choice| choice["finish_reason"].as_str());
        reasons.next_back().map(str::to_owned)
    }
}

async fn ask_with(server: &Server, body: Value) -> Streamed {
    let response = client().post(format!("{}/v1/chat/completions", server.url)).json(&body).send().await.unwrap();
    read(response).await
}

async fn read(response: reqwest::Response) -> Streamed {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let data: Vec<&str> =
        text.split("\n\n").filter_map(|event| event.trim_start_matches('\n').strip_prefix("data: ")).collect();
    let chunks =
        data.iter().filter(|data| **data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect();
    Streamed { status, chunks, is_done: data.last() == Some(&"[DONE]"), text }
}

async fn ask(server: &Server, prompt: &str) -> Streamed {
    let messages = json!([{ "role": "user", "content": prompt }]);
    ask_with(server, json!({ "model": "m", "stream": true, "messages": messages })).await
}

pub(crate) async fn both() -> (Upstream, Server) {
    let upstream = Upstream::start().await;
    let server = Server::start(&["--upstream", &upstream.url]);
    (upstream, server)
}

/// A server that cuts nothing.
fn in_shadow(upstream: &Upstream) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, "shadow = true").unwrap();
    Server::start(&["--upstream", &upstream.url, "--policy", policy.to_str().unwrap()])
}

/// All streams are given back.
pub(crate) async fn settled(server: &Server) {
    loop {
        let metrics = client().get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
        let is_zero = |name: &str| metrics.lines().any(|line| line == format!("{name} 0"));
        if is_zero("qwenguard_open_streams") && is_zero("qwenguard_http_requests") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// The built-in guard finds nothing in it.
pub(crate) const FINE_ANSWER: &str = "Mix flour, water, salt and yeast in a large bowl. Knead the dough for ten minutes and let it rest \
    under a towel for an hour. Shape a loaf and bake it at 220 degrees until the crust is golden brown.";

const FINE_THOUGHT: &str = "Mix flour, water, salt and yeast in a large bowl.";

#[tokio::test(flavor = "multi_thread")]
async fn a_safe_answer_is_what_the_upstream_wrote() {
    let (upstream, server) = both().await;
    let usage =
        json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": { "total_tokens": 9 } });
    let mut written = chunks(FINE_ANSWER);
    written.push(usage);
    let text: String =
        written.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>() + "data: [DONE]\n\n";
    let odd = format!("\u{feff}: hello\n\n{}", text.replace("\n\n", "\r\n\r\n"));
    for size in [1, 7, 100_000] {
        for text in [&text, &odd] {
            upstream.answer(text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect());
            let read = ask(&server, FINE).await;
            assert_eq!((read.status, read.is_done), (200, true));
            assert_eq!(read.chunks, written, "pieces of {size}");
            assert!(!read.text.contains("hello"));
        }
    }
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_turns_is_cut_at_the_horizon() {
    let (upstream, server) = both().await;
    let (text, cut) = turning_answer();
    // One that goes on for ever: the upstream is closed all the same.
    let mut written: Vec<Bytes> = pieces(&text);
    written.truncate(written.len() - 2);
    for (index, (answer, hangs)) in [(pieces(&text), false), (written, true)].into_iter().enumerate() {
        if hangs {
            upstream.answer_and_hang(answer)
        } else {
            upstream.answer(answer)
        }
        let read = ask(&server, TURNS).await;
        assert_eq!(read.said(0, "content"), text[..cut]);
        assert_eq!((read.finish(0).as_deref(), read.is_done), (Some("content_filter"), true));
        assert!(read.chunks.iter().all(|chunk| chunk["id"] == "chatcmpl-1" && chunk["model"] == "m"));
        upstream.ended(index + 1).await;
    }
    // A piece that has it all is cut within.
    upstream.answer(vec![
        event(&chunk(0, json!({ "role": "assistant", "content": text }), None)),
        event(&chunk(0, json!({}), Some("stop"))),
        done(),
    ]);
    let read = ask(&server, TURNS).await;
    assert_eq!(read.said(0, "content"), text[..cut]);
    assert_eq!(read.finish(0).as_deref(), Some("content_filter"));
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_stopped_gets_no_answer() {
    let (upstream, server) = both().await;
    upstream.answer_and_hang(pieces(FINE_ANSWER));
    let read = ask(&server, BAD).await;
    assert_eq!(read.status, 400);
    let body: Value = serde_json::from_str(&read.text).unwrap();
    assert_eq!(
        (body["error"]["code"].as_str(), body["error"]["type"].as_str()),
        (Some("content_filter"), Some("invalid_request_error"))
    );
    settled(&server).await;
    for (body, named) in [
        (json!({ "stream": true }), "messages is not a list"),
        (
            json!({ "messages": [{ "role": "user", "content": FINE }, { "role": "assistant", "content": "Mix" }] }),
            "goes on",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "x" } }] }] }),
            "image_url",
        ),
        (json!({ "n": 0, "messages": [{ "role": "user", "content": FINE }] }), "n is out of range"),
    ] {
        let read = ask_with(&server, body).await;
        assert!(read.status == 400 && read.text.contains(named), "{}", read.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thinking_is_judged_on_its_own_channel() {
    let (upstream, server) = both().await;
    let (bad, _) = turning_answer();
    for field in ["reasoning", "reasoning_content"] {
        let mut written: Vec<Value> = vec![chunk(0, json!({ "role": "assistant", "content": "" }), None)];
        written.extend(FINE_THOUGHT.split_inclusive(' ').map(|word| chunk(0, json!({ field: word }), None)));
        written.extend(chunks(FINE_ANSWER).into_iter().skip(1));
        upstream.answer(written.iter().map(event).chain([done()]).collect());
        let read = ask(&server, FINE).await;
        assert_eq!(read.chunks, written, "{field}");
        let mut written: Vec<Value> =
            bad.split_inclusive(' ').map(|word| chunk(0, json!({ field: word }), None)).collect();
        written.extend(chunks(FINE_ANSWER));
        upstream.answer(written.iter().map(event).chain([done()]).collect());
        let read = ask(&server, TURNS).await;
        let said = read.said(0, field);
        assert!(bad.starts_with(&said) && !said.contains("bomb"), "{said}");
        assert_eq!((read.said(0, "content").as_str(), read.finish(0).as_deref()), ("", Some("content_filter")));
    }
    // Both names with the same text, as some servers write it, are one thought.
    let twice = chunk(0, json!({ "reasoning": FINE_THOUGHT, "reasoning_content": FINE_THOUGHT }), None);
    let written: Vec<Value> = [twice].into_iter().chain(chunks(FINE_ANSWER)).collect();
    upstream.answer(written.iter().map(event).chain([done()]).collect());
    assert_eq!(ask(&server, FINE).await.chunks, written);
    settled(&server).await;
}

fn call(name: Option<&str>, arguments: &str) -> Value {
    let mut call = json!({ "index": 0, "function": { "arguments": arguments } });
    if let Some(name) = name {
        call["id"] = "call_1".into();
        call["type"] = "function".into();
        call["function"]["name"] = name.into();
    }
    chunk(0, json!({ "tool_calls": [call] }), None)
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_calls_are_judged_and_never_cut_in_two() {
    let (upstream, server) = both().await;
    let mut written = vec![call(Some("search"), "")];
    written.extend(["{\"query\": \"", "how to bake ", "caf\\u00", "e9 bread\"}"].map(|text| call(None, text)));
    written.push(chunk(0, json!({}), Some("tool_calls")));
    upstream.answer(written.iter().map(event).chain([done()]).collect());
    let read = ask(&server, FINE).await;
    assert_eq!((read.chunks, read.is_done), (written, true));
    let (bad, _) = turning_answer();
    // Plain, and with every letter as an escape, cut anywhere.
    let escaped: String = bad.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
    for arguments in [format!("{{\"text\": \"{bad}\"}}"), format!("{{\"text\": \"{escaped}\"}}")] {
        let mut written = vec![call(Some("send"), "")];
        written.extend(arguments.as_bytes().chunks(7).map(|piece| call(None, std::str::from_utf8(piece).unwrap())));
        written.push(chunk(0, json!({}), Some("tool_calls")));
        upstream.answer(written.iter().map(event).chain([done()]).collect());
        let read = ask(&server, TURNS).await;
        let sent: String = read
            .chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
            .collect();
        assert!(arguments.starts_with(&sent) && sent.len() < arguments.len() / 2 + 20, "{sent}");
        assert_eq!(read.finish(0).as_deref(), Some("content_filter"));
    }
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_answers_the_others_go_on() {
    let (upstream, server) = both().await;
    let (bad, cut) = turning_answer();
    let mut written = Vec::new();
    let (mut good, mut bad_words) = (FINE_ANSWER.split_inclusive(' '), bad.split_inclusive(' '));
    loop {
        let pair = [(0, bad_words.next()), (1, good.next())];
        if pair.iter().all(|(_, word)| word.is_none()) {
            break;
        }
        written
            .extend(pair.into_iter().filter_map(|(index, word)| Some(chunk(index, json!({ "content": word? }), None))));
    }
    written.extend([0, 1].map(|index| chunk(index, json!({}), Some("stop"))));
    upstream.answer(written.iter().map(event).chain([done()]).collect());
    let messages = json!([{ "role": "user", "content": TURNS }]);
    let read = ask_with(&server, json!({ "model": "m", "n": 2, "stream": true, "messages": messages })).await;
    assert_eq!((read.said(0, "content").as_str(), read.said(1, "content").as_str()), (&bad[..cut], FINE_ANSWER));
    assert_eq!((read.finish(0).as_deref(), read.finish(1).as_deref()), (Some("content_filter"), Some("stop")));
    assert!(read.is_done);
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_is_not_sent() {
    let (upstream, server) = both().await;
    let secret = "take the explosives";
    for strange in [
        event(&chunk(0, json!({ "audio": { "transcript": secret } }), None)),
        event(&chunk(0, json!({ "thoughts": secret }), None)),
        event(&chunk(0, json!({ "content": [{ "text": secret }] }), None)),
        event(&chunk(
            0,
            json!({ "tool_calls": [{ "index": 0, "type": "custom", "custom": { "input": secret } }] }),
            None,
        )),
        event(&chunk(0, json!({ "reasoning": "one", "reasoning_content": secret }), None)),
        event(&json!({ "choices": [{ "index": 0, "text": secret }] })),
        event(&json!({ "choices": secret })),
        format!("data: {secret}\n\n").into(),
        format!("data: [\"{secret}\"]\n\n").into(),
        Bytes::from_static(b"data: {\"choices\":[],\"x\":\"\xff\"}\n\n"),
    ] {
        let mut written: Vec<Bytes> = chunks(FINE_ANSWER).iter().take(5).map(event).collect();
        written.extend([strange.clone(), done()]);
        upstream.answer(written);
        let read = ask(&server, FINE).await;
        assert!(!read.is_done && !read.text.contains(secret), "{}", read.text);
        assert_eq!(read.chunks.last().unwrap()["error"]["code"], "unjudged_answer", "{strange:?}");
        assert!(
            FINE_ANSWER.starts_with(
                &read.chunks[..read.chunks.len() - 1]
                    .iter()
                    .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
                    .collect::<String>()
            )
        );
    }
    upstream.answer_as("text/plain", secret);
    let read = ask(&server, FINE).await;
    assert!(read.status == 502 && !read.text.contains(secret), "{}", read.text);
    settled(&server).await;
}

/// An answer that said how it ended has no more text.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_end_is_not_sent() {
    let (upstream, server) = both().await;
    let secret = "take the explosives";
    for strange in [
        json!({ "content": secret }),
        json!({ "reasoning": secret }),
        json!({ "tool_calls": [{ "index": 0, "id": "c", "type": "function", "function": { "name": "f", "arguments": secret } }] }),
    ] {
        let mut written: Vec<Bytes> = chunks(FINE_ANSWER).iter().map(event).collect();
        written.extend([event(&chunk(0, strange.clone(), None)), done()]);
        upstream.answer(written);
        let read = ask(&server, FINE).await;
        assert!(!read.is_done && !read.text.contains(secret), "{}", read.text);
        let error = read.chunks.last().unwrap()["error"].clone();
        assert_eq!(
            (error["code"].as_str(), error["type"].as_str()),
            (Some("unjudged_answer"), Some("server_error")),
            "{strange}"
        );
    }
    // The end may be told twice.
    let mut written = chunks(FINE_ANSWER);
    written.push(chunk(0, json!({ "content": "" }), Some("stop")));
    upstream.answer(written.iter().map(event).chain([done()]).collect());
    let read = ask(&server, FINE).await;
    assert_eq!((read.chunks, read.is_done), (written, true));
    settled(&server).await;
}

fn completion(message: Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m",
        "choices": [{ "index": 0, "message": message, "logprobs": { "content": [{ "token": "Mix", "logprob": -0.5, "bytes": [77], "top_logprobs": [] }] }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14 },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_is_judged_too() {
    let (upstream, server) = both().await;
    let (bad, cut) = turning_answer();
    let whole = json!({ "model": "m", "messages": [{ "role": "user", "content": TURNS }] });
    let ask = async || {
        let response = client().post(format!("{}/v1/chat/completions", server.url)).json(&whole).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let fine =
        completion(json!({ "role": "assistant", "reasoning": FINE_THOUGHT, "content": FINE_ANSWER, "refusal": null }));
    upstream.answer_whole(200, &fine);
    assert_eq!(ask().await, (200, fine));
    upstream.answer_whole(200, &completion(json!({ "role": "assistant", "content": bad, "refusal": null })));
    let (_, body) = ask().await;
    let choice = &body["choices"][0];
    assert_eq!(
        (choice["message"]["content"].as_str(), choice["finish_reason"].as_str()),
        (Some(&bad[..cut]), Some("content_filter"))
    );
    assert_eq!((&choice["logprobs"], body["usage"]["total_tokens"].as_u64()), (&Value::Null, Some(14)));
    let calls = json!([{ "id": "c", "type": "function", "function": { "name": "send", "arguments": format!("{{\"text\": \"{bad}\"}}") } }]);
    upstream.answer_whole(200, &completion(json!({ "role": "assistant", "content": null, "tool_calls": calls })));
    let (_, body) = ask().await;
    assert!(
        body["choices"][0]["message"].get("tool_calls").is_none()
            && body["choices"][0]["finish_reason"] == "content_filter"
    );
    for strange in [
        json!({ "choices": [{ "index": 0, "text": bad }] }),
        json!({ "output": bad }),
        completion(json!({ "content": FINE_ANSWER, "audio": { "transcript": bad } })),
    ] {
        upstream.answer_whole(200, &strange);
        let (status, body) = ask().await;
        assert_eq!((status, body["error"]["code"].as_str()), (502, Some("unjudged_answer")));
    }
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_upstream_are_passed_on() {
    let (upstream, server) = both().await;
    let error = json!({ "error": { "message": "slow down", "type": "rate_limit_error", "param": null, "code": null } });
    upstream.answer_whole(429, &error);
    let read = ask(&server, FINE).await;
    assert_eq!((read.status, serde_json::from_str::<Value>(&read.text).unwrap()), (429, error.clone()));
    let mut written: Vec<Bytes> = chunks(FINE_ANSWER).iter().take(4).map(event).collect();
    written.push(event(&error));
    upstream.answer(written);
    let read = ask(&server, FINE).await;
    assert_eq!((read.chunks.last(), read.is_done), (Some(&error), false));
    // It breaks off: what was written is judged, and the stream has no end either.
    upstream.answer(chunks(FINE_ANSWER).iter().take(4).map(event).collect());
    let read = ask(&server, FINE).await;
    assert_eq!((read.said(0, "content").as_str(), read.finish(0), read.is_done), ("Mix flour, water, ", None, false));
    let response = client().get(format!("{}/v1/models", server.url)).send().await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap()["object"], "list");
    let nobody = Server::start(&["--upstream", "http://user:s3cret@127.0.0.1:9/v1"]);
    let read = ask(&nobody, FINE).await;
    assert!(read.status == 502 && read.text.contains("upstream_failed"), "{}", read.text);
    // Clients are not told where it is.
    assert!(["s3cret", "127.0.0.1"].iter().all(|part| !read.text.contains(part)), "{}", read.text);
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_upstream_is_given_up() {
    let upstream = Upstream::start().await;
    let server = Server::start(&["--upstream", &upstream.url, "--upstream-seconds", "1"]);
    upstream.answer_and_hang(chunks(FINE_ANSWER).iter().take(4).map(event).collect());
    let read = ask(&server, FINE).await;
    assert_eq!((read.chunks.last().unwrap()["error"]["code"].as_str(), read.is_done), (Some("upstream_silent"), false));
    upstream.ended(1).await;
    settled(&server).await;
}

/// While the upstream says nothing, the client is told between events that the connection lives.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_kept_open() {
    let (upstream, server) = both().await;
    let written = pieces(FINE_ANSWER);
    let (first, rest) = (written[..5].concat().into(), written[5..].to_vec());
    let release = upstream.answer_when_released([vec![first], rest].concat());
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": FINE }] });
    let mut response = client().post(format!("{}/v1/chat/completions", server.url)).json(&body).send().await.unwrap();
    let mut text = String::new();
    let mut release = Some(release);
    while let Some(piece) = response.chunk().await.unwrap() {
        text += std::str::from_utf8(&piece).unwrap();
        if text.ends_with(": keep-alive\n\n")
            && let Some(release) = release.take()
        {
            release.send(()).unwrap();
        }
    }
    assert!(release.is_none() && text.contains("\n\n: keep-alive\n\n"));
    let events: Vec<&str> = text.split_inclusive("\n\n").filter(|event| !event.starts_with(':')).collect();
    assert_eq!(events.concat(), String::from_utf8(written.concat()).unwrap());
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_closes_the_upstream() {
    let (upstream, server) = both().await;
    upstream.answer_and_hang(pieces(FINE_ANSWER)[..5].to_vec());
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": FINE }] });
    let mut response = client().post(format!("{}/v1/chat/completions", server.url)).json(&body).send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    upstream.ended(1).await;
    settled(&server).await;
}

/// A client that takes nothing is waited for: the upstream is not read on, and nothing piles up in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stops_the_upstream() {
    let (upstream, server) = both().await;
    // Far more than the system keeps for both connections.
    let long = event(&json!({ "choices": [], "usage": { "details": vec![7; 50_000] } }));
    upstream.answer(vec![long; 2000]);
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": FINE }] });
    let mut response = client().post(format!("{}/v1/chat/completions", server.url)).json(&body).send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    let sent = upstream.stuck_at().await;
    assert!(sent < 1000, "{sent} of 2000 were read");
    drop(response);
    upstream.ended(1).await;
    settled(&server).await;
}

/// One that never takes anything gives back its room, though its connection is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_given_up() {
    let upstream = Upstream::start().await;
    let server = Server::start(&["--upstream", &upstream.url, "--upstream-seconds", "1"]);
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": FINE }] }).to_string();
    let ask = async || {
        let mut connection = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        connection.write_all((head + &body).as_bytes()).await.unwrap();
        connection
    };
    upstream.answer(vec![event(&json!({ "choices": [], "usage": { "details": vec![7; 50_000] } })); 2000]);
    let streamed = ask().await;
    upstream.ended(1).await;
    settled(&server).await;
    let mut whole = completion(json!({ "role": "assistant", "content": FINE_ANSWER }));
    whole["usage"]["details"] = json!(vec![1_234_567_890_123_456_u64; 500_000]);
    upstream.answer_whole(200, &whole);
    let held = ask().await;
    upstream.ended(2).await;
    settled(&server).await;
    drop((streamed, held));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_server_stay_there() {
    let upstream = Upstream::start().await;
    let ask = async |server: &Server| {
        upstream.answer(pieces(FINE_ANSWER));
        let body = json!({ "model": "m", "stream": true, "temperature": 0.5, "messages": [{ "role": "user", "content": FINE }] });
        let request =
            client().post(format!("{}/v1/chat/completions", server.url)).header(AUTHORIZATION, "Bearer s3cret");
        let request =
            request.header("x-custom", "kept").header("connection", "x-hop").header("x-hop", "lost").json(&body);
        assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
        let (headers, sent) = upstream.requests().pop().unwrap();
        assert_eq!((sent, headers["x-custom"].to_str().unwrap()), (body, "kept"));
        assert_eq!(headers["accept-encoding"], "identity");
        assert!(!headers.contains_key("x-hop"));
        headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
    };
    let open = Server::start(&["--upstream", &upstream.url]);
    assert_eq!(ask(&open).await.as_deref(), Some("Bearer s3cret"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "s3cret").unwrap();
    let keyed = ["--upstream", &upstream.url, "--key-file", file.to_str().unwrap()];
    assert_eq!(ask(&Server::start(&keyed)).await, None);
    let named = [&keyed[..], &["--upstream-key-env", "QWENGUARD_TEST_KEY"]].concat();
    let server = Server::start_with(&named, &[("QWENGUARD_TEST_KEY", "theirs")]);
    assert_eq!(ask(&server).await.as_deref(), Some("Bearer theirs"));
}

/// How the upstream is told its key depends on the route, unless the settings say so.
#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_key_has_its_header() {
    let upstream = Upstream::start().await;
    let bearer = Some("Bearer theirs".to_owned());
    let plain = Some("theirs".to_owned());
    for (header, chat, messages) in [
        (None, [&bearer, &None], [&bearer, &plain]),
        (Some("authorization"), [&bearer, &None], [&bearer, &None]),
        (Some("x-api-key"), [&None, &plain], [&None, &plain]),
    ] {
        let mut arguments = vec!["--upstream", &*upstream.url, "--upstream-key-env", "QWENGUARD_TEST_KEY"];
        arguments.extend(header.iter().flat_map(|header| ["--upstream-key-header", header]));
        let server = Server::start_with(&arguments, &[("QWENGUARD_TEST_KEY", "theirs")]);
        for (path, wanted) in [("chat/completions", chat), ("messages", messages)] {
            let body = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": FINE }] });
            // The client's own stay here.
            let request = client().post(format!("{}/v1/{path}?beta=true&x=%20", server.url)).json(&body);
            request.bearer_auth("mine").header("x-api-key", "mine").send().await.unwrap();
            let (headers, _) = upstream.requests().pop().unwrap();
            let of = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!([&of("authorization"), &of("x-api-key")], wanted, "{header:?} {path}");
            assert_eq!(upstream.paths().pop().unwrap(), format!("/v1/{path}?beta=true&x=%20"));
        }
        client().get(format!("{}/v1/models?after=7", server.url)).send().await.unwrap();
        assert_eq!(upstream.paths().pop().unwrap(), "/v1/models?after=7");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_policy_cuts_nothing_and_reports() {
    let upstream = Upstream::start().await;
    let server = in_shadow(&upstream);
    let (bad, _) = turning_answer();
    upstream.answer(pieces(&bad));
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": BAD }] });
    let response = client().post(format!("{}/v1/chat/completions", server.url)).json(&body).send().await.unwrap();
    let prompt: Value = serde_json::from_slice(response.headers()["x-qwenguard-prompt"].as_bytes()).unwrap();
    assert_eq!((prompt["category"].as_str(), prompt["action"].as_str()), (Some("Violent"), Some("stop")));
    let mut read = read(response).await;
    // The last chunk says what was found, and has no choice and no text.
    let told = read.chunks.pop().unwrap();
    assert_eq!((&read.chunks, read.is_done, &told["choices"]), (&chunks(&bad), true, &json!([])));
    let found = &told["qwenguard"]["findings"][0];
    assert_eq!((found["risk"].as_str(), found["category"].as_str()), (Some("Unsafe"), Some("Violent")));
    assert!(found["byte_start"].as_u64().unwrap() >= 153 && !told.to_string().contains("bomb"));
    upstream.answer(pieces(FINE_ANSWER));
    assert_eq!(ask(&server, FINE).await.chunks, chunks(FINE_ANSWER));
    upstream.answer_whole(200, &completion(json!({ "role": "assistant", "content": bad })));
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": TURNS }] });
    let response = client().post(format!("{}/v1/chat/completions", server.url)).json(&body).send().await.unwrap();
    let findings: Value = serde_json::from_slice(response.headers()["x-qwenguard-findings"].as_bytes()).unwrap();
    assert_eq!(findings[0]["category"], "Violent");
    assert!(!response.headers().contains_key("x-qwenguard-prompt"));
    settled(&server).await;
    let metrics = client().get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    for place in ["prompt", "answer"] {
        let wanted = format!(
            "qwenguard_proxy_findings_total{{place=\"{place}\",risk=\"Unsafe\",category=\"Violent\",stopped=\"false\"}} "
        );
        assert!(metrics.lines().any(|line| line.starts_with(&wanted)), "{wanted} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_may_be_long() {
    let upstream = Upstream::start().await;
    let server = in_shadow(&upstream);
    let long = "All is well, caf\u{e9} and \u{1f35e}. ".repeat(100);
    let written = [chunk(0, json!({ "role": "assistant", "content": long }), None), chunk(0, json!({}), Some("stop"))];
    upstream.answer(written.iter().map(event).chain([done()]).collect());
    let mut read = ask(&server, FINE).await;
    // The built-in guard may find something in it, which is told then.
    read.chunks.retain(|chunk| chunk.get("qwenguard").is_none());
    assert_eq!((&read.chunks[..], read.is_done), (&written[..], true));
    // More than the model's context cannot be judged.
    let longer = chunk(0, json!({ "content": "All is well. ".repeat(10_000) }), None);
    upstream.answer(vec![event(&longer), done()]);
    let read = ask(&server, FINE).await;
    assert_eq!(
        (read.chunks.last().unwrap()["error"]["code"].as_str(), read.is_done),
        (Some("context_length_exceeded"), false)
    );
    settled(&server).await;
}

/// An event of more than ten thousand tokens, with a guard whose context holds it: whole where nothing is cut, and else cut
/// within.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_ten_thousand_tokens_is_judged() {
    let upstream = Upstream::start().await;
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/golden/nano-long");
    assert!(bundle.is_dir(), "{} is missing: run `make test-data`", bundle.display());
    let bundle = bundle.to_str().unwrap();
    let guard = Guard::open(bundle).unwrap();
    let (bad, horizon) = turning_answer();
    let long = format!("{bad} {}", "All is well. ".repeat(3_000));
    let count = guard.encode(&long).unwrap().len();
    assert!((10_000..16_000).contains(&count), "{count}");
    let written = [chunk(0, json!({ "role": "assistant", "content": long }), None), chunk(0, json!({}), Some("stop"))];
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, "shadow = true").unwrap();
    for shadow in [true, false] {
        let mut arguments = vec!["--upstream", &upstream.url, "--bundle", bundle];
        arguments.extend(shadow.then(|| ["--policy", policy.to_str().unwrap()]).into_iter().flatten());
        let server = Server::start(&arguments);
        upstream.answer(written.iter().map(event).chain([done()]).collect());
        let mut read = ask(&server, TURNS).await;
        read.chunks.retain(|chunk| chunk.get("qwenguard").is_none());
        assert!(read.is_done, "{:?}", read.chunks);
        if shadow {
            assert_eq!(&read.chunks[..], &written[..]);
        } else {
            let passed: String =
                read.chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
            assert_eq!(passed, long[..horizon]);
            assert_eq!(read.chunks.last().unwrap()["choices"][0]["finish_reason"], "content_filter");
        }
        settled(&server).await;
    }
}

/// Text in places that clients do not read as the answer is not passed on either.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_taken_away() {
    let (upstream, server) = both().await;
    let secret = "take the explosives";
    for strange in [
        json!({ "choices": [], "text": secret }),
        json!({ "choices": [], "Choices": [{ "delta": { "content": secret } }] }),
        json!({ "choices": [], "usage": { "note": secret } }),
        json!({ "choices": [], "search_results": [{ "snippet": secret }] }),
        json!({ "choices": [], secret: 1 }),
        json!({ "id": secret, "choices": [{ "index": 0, "delta": { "role": secret }, "finish_reason": null }] }),
        json!({ "choices": [{ "index": 0, "delta": {}, "logprobs": { "content": [{ "token": secret }] } }] }),
        json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": 0, "arguments": secret }] } }] }),
        json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": 0, "id": secret, "function": { "name": "f", "more": secret } }] } }] }),
    ] {
        let mut written: Vec<Bytes> = chunks(FINE_ANSWER).iter().take(5).map(event).collect();
        written.extend([format!(": {secret}\nevent: {secret}\nid: {secret}\n").into(), event(&strange)]);
        written.extend([event(&chunk(0, json!({}), Some("stop"))), done()]);
        upstream.answer(written);
        let read = ask(&server, FINE).await;
        assert!(!read.text.contains(secret) && read.is_done, "{strange}: {}", read.text);
    }
    for whole in [
        json!({ "choices": [{ "index": 0, "message": { "content": FINE_ANSWER }, "text": secret }] }),
        json!({ "choices": [{ "index": 0, "message": { "content": FINE_ANSWER }, "finish_reason": secret }], "note": secret }),
    ] {
        upstream.answer_whole(200, &whole);
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": FINE }] });
        let read = ask_with(&server, body).await;
        assert!(!read.text.contains(secret), "{}", read.text);
    }
    let twice = r#"{"choices":[{"index":0,"message":{"content":"take the explosives"}}],"choices":[]}"#;
    upstream.answer_as("application/json", twice);
    let read = ask(&server, FINE).await;
    assert!(read.status == 502 && !read.text.contains(secret), "{}", read.text);
    settled(&server).await;
}

/// Where several texts are in one answer, each is cut at its own place.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_before_does_not_move_the_cut() {
    let (upstream, server) = both().await;
    let (bad, _) = turning_answer();
    // The same thinking under both names, after text.
    let twice = chunk(0, json!({ "reasoning": bad, "reasoning_content": bad }), None);
    for written in [vec![twice.clone()], vec![chunk(0, json!({ "content": FINE_ANSWER }), None), twice]] {
        upstream.answer(written.iter().map(event).chain([done()]).collect());
        let read = ask(&server, TURNS).await;
        for field in ["reasoning", "reasoning_content"] {
            let said = read.said(0, field);
            assert!(bad.starts_with(&said) && !said.contains("bomb"), "{said}");
        }
        assert!(read.said(0, "reasoning") == read.said(0, "reasoning_content") && read.is_done);
    }
    let written = [call(Some("search"), "{}"), chunk(0, json!({ "content": bad }), None)];
    upstream.answer(written.iter().map(event).chain([done()]).collect());
    let said = ask(&server, TURNS).await.said(0, "content");
    assert!(bad.starts_with(&said) && !said.contains("bomb") && !said.contains("explosives, build"), "{said}");
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_redirects_lead_nobody_past_the_guard() {
    let (upstream, server) = both().await;
    let secret = "take the explosives";
    upstream.answer_whole(400, &json!({ "error": { "message": "no", "failed_generation": secret }, "text": secret }));
    let read = ask(&server, FINE).await;
    assert!(read.status == 400 && !read.text.contains(secret), "{}", read.text);
    upstream.answer_whole(307, &json!({ "text": secret }));
    let read = ask(&server, FINE).await;
    assert!(read.status == 502 && !read.text.contains(secret), "{}", read.text);
    for (field, value) in
        [("documents", json!([{ "text": secret }])), ("prompt", json!(secret)), ("chat_template", json!(secret))]
    {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": FINE }] });
        body[field] = value;
        let read = ask_with(&server, body).await;
        assert!(read.status == 400 && read.text.contains(field), "{}", read.text);
    }
    settled(&server).await;
}

/// The bytes as gzip, which stores them as they are.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    let length = u16::try_from(bytes.len()).unwrap();
    let mut all = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    all.extend(length.to_le_bytes().into_iter().chain((!length).to_le_bytes()));
    all.extend(bytes);
    all.extend((!crc).to_le_bytes().into_iter().chain(u32::from(length).to_le_bytes()));
    all
}

/// Nobody asked for it: what is compressed is read, and sent as it is; what cannot be read is not sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_may_compress() {
    let (upstream, server) = both().await;
    let (bad, cut) = turning_answer();
    for size in [3, 100_000] {
        let of =
            |text: &str| gzip(&pieces(text).concat()).chunks(size).map(Bytes::copy_from_slice).collect::<Vec<Bytes>>();
        upstream.answer_encoded("gzip", of(FINE_ANSWER));
        let read = ask(&server, FINE).await;
        assert_eq!((read.chunks, read.is_done), (chunks(FINE_ANSWER), true));
        upstream.answer_encoded("gzip", of(&bad));
        let read = ask(&server, TURNS).await;
        assert_eq!(
            (read.said(0, "content"), read.finish(0).as_deref()),
            (bad[..cut].to_owned(), Some("content_filter"))
        );
    }
    // Said to be what it is not, or of a kind that is not known.
    for (encoding, written) in
        [("gzip", pieces(&bad)), ("br", pieces(&bad)), ("odd", vec![gzip(&pieces(&bad).concat()).into()])]
    {
        upstream.answer_encoded(encoding, written);
        let read = ask(&server, TURNS).await;
        assert!(!read.is_done && !read.text.contains("bomb"), "{encoding}: {}", read.text);
        assert!(read.status == 502 || read.chunks.last().unwrap().get("error").is_some(), "{encoding}: {}", read.text);
    }
    settled(&server).await;
}
