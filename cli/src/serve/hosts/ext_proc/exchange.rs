//! One exchange: a request of a client, judged before the upstream sees it, and the answer, guarded as it comes.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode, header},
};
use envoy_types::pb::envoy::{
    extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode,
    service::ext_proc::v3::{HttpHeaders, ProcessingRequest, ProcessingResponse, processing_request::Request},
};
use futures_util::FutureExt;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Status, Streaming};

use super::{
    AHEAD, Sent,
    messages::{self, Head, Side},
};
use crate::serve::{
    Shared,
    body::PATIENCE,
    fault::{Fault, RETRY_SECONDS},
    proxy::{
        Kind,
        carried::{Answers, ERROR_BYTES, Route, refusal},
        kind, unjudged, upstream,
    },
};

pub(super) struct Exchange {
    app: Shared,
    /// Whose it is.
    client: String,
    inbound: Streaming<ProcessingRequest>,
    sender: mpsc::Sender<Sent>,
    /// What the request asks, once it is known.
    route: Option<Route>,
}

/// Why an exchange goes no further.
enum Stop {
    /// Envoy has closed it.
    Left,
    /// The client is answered this in place of all else.
    Refused(Fault),
    /// Envoy is told that the call has failed, and so does not pass on what is left.
    Failed(Status),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Refused(fault)
    }
}

/// A body that came whole.
#[derive(Default)]
struct Whole {
    bytes: Vec<u8>,
    /// Names of the trailers after it.
    trailers: Option<Vec<String>>,
}

/// What of a message comes next.
enum Next {
    Body(Vec<u8>, bool),
    Trailers(Vec<String>),
    /// The head of an answer.
    Answer(HttpHeaders),
}

impl Exchange {
    pub(super) fn new(
        app: Shared,
        client: String,
        inbound: Streaming<ProcessingRequest>,
        sender: mpsc::Sender<Sent>,
    ) -> Self {
        Exchange { app, client, inbound, sender, route: None }
    }

    /// Ends when the exchange does, and tells how it went. A client that is not let in is told so.
    pub(super) async fn run(mut self, refused: Option<&Fault>) -> &'static str {
        let (sender, silence) = (self.sender.clone(), self.app.silence());
        let gone = sender.clone();
        let converse = async {
            tokio::select! {
                ended = self.converse(refused) => ended,
                () = gone.closed() => Err(Stop::Left),
            }
        };
        let ended = AssertUnwindSafe(converse).catch_unwind().await;
        let (word, status) = match ended {
            Ok(Ok(status)) => (Sent::Complete, status),
            Ok(Err(Stop::Left)) => return "left",
            Ok(Err(Stop::Failed(status))) => (Sent::Failed(status), "failed"),
            // It is told by `converse`.
            Ok(Err(Stop::Refused(_))) => (Sent::Complete, "refused"),
            Err(_) => (Sent::Failed(Status::internal("the server failed on this exchange")), "failed"),
        };
        let _ = timeout(silence, sender.send(word)).await;
        status
    }

    async fn converse(&mut self, refused: Option<&Fault>) -> Result<&'static str, Stop> {
        let asked = match refused {
            None => self.request().await,
            Some(fault) => Err(Stop::Refused(fault.clone())),
        };
        let answered = match asked {
            Ok((answers, head)) => self.answer(answers, head).await,
            Err(stop) => Err(stop),
        };
        if let Err(Stop::Refused(fault)) = &answered {
            let seconds = RETRY_SECONDS.to_string();
            let retry = matches!(fault.status.as_u16(), 429 | 503).then_some(seconds.as_str());
            let body = self.route.unwrap_or(Route::Chat).error(fault);
            self.send(messages::immediate(fault.status, body, retry)).await?;
        }
        answered.map(|()| "answered")
    }

    /// Judges the request, and sends it on. Gives what its answers are judged with, and the head of the answer.
    async fn request(&mut self) -> Result<(Option<Answers>, HttpHeaders), Stop> {
        let head = self.request_head().await?;
        let is_bare = head.end_of_stream;
        let head = Head::read(head.headers);
        let unknown = || {
            Fault::status(
                StatusCode::NOT_FOUND,
                "unknown_route",
                format!("{} {} is not guarded", head.method, head.path),
            )
        };
        let route = *self.route.insert(Route::of(&head.method, &head.path).ok_or_else(unknown)?);
        if head.is_coded() {
            let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Fault::status(code, "coded_body", "a body with a content-encoding cannot be judged").into());
        }
        let body = match is_bare {
            true => Whole::default(),
            false => match self.request_body().await? {
                Ok(body) => body,
                // Envoy answers by itself.
                Err(answer) => return Ok((None, answer)),
            },
        };
        let answers = route.ask(&self.app, &self.client, &body.bytes).await?;
        // What is compressed could not be judged.
        self.send(messages::head(Side::Request, &[("accept-encoding", "identity")], Vec::new())).await?;
        if !is_bare {
            self.body(Side::Request, &body.bytes, body.trailers).await?;
        }
        match self.next(self.app.silence()).await? {
            Next::Answer(head) => Ok((Some(answers), head)),
            _ => Err(unexpected("what is no head of an answer")),
        }
    }

    /// The first message. It also says what Envoy is told to bring.
    async fn request_head(&mut self) -> Result<HttpHeaders, Stop> {
        let first = timeout(PATIENCE, self.inbound.message()).await.map_err(|_| Stop::Left)?;
        let Ok(Some(first)) = first else { return Err(Stop::Left) };
        let config = first.protocol_config.unwrap_or_default();
        let wanted = i32::from(BodySendMode::FullDuplexStreamed);
        if first.observability_mode || config.request_body_mode != wanted || config.response_body_mode != wanted {
            let reason = "processing_mode: both body modes have to be FULL_DUPLEX_STREAMED, without observability_mode";
            return Err(Stop::Failed(Status::failed_precondition(reason)));
        }
        match first.request {
            Some(Request::RequestHeaders(head)) => Ok(head),
            _ => Err(unexpected("what is no head of a request")),
        }
    }

    async fn request_body(&mut self) -> Result<Result<Whole, HttpHeaders>, Stop> {
        let most = self.app.settings.max_body_bytes;
        let read = timeout(PATIENCE, self.whole(most, PATIENCE)).await;
        let slow = Fault::status(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the body did not come within 30 s");
        read.map_err(|_| Stop::from(slow))??.map_or_else(
            || {
                let reason = "the body is longer than serve.max_body_bytes";
                Err(Fault::status(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", reason).into())
            },
            Ok,
        )
    }

    /// Guards the answer.
    async fn answer(&mut self, answers: Option<Answers>, head: HttpHeaders) -> Result<(), Stop> {
        let is_bare = head.end_of_stream;
        let head = Head::read(head.headers);
        let status = head.status.ok_or_else(|| unjudged("it has no status"))?;
        if head.is_coded() {
            return Err(unjudged("its body has a content-encoding").into());
        }
        if !status.is_success() {
            let body = self.answer_body(is_bare, ERROR_BYTES).await?;
            let told = refusal(status, &body.bytes)?;
            return self.send_answer(&head, is_bare, told, body.trailers).await;
        }
        let answers = answers.ok_or_else(|| unjudged("it came before the request was sent"))?;
        match kind(&head.headers) {
            Kind::Events if !is_bare => self.events(answers, &head).await,
            Kind::Json => {
                let body = self.answer_body(is_bare, answers.most()).await?;
                let guarded = answers.whole(&body.bytes).await?;
                self.send_answer(&head, is_bare, guarded, body.trailers).await
            }
            _ => Err(unjudged("its content type is neither JSON nor a stream of events").into()),
        }
    }

    async fn answer_body(&mut self, is_bare: bool, most: usize) -> Result<Whole, Stop> {
        if is_bare {
            return Ok(Whole::default());
        }
        let silence = self.app.silence();
        match self.whole(most, silence).await? {
            Some(Ok(whole)) => Ok(whole),
            Some(Err(_)) => Err(unexpected("a second head of an answer")),
            None => Err(unjudged(format!("it is longer than {most} bytes")).into()),
        }
    }

    /// Sends an answer that is there whole.
    async fn send_answer(
        &mut self,
        head: &Head,
        is_bare: bool,
        body: Vec<u8>,
        trailers: Option<Vec<String>>,
    ) -> Result<(), Stop> {
        if is_bare {
            // There is no place for a body.
            return self.send(messages::head(Side::Answer, &[], head.others(&upstream::headers(&head.headers)))).await;
        }
        self.send_head(head, &[("content-type", "application/json")]).await?;
        self.body(Side::Answer, &body, trailers).await
    }

    /// Of the headers of an answer those are passed on that the proxy passes on.
    async fn send_head(&self, head: &Head, set: &[(&'static str, &'static str)]) -> Result<(), Stop> {
        let mut kept: HeaderMap = upstream::headers(&head.headers);
        kept.extend(
            set.iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))),
        );
        self.send(messages::head(Side::Answer, set, head.others(&kept))).await
    }

    /// An answer that comes as events: what is cleared is sent.
    async fn events(&mut self, answers: Answers, head: &Head) -> Result<(), Stop> {
        let (source, pieces) = mpsc::channel(AHEAD);
        let mut cleared = answers.events(&self.app, pieces)?;
        let headers =
            [("content-type", "text/event-stream"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")];
        self.send_head(head, &headers).await?;
        let trailers = Arc::new(OnceLock::new());
        let sender = self.sender.clone();
        let send = async {
            while let Some(piece) = cleared.recv().await {
                send_all(&sender, self.app.silence(), messages::body(Side::Answer, &piece, false)).await?;
            }
            Ok::<(), Stop>(())
        };
        // The guard may be done before the upstream is: then nobody waits for the rest.
        let mut send = pin!(send);
        tokio::select! {
            sent = &mut send => sent?,
            brought = bring(&mut self.inbound, source, trailers.clone()) => {
                brought?;
                send.await?;
            }
        }
        let removed: Option<Vec<String>> = trailers.get().cloned();
        self.body(Side::Answer, &[], removed).await
    }

    /// A body up to its end. None if it is longer than `most` bytes; the head of an answer if that comes in between.
    async fn whole(&mut self, most: usize, patience: Duration) -> Result<Option<Result<Whole, HttpHeaders>>, Stop> {
        let mut whole = Whole::default();
        loop {
            match self.next(patience).await? {
                Next::Body(bytes, _) if whole.bytes.len() + bytes.len() > most => return Ok(None),
                Next::Body(bytes, is_end) => {
                    whole.bytes.extend(bytes);
                    if is_end {
                        return Ok(Some(Ok(whole)));
                    }
                }
                Next::Trailers(names) => {
                    whole.trailers = Some(names);
                    return Ok(Some(Ok(whole)));
                }
                Next::Answer(head) => return Ok(Some(Err(head))),
            }
        }
    }

    async fn next(&mut self, patience: Duration) -> Result<Next, Stop> {
        let message = timeout(patience, self.inbound.message()).await.map_err(|_| upstream::silent(patience))?;
        read(message)
    }

    /// Sends a body to its end, and what comes after it.
    async fn body(&self, side: Side, bytes: &[u8], trailers: Option<Vec<String>>) -> Result<(), Stop> {
        send_all(&self.sender, self.app.silence(), messages::body(side, bytes, trailers.is_none())).await?;
        match trailers {
            // Nobody judges them.
            Some(names) => self.send(messages::trailers(side, names)).await,
            None => Ok(()),
        }
    }

    async fn send(&self, message: ProcessingResponse) -> Result<(), Stop> {
        send_all(&self.sender, self.app.silence(), vec![message]).await
    }
}

/// Who takes nothing for so long has left.
async fn send_all(
    sender: &mpsc::Sender<Sent>,
    silence: Duration,
    messages: Vec<ProcessingResponse>,
) -> Result<(), Stop> {
    for message in messages {
        let sent = timeout(silence, sender.send(Sent::Message(Box::new(message)))).await;
        sent.map_err(|_| Stop::Failed(Status::deadline_exceeded("nothing is taken")))?.map_err(|_| Stop::Left)?;
    }
    Ok(())
}

/// Brings the body of an answer to the guard, as fast as that takes it.
async fn bring(
    inbound: &mut Streaming<ProcessingRequest>,
    source: mpsc::Sender<Result<Bytes, Fault>>,
    trailers: Arc<OnceLock<Vec<String>>>,
) -> Result<(), Stop> {
    loop {
        match read(inbound.message().await)? {
            Next::Body(bytes, is_end) => {
                // The guard has what it needs.
                let is_done = source.send(Ok(bytes.into())).await.is_err();
                if is_end || is_done {
                    return Ok(());
                }
            }
            Next::Trailers(names) => {
                let _ = trailers.set(names);
                return Ok(());
            }
            Next::Answer(_) => return Err(unexpected("a second head of an answer")),
        }
    }
}

fn read(message: Result<Option<ProcessingRequest>, Status>) -> Result<Next, Stop> {
    let Ok(Some(message)) = message else { return Err(Stop::Left) };
    let names = |trailers: Option<_>| Head::read(trailers).others(&HeaderMap::new());
    match message.request {
        Some(Request::RequestBody(body) | Request::ResponseBody(body)) => Ok(Next::Body(body.body, body.end_of_stream)),
        Some(Request::RequestTrailers(trailers) | Request::ResponseTrailers(trailers)) => {
            Ok(Next::Trailers(names(trailers.trailers)))
        }
        Some(Request::ResponseHeaders(head)) => Ok(Next::Answer(head)),
        Some(Request::RequestHeaders(_)) | None => Err(unexpected("a second head of a request")),
    }
}

fn unexpected(what: &str) -> Stop {
    Stop::Failed(Status::invalid_argument(format!("Envoy sent {what}")))
}
