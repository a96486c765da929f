//! `qg_queue`: calls of streams and annotations without waiting for them.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use safer_ffi::derive_ReprC;

use super::{
    annotate::{qg_annotate_options, read_options},
    annotation::qg_annotation,
    boundary,
    call::{Input, qg_call, qg_reply},
    cast::{Object, Out, OutArray, borrow, free_object, object},
    conversation::{Borrower, Conversation},
    failure::{Failure, qg_error},
    guard::{Categories, qg_guard},
    memory::give,
    message::{qg_message, read_messages},
    signals::Signals,
    status::qg_status,
    stream::qg_stream,
};
use crate::{AnnotateOptions, Completion, CompletionQueue, Message, Reply, Stream, process::Process};

/// For as long as it takes.
pub const QG_NO_TIMEOUT: u64 = u64::MAX;

/// Calls of streams, and annotations, that go on while the program does other things. For any number of threads at once.
#[derive_ReprC]
#[repr(opaque)]
pub struct qg_queue {
    pub(super) submitted: Arc<Submitted>,
}

impl Object for qg_queue {
    fn process(&self) -> Process {
        self.submitted.queue.process()
    }
}

/// A call that is done.
#[derive_ReprC]
#[repr(C)]
pub struct qg_completion {
    /// What the call was submitted with.
    pub tag: u64,
    /// The stream that was submitted, which is free for its next call. NULL for an annotation.
    pub stream: *mut qg_stream,
    /// What the call answers; of an annotation the status and the error, and all else is 0.
    pub reply: qg_reply,
    /// The annotation that was submitted: yours to free. NULL for a call of a stream, and for an annotation that failed.
    pub annotation: *mut qg_annotation,
}

/// The calls in a queue. The library's own queue knows each by a ticket.
pub(super) struct Submitted {
    pub(super) queue: CompletionQueue,
    pub(super) signals: Signals,
    jobs: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    next: u64,
    by_ticket: HashMap<u64, Job>,
    /// Calls that a panic took with their streams, and what it said.
    lost: VecDeque<(Job, String)>,
}

/// A call that leaves the queue, with why it has no result if it was lost.
type Done = (Job, Result<Completion, Failure>);

struct Job {
    tag: u64,
    what: What,
}

enum What {
    Call {
        handle: Handle,
        conversation: Arc<Conversation>,
    },
    /// With what it takes to name categories.
    Annotation(Categories),
}

impl What {
    fn take_back(&self, stream: Option<Stream>) {
        if let (What::Call { conversation, .. }, Some(stream)) = (self, stream) {
            conversation.take_back(stream);
        }
    }

    /// After a panic that took it.
    fn lose(&self) {
        if let What::Call { conversation, .. } = self {
            conversation.lose();
        }
    }
}

struct Handle(*mut qg_stream);

// SAFETY: the pointer is only given back to the caller, never followed.
unsafe impl Send for Handle {}

impl Jobs {
    /// Keeps a call, and gives its ticket.
    fn add(&mut self, job: Job) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.by_ticket.insert(ticket, job);
        ticket
    }
}

impl Submitted {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(
        self: &Arc<Self>,
        tag: u64,
        handle: Handle,
        conversation: &Arc<Conversation>,
        input: &Input,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        let mut jobs = self.lock();
        let ticket = jobs.next;
        let borrower: Weak<Self> = Arc::downgrade(self);
        let stream = conversation.lend(borrower, ticket)?;
        jobs.add(Job { tag, what: What::Call { handle, conversation: conversation.clone() } });
        drop(jobs);
        self.begin(ticket, || self.queue.submit(stream, input.call(), ticket, deadline))
    }

    fn annotate(
        &self,
        tag: u64,
        guard: &qg_guard,
        messages: &[Message],
        options: &AnnotateOptions,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        let ticket = self.lock().add(Job { tag, what: What::Annotation(guard.categories.clone()) });
        self.begin(ticket, || self.queue.annotate(&guard.guard, messages, options, ticket, deadline))
    }

    /// A panic in it is the caller's, who has no call in the queue then.
    fn begin(&self, ticket: u64, begin: impl FnOnce()) -> Result<(), Failure> {
        catch_unwind(AssertUnwindSafe(begin)).map_err(|panic| {
            let job = self.lock().by_ticket.remove(&ticket);
            if let Some(job) = job {
                job.what.lose();
            }
            Failure::Panic(boundary::reason(panic))
        })
    }

    /// Waits for a call that is done.
    fn wait(&self, until: Option<Instant>) -> Option<Done> {
        loop {
            if let Some((job, reason)) = self.lock().lost.pop_front() {
                return Some((job, Err(Failure::Panic(reason))));
            }
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            match catch_unwind(AssertUnwindSafe(|| self.queue.wait(left))) {
                Ok(done) => {
                    let done = done?;
                    let job = self.lock().by_ticket.remove(&done.tag);
                    // The streams of others were freed.
                    if let Some(job) = job {
                        return Some((job, Ok(done)));
                    }
                }
                Err(panic) => self.lose(panic),
            }
        }
    }

    /// After a panic: the calls that it took come back as failed, and their streams say so from then on.
    fn lose(&self, panic: Box<dyn Any + Send>) {
        let tickets = self.queue.take_lost();
        if tickets.is_empty() {
            resume_unwind(panic);
        }
        let reason = boundary::reason(panic);
        for ticket in tickets {
            let job = self.lock().by_ticket.remove(&ticket);
            if let Some(job) = job {
                job.what.lose();
                self.lock().lost.push_back((job, reason.clone()));
            }
        }
    }

    fn cancel(&self, tag: u64) -> usize {
        let jobs = self.lock();
        let tickets: Vec<u64> =
            jobs.by_ticket.iter().filter(|(_, job)| job.tag == tag).map(|(ticket, _)| *ticket).collect();
        drop(jobs);
        tickets.into_iter().map(|ticket| self.queue.cancel(ticket)).sum()
    }
}

impl Borrower for Submitted {
    fn withdraw(&self, ticket: u64) -> Option<Stream> {
        self.lock().by_ticket.remove(&ticket);
        self.queue.withdraw(ticket).pop().flatten()
    }
}

/// Streams whose calls are cancelled can be used again.
impl Drop for qg_queue {
    fn drop(&mut self) {
        self.submitted.signals.end();
        let jobs = std::mem::take(&mut self.submitted.lock().by_ticket);
        for (ticket, job) in jobs {
            job.what.take_back(self.submitted.queue.withdraw(ticket).pop().flatten());
        }
    }
}

fn completion((job, done): Done) -> qg_completion {
    match job.what {
        What::Call { handle, conversation } => {
            let reply = match done.map(|done| (done.stream, done.result)) {
                Ok((Some(stream), result)) => qg_reply::new(conversation.take_back(stream), result),
                Ok((None, _)) => unreachable!("the stream of a call comes back with it"),
                Err(failure) => qg_reply::failed(&failure),
            };
            qg_completion { tag: job.tag, stream: handle.0, reply, annotation: std::ptr::null_mut() }
        }
        What::Annotation(categories) => {
            let result = done.and_then(|done| Ok(done.result?));
            let (reply, annotation) = match result.map(Reply::into_annotation) {
                Ok(Some(annotation)) => (qg_reply::default(), qg_annotation::allocate(annotation, categories)),
                Ok(None) => unreachable!("an annotation is what answers it"),
                Err(failure) => (qg_reply::failed(&failure), std::ptr::null_mut()),
            };
            qg_completion { tag: job.tag, stream: std::ptr::null_mut(), reply, annotation }
        }
    }
}

pub(super) fn until(timeout_ms: u64) -> Option<Instant> {
    match timeout_ms {
        QG_NO_TIMEOUT => None,
        milliseconds => Instant::now().checked_add(Duration::from_millis(milliseconds)),
    }
}

/// Makes an empty queue, which is yours to free. One queue can serve all streams of all guards.
///
/// Errors: QG_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_queue_open(queue: *mut *mut qg_queue, error: *mut *mut qg_error) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what this writes.
        let queue = unsafe { Out::new(queue, "queue")? };
        let submitted =
            Submitted { queue: CompletionQueue::new(), signals: Signals::default(), jobs: Mutex::default() };
        queue.write(give(qg_queue { submitted: Arc::new(submitted) }));
        Ok(())
    })
}

/// Frees a queue. NULL is fine. Calls and annotations in it are cancelled, and streams can be used again. No thread may be in a
/// function of the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_queue_free(queue: *mut qg_queue) {
    // SAFETY: the header wants a queue or NULL.
    boundary::value((), || unsafe { free_object(queue) })
}

/// Begins a call. It is done when the queue gives it back, with an error of its own if it has one; until then all functions of
/// its stream but `qg_stream_free` return QG_ERROR_IN_USE. `tag` is yours, to know the call by.
///
/// A call that is not done within `timeout_ms` milliseconds is cancelled with QG_ERROR_DEADLINE_EXCEEDED; QG_NO_TIMEOUT gives
/// it the time it takes.
///
/// Texts are tokenized here, in your thread: prompts up to what fits the model's context, about 5 ms for each 1,000 tokens,
/// pushes whole, which have at most 1 MiB and take up to 0.3 s. The rest of the work is not yours.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM; QG_ERROR_ARGUMENT if a text of a message is not UTF-8 or `reserved` is not 0;
/// QG_ERROR_CONTEXT_FULL if there are more messages than tokens in the context or their texts have more than 16 MiB and
/// cannot fit it; QG_ERROR_OUT_OF_MEMORY; QG_ERROR_IN_USE. Everything else is the error of the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_queue_submit(
    queue: *const qg_queue,
    call: *const qg_call,
    tag: u64,
    timeout_ms: u64,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read.
        let (queue, call) = unsafe { (object(queue, "queue")?, borrow(call, "call")?) };
        // SAFETY: as above.
        let (stream, input) = unsafe { call.read() }?;
        queue.submitted.submit(tag, Handle(call.stream), &stream.conversation, &input, until(timeout_ms))
    })
}

/// Begins to judge a whole conversation, as `qg_guard_annotate` does. It is done when the queue gives it back: with
/// `qg_completion.annotation`, or with an error of its own in the reply. `tag` and `timeout_ms` are as with
/// `qg_queue_submit`, and so is `qg_queue_cancel`. The guard may be freed meanwhile.
///
/// The conversation is rendered and tokenized here, in your thread, up to what fits the model's context: about 5 ms for each
/// 1,000 tokens. The rest of the work is not yours.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM; QG_ERROR_ARGUMENT if a text is not UTF-8, or a size or `reserved` of the options is
/// wrong; QG_ERROR_CONTEXT_FULL if there are more messages than tokens in the context or their texts have more than 16 MiB
/// and cannot fit it; QG_ERROR_OUT_OF_MEMORY. Everything else is the error of the annotation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_queue_annotate(
    queue: *const qg_queue,
    guard: *const qg_guard,
    messages: *const qg_message,
    message_count: usize,
    options: *const qg_annotate_options,
    tag: u64,
    timeout_ms: u64,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read.
        let (queue, guard, options) =
            unsafe { (object(queue, "queue")?, object(guard, "guard")?, read_options(options)?) };
        // SAFETY: as above.
        let messages = unsafe { read_messages(&guard.guard, messages, message_count) }?;
        queue.submitted.annotate(tag, guard, &messages, &options, until(timeout_ms))
    })
}

/// Waits up to `timeout_ms` milliseconds for a call that is done, then takes all that are, as many as `capacity` allows.
/// `*count` becomes how many: 0 if the time passed. A timeout of 0 only looks; with QG_NO_TIMEOUT it waits even while the
/// queue is empty, for what another thread may submit. Errors of calls are in their replies; they and annotations are yours to
/// free.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if `capacity` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_queue_wait(
    queue: *const qg_queue,
    timeout_ms: u64,
    completions: *mut qg_completion,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (queue, completions, count) = unsafe {
            (object(queue, "queue")?, OutArray::new(completions, capacity, "completions")?, Out::new(count, "count")?)
        };
        if capacity == 0 {
            return Err(Failure::argument("capacity", "0 leaves no room for a call"));
        }
        let queue = &queue.submitted;
        let first = queue.wait(until(timeout_ms));
        let more = first.is_some().then(|| std::iter::from_fn(|| queue.wait(Some(Instant::now()))));
        let done = first.into_iter().chain(more.into_iter().flatten());
        let done: Vec<qg_completion> = done.take(capacity).map(completion).collect();
        count.write(done.len());
        completions.write(done.into_iter());
        Ok(())
    })
}

/// Gives up the calls with this tag that are not done, also while the model computes them. They come back from the queue as
/// all calls do, with QG_ERROR_CANCELLED. `*count` becomes how many there were.
///
/// Errors: QG_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_queue_cancel(
    queue: *const qg_queue,
    tag: u64,
    count: *mut usize,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (queue, count) = unsafe { (object(queue, "queue")?, Out::new(count, "count")?) };
        count.write(queue.submitted.cancel(tag));
        Ok(())
    })
}

/// Tells how many calls the queue has not given back yet.
///
/// Errors: QG_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_queue_length(
    queue: *const qg_queue,
    calls: *mut usize,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (queue, calls) = unsafe { (object(queue, "queue")?, Out::new(calls, "calls")?) };
        let jobs = queue.submitted.lock();
        calls.write(jobs.by_ticket.len() + jobs.lost.len());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::{
        super::{
            call::QG_CALL_PROMPT,
            error::qg_error_free,
            guard::{qg_guard_free, qg_guard_open_nano, qg_guard_options},
            message::qg_message,
            status::{QG_ERROR_NULL, QG_ERROR_PANIC, QG_OK},
            stream::{qg_stream_context_used, qg_stream_free, qg_stream_open},
        },
        *,
    };
    use crate::stream::fault;

    #[test]
    fn an_empty_queue_gives_nothing() {
        let none: *mut *mut qg_error = std::ptr::null_mut();
        let (mut queue, mut count) = (std::ptr::null_mut(), 77);
        let mut done = MaybeUninit::<qg_completion>::uninit();
        // SAFETY: places for results, and a queue that is freed once.
        unsafe {
            assert!(qg_queue_open(&mut queue, none).code() == QG_OK);
            assert!(qg_queue_wait(queue, 0, done.as_mut_ptr(), 1, &mut count, none).code() == QG_OK);
            assert_eq!(count, 0);
            assert!(qg_queue_cancel(queue, 1, &mut count, none).code() == QG_OK);
            assert_eq!(count, 0);
            let call = qg_call { stream: none.cast(), kind: 0, reserved: 0, data: none.cast(), length: 0 };
            assert!(qg_queue_submit(queue, &call, 1, 0, none).code() == QG_ERROR_NULL);
            assert!(qg_queue_length(queue, &mut count, none).code() == QG_OK);
            assert_eq!(count, 0);
            qg_queue_free(queue);
        }
    }

    /// A bug of ours, at each of the moments when a queue has a stream.
    #[test]
    #[cfg_attr(miri, ignore = "it needs ONNX Runtime")]
    fn a_panic_takes_its_stream_and_nothing_else() {
        let none: *mut *mut qg_error = std::ptr::null_mut();
        let options = qg_guard_options { threads: 1, cache_mib: 64, ..qg_guard_options::default() };
        let (mut guard, mut queue, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 77);
        let message =
            qg_message { role: c"user".as_ptr(), role_length: 4, content: c"Hello".as_ptr(), content_length: 5 };
        // SAFETY: places for results, and objects that are freed once.
        unsafe {
            assert!(qg_queue_open(&mut queue, none).code() == QG_OK);
            assert!(qg_guard_open_nano(&options, &mut guard, none).code() == QG_OK);
            for (place, submitted) in [("begin", QG_ERROR_PANIC), ("complete", QG_OK)] {
                let mut streams = [std::ptr::null_mut(); 2];
                for (tag, stream) in streams.iter_mut().enumerate() {
                    assert!(qg_stream_open(guard, std::ptr::null(), 0, stream, none).code() == QG_OK);
                    let data = (&raw const message).cast();
                    let call = qg_call { stream: *stream, kind: QG_CALL_PROMPT, reserved: 0, data, length: 1 };
                    fault::AT.set(if tag == 0 { place } else { "" });
                    let status = qg_queue_submit(queue, &call, tag as u64, QG_NO_TIMEOUT, none).code();
                    assert_eq!(status, if tag == 0 { submitted } else { QG_OK }, "{place}");
                }
                fault::AT.set(if submitted == QG_OK { place } else { "" });
                assert!(qg_queue_length(queue, &mut count, none).code() == QG_OK);
                let (calls, mut statuses) = (count, Vec::new());
                for _ in 0..calls {
                    let mut done = MaybeUninit::<qg_completion>::uninit();
                    assert!(
                        qg_queue_wait(queue, QG_NO_TIMEOUT, done.as_mut_ptr(), 1, &mut count, none).code() == QG_OK
                    );
                    let done = done.assume_init();
                    let stream = streams[done.tag as usize];
                    assert!(count == 1 && done.stream == stream);
                    statuses.push(done.reply.status.code());
                    // The stream says the same as its call.
                    let used = qg_stream_context_used(stream, &mut count, none).code();
                    assert_eq!(used, done.reply.status.code());
                    qg_error_free(done.reply.error);
                }
                statuses.sort_unstable();
                let expected = if submitted == QG_OK { vec![QG_OK, QG_ERROR_PANIC] } else { vec![QG_OK] };
                assert_eq!(statuses, expected, "{place}");
                assert!(qg_queue_length(queue, &mut count, none).code() == QG_OK);
                assert_eq!(count, 0);
                if submitted == QG_ERROR_PANIC {
                    assert!(qg_stream_context_used(streams[0], &mut count, none).code() == QG_ERROR_PANIC);
                }
                streams.into_iter().for_each(|stream| qg_stream_free(stream));
            }
            qg_queue_free(queue);
            qg_guard_free(guard);
        }
    }
}
