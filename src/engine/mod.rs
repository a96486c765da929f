//! The engine: one worker thread owns the model; streams send it tokens and wait for logits. Each step takes what is
//! waiting into one ragged batch. Token ids are the truth, the KV cache is only a cache: a sequence that loses its
//! blocks is computed again from its ids.

mod blocks;
mod sequence;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use crate::{
    Error, Result,
    model::{Model, RoleLogits},
};

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
    /// Tokens that a sequence may have.
    pub(crate) context: usize,
    /// The most new tokens in one step.
    pub(crate) step_tokens: usize,
    /// The most open sequences.
    pub(crate) max_sequences: usize,
}

/// A running engine. Dropping it ends the worker, after the step it is in.
pub(crate) struct Engine {
    /// `None` only while the engine is dropped.
    commands: Option<mpsc::Sender<Command>>,
    worker: Option<JoinHandle<()>>,
    limits: Limits,
    next_id: AtomicU64,
    open: AtomicUsize,
}

impl Engine {
    /// Starts the worker thread.
    pub(crate) fn start(model: Box<dyn Model>, limits: Limits) -> Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let worker = Worker::new(model, limits.step_tokens);
        let worker = std::thread::Builder::new()
            .name("qwenguard".into())
            .spawn(move || worker.run(receiver))
            .map_err(|_| Error::OutOfMemory { bytes: 0, purpose: "the worker thread" })?;
        Ok(Engine {
            commands: Some(commands),
            worker: Some(worker),
            limits,
            next_id: AtomicU64::new(0),
            open: AtomicUsize::new(0),
        })
    }

    /// Opens an empty sequence.
    pub(crate) fn sequence(self: &Arc<Self>) -> Result<Sequence> {
        self.open_sequence(0, |id| Command::Open { id })
    }

    /// Opens a sequence of `len` tokens by a command that takes its id.
    fn open_sequence(self: &Arc<Self>, len: usize, command: impl FnOnce(u64) -> Command) -> Result<Sequence> {
        let limit = self.limits.max_sequences;
        let grow = |open: usize| (open < limit).then_some(open + 1);
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_err() {
            return Err(Error::Busy { what: "too many open streams", limit });
        }
        let sequence = Sequence { engine: self.clone(), id: self.next_id.fetch_add(1, Ordering::Relaxed), len };
        self.send(command(sequence.id))?;
        Ok(sequence)
    }

    fn send(&self, command: Command) -> Result<()> {
        let commands = self.commands.as_ref().ok_or(Error::EngineStopped)?;
        commands.send(command).map_err(|_| Error::EngineStopped)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(worker) = self.worker.take() {
            // The session must be gone before the host tears down ONNX Runtime. A worker that panicked is gone too.
            let _ = worker.join();
        }
    }
}

/// A sequence of tokens in the engine. Dropping it gives its cache blocks back.
pub(crate) struct Sequence {
    engine: Arc<Engine>,
    id: u64,
    len: usize,
}

impl Sequence {
    /// Tokens in the sequence.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends tokens, waits until they are computed and returns the logits that `read` asks for, one row per token.
    /// After an error the sequence is as it was before.
    pub(crate) fn append(&mut self, ids: Vec<u32>, read: Read) -> Result<RoleLogits> {
        let count = ids.len();
        if count == 0 {
            return Ok(RoleLogits::empty());
        }
        self.check_room(self.len, count)?;
        let (reply, answer) = mpsc::sync_channel(1);
        self.engine.send(Command::Append { id: self.id, ids, read, reply })?;
        let logits = answer.recv().map_err(|_| Error::EngineStopped)??;
        self.len += count;
        Ok(logits)
    }
}

impl Sequence {
    /// An error if `count` tokens after the first `len` would not fit the context.
    pub(crate) fn check_room(&self, len: usize, count: usize) -> Result<()> {
        let limit = self.engine.limits.context;
        if len + count > limit {
            return Err(Error::ContextFull { used: len, wanted: count, limit });
        }
        Ok(())
    }

    /// Cuts the sequence back to its first `len` tokens. Costs nothing but, where the end is in a block that a fork
    /// uses too, computing up to a block of tokens again.
    pub(crate) fn truncate(&mut self, len: usize) -> Result<()> {
        if len < self.len {
            self.engine.send(Command::Truncate { id: self.id, len })?;
            self.len = len;
        }
        Ok(())
    }

    /// Another sequence that starts with the same tokens and shares their cache.
    pub(crate) fn fork(&self) -> Result<Sequence> {
        self.engine.open_sequence(self.len, |new| Command::Fork { id: self.id, new })
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
