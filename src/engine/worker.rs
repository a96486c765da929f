//! The worker: takes commands, packs what waits into ragged batches, runs them.

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
    Limits, Read,
    blocks::BlockPool,
    life::Life,
    pending::{AppendId, Reply},
    queue::Place,
    sequence::SequenceState,
};
use crate::{
    Error, Result, Stats,
    model::{BLOCK, HeadLogits, Model, RaggedBatch},
};

/// What streams ask of the worker.
pub(crate) enum Command {
    Open {
        id: u64,
        life: Arc<Life>,
    },
    /// Appends to the tokens before the append's start, whatever came after them.
    Append {
        append: AppendId,
        ids: Vec<u32>,
        read: Read,
        place: Place,
        reply: Reply,
    },
    /// Gives an append up, done or not. Means nothing once there is a later one.
    Cancel {
        append: AppendId,
    },
    Truncate {
        id: u64,
        len: usize,
    },
    Fork {
        id: u64,
        new: u64,
        len: usize,
        life: Arc<Life>,
    },
    Close {
        id: u64,
    },
    /// Commands that are to be known before the next step.
    Together(Vec<Command>),
}

pub(crate) struct Worker {
    model: Box<dyn Model>,
    blocks: BlockPool,
    sequences: HashMap<u64, SequenceState>,
    limits: Limits,
    step: u64,
    /// No sequence expires before.
    next_expiry: Option<Instant>,
    stats: Arc<Mutex<Stats>>,
}

/// Of a step, what is kept for long work that has waited: one part in so many.
const LONG_SHARE: usize = 4;

/// A sequence's part of a step.
struct Slice {
    id: u64,
    count: usize,
}

impl Worker {
    pub(crate) fn new(model: Box<dyn Model>, limits: &Limits, stats: Arc<Mutex<Stats>>) -> Self {
        Worker {
            blocks: BlockPool::new(model.num_blocks()),
            model,
            sequences: HashMap::new(),
            limits: *limits,
            step: 0,
            next_expiry: None,
            stats,
        }
    }

    /// Runs until the last sender of commands is gone.
    pub(crate) fn run(mut self, commands: Receiver<Command>) {
        while let Some(command) = self.next_command(&commands) {
            self.apply(command);
            loop {
                commands.try_iter().for_each(|command| self.apply(command));
                self.expire(Instant::now());
                let slices = self.plan();
                self.record_cache();
                if slices.is_empty() {
                    break;
                }
                self.step(&slices);
            }
        }
    }

    /// Waits for a command, meanwhile lets sequences expire. `None` if there will be no more.
    fn next_command(&mut self, commands: &Receiver<Command>) -> Option<Command> {
        loop {
            let Some(expiry) = self.next_expiry else { return commands.recv().ok() };
            match commands.recv_timeout(expiry.saturating_duration_since(Instant::now())) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    self.expire(Instant::now());
                    self.record_cache();
                }
            }
        }
    }

    /// Forgets sequences that have been idle for too long.
    fn expire(&mut self, now: Instant) {
        let Some(idle) = self.limits.idle.filter(|_| self.next_expiry.is_some_and(|expiry| expiry <= now)) else {
            return;
        };
        let is_over = |state: &SequenceState| state.job.is_none() && state.life.expire(now, idle);
        let over: Vec<u64> = self.sequences.iter().filter(|(_, state)| is_over(state)).map(|(id, _)| *id).collect();
        for id in &over {
            if let Some(mut sequence) = self.sequences.remove(id) {
                self.blocks.give_back(sequence.evict());
            }
        }
        self.record(|stats| stats.expired_streams += over.len() as u64);
        let used = |state: &SequenceState| if state.job.is_some() { now } else { state.life.used(now) };
        self.next_expiry = self.sequences.values().filter_map(|state| used(state).checked_add(idle)).min();
    }

    fn open(&mut self, id: u64, sequence: SequenceState) {
        if self.next_expiry.is_none() {
            self.next_expiry = self.limits.idle.and_then(|idle| Instant::now().checked_add(idle));
        }
        self.sequences.insert(id, sequence);
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Together(commands) => commands.into_iter().for_each(|command| self.apply(command)),
            Command::Open { id, life } => self.open(id, SequenceState::new(life)),
            Command::Append { append, ids, read, place, reply } => {
                self.cut_back(append.sequence, append.start);
                match self.sequences.get_mut(&append.sequence) {
                    Some(sequence) => sequence.begin(self.step, append, &ids, read, place, reply),
                    None => {
                        drop(place);
                        reply.send(Err(self.limits.expired()));
                    }
                }
            }
            Command::Cancel { append } => {
                let id = append.sequence;
                if let Some(sequence) = self.sequences.get_mut(&id).filter(|state| state.append == append.number) {
                    if let Some(job) = sequence.job.take() {
                        drop(job.place);
                        job.reply.discard();
                    }
                    self.cut_back(id, append.start);
                }
            }
            Command::Truncate { id, len } => self.cut_back(id, len),
            Command::Fork { id, new, len, life } => {
                // It is there: its owner was using it to fork it.
                let Some(parent) = self.sequences.get(&id) else { return };
                let fork = parent.fork(len, life);
                self.blocks.share(&fork.blocks);
                self.open(new, fork);
            }
            Command::Close { id } => {
                self.cut_back(id, 0);
                self.sequences.remove(&id);
            }
        }
    }

    /// Cuts a sequence back to its first `len` tokens and ends the append that it is at.
    fn cut_back(&mut self, id: u64, len: usize) {
        self.fail(id, Error::WrongState { call: "complete", state: "after the append was given up" });
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.truncate(len, &mut self.blocks);
        }
    }

    /// Chooses the next step's slices and gives them blocks. Empty if nothing waits.
    fn plan(&mut self) -> Vec<Slice> {
        let mut slices: Vec<Slice> = Vec::new();
        let mut budget = self.limits.step_tokens;
        for Slice { id, count } in self.wishes() {
            let count = self.reserve(id, count.min(budget), &slices);
            if count > 0 {
                budget -= count;
                slices.push(Slice { id, count });
            }
        }
        slices
    }

    /// All that waits, in the order in which it is served: few new tokens first, so that they wait for one step at
    /// most; then the others; each oldest first. The oldest of the others goes before all once it has waited, for what
    /// the few leave or, if that is little, a share: or a steady flow of few would keep it waiting for ever.
    fn wishes(&mut self) -> Vec<Slice> {
        let mut waiting = Vec::new();
        let mut found = 0;
        for (id, sequence) in &mut self.sequences {
            found += sequence.adopt(&mut self.blocks);
            let count = sequence.waiting();
            if let Some(job) = &sequence.job {
                waiting.push((count > BLOCK, job.place.ticket, job.has_waited(self.step), Slice { id: *id, count }));
            }
        }
        self.record(|stats| stats.prefix_hit_tokens += found as u64);
        waiting.sort_unstable_by_key(|(long, ticket, ..)| (*long, *ticket));
        let few = waiting.partition_point(|(long, ..)| !long);
        let few_tokens: usize = waiting[..few].iter().map(|(.., slice)| slice.count).sum();
        if let Some((.., true, slice)) = waiting.get_mut(few) {
            let share = (self.limits.step_tokens / LONG_SHARE).max(1);
            slice.count = slice.count.min(self.limits.step_tokens.saturating_sub(few_tokens).max(share));
            waiting[..=few].rotate_right(1);
        }
        waiting.into_iter().map(|(.., slice)| slice).collect()
    }

    /// Gives a sequence blocks for as many of its next `count` tokens as the cache allows. Only the step's first
    /// sequence may take blocks from sequences that are at work, so that somebody always gets on.
    fn reserve(&mut self, id: u64, mut count: usize, planned: &[Slice]) -> usize {
        let cached = self.sequences[&id].cached;
        while self.sequences[&id].missing_blocks(cached + count) > 0 {
            let block = match self.blocks.take() {
                Some(block) => block,
                None if self.evict_one(id, planned) => continue,
                None => {
                    count = (self.sequences[&id].blocks.len() * BLOCK - cached).min(count);
                    break;
                }
            };
            if let Some(sequence) = self.sequences.get_mut(&id) {
                sequence.blocks.push(block);
            }
        }
        count
    }

    /// Takes the blocks of the idle sequence that was used longest ago; if there is none and nothing is planned yet,
    /// those of the youngest that is at work. But work that has waited is safe from younger work, or two that do not
    /// fit together could take blocks from each other for ever.
    fn evict_one(&mut self, keep: u64, planned: &[Slice]) -> bool {
        let others = || {
            let others = self.sequences.iter().filter(|(id, _)| **id != keep);
            others.filter(|(_, sequence)| !sequence.blocks.is_empty())
        };
        let idle = others().filter(|(_, sequence)| sequence.job.is_none());
        let mut victim = idle.min_by_key(|(_, sequence)| sequence.last_step).map(|(id, _)| *id);
        if victim.is_none() && planned.is_empty() {
            let ticket = |sequence: &SequenceState| sequence.job.as_ref().map(|job| job.place.ticket);
            let own = ticket(&self.sequences[&keep]);
            let waited = |sequence: &SequenceState| sequence.job.as_ref().is_some_and(|job| job.has_waited(self.step));
            let weaker = others().filter(|(_, sequence)| ticket(sequence) > own || !waited(sequence));
            victim = weaker.max_by_key(|(_, sequence)| ticket(sequence)).map(|(id, _)| *id);
        }
        let Some(sequence) = victim.and_then(|id| self.sequences.get_mut(&id)) else { return false };
        tracing::debug_span!("evict", tokens = sequence.cached).in_scope(|| self.blocks.give_back(sequence.evict()));
        self.record(|stats| stats.evictions += 1);
        true
    }

    fn step(&mut self, slices: &[Slice]) {
        let batch = self.batch(slices);
        self.step += 1;
        let start = Instant::now();
        let span = tracing::trace_span!("step", streams = slices.len(), tokens = batch.tokens());
        let result = span.in_scope(|| run_guarded(&mut *self.model, &batch));
        self.record(|stats| {
            stats.steps += 1;
            stats.failed_steps += u64::from(result.is_err());
            stats.tokens += batch.tokens() as u64;
            stats.step_seconds.record(start.elapsed().as_secs_f64());
            stats.step_tokens.record(batch.tokens() as f64);
            stats.step_streams.record(slices.len() as f64);
        });
        match result {
            Ok(logits) => self.commit(slices, &logits),
            Err(error) => {
                tracing::error!(%error, "step failed");
                for slice in slices {
                    self.fail(slice.id, error.clone());
                }
            }
        }
    }

    fn batch(&mut self, slices: &[Slice]) -> RaggedBatch {
        let mut batch = RaggedBatch::new();
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        for slice in slices {
            let Some(sequence) = self.sequences.get_mut(&slice.id) else { continue };
            let ids = &sequence.tokens[sequence.cached..][..slice.count];
            batch.push(ids, sequence.cached, &sequence.blocks);
            stats.recomputed_tokens += sequence.computed.saturating_sub(sequence.cached).min(slice.count) as u64;
            if let Some(job) = sequence.job.as_mut().filter(|job| !job.started) {
                job.started = true;
                stats.queue_seconds.record(job.place.since.elapsed().as_secs_f64());
            }
        }
        batch
    }

    fn commit(&mut self, slices: &[Slice], logits: &HeadLogits) {
        let mut first = 0;
        for slice in slices {
            if let Some(sequence) = self.sequences.get_mut(&slice.id) {
                sequence.last_step = self.step;
                let committed = sequence.commit(self.model.name(), slice.count, logits, first, &mut self.blocks);
                if let Err(error) = committed {
                    tracing::error!(%error, "a stream's part of a step failed");
                    sequence.fail(error, &mut self.blocks);
                }
            }
            first += slice.count;
        }
    }

    fn record(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn record_cache(&self) {
        let bytes = self.model.block_bytes();
        self.record(|stats| {
            stats.cache_used_bytes = (self.blocks.used() * bytes) as u64;
            stats.cache_unused_bytes = (self.blocks.unused() * bytes) as u64;
        });
    }

    fn fail(&mut self, id: u64, error: Error) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.fail(error, &mut self.blocks);
        }
    }
}

/// Runs a step; a panic in it is an error of the step, not the end of the engine.
fn run_guarded(model: &mut dyn Model, batch: &RaggedBatch) -> Result<HeadLogits> {
    catch_unwind(AssertUnwindSafe(|| model.run(batch)))
        .unwrap_or_else(|_| Err(Error::Inference("the model panicked".into())))
}
