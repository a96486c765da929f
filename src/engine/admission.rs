//! Admission: what was asked of the engine and is not answered, counted where callers ask, so that a step that hangs hides
//! nothing, and limited.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{Error, Result};

pub(super) struct Admission {
    /// The most tokens that wait.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_ticket: u64,
    tokens: usize,
    /// When each append came, by ticket.
    since: BTreeMap<u64, Instant>,
}

/// What waits at one moment.
pub(super) struct Load {
    pub(super) streams: usize,
    pub(super) tokens: usize,
    pub(super) oldest_seconds: f64,
}

impl Admission {
    pub(super) fn new(limit: usize) -> Self {
        Admission { limit, state: Mutex::default() }
    }

    /// Admits an append. If nothing waits any is admitted, or a long prompt could never come in.
    pub(super) fn admit(self: &Arc<Self>, tokens: usize) -> Result<Reservation> {
        let since = Instant::now();
        let mut state = self.lock();
        if state.tokens > 0 && tokens > self.limit.saturating_sub(state.tokens) {
            return Err(Error::Busy {
                what: "too many tokens are waiting",
                limit: self.limit,
                advice: "try again later, or raise engine.max_queued_tokens",
            });
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.tokens += tokens;
        state.since.insert(ticket, since);
        Ok(Reservation { admission: self.clone(), ticket, since, tokens })
    }

    pub(super) fn load(&self) -> Load {
        let state = self.lock();
        let oldest = state.since.first_key_value().map(|(_, since)| *since);
        let (streams, tokens) = (state.since.len(), state.tokens);
        drop(state);
        Load { streams, tokens, oldest_seconds: oldest.map_or(0.0, |since| since.elapsed().as_secs_f64()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an append takes of the limit, until it is dropped.
pub(super) struct Reservation {
    admission: Arc<Admission>,
    /// Order of arrival.
    pub(super) ticket: u64,
    pub(super) since: Instant,
    /// Tokens that wait.
    tokens: usize,
}

impl Reservation {
    /// Some of the tokens wait no more.
    pub(super) fn computed(&mut self, tokens: usize) {
        let tokens = tokens.min(self.tokens);
        self.tokens -= tokens;
        self.admission.lock().tokens -= tokens;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.tokens -= self.tokens;
        state.since.remove(&self.ticket);
    }
}
