//! Forked processes. A child has the memory of its parent, but of its threads only the one that forked: it must not wait
//! for the others, take locks that they may have held, or destroy what they were changing. So everything with threads or
//! locks knows the process that made it, and does nothing in another.

use std::{
    cell::Cell,
    mem::ManuallyDrop,
    ops::Deref,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::{Error, Result};

/// How many forks are between this process and the first one that used this library.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// Whether forks are counted. Not a `Once`, which would wait in a child for a thread of its parent.
#[cfg(unix)]
static COUNTED: AtomicBool = AtomicBool::new(false);
/// Threads that are opening a guard, which hold locks of ours, of ONNX Runtime and of the loader; and, in units of
/// `FORKING`, those that are forking. No thread begins to open while another forks.
static BUSY: AtomicU64 = AtomicU64::new(0);
const FORKING: u64 = 1 << 32;
/// Whether a guard was being opened at the moment of the fork that made this process.
static TORN: AtomicBool = AtomicBool::new(false);

/// For how long a fork waits for guards that other threads are opening.
#[cfg(unix)]
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(1);

thread_local! {
    /// How many guards this thread is opening: more than one only if a log or a callback opens another.
    static OPENING_HERE: Cell<u64> = const { Cell::new(0) };
}

/// The process that made something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u64);

impl Process {
    /// This one.
    pub(crate) fn current() -> Self {
        count_forks();
        Process(FORKS.load(Ordering::Relaxed))
    }

    pub(crate) fn is_current(self) -> bool {
        FORKS.load(Ordering::Relaxed) == self.0
    }

    /// What a call says in a child of the process that made its object.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_current() { Ok(()) } else { Err(Error::EngineStopped) }
    }
}

/// A value that is destroyed in the process that made it only: in a child it may be half changed, or have threads that are
/// not there.
pub(crate) struct Owned<T> {
    process: Process,
    value: ManuallyDrop<T>,
}

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Owned { process: Process::current(), value: ManuallyDrop::new(value) }
    }

    pub(crate) fn process(&self) -> Process {
        self.process
    }
}

impl<T: Default> Default for Owned<T> {
    fn default() -> Self {
        Owned::new(T::default())
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.process.is_current() {
            // SAFETY: the value is dropped here only, once, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

/// While it is held a guard is being opened: other threads do not fork, or fork a child that cannot open guards.
pub(crate) struct Opening {
    process: Process,
}

impl Opening {
    pub(crate) fn begin() -> Result<Self> {
        let process = Process::current();
        if TORN.load(Ordering::Relaxed) {
            return Err(Error::EngineStopped);
        }
        // Within another opening of this thread's a fork that began waits for both.
        let nested = OPENING_HERE.get() > 0;
        let enter = |busy: u64| (nested || busy < FORKING).then_some(busy + 1);
        while BUSY.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter).is_err() {
            thread::sleep(PAUSE);
        }
        OPENING_HERE.set(OPENING_HERE.get() + 1);
        Ok(Opening { process })
    }

    /// An error in a child that was forked by this thread meanwhile.
    pub(crate) fn check(&self) -> Result<()> {
        self.process.check()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        OPENING_HERE.set(OPENING_HERE.get() - 1);
        BUSY.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(unix)]
fn count_forks() {
    if !COUNTED.load(Ordering::Acquire) {
        // Several threads may come here at once; a fork is then counted several times, which does no harm.
        // SAFETY: functions without arguments that stay in memory: `pthread_atfork` forgets them when it is unloaded.
        let status = unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
        if status != 0 {
            tracing::warn!(status, "forks cannot be seen");
        }
        COUNTED.store(true, Ordering::Release);
    }
}

#[cfg(not(unix))]
fn count_forks() {}

/// Waits for other threads that are opening guards. Not for ever: they may be waiting for this one.
#[cfg(unix)]
unsafe extern "C" fn before_fork() {
    BUSY.fetch_add(FORKING, Ordering::SeqCst);
    let start = std::time::Instant::now();
    while BUSY.load(Ordering::SeqCst) % FORKING > opening_here() && start.elapsed() < PATIENCE {
        thread::sleep(PAUSE);
    }
}

#[cfg(unix)]
unsafe extern "C" fn in_parent() {
    BUSY.fetch_sub(FORKING, Ordering::SeqCst);
}

/// Runs in the child before `fork` returns. Only atomics: all else may be in use by a thread that is not there.
#[cfg(unix)]
unsafe extern "C" fn in_child() {
    if BUSY.swap(opening_here(), Ordering::SeqCst) % FORKING > opening_here() {
        TORN.store(true, Ordering::Relaxed);
    }
    FORKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(unix)]
fn opening_here() -> u64 {
    OPENING_HERE.try_with(Cell::get).unwrap_or(0)
}
