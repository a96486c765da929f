//! Calls of streams, and annotations, without waiting for them.

mod inbox;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    Error, Result,
    annotate::BegunAnnotation,
    annotation::{AnnotateOptions, Annotation},
    engine::{Batch, Notify},
    guard::Guard,
    process::{Owned, Process},
    stream::{BegunCall, Call, Reply, Stream},
    text::Message,
};
pub(crate) use inbox::Signal;
use inbox::{Inbox, TIMER_STACK, Taken, wake};

/// Takes calls of streams, and gives each stream back when its call is done. Takes conversations to annotate, too. May be used from several threads at once.
/// Dropping it cancels all calls in it, with their streams.
///
/// In a process that is forked from the one that made it a queue is empty and stays so: it drops what is submitted, and
/// does not wait. Such a process makes a queue of its own.
///
/// ```no_run
/// # use std::time::Duration;
/// # use qwenguard::{Call, CompletionQueue, Guard};
/// # fn main() -> Result<(), qwenguard::Error> {
/// # let guard = Guard::open("bundle")?;
/// # let stream = guard.stream()?;
/// let queue = CompletionQueue::new();
/// queue.submit(stream, Call::Text(b"Hello"), 7, None);
/// while let Some(done) = queue.wait(Duration::from_millis(10)) {
///     println!("{}: {:?}", done.tag, done.result?);
///     // done.stream is free for the next call.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct CompletionQueue {
    inbox: Arc<Owned<Inbox>>,
    jobs: Owned<Mutex<Jobs>>,
    /// Looks at deadlines while nobody waits, once a host has asked for signals.
    timer: Owned<Mutex<Option<JoinHandle<()>>>>,
}

/// A call that is done.
#[derive(Debug)]
pub struct Completion {
    /// What the call was submitted with.
    pub tag: u64,
    /// The stream of a call, ready for its next one. `None` after an annotation.
    pub stream: Option<Stream>,
    /// What the call answers. After an error the stream is as it was before.
    pub result: Result<Reply>,
}

impl fmt::Debug for CompletionQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CompletionQueue").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Jobs {
    next: u64,
    by_ticket: HashMap<u64, Job>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Calls that a thread is going on with.
    away: HashMap<u64, Away>,
    /// Tags of calls that were lost, with their streams, to a panic.
    lost: Vec<u64>,
}

struct Away {
    tag: u64,
    cancelled: bool,
}

struct Job {
    tag: u64,
    /// Of a call of one.
    stream: Option<Stream>,
    /// What was begun, or why it failed at once.
    begun: Result<Begun>,
    deadline: Option<Instant>,
}

enum Begun {
    Call(BegunCall),
    Annotation(BegunAnnotation),
}

impl Begun {
    fn is_ready(&self) -> bool {
        match self {
            Begun::Call(call) => call.is_ready(),
            Begun::Annotation(annotation) => annotation.is_ready(),
        }
    }
}

impl Job {
    fn is_ready(&self) -> bool {
        self.begun.as_ref().map_or(true, Begun::is_ready)
    }
}

impl CompletionQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a call. The stream comes back with the result; so it does if the call fails at once.
    ///
    /// Texts are tokenized here, by the caller's thread: prompts up to what fits the model's context, about 5 ms for each
    /// 1,000 tokens, pushes whole, which have at most 1 MiB and take up to 0.3 s.
    ///
    /// `tag` is the caller's, to know the call by. A call that is not done by `deadline` is cancelled with
    /// [`Error::DeadlineExceeded`]; it is not begun if that has passed already.
    pub fn submit(&self, mut stream: Stream, call: Call, tag: u64, deadline: Option<Instant>) {
        if !self.process().is_current() {
            return;
        }
        let (ticket, notify) = self.ticket();
        let begun = in_time(deadline).and_then(|()| stream.begin(call, Some(notify), &mut Batch::default()));
        let begun = begun.map(Begun::Call);
        self.keep(ticket, Job { tag, stream: Some(stream), begun, deadline });
    }

    /// Begins to annotate a conversation, as [`Guard::annotate`] does. It comes back without a stream.
    ///
    /// The conversation is rendered and tokenized here, by the caller's thread, up to what fits the model's context. `tag`
    /// and `deadline` are as with [`CompletionQueue::submit`].
    pub fn annotate(
        &self,
        guard: &Guard,
        messages: &[Message],
        options: &AnnotateOptions,
        tag: u64,
        deadline: Option<Instant>,
    ) {
        if !self.process().is_current() {
            return;
        }
        let (ticket, notify) = self.ticket();
        let begun = in_time(deadline).and_then(|()| guard.begin_annotation(messages, options, notify));
        let begun = begun.map(Begun::Annotation);
        self.keep(ticket, Job { tag, stream: None, begun, deadline });
    }

    /// A new call's ticket, and what wakes those who wait when it can go on.
    fn ticket(&self) -> (u64, Notify) {
        let ticket = {
            let mut jobs = self.lock();
            jobs.next += 1;
            jobs.next
        };
        let inbox = self.inbox.clone();
        (ticket, Arc::new(move || inbox.put(ticket)))
    }

    /// A call that is done, if there is one.
    pub fn poll(&self) -> Option<Completion> {
        self.wait(Duration::ZERO)
    }

    /// Waits for a call that is done, but not longer than `timeout`.
    pub fn wait(&self, timeout: Duration) -> Option<Completion> {
        if !self.process().is_current() {
            return None;
        }
        let until = Instant::now().checked_add(timeout);
        loop {
            let deadlines = self.inbox.look();
            let now = Instant::now();
            if let Some(job) = self.expired(now) {
                // The call is cancelled by dropping it.
                return Some(Completion { tag: job.tag, stream: job.stream, result: Err(Error::DeadlineExceeded) });
            }
            let next = self.lock().deadlines.first().map(|(deadline, _)| *deadline);
            match self.inbox.take(until, next, deadlines) {
                Taken::Ticket(ticket) => {
                    if let Some(completion) = self.go_on(ticket) {
                        return Some(completion);
                    }
                }
                Taken::Nothing if until.is_some_and(|until| until <= Instant::now()) => return None,
                Taken::Nothing | Taken::Again => {}
            }
        }
    }

    /// Has a function called when the queue has something to take, after it had nothing: for event loops. If there is something
    /// already, it is called at once. It is called once, however much comes, until [`poll`](Self::poll) has given nothing; it may
    /// be called although there is nothing then. Functions that were set before go on being called. They are dropped with the
    /// queue.
    ///
    /// Threads of the library call it, and a stream's next step waits for it: it only has to wake the thread that polls, and
    /// must not use the queue. It is called for deadlines, too, of which a thread of the library takes care from now on.
    ///
    /// # Errors
    /// [`Error::EngineStopped`] in a forked process; [`Error::Config`] if the system gives no thread.
    pub fn on_ready(&self, wake: impl Fn() + Send + Sync + 'static) -> Result<()> {
        struct Wake<F>(F);

        impl<F: Fn() + Send + Sync> Signal for Wake<F> {
            fn wake(&self) {
                (self.0)();
            }
        }

        self.attach(Arc::new(Wake(wake)))
    }

    /// Has a signal told whenever there is something to do, beginning with now. A deadline is told of by a thread, which is
    /// started here for the first signal.
    ///
    /// # Errors
    /// [`Error::EngineStopped`] in a forked process; [`Error::Config`] if the system gives no thread.
    pub(crate) fn attach(&self, signal: Arc<dyn Signal>) -> Result<()> {
        self.process().check()?;
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        if timer.is_none() {
            let inbox = self.inbox.clone();
            let thread = std::thread::Builder::new().name("qwenguard-timer".into()).stack_size(TIMER_STACK);
            let thread = thread.spawn(move || inbox.tell_of_deadlines());
            *timer = Some(thread.map_err(|error| Error::threads(1, 0, error))?);
        }
        let woken = self.inbox.attach(&signal);
        // From now on calls set it themselves.
        let next = self.lock().deadlines.first().map(|(deadline, _)| *deadline);
        self.inbox.set_alarm(next);
        wake(woken);
        Ok(())
    }

    /// If signals know that there is something to do, wakes them once more: one of them has somebody else to tell.
    #[cfg_attr(not(feature = "capi"), allow(dead_code, reason = "the C interface has signals"))]
    pub(crate) fn wake_again(&self) {
        self.inbox.wake_again();
    }

    /// How many calls are not given back yet.
    pub fn len(&self) -> usize {
        if !self.process().is_current() {
            return 0;
        }
        let jobs = self.lock();
        jobs.by_ticket.len() + jobs.away.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cancels the calls with this tag that are not done, also in the middle of a step. They come back as the others do,
    /// with [`Error::Cancelled`] and the stream as it was before. Returns how many there were.
    pub fn cancel(&self, tag: u64) -> usize {
        if !self.process().is_current() {
            return 0;
        }
        let mut cancelled = Vec::new();
        let mut dropped = Vec::new();
        let mut jobs = self.lock();
        let away = jobs.cancel_away(tag);
        for (ticket, job) in &mut jobs.by_ticket {
            if job.tag == tag && !job.is_ready() {
                dropped.push(std::mem::replace(&mut job.begun, Err(Error::Cancelled)));
                cancelled.push(*ticket);
            }
        }
        drop(jobs);
        // Outside of the lock: dropping a call tells the engine.
        drop(dropped);
        cancelled.iter().for_each(|ticket| self.inbox.put(*ticket));
        cancelled.len() + away
    }

    /// Takes the calls with this tag out of the queue, done or not, and returns their streams. What was not done is
    /// cancelled. A call that another thread is going on with is only cancelled.
    #[cfg(feature = "capi")]
    pub(crate) fn withdraw(&self, tag: u64) -> Vec<Option<Stream>> {
        let mut jobs = self.lock();
        jobs.cancel_away(tag);
        let tickets = jobs.by_ticket.iter().filter(|(_, job)| job.tag == tag).map(|(ticket, _)| *ticket);
        let tickets: Vec<u64> = tickets.collect();
        let withdrawn: Vec<Job> = tickets.into_iter().filter_map(|ticket| jobs.take(ticket)).collect();
        drop(jobs);
        withdrawn
            .into_iter()
            .map(|Job { stream, begun, .. }| {
                drop(begun);
                stream
            })
            .collect()
    }

    /// The tags of calls that were lost to a panic in [`CompletionQueue::wait`].
    #[cfg(feature = "capi")]
    pub(crate) fn take_lost(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock().lost)
    }

    /// The process that it can be used in.
    pub(crate) fn process(&self) -> Process {
        self.jobs.process()
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, ticket: u64, mut job: Job) {
        let mut jobs = self.lock();
        let dropped = jobs.came_back(ticket).then(|| std::mem::replace(&mut job.begun, Err(Error::Cancelled)));
        if let Some(deadline) = job.deadline {
            jobs.deadlines.insert((deadline, ticket));
        }
        let deadline = job.deadline;
        // It may have become ready while it was not in the queue, and nobody would hear of it.
        let ready = job.is_ready();
        jobs.by_ticket.insert(ticket, job);
        drop(jobs);
        drop(dropped);
        if ready {
            self.inbox.put(ticket);
        } else if let Some(deadline) = deadline {
            self.inbox.put_deadline(deadline);
        }
    }

    fn expired(&self, now: Instant) -> Option<Job> {
        let mut jobs = self.lock();
        let mut past = jobs.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        // A result that is there is better than none.
        let late = past.find(|(_, ticket)| !jobs.by_ticket.get(ticket).is_some_and(Job::is_ready));
        let ticket = late.map(|(_, ticket)| *ticket)?;
        jobs.take(ticket)
    }

    /// Goes on with a call that does not have to wait. Returns it if it is done.
    fn go_on(&self, ticket: u64) -> Option<Completion> {
        // Given back or cancelled already, if it is not there.
        let job = self.lock().leave(ticket)?;
        let tag = job.tag;
        catch_unwind(AssertUnwindSafe(|| self.go_on_with(ticket, job))).unwrap_or_else(|panic| {
            let mut jobs = self.lock();
            jobs.came_back(ticket);
            jobs.lost.push(tag);
            drop(jobs);
            resume_unwind(panic)
        })
    }

    fn go_on_with(&self, ticket: u64, mut job: Job) -> Option<Completion> {
        let advanced = match &mut job.begun {
            Ok(begun) if begun.is_ready() => job.advance(),
            Ok(_) => Ok(None),
            Err(error) => Err(error.clone()),
        };
        if let Ok(None) = advanced {
            self.keep(ticket, job);
            return None;
        }
        let cancelled = self.lock().came_back(ticket);
        let result = match advanced {
            Ok(Some(_)) if cancelled => Err(Error::Cancelled),
            Ok(Some(Done::Annotation(annotation))) => Ok(Reply::Annotation(annotation)),
            Ok(Some(Done::Call)) => job.complete(),
            Ok(None) => Err(Error::EngineStopped),
            Err(error) => Err(error),
        };
        Some(Completion { tag: job.tag, stream: job.stream, result })
    }
}

/// What is done with going on.
#[expect(clippy::large_enum_variant, reason = "it is moved once")]
enum Done {
    /// The engine's part of a call: its stream can complete it.
    Call,
    Annotation(Annotation),
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        if !self.process().is_current() {
            return;
        }
        self.inbox.end();
        let timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(timer) = timer {
            // It does nothing that can panic, but for what a host does when it is woken.
            let _ = timer.join();
        }
    }
}

impl Job {
    /// Goes on, which does not wait.
    fn advance(&mut self) -> Result<Option<Done>> {
        match (&mut self.begun, &mut self.stream) {
            (Ok(Begun::Call(call)), Some(stream)) => {
                Ok(stream.advance(call, &mut Batch::default())?.then_some(Done::Call))
            }
            (Ok(Begun::Annotation(begun)), _) => Ok(begun.advance()?.map(Done::Annotation)),
            (Ok(_), _) => Err(Error::EngineStopped),
            (Err(error), _) => Err(error.clone()),
        }
    }

    fn complete(&mut self) -> Result<Reply> {
        let begun = std::mem::replace(&mut self.begun, Err(Error::Cancelled));
        match (begun?, &mut self.stream) {
            (Begun::Call(call), Some(stream)) => stream.complete(call),
            _ => Err(Error::EngineStopped),
        }
    }
}

impl Jobs {
    /// Takes a call out to go on with it.
    fn leave(&mut self, ticket: u64) -> Option<Job> {
        let job = self.take(ticket)?;
        self.away.insert(ticket, Away { tag: job.tag, cancelled: false });
        Some(job)
    }

    /// Whether a call was cancelled while it was away.
    fn came_back(&mut self, ticket: u64) -> bool {
        self.away.remove(&ticket).is_some_and(|away| away.cancelled)
    }

    fn cancel_away(&mut self, tag: u64) -> usize {
        let found = self.away.values_mut().filter(|away| away.tag == tag && !away.cancelled);
        found.map(|away| away.cancelled = true).count()
    }

    fn take(&mut self, ticket: u64) -> Option<Job> {
        let job = self.by_ticket.remove(&ticket)?;
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, ticket));
        }
        Some(job)
    }
}

/// Whether there is time for a call at all.
fn in_time(deadline: Option<Instant>) -> Result<()> {
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) { Err(Error::DeadlineExceeded) } else { Ok(()) }
}
