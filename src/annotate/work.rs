//! A part of a conversation on its way past a model of either variant.

use std::sync::Arc;

use super::{
    part::{Part, Text},
    tokens::Judging,
};
use crate::{
    Error, Result,
    annotation::{AnnotateOptions, Annotation},
    engine::{Batch, Notify},
    generative::Job,
    opened::{Heads, Opened},
    process::Owned,
};

/// Dropping it cancels what is computed.
pub(super) enum Work {
    Writes(Box<Job>),
    Judges(Box<Judging>),
}

impl Work {
    /// Opens a sequence. Nothing is fed yet.
    pub(super) fn open(
        shared: &Arc<Owned<Opened>>,
        options: AnnotateOptions,
        part: &Part,
        notify: Option<Notify>,
    ) -> Result<Self> {
        match (&shared.heads, part.text.clone()) {
            (Heads::Gen(model), Text::Rendered(rendered)) => {
                Job::open(shared.clone(), model.clone(), options.decoding, rendered, notify)
                    .map(|job| Work::Writes(Box::new(job)))
            }
            (Heads::Stream { .. }, Text::Messages(messages)) => {
                Judging::open(shared, part.mode, messages, notify).map(|judging| Work::Judges(Box::new(judging)))
            }
            _ => Err(Error::EngineStopped),
        }
    }

    /// The rendered conversation, if it is known here.
    pub(super) fn prompt(&self) -> &[u32] {
        match self {
            Work::Writes(job) => job.prompt(),
            Work::Judges(_) => &[],
        }
    }

    /// Whether no token of it is known to be computed.
    pub(super) fn is_new(&self) -> bool {
        match self {
            Work::Writes(job) => job.is_new(),
            Work::Judges(_) => false,
        }
    }

    /// Whether the engine has something to do for it.
    pub(super) fn is_running(&self) -> bool {
        match self {
            Work::Writes(job) => job.is_running(),
            Work::Judges(judging) => judging.is_running(),
        }
    }

    /// Whether it is, and going on would wait.
    pub(super) fn is_waiting(&self) -> bool {
        match self {
            Work::Writes(job) => job.is_waiting(),
            Work::Judges(judging) => judging.is_waiting(),
        }
    }

    /// Takes what was computed, waiting for it, and begins what is to be computed next: then there is no annotation yet. After
    /// [`Error::Busy`] nothing is running, and it can be tried again.
    pub(super) fn advance(&mut self, batch: &mut Batch) -> Result<Option<Annotation>> {
        match self {
            Work::Writes(job) => job.advance(batch),
            Work::Judges(judging) => judging.advance(batch),
        }
    }
}
