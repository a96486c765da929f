//! Messages of the library, kept until a thread of Python takes them: the engine never waits for the interpreter's lock.

use std::{
    collections::VecDeque,
    fmt::{self, Write},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

/// The most messages that wait.
const CAPACITY: usize = 1024;

/// The least grave level that is kept, 1 (errors) to 5 (everything); 0 if nothing is.
static LEVEL: AtomicU8 = AtomicU8::new(0);
static WAITING: Mutex<Waiting> = Mutex::new(Waiting { messages: VecDeque::new(), lost: 0 });
static ARRIVED: Condvar = Condvar::new();

struct Waiting {
    messages: VecDeque<Message>,
    lost: u64,
}

/// Level, where it comes from, what it says.
type Message = (u8, String, String);

fn waiting() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has messages kept from now on, of this level and graver ones. In a process that has a subscriber of `tracing` already it is an
/// error.
#[pyfunction]
pub(crate) fn log_open(level: u8) -> PyResult<()> {
    if tracing::dispatcher::has_been_set() {
        let ours = tracing::dispatcher::get_default(|dispatch| dispatch.is::<Relay>());
        if !ours {
            return Err(PyRuntimeError::new_err("another subscriber of tracing in this process gets the messages"));
        }
    } else {
        let dispatch = tracing::Dispatch::new(Relay);
        tracing::dispatcher::set_global_default(dispatch)
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    }
    LEVEL.store(level, Ordering::Relaxed);
    Ok(())
}

/// The messages that wait, and how many were lost since the call before; waits for the first one, for so many seconds at most.
#[pyfunction]
pub(crate) fn log_wait(py: Python<'_>, seconds: f64) -> (Vec<Message>, u64) {
    let until = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default();
    py.detach(|| {
        let mut waiting = waiting();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if !waiting.messages.is_empty() || left.is_zero() {
                return (waiting.messages.drain(..).collect(), std::mem::take(&mut waiting.lost));
            }
            waiting = ARRIVED.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    })
}

/// Keeps nothing any more, and ends a wait.
#[pyfunction]
pub(crate) fn log_close() {
    LEVEL.store(0, Ordering::Relaxed);
    ARRIVED.notify_all();
}

struct Relay;

impl Subscriber for Relay {
    /// The level may change, so it is asked each time.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && number(metadata.level()) <= LEVEL.load(Ordering::Relaxed)
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let (level, target) = (number(event.metadata().level()), event.metadata().target().to_owned());
        let mut waiting = waiting();
        if waiting.messages.len() < CAPACITY {
            waiting.messages.push_back((level, target, words.message + &words.fields));
        } else {
            waiting.lost += 1;
        }
        drop(waiting);
        ARRIVED.notify_one();
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn number(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// A message, and its fields as `name=value` behind it.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
