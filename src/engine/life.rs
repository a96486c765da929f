//! Whether a sequence is in use, or since when not: what its owner and the worker both know.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub(crate) struct Life(Mutex<State>);

struct State {
    /// Calls that are going on.
    uses: usize,
    /// When the last one ended.
    used: Instant,
    expired: bool,
}

/// A call that is going on. While there is one the sequence does not expire.
pub(crate) struct Use(Arc<Life>);

impl Life {
    pub(crate) fn new() -> Self {
        Life(Mutex::new(State { uses: 0, used: Instant::now(), expired: false }))
    }

    /// Begins a call. None if it is too late.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Use> {
        let mut state = self.lock();
        (!state.expired).then(|| {
            state.uses += 1;
            Use(self.clone())
        })
    }

    /// Lets the sequence expire if it was not used for so long. Returns whether it did.
    pub(crate) fn expire(&self, now: Instant, idle: Duration) -> bool {
        let mut state = self.lock();
        state.expired |= state.uses == 0 && now.saturating_duration_since(state.used) >= idle;
        state.expired
    }

    /// The last moment at which the sequence was used.
    pub(crate) fn used(&self, now: Instant) -> Instant {
        let state = self.lock();
        if state.uses > 0 { now } else { state.used }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let used = Instant::now();
        let mut state = self.0.lock();
        state.uses -= 1;
        state.used = used;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn only_what_is_not_used_expires() {
        let life = Arc::new(Life::new());
        let (first, second) = (life.enter().unwrap(), life.enter().unwrap());
        let later = Instant::now() + 2 * IDLE;
        assert!(!life.expire(later, IDLE));
        assert_eq!(life.used(later), later);
        drop(first);
        assert!(!life.expire(later, IDLE), "the second call goes on");
        let before = Instant::now();
        drop(second);
        assert!((before..=Instant::now()).contains(&life.used(later)));
        assert!(!life.expire(before + IDLE / 2, IDLE), "the time begins anew with the end of a call");
        drop(life.enter());
        assert!(life.expire(Instant::now() + IDLE, IDLE));
        assert!(life.enter().is_none());
        assert!(life.expire(before, IDLE), "there is no way back");
    }
}
