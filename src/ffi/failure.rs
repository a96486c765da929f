//! Why a call failed, inside and as C sees it: `qg_error`. Its functions are in `error`.

use std::ffi::{CStr, CString};

use safer_ffi::derive_ReprC;

use super::{
    memory::{c_string, give},
    status::*,
};
use crate::Error;

/// Why a call failed: a status and a message. Yours to free.
#[derive_ReprC]
#[repr(opaque)]
pub struct qg_error {
    status: qg_status,
    message: CString,
}

impl qg_error {
    pub(super) fn allocate(failure: &Failure) -> *mut qg_error {
        give(qg_error { status: failure.status(), message: c_string(failure.to_string()) })
    }

    pub(super) fn status(&self) -> qg_status {
        self.status
    }

    pub(super) fn message(&self) -> &CStr {
        &self.message
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    Library(Error),
    Null { argument: &'static str },
    Enum { argument: &'static str, value: i64 },
    InUse,
    Panic(String),
}

impl Failure {
    /// An argument out of its range.
    pub(super) fn argument(argument: &'static str, reason: impl Into<String>) -> Self {
        Failure::Library(Error::argument(argument, reason.into()))
    }

    pub(super) fn status(&self) -> qg_status {
        qg_status::new(match self {
            Failure::Library(error) => match error {
                Error::RuntimeNotFound { .. } => QG_ERROR_RUNTIME_NOT_FOUND,
                Error::RuntimeUnusable { .. } => QG_ERROR_RUNTIME_UNUSABLE,
                Error::Provider { .. } => QG_ERROR_PROVIDER,
                Error::Config { .. } => QG_ERROR_CONFIG,
                Error::BundleFile { .. } => QG_ERROR_BUNDLE_FILE,
                Error::BundleField { .. } => QG_ERROR_BUNDLE_FIELD,
                Error::BundleFormat { .. } => QG_ERROR_BUNDLE_FORMAT,
                Error::Conversation { .. } => QG_ERROR_CONVERSATION,
                Error::Argument { .. } => QG_ERROR_ARGUMENT,
                Error::WrongState { .. } => QG_ERROR_WRONG_STATE,
                Error::ContextFull { .. } => QG_ERROR_CONTEXT_FULL,
                Error::Busy { .. } => QG_ERROR_BUSY,
                Error::OutOfMemory { .. } => QG_ERROR_OUT_OF_MEMORY,
                Error::Inference { .. } => QG_ERROR_INFERENCE,
                Error::EngineStopped => QG_ERROR_ENGINE_STOPPED,
                Error::DeadlineExceeded => QG_ERROR_DEADLINE_EXCEEDED,
                Error::Expired { .. } => QG_ERROR_EXPIRED,
                Error::Cancelled => QG_ERROR_CANCELLED,
            },
            Failure::Null { .. } => QG_ERROR_NULL,
            Failure::Enum { .. } => QG_ERROR_ENUM,
            Failure::InUse => QG_ERROR_IN_USE,
            Failure::Panic(_) => QG_ERROR_PANIC,
        })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Library(error) => error.fmt(f),
            Failure::Null { argument } => write!(f, "argument {argument}: NULL"),
            Failure::Enum { argument, value } => write!(f, "argument {argument}: {value} is none of its values"),
            Failure::InUse => write!(f, "the stream is in use, by another thread or in a queue"),
            Failure::Panic(reason) => write!(f, "a bug of libqwenguard: {reason}"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Library(error)
    }
}
