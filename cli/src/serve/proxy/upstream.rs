//! The server behind: how it is asked, and what of its answer's head is passed on.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, header::InvalidHeaderValue},
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use super::shape;

use crate::{
    Failure,
    serve::{
        App, Shared,
        fault::Fault,
        settings::{KeyHeader, Settings},
        trace,
    },
};

/// The longest answer that is passed on without being judged: an error, or a list of models.
pub(super) const PASSED_BYTES: usize = 1 << 20;

/// Headers that are about a connection, or about bytes that change on the way.
const OF_THE_WAY: [HeaderName; 14] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::ACCEPT_ENCODING,
    header::ETAG,
    header::HOST,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

/// The server behind, and the connections to it.
pub(crate) struct Upstream {
    client: reqwest::Client,
    url: String,
    /// Its key, and how it is told. Without one the client's own is passed on.
    key: Option<Secret>,
    header: KeyHeader,
    silence: Duration,
}

/// A key, as each header has it.
struct Secret {
    bearer: HeaderValue,
    plain: HeaderValue,
}

impl Secret {
    fn new(key: &str) -> Result<Self, InvalidHeaderValue> {
        let [mut bearer, mut plain] = [HeaderValue::try_from(format!("Bearer {key}"))?, HeaderValue::try_from(key)?];
        bearer.set_sensitive(true);
        plain.set_sensitive(true);
        Ok(Secret { bearer, plain })
    }

    fn put(&self, headers: &mut HeaderMap, header: KeyHeader, path: &str) {
        if header != KeyHeader::XApiKey {
            headers.insert(header::AUTHORIZATION, self.bearer.clone());
        }
        if header == KeyHeader::XApiKey || (header == KeyHeader::ByRoute && path == "/messages") {
            headers.insert("x-api-key", self.plain.clone());
        }
    }
}

impl Upstream {
    pub(crate) fn new(url: &str, settings: &Settings) -> Result<Self, Failure> {
        let wrong = |name: &str, reason: &dyn std::fmt::Display| {
            Failure::Message(format!("configuration: serve.{name}: {reason}"))
        };
        let parsed = reqwest::Url::parse(url).map_err(|error| wrong("upstream", &error))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(wrong("upstream", &"it is not an address that begins with http:// or https://"));
        }
        let key = settings.upstream_key_env.as_ref().map(|name| {
            let key = std::env::var(name).map_err(|error| wrong("upstream_key_env", &format!("{name}: {error}")))?;
            if key.trim().is_empty() {
                return Err(wrong("upstream_key_env", &format!("{name} is empty")));
            }
            Secret::new(key.trim()).map_err(|error| wrong("upstream_key_env", &format!("{name}: {error}")))
        });
        // Another server in this program may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let silence = Duration::from_secs(settings.upstream_seconds);
        // A redirect would send the conversation to somebody else.
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(silence);
        let client = builder.build().map_err(|error| wrong("upstream", &error))?;
        let (url, header) = (url.trim_end_matches('/').to_owned(), settings.upstream_key_header);
        Ok(Upstream { client, url, key: key.transpose()?, header, silence })
    }
}

/// Asks the upstream.
pub(crate) async fn post(
    app: &App,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<reqwest::Response, Fault> {
    send(app, reqwest::Method::POST, (path, query), headers, body).await
}

async fn send(
    app: &App,
    method: reqwest::Method,
    (path, query): (&str, Option<&str>),
    headers: &HeaderMap,
    body: Bytes,
) -> Result<reqwest::Response, Fault> {
    let upstream = app.upstream.as_ref().ok_or_else(|| Fault::request("there is no upstream"))?;
    let mut sent = passed(headers);
    // Keys of this server are not the upstream's business.
    if upstream.key.is_some() || !app.keys.is_open() {
        sent.remove(header::AUTHORIZATION);
        sent.remove("x-api-key");
        sent.remove(header::SEC_WEBSOCKET_PROTOCOL);
    }
    if let Some(key) = &upstream.key {
        key.put(&mut sent, upstream.header, path);
    }
    trace::tell(&mut sent);
    sent.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let request = upstream.client.request(method, format!("{}{path}{query}", upstream.url)).headers(sent).body(body);
    match timeout(upstream.silence, request.send()).await {
        Ok(response) => response.map_err(failed),
        Err(_) => Err(silent(upstream.silence)),
    }
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    let mut passed = headers.clone();
    // What the header names is about this connection, too.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|names| names.to_str().ok())
        .flat_map(|names| names.split(',').filter_map(|name| name.trim().parse().ok()))
        .collect();
    for name in OF_THE_WAY.iter().chain(&named) {
        passed.remove(name);
    }
    passed
}

/// The headers of an answer that are passed on: names and numbers.
pub(crate) fn headers(headers: &HeaderMap) -> HeaderMap {
    let known = ["request-id", "x-request-id", "retry-after", "date"];
    let families = ["openai-", "x-ratelimit-", "anthropic-ratelimit-"];
    let is_known = |name: &str| known.contains(&name) || families.iter().any(|family| name.starts_with(family));
    let is_plain = |value: &HeaderValue| value.len() <= 128 && value.to_str().is_ok();
    let passed = headers.iter().filter(|(name, value)| is_known(name.as_str()) && is_plain(value));
    passed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// An answer that is an error, in few words.
pub(crate) async fn refusal(response: reqwest::Response, silence: Duration) -> Result<Response, Fault> {
    let (status, headers) = (response.status(), headers(response.headers()));
    check_error(status)?;
    let bytes = read(response, PASSED_BYTES, silence).await.unwrap_or_default();
    Ok((status, headers, Json(error(status, &bytes))).into_response())
}

/// What is neither an answer nor an error leads nowhere: a redirect would lead clients past the guard.
pub(super) fn check_error(status: StatusCode) -> Result<(), Fault> {
    if status.is_client_error() || status.is_server_error() {
        return Ok(());
    }
    let message = format!("the upstream answered {}, which is not followed", status.as_u16());
    Err(Fault::server(StatusCode::BAD_GATEWAY, "upstream_failed", message))
}

/// What is told of an error.
pub(super) fn error(status: StatusCode, bytes: &[u8]) -> serde_json::Value {
    shape::error(&serde_json::from_slice(bytes).unwrap_or_default(), Some(status.as_u16()))
}

/// `GET /v1/models`.
pub(crate) async fn models(State(app): State<Shared>, request: Request) -> Result<Response, Fault> {
    let response =
        send(&app, reqwest::Method::GET, ("/models", request.uri().query()), request.headers(), Bytes::new()).await?;
    if !response.status().is_success() {
        return refusal(response, app.silence()).await;
    }
    let headers = headers(response.headers());
    let bytes = read(response, PASSED_BYTES, app.silence()).await?;
    Ok((headers, Json(list(&bytes)?)).into_response())
}

/// A list of models.
pub(super) fn list(bytes: &[u8]) -> Result<serde_json::Value, Fault> {
    let not_json =
        |error| Fault::server(StatusCode::BAD_GATEWAY, "upstream_failed", format!("its list is not JSON: {error}"));
    serde_json::from_slice(bytes).map_err(not_json)
}

/// Reads an answer whole.
pub(crate) async fn read(mut response: reqwest::Response, most: usize, silence: Duration) -> Result<Bytes, Fault> {
    let mut bytes = Vec::new();
    loop {
        let piece = timeout(silence, response.chunk()).await.map_err(|_| silent(silence))?;
        let Some(piece) = piece.map_err(failed)? else { break };
        if bytes.len() + piece.len() > most {
            let message = format!("the upstream's answer is longer than {most} bytes");
            return Err(Fault::server(StatusCode::BAD_GATEWAY, "upstream_too_long", message));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

/// The upstream says nothing.
pub(crate) fn silent(silence: Duration) -> Fault {
    let message = format!("the upstream was silent for {} s", silence.as_secs());
    Fault::server(StatusCode::GATEWAY_TIMEOUT, "upstream_silent", message)
}

/// The upstream could not be asked, or went away.
pub(crate) fn failed(error: reqwest::Error) -> Fault {
    // Where it is, and what may be in its address, is not the client's business.
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    Fault::server(StatusCode::BAD_GATEWAY, "upstream_failed", format!("the upstream failed: {reason}"))
}
