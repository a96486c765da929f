//! A reverse proxy before a server of a model. The prompt is judged while the upstream starts; of its answers nothing is
//! sent that the guard has not cleared.
//!
//! [`events`] takes streams apart, [`chat`], [`messages`] and [`responses`] know an interface each, [`guarded`] judges one answer,
//! [`held`] keeps events until they are cleared, [`shape`] takes away what is not judged, [`upstream`] asks the server behind.
//! With the feature `ext-proc`, `carried` guards answers whose bytes a gateway brings.

#[cfg(feature = "ext-proc")]
pub(crate) mod carried;
mod chat;
pub(crate) mod events;
pub(crate) mod guarded;
mod held;
mod messages;
mod responses;
mod shape;
pub(crate) mod upstream;

use std::{panic::AssertUnwindSafe, pin::pin, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, stream};
use qwenguard::{Call, Decision, Reply, Violation};
use serde_json::{Map, Value};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};

use super::{App, Shared, body::Raw, calls::Judge, fault::Fault};
use crate::{
    json,
    message::{self, ToolCalls},
};
use events::{Event, Splitter};
use held::Sent;

/// Fields of requests that are passed on and not judged: they are the program's, not somebody's words.
const ASIDE: [&str; 16] = [
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "metadata",
    "stop",
    "stop_sequences",
    "stream_options",
    "modalities",
    "logit_bias",
    "reasoning",
    "thinking",
    "text",
    "include",
    "chat_template_kwargs",
];

/// Fields of requests that name something.
const NAMES: [&str; 9] = [
    "model",
    "user",
    "service_tier",
    "reasoning_effort",
    "verbosity",
    "prompt_cache_key",
    "safety_identifier",
    "truncation",
    "prompt_cache_retention",
];

/// The longest event of a stream, and the longest answer that comes whole, in bytes.
const ANSWER_BYTES: usize = 16 << 20;

/// How long a connection may be silent before a comment tells that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The longest reason that is told, in characters.
const REASON_CHARS: usize = 100;

/// Pieces of an answer that wait for the client to take them.
const AHEAD: usize = 16;

/// What a request asks.
struct Asked {
    /// The conversation, as clients of chat completions write it.
    messages: Vec<Value>,
    /// The field of the request that it is in.
    field: &'static str,
    /// How many answers.
    answers: usize,
}

/// What comes after an event.
enum After {
    /// Others.
    More,
    /// Nothing: the answer is complete.
    Done,
    /// Nothing: it is broken off.
    Broken,
}

/// An interface that clients and upstreams speak: where text is in it, and how an answer is ended.
trait Protocol: Sized + Send + Sync + 'static {
    /// The route, after the `/v1` of the upstream.
    const PATH: &'static str;
    /// What ends a stream, after its last event.
    const LAST_WORDS: &'static str;

    fn asked(request: &Map<String, Value>) -> Result<Asked, Fault>;

    /// The answers to a prompt that was judged.
    fn new(prompt: Judge, answers: usize) -> Self;

    /// Judges an event, and gives what may be sent now.
    fn event(&mut self, event: events::Message) -> impl Future<Output = Result<(Vec<Sent>, After), Fault>> + Send;

    /// The upstream has ended: judges what is held to its end.
    fn end(&mut self) -> impl Future<Output = Result<Vec<Sent>, Fault>> + Send;

    /// Judges an answer that came whole, and gives what is sent of it.
    fn whole(&mut self, answer: &Value) -> impl Future<Output = Result<Value, Fault>> + Send;

    /// Takes what was found: what stops an answer, and what does not.
    fn found(&mut self) -> (Vec<Violation>, Vec<Violation>);

    /// An error in the words of the interface.
    fn error(fault: &Fault) -> Value {
        fault.body()
    }

    /// The same as an event.
    fn error_event(fault: &Fault) -> Sent {
        Sent { head: String::new(), body: Self::error(fault) }
    }
}

pub(crate) async fn chat_completions(app: State<Shared>, headers: HeaderMap, Raw(body): Raw) -> Response {
    serve::<chat::Answers>(&app, &headers, body).await
}

pub(crate) async fn messages(app: State<Shared>, headers: HeaderMap, Raw(body): Raw) -> Response {
    serve::<messages::Answer>(&app, &headers, body).await
}

pub(crate) async fn responses(app: State<Shared>, headers: HeaderMap, Raw(body): Raw) -> Response {
    serve::<responses::Answer>(&app, &headers, body).await
}

async fn serve<P: Protocol>(app: &Shared, headers: &HeaderMap, body: Bytes) -> Response {
    ask::<P>(app, headers, body).await.unwrap_or_else(|fault| {
        let error = P::error(&fault);
        let mut response = fault.into_response();
        *response.body_mut() = Body::from(error.to_string());
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response
    })
}

async fn ask<P: Protocol>(app: &Shared, headers: &HeaderMap, body: Bytes) -> Result<Response, Fault> {
    let (asked, room) = read::<P>(app, &body)?;
    let sent = upstream::post(app, P::PATH, headers, body);
    let (judge, response) = judged(app, &asked, sent).await?;
    let answers = P::new(judge, asked.answers);
    if !response.status().is_success() {
        return upstream::refusal(response, app.silence()).await;
    }
    match kind(response.headers()) {
        Kind::Events => Ok(streamed(app, response, answers, room)),
        Kind::Json => whole(response, answers, app.silence()).await,
        Kind::Other => Err(unjudged("its content type is neither JSON nor a stream of events")),
    }
}

/// Reads what is asked, and finds room for all answers.
fn read<P: Protocol>(app: &App, body: &[u8]) -> Result<(Asked, OwnedSemaphorePermit), Fault> {
    let request = json::read_object(body, &mut Value::Null);
    let request = request.map_err(|reason| Fault::request(format!("body: {reason}")))?;
    let asked = P::asked(&request)?;
    let room = app.keys.more(asked.answers - 1)?;
    Ok((asked, room))
}

/// Judges the prompt while the upstream is asked. One that is stopped is never answered: the upstream's answer is dropped.
async fn judged<T>(
    app: &App,
    asked: &Asked,
    sent: impl Future<Output = Result<T, Fault>>,
) -> Result<(Judge, T), Fault> {
    let of_field = |reason: String| Fault::field(asked.field, reason);
    let said = message::read_messages(&asked.messages, ToolCalls::Judge).map_err(of_field)?;
    if said.answer.is_some() {
        return Err(of_field("the last message is the assistant's: an answer that goes on is not guarded".into()));
    }
    let mut judge = app.judge()?;
    let (mut sent, mut response) = (pin!(sent), None);
    let reply = {
        let mut judging = pin!(judge.call(Call::Prompt(&said.history)));
        loop {
            tokio::select! {
                reply = &mut judging => break reply?,
                found = &mut sent, if response.is_none() => response = Some(found),
            }
        }
    };
    let Reply::Prompt(check) = reply else { unreachable!("a prompt is answered by a check") };
    if let Some(finding) = &check.finding {
        super::numbers::found("prompt", finding.risk, &finding.category, check.decision);
    }
    if check.decision == Decision::Stop {
        let category = check.finding.map(|finding| finding.category).unwrap_or_default();
        return Err(Fault::filtered(format!("the prompt is stopped by the policy: {category}")));
    }
    let response = match response {
        Some(response) => response,
        None => sent.await,
    };
    Ok((judge, response?))
}

/// The upstream's answer has something that the guard cannot judge, and so nothing more of it is sent.
pub(crate) fn unjudged(reason: impl std::fmt::Display) -> Fault {
    // It may quote the answer: a few words of it, no more.
    let reason: String = reason.to_string().chars().take(REASON_CHARS).collect();
    let message = format!("the upstream's answer cannot be judged: {reason}");
    Fault::server(StatusCode::BAD_GATEWAY, "unjudged_answer", message)
}

/// How an answer comes.
pub(crate) enum Kind {
    Events,
    Json,
    Other,
}

pub(crate) fn kind(headers: &reqwest::header::HeaderMap) -> Kind {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "text/event-stream" => Kind::Events,
        "application/json" => Kind::Json,
        _ => Kind::Other,
    }
}

/// An answer that came whole.
async fn whole<P: Protocol>(response: reqwest::Response, mut answers: P, silence: Duration) -> Result<Response, Fault> {
    let headers = upstream::headers(response.headers());
    let bytes = upstream::read(response, ANSWER_BYTES, silence).await?;
    Ok((headers, axum::Json(guard_whole(&mut answers, &bytes).await?)).into_response())
}

async fn guard_whole(answers: &mut impl Protocol, bytes: &[u8]) -> Result<Value, Fault> {
    let answer = json::read_object(bytes, &mut Value::Null).map_err(unjudged)?;
    let guarded = answers.whole(&Value::Object(answer)).await;
    report(answers);
    guarded
}

/// An answer that comes in pieces.
fn streamed<P: Protocol>(
    app: &Shared,
    response: reqwest::Response,
    answers: P,
    room: OwnedSemaphorePermit,
) -> Response {
    let mut headers = upstream::headers(response.headers());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    let pieces = stream::unfold(relayed(app, response, answers, room), async |mut receiver| {
        receiver.recv().await.map(|piece| (Ok::<_, std::convert::Infallible>(piece), receiver))
    });
    (headers, Body::from_stream(pieces)).into_response()
}

/// The pieces of an answer that may be sent.
fn relayed<P: Protocol>(
    app: &App,
    source: impl Source,
    answers: P,
    room: OwnedSemaphorePermit,
) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(Relay { answers, _room: room, sender, silence: app.silence() }.run(source));
    receiver
}

/// Where the bytes of an answer come from.
trait Source: Send + 'static {
    /// The next bytes, none at the end. What is given up has taken nothing.
    fn bytes(&mut self) -> impl Future<Output = Result<Option<Bytes>, Fault>> + Send;
}

impl Source for reqwest::Response {
    async fn bytes(&mut self) -> Result<Option<Bytes>, Fault> {
        self.chunk().await.map_err(|error| upstream::failed(&error))
    }
}

/// Brings the pieces of an answer from the upstream past the guard to the client.
struct Relay<P> {
    answers: P,
    _room: OwnedSemaphorePermit,
    sender: mpsc::Sender<Bytes>,
    silence: Duration,
}

/// Why nothing more is sent.
enum End {
    /// All was sent.
    Done,
    /// The client has left.
    Left,
    Fault(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        End::Fault(fault)
    }
}

impl From<qwenguard::Error> for End {
    fn from(error: qwenguard::Error) -> Self {
        End::Fault(error.into())
    }
}

impl<P: Protocol> Relay<P> {
    /// Ends when the answer does, the client leaves, or something fails; the upstream is closed then.
    async fn run(mut self, mut source: impl Source) {
        let end = AssertUnwindSafe(self.relay(&mut source)).catch_unwind().await;
        let end = end.unwrap_or_else(|_| Err(unjudged("the server failed on it").into()));
        report(&mut self.answers);
        if let Err(End::Fault(fault)) = end {
            // Without its end a stream looks like one that was cut off. What was not judged is not sent.
            let _ = self.sender.send(P::error_event(&fault).text().into()).await;
        }
    }

    async fn relay(&mut self, source: &mut impl Source) -> Result<(), End> {
        let mut splitter = Splitter::new(ANSWER_BYTES);
        let mut silent = Duration::ZERO;
        loop {
            let client = self.sender.clone();
            let piece = tokio::select! {
                () = client.closed() => return Err(End::Left),
                piece = timeout(KEEP_ALIVE.min(self.silence - silent), source.bytes()) => piece,
            };
            let Ok(piece) = piece else {
                silent += KEEP_ALIVE.min(self.silence - silent);
                if silent >= self.silence {
                    return Err(upstream::silent(self.silence).into());
                }
                self.send(": keep-alive\n\n".into()).await?;
                continue;
            };
            silent = Duration::ZERO;
            match piece? {
                Some(bytes) => {
                    let events = splitter.push(&bytes).map_err(|error| unjudged(format!("its events: {error:?}")))?;
                    for event in events {
                        self.event(event).await?;
                    }
                }
                None => {
                    let cleared = self.answers.end().await?;
                    return self.send_all(cleared).await;
                }
            }
        }
    }

    /// Judges an event, and sends what is cleared. The last one is an end.
    async fn event(&mut self, event: Event) -> Result<(), End> {
        let message = match event {
            // Our own keep the connection open.
            Event::Comment => return Ok(()),
            Event::Message(message) => message,
        };
        let (cleared, after) = self.answers.event(message).await?;
        self.send_all(cleared).await?;
        match after {
            After::More => Ok(()),
            After::Done if P::LAST_WORDS.is_empty() => Err(End::Done),
            After::Done => self.send(P::LAST_WORDS.into()).await.and(Err(End::Done)),
            After::Broken => Err(End::Done),
        }
    }

    async fn send_all(&self, events: Vec<Sent>) -> Result<(), End> {
        for event in events {
            self.send(event.text()).await?;
        }
        Ok(())
    }

    async fn send(&self, text: String) -> Result<(), End> {
        // A client that takes nothing for so long has left.
        timeout(self.silence, self.sender.send(text.into())).await.map_err(|_| End::Left)?.map_err(|_| End::Left)
    }
}

fn report(answers: &mut impl Protocol) {
    let (stops, others) = answers.found();
    stops.iter().for_each(|violation| tell(violation, Decision::Stop));
    others.iter().for_each(|violation| tell(violation, Decision::Continue));
}

/// Puts what was found into the log and the numbers. Texts are not in it.
pub(crate) fn tell(violation: &Violation, decision: Decision) {
    super::numbers::found("answer", violation.risk, &violation.category, decision);
    let (risk, category, rule) = (violation.risk.to_string(), &violation.category, &violation.rule);
    let (start, end) = (violation.bytes.start, violation.bytes.end);
    tracing::info!(risk, category, rule, start, end, stopped = decision == Decision::Stop, "violation");
}
