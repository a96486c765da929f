//! What a request is answered that cannot be served: an object `error` as clients of OpenAI's interface read it.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};

/// Why a request is not served.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    /// What kind of error it is, by OpenAI's names.
    kind: &'static str,
    /// A name for programs.
    code: &'static str,
    message: String,
    /// The field of the request that is wrong.
    param: Option<String>,
}

/// Seconds after which a request that found the server busy is worth another try.
pub(crate) const RETRY_SECONDS: u64 = 1;

impl Fault {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Fault { status, kind, code, message: message.into(), param: None }
    }

    /// The request is wrong.
    pub(crate) fn request(message: impl Into<String>) -> Self {
        Fault::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_request", message)
    }

    /// A field of the request is wrong.
    pub(crate) fn field(param: &str, message: impl Into<String>) -> Self {
        Fault { param: Some(param.to_owned()), ..Fault::request(message) }
    }

    pub(crate) fn status(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Fault::new(status, "invalid_request_error", code, message)
    }

    pub(crate) fn key(message: impl Into<String>) -> Self {
        Fault::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message)
    }

    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Fault::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", message)
    }

    /// The policy stops what was asked.
    pub(crate) fn filtered(message: impl Into<String>) -> Self {
        Fault::new(StatusCode::BAD_REQUEST, "invalid_request_error", "content_filter", message)
    }

    /// The server, or one behind it, fails.
    pub(crate) fn server(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Fault::new(status, "server_error", code, message)
    }

    /// What is wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The body of the answer: what events of streams carry, too.
    pub(crate) fn body(&self) -> Value {
        #[derive(Serialize)]
        struct Error<'a> {
            message: &'a str,
            r#type: &'a str,
            param: Option<&'a str>,
            code: &'a str,
        }
        let Fault { kind, code, message, param, .. } = self;
        json!({ "error": Error { message, r#type: kind, param: param.as_deref(), code } })
    }
}

impl From<qwenguard::Error> for Fault {
    fn from(error: qwenguard::Error) -> Self {
        use qwenguard::Error;
        let message = error.to_string();
        match error {
            Error::Conversation { .. } | Error::Argument { .. } | Error::WrongState { .. } => Fault::request(message),
            Error::ContextFull { .. } => Fault::status(StatusCode::BAD_REQUEST, "context_length_exceeded", message),
            Error::Busy { .. } => Fault::busy(message),
            Error::Expired { .. } => Fault::status(StatusCode::GONE, "stream_expired", message),
            Error::DeadlineExceeded => Fault::server(StatusCode::SERVICE_UNAVAILABLE, "deadline_exceeded", message),
            Error::OutOfMemory { .. } => Fault::server(StatusCode::SERVICE_UNAVAILABLE, "out_of_memory", message),
            _ => Fault::server(StatusCode::INTERNAL_SERVER_ERROR, "guard_failed", message),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS || self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        response
    }
}
