//! The body of a request: one JSON object, read strictly.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::StatusCode,
};
use serde_json::{Map, Value};

use super::fault::Fault;
use crate::json;

/// The fields of a request.
pub(crate) struct Fields(pub(crate) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| unread(&rejection))?;
        json::read_object(&bytes, &mut Value::Null)
            .map(Fields)
            .map_err(|reason| Fault::request(format!("body: {reason}")))
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
