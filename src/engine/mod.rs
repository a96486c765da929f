//! The engine: one worker thread owns the model; streams send it tokens and wait for logits. Each step takes what is
//! waiting into one ragged batch. Token ids are the truth, the KV cache is only a cache: a sequence that loses its
//! blocks is computed again from its ids.

mod blocks;
mod life;
mod pending;
mod queue;
mod sequence;
mod together;
mod worker;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    Error, Result, Stats,
    model::{BLOCK, Model, RoleLogits},
    process::Process,
};

use life::Life;
pub(crate) use life::Use;
use pending::AppendId;
pub(crate) use pending::{Notify, Pending};
use queue::Queue;
use together::Together;
pub(crate) use together::together;
use worker::{Command, Worker};

/// Which logits of appended tokens the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// The query heads, from the given appended token on.
    Query { from: usize },
    /// The response heads, from the given appended token on.
    Response { from: usize },
}

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
    fn expired(&self) -> Error {
        Error::Expired { idle_seconds: self.idle.map_or(0, |idle| idle.as_secs()) }
    }
}

/// A running engine. Dropping it ends the worker, after the step it is in.
pub(crate) struct Engine {
    /// `None` only while the engine is dropped.
    commands: Option<mpsc::Sender<Command>>,
    worker: Option<JoinHandle<()>>,
    /// The one that has the worker.
    process: Process,
    limits: Limits,
    next_id: AtomicU64,
    open: AtomicUsize,
    queue: Arc<Queue>,
    /// What the worker records; locked for moments only.
    stats: Arc<Mutex<Stats>>,
}

impl Engine {
    /// Starts the worker thread.
    pub(crate) fn start(model: Box<dyn Model>, limits: Limits) -> Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let stats = Arc::new(Mutex::new(Stats::new((model.num_blocks() * model.block_bytes()) as u64)));
        let limits = Limits { context: limits.context.min(model.num_blocks().saturating_mul(BLOCK)), ..limits };
        let worker = Worker::new(model, &limits, stats.clone());
        let worker = std::thread::Builder::new()
            .name("qwenguard".into())
            .spawn(move || worker.run(receiver))
            .map_err(|error| Error::threads(1, 0, &error))?;
        Ok(Engine {
            commands: Some(commands),
            worker: Some(worker),
            process: Process::current(),
            limits,
            next_id: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            queue: Arc::new(Queue::new(limits.max_queued_tokens)),
            stats,
        })
    }

    /// Opens an empty sequence.
    pub(crate) fn sequence(self: &Arc<Self>) -> Result<Sequence> {
        self.open_sequence(0, |id, life| Command::Open { id, life })
    }

    /// The most tokens of a sequence: no more than the cache holds.
    pub(crate) fn context(&self) -> usize {
        self.limits.context
    }

    /// Opens a sequence of `len` tokens by a command that takes its id and its life.
    fn open_sequence(
        self: &Arc<Self>,
        len: usize,
        command: impl FnOnce(u64, Arc<Life>) -> Command,
    ) -> Result<Sequence> {
        self.process.check()?;
        let limit = self.limits.max_sequences;
        let grow = |open: usize| (open < limit).then_some(open + 1);
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_err() {
            let advice = "close streams that are done, or raise engine.max_streams";
            return Err(Error::Busy { what: "too many open streams", limit, advice });
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let sequence = Sequence { engine: self.clone(), id, len, appends: 0, life: Arc::new(Life::new()) };
        self.send(command(id, sequence.life.clone()))?;
        Ok(sequence)
    }

    pub(crate) fn stats(&self) -> Stats {
        if !self.process.is_current() {
            return Stats::new(0);
        }
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let load = self.queue.load();
        stats.open_streams = self.open.load(Ordering::Relaxed);
        stats.waiting_streams = load.streams;
        stats.queued_tokens = load.tokens;
        stats.oldest_wait_seconds = load.oldest_seconds;
        stats
    }

    fn send(&self, command: Command) -> Result<()> {
        self.process.check()?;
        let commands = self.commands.as_ref().ok_or(Error::EngineStopped)?;
        let Some(command) = Together::keep(commands, std::ptr::from_ref(self), command) else { return Ok(()) };
        commands.send(command).map_err(|mpsc::SendError(command)| {
            if let Command::Append { reply, .. } = command {
                reply.discard();
            }
            Error::EngineStopped
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.process.is_current() {
            std::mem::forget((self.commands.take(), self.worker.take()));
        }
        self.commands = None;
        if let Some(worker) = self.worker.take() {
            // A callback may own the last handle; the worker cannot wait for itself.
            if worker.thread().id() != std::thread::current().id() {
                // The session must be gone before the host tears down ONNX Runtime. A worker that panicked is gone too.
                let _ = worker.join();
            }
        }
    }
}

/// A sequence of tokens in the engine. Dropping it gives its cache blocks back.
///
/// Its length is what was completed. The worker may be ahead, or behind with what it was told to forget; every command
/// carries the length that it starts from, so that the two never differ in what the next logits are about.
pub(crate) struct Sequence {
    engine: Arc<Engine>,
    id: u64,
    len: usize,
    /// Appends that were begun.
    appends: u64,
    life: Arc<Life>,
}

impl Sequence {
    /// Tokens in the sequence.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends tokens, waits until they are computed and returns the logits that `read` asks for, one row per token.
    /// After an error the sequence is as it was before.
    #[cfg(test)]
    pub(crate) fn append(&mut self, ids: Vec<u32>, read: Read) -> Result<RoleLogits> {
        let pending = self.begin(ids, read, None)?;
        self.complete(pending)
    }

    /// Begins to append tokens and returns at once. They become part of the sequence when the result is given to
    /// [`Sequence::complete`]. An earlier append that is not completed is given up.
    ///
    /// `notify` is called as soon as completing does not wait any more; with no tokens, by this call itself. It is not
    /// called after this call failed or the result was dropped, but a call that is under way goes on.
    pub(crate) fn begin(&mut self, ids: Vec<u32>, read: Read, notify: Option<Notify>) -> Result<Pending> {
        let using = self.enter()?;
        self.check_room(self.len, ids.len())?;
        let count = ids.len();
        let place = self.engine.queue.enter(count)?;
        self.appends += 1;
        let append = AppendId { sequence: self.id, number: self.appends, start: self.len };
        let (pending, reply) = Pending::new(self.engine.clone(), using, append, count, notify);
        if count == 0 {
            reply.send(Ok(RoleLogits::empty()));
        } else {
            self.engine.send(Command::Append { append, ids, read, place, reply })?;
        }
        Ok(pending)
    }

    /// Waits until the sequence's last append is computed and returns its logits. After an error the sequence is as it
    /// was before the append.
    pub(crate) fn complete(&mut self, pending: Pending) -> Result<RoleLogits> {
        if pending.append != (AppendId { sequence: self.id, number: self.appends, start: self.len }) {
            return Err(Error::WrongState { call: "complete", state: "after the append was given up" });
        }
        let count = pending.count;
        let logits = pending.take()?;
        self.len += count;
        Ok(logits)
    }

    /// As [`Sequence::complete`], but gives the append up if it is not computed by `deadline`.
    #[cfg(test)]
    pub(crate) fn complete_by(&mut self, pending: Pending, deadline: std::time::Instant) -> Result<RoleLogits> {
        if pending.wait_until(deadline) { self.complete(pending) } else { Err(Error::DeadlineExceeded) }
    }

    /// An error if `count` tokens after the first `len` would not fit the context.
    pub(crate) fn check_room(&self, len: usize, count: usize) -> Result<()> {
        let limit = self.engine.limits.context;
        if len + count > limit {
            return Err(Error::ContextFull { used: len, wanted: count, limit });
        }
        Ok(())
    }

    /// Begins a call, until the result is dropped. [`Error::Expired`] if the sequence was not used for too long.
    pub(crate) fn enter(&self) -> Result<Use> {
        self.engine.process.check()?;
        self.life.enter().ok_or_else(|| self.engine.limits.expired())
    }

    /// Cuts the sequence back to its first `len` tokens; if it was longer, an append that is not completed is given up.
    /// Costs nothing but, where the end is in a block that a fork uses too, computing up to a block of tokens again.
    pub(crate) fn truncate(&mut self, len: usize) -> Result<()> {
        let _using = self.enter()?;
        if len < self.len {
            self.engine.send(Command::Truncate { id: self.id, len })?;
            self.len = len;
        }
        Ok(())
    }

    /// Another sequence that starts with the same tokens and shares their cache.
    pub(crate) fn fork(&self) -> Result<Sequence> {
        let _using = self.enter()?;
        let (id, len) = (self.id, self.len);
        self.engine.open_sequence(len, |new, life| Command::Fork { id, new, len, life })
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.engine.open.fetch_sub(1, Ordering::Relaxed);
        // A stopped engine has given back everything.
        let _ = self.engine.send(Command::Close { id: self.id });
    }
}

#[cfg(test)]
mod tests;
