//! What every request goes through: its key, the limits, a line in the log, and the numbers.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use tracing::{Instrument, Span};

use super::{App, Shared, fault::Fault, id, keys::Admitted, proxy, trace};

/// The name of a request, in its answer and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a request holds as long as it is served.
#[derive(Clone)]
pub(crate) struct Admission {
    admitted: Arc<Admitted>,
    _serving: Arc<Serving>,
}

impl Admission {
    /// Whose request it is.
    pub(crate) fn client(&self) -> &str {
        &self.admitted.client
    }
}

/// Counts the request among those that are being served.
pub(crate) struct Serving;

impl Serving {
    pub(crate) fn new() -> Self {
        metrics::gauge!("qwenguard_http_requests").increment(1);
        Serving
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        metrics::gauge!("qwenguard_http_requests").decrement(1);
    }
}

/// Lets a request in, if its key is known and there is room.
pub(crate) async fn admit(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let begun = Log::of(&request);
    let span = begun.span(&request);
    let admitted = match own_page(&app, request.headers()).and_then(|()| app.keys.admit(request.headers())) {
        Ok(admitted) => Arc::new(admitted),
        Err(fault) => {
            let response = refused(&begun.route, &fault);
            return begun.end(&span, response, "");
        }
    };
    let client = admitted.client.clone();
    let admission = Admission { admitted, _serving: Arc::new(Serving::new()) };
    request.extensions_mut().insert(admission.clone());
    let response = next.run(request).instrument(span.clone()).await;
    // The request is served until all of the answer is sent.
    let response = response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &admission;
            frame
        }))
    });
    begun.end(&span, response, &client)
}

/// An error in the words of the route's interface.
fn refused(route: &str, fault: &Fault) -> Response {
    match route {
        "/v1/messages" => proxy::refused_message(fault),
        _ => fault.clone().into_response(),
    }
}

/// Without keys, whoever can reach the server may ask, but not a page from elsewhere in a browser of theirs.
fn own_page(app: &App, headers: &HeaderMap) -> Result<(), Fault> {
    let Some(origin) = headers.get(header::ORIGIN).filter(|_| app.keys.is_open()) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let local = app.settings.listen.ip().is_loopback();
    let reason = match origin.filter(|origin| Some(*origin) == host) {
        None => "pages of other origins may not ask a server without keys",
        // Anybody's name may be made to lead to this machine, for the browser of somebody who visits the page of that name.
        Some(origin) if local && !is_of_this_machine(origin) => {
            "a server without keys that listens on this machine alone may be asked by pages of localhost only: set serve.keys"
        }
        Some(_) => return Ok(()),
    };
    Err(Fault::status(StatusCode::FORBIDDEN, "other_origin", reason))
}

/// Whether a host, perhaps with its port, is an address, or a name that can mean nothing else than this machine.
fn is_of_this_machine(host: &str) -> bool {
    let is_address = host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok();
    let name = host.split(':').next().unwrap_or(host);
    is_address || name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") || host.starts_with("[::1]")
}

/// Lets a request in if its key is known.
pub(crate) async fn known(State(app): State<Shared>, request: Request, next: Next) -> Response {
    match app.keys.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(fault) => fault.into_response(),
    }
}

/// What the log says about a request. Texts are never in it.
struct Log {
    id: HeaderValue,
    method: String,
    route: String,
    begun: Instant,
}

impl Log {
    fn of(request: &Request) -> Self {
        let given = request.headers().get(REQUEST_ID).filter(|id| id.len() <= 128).cloned();
        let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
        Log {
            id: given.unwrap_or_else(|| HeaderValue::try_from(id("req")).expect("it is of letters and digits")),
            method: request.method().to_string(),
            route: route.unwrap_or_default(),
            begun: Instant::now(),
        }
    }

    fn span(&self, request: &Request) -> Span {
        trace::request(self.id.to_str().unwrap_or_default(), &self.method, &self.route, request.headers())
    }

    fn end(self, span: &Span, mut response: Response, client: &str) -> Response {
        let Log { id, method, route, begun } = self;
        let (status, seconds) = (response.status().as_u16(), begun.elapsed().as_secs_f64());
        let labels = [("route", route.clone()), ("status", status.to_string()), ("client", client.to_owned())];
        metrics::counter!("qwenguard_http_requests_total", &labels).increment(1);
        metrics::histogram!("qwenguard_http_request_seconds", "route" => route.clone()).record(seconds);
        trace::answered(span, status, client);
        tracing::info!(request_id = id.to_str().unwrap_or_default(), method, route, status, client, seconds, "request");
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for host in
            ["localhost", "LocalHost:8600", "127.0.0.1", "127.0.0.1:8600", "[::1]", "[::1]:8600", "192.168.1.2:1"]
        {
            assert!(is_of_this_machine(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:8600", "localhost.evil.example", "127.0.0.1.evil.example:1", "x:1:2"]
        {
            assert!(!is_of_this_machine(host), "{host}");
        }
    }
}
