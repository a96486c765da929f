//! What an engine allows.

use std::time::Duration;

use crate::Error;

/// Limits of an engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Tokens that a sequence may have, if the cache holds as many.
    pub(crate) context: usize,
    /// The most new tokens in one step.
    pub(crate) step_tokens: usize,
    /// The most open sequences.
    pub(crate) max_sequences: usize,
    /// The most tokens that wait, over all sequences.
    pub(crate) max_queued_tokens: usize,
    /// Sequences that are not used for so long expire.
    pub(crate) idle: Option<Duration>,
}

impl Limits {
    pub(super) fn expired(&self) -> Error {
        Error::Expired { idle_seconds: self.idle.map_or(0, |idle| idle.as_secs()) }
    }
}
