//! What was asked of the engine and is not answered, counted where callers ask: a step that hangs hides nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{Error, Result};

pub(crate) struct Queue {
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
pub(crate) struct Load {
    pub(crate) streams: usize,
    pub(crate) tokens: usize,
    pub(crate) oldest_seconds: f64,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Queue { limit, state: Mutex::default() }
    }

    /// A place for an append. If nothing waits there is one for any, or a long prompt could never come in.
    pub(crate) fn enter(self: &Arc<Self>, tokens: usize) -> Result<Place> {
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
        Ok(Place { queue: self.clone(), ticket, since, tokens })
    }

    pub(crate) fn load(&self) -> Load {
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

/// An append's place in the queue, left when it is dropped.
pub(crate) struct Place {
    queue: Arc<Queue>,
    /// Order of arrival.
    pub(crate) ticket: u64,
    pub(crate) since: Instant,
    /// Tokens that wait.
    tokens: usize,
}

impl Place {
    /// Some of the tokens wait no more.
    pub(crate) fn computed(&mut self, tokens: usize) {
        let tokens = tokens.min(self.tokens);
        self.tokens -= tokens;
        self.queue.lock().tokens -= tokens;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.tokens -= self.tokens;
        state.since.remove(&self.ticket);
    }
}
