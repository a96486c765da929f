//! What the worker knows of one sequence.

use std::{
    collections::TryReserveError,
    sync::Arc,
    time::{Duration, Instant},
};

use ndarray::{Array2, ArrayView2};

use super::{
    admission::Reservation,
    blocks::BlockPool,
    command::{Append, AppendId, Read, SequenceId},
    life::Life,
    reply::ReplySender,
    schedule::{Candidate, Holder, Work},
};
use crate::{
    Error, Result,
    model::{BlockId, HeadId, RaggedBatch, StepLogits},
};

/// A sequence: its token ids, how many of them are in the cache, and the append in progress.
pub(super) struct SequenceState {
    tokens: Vec<u32>,
    /// Tokens whose keys and values are in `blocks`.
    cached: usize,
    /// Tokens that were in the cache at any time.
    computed: usize,
    blocks: Vec<BlockId>,
    running: Option<Running>,
    /// Number of the last append.
    last_append: u64,
    /// The step that used the sequence last.
    last_step: u64,
    life: Arc<Life>,
}

/// An append that is not computed yet.
struct Running {
    reservation: Reservation,
    /// The step before it came.
    since_step: u64,
    /// Whether a step has worked on it.
    started: bool,
    /// Length of the sequence before the append.
    start: usize,
    read: Read,
    /// The next token whose logits are wanted. Tokens that are computed again after an eviction are not read again.
    next_row: usize,
    /// Of each head that is read.
    rows: Vec<(HeadId, Rows)>,
    reply: ReplySender,
}

/// Logits of a head, row after row.
#[derive(Default)]
struct Rows {
    count: usize,
    values: Vec<f32>,
}

/// Why a chunk's logits were not taken.
pub(super) enum CommitError {
    /// Of this token.
    NotFinite {
        token: usize,
    },
    OutOfMemory(Error),
}

/// What a chunk adds to the statistics.
pub(super) struct ChunkStart {
    /// Tokens that were computed before.
    pub(super) recomputed: usize,
    /// How long the append waited, if this is its first chunk.
    pub(super) waited: Option<Duration>,
}

impl SequenceState {
    pub(super) fn new(life: Arc<Life>) -> Self {
        SequenceState {
            tokens: Vec::new(),
            cached: 0,
            computed: 0,
            blocks: Vec::new(),
            running: None,
            last_append: 0,
            last_step: 0,
            life,
        }
    }

    /// Takes appended tokens; they count once they are computed. Without a running append only.
    pub(super) fn append(&mut self, step: u64, append: Append) {
        let Append { id: AppendId { number, start, .. }, tokens, read, reservation, reply } = append;
        if self.tokens.try_reserve(tokens.len()).is_err() {
            return reply.send(Err(Error::OutOfMemory { bytes: size_of_val(&*tokens), purpose: "a stream's tokens" }));
        }
        self.tokens.extend(tokens);
        self.last_append = number;
        let Read { heads, from } = read;
        self.running = Some(Running {
            reservation,
            since_step: step,
            started: false,
            start,
            read,
            next_row: start + from,
            rows: heads.iter().map(|head| (head, Rows::default())).collect(),
            reply,
        });
    }

    /// Tokens that wait to be computed.
    fn waiting(&self) -> usize {
        self.tokens.len() - self.cached
    }

    pub(super) fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    fn work(&self, step: u64) -> Option<Work> {
        let running = self.running.as_ref()?;
        Some(Work { ticket: running.reservation.ticket, waited: step - running.since_step })
    }

    /// Its part in the next step, if it has work.
    pub(super) fn candidate(&self, sequence: SequenceId, step: u64) -> Option<Candidate> {
        let work = self.work(step)?;
        Some(Candidate { sequence, work, new_tokens: self.waiting(), cached: self.cached, blocks: self.blocks.len() })
    }

    /// What it holds of the cache, if anything.
    pub(super) fn holder(&self, sequence: SequenceId, step: u64) -> Option<Holder<'_>> {
        let Self { blocks, last_step, .. } = self;
        (!blocks.is_empty()).then(|| Holder { sequence, work: self.work(step), last_step: *last_step, blocks })
    }

    /// Before when it does not expire. None if it never does.
    pub(super) fn next_expiry(&self, idle: Duration, now: Instant) -> Option<Instant> {
        let used = if self.running.is_some() { now } else { self.life.used(now) };
        used.checked_add(idle)
    }

    /// Lets it expire if it was not used for so long. Returns whether it did.
    pub(super) fn expire(&self, idle: Duration, now: Instant) -> bool {
        self.running.is_none() && self.life.expire(now, idle)
    }

    /// Frees its cache. The ids stay.
    pub(super) fn evict(&mut self, pool: &mut BlockPool) -> usize {
        pool.free(std::mem::take(&mut self.blocks));
        std::mem::take(&mut self.cached)
    }

    /// Takes blocks of the pool for its next tokens.
    pub(super) fn allocate(&mut self, count: usize, pool: &mut BlockPool) {
        self.blocks.extend((0..count).map_while(|_| pool.allocate()));
    }

    /// Reuses published blocks that hold the next tokens, up to those whose logits are wanted. Returns how many tokens
    /// that saves.
    pub(super) fn reuse_prefix(&mut self, pool: &mut BlockPool) -> usize {
        let Some(running) = &self.running else { return 0 };
        let (before, block) = (self.cached, pool.block_tokens());
        let end = running.next_row.min(self.tokens.len() - 1);
        while self.blocks.len() * block == self.cached && self.cached + block <= end {
            let tokens = &self.tokens[self.cached..][..block];
            let Some(found) = pool.reuse(self.blocks.last().copied(), tokens) else { break };
            self.blocks.push(found);
            self.cached += block;
        }
        self.computed = self.computed.max(self.cached);
        self.cached - before
    }

    /// Cuts the sequence back and frees the blocks it no longer needs: those past the new end, and the one that the end
    /// is in if it may not be written. Its tokens are computed again.
    pub(super) fn truncate(&mut self, len: usize, pool: &mut BlockPool) {
        self.tokens.truncate(len);
        self.cached = self.cached.min(len);
        self.computed = self.computed.min(len);
        let block = pool.block_tokens();
        let keep = self.cached.div_ceil(block);
        pool.free(self.blocks.split_off(keep.min(self.blocks.len())));
        if !self.cached.is_multiple_of(block) && !pool.make_writable(self.blocks[keep - 1]) {
            self.cached = (keep - 1) * block;
            pool.free(self.blocks.split_off(keep - 1));
        }
    }

    /// A sequence with the same first `len` tokens that shares this one's full blocks of them. The tokens after those
    /// blocks are computed again.
    pub(super) fn fork(&self, len: usize, life: Arc<Life>, pool: &mut BlockPool) -> Self {
        let shared = self.cached.min(len) / pool.block_tokens();
        pool.share(&self.blocks[..shared]);
        SequenceState {
            tokens: self.tokens[..len].to_vec(),
            cached: shared * pool.block_tokens(),
            computed: self.cached.min(len),
            blocks: self.blocks[..shared].to_vec(),
            last_step: self.last_step,
            ..SequenceState::new(life)
        }
    }

    /// Adds its next `count` tokens to a step's batch, with the rows of them that are wanted.
    pub(super) fn start_chunk(&mut self, count: usize, batch: &mut RaggedBatch) -> ChunkStart {
        let first = batch.tokens();
        batch.push(&self.tokens[self.cached..][..count], self.cached, &self.blocks);
        if let Some(running) = &self.running {
            batch.want(running.read.heads, first + running.skipped(self.cached, count)..first + count);
        }
        let first = self.running.as_mut().filter(|running| !running.started);
        ChunkStart {
            recomputed: self.computed.saturating_sub(self.cached).min(count),
            waited: first.map(|running| {
                running.started = true;
                running.reservation.since.elapsed()
            }),
        }
    }

    /// Takes the wanted logits of the next `count` tokens, which are rows `first..` of the step's, and publishes the
    /// blocks that these tokens fill. Fails, and takes nothing, if a row of any of them is not finite, wanted or not: keys
    /// and values of such a token are no better, and nobody must build on them. The append is then to be failed.
    pub(super) fn commit(
        &mut self,
        step: u64,
        count: usize,
        (batch, logits): (&RaggedBatch, &StepLogits),
        first: usize,
        pool: &mut BlockPool,
    ) -> Result<(), CommitError> {
        self.last_step = step;
        let (before, block) = (self.cached, pool.block_tokens());
        if let Some(row) = logits.first_not_finite(batch, first..first + count) {
            return Err(CommitError::NotFinite { token: before + row - first });
        }
        let again = self.computed.saturating_sub(before).min(count);
        self.cached += count;
        self.computed = self.computed.max(self.cached);
        for index in before / block..self.cached / block {
            let parent = index.checked_sub(1).map(|parent| self.blocks[parent]);
            let tokens = &self.tokens[index * block..][..block];
            self.blocks[index] = pool.publish(parent, tokens, self.blocks[index]);
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        running.reservation.computed(count - again);
        let skip = running.skipped(before, count);
        if skip < count {
            let wanted = self.tokens.len() - running.next_row;
            for (head, rows) in &mut running.rows {
                let logits = logits.rows(batch, *head, first + skip..first + count);
                rows.push(logits, wanted).map_err(CommitError::OutOfMemory)?;
            }
            running.next_row = self.cached;
        }
        if self.waiting() == 0
            && let Some(running) = self.running.take()
        {
            drop(running.reservation);
            let logits = running.rows.into_iter().map(|(head, rows)| Ok((head, rows.into_matrix()?)));
            running.reply.send(logits.collect());
        }
        Ok(())
    }

    /// Ends the running append with an error: the sequence is as it was before.
    pub(super) fn fail(&mut self, error: Error, pool: &mut BlockPool) {
        if let Some(running) = self.running.take() {
            self.truncate(running.start, pool);
            drop(running.reservation);
            running.reply.send(Err(error));
        }
    }

    /// Cancels an append, unless there is a later one.
    pub(super) fn cancel(&mut self, append: AppendId, pool: &mut BlockPool) {
        if self.last_append != append.number {
            return;
        }
        if let Some(running) = self.running.take() {
            drop(running.reservation);
            running.reply.discard();
        }
        self.truncate(append.start, pool);
    }
}

impl Running {
    /// How many of `count` tokens after the first `before` of the sequence are not read.
    fn skipped(&self, before: usize, count: usize) -> usize {
        self.next_row.saturating_sub(before).min(count)
    }
}

impl Rows {
    /// Adds rows. `wanted` says how many are to come in all, these included.
    fn push(&mut self, logits: ArrayView2<'_, f32>, wanted: usize) -> Result<()> {
        self.count += logits.nrows();
        let bytes = wanted * logits.ncols() * size_of::<f32>();
        let no_memory = |_: TryReserveError| Error::OutOfMemory { bytes, purpose: "logits" };
        self.values.try_reserve(wanted * logits.ncols()).map_err(no_memory)?;
        self.values.extend(logits);
        Ok(())
    }

    fn into_matrix(self) -> Result<Array2<f32>> {
        let columns = self.values.len() / self.count.max(1);
        Array2::from_shape_vec((self.count, columns), self.values)
            .map_err(|error| Error::inference(format!("logits of uneven rows: {error}")))
    }
}
