//! Traces, sent to a receiver of our own: `make test-otlp`.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    BAD, FINE, client,
    proxy::FINE_ANSWER,
    server::{Server, command},
    upstream::{Upstream, pieces},
};

/// What came, as it came: protocol buffers, whose texts are bytes in them.
type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn take(State(received): State<Received>, headers: HeaderMap, body: Bytes) {
    received.lock().unwrap().push((headers, body));
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_spans_without_texts() {
    let received = Received::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/traces", post(take)).with_state(received.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let upstream = Upstream::start().await;
    let mut server = Server::start(&["--otlp-endpoint", &collector, "--upstream", &upstream.url]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let ask = async |path: &str, body| {
        let request = client()
            .post(format!("{}{path}", server.url))
            .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"));
        request.json(&body).send().await.unwrap().text().await.unwrap()
    };
    ask("/v1/moderations", json!({ "input": BAD })).await;
    upstream.answer(pieces(FINE_ANSWER));
    let text = ask(
        "/v1/chat/completions",
        json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": FINE }] }),
    )
    .await;
    assert!(text.ends_with("data: [DONE]\n\n"));
    // The upstream's work belongs to the same trace, below a span of ours.
    let told = upstream.requests().pop().unwrap().0["traceparent"].to_str().unwrap().to_owned();
    assert!(told.contains(trace) && !told.contains("b7ad6b7169203331"), "{told}");
    // The last spans are sent when the server ends.
    server.terminate();
    assert!(server.wait().success());
    let received = received.lock().unwrap();
    let all: Vec<u8> = received.iter().flat_map(|(_, body)| body.to_vec()).collect();
    let id: Vec<u8> = (0..32).step_by(2).map(|at| u8::from_str_radix(&trace[at..at + 2], 16).unwrap()).collect();
    for part in [
        &b"POST /v1/moderations"[..],
        b"POST /v1/chat/completions",
        b"prompt",
        b"upstream",
        b"http.route",
        b"qwenguard",
        &id,
    ] {
        assert!(has(&all, part), "{:?} was not sent", String::from_utf8_lossy(part));
    }
    for text in ["neighbour", "bread", "flour"] {
        assert!(!has(&all, text.as_bytes()), "{text} was sent");
    }
    assert!(received.iter().all(|(headers, _)| headers["content-type"] == "application/x-protobuf"));
}

#[test]
fn a_collector_that_is_none_is_an_error() {
    let output = command(&["--otlp-endpoint", "nowhere"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains("serve.otlp_endpoint"), "{error}");
}
