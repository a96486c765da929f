//! Calls of a stream with all that they need: what Python gives for one is its kind and a value.

use std::time::{Duration, Instant};

use pyo3::{
    exceptions::{PyOverflowError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyString},
};
use qwenguard::{Call, Error, Message};

use crate::errors::Failure;

/// A call that owns its texts.
#[derive(Debug)]
pub(crate) enum OwnedCall {
    Prompt(Vec<Message>),
    NextTurn(Vec<Message>),
    Text(Vec<u8>),
    Thinking(Vec<u8>),
    Tokens(Vec<u32>),
    Finish,
    Truncate(usize),
    TruncateTokens(usize),
}

impl OwnedCall {
    pub(crate) fn read(kind: &str, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(match kind {
            "prompt" => OwnedCall::Prompt(messages(value)?),
            "next_turn" => OwnedCall::NextTurn(messages(value)?),
            "push_text" => OwnedCall::Text(bytes(value)?),
            "push_thinking" => OwnedCall::Thinking(bytes(value)?),
            "push_tokens" => OwnedCall::Tokens(tokens(value)?),
            "finish" => OwnedCall::Finish,
            "truncate" => OwnedCall::Truncate(number("bytes", value)?),
            "truncate_tokens" => OwnedCall::TruncateTokens(number("tokens", value)?),
            _ => return Err(PyValueError::new_err(format!("{kind:?} is no call"))),
        })
    }

    pub(crate) fn borrow(&self) -> Call<'_> {
        match self {
            OwnedCall::Prompt(messages) => Call::Prompt(messages),
            OwnedCall::NextTurn(messages) => Call::NextTurn(messages),
            OwnedCall::Text(text) => Call::Text(text),
            OwnedCall::Thinking(text) => Call::Thinking(text),
            OwnedCall::Tokens(ids) => Call::Tokens(ids),
            OwnedCall::Finish => Call::Finish,
            OwnedCall::Truncate(bytes) => Call::Truncate(*bytes),
            OwnedCall::TruncateTokens(tokens) => Call::TruncateTokens(*tokens),
        }
    }
}

/// Pairs of a role and a content.
pub(crate) fn messages(value: &Bound<'_, PyAny>) -> PyResult<Vec<Message>> {
    let pairs: Vec<(String, String)> = value.extract()?;
    Ok(pairs.into_iter().map(|(role, content)| Message::new(role, content)).collect())
}

/// A whole number that is never negative. One out of range is an argument that could never be right, as any other.
fn number(argument: &'static str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    let wrong = |error: PyErr| match error.is_instance_of::<PyOverflowError>(value.py()) {
        true => {
            let reason = if value.lt(0).unwrap_or(false) { "negative" } else { "too large" };
            Failure::from(Error::Argument { argument, reason: format!("{value} is {reason}"), source: None }).into()
        }
        false => error,
    };
    value.extract().map_err(wrong)
}

/// The id of a token.
pub(crate) fn token(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    let wrong = |error: PyErr| match error.is_instance_of::<PyOverflowError>(value.py()) {
        true => {
            let reason = format!("there is no token {value}");
            Failure::from(Error::Argument { argument: "token id", reason, source: None }).into()
        }
        false => error,
    };
    value.extract().map_err(wrong)
}

fn tokens(value: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    value.try_iter()?.map(|id| token(&id?)).collect()
}

/// The UTF-8 of a string, or bytes as they are.
fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_cow()?.into_owned().into_bytes());
    }
    match value.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes().to_vec()),
        Err(_) => Err(PyTypeError::new_err(format!("text must be str or bytes, not {}", value.get_type().name()?))),
    }
}

/// The moment after so many seconds; none if there is no limit, or it is beyond all clocks.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!("timeout: {seconds} is not a number of seconds")));
    }
    Ok(Duration::try_from_secs_f64(seconds).ok().and_then(|time| Instant::now().checked_add(time)))
}
