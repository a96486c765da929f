//! Calls without waiting for them.

use std::{
    collections::HashMap,
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pyo3::{prelude::*, types::PyTuple};
use qwenguard::{Completion, CompletionQueue, Error, Reply};

use crate::{
    annotate,
    calls::{self, OwnedCall, deadline},
    errors::Failure,
    guard::Guard,
    results,
    slot::Slot,
    stream::Stream,
};

/// How long a wait goes on before signals of Python are looked at.
const SLICE: Duration = Duration::from_millis(200);

/// A completion queue. Calls are known by tickets.
#[pyclass(frozen, module = "qwenguard._native")]
#[derive(Debug)]
pub(crate) struct Queue {
    process: u32,
    queue: CompletionQueue,
    next: AtomicU64,
    closed: AtomicBool,
    entries: Mutex<HashMap<u64, Entry>>,
}

/// What is kept of a call.
#[derive(Debug)]
enum Entry {
    /// Where its stream goes back to.
    Call(Arc<Slot>),
    /// The categories of the guard that annotates.
    Annotation(Py<PyTuple>),
}

/// What came of a call: its ticket and the answer or the exception.
type Done<'py> = (u64, Bound<'py, PyAny>);

impl Queue {
    fn check(&self) -> Result<(), Failure> {
        if self.process == process::id() { Ok(()) } else { Err(Error::EngineStopped.into()) }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ticket(&self, entry: Entry) -> u64 {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        self.entries().insert(ticket, entry);
        ticket
    }

    /// Gives the stream of a call back.
    fn settle<'py>(&self, py: Python<'py>, completion: Completion) -> PyResult<Done<'py>> {
        let Completion { tag, stream, result } = completion;
        let entry = self.entries().remove(&tag);
        if let Some(Entry::Call(slot)) = &entry {
            slot.give_back(stream.map(Box::new));
        }
        let answer = match (result, &entry) {
            (Ok(Reply::Annotation(found)), Some(Entry::Annotation(names))) => {
                results::annotation(py, &found, Some(names.bind(py)))?
            }
            (Ok(reply), _) => results::reply(py, &reply)?,
            (Err(error), _) => Failure::from(error).exception(py)?,
        };
        Ok((tag, answer))
    }
}

#[pymethods]
impl Queue {
    #[new]
    fn new() -> Self {
        let queue = CompletionQueue::new();
        let (next, closed) = (AtomicU64::new(0), AtomicBool::new(false));
        Queue { process: process::id(), queue, next, closed, entries: Mutex::default() }
    }

    /// Begins a call of a stream and gives its ticket. `timeout` is in seconds.
    #[pyo3(signature = (stream, kind, value, timeout=None))]
    fn submit(
        &self,
        py: Python<'_>,
        stream: &Stream,
        kind: &str,
        value: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<u64> {
        self.check()?;
        let (call, deadline) = (OwnedCall::read(kind, value)?, deadline(timeout)?);
        let (slot, stream) = stream.slot.lend()?.take();
        let ticket = self.ticket(Entry::Call(slot));
        py.detach(|| self.queue.submit(*stream, call.borrow(), ticket, deadline));
        Ok(ticket)
    }

    /// Begins to annotate a conversation and gives its ticket.
    #[pyo3(signature = (guard, conversation, decoding, overflow, timeout=None))]
    fn annotate(
        &self,
        py: Python<'_>,
        guard: &Guard,
        conversation: &Bound<'_, PyAny>,
        decoding: &str,
        overflow: &str,
        timeout: Option<f64>,
    ) -> PyResult<u64> {
        self.check()?;
        let (options, deadline) = (annotate::options(decoding, overflow)?, deadline(timeout)?);
        let (messages, names) = (calls::messages(conversation)?, guard.names(py)?.clone().unbind());
        let guard = guard.guard()?;
        let ticket = self.ticket(Entry::Annotation(names));
        py.detach(|| self.queue.annotate(&guard, &messages, &options, ticket, deadline));
        Ok(ticket)
    }

    /// Waits for a call that is done, for so many seconds at most, and no longer than until the queue is closed. `draining` is
    /// for who closes it.
    #[pyo3(signature = (timeout=None, draining=false))]
    fn wait<'py>(&self, py: Python<'py>, timeout: Option<f64>, draining: bool) -> PyResult<Option<Done<'py>>> {
        self.check()?;
        let until = deadline(timeout)?;
        loop {
            if !draining && self.closed.load(Ordering::Relaxed) {
                return Err(Failure::Closed("queue").into());
            }
            let left = until.map_or(SLICE, |until| until.saturating_duration_since(Instant::now()).min(SLICE));
            if let Some(completion) = py.detach(|| self.queue.wait(left)) {
                return self.settle(py, completion).map(Some);
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(None);
            }
            py.check_signals()?;
        }
    }

    /// Has all waits end, those that go on as well.
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Cancels a call that is not done. Whether it was so.
    fn cancel(&self, ticket: u64) -> PyResult<bool> {
        self.check()?;
        Ok(self.queue.cancel(ticket) > 0)
    }

    fn __len__(&self) -> PyResult<usize> {
        self.check()?;
        Ok(self.queue.len())
    }

    /// The number of a socket that has something to read when there is something to take, and that is the caller's. What is in
    /// it is to be read before the queue is asked.
    #[cfg(unix)]
    fn wake_socket(&self) -> PyResult<i32> {
        use std::{io::Write, os::fd::IntoRawFd, os::unix::net::UnixStream};

        self.check()?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        // A socket that is full has woken them already.
        let wake = move || drop((&ours).write(&[0]));
        self.queue.on_ready(wake).map_err(Failure::from)?;
        Ok(theirs.into_raw_fd())
    }
}
