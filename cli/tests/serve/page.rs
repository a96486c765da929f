//! The page, and what it asks for: its files, a key over a WebSocket, verdicts judged by other rules.

use futures_util::{SinkExt, StreamExt};
use reqwest::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{ClientRequestBuilder, Error, Message, http::Uri},
};

use crate::{BAD, FINE, TURNS, client, post, server::Server, turning_answer};

/// Every name in the page and in its modules is a file that the server has, and nothing else is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_all_its_files() {
    let server = Server::start(&["--ui"]);
    assert!(server.said(&format!("its page is {}/ui", server.url)).await);
    let get = async |path: &str| {
        let response = client().get(format!("{}/{path}", server.url)).send().await.unwrap();
        let of = |name| response.headers().get(name).map(|value: &_| value.to_str().unwrap().to_owned());
        let (kind, policy) = (of(CONTENT_TYPE), of(CONTENT_SECURITY_POLICY).unwrap_or_default());
        (response.status().as_u16(), kind.unwrap_or_default(), policy, response.text().await.unwrap())
    };
    let (status, kind, policy, page) = get("ui").await;
    assert_eq!((status, &*kind), (200, "text/html; charset=utf-8"));
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let mut names: Vec<String> = ["href=\"ui/", "src=\"ui/"].iter().flat_map(|before| quoted(&page, before)).collect();
    assert!(!page.contains("style=") && !page.contains("onclick"));
    let mut seen = Vec::new();
    while let Some(name) = names.pop() {
        if seen.contains(&name) {
            continue;
        }
        let (status, kind, policy, text) = get(&format!("ui/{name}")).await;
        assert_eq!(status, 200, "{name}");
        assert!(!policy.is_empty() && !kind.is_empty(), "{name}");
        if name.ends_with(".js") {
            assert!(kind.starts_with("text/javascript"), "{name} is {kind}");
            // Texts are text: nothing reads them as markup.
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text.contains(sink), "{name} has {sink}");
            }
            names.extend(quoted(&text, "from \"./"));
        }
        seen.push(name);
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
    assert_eq!(get("ui/nothing.js").await.0, 404);
    assert_eq!(get("ui/").await.3, page);
    let without = Server::start(&[]);
    let response = client().get(format!("{}/ui", without.url)).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 404);
    assert!(response.text().await.unwrap().contains("--ui"));
}

fn quoted(text: &str, before: &str) -> Vec<String> {
    text.split(before).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// A browser cannot set headers of a WebSocket, but for the names of protocols.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_tells_its_key_as_a_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "s3cret\u{e9}").unwrap();
    let server = Server::start(&["--key-file", file.to_str().unwrap(), "--ui"]);
    // What the page needs to ask for the key is there without one.
    assert_eq!(client().get(format!("{}/ui", server.url)).send().await.unwrap().status().as_u16(), 200);
    let url = format!("{}/v1/guard/stream", server.url.replace("http", "ws"));
    let open = async |protocols: &[&str]| {
        let uri: Uri = url.parse().unwrap();
        let request =
            protocols.iter().fold(ClientRequestBuilder::new(uri), |request, name| request.with_sub_protocol(*name));
        connect_async(request).await
    };
    // "s3crété" in UTF-8 is s3cret and two bytes more.
    let (mut socket, response) = open(&["qwenguard", "qwenguard.key.czNjcmV0w6k"]).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "qwenguard");
    let call = json!({ "prompt": [{ "role": "user", "content": TURNS }] });
    socket.send(Message::text(call.to_string())).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Text(text))) if text.contains("\"prompt\"")));
    for wrong in [&["qwenguard"][..], &["qwenguard", "qwenguard.key.czNjcmV0"]] {
        let Err(Error::Http(response)) = open(wrong).await else { panic!("{wrong:?}") };
        assert_eq!(response.status().as_u16(), 401);
    }
}

/// A page that somebody visits must not ask the server on the visitor's machine.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_may_not_ask_an_open_server() {
    let server = Server::start(&[]);
    let ask = async |origin: &str| {
        let request = client().post(format!("{}/v1/moderations", server.url)).header(ORIGIN, origin);
        request.body(json!({ "input": FINE }).to_string()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask(&server.url).await, 200);
    for origin in ["https://elsewhere.example", "null", "http://127.0.0.1:1", ""] {
        assert_eq!(ask(origin).await, 403, "{origin}");
    }
    // A name that its owner has made to lead here.
    for (host, status) in [("elsewhere.example:8600", 403), ("localhost:8600", 200)] {
        let request = client().post(format!("{}/v1/moderations", server.url)).header(ORIGIN, format!("http://{host}"));
        let request = request.header(HOST, host).body(json!({ "input": FINE }).to_string());
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{host}");
    }
    let uri: Uri = format!("{}/v1/guard/stream", server.url.replace("http", "ws")).parse().unwrap();
    let request = ClientRequestBuilder::new(uri).with_header("origin", "https://elsewhere.example");
    assert!(matches!(connect_async(request).await, Err(Error::Http(response)) if response.status().as_u16() == 403));
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_are_judged_again_by_other_rules() {
    let server = Server::start(&[]);
    let (text, cut) = turning_answer();
    let messages = json!([{ "role": "user", "content": TURNS }, { "role": "assistant", "content": text }]);
    let url = format!("{}/v1/guard/answer", server.url);
    let (_, judged) = post(&url, &json!({ "messages": messages, "tokens": true })).await;
    let metrics = async || client().get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    let steps = |metrics: &str| {
        metrics.lines().find_map(|line| line.strip_prefix("qwenguard_steps_total ")).unwrap().to_owned()
    };
    let before = steps(&metrics().await);
    let replay = async |policy: Value| {
        let body = json!({
            "policy": policy, "prompt": judged["prompt"]["verdict"], "tokens": judged["answer"]["tokens"],
        });
        post(&format!("{}/v1/guard/replay", server.url), &body).await
    };
    let (status, same) = replay(Value::Null).await;
    assert_eq!((status.as_u16(), same["answer"]["horizon"].as_u64()), (200, Some(cut as u64)), "{same}");
    assert_eq!(same["answer"]["violation"], judged["answer"]["violation"]);
    assert_eq!(same["prompt"], judged["prompt"]);
    let (_, shadow) = replay(json!({ "shadow": true })).await;
    assert_eq!(shadow["answer"]["decision"], "continue");
    assert_eq!(shadow["answer"]["violation"], judged["answer"]["violation"]);
    let (_, flagged) = replay(json!("[answer.categories.Violent]\naction = \"flag\"")).await;
    assert_eq!(
        (flagged["answer"]["decision"].as_str(), &flagged["answer"]["violation"]),
        (Some("continue"), &Value::Null)
    );
    assert_eq!(flagged["answer"]["flags"][0]["category"], "Violent");
    let sooner =
        json!({ "answer": { "debounce": { "consecutive": 1 }, "mode": { "custom": { "unsafe": { "at": 0.01 } } } } });
    let (_, sooner) = replay(sooner).await;
    assert!(sooner["answer"]["horizon"].as_u64().unwrap() <= cut as u64);
    for (policy, named) in [
        (json!({ "answers": {} }), "answers"),
        (json!({ "answer": { "debounce": { "consecutive": 0 } } }), "policy.answer.debounce"),
        (json!({ "answer": { "categories": { "Nonsense": {} } } }), "Nonsense"),
        (json!("answer = 1"), "answer"),
        (json!(7), "policy"),
    ] {
        let (status, body) = replay(policy).await;
        let error = &body["error"];
        assert!(status == 400 && error["message"].as_str().unwrap().contains(named), "{body}");
        assert_eq!(error["param"], "policy");
    }
    // The model did not run.
    assert_eq!(steps(&metrics().await), before);
    for (tokens, named) in [
        (json!([{ "index": 0 }]), "missing field"),
        (json!("none"), "tokens"),
        (json!([judged["answer"]["tokens"][1], judged["answer"]["tokens"][0]]), "token 0"),
    ] {
        let (status, body) = post(&format!("{}/v1/guard/replay", server.url), &json!({ "tokens": tokens })).await;
        assert!(status == 400 && body["error"]["message"].as_str().unwrap().contains(named), "{body}");
    }
    let (_, body) =
        post(&format!("{}/v1/guard/prompt", server.url), &json!({ "messages": [{ "role": "user", "content": BAD }] }))
            .await;
    let loose = json!({ "policy": { "prompt": { "categories": { "Violent": { "action": "flag" } } } }, "prompt": body["prompt"]["verdict"] });
    let (_, flagged) = post(&format!("{}/v1/guard/replay", server.url), &loose).await;
    assert_eq!((flagged["prompt"]["decision"].as_str(), &flagged["answer"]), (Some("continue"), &Value::Null));
    assert_eq!(flagged["prompt"]["finding"]["action"], "flag");
}

/// What the page begins with.
#[tokio::test(flavor = "multi_thread")]
async fn the_rules_and_the_labels_are_told() {
    let server = Server::start(&[]);
    let info: Value = client().get(format!("{}/info", server.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(info["policy"]["answer"]["debounce"]["consecutive"], 2);
    assert!(info["labels"]["answer"]["categories"].as_array().unwrap().contains(&json!("Violent")));
}
