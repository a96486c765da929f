//! The answer to an append, on its way from the worker to the caller.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{Error, Result, model::Logits};

/// Called once, by the worker, when a reply is there. It must not wait: all streams wait for it.
pub(crate) type Notify = Box<dyn FnOnce() + Send>;

/// Where the worker puts the reply and the caller finds it.
struct Slot {
    state: Mutex<State>,
    ready: Condvar,
}

struct State {
    reply: Option<Result<Logits>>,
    notify: Option<Notify>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's end. Dropped without a reply, it says that the engine has stopped.
pub(super) struct ReplySender(Option<Arc<Slot>>);

impl ReplySender {
    pub(super) fn send(mut self, reply: Result<Logits>) {
        self.put(reply);
    }

    /// Tells nobody: the caller has cancelled.
    pub(super) fn discard(mut self) {
        self.0 = None;
    }

    fn put(&mut self, reply: Result<Logits>) {
        let Some(slot) = self.0.take() else { return };
        let mut state = slot.lock();
        state.reply = Some(reply);
        let notify = state.notify.take();
        drop(state);
        slot.ready.notify_all();
        if let Some(notify) = notify {
            // A panic of the host's must not end the engine.
            let _ = catch_unwind(AssertUnwindSafe(notify));
        }
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        self.put(Err(Error::EngineStopped));
    }
}

/// The caller's end.
pub(super) struct ReplyReceiver(Arc<Slot>);

/// Both ends of a reply. `notify` is called, once, as soon as the receiver does not wait any more.
pub(super) fn reply(notify: Option<Notify>) -> (ReplySender, ReplyReceiver) {
    let slot = Arc::new(Slot { state: Mutex::new(State { reply: None, notify }), ready: Condvar::new() });
    (ReplySender(Some(slot.clone())), ReplyReceiver(slot))
}

impl ReplyReceiver {
    /// Whether the reply is there.
    pub(super) fn is_ready(&self) -> bool {
        self.0.lock().reply.is_some()
    }

    /// Waits for the reply.
    pub(super) fn wait(&self) {
        drop(self.0.ready.wait_while(self.0.lock(), |state| state.reply.is_none()));
    }

    /// Waits for the reply, but not beyond a moment. Returns whether it is there.
    pub(super) fn wait_until(&self, deadline: Instant) -> bool {
        let mut state = self.0.lock();
        while state.reply.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits for the reply and takes it.
    pub(super) fn take(&self) -> Result<Logits> {
        self.wait();
        self.0.lock().reply.take().unwrap_or(Err(Error::EngineStopped))
    }

    /// Nobody is told any more when the reply comes.
    pub(super) fn forget_notify(&self) {
        // Dropped here, outside the lock: it may own anything.
        let notify = self.0.lock().notify.take();
        drop(notify);
    }
}
