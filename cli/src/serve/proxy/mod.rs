//! A reverse proxy before a server that speaks OpenAI's interface. The prompt is judged while the upstream starts; of its
//! answers nothing is sent that the guard has not cleared.
//!
//! [`events`] takes streams apart, [`chat`] knows chat completions, [`guarded`] judges one answer, [`upstream`] asks the
//! server behind.

mod chat;
pub(crate) mod events;
mod guarded;
pub(crate) mod upstream;

use std::{pin::pin, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use qwenguard::{Call, Decision, Reply, Violation};
use serde_json::{Map, Value};
use tokio::{sync::mpsc, time::timeout};

use super::{App, Shared, calls::Judge, fault::Fault};
use crate::{
    json,
    message::{self, ToolCalls},
};
use chat::{Answers, unjudged};
use events::{Event, Splitter};

/// The longest event of a stream, and the longest answer that comes whole, in bytes.
const ANSWER_BYTES: usize = 16 << 20;

/// How long a connection may be silent before a comment tells that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Pieces of an answer that wait for the client to take them.
const AHEAD: usize = 16;

pub(crate) async fn chat_completions(
    State(app): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Fault> {
    let request =
        json::read_object(&body, &mut Value::Null).map_err(|reason| Fault::request(format!("body: {reason}")))?;
    let wanted = wanted(&request)?;
    let asked = upstream::post(&app, "/chat/completions", &headers, body);
    let (judge, response) = judged(&app, &request, asked).await?;
    let answers = Answers::new(judge, wanted);
    if !response.status().is_success() {
        return upstream::pass(response).await;
    }
    match kind(response.headers()) {
        Kind::Events => Ok(streamed(&app, response, answers)),
        Kind::Json => whole(response, answers).await,
        Kind::Other => Err(unjudged("its content type is neither JSON nor a stream of events")),
    }
}

/// How many answers a request asks for.
fn wanted(request: &Map<String, Value>) -> Result<usize, Fault> {
    match request.get("n") {
        None | Some(Value::Null) => Ok(1),
        Some(n) => n
            .as_u64()
            .filter(|n| (1..=128).contains(n))
            .map(|n| n as usize)
            .ok_or_else(|| Fault::field("n", "n is out of range")),
    }
}

/// Judges the prompt while the upstream is asked. One that is stopped is never answered: the upstream's answer is dropped.
async fn judged(
    app: &App,
    request: &Map<String, Value>,
    asked: impl Future<Output = Result<reqwest::Response, Fault>>,
) -> Result<(Judge, reqwest::Response), Fault> {
    let messages = match request.get("messages") {
        Some(Value::Array(messages)) => messages,
        _ => return Err(Fault::field("messages", "messages is not a list")),
    };
    let said = message::read_messages(messages, ToolCalls::Judge).map_err(|reason| Fault::field("messages", reason))?;
    if said.answer.is_some() {
        return Err(Fault::field(
            "messages",
            "the last message is the assistant's: an answer that goes on is not guarded",
        ));
    }
    let mut judge = app.judge()?;
    let reply = {
        let (mut asked, mut response) = (pin!(asked), None);
        let mut judging = pin!(judge.call(Call::Prompt(&said.history)));
        let reply = loop {
            tokio::select! {
                reply = &mut judging => break reply?,
                found = &mut asked, if response.is_none() => response = Some(found),
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
        match response {
            Some(response) => response?,
            None => asked.await?,
        }
    };
    Ok((judge, reply))
}

enum Kind {
    Events,
    Json,
    Other,
}

fn kind(headers: &reqwest::header::HeaderMap) -> Kind {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "text/event-stream" => Kind::Events,
        "application/json" => Kind::Json,
        _ => Kind::Other,
    }
}

/// An answer that came whole.
async fn whole(response: reqwest::Response, mut answers: Answers) -> Result<Response, Fault> {
    let headers = upstream::headers(response.headers());
    let bytes = upstream::read(response, ANSWER_BYTES).await?;
    let completion: Value =
        serde_json::from_slice(&bytes).map_err(|error| unjudged(format!("it is not JSON: {error}")))?;
    let guarded = answers.whole(&completion).await?;
    report(&mut answers);
    let bytes = guarded.map_or(bytes, |guarded| guarded.to_string().into());
    Ok((headers, bytes).into_response())
}

/// An answer that comes in pieces.
fn streamed(app: &Shared, response: reqwest::Response, answers: Answers) -> Response {
    let mut headers = upstream::headers(response.headers());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    let (sender, receiver) = mpsc::channel::<Bytes>(AHEAD);
    let relay = Relay { answers, sender, silence: Duration::from_secs(app.settings.upstream_seconds) };
    tokio::spawn(relay.run(response));
    let pieces = stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece| (Ok::<_, std::convert::Infallible>(piece), receiver))
    });
    (headers, Body::from_stream(pieces)).into_response()
}

/// Brings the pieces of an answer from the upstream past the guard to the client.
struct Relay {
    answers: Answers,
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

impl Relay {
    /// Ends when the answer does, the client leaves, or something fails; the upstream is closed then.
    async fn run(mut self, mut response: reqwest::Response) {
        let end = self.relay(&mut response).await;
        report(&mut self.answers);
        if let Err(End::Fault(fault)) = end {
            // Without its end a stream looks like one that was cut off. What was not judged is not sent.
            let _ = self.sender.send(format!("data: {}\n\n", fault.body()).into()).await;
        }
    }

    async fn relay(&mut self, response: &mut reqwest::Response) -> Result<(), End> {
        let mut splitter = Splitter::new(ANSWER_BYTES);
        let mut silent = Duration::ZERO;
        loop {
            let client = self.sender.clone();
            let piece = tokio::select! {
                () = client.closed() => return Err(End::Left),
                piece = timeout(KEEP_ALIVE.min(self.silence), response.chunk()) => piece,
            };
            let Ok(piece) = piece else {
                silent += KEEP_ALIVE.min(self.silence);
                if silent >= self.silence {
                    let message = format!("the upstream was silent for {} s", self.silence.as_secs());
                    return Err(Fault::server(StatusCode::GATEWAY_TIMEOUT, "upstream_silent", message).into());
                }
                self.send(": keep-alive\n\n".into()).await?;
                continue;
            };
            silent = Duration::ZERO;
            match piece.map_err(|error| upstream::failed(&error))? {
                Some(bytes) => {
                    let events = splitter.push(&bytes).map_err(|error| unjudged(format!("its events: {error:?}")))?;
                    for event in events {
                        self.event(event).await?;
                    }
                }
                None => {
                    let cleared = self.answers.end().await?;
                    return self.send_all("", cleared).await;
                }
            }
        }
    }

    /// Judges an event, and sends what is cleared. The last one is an end.
    async fn event(&mut self, event: Event) -> Result<(), End> {
        let message = match event {
            Event::Comment(comment) => {
                return self.send(format!(": {comment}\n\n")).await;
            }
            Event::Message(message) => message,
        };
        if message.data.trim() == "[DONE]" {
            let cleared = self.answers.end().await?;
            self.send_all("", cleared).await?;
            self.send("data: [DONE]\n\n".into()).await?;
            return Err(End::Done);
        }
        let mut id = Value::Null;
        let chunk = json::read_object(message.data.as_bytes(), &mut id)
            .map_err(|reason| unjudged(format!("a chunk: {reason}")))?;
        if chunk.contains_key("error") && !chunk.contains_key("choices") {
            self.send(message.text()).await?;
            return Err(End::Done);
        }
        let cleared = self.answers.chunk(Value::Object(chunk)).await?;
        self.send_all(&message.head, cleared).await?;
        if self.answers.are_over() {
            // The upstream may write for long: it is closed, and nobody waits for it.
            self.send("data: [DONE]\n\n".into()).await?;
            return Err(End::Done);
        }
        Ok(())
    }

    async fn send_all(&self, head: &str, chunks: Vec<Value>) -> Result<(), End> {
        for chunk in chunks {
            self.send(format!("{head}data: {chunk}\n\n")).await?;
        }
        Ok(())
    }

    async fn send(&self, text: String) -> Result<(), End> {
        self.sender.send(text.into()).await.map_err(|_| End::Left)
    }
}

/// Puts what was found into the log and the numbers. Texts are not in it.
fn report(answers: &mut Answers) {
    let of = |violation: &Violation, decision| {
        super::numbers::found("answer", violation.risk, &violation.category, decision);
        let (risk, category, rule) = (violation.risk.to_string(), &violation.category, &violation.rule);
        let (start, end) = (violation.bytes.start, violation.bytes.end);
        tracing::info!(risk, category, rule, start, end, stopped = decision == Decision::Stop, "violation");
    };
    let reported = answers.take_reported();
    answers.stops().for_each(|violation| of(violation, Decision::Stop));
    reported.iter().for_each(|violation| of(violation, Decision::Continue));
}
