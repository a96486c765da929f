//! Where this library's messages go if a host asks for them: a subscriber of `tracing`, set at the first request and never
//! before, which hands them to a callback and to logs that keep them. A program in Rust may have a subscriber of its own; that
//! one gets the messages then, and this one is not to be had.

use std::{
    cell::Cell,
    ffi::{CString, c_char, c_void},
    fmt::{self, Write},
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicPtr, AtomicU32, Ordering},
    },
    thread,
};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber, dispatcher,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

use super::{failure::Failure, memory::c_string};
use crate::{Error, process::Process};

/// Nothing.
pub const QG_LOG_OFF: u32 = 0;
/// Something failed that should not: a step, a device.
pub const QG_LOG_ERROR: u32 = 1;
/// Something that may be wrong: a setting, or what ONNX Runtime warns of.
pub const QG_LOG_WARNING: u32 = 2;
/// What happens seldom: what was loaded, and what computes.
pub const QG_LOG_INFO: u32 = 3;
/// What happens often, and most of what ONNX Runtime says.
pub const QG_LOG_DEBUG: u32 = 4;
/// Everything.
pub const QG_LOG_TRACE: u32 = 5;

/// A message, on its way to a host.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) level: u32,
    pub(super) target: CString,
    pub(super) text: CString,
}

/// A host's function, and what it is given.
pub(super) struct Callback {
    pub(super) call: unsafe extern "C" fn(*mut c_void, u32, *const c_char, *const c_char),
    pub(super) context: *mut c_void,
}

// SAFETY: the header wants a function and a context that any thread may use.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

/// Who keeps messages until they are taken.
pub(super) trait Keeper: Send + Sync {
    /// The least grave level that it wants.
    fn level(&self) -> u32;

    /// Takes a message, and does not wait.
    fn keep(&self, message: &Message);
}

/// Who gets messages, in the process that made it.
struct Listeners {
    process: Process,
    /// Held while the function runs, so that whoever changes it knows that it does not run any more.
    callback: RwLock<Option<Callback>>,
    callback_level: AtomicU32,
    keepers: RwLock<Vec<Weak<dyn Keeper>>>,
    keeper_level: AtomicU32,
}

/// None until a host asks. In a forked process those of its parent, whose locks may be held for ever, until it asks itself;
/// they stay in memory.
static LISTENERS: AtomicPtr<Listeners> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// Whether a callback runs on this thread.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Those of this process, if it has any.
fn listeners() -> Option<&'static Listeners> {
    // SAFETY: NULL, or what is never freed.
    let listeners = unsafe { LISTENERS.load(Ordering::Acquire).as_ref() };
    listeners.filter(|listeners| listeners.process.is_current())
}

/// Those of this process, which has some from now on.
fn make_listeners() -> Result<&'static Listeners, Failure> {
    if !install() {
        let state = "in a program that has a subscriber of tracing, which gets the messages";
        return Err(Error::WrongState { call: "a function of the log", state }.into());
    }
    loop {
        if let Some(listeners) = listeners() {
            return Ok(listeners);
        }
        let old = LISTENERS.load(Ordering::Acquire);
        let made = Box::into_raw(Box::new(Listeners {
            process: Process::current(),
            callback: RwLock::default(),
            callback_level: AtomicU32::new(0),
            keepers: RwLock::default(),
            keeper_level: AtomicU32::new(0),
        }));
        if LISTENERS.compare_exchange(old, made, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: nobody else has seen it.
            drop(unsafe { Box::from_raw(made) });
        }
    }
}

/// Sets the subscriber, once for the process. Whether it is this one.
fn install() -> bool {
    if !dispatcher::has_been_set() && dispatcher::set_global_default(Dispatch::new(Relay)).is_ok() {
        return true;
    }
    // Another thread may be in the middle of it.
    while !dispatcher::has_been_set() {
        thread::yield_now();
    }
    dispatcher::get_default(|dispatch| dispatch.is::<Relay>())
}

/// Sets the callback, or takes it away; waits until the one before does not run any more.
pub(super) fn set_callback(callback: Option<Callback>, level: u32) -> Result<(), Failure> {
    if INSIDE.get() {
        let state = "from the callback that it is to change";
        return Err(Error::WrongState { call: "qg_log_set", state }.into());
    }
    let listeners = match callback {
        Some(_) => make_listeners()?,
        // Where nothing was ever set there is nothing to take away.
        None => match listeners() {
            Some(listeners) => listeners,
            None => return Ok(()),
        },
    };
    let mut slot = listeners.callback.write().unwrap_or_else(PoisonError::into_inner);
    listeners.callback_level.store(if callback.is_some() { level } else { 0 }, Ordering::Relaxed);
    *slot = callback;
    Ok(())
}

/// Has messages kept, for as long as the keeper is there.
pub(super) fn add_keeper(keeper: &Arc<dyn Keeper>) -> Result<(), Failure> {
    let listeners = make_listeners()?;
    let mut keepers = listeners.keepers.write().unwrap_or_else(PoisonError::into_inner);
    keepers.push(Arc::downgrade(keeper));
    listeners.count_levels(&mut keepers);
    Ok(())
}

/// After a keeper has gone.
pub(super) fn forget_keepers() {
    if let Some(listeners) = listeners() {
        listeners.count_levels(&mut listeners.keepers.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Listeners {
    fn count_levels(&self, keepers: &mut Vec<Weak<dyn Keeper>>) {
        keepers.retain(|keeper| keeper.strong_count() > 0);
        let levels = keepers.iter().filter_map(Weak::upgrade).map(|keeper| keeper.level());
        self.keeper_level.store(levels.max().unwrap_or(0), Ordering::Relaxed);
    }

    fn wants(&self, level: u32) -> bool {
        level <= self.callback_level.load(Ordering::Relaxed).max(self.keeper_level.load(Ordering::Relaxed))
    }

    fn hand_on(&self, message: &Message) {
        if message.level <= self.keeper_level.load(Ordering::Relaxed) {
            let keepers = self.keepers.read().unwrap_or_else(PoisonError::into_inner);
            let keepers = keepers.iter().filter_map(Weak::upgrade);
            keepers.filter(|keeper| message.level <= keeper.level()).for_each(|keeper| keeper.keep(message));
        }
        // What a callback brings about is not told to it: it would be called in itself.
        if message.level <= self.callback_level.load(Ordering::Relaxed) && !INSIDE.get() {
            let slot = self.callback.read().unwrap_or_else(PoisonError::into_inner);
            // The level may have changed meanwhile.
            let wanted = message.level <= self.callback_level.load(Ordering::Relaxed);
            if let Some(Callback { call, context }) = slot.as_ref().filter(|_| wanted) {
                INSIDE.set(true);
                // SAFETY: the header wants a function that takes these, from any thread, until it was taken away; and
                // that waits for the lock that is held here.
                unsafe { call(*context, message.level, message.target.as_ptr(), message.text.as_ptr()) };
                INSIDE.set(false);
            }
        }
    }
}

/// The subscriber. It has no spans.
struct Relay;

impl Subscriber for Relay {
    /// Whether a message is wanted changes, so that it is asked each time: one look at two numbers.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && listeners().is_some_and(|listeners| listeners.wants(number(metadata.level())))
    }

    fn event(&self, event: &Event<'_>) {
        let Some(listeners) = listeners() else { return };
        let mut words = Words::default();
        event.record(&mut words);
        let metadata = event.metadata();
        listeners.hand_on(&Message {
            level: number(metadata.level()),
            target: c_string(metadata.target()),
            text: c_string(words.line()),
        });
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Levels as C has them: the graver, the smaller.
fn number(level: &Level) -> u32 {
    match *level {
        Level::ERROR => QG_LOG_ERROR,
        Level::WARN => QG_LOG_WARNING,
        Level::INFO => QG_LOG_INFO,
        Level::DEBUG => QG_LOG_DEBUG,
        Level::TRACE => QG_LOG_TRACE,
    }
}

/// A message, and its fields as `name=value` behind it.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn line(self) -> String {
        match self.message.is_empty() {
            true => self.fields.trim_start().to_owned(),
            false => self.message + &self.fields,
        }
    }
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
