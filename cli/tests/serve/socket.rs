//! One conversation over a WebSocket.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{BAD, TURNS, client, server::Server, turning_answer};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(server: &Server) -> Socket {
    let url = format!("{}/v1/guard/stream", server.url.replace("http", "ws"));
    connect_async(url).await.unwrap().0
}

async fn say(socket: &mut Socket, call: Value) -> Value {
    socket.send(Message::text(call.to_string())).await.unwrap();
    let Message::Text(text) = socket.next().await.unwrap().unwrap() else { panic!("not a text") };
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_judged_while_it_is_written() {
    let server = Server::start(&[]);
    let mut socket = open(&server).await;
    let check = say(&mut socket, json!({ "prompt": [{ "role": "user", "content": TURNS }] })).await;
    assert_eq!((check["type"].as_str(), check["decision"].as_str()), (Some("prompt"), Some("continue")));
    let (text, cut) = turning_answer();
    let mut stopped = None;
    for piece in text.as_bytes().chunks(8) {
        let update = say(&mut socket, json!({ "text": std::str::from_utf8(piece).unwrap() })).await;
        assert_eq!(update["type"], "update");
        if update["decision"] == "stop" {
            stopped = Some(update);
            break;
        }
    }
    let stopped = stopped.unwrap();
    assert_eq!(stopped["horizon"].as_u64(), Some(cut as u64));
    assert_eq!(stopped["violation"]["category"], "Violent");
    let back = say(&mut socket, json!({ "truncate": 20 })).await;
    assert_eq!((back["decision"].as_str(), back["received"].as_u64()), (Some("continue"), Some(20)));
    assert_eq!(say(&mut socket, json!({ "finish": true })).await["decision"], "continue");
    let next = say(&mut socket, json!({ "next_turn": [{ "role": "user", "content": BAD }] })).await;
    assert_eq!((next["type"].as_str(), next["decision"].as_str()), (Some("prompt"), Some("stop")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_message_changes_nothing() {
    let server = Server::start(&[]);
    let mut socket = open(&server).await;
    for (call, named) in [
        (json!({ "text": "early" }), "push_text"),
        (json!({ "prompt": [], "text": "a" }), "one field"),
        (json!({}), "one field"),
        (json!({ "say": "a" }), "\"say\" is no call"),
        (json!({ "text": 7 }), "text is not a text"),
        (json!({ "truncate": -1 }), "truncate is not a number"),
        (json!({ "finish": false }), "finish is not true"),
        (json!({ "prompt": [{ "role": "oracle", "content": "a" }] }), "oracle"),
        (json!(["text"]), "an object"),
    ] {
        let answer = say(&mut socket, call).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(answer["type"] == "error" && message.contains(named), "{message}");
    }
    let check = say(&mut socket, json!({ "prompt": [{ "role": "user", "content": TURNS }] })).await;
    assert_eq!(check["type"], "prompt");
    assert_eq!(say(&mut socket, json!({ "thinking": "Let me think." })).await["type"], "update");
    let metrics = async || client().get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    let is_open =
        |metrics: &str, count: usize| metrics.lines().any(|line| line == format!("qwenguard_open_streams {count}"));
    assert!(is_open(&metrics().await, 1));
    drop(socket);
    // Who leaves takes the stream along.
    while !is_open(&metrics().await, 0) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// A client that is there answers pings, however long it says nothing; one that is not gives its stream back.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_not_there_any_more_is_given_up() {
    let server = Server::start(&["--upstream-seconds", "1"]);
    let address = server.url.strip_prefix("http://").unwrap();
    // It asks for a WebSocket, and never reads.
    let mut gone = TcpStream::connect(address).await.unwrap();
    let head = "GET /v1/guard/stream HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    gone.write_all(head.as_bytes()).await.unwrap();
    let open = async || {
        let metrics = client().get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
        metrics.lines().find_map(|line| line.strip_prefix("qwenguard_open_streams ")).unwrap().to_owned()
    };
    while open().await != "1" {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    while open().await != "0" {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    drop(gone);
}
