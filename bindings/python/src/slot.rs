//! Where a stream is that one caller at a time may use.

use std::{
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use qwenguard::{Error, Stream};

use crate::errors::Failure;

/// A stream, or why it is not here.
#[derive(Debug)]
pub(crate) struct Slot {
    /// A forked process must not wait for a lock that another thread of its parent may have held.
    process: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Free(Box<Stream>),
    /// In a call, and whether it is to be closed afterwards.
    Lent {
        closed: bool,
    },
    Closed,
    /// A call of it has panicked.
    Broken,
}

/// A stream on loan. It goes back when this is dropped.
pub(crate) struct Lent {
    slot: Arc<Slot>,
    stream: Option<Box<Stream>>,
}

impl Slot {
    pub(crate) fn new(stream: Stream) -> Arc<Self> {
        Arc::new(Slot { process: process::id(), state: Mutex::new(State::Free(Box::new(stream))) })
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, Failure> {
        match self.process == process::id() {
            true => Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner)),
            false => Err(Error::EngineStopped.into()),
        }
    }

    /// Whether the stream may be used, by whoever has it now.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match &*self.lock()? {
            State::Closed | State::Lent { closed: true } => Err(Failure::Closed("stream")),
            State::Broken => Err(Failure::Broken),
            State::Free(_) | State::Lent { closed: false } => Ok(()),
        }
    }

    pub(crate) fn lend(self: &Arc<Self>) -> Result<Lent, Failure> {
        let mut state = self.lock()?;
        match std::mem::replace(&mut *state, State::Lent { closed: false }) {
            State::Free(stream) => Ok(Lent { slot: self.clone(), stream: Some(stream) }),
            other => {
                let failure = match other {
                    State::Closed | State::Lent { closed: true } => Failure::Closed("stream"),
                    State::Broken => Failure::Broken,
                    _ => Failure::InUse,
                };
                *state = other;
                Err(failure)
            }
        }
    }

    pub(crate) fn close(&self) {
        // In a forked process there is nothing to free.
        let Ok(mut state) = self.lock() else { return };
        let closed = match &*state {
            State::Lent { .. } => State::Lent { closed: true },
            _ => State::Closed,
        };
        let old = std::mem::replace(&mut *state, closed);
        drop(state);
        drop(old);
    }

    /// Gives a stream back; none if it is lost.
    pub(crate) fn give_back(&self, stream: Option<Box<Stream>>) {
        let Ok(mut state) = self.lock() else { return };
        let next = match (&*state, stream) {
            (State::Lent { closed: true }, stream) => {
                *state = State::Closed;
                drop(state);
                return drop(stream);
            }
            (_, Some(stream)) => State::Free(stream),
            (_, None) => State::Broken,
        };
        *state = next;
    }
}

impl Lent {
    pub(crate) fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("it is here until it is taken")
    }

    /// Takes the stream, which whoever has it gives back to the slot.
    pub(crate) fn take(mut self) -> (Arc<Slot>, Box<Stream>) {
        (self.slot.clone(), self.stream.take().expect("it is here until it is taken"))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        match self.stream.take() {
            Some(_) if thread::panicking() => self.slot.give_back(None),
            Some(stream) => self.slot.give_back(Some(stream)),
            None => {}
        }
    }
}
