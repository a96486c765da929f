//! What streams hold of an engine.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use super::{
    admission::Admission,
    command::{Append, AppendId, Command, Read, SequenceId},
    life::{Life, Use},
    limits::Limits,
    mailbox::{Batch, Mailbox, mailbox},
    reply::{Notify, ReplyReceiver, reply},
    worker::Worker,
};
use crate::{
    Error, Result,
    model::{Logits, Model},
    process::Process,
    stats::Stats,
};

/// A running engine. Dropping it ends the worker, after the step it is in.
pub(crate) struct Engine {
    /// `None` only while the engine is dropped.
    mailbox: Option<Mailbox>,
    worker: Option<JoinHandle<()>>,
    /// The one that has the worker.
    process: Process,
    limits: Limits,
    next_id: AtomicU64,
    open: AtomicUsize,
    admission: Arc<Admission>,
    /// What the worker records; locked for moments only.
    stats: Arc<Mutex<Stats>>,
}

impl Engine {
    /// Starts the worker thread.
    pub(crate) fn start(model: Box<dyn Model>, limits: Limits) -> Result<Self> {
        let (mailbox, receiver) = mailbox();
        let layout = model.layout();
        let limits = Limits { context: limits.context.min(model.context()), ..limits };
        let stats = Arc::new(Mutex::new(Stats::new((layout.blocks * layout.block_bytes) as u64)));
        let worker = Worker::new(model, &limits, stats.clone());
        let worker = std::thread::Builder::new()
            .name("qwenguard".into())
            .spawn(move || worker.run(receiver))
            .map_err(|error| Error::threads(1, 0, error))?;
        Ok(Engine {
            mailbox: Some(mailbox),
            worker: Some(worker),
            process: Process::current(),
            limits,
            next_id: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            admission: Arc::new(Admission::new(limits.max_queued_tokens)),
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
        command: impl FnOnce(SequenceId, Arc<Life>) -> Command,
    ) -> Result<Sequence> {
        self.process.check()?;
        let limit = self.limits.max_sequences;
        let grow = |open: usize| (open < limit).then_some(open + 1);
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_err() {
            let advice = "close streams that are done, or raise engine.max_streams";
            return Err(Error::Busy { what: "too many open streams", limit, advice });
        }
        let id = SequenceId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let sequence = Sequence { engine: self.clone(), id, len, appends: 0, life: Arc::new(Life::new()) };
        self.send(command(id, sequence.life.clone()))?;
        Ok(sequence)
    }

    pub(crate) fn stats(&self) -> Stats {
        if !self.process.is_current() {
            return Stats::new(0);
        }
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let load = self.admission.load();
        stats.open_streams = self.open.load(Ordering::Relaxed);
        stats.waiting_streams = load.streams;
        stats.queued_tokens = load.tokens;
        stats.oldest_wait_seconds = load.oldest_seconds;
        stats
    }

    fn mailbox(&self) -> Result<&Mailbox> {
        self.process.check()?;
        self.mailbox.as_ref().ok_or(Error::EngineStopped)
    }

    fn send(&self, command: Command) -> Result<()> {
        self.mailbox()?.send(command)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.process.is_current() {
            std::mem::forget((self.mailbox.take(), self.worker.take()));
        }
        self.mailbox = None;
        if let Some(worker) = self.worker.take() {
            // A callback may own the last handle; the worker cannot wait for itself.
            if worker.thread().id() != std::thread::current().id() {
                // The session must be gone before the host tears down ONNX Runtime. A worker that panicked is gone too.
                let _ = worker.join();
            }
        }
    }
}

/// A sequence of tokens in the engine. Dropping it frees its cache blocks.
///
/// Its length is what was completed. The worker may be ahead, or behind with what it was told to forget; every command
/// carries the length that it starts from, so that the two never differ in what the next logits are about.
pub(crate) struct Sequence {
    engine: Arc<Engine>,
    id: SequenceId,
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

    /// Begins to append tokens: they reach the engine with the batch, and become part of the sequence when the result is
    /// given to [`Sequence::complete`]. An earlier append that is not completed is cancelled.
    ///
    /// `notify` is called as soon as completing does not wait any more; with no tokens, by this call itself. It is not
    /// called after this call failed or the result was dropped, but a call that is under way goes on.
    pub(crate) fn begin_append(
        &mut self,
        tokens: Vec<u32>,
        read: Read,
        notify: Option<Notify>,
        batch: &mut Batch,
    ) -> Result<Pending> {
        let using = self.enter()?;
        self.check_room(self.len, tokens.len())?;
        let count = tokens.len();
        let reservation = self.engine.admission.admit(count)?;
        let mailbox = self.engine.mailbox()?;
        self.appends += 1;
        let id = AppendId { sequence: self.id, number: self.appends, start: self.len };
        let (sender, reply) = reply(notify);
        let pending = Pending { reply, engine: self.engine.clone(), append: id, count, open: true, _using: using };
        if count == 0 {
            sender.send(Ok(Logits::default()));
        } else {
            batch.push(mailbox, Command::Append(Append { id, tokens, read, reservation, reply: sender }));
        }
        Ok(pending)
    }

    /// Waits until the sequence's last append is computed and returns its logits. After an error the sequence is as it
    /// was before the append.
    pub(crate) fn complete(&mut self, pending: Pending) -> Result<Logits> {
        if pending.append != (AppendId { sequence: self.id, number: self.appends, start: self.len }) {
            return Err(Error::WrongState { call: "complete", state: "after the append was cancelled" });
        }
        let count = pending.count;
        let logits = pending.take()?;
        self.len += count;
        Ok(logits)
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

    /// Cuts the sequence back to its first `len` tokens; if it was longer, an append that is not completed is
    /// cancelled. Costs nothing but, where the end is in a block that a fork uses too, computing up to a block of tokens
    /// again.
    pub(crate) fn truncate(&mut self, len: usize, batch: &mut Batch) -> Result<()> {
        let _using = self.enter()?;
        if len < self.len {
            batch.push(self.engine.mailbox()?, Command::Truncate { id: self.id, len });
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
        // A stopped engine has freed everything.
        let _ = self.engine.send(Command::Close(self.id));
    }
}

/// An append that may not be computed yet: [`Sequence::complete`] makes it part of the sequence. Dropping it cancels the
/// append: the sequence is then as it was before. Wait for it only once its batch is sent.
pub(crate) struct Pending {
    reply: ReplyReceiver,
    engine: Arc<Engine>,
    append: AppendId,
    /// How many tokens are appended.
    count: usize,
    /// Whether dropping must tell the worker.
    open: bool,
    _using: Use,
}

impl Pending {
    /// Whether completing the append does not wait: the reply is there, or never will be in this process.
    pub(crate) fn is_ready(&self) -> bool {
        !self.engine.process.is_current() || self.reply.is_ready()
    }

    /// Waits for the reply.
    #[cfg(test)]
    pub(super) fn wait(&self) {
        self.reply.wait();
    }

    /// Waits for the reply, but not beyond a moment. Returns whether it is there.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        !self.engine.process.is_current() || self.reply.wait_until(deadline)
    }

    fn take(mut self) -> Result<Logits> {
        self.engine.process.check()?;
        self.reply.wait();
        self.open = false;
        self.reply.take()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.open && self.engine.process.is_current() {
            self.reply.forget_notify();
            // A stopped engine has nothing to cancel.
            let _ = self.engine.send(Command::Cancel(self.append));
        }
    }
}
