//! What the worker knows of one sequence.

use std::sync::mpsc::SyncSender;

use ndarray::{Array2, ArrayView2, Axis, concatenate, s};

use super::Read;
use crate::{
    Error, Result,
    model::{BLOCK, HeadLogits, RoleLogits},
};

/// Where the logits of an append go.
pub(crate) type Reply = SyncSender<Result<RoleLogits>>;

/// A sequence: its token ids, how many of them are in the cache, and the work in progress.
#[derive(Debug, Default)]
pub(crate) struct SequenceState {
    pub(crate) tokens: Vec<u32>,
    /// Tokens whose keys and values are in `blocks`.
    pub(crate) cached: usize,
    pub(crate) blocks: Vec<u32>,
    pub(crate) job: Option<Job>,
    /// The step that used the sequence last.
    pub(crate) last_step: u64,
}

/// Tokens that were appended and are not all computed yet.
#[derive(Debug)]
pub(crate) struct Job {
    /// Order of arrival.
    pub(crate) ticket: u64,
    /// Length of the sequence before the append.
    start: usize,
    read: Read,
    /// The next token whose logits are wanted. Tokens that are computed again after an eviction are not read again.
    next_row: usize,
    rows: Vec<RoleLogits>,
    reply: Reply,
}

impl SequenceState {
    /// Takes appended tokens; they count once they are computed.
    pub(crate) fn begin(&mut self, ticket: u64, ids: Vec<u32>, read: Read, reply: Reply) {
        let start = self.tokens.len();
        self.tokens.extend(ids);
        let (Read::Query { from } | Read::Response { from }) = read;
        self.job = Some(Job { ticket, start, read, next_row: start + from, rows: Vec::new(), reply });
    }

    /// Tokens that wait to be computed.
    pub(crate) fn waiting(&self) -> usize {
        self.tokens.len() - self.cached
    }

    /// Blocks that a cache of `tokens` needs beyond those it has.
    pub(crate) fn missing_blocks(&self, tokens: usize) -> usize {
        tokens.div_ceil(BLOCK).saturating_sub(self.blocks.len())
    }

    /// Forgets the cache. The ids stay.
    pub(crate) fn evict(&mut self) -> Vec<u32> {
        self.cached = 0;
        std::mem::take(&mut self.blocks)
    }

    /// Takes the logits of the next `count` tokens, which are rows `first..` of the step's.
    pub(crate) fn commit(&mut self, count: usize, logits: &HeadLogits, first: usize) {
        let Some(job) = &mut self.job else { return };
        let role = match job.read {
            Read::Query { .. } => &logits.query,
            Read::Response { .. } => &logits.response,
        };
        let skip = job.next_row.saturating_sub(self.cached).min(count);
        if skip < count {
            job.next_row = self.cached + count;
            let rows = s![first + skip..first + count, ..];
            job.rows.push(RoleLogits {
                risk: role.risk.slice(rows).to_owned(),
                category: role.category.slice(rows).to_owned(),
            });
        }
        self.cached += count;
        if self.waiting() == 0 {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(job) = self.job.take() {
            let logits = if job.rows.is_empty() {
                RoleLogits::empty()
            } else {
                RoleLogits {
                    risk: stack(job.rows.iter().map(|rows| rows.risk.view())),
                    category: stack(job.rows.iter().map(|rows| rows.category.view())),
                }
            };
            // Nobody waits any more if the stream's thread died.
            let _ = job.reply.send(Ok(logits));
        }
    }

    /// Gives up the work in progress: the sequence is as it was before the append. Returns blocks it no longer needs.
    pub(crate) fn fail(&mut self, error: Error) -> Vec<u32> {
        let Some(job) = self.job.take() else { return Vec::new() };
        self.tokens.truncate(job.start);
        self.cached = self.cached.min(job.start);
        let _ = job.reply.send(Err(error));
        self.blocks.split_off(self.cached.div_ceil(BLOCK).min(self.blocks.len()))
    }
}

/// The slices of a job below each other.
fn stack<'a>(slices: impl Iterator<Item = ArrayView2<'a, f32>>) -> Array2<f32> {
    let slices: Vec<_> = slices.collect();
    concatenate(Axis(0), &slices).expect("there are slices, all of the same head and so of the same width")
}
