//! Errors of the library as exceptions: `python/qwenguard/_errors.py` has their classes, by the numbers of `qwenguard.h`.

use pyo3::{prelude::*, sync::PyOnceLock};
use qwenguard::Error;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Library(Error),
    InUse,
    Closed(&'static str),
    /// A panic of an earlier call.
    Broken,
}

const IN_USE: i32 = 102;
const PANIC: i32 = 103;
/// Of the binding alone: what was closed.
const CLOSED: i32 = -1;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Library(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| match failure.exception(py) {
            Ok(exception) => PyErr::from_value(exception),
            Err(error) => error,
        })
    }
}

impl Failure {
    fn status(&self) -> i32 {
        match self {
            Failure::Library(error) => status(error),
            Failure::InUse => IN_USE,
            Failure::Broken => PANIC,
            Failure::Closed(_) => CLOSED,
        }
    }

    fn message(&self) -> String {
        match self {
            Failure::Library(Error::EngineStopped) => {
                format!("{}. A process that was forked opens a guard of its own", Error::EngineStopped)
            }
            Failure::Library(error) => error.to_string(),
            Failure::InUse => "the stream is in use, by another thread or in a queue".into(),
            Failure::Broken => "a bug of libqwenguard, in an earlier call of this stream: close it".into(),
            Failure::Closed(what) => format!("the {what} is closed"),
        }
    }

    /// The exception as an object, to be raised or handed over.
    pub(crate) fn exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let make = MAKE.get_or_try_init(py, || {
            let module = py.import("qwenguard._errors")?;
            PyResult::Ok(module.getattr("_make")?.unbind())
        })?;
        make.bind(py).call1((self.status(), self.message()))
    }
}

/// The number that `qwenguard.h` has for it.
fn status(error: &Error) -> i32 {
    match error {
        Error::RuntimeNotFound { .. } => 1,
        Error::RuntimeUnusable { .. } => 2,
        Error::Provider { .. } => 3,
        Error::Config { .. } => 4,
        Error::BundleFile { .. } => 5,
        Error::BundleField { .. } => 6,
        Error::BundleFormat { .. } => 7,
        Error::Conversation { .. } => 8,
        Error::Argument { .. } => 9,
        Error::WrongState { .. } => 10,
        Error::ContextFull { .. } => 11,
        Error::Busy { .. } => 12,
        Error::OutOfMemory { .. } => 13,
        Error::Inference { .. } => 14,
        Error::EngineStopped => 15,
        Error::DeadlineExceeded => 16,
        Error::Expired { .. } => 17,
        Error::Cancelled => 18,
        // `Error` may grow: what is new is told by its message.
        _ => 0,
    }
}
