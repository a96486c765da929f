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
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, stream};
use qwenguard::{Call, Decision, PromptFinding, Reply, Violation};
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, time::timeout};
use tracing::{Instrument, info_span};

use super::{Admission, App, Shared, body::Raw, calls::Judge, fault::Fault, keys::Room};
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

    /// What a policy in shadow mode found, as an event that clients pass over.
    fn findings_event(findings: Vec<Value>) -> Sent {
        Sent::named(json!({ "type": "qwenguard.findings", "findings": findings }))
    }

    /// An error in the words of the interface.
    fn error(fault: &Fault) -> Value {
        fault.body()
    }

    /// The same as an event.
    fn error_event(fault: &Fault) -> Sent {
        Sent { head: String::new(), body: Self::error(fault) }
    }
}

/// A request to the upstream, as it came.
pub(crate) struct Forwarded {
    headers: HeaderMap,
    query: Option<String>,
    /// Whose it is.
    client: String,
    body: Result<Bytes, Fault>,
}

impl<S: Send + Sync> FromRequest<S> for Forwarded {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let (headers, query) = (request.headers().clone(), request.uri().query().map(str::to_owned));
        let client = request.extensions().get().map(Admission::client).unwrap_or_default().to_owned();
        let body = Raw::from_request(request, state).await.map(|Raw(body)| body);
        Ok(Forwarded { headers, query, client, body })
    }
}

pub(crate) async fn chat_completions(app: State<Shared>, request: Forwarded) -> Response {
    serve::<chat::Answers>(&app, request).await
}

pub(crate) async fn messages(app: State<Shared>, request: Forwarded) -> Response {
    serve::<messages::Answer>(&app, request).await
}

pub(crate) async fn responses(app: State<Shared>, request: Forwarded) -> Response {
    serve::<responses::Answer>(&app, request).await
}

async fn serve<P: Protocol>(app: &Shared, request: Forwarded) -> Response {
    ask::<P>(app, request).await.unwrap_or_else(|fault| refused::<P>(&fault))
}

/// An error of Anthropic's Messages.
pub(crate) fn refused_message(fault: &Fault) -> Response {
    refused::<messages::Answer>(fault)
}

fn refused<P: Protocol>(fault: &Fault) -> Response {
    let mut response = fault.clone().into_response();
    *response.body_mut() = Body::from(P::error(fault).to_string());
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}

async fn ask<P: Protocol>(app: &Shared, request: Forwarded) -> Result<Response, Fault> {
    let Forwarded { headers, query, client, body } = request;
    let body = body?;
    let (asked, room) = read::<P>(app, &client, &body)?;
    let sent = upstream::post(app, P::PATH, query.as_deref(), &headers, body).instrument(info_span!("upstream"));
    let (judge, finding, response) = judged(app, &asked, sent).await?;
    let answers = P::new(judge, asked.answers);
    if !response.status().is_success() {
        return upstream::refusal(response, app.silence()).await;
    }
    let mut answer = match kind(response.headers()) {
        Kind::Events => streamed(app, response, answers, room),
        Kind::Json => whole(app, response, answers).await?,
        Kind::Other => return Err(unjudged("its content type is neither JSON nor a stream of events")),
    };
    if app.policy.shadow
        && let Some(finding) = finding
    {
        tell(&mut answer, "x-qwenguard-prompt", &json!(finding));
    }
    Ok(answer)
}

/// Tells clients of a policy in shadow mode what it found, in a header. Text is not in it.
fn tell(response: &mut Response, name: &'static str, found: &Value) {
    // Names of categories are the model's; of letters that a header cannot have nothing is told there.
    if let Ok(value) = HeaderValue::try_from(found.to_string()) {
        response.headers_mut().insert(name, value);
    }
}

/// Reads what is asked, and finds room for all answers.
fn read<P: Protocol>(app: &App, client: &str, body: &[u8]) -> Result<(Asked, Room), Fault> {
    let request = json::read_object(body, &mut Value::Null);
    let request = request.map_err(|reason| Fault::request(format!("body: {reason}")))?;
    let asked = P::asked(&request)?;
    let room = app.keys.more(client, asked.answers)?;
    Ok((asked, room))
}

/// Judges the prompt while the upstream is asked. One that is stopped is never answered: the upstream's answer is dropped.
async fn judged<T>(
    app: &App,
    asked: &Asked,
    sent: impl Future<Output = Result<T, Fault>>,
) -> Result<(Judge, Option<PromptFinding>, T), Fault> {
    let of_field = |reason: String| Fault::field(asked.field, reason);
    let said = message::read_messages(&asked.messages, ToolCalls::Judge).map_err(of_field)?;
    if said.answer.is_some() {
        return Err(of_field("the last message is the assistant's: an answer that goes on is not guarded".into()));
    }
    let mut judge = app.judge()?;
    let (mut sent, mut response) = (pin!(sent), None);
    let reply = {
        let mut judging = pin!(judge.call(Call::Prompt(&said.history)).instrument(info_span!("prompt")));
        loop {
            tokio::select! {
                reply = &mut judging => break reply?,
                found = &mut sent, if response.is_none() => response = Some(found),
            }
        }
    };
    let Reply::Prompt(check) = reply else { unreachable!("a prompt is answered by a check") };
    if let Some(finding) = &check.finding {
        tracing::info!(risk = finding.risk.to_string(), category = finding.category, rule = finding.rule, "prompt");
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
    Ok((judge, check.finding, response?))
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
async fn whole<P: Protocol>(app: &App, response: reqwest::Response, mut answers: P) -> Result<Response, Fault> {
    let headers = upstream::headers(response.headers());
    let bytes = upstream::read(response, ANSWER_BYTES, app.silence()).await?;
    let (guarded, findings) = guard_whole(&mut answers, &bytes).await?;
    let mut response = (headers, axum::Json(guarded)).into_response();
    if app.policy.shadow && !findings.is_empty() {
        tell(&mut response, "x-qwenguard-findings", &findings.into());
    }
    Ok(response)
}

/// Judges an answer that is there whole: what is sent of it, and what was found.
async fn guard_whole(answers: &mut impl Protocol, bytes: &[u8]) -> Result<(Value, Vec<Value>), Fault> {
    let answer = json::read_object(bytes, &mut Value::Null).map_err(unjudged)?;
    let guarded = answers.whole(&Value::Object(answer)).await;
    let findings = report(answers);
    Ok((guarded?, findings))
}

/// An answer that comes in pieces.
fn streamed<P: Protocol>(app: &Shared, response: reqwest::Response, answers: P, room: Room) -> Response {
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
fn relayed<P: Protocol>(app: &App, source: impl Source, answers: P, room: Room) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let (silence, tells) = (app.silence(), app.policy.shadow);
    let relay = Relay { answers, _room: room, sender, silence, tells, is_reported: false };
    tokio::spawn(relay.run(source).in_current_span());
    receiver
}

/// Where the bytes of an answer come from.
trait Source: Send + 'static {
    /// The next bytes, none at the end. What is given up has taken nothing.
    fn bytes(&mut self) -> impl Future<Output = Result<Option<Bytes>, Fault>> + Send;
}

impl Source for reqwest::Response {
    async fn bytes(&mut self) -> Result<Option<Bytes>, Fault> {
        self.chunk().await.map_err(upstream::failed)
    }
}

/// Brings the pieces of an answer from the upstream past the guard to the client.
struct Relay<P> {
    answers: P,
    _room: Room,
    sender: mpsc::Sender<Bytes>,
    silence: Duration,
    /// Whether the last event is what was found.
    tells: bool,
    is_reported: bool,
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
        if !self.is_reported {
            report(&mut self.answers);
        }
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
                    self.send_all(cleared).await?;
                    return self.tell().await;
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
            After::Done => {
                self.tell().await?;
                if !P::LAST_WORDS.is_empty() {
                    self.send(P::LAST_WORDS.into()).await?;
                }
                Err(End::Done)
            }
            After::Broken => Err(End::Done),
        }
    }

    /// Reports what was found; a client of a policy in shadow mode is told by an event of its own.
    async fn tell(&mut self) -> Result<(), End> {
        self.is_reported = true;
        let findings = report(&mut self.answers);
        if self.tells && !findings.is_empty() {
            self.send(P::findings_event(findings).text()).await?;
        }
        Ok(())
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

/// Puts what was found into the log and the numbers, and gives it.
fn report(answers: &mut impl Protocol) -> Vec<Value> {
    let (stops, others) = answers.found();
    let stops = stops.iter().map(|violation| note(violation, Decision::Stop));
    stops.chain(others.iter().map(|violation| note(violation, Decision::Continue))).collect()
}

/// Puts a violation into the log and the numbers, and gives it. Texts are not in it.
pub(crate) fn note(violation: &Violation, decision: Decision) -> Value {
    super::numbers::found("answer", violation.risk, &violation.category, decision);
    let (risk, category, rule) = (violation.risk.to_string(), &violation.category, &violation.rule);
    let (start, end) = (violation.bytes.start, violation.bytes.end);
    tracing::info!(risk, category, rule, start, end, stopped = decision == Decision::Stop, "violation");
    json!(violation)
}
