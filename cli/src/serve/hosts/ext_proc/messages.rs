//! What Envoy is answered, and headers as it writes them.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use envoy_types::pb::envoy::{
    config::core::v3::{
        HeaderMap as EnvoyHeaders, HeaderValue as EnvoyHeader, HeaderValueOption,
        header_value_option::HeaderAppendAction,
    },
    service::ext_proc::v3::{
        BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, ImmediateResponse,
        ProcessingResponse, StreamedBodyResponse, TrailersResponse, body_mutation::Mutation,
        processing_response::Response,
    },
    r#type::v3::HttpStatus,
};

/// The longest piece of a body that is sent at once, as Envoy advises.
const PIECE: usize = 64 << 10;

/// Which of the two messages of an exchange is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Answer,
}

/// What Envoy tells of the head of a message.
#[derive(Default)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) status: Option<StatusCode>,
    pub(super) headers: HeaderMap,
    /// Names that are none, as nobody should pass them on.
    odd: Vec<String>,
}

impl Head {
    pub(super) fn read(headers: Option<EnvoyHeaders>) -> Self {
        let mut head = Head::default();
        for EnvoyHeader { key, value, raw_value } in headers.unwrap_or_default().headers {
            let bytes = if raw_value.is_empty() { value.into_bytes() } else { raw_value };
            let text = || String::from_utf8_lossy(&bytes).into_owned();
            match key.as_str() {
                ":method" => head.method = text(),
                ":path" => head.path = text(),
                ":status" => head.status = StatusCode::from_bytes(&bytes).ok(),
                _ if key.starts_with(':') => {}
                _ => match (HeaderName::try_from(&key), HeaderValue::from_bytes(&bytes)) {
                    (Ok(name), Ok(value)) => {
                        head.headers.append(name, value);
                    }
                    _ => head.odd.push(key),
                },
            }
        }
        head
    }

    /// Whether its body is compressed, or coded otherwise.
    pub(super) fn is_coded(&self) -> bool {
        let codings = self.headers.get_all("content-encoding").iter();
        codings.into_iter().any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
    }

    /// All headers but these.
    pub(super) fn others(&self, kept: &HeaderMap) -> Vec<String> {
        // These are about the connection, and Envoy's own.
        let is_envoys =
            |name: &str| name.starts_with("x-envoy") || matches!(name, "transfer-encoding" | "content-length");
        let names = self.headers.keys().filter(|name| !kept.contains_key(*name)).map(HeaderName::as_str);
        names.filter(|name| !is_envoys(name)).map(str::to_owned).chain(self.odd.iter().cloned()).collect()
    }
}

fn message(response: Response) -> ProcessingResponse {
    ProcessingResponse { response: Some(response), ..ProcessingResponse::default() }
}

fn mutation(set: &[(&str, &str)], removed: Vec<String>) -> HeaderMutation {
    let option = |(name, value): &(&str, &str)| HeaderValueOption {
        header: Some(EnvoyHeader {
            key: (*name).to_owned(),
            raw_value: value.as_bytes().to_vec(),
            ..EnvoyHeader::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    };
    HeaderMutation { set_headers: set.iter().map(option).collect(), remove_headers: removed }
}

/// The head goes on, with these headers set and those taken away.
pub(super) fn head(side: Side, set: &[(&str, &str)], removed: Vec<String>) -> ProcessingResponse {
    let response = CommonResponse { header_mutation: Some(mutation(set, removed)), ..CommonResponse::default() };
    let response = HeadersResponse { response: Some(response) };
    message(match side {
        Side::Request => Response::RequestHeaders(response),
        Side::Answer => Response::ResponseHeaders(response),
    })
}

/// Pieces of a body, the last of which ends it if nothing comes after.
pub(super) fn body(side: Side, bytes: &[u8], is_end: bool) -> Vec<ProcessingResponse> {
    let mut pieces: Vec<&[u8]> = bytes.chunks(PIECE).collect();
    if pieces.is_empty() && is_end {
        pieces.push(&[]);
    }
    let last = pieces.len().saturating_sub(1);
    let piece = |(index, piece): (usize, &&[u8])| {
        let streamed =
            StreamedBodyResponse { body: piece.to_vec(), end_of_stream: is_end && index == last, ..Default::default() };
        let mutation = BodyMutation { mutation: Some(Mutation::StreamedResponse(streamed)) };
        let response = CommonResponse { body_mutation: Some(mutation), ..CommonResponse::default() };
        let response = BodyResponse { response: Some(response) };
        message(match side {
            Side::Request => Response::RequestBody(response),
            Side::Answer => Response::ResponseBody(response),
        })
    };
    pieces.iter().enumerate().map(piece).collect()
}

/// Trailers without those of these names.
pub(super) fn trailers(side: Side, removed: Vec<String>) -> ProcessingResponse {
    let response = TrailersResponse { header_mutation: Some(mutation(&[], removed)) };
    message(match side {
        Side::Request => Response::RequestTrailers(response),
        Side::Answer => Response::ResponseTrailers(response),
    })
}

/// An answer of our own in place of all else.
pub(super) fn immediate(status: StatusCode, body: Vec<u8>, retry_seconds: Option<&str>) -> ProcessingResponse {
    let mut set = vec![("content-type", "application/json")];
    set.extend(retry_seconds.map(|seconds| ("retry-after", seconds)));
    message(Response::ImmediateResponse(ImmediateResponse {
        status: Some(HttpStatus { code: status.as_u16().into() }),
        headers: Some(mutation(&set, Vec::new())),
        body,
        details: "qwenguard".into(),
        ..ImmediateResponse::default()
    }))
}
