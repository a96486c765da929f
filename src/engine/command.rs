//! What handles ask of the worker.

use std::sync::Arc;

use super::{admission::Reservation, life::Life, reply::ReplySender};
use crate::model::HeadSet;

/// A sequence of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SequenceId(pub(super) u64);

/// Which append of which sequence, and the length it started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AppendId {
    pub(super) sequence: SequenceId,
    /// Numbers the appends of a sequence, from 1.
    pub(super) number: u64,
    pub(super) start: usize,
}

/// Which logits of appended tokens the caller wants: those of some heads, from the given appended token on. No head is
/// computed for the tokens before it; if `from` is the number of appended tokens, for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) heads: HeadSet,
    pub(crate) from: usize,
}

pub(super) enum Command {
    Open {
        id: SequenceId,
        life: Arc<Life>,
    },
    /// Appends to the tokens before the append's start, whatever came after them.
    Append(Append),
    /// Cancels an append, done or not. Means nothing once there is a later one.
    Cancel(AppendId),
    /// Forgets all but the first `len` tokens.
    Truncate {
        id: SequenceId,
        len: usize,
    },
    Fork {
        id: SequenceId,
        new: SequenceId,
        len: usize,
        life: Arc<Life>,
    },
    Close(SequenceId),
}

/// Tokens to be computed.
pub(super) struct Append {
    pub(super) id: AppendId,
    pub(super) tokens: Vec<u32>,
    pub(super) read: Read,
    pub(super) reservation: Reservation,
    pub(super) reply: ReplySender,
}
