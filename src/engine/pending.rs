//! Work that was given to the engine and may not be done yet.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{Engine, Use, worker::Command};
use crate::{Error, Result, model::RoleLogits};

/// Called once, by the worker, when an answer is there. It must not wait: all streams wait for it.
pub(crate) type Notify = Box<dyn FnOnce() + Send>;

/// Where the worker puts an answer and the caller finds it.
struct Slot {
    state: Mutex<State>,
    ready: Condvar,
}

struct State {
    answer: Option<Result<RoleLogits>>,
    notify: Option<Notify>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's end. Dropped without an answer, it says that the engine has stopped.
pub(crate) struct Reply(Option<Arc<Slot>>);

impl Reply {
    pub(crate) fn send(mut self, answer: Result<RoleLogits>) {
        self.put(answer);
    }

    /// Answers nobody: the caller has given up.
    pub(crate) fn discard(mut self) {
        self.0 = None;
    }

    fn put(&mut self, answer: Result<RoleLogits>) {
        let Some(slot) = self.0.take() else { return };
        let mut state = slot.lock();
        state.answer = Some(answer);
        let notify = state.notify.take();
        drop(state);
        slot.ready.notify_all();
        if let Some(notify) = notify {
            // A panic of the host's must not end the engine.
            let _ = catch_unwind(AssertUnwindSafe(notify));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.put(Err(Error::EngineStopped));
    }
}

/// An append that may not be computed yet: [`Sequence::complete`](super::Sequence::complete) makes it part of the
/// sequence. Dropping it gives the append up: the sequence is then as it was before.
pub(crate) struct Pending {
    slot: Arc<Slot>,
    engine: Arc<Engine>,
    pub(super) append: AppendId,
    /// How many tokens are appended.
    pub(super) count: usize,
    /// Whether dropping must tell the worker.
    open: bool,
    _using: Use,
}

/// Which append of which sequence, and the length it started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppendId {
    pub(crate) sequence: u64,
    /// Numbers the appends of a sequence, from 1.
    pub(crate) number: u64,
    pub(crate) start: usize,
}

impl Pending {
    pub(super) fn new(
        engine: Arc<Engine>,
        using: Use,
        append: AppendId,
        count: usize,
        notify: Option<Notify>,
    ) -> (Self, Reply) {
        let slot = Arc::new(Slot { state: Mutex::new(State { answer: None, notify }), ready: Condvar::new() });
        let reply = Reply(Some(slot.clone()));
        (Pending { slot, engine, append, count, open: true, _using: using }, reply)
    }

    /// Whether completing the append does not wait: the answer is there, or never will be in this process.
    pub(crate) fn is_ready(&self) -> bool {
        !self.engine.process.is_current() || self.slot.lock().answer.is_some()
    }

    /// Waits for the answer.
    pub(crate) fn wait(&self) {
        drop(self.slot.ready.wait_while(self.slot.lock(), |state| state.answer.is_none()));
    }

    /// Waits for the answer, but not beyond a moment. Returns whether it is there.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        if !self.engine.process.is_current() {
            return true;
        }
        let mut state = self.slot.lock();
        while state.answer.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.slot.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits for the answer and takes it.
    pub(super) fn take(mut self) -> Result<RoleLogits> {
        self.engine.process.check()?;
        self.wait();
        self.open = false;
        self.slot.lock().answer.take().unwrap_or(Err(Error::EngineStopped))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.open && self.engine.process.is_current() {
            // Dropped here, outside the lock: it may own anything.
            let notify = self.slot.lock().notify.take();
            drop(notify);
            // A stopped engine has nothing to cancel.
            let _ = self.engine.send(Command::Cancel { append: self.append });
        }
    }
}
