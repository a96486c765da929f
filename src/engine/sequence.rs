//! What the worker knows of one sequence.

use std::{collections::TryReserveError, sync::Arc};

use ndarray::{Array2, s};

use super::{
    Read,
    blocks::BlockPool,
    life::Life,
    pending::{AppendId, Reply},
    queue::Place,
};
use crate::{
    Error, Result,
    model::{BLOCK, HeadLogits, RoleLogits},
};

/// A sequence: its token ids, how many of them are in the cache, and the work in progress.
pub(crate) struct SequenceState {
    pub(crate) tokens: Vec<u32>,
    /// Tokens whose keys and values are in `blocks`.
    pub(crate) cached: usize,
    /// Tokens that were in the cache at any time.
    pub(crate) computed: usize,
    pub(crate) blocks: Vec<u32>,
    pub(crate) job: Option<Job>,
    /// Number of the last append.
    pub(crate) append: u64,
    /// The step that used the sequence last.
    pub(crate) last_step: u64,
    pub(crate) life: Arc<Life>,
}

/// Tokens that were appended and are not all computed yet.
pub(crate) struct Job {
    pub(crate) place: Place,
    /// The step before it came.
    pub(crate) begun: u64,
    /// Whether a step has worked on it.
    pub(crate) started: bool,
    /// Length of the sequence before the append.
    start: usize,
    read: Read,
    /// The next token whose logits are wanted. Tokens that are computed again after an eviction are not read again.
    next_row: usize,
    rows: Rows,
    pub(crate) reply: Reply,
}

/// Logits, row after row.
#[derive(Default)]
struct Rows {
    count: usize,
    risk: Vec<f32>,
    category: Vec<f32>,
}

/// After so many steps work has waited: it gets a share of each step and loses its cache to older work only.
const PATIENCE: u64 = 8;

impl Job {
    pub(crate) fn has_waited(&self, step: u64) -> bool {
        step - self.begun >= PATIENCE
    }
}

impl SequenceState {
    pub(crate) fn new(life: Arc<Life>) -> Self {
        SequenceState {
            tokens: Vec::new(),
            cached: 0,
            computed: 0,
            blocks: Vec::new(),
            job: None,
            append: 0,
            last_step: 0,
            life,
        }
    }

    /// Takes appended tokens; they count once they are computed. Without a job only.
    pub(crate) fn begin(&mut self, step: u64, append: AppendId, ids: &[u32], read: Read, place: Place, reply: Reply) {
        if self.tokens.try_reserve(ids.len()).is_err() {
            return reply.send(Err(Error::OutOfMemory { bytes: size_of_val(ids), purpose: "a stream's tokens" }));
        }
        self.tokens.extend(ids);
        self.append = append.number;
        let (Read::Query { from } | Read::Response { from }) = read;
        let start = append.start;
        self.job = Some(Job {
            place,
            begun: step,
            started: false,
            start,
            read,
            next_row: start + from,
            rows: Rows::default(),
            reply,
        });
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

    /// Takes over published blocks that hold the next tokens, up to those whose logits are wanted. Returns how many
    /// tokens that saves.
    pub(crate) fn adopt(&mut self, pool: &mut BlockPool) -> usize {
        let Some(job) = &self.job else { return 0 };
        let before = self.cached;
        let end = job.next_row.min(self.tokens.len() - 1);
        while self.blocks.len() * BLOCK == self.cached && self.cached + BLOCK <= end {
            let ids = nth_block(&self.tokens, self.blocks.len());
            let Some(block) = pool.find(self.blocks.last().copied(), ids) else { break };
            self.blocks.push(block);
            self.cached += BLOCK;
        }
        self.computed = self.computed.max(self.cached);
        self.cached - before
    }

    /// Cuts the sequence back and gives back the blocks it no longer needs: those past the new end, and the one that
    /// the end is in if it may not be written. Its tokens are computed again.
    pub(crate) fn truncate(&mut self, len: usize, pool: &mut BlockPool) {
        self.tokens.truncate(len);
        self.cached = self.cached.min(len);
        self.computed = self.computed.min(len);
        let keep = self.cached.div_ceil(BLOCK);
        pool.give_back(self.blocks.split_off(keep.min(self.blocks.len())));
        if !self.cached.is_multiple_of(BLOCK) && !pool.reclaim(self.blocks[keep - 1]) {
            self.cached = (keep - 1) * BLOCK;
            pool.give_back(self.blocks.split_off(keep - 1));
        }
    }

    /// A sequence with the same first `len` tokens that shares this one's full blocks of them. The tokens after those
    /// blocks are computed again.
    pub(crate) fn fork(&self, len: usize, life: Arc<Life>) -> Self {
        let shared = self.cached.min(len) / BLOCK;
        SequenceState {
            tokens: self.tokens[..len].to_vec(),
            cached: shared * BLOCK,
            computed: self.cached.min(len),
            blocks: self.blocks[..shared].to_vec(),
            last_step: self.last_step,
            ..SequenceState::new(life)
        }
    }

    /// Takes the logits of the next `count` tokens, which are rows `first..` of the step's, and publishes the blocks
    /// that these tokens fill. Fails, and takes nothing, if any of them is not finite, wanted or not: keys and values
    /// of such a token are no better than its logits, and nobody must build on them.
    pub(crate) fn commit(
        &mut self,
        model: &str,
        count: usize,
        logits: &HeadLogits,
        first: usize,
        pool: &mut BlockPool,
    ) -> Result<()> {
        let before = self.cached;
        let role = self.job.as_ref().map(|job| match job.read {
            Read::Query { .. } => &logits.query,
            Read::Response { .. } => &logits.response,
        });
        if let Some(row) = role.and_then(|role| role.first_not_finite(first..first + count)) {
            return Err(not_finite(model, before + row - first));
        }
        let full = before / BLOCK;
        let again = self.computed.saturating_sub(before).min(count);
        self.cached += count;
        self.computed = self.computed.max(self.cached);
        for index in full..self.cached / BLOCK {
            let parent = index.checked_sub(1).map(|parent| self.blocks[parent]);
            self.blocks[index] = pool.publish(parent, nth_block(&self.tokens, index), self.blocks[index]);
        }
        let (Some(job), Some(role)) = (&mut self.job, role) else { return Ok(()) };
        job.place.computed(count - again);
        let skip = job.next_row.saturating_sub(before);
        if skip < count {
            let wanted = self.tokens.len() - job.next_row;
            job.rows.push(role, first + skip..first + count, wanted)?;
            job.next_row = self.cached;
        }
        if self.waiting() == 0
            && let Some(job) = self.job.take()
        {
            drop(job.place);
            job.reply.send(job.rows.into_logits());
        }
        Ok(())
    }

    /// Gives up the work in progress: the sequence is as it was before the append.
    pub(crate) fn fail(&mut self, error: Error, pool: &mut BlockPool) {
        if let Some(job) = self.job.take() {
            self.truncate(job.start, pool);
            drop(job.place);
            job.reply.send(Err(error));
        }
    }
}

impl Rows {
    /// Adds rows of a step's logits. `wanted` says how many are to come in all, these included.
    fn push(&mut self, logits: &RoleLogits, rows: std::ops::Range<usize>, wanted: usize) -> Result<()> {
        self.count += rows.len();
        for (values, all) in [(&mut self.risk, &logits.risk), (&mut self.category, &logits.category)] {
            let bytes = wanted * all.ncols() * size_of::<f32>();
            let no_memory = |_: TryReserveError| Error::OutOfMemory { bytes, purpose: "logits" };
            values.try_reserve(wanted * all.ncols()).map_err(no_memory)?;
            values.extend(all.slice(s![rows.clone(), ..]));
        }
        Ok(())
    }

    fn into_logits(self) -> Result<RoleLogits> {
        let matrix = |values: Vec<f32>| {
            let columns = values.len() / self.count.max(1);
            Array2::from_shape_vec((self.count, columns), values)
                .map_err(|error| Error::Inference(format!("logits of uneven rows: {error}")))
        };
        Ok(RoleLogits { risk: matrix(self.risk)?, category: matrix(self.category)? })
    }
}

fn not_finite(model: &str, token: usize) -> Error {
    Error::Inference(format!(
        "bundle {model}: the logits of token {token} are not finite: its weights are damaged, or this machine computes \
         wrong; nothing was judged"
    ))
}

/// The ids of one full block.
fn nth_block(tokens: &[u32], index: usize) -> &[u32; BLOCK] {
    &tokens.as_chunks().0[index]
}
