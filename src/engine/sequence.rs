//! What the worker knows of one sequence.

use ndarray::{Array2, ArrayView2, Axis, concatenate, s};

use super::{
    Read,
    pending::{AppendId, Reply},
};
use crate::{
    Error,
    model::{BLOCK, HeadLogits, RoleLogits},
};

/// A sequence: its token ids, how many of them are in the cache, and the work in progress.
#[derive(Default)]
pub(crate) struct SequenceState {
    pub(crate) tokens: Vec<u32>,
    /// Tokens whose keys and values are in `blocks`.
    pub(crate) cached: usize,
    pub(crate) blocks: Vec<u32>,
    pub(crate) job: Option<Job>,
    /// Number of the last append.
    pub(crate) append: u64,
    /// The step that used the sequence last.
    pub(crate) last_step: u64,
}

/// Tokens that were appended and are not all computed yet.
pub(crate) struct Job {
    /// Order of arrival.
    pub(crate) ticket: u64,
    /// Length of the sequence before the append.
    start: usize,
    read: Read,
    /// The next token whose logits are wanted. Tokens that are computed again after an eviction are not read again.
    next_row: usize,
    rows: Vec<RoleLogits>,
    pub(super) reply: Reply,
}

impl SequenceState {
    /// Takes appended tokens; they count once they are computed. Without a job only.
    pub(crate) fn begin(&mut self, ticket: u64, append: AppendId, ids: Vec<u32>, read: Read, reply: Reply) {
        self.tokens.extend(ids);
        self.append = append.number;
        let (Read::Query { from } | Read::Response { from }) = read;
        let start = append.start;
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

    /// Cuts the sequence back. Returns blocks it no longer needs: those past the new end, and the one that the end is
    /// in if others use it too, because only the owner of a block may write it. Its tokens are computed again.
    pub(crate) fn truncate(&mut self, len: usize, is_shared: impl Fn(u32) -> bool) -> Vec<u32> {
        self.tokens.truncate(len);
        self.cached = self.cached.min(len);
        let mut keep = self.cached.div_ceil(BLOCK);
        if !self.cached.is_multiple_of(BLOCK) && is_shared(self.blocks[keep - 1]) {
            keep -= 1;
            self.cached = keep * BLOCK;
        }
        self.blocks.split_off(keep.min(self.blocks.len()))
    }

    /// A sequence with the same first `len` tokens that shares this one's full blocks of them. The tokens after those
    /// blocks are computed again.
    pub(crate) fn fork(&self, len: usize) -> Self {
        let shared = self.cached.min(len) / BLOCK;
        SequenceState {
            tokens: self.tokens[..len].to_vec(),
            cached: shared * BLOCK,
            blocks: self.blocks[..shared].to_vec(),
            last_step: self.last_step,
            ..SequenceState::default()
        }
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
            job.reply.send(Ok(logits));
        }
    }

    /// Gives up the work in progress: the sequence is as it was before the append. Returns blocks it no longer needs.
    pub(crate) fn fail(&mut self, error: Error, is_shared: impl Fn(u32) -> bool) -> Vec<u32> {
        let Some(job) = self.job.take() else { return Vec::new() };
        let blocks = self.truncate(job.start, is_shared);
        job.reply.send(Err(error));
        blocks
    }
}

/// The slices of a job below each other.
fn stack<'a>(slices: impl Iterator<Item = ArrayView2<'a, f32>>) -> Array2<f32> {
    let slices: Vec<_> = slices.collect();
    concatenate(Axis(0), &slices).expect("there are slices, all of the same head and so of the same width")
}
