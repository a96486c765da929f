//! Calls of streams, and annotations, as futures. A completion queue of the library does the waiting, one thread hands on
//! what is done. A future that is dropped cancels its call, and so frees the stream.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use qwenguard::{
    AnnotateOptions, Annotation, Call, Completion, CompletionQueue, Error, Guard, Message, Reply, Result, Stream,
};
use tokio::{sync::oneshot, task::block_in_place};

/// From how many bytes on tokenizing is work for a thread that nobody else waits for.
const LONG: usize = 4096;

/// The calls that are on their way.
pub(crate) struct Calls {
    queue: CompletionQueue,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Completion>>>,
    next: AtomicU64,
    deadline: Duration,
}

impl Calls {
    /// Starts the thread. A call that takes longer than `deadline` is cancelled.
    pub(crate) fn start(deadline: Duration) -> std::io::Result<Arc<Self>> {
        let calls = Arc::new(Calls {
            queue: CompletionQueue::new(),
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            deadline,
        });
        let shared = Arc::downgrade(&calls);
        std::thread::Builder::new().name("qwenguard-calls".into()).spawn(move || {
            while let Some(calls) = shared.upgrade() {
                let Some(done) = calls.queue.wait(Duration::from_secs(1)) else { continue };
                let receiver = calls.lock().remove(&done.tag);
                if let Some(receiver) = receiver {
                    // A stream that nobody is left for is closed here.
                    let _ = receiver.send(done);
                }
            }
        })?;
        Ok(calls)
    }

    /// One call of a stream, which comes back with the result. After an error it is as it was before.
    pub(crate) async fn call(self: &Arc<Self>, stream: Stream, call: Call<'_>) -> (Option<Stream>, Result<Reply>) {
        let (pending, receiver) = self.pending();
        let deadline = Some(Instant::now() + self.deadline);
        let submit = || self.queue.submit(stream, call, pending.tag, deadline);
        if length(&call) < LONG {
            submit()
        } else {
            block_in_place(submit)
        }
        finished(receiver).await
    }

    /// Judges a whole conversation.
    pub(crate) async fn annotate(
        self: &Arc<Self>,
        guard: &Guard,
        messages: &[Message],
        options: &AnnotateOptions,
    ) -> Result<Annotation> {
        let (pending, receiver) = self.pending();
        let deadline = Some(Instant::now() + self.deadline);
        block_in_place(|| self.queue.annotate(guard, messages, options, pending.tag, deadline));
        let reply = finished(receiver).await.1?;
        reply.into_annotation().ok_or(Error::EngineStopped)
    }

    fn pending(self: &Arc<Self>) -> (Pending, oneshot::Receiver<Completion>) {
        let tag = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(tag, sender);
        (Pending { calls: self.clone(), tag }, receiver)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Completion>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn finished(receiver: oneshot::Receiver<Completion>) -> (Option<Stream>, Result<Reply>) {
    match receiver.await {
        Ok(done) => (done.stream, done.result),
        // The thread is gone: the call was lost with its stream.
        Err(_) => (None, Err(Error::EngineStopped)),
    }
}

fn length(call: &Call) -> usize {
    match call {
        Call::Prompt(messages) | Call::NextTurn(messages) => messages.iter().map(|message| message.content.len()).sum(),
        Call::Text(text) | Call::Thinking(text) => text.len(),
        _ => 0,
    }
}

/// A call that somebody waits for.
struct Pending {
    calls: Arc<Calls>,
    tag: u64,
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Still there: whoever waited has left.
        if self.calls.lock().remove(&self.tag).is_some() {
            self.calls.queue.cancel(self.tag);
        }
    }
}

/// A stream whose calls are awaited. Between calls it holds the stream; a call that is given up takes it away.
pub(crate) struct Judge {
    calls: Arc<Calls>,
    stream: Option<Stream>,
}

impl Judge {
    pub(crate) fn new(calls: &Arc<Calls>, stream: Stream) -> Self {
        Judge { calls: calls.clone(), stream: Some(stream) }
    }

    /// The answer to a call. A call that was given up before it was done has lost the stream.
    pub(crate) async fn call(&mut self, call: Call<'_>) -> Result<Reply> {
        let stream = self.stream.take().ok_or(Error::EngineStopped)?;
        let (stream, result) = self.calls.call(stream, call).await;
        self.stream = stream;
        result
    }

    /// Whether the stream is gone: the guard has stopped.
    pub(crate) fn is_lost(&self) -> bool {
        self.stream.is_none()
    }

    /// Another stream that goes on from here.
    pub(crate) fn fork(&self) -> Result<Judge> {
        let stream = self.stream.as_ref().ok_or(Error::EngineStopped)?;
        Ok(Judge { calls: self.calls.clone(), stream: Some(stream.fork()?) })
    }
}
