//! Streams.

use std::sync::Arc;

use pyo3::{prelude::*, types::PyList};
use qwenguard::Error;

use crate::{
    calls::{OwnedCall, deadline},
    errors::Failure,
    results,
    slot::{Lent, Slot},
};

/// One conversation being moderated.
#[pyclass(frozen, module = "qwenguard._native")]
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) slot: Arc<Slot>,
}

#[pymethods]
impl Stream {
    /// Makes a call and waits for it, without the interpreter's lock. `timeout` is in seconds.
    #[pyo3(signature = (kind, value, timeout=None))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        value: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (call, deadline) = (OwnedCall::read(kind, value)?, deadline(timeout)?);
        let mut lent = self.slot.lend()?;
        let reply = py.detach(|| {
            let stream = lent.stream();
            let reply = match deadline {
                Some(deadline) => stream.call_by(call.borrow(), deadline),
                None => stream.call(call.borrow()),
            };
            drop(lent);
            reply
        });
        results::reply(py, &reply.map_err(Failure::from)?)
    }

    fn fork(&self, py: Python<'_>) -> PyResult<Self> {
        let mut lent = self.slot.lend()?;
        let forked = py.detach(|| lent.stream().fork()).map_err(Failure::from)?;
        Ok(Stream { slot: Slot::new(forked) })
    }

    /// Fails if the stream is closed.
    fn check(&self) -> PyResult<()> {
        Ok(self.slot.check()?)
    }

    fn context_used(&self) -> PyResult<usize> {
        Ok(self.slot.lend()?.stream().context_used())
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.slot.close());
    }
}

/// Makes calls of many streams at once. A list of what each answers, or of its exception.
#[pyfunction]
pub(crate) fn call_all<'py>(
    py: Python<'py>,
    calls: Vec<(Bound<'py, Stream>, String, Bound<'py, PyAny>)>,
) -> PyResult<Bound<'py, PyList>> {
    let mut read = Vec::with_capacity(calls.len());
    for (_, kind, value) in &calls {
        read.push(OwnedCall::read(kind, value)?);
    }
    let mut lent: Vec<Result<Lent, Failure>> = calls.iter().map(|(stream, ..)| stream.get().slot.lend()).collect();
    let replies = py.detach(|| {
        let ready = lent.iter_mut().zip(&read).filter_map(|(lent, call)| Some((lent.as_mut().ok()?, call)));
        qwenguard::Stream::call_all(ready.map(|(lent, call)| (lent.stream(), call.borrow())))
    });
    let mut replies = replies.into_iter();
    let answers = PyList::empty(py);
    for lent in lent {
        let reply = lent.and_then(|_| replies.next().unwrap_or(Err(Error::EngineStopped)).map_err(Failure::from));
        answers.append(match reply {
            Ok(reply) => results::reply(py, &reply)?,
            Err(failure) => failure.exception(py)?,
        })?;
    }
    Ok(answers)
}
