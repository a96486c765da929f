//! Who is told that a queue has something to take: a descriptor and a callback, once a host has asked for them.

use std::{
    cell::Cell,
    ffi::c_void,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use super::{descriptor::Descriptor, failure::Failure};
use crate::{CompletionQueue, Error, queue::Signal};

/// Of a queue.
#[derive(Default)]
pub(super) struct Signals {
    descriptor: Mutex<Option<Arc<Descriptor>>>,
    wake: Mutex<Option<Arc<Wake>>>,
}

/// A host's function.
#[derive(Default)]
struct Wake {
    /// Held while the function runs, so that whoever changes it knows that it does not run any more.
    callback: RwLock<Option<Callback>>,
}

pub(super) struct Callback {
    pub(super) call: unsafe extern "C" fn(*mut c_void),
    pub(super) context: *mut c_void,
}

// SAFETY: the header wants a function and a context that any thread may use.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

thread_local! {
    /// Whether a callback runs on this thread.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Signal for Wake {
    fn wake(&self) {
        let slot = self.callback.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Callback { call, context }) = &*slot {
            INSIDE.set(true);
            // SAFETY: the header wants a function that takes this, from any thread, until it was taken away; and that waits
            // for the lock that is held here.
            unsafe { call(*context) };
            INSIDE.set(false);
        }
    }
}

impl Wake {
    fn set(&self, callback: Option<Callback>) {
        *self.callback.write().unwrap_or_else(PoisonError::into_inner) = callback;
    }
}

impl Signals {
    pub(super) fn descriptor(&self, queue: &CompletionQueue) -> Result<i64, Failure> {
        let mut slot = lock(&self.descriptor);
        if let Some(descriptor) = &*slot {
            return Ok(descriptor.number());
        }
        let made =
            Descriptor::new().map_err(|error| Error::argument("queue", format!("no descriptor for it: {error}")))?;
        let made = Arc::new(made);
        queue.attach(made.clone())?;
        Ok(slot.insert(made).number())
    }

    pub(super) fn set_wake(&self, queue: &CompletionQueue, callback: Option<Callback>) -> Result<(), Failure> {
        if INSIDE.get() {
            let state = "from a callback, which may call no function of the library";
            return Err(Error::WrongState { call: "qg_queue_set_wake", state }.into());
        }
        let mut slot = lock(&self.wake);
        match (&*slot, callback) {
            (Some(wake), callback) => {
                wake.set(callback);
                queue.wake_again();
            }
            (None, None) => {}
            (None, Some(callback)) => {
                let made = Arc::new(Wake { callback: RwLock::new(Some(callback)) });
                queue.attach(made.clone())?;
                *slot = Some(made);
            }
        }
        Ok(())
    }

    /// Nobody is told any more, from now on.
    pub(super) fn end(&self) {
        if let Some(wake) = &*lock(&self.wake) {
            wake.set(None);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
