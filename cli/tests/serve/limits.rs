//! Keys, limits, settings, and how the server ends.

use reqwest::header::AUTHORIZATION;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    FINE, client, post,
    proxy::FINE_ANSWER,
    server::{Server, command},
    upstream::{Upstream, pieces},
};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_nothing_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "s3cret\n").unwrap();
    let server = Server::start(&["--key-file", file.to_str().unwrap()]);
    let ask = async |path: &str, key: Option<&str>| {
        let request = if path.starts_with("/v1") {
            client().post(format!("{}{path}", server.url))
        } else {
            client().get(format!("{}{path}", server.url))
        };
        let request = request.json(&json!({ "input": FINE }));
        let request =
            if let Some(key) = key { request.header(AUTHORIZATION, format!("Bearer {key}")) } else { request };
        request.send().await.unwrap().status().as_u16()
    };
    for path in ["/v1/moderations", "/info", "/metrics"] {
        assert_eq!(ask(path, None).await, 401, "{path}");
        assert_eq!(ask(path, Some("other")).await, 401, "{path}");
        assert_eq!(ask(path, Some("s3cret")).await, 200, "{path}");
    }
    assert_eq!(ask("/health", None).await, 200);
    assert_eq!(ask("/openapi.json", None).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_refused() {
    let server = Server::start(&["--max-body-bytes", "1000"]);
    let (status, body) = post(&format!("{}/v1/moderations", server.url), &json!({ "input": "a".repeat(1000) })).await;
    assert_eq!((status.as_u16(), body["error"]["code"].as_str()), (413, Some("body_too_large")));
    let (status, _) = post(&format!("{}/v1/moderations", server.url), &json!({ "input": "a".repeat(900) })).await;
    assert_eq!(status.as_u16(), 200);
}

/// A request is served until its answer is sent, and others are told to come again.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_limit_is_told_to_come_again() {
    let upstream = Upstream::start().await;
    upstream.answer_and_hang(pieces(FINE_ANSWER));
    let server = Server::start(&["--max-requests", "1", "--upstream", &upstream.url]);
    let chat = format!("{}/v1/chat/completions", server.url);
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": FINE }] });
    let first = client().post(&chat).json(&body).send().await.unwrap();
    assert_eq!(first.status().as_u16(), 200);
    let second =
        client().post(format!("{}/v1/moderations", server.url)).json(&json!({ "input": FINE })).send().await.unwrap();
    assert_eq!((second.status().as_u16(), second.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    drop(first);
    loop {
        let (status, _) = post(&format!("{}/v1/moderations", server.url), &json!({ "input": FINE })).await;
        if status == 200 {
            break;
        }
    }
}

/// Who connects and says nothing, or stops in the middle of a head, or after an answer, is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_ask_is_given_up() {
    let server = Server::start(&["--upstream-seconds", "1"]);
    for said in ["", "GET /health HTTP/1.1\r\nhost: a\r\n", "GET /health HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut client = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
        client.write_all(said.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        let is_answered = answer.starts_with(b"HTTP/1.1 200 ");
        assert_eq!(is_answered, said.ends_with("\r\n\r\n"), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guard.toml");
    std::fs::write(&file, "[engine]\nmax_streams = 50\n[serve]\nmax_inputs = 1\nmax_body_bytes = 400\n").unwrap();
    let file = file.to_str().unwrap();
    let most = async |arguments: &[&str], environment: &[(&str, &str)]| {
        let server = Server::start_with(&[&["--config", file], arguments].concat(), environment);
        let url = format!("{}/v1/moderations", server.url);
        let (_, body) = post(&url, &json!({ "input": [] })).await;
        assert_eq!(post(&url, &json!({ "input": "a".repeat(500) })).await.0.as_u16(), 413);
        let message = body["error"]["message"].as_str().unwrap().to_owned();
        message.split("1 to ").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(most(&[], &[]).await, 1);
    assert_eq!(most(&[], &[("QWENGUARD_MAX_INPUTS", "2")]).await, 2);
    assert_eq!(most(&["--max-inputs", "3"], &[("QWENGUARD_MAX_INPUTS", "2")]).await, 3);
}

#[test]
fn settings_that_cannot_be_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guard.toml");
    for (text, arguments, named) in [
        ("[serve]\nlisten = \"nowhere\"", &[][..], "serve"),
        ("[serve]\nports = 1", &[], "ports"),
        ("[serve]\nmax_requests = 0", &[], "serve.max_requests"),
        ("[[serve.keys]]\nname = \"a\"", &[], "serve.keys[0]"),
        ("[engine]\nmax_stream = 1", &[], "max_stream"),
        ("", &["--upstream", "ftp://host/v1"], "serve.upstream"),
        ("", &["--upstream", "nowhere"], "serve.upstream"),
        ("", &["--upstream", "http://h/v1", "--upstream-key-env", "QWENGUARD_NOT_SET"], "QWENGUARD_NOT_SET"),
        ("", &["--upstream", "http://h/v1", "--bundle", "export/nano-gen/bundle"], "serve.upstream"),
        #[cfg(not(feature = "otlp"))]
        ("", &["--otlp-endpoint", "http://127.0.0.1:9"], "built without the feature otlp"),
        ("[serve]\nupstream_key_header = \"cookie\"", &[], "by-route"),
        ("[serve]\nlisten = \"192.0.2.1:1\"", &[], "cannot listen on"),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut command = command(&["--config", file.to_str().unwrap()]);
        if text.contains("192.0.2.1") {
            command = std::process::Command::new(env!("CARGO_BIN_EXE_qwenguard"));
            command.args(["--config", file.to_str().unwrap(), "serve"]);
        }
        let output = command.args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = error.lines().find(|line| line.starts_with("qwenguard: ")).unwrap_or_else(|| panic!("{error}"));
        assert!(output.status.code() == Some(1) && line.contains(named), "{error}");
    }
}

/// Requests that are being served go on to their end, new ones find nobody.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_server_ends_when_its_requests_have() {
    let upstream = Upstream::start().await;
    let release = upstream.answer_when_released(pieces(FINE_ANSWER));
    let mut server = Server::start(&["--upstream", &upstream.url]);
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": FINE }] });
    let response = client().post(format!("{}/v1/chat/completions", server.url)).json(&body).send().await.unwrap();
    server.terminate();
    while client().get(format!("{}/health", server.url)).send().await.is_ok() {}
    release.send(()).unwrap();
    let text = response.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(server.wait().success());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_cut_off_at_the_end() {
    let upstream = Upstream::start().await;
    upstream.answer_and_hang(pieces(FINE_ANSWER));
    let mut server = Server::start(&["--upstream", &upstream.url, "--drain-seconds", "0"]);
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": FINE }] });
    let response = client().post(format!("{}/v1/chat/completions", server.url)).json(&body).send().await.unwrap();
    server.terminate();
    assert!(server.wait().success());
    // Cut off, it has no end.
    let text = response.text().await;
    assert!(text.is_err() || !text.unwrap().contains("[DONE]"));
}
