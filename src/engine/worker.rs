//! The worker: receives commands, plans a step, runs it, commits what came of it.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Instant,
};

use super::{
    blocks::BlockPool,
    command::{Append, Command, SequenceId},
    limits::Limits,
    schedule::{self, Chunk, Resources, StepPlan},
    sequence::{CommitError, SequenceState},
};
use crate::{
    Error, Result,
    model::{Model, RaggedBatch, StepLogits},
    stats::Stats,
};

pub(super) struct Worker {
    model: Box<dyn Model>,
    pool: BlockPool,
    sequences: HashMap<SequenceId, SequenceState>,
    limits: Limits,
    step: u64,
    /// No sequence expires before.
    next_expiry: Option<Instant>,
    stats: Arc<Mutex<Stats>>,
}

impl Worker {
    pub(super) fn new(model: Box<dyn Model>, limits: &Limits, stats: Arc<Mutex<Stats>>) -> Self {
        Worker {
            pool: BlockPool::new(model.layout()),
            model,
            sequences: HashMap::new(),
            limits: *limits,
            step: 0,
            next_expiry: None,
            stats,
        }
    }

    /// Runs until the last sender of commands is gone.
    pub(super) fn run(mut self, mailbox: Receiver<Vec<Command>>) {
        while let Some(commands) = self.receive(&mailbox) {
            self.apply_all(commands);
            loop {
                mailbox.try_iter().for_each(|commands| self.apply_all(commands));
                self.expire(Instant::now());
                let plan = self.plan();
                self.make_room(&plan);
                self.record_cache();
                if plan.chunks.is_empty() {
                    break;
                }
                self.run_step(&plan.chunks);
                if cfg!(debug_assertions) && !cfg!(miri) {
                    self.pool.check(self.sequences.values().map(SequenceState::blocks));
                }
            }
        }
    }

    /// Waits for commands, meanwhile lets sequences expire. `None` if there will be no more.
    fn receive(&mut self, mailbox: &Receiver<Vec<Command>>) -> Option<Vec<Command>> {
        loop {
            let Some(expiry) = self.next_expiry else { return mailbox.recv().ok() };
            match mailbox.recv_timeout(expiry.saturating_duration_since(Instant::now())) {
                Ok(commands) => return Some(commands),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    self.expire(Instant::now());
                    self.record_cache();
                }
            }
        }
    }

    /// Ends sequences that have been idle for too long.
    fn expire(&mut self, now: Instant) {
        let Some(idle) = self.limits.idle.filter(|_| self.next_expiry.is_some_and(|expiry| expiry <= now)) else {
            return;
        };
        let expired: Vec<_> = self.sequences.extract_if(|_, sequence| sequence.expire(idle, now)).collect();
        self.record(|stats| stats.expired_streams += expired.len() as u64);
        for (_, mut sequence) in expired {
            sequence.evict(&mut self.pool);
        }
        self.next_expiry = self.sequences.values().filter_map(|sequence| sequence.next_expiry(idle, now)).min();
    }

    fn open(&mut self, id: SequenceId, sequence: SequenceState) {
        if self.next_expiry.is_none() {
            self.next_expiry = self.limits.idle.and_then(|idle| Instant::now().checked_add(idle));
        }
        self.sequences.insert(id, sequence);
    }

    fn apply_all(&mut self, commands: Vec<Command>) {
        commands.into_iter().for_each(|command| self.apply(command));
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Open { id, life } => self.open(id, SequenceState::new(life)),
            Command::Append(append) => self.append(append),
            Command::Cancel(append) => {
                if let Some(sequence) = self.sequences.get_mut(&append.sequence) {
                    sequence.cancel(append, &mut self.pool);
                }
            }
            Command::Truncate { id, len } => self.cut_back(id, len),
            Command::Fork { id, new, len, life } => {
                // It is there: its owner was using it to fork it.
                if let Some(parent) = self.sequences.get(&id) {
                    let fork = parent.fork(len, life, &mut self.pool);
                    self.open(new, fork);
                }
            }
            Command::Close(id) => {
                self.cut_back(id, 0);
                self.sequences.remove(&id);
            }
        }
    }

    fn append(&mut self, append: Append) {
        let id = append.id.sequence;
        self.cut_back(id, append.id.start);
        match self.sequences.get_mut(&id) {
            Some(sequence) => sequence.append(self.step, append),
            None => {
                drop(append.reservation);
                append.reply.send(Err(self.limits.expired()));
            }
        }
    }

    /// Cuts a sequence back to its first `len` tokens and ends the append that it is at.
    fn cut_back(&mut self, id: SequenceId, len: usize) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            let superseded = Error::WrongState { call: "complete", state: "after the append was cancelled" };
            sequence.fail(superseded, &mut self.pool);
            sequence.truncate(len, &mut self.pool);
        }
    }

    fn plan(&mut self) -> StepPlan {
        let mut reused = 0;
        let mut candidates = Vec::new();
        for (id, sequence) in &mut self.sequences {
            reused += sequence.reuse_prefix(&mut self.pool);
            candidates.extend(sequence.candidate(*id, self.step));
        }
        self.record(|stats| stats.prefix_hit_tokens += reused as u64);
        let (tokens, block_tokens) = (self.limits.step_tokens, self.pool.block_tokens());
        let blocks = self.pool.available();
        let mut resources = Resources { tokens, block_tokens, blocks, holders: Vec::new(), users: Vec::new() };
        if schedule::blocks_wanted(&candidates, tokens, block_tokens) > blocks {
            resources
                .holders
                .extend(self.sequences.iter().filter_map(|(id, sequence)| sequence.holder(*id, self.step)));
            resources.users = self.pool.users();
        }
        schedule::plan(candidates, resources)
    }

    /// Takes the victims' blocks and gives the chunks theirs.
    fn make_room(&mut self, plan: &StepPlan) {
        for victim in &plan.victims {
            if let Some(sequence) = self.sequences.get_mut(victim) {
                let tokens = sequence.evict(&mut self.pool);
                tracing::debug!(tokens, "evicted a stream's cache");
            }
        }
        for chunk in &plan.chunks {
            if let Some(sequence) = self.sequences.get_mut(&chunk.sequence) {
                sequence.allocate(chunk.blocks, &mut self.pool);
            }
        }
        self.record(|stats| stats.evictions += plan.victims.len() as u64);
    }

    fn run_step(&mut self, chunks: &[Chunk]) {
        let batch = self.batch(chunks);
        self.step += 1;
        let start = Instant::now();
        let span = tracing::trace_span!("step", streams = chunks.len(), tokens = batch.tokens());
        let result = span.in_scope(|| run_guarded(&mut *self.model, &batch));
        self.record(|stats| {
            stats.steps += 1;
            stats.failed_steps += u64::from(result.is_err());
            stats.tokens += batch.tokens() as u64;
            stats.step_seconds.record(start.elapsed().as_secs_f64());
            stats.step_tokens.record(batch.tokens() as f64);
            stats.step_streams.record(chunks.len() as f64);
        });
        match result {
            Ok(logits) => self.commit(chunks, &batch, &logits),
            Err(error) => {
                tracing::error!(%error, "step failed");
                for chunk in chunks {
                    self.fail(chunk.sequence, error.clone());
                }
            }
        }
    }

    fn batch(&mut self, chunks: &[Chunk]) -> RaggedBatch {
        let mut batch = RaggedBatch::new(self.model.heads());
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in chunks {
            let Some(sequence) = self.sequences.get_mut(&chunk.sequence) else { continue };
            let start = sequence.start_chunk(chunk.tokens, &mut batch);
            stats.recomputed_tokens += start.recomputed as u64;
            if let Some(waited) = start.waited {
                stats.queue_seconds.record(waited.as_secs_f64());
            }
        }
        batch
    }

    fn commit(&mut self, chunks: &[Chunk], batch: &RaggedBatch, logits: &StepLogits) {
        let mut first = 0;
        for chunk in chunks {
            if let Some(sequence) = self.sequences.get_mut(&chunk.sequence)
                && let Err(error) = sequence.commit(self.step, chunk.tokens, (batch, logits), first, &mut self.pool)
            {
                let error = failed(self.model.name(), error);
                tracing::error!(%error, "a stream's part of a step failed");
                sequence.fail(error, &mut self.pool);
            }
            first += chunk.tokens;
        }
    }

    fn fail(&mut self, id: SequenceId, error: Error) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.fail(error, &mut self.pool);
        }
    }

    fn record(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn record_cache(&self) {
        let bytes = self.model.layout().block_bytes;
        self.record(|stats| {
            stats.cache_used_bytes = (self.pool.used() * bytes) as u64;
            stats.cache_unused_bytes = (self.pool.unused() * bytes) as u64;
        });
    }
}

fn failed(model: &str, error: CommitError) -> Error {
    match error {
        CommitError::OutOfMemory(error) => error,
        CommitError::NotFinite { token } => Error::inference(format!(
            "bundle {model}: the logits of token {token} are not finite: its weights are damaged, or this machine computes \
             wrong; nothing was judged"
        )),
    }
}

/// Runs a step; a panic in it is an error of the step, not the end of the engine.
fn run_guarded(model: &mut dyn Model, batch: &RaggedBatch) -> Result<StepLogits> {
    catch_unwind(AssertUnwindSafe(|| model.run(batch))).unwrap_or_else(|_| Err(Error::inference("the model panicked")))
}
