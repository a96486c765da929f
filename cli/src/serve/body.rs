//! The body of a request: one JSON object, read strictly.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::StatusCode,
};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::fault::Fault;
use crate::json;

/// The fields of a request.
pub(crate) struct Fields(pub(crate) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let Raw(bytes) = Raw::from_request(request, state).await?;
        json::read_object(&bytes, &mut Value::Null)
            .map(Fields)
            .map_err(|reason| Fault::request(format!("body: {reason}")))
    }
}

/// The bytes of a request.
pub(crate) struct Raw(pub(crate) Bytes);

/// How long a client may take to send a body.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let read = timeout(PATIENCE, Bytes::from_request(request, state)).await;
        let slow = |_| Fault::status(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the body did not come within 30 s");
        read.map_err(slow)?.map(Raw).map_err(|rejection| unread(&rejection))
    }
}

fn unread(rejection: &BytesRejection) -> Fault {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Fault::status(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "the body is longer than serve.max_body_bytes",
        ),
        _ => Fault::request(format!("body: {}", rejection.body_text())),
    }
}

impl Fields {
    /// The list in a field.
    pub(crate) fn list(&self, field: &str) -> Result<&[Value], Fault> {
        match self.0.get(field) {
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(Fault::field(field, format!("{field} is not a list"))),
            None => Err(Fault::field(field, format!("{field} is missing"))),
        }
    }

    /// A yes or no, no if it is not there.
    pub(crate) fn flag(&self, field: &str) -> Result<bool, Fault> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(Fault::field(field, format!("{field} is neither true nor false"))),
        }
    }
}
