//! A server of a model, which answers what a test tells it to.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot};

pub(crate) struct Upstream {
    /// With its `/v1`.
    pub(crate) url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<Option<Script>>,
    requests: Mutex<Vec<(HeaderMap, Value)>>,
    /// Their paths, with queries.
    paths: Mutex<Vec<String>>,
    /// Pieces that were sent.
    sent: AtomicUsize,
    /// Answers that were sent to their end, or whose reader has left.
    ended: AtomicUsize,
}

struct Script {
    status: u16,
    kind: &'static str,
    /// What the header says of the bytes.
    encoding: Option<&'static str>,
    pieces: Vec<Bytes>,
    then: Then,
}

enum Then {
    End,
    Hang,
    /// Nothing after the first piece before this.
    Wait(oneshot::Receiver<()>),
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let models = async |State(shared): State<Arc<Shared>>, uri: Uri| {
            shared.paths.lock().unwrap().push(uri.to_string());
            axum::Json(json!({ "object": "list", "data": [] }))
        };
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/messages", post(answer))
            .route("/v1/responses", post(answer))
            .route("/v1/models", get(models));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let router = router.with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Upstream { url, shared }
    }

    fn script(&self, status: u16, kind: &'static str, pieces: Vec<Bytes>, then: Then) {
        *self.shared.script.lock().unwrap() = Some(Script { status, kind, encoding: None, pieces, then });
    }

    /// Answers with events that are compressed, or said to be.
    pub(crate) fn answer_encoded(&self, encoding: &'static str, pieces: Vec<Bytes>) {
        let (kind, then) = ("text/event-stream", Then::End);
        *self.shared.script.lock().unwrap() =
            Some(Script { status: 200, kind, encoding: Some(encoding), pieces, then });
    }

    /// Answers with events.
    pub(crate) fn answer(&self, pieces: Vec<Bytes>) {
        self.script(200, "text/event-stream; charset=utf-8", pieces, Then::End);
    }

    /// Answers, and never ends.
    pub(crate) fn answer_and_hang(&self, pieces: Vec<Bytes>) {
        self.script(200, "text/event-stream", pieces, Then::Hang);
    }

    /// Sends the first piece, and the others when it is told to.
    pub(crate) fn answer_when_released(&self, pieces: Vec<Bytes>) -> oneshot::Sender<()> {
        let (sender, receiver) = oneshot::channel();
        self.script(200, "text/event-stream", pieces, Then::Wait(receiver));
        sender
    }

    /// Answers whole.
    pub(crate) fn answer_whole(&self, status: u16, body: &Value) {
        self.script(status, "application/json", vec![body.to_string().into()], Then::End);
    }

    pub(crate) fn answer_as(&self, kind: &'static str, body: &'static str) {
        self.script(200, kind, vec![body.into()], Then::End);
    }

    /// The requests that came.
    pub(crate) fn requests(&self) -> Vec<(HeaderMap, Value)> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Where they went, with queries.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.shared.paths.lock().unwrap().clone()
    }

    /// How many pieces were sent, once it can send no more.
    pub(crate) async fn stuck_at(&self) -> usize {
        let (mut sent, mut looked) = (0, 0);
        while looked < 100 {
            let now = self.shared.sent.load(Ordering::SeqCst);
            (sent, looked) = (now, if now == sent && now > 0 { looked + 1 } else { 0 });
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        sent
    }

    /// Waits until so many answers have ended, or were left.
    pub(crate) async fn ended(&self, count: usize) {
        while self.shared.ended.load(Ordering::SeqCst) < count {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    shared.paths.lock().unwrap().push(uri.to_string());
    shared.requests.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
    let Some(script) = shared.script.lock().unwrap().take() else {
        return (StatusCode::NOT_IMPLEMENTED, "no script").into_response();
    };
    let ending = Ending(shared);
    let state = (script.pieces.into_iter(), Some(script.then), true, ending);
    let pieces = stream::unfold(state, async |(mut pieces, mut then, is_first, ending)| {
        if !is_first && let Some(Then::Wait(released)) = then.take_if(|then| matches!(then, Then::Wait(_))) {
            let _ = released.await;
        }
        let Some(piece) = pieces.next() else {
            return match then {
                Some(Then::Hang) => std::future::pending().await,
                _ => None,
            };
        };
        ending.0.sent.fetch_add(1, Ordering::SeqCst);
        Some((Ok::<_, Infallible>(piece), (pieces, then, false, ending)))
    });
    let body = Body::from_stream(pieces);
    let mut response =
        (StatusCode::from_u16(script.status).unwrap(), [(CONTENT_TYPE, script.kind)], body).into_response();
    if let Some(encoding) = script.encoding {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// Counts answers that are over.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// A chunk of a chat completion.
pub(crate) fn chunk(index: u64, delta: Value, finish: Option<&str>) -> Value {
    let choice = json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish });
    json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice] })
}

pub(crate) fn event(chunk: &Value) -> Bytes {
    format!("data: {chunk}\n\n").into()
}

pub(crate) fn done() -> Bytes {
    "data: [DONE]\n\n".into()
}

/// The chunks of a text, a word each.
pub(crate) fn chunks(text: &str) -> Vec<Value> {
    let mut chunks = vec![chunk(0, json!({ "role": "assistant", "content": "" }), None)];
    chunks.extend(text.split_inclusive(' ').map(|word| chunk(0, json!({ "content": word }), None)));
    chunks.push(chunk(0, json!({}), Some("stop")));
    chunks
}

/// The events of a text, a word each.
pub(crate) fn pieces(text: &str) -> Vec<Bytes> {
    chunks(text).iter().map(event).chain([done()]).collect()
}

/// An event with a name of its own, as Anthropic's and the Responses interface have them.
pub(crate) fn named_event(body: &Value) -> Bytes {
    format!("event: {}\ndata: {body}\n\n", body["type"].as_str().unwrap()).into()
}

/// What a client reads of such events.
pub(crate) fn read_named(text: &str) -> Vec<Value> {
    let read = |event: &str| {
        let (head, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let body: Value = serde_json::from_str(data).unwrap();
        assert_eq!(body["type"], head);
        body
    };
    text.split("\n\n").filter(|event| !event.is_empty()).map(read).collect()
}
