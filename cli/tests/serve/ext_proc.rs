//! Envoy's external processing, asked as Envoy asks.

use envoy_types::pb::envoy::{
    config::core::v3::{HeaderMap, HeaderValue},
    extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode,
    service::ext_proc::v3::{
        HttpBody, HttpHeaders, HttpTrailers, ImmediateResponse, ProcessingRequest, ProcessingResponse,
        ProtocolConfiguration, body_mutation::Mutation, external_processor_client::ExternalProcessorClient,
        processing_request::Request, processing_response::Response,
    },
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    BAD, FINE, TURNS,
    proxy::{FINE_ANSWER, settled},
    server::Server,
    turning_answer,
    upstream::{chunks, done, event},
};

const CHAT: &str = "/v1/chat/completions";

fn start(arguments: &[&str]) -> (Server, String) {
    let server = Server::start(&[&["--ext-proc-listen", "127.0.0.1:0"], arguments].concat());
    let log = server.log();
    let address = log.lines().find_map(|line| line.strip_prefix("qwenguard answers Envoy on ")).unwrap();
    let url = format!("http://{address}");
    (server, url)
}

/// One exchange, from Envoy's side.
struct Call {
    sender: mpsc::Sender<ProcessingRequest>,
    inbound: Streaming<ProcessingResponse>,
    mode: BodySendMode,
    is_first: bool,
}

fn headers(pairs: &[(&str, &str)]) -> Option<HeaderMap> {
    let header = |(name, value): &(&str, &str)| HeaderValue {
        key: (*name).to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    Some(HeaderMap { headers: pairs.iter().map(header).collect() })
}

impl Call {
    async fn open(url: &str) -> Self {
        let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
        let (sender, receiver) = mpsc::channel(64);
        let requests = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<ProcessingRequest>| {
            receiver.recv().await.map(|request| (request, receiver))
        });
        let inbound = ExternalProcessorClient::new(channel).process(requests).await.unwrap().into_inner();
        Call { sender, inbound, mode: BodySendMode::FullDuplexStreamed, is_first: true }
    }

    async fn send(&mut self, request: Request) {
        let config = ProtocolConfiguration {
            request_body_mode: self.mode.into(),
            response_body_mode: self.mode.into(),
            ..ProtocolConfiguration::default()
        };
        let protocol_config = std::mem::take(&mut self.is_first).then_some(config);
        let request = ProcessingRequest { request: Some(request), protocol_config, ..ProcessingRequest::default() };
        // Once the server has answered for good nobody reads any more.
        let _ = self.sender.send(request).await;
    }

    async fn head(&mut self, pairs: &[(&str, &str)], end_of_stream: bool) {
        let head = HttpHeaders { headers: headers(pairs), end_of_stream, ..HttpHeaders::default() };
        let is_answer = pairs.iter().any(|(name, _)| *name == ":status");
        self.send(if is_answer { Request::ResponseHeaders(head) } else { Request::RequestHeaders(head) }).await;
    }

    async fn ask(&mut self, body: &Value) {
        self.head(&[(":method", "POST"), (":path", CHAT), ("content-type", "application/json")], false).await;
        let text = body.to_string();
        for piece in text.as_bytes().chunks(1000) {
            self.send(Request::RequestBody(HttpBody { body: piece.to_vec(), ..HttpBody::default() })).await;
        }
        self.send(Request::RequestBody(HttpBody { end_of_stream: true, ..HttpBody::default() })).await;
    }

    async fn body(&mut self, bytes: &[u8], end_of_stream: bool) {
        self.send(Request::ResponseBody(HttpBody { body: bytes.to_vec(), end_of_stream, ..HttpBody::default() })).await;
    }

    async fn next(&mut self) -> Result<Option<Response>, Status> {
        Ok(self.inbound.message().await?.map(|message| message.response.unwrap()))
    }

    /// What comes up to the end.
    async fn rest(&mut self) -> (Got, Result<(), Status>) {
        let mut got = Got::default();
        loop {
            match self.next().await {
                Ok(Some(response)) => got.take(response),
                Ok(None) => return (got, Ok(())),
                Err(status) => return (got, Err(status)),
            }
        }
    }

    /// The request goes on as it is.
    async fn passes(&mut self, body: &Value) {
        let mut got = Got::default();
        while !got.is_request_over {
            got.take(self.next().await.unwrap().unwrap());
        }
        assert_eq!(got.request, body.to_string().into_bytes());
        assert_eq!(got.set, [("accept-encoding".to_owned(), "identity".to_owned())]);
    }
}

/// What Envoy is told.
#[derive(Default)]
struct Got {
    request: Vec<u8>,
    is_request_over: bool,
    set: Vec<(String, String)>,
    removed: Vec<String>,
    answer: Vec<u8>,
    is_answer_over: bool,
    has_trailers: bool,
    immediate: Option<ImmediateResponse>,
    longest: usize,
}

impl Got {
    fn take(&mut self, response: Response) {
        assert!(!self.is_answer_over && self.immediate.is_none(), "more after the end: {response:?}");
        let is_request = matches!(response, Response::RequestBody(_));
        match response {
            Response::RequestHeaders(head) | Response::ResponseHeaders(head) => {
                let mutation = head.response.unwrap().header_mutation.unwrap();
                for header in mutation.set_headers {
                    let header = header.header.unwrap();
                    self.set.push((header.key, String::from_utf8(header.raw_value).unwrap()));
                }
                self.removed = mutation.remove_headers;
            }
            Response::RequestBody(body) | Response::ResponseBody(body) => {
                let Some(Mutation::StreamedResponse(streamed)) = body.response.unwrap().body_mutation.unwrap().mutation
                else {
                    panic!("not a streamed body")
                };
                self.longest = self.longest.max(streamed.body.len());
                if is_request {
                    self.request.extend(streamed.body);
                    self.is_request_over = streamed.end_of_stream;
                } else {
                    self.answer.extend(streamed.body);
                    self.is_answer_over = streamed.end_of_stream;
                }
            }
            Response::RequestTrailers(_) => self.is_request_over = true,
            Response::ResponseTrailers(trailers) => {
                (self.is_answer_over, self.has_trailers) = (true, true);
                self.removed = trailers.header_mutation.unwrap().remove_headers;
            }
            Response::ImmediateResponse(immediate) => self.immediate = Some(immediate),
            Response::StreamedImmediateResponse(streamed) => panic!("unasked for: {streamed:?}"),
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.answer).unwrap()
    }

    fn said(&self) -> String {
        let data = self.text().split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let chunks = data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str::<Value>(data).unwrap());
        chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
    }

    /// The answer in place of all else: its status and its body.
    fn refused(&self) -> (i32, Value) {
        let immediate = self.immediate.as_ref().unwrap_or_else(|| panic!("it is not refused: {}", self.text()));
        (immediate.status.as_ref().unwrap().code, serde_json::from_slice(&immediate.body).unwrap())
    }
}

fn question(text: &str) -> Value {
    json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": text }] })
}

fn events(text: &str) -> Vec<u8> {
    chunks(text).iter().map(event).chain([done()]).flatten().collect()
}

const STREAMED: [(&str, &str); 4] =
    [(":status", "200"), ("content-type", "text/event-stream"), ("x-secret", "words"), ("x-request-id", "7")];

#[tokio::test(flavor = "multi_thread")]
async fn safe_answers_are_what_the_upstream_wrote() {
    let (server, url) = start(&[]);
    let written = events(FINE_ANSWER);
    for (size, has_trailers) in [(1, false), (7, true), (100_000, false), (100_000, true)] {
        let mut call = Call::open(&url).await;
        call.ask(&question(FINE)).await;
        call.passes(&question(FINE)).await;
        call.head(&STREAMED, false).await;
        let sending = async {
            let pieces: Vec<&[u8]> = written.chunks(size).collect();
            for (index, piece) in pieces.iter().enumerate() {
                call.sender
                    .send(ProcessingRequest {
                        request: Some(Request::ResponseBody(HttpBody {
                            body: piece.to_vec(),
                            end_of_stream: !has_trailers && index + 1 == pieces.len(),
                            ..HttpBody::default()
                        })),
                        ..ProcessingRequest::default()
                    })
                    .await
                    .unwrap();
            }
            if has_trailers {
                let trailers = HttpTrailers { trailers: headers(&[("x-words", "take")]) };
                let request = Some(Request::ResponseTrailers(trailers));
                call.sender.send(ProcessingRequest { request, ..ProcessingRequest::default() }).await.unwrap();
            }
        };
        let receiving = async {
            let mut got = Got::default();
            while let Some(message) = call.inbound.message().await.unwrap() {
                got.take(message.response.unwrap());
            }
            got
        };
        let ((), got) = tokio::join!(sending, receiving);
        assert!(got.is_answer_over && got.text().as_bytes() == written, "pieces of {size}: {}", got.text());
        assert!(got.set.contains(&("content-type".into(), "text/event-stream".into())));
        // The last event may end the answer before its trailers are there.
        if !got.has_trailers {
            assert_eq!(got.removed, ["x-secret"]);
        }
    }
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_is_not_sent() {
    let (server, url) = start(&[]);
    let mut call = Call::open(&url).await;
    call.ask(&question(BAD)).await;
    let (got, end) = call.rest().await;
    assert!(end.is_ok() && got.request.is_empty());
    let (status, body) = got.refused();
    assert_eq!((status, body["error"]["code"].as_str()), (400, Some("content_filter")));
    let (text, cut) = turning_answer();
    let mut call = Call::open(&url).await;
    call.ask(&question(TURNS)).await;
    call.passes(&question(TURNS)).await;
    call.head(&STREAMED, false).await;
    // It never ends.
    let written = events(&text);
    for piece in written[..written.len() - 200].chunks(50) {
        call.body(piece, false).await;
    }
    let (got, end) = call.rest().await;
    assert!(end.is_ok() && got.is_answer_over);
    assert_eq!(got.said(), text[..cut]);
    assert!(got.text().contains("\"content_filter\"") && got.text().ends_with("data: [DONE]\n\n"));
    settled(&server).await;
}

fn completion(content: &str) -> Value {
    let message = json!({ "role": "assistant", "content": content });
    let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
    json!({ "id": "c", "object": "chat.completion", "created": 7, "model": "m", "choices": [choice] })
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_answers_are_judged_whole() {
    let (server, url) = start(&[]);
    let (text, cut) = turning_answer();
    let mut long = completion(FINE_ANSWER);
    long["padding"] = json!(vec![0; 100_000]);
    for (answer, said, finish) in [
        (completion(FINE_ANSWER), FINE_ANSWER, "stop"),
        (long, FINE_ANSWER, "stop"),
        (completion(&text), &text[..cut], "content_filter"),
    ] {
        let mut call = Call::open(&url).await;
        call.ask(&question(TURNS)).await;
        call.passes(&question(TURNS)).await;
        call.head(&[(":status", "200"), ("content-type", "application/json"), ("content-length", "9")], false).await;
        for piece in answer.to_string().as_bytes().chunks(30_000) {
            call.body(piece, false).await;
        }
        call.body(b"", true).await;
        let (got, end) = call.rest().await;
        assert!(end.is_ok() && got.is_answer_over && got.longest <= 65_536);
        let body: Value = serde_json::from_slice(&got.answer).unwrap();
        let choice = &body["choices"][0];
        assert_eq!(
            (choice["message"]["content"].as_str(), choice["finish_reason"].as_str()),
            (Some(said), Some(finish))
        );
    }
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_is_refused() {
    let (server, url) = start(&["--max-body-bytes", "100000"]);
    for (pairs, status) in [
        (&[(":method", "POST"), (":path", "/v1/completions")][..], 404),
        (&[(":method", "GET"), (":path", CHAT)], 404),
        (&[(":method", "POST"), (":path", CHAT), ("content-encoding", "gzip")], 415),
    ] {
        let mut call = Call::open(&url).await;
        call.head(pairs, false).await;
        let (got, end) = call.rest().await;
        assert!(end.is_ok() && got.refused().0 == status, "{pairs:?}: {:?}", got.refused());
    }
    let mut call = Call::open(&url).await;
    call.ask(&question(&"a".repeat(200_000))).await;
    assert_eq!(call.rest().await.0.refused().0, 413);
    let mut call = Call::open(&url).await;
    call.head(&[(":method", "POST"), (":path", CHAT)], true).await;
    assert_eq!(call.rest().await.0.refused().0, 400);
    for (pairs, body, status) in [
        (&[(":status", "200"), ("content-type", "application/json"), ("content-encoding", "br")][..], "{}", 502),
        (&[(":status", "200"), ("content-type", "text/plain")], "words", 502),
        (&[(":status", "200"), ("content-type", "application/json")], "words", 502),
        (&[(":status", "302"), ("location", "/")], "words", 502),
        (&[("content-type", "application/json")], "{}", 502),
    ] {
        let mut call = Call::open(&url).await;
        call.ask(&question(FINE)).await;
        call.passes(&question(FINE)).await;
        let head = HttpHeaders { headers: headers(pairs), ..HttpHeaders::default() };
        call.send(Request::ResponseHeaders(head)).await;
        call.body(body.as_bytes(), true).await;
        let (got, end) = call.rest().await;
        assert!(end.is_ok() && got.answer.is_empty());
        let (code, told) = got.refused();
        assert!(code == status && !told.to_string().contains("words"), "{pairs:?}: {told}");
    }
    // An error is told in few words.
    let mut call = Call::open(&url).await;
    call.ask(&question(FINE)).await;
    call.passes(&question(FINE)).await;
    call.head(&[(":status", "500"), ("content-type", "text/html")], false).await;
    call.body(b"<p>words</p>", true).await;
    let (got, _) = call.rest().await;
    assert!(got.is_answer_over && !got.text().contains("words") && got.text().contains("500"), "{}", got.text());
    settled(&server).await;
}

/// Envoy passes on what is left when a call ends well: so one that is not over ends with an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_over_does_not_end_well() {
    let (server, url) = start(&[]);
    let (text, _) = turning_answer();
    // Envoy ends the call before the request, after it, and in the answer.
    for steps in 0..4 {
        let mut call = Call::open(&url).await;
        if steps > 0 {
            call.ask(&question(TURNS)).await;
            call.passes(&question(TURNS)).await;
        }
        if steps > 1 {
            call.head(&STREAMED, false).await;
        }
        if steps > 2 {
            call.body(&events(&text)[..600], false).await;
        }
        let (ended, _) = mpsc::channel(1);
        call.sender = ended;
        let (got, end) = call.rest().await;
        assert!(end.is_err() && !got.is_answer_over, "after {steps} steps");
        assert!(!got.text().contains("bomb"));
    }
    // Modes in which the guard could not hold anything back.
    for mode in [BodySendMode::None, BodySendMode::Streamed, BodySendMode::Buffered] {
        let mut call = Call::open(&url).await;
        call.mode = mode;
        call.ask(&question(FINE)).await;
        let (_, end) = call.rest().await;
        let status = end.unwrap_err();
        assert!(status.code() == Code::FailedPrecondition && status.message().contains("FULL_DUPLEX_STREAMED"));
    }
    // Messages out of order.
    let mut call = Call::open(&url).await;
    call.ask(&question(FINE)).await;
    call.passes(&question(FINE)).await;
    call.body(b"words", true).await;
    assert_eq!(call.rest().await.1.unwrap_err().code(), Code::InvalidArgument);
    settled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_admitted_as_requests_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "s3cret\n").unwrap();
    let (_server, url) = start(&["--key-file", file.to_str().unwrap(), "--max-requests", "1"]);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let open = async |key: Option<&'static str>| {
        let (sender, receiver) = mpsc::channel(64);
        let requests = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<ProcessingRequest>| {
            receiver.recv().await.map(|request| (request, receiver))
        });
        let mut request = tonic::Request::new(requests);
        if let Some(key) = key {
            request.metadata_mut().insert("authorization", key.parse().unwrap());
        }
        let inbound = ExternalProcessorClient::new(channel.clone()).process(request).await?.into_inner();
        Ok::<_, Status>(Call { sender, inbound, mode: BodySendMode::FullDuplexStreamed, is_first: true })
    };
    for key in [None, Some("Bearer other")] {
        assert_eq!(open(key).await.err().unwrap().code(), Code::Unauthenticated);
    }
    let mut first = open(Some("Bearer s3cret")).await.unwrap();
    first.ask(&question(FINE)).await;
    first.passes(&question(FINE)).await;
    let mut second = open(Some("Bearer s3cret")).await.unwrap();
    second.ask(&question(FINE)).await;
    let (got, _) = second.rest().await;
    assert_eq!(got.refused().0, 429);
    let mutation = got.immediate.unwrap().headers.unwrap();
    assert!(mutation.set_headers.iter().any(|header| header.header.as_ref().unwrap().key == "retry-after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_over_grpc() {
    let (_server, url) = start(&[]);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    for service in ["", "envoy.service.ext_proc.v3.ExternalProcessor"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
}
