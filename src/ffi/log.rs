//! Messages of the library: to a callback, or kept until they are taken (`qg_log`).

use std::{
    collections::VecDeque,
    ffi::{c_char, c_void},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use safer_ffi::derive_ReprC;

use super::{
    boundary,
    cast::{Object, Out, free_object, object},
    failure::{Failure, qg_error},
    memory::give,
    queue::until,
    status::qg_status,
    subscriber::{Callback, Keeper, Message, QG_LOG_OFF, QG_LOG_TRACE, add_keeper, forget_keepers, set_callback},
    text::qg_text,
};
use crate::{Error, process::Process};

/// Takes a message: its level (`QG_LOG_`), where it comes from (such as "qwenguard::engine::worker"), and what it says, in one
/// or more lines. Both texts are UTF-8, end with a NUL and live as long as the call.
///
/// It is called by any thread, also by several at once and by threads of the library: a stream's next step waits for it. So it
/// must not wait for anything of the library's. It may call the functions that only tell something (qg_status_name,
/// qg_risk_name, those of versions) and free errors, texts and annotations, no other; messages that it brings about are not
/// given to it. It must return: no exception and no longjmp may leave it, which would end the process.
pub type qg_log_callback =
    Option<unsafe extern "C" fn(context: *mut c_void, level: u32, target: *const c_char, message: *const c_char)>;

/// Messages that are kept until they are taken, by a thread of yours: for hosts in which threads of others cannot call.
#[derive_ReprC]
#[repr(opaque)]
pub struct qg_log {
    process: Process,
    kept: Arc<Kept>,
}

/// The most messages that wait in a log.
const CAPACITY: usize = 1024;

struct Kept {
    level: u32,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    lost: u64,
    ended: bool,
}

impl Object for qg_log {
    fn process(&self) -> Process {
        self.process
    }
}

impl Keeper for Kept {
    fn level(&self) -> u32 {
        self.level
    }

    fn keep(&self, message: &Message) {
        let mut waiting = self.lock();
        if waiting.messages.len() < CAPACITY && !waiting.ended {
            waiting.messages.push_back(message.clone());
        } else {
            waiting.lost += 1;
        }
        drop(waiting);
        self.arrived.notify_one();
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message, and how many were lost since the last look. Waits for one; none if the time passed.
    fn wait(&self, until: Option<Instant>) -> Result<(Option<Message>, u64), Failure> {
        let mut waiting = self.lock();
        loop {
            if let Some(message) = waiting.messages.pop_front() {
                return Ok((Some(message), std::mem::take(&mut waiting.lost)));
            }
            if waiting.ended {
                return Err(Error::WrongState { call: "qg_log_wait", state: "after the end of the log" }.into());
            }
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok((None, std::mem::take(&mut waiting.lost)));
            }
            waiting = match until {
                Some(_) => self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

fn check_level(level: u32) -> Result<u32, Failure> {
    match level {
        QG_LOG_OFF..=QG_LOG_TRACE => Ok(level),
        _ => Err(Failure::Enum { argument: "level", value: level.into() }),
    }
}

/// Has the messages of the library, and of ONNX Runtime as it uses it, given to a function, in place of the one before: those
/// of `level` (`QG_LOG_`) and graver ones. `context` is given to the function. NULL, or QG_LOG_OFF, switches it off. When this
/// returns, the function that was set before does not run and is not called again.
///
/// Nothing of this is set up before the first call. Messages of guards that are open, or being opened by other threads, begin
/// with the call.
///
/// A program in Rust that has this library linked into it and has a subscriber of `tracing` gets the messages there. If this is
/// called first, that program cannot set a global subscriber later. A forked process has no function until it sets one.
///
/// Errors: QG_ERROR_ENUM; QG_ERROR_WRONG_STATE from the function itself, and in a program whose subscriber of `tracing` gets
/// the messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_log_set(
    callback: qg_log_callback,
    context: *mut c_void,
    level: u32,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        let level = check_level(level)?;
        let callback = callback.filter(|_| level != QG_LOG_OFF);
        set_callback(callback.map(|call| Callback { call, context }), level)
    })
}

/// Has messages kept: those of `level` (`QG_LOG_`) and graver ones, from now on, up to 1,024 of them; what comes when as many
/// wait is counted and lost. The log is yours to free. There may be several, and a function of `qg_log_set` beside them; what
/// is said there of programs in Rust holds here, too.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM; QG_ERROR_WRONG_STATE in a program whose subscriber of `tracing` gets the messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_log_open(level: u32, log: *mut *mut qg_log, error: *mut *mut qg_error) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what this writes.
        let log = unsafe { Out::new(log, "log")? };
        let level = check_level(level)?;
        let kept = Arc::new(Kept { level, waiting: Mutex::default(), arrived: Condvar::new() });
        let keeper: Arc<dyn Keeper> = kept.clone();
        add_keeper(&keeper)?;
        log.write(give(qg_log { process: Process::current(), kept }));
        Ok(())
    })
}

/// Waits for the next message, for `timeout_ms` milliseconds at most; 0 only looks, QG_NO_TIMEOUT waits for as long as it takes.
///
/// `*level` becomes its level, or QG_LOG_OFF if the time passed, and then the texts become NULL. `*target` says where it comes
/// from, `*message` what it says; both are yours to free. `*lost` becomes how many messages were lost since the call before.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_WRONG_STATE after `qg_log_end`, once all messages are taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_log_wait(
    log: *const qg_log,
    timeout_ms: u64,
    level: *mut u32,
    target: *mut *mut qg_text,
    message: *mut *mut qg_text,
    lost: *mut u64,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (log, level, lost) = unsafe { (object(log, "log")?, Out::new(level, "level")?, Out::new(lost, "lost")?) };
        // SAFETY: as above.
        let (target, text) = unsafe { (Out::new(target, "target")?, Out::new(message, "message")?) };
        let (taken, missed) = log.kept.wait(until(timeout_ms))?;
        level.write(taken.as_ref().map_or(QG_LOG_OFF, |taken| taken.level));
        let texts = taken.map(|taken| (qg_text::of(taken.target), qg_text::of(taken.text)));
        let (from, said) = texts.unwrap_or((std::ptr::null_mut(), std::ptr::null_mut()));
        target.write(from);
        text.write(said);
        lost.write(missed);
        Ok(())
    })
}

/// Ends a log: no more messages are kept, and who waits returns.
///
/// Errors: QG_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_log_end(log: *const qg_log, error: *mut *mut qg_error) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what this reads.
        let log = unsafe { object(log, "log")? };
        log.kept.lock().ended = true;
        log.kept.arrived.notify_all();
        Ok(())
    })
}

/// Frees a log, with the messages that are not taken. NULL is fine. No thread may be in a function of the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_log_free(log: *mut qg_log) {
    // SAFETY: the header wants a log or NULL.
    boundary::value((), || unsafe { free_object(log) })
}

impl Drop for qg_log {
    fn drop(&mut self) {
        self.kept.lock().ended = true;
        // So that the level is that of the others: this one is not there any more.
        self.kept = Arc::new(Kept { level: QG_LOG_OFF, waiting: Mutex::default(), arrived: Condvar::new() });
        forget_keepers();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::CStr,
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::{
        super::{
            error::{qg_error_free, qg_error_message, qg_error_status},
            status::{QG_ERROR_ENUM, QG_ERROR_WRONG_STATE, QG_OK},
            subscriber::{QG_LOG_ERROR, QG_LOG_INFO, QG_LOG_WARNING},
            text::{qg_text_data, qg_text_free},
        },
        *,
    };

    /// These tests share the process's log: each looks at messages of its own target.
    struct Seen {
        target: &'static str,
        lines: Mutex<Vec<(u32, String)>>,
        inside: AtomicUsize,
    }

    /// One test at a time has the callback.
    static TURN: Mutex<()> = Mutex::new(());

    unsafe extern "C" fn see(context: *mut c_void, level: u32, target: *const c_char, message: *const c_char) {
        // SAFETY: the context that the tests give, and texts as the header says.
        let (seen, target, message) =
            unsafe { (&*context.cast::<Seen>(), CStr::from_ptr(target), CStr::from_ptr(message)) };
        if target.to_str() != Ok(seen.target) {
            return;
        }
        tracing::error!(target: "inside", "not given to a callback that is running");
        // SAFETY: a place for an error.
        unsafe {
            let mut error = std::ptr::null_mut();
            let status = qg_log_set(None, std::ptr::null_mut(), QG_LOG_OFF, &mut error).code();
            assert_eq!((status, qg_error_status(error)), (QG_ERROR_WRONG_STATE, QG_ERROR_WRONG_STATE));
            qg_error_free(error);
        }
        seen.inside.fetch_add(1, Ordering::Relaxed);
        seen.lines.lock().unwrap().push((level, message.to_str().unwrap().to_owned()));
    }

    fn set(seen: Option<&Seen>, level: u32) {
        let context = seen.map_or(std::ptr::null_mut(), |seen| std::ptr::from_ref(seen).cast_mut().cast());
        let callback: qg_log_callback = if seen.is_some() { Some(see) } else { None };
        // SAFETY: a context that outlives its callback.
        assert!(unsafe { qg_log_set(callback, context, level, std::ptr::null_mut()) }.code() == QG_OK);
    }

    fn seen(target: &'static str) -> Seen {
        Seen { target, lines: Mutex::default(), inside: AtomicUsize::new(0) }
    }

    #[test]
    fn a_callback_gets_what_it_asked_for_until_it_is_taken_away() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen("callback");
        set(None, QG_LOG_OFF);
        set(Some(&seen), QG_LOG_INFO);
        tracing::info!(target: "callback", what = %"the sky", number = 7, "fell\0down");
        tracing::debug!(target: "callback", "less grave");
        tracing::error!(target: "other", "from elsewhere");
        set(Some(&seen), QG_LOG_TRACE);
        tracing::trace!(target: "callback", text = "quoted");
        set(Some(&seen), QG_LOG_OFF);
        tracing::error!(target: "callback", "too late");
        let lines = std::mem::take(&mut *seen.lines.lock().unwrap());
        let expected = [(3, "fell\u{FFFD}down what=the sky number=7"), (5, "text=\"quoted\"")];
        assert_eq!(lines, expected.map(|(level, line)| (level, line.to_owned())));
    }

    /// A context may be freed as soon as its function was taken away.
    #[test]
    fn after_it_was_taken_away_it_does_not_run() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        tracing::warn!(target: "often", "again");
                    }
                });
            }
            for _ in 0..if cfg!(miri) { 3 } else { 50 } {
                let seen = Box::new(seen("often"));
                set(Some(&seen), QG_LOG_WARNING);
                thread::yield_now();
                set(None, QG_LOG_OFF);
                let inside = seen.inside.load(Ordering::Relaxed);
                assert_eq!(seen.lines.lock().unwrap().len(), inside);
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    fn take(log: *const qg_log, timeout_ms: u64) -> Result<(u32, String, String, u64), i32> {
        let (mut level, mut lost) = (77, 77);
        let (mut target, mut message, mut error) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: places for results, which are freed once.
        unsafe {
            let status =
                qg_log_wait(log, timeout_ms, &mut level, &mut target, &mut message, &mut lost, &mut error).code();
            if status != QG_OK {
                assert!(CStr::from_ptr(qg_error_message(error)).to_str().unwrap().contains("after the end of the log"));
                qg_error_free(error);
                return Err(status);
            }
            let text = |text| CStr::from_ptr(qg_text_data(text)).to_str().unwrap().to_owned();
            let taken = (level, text(target), text(message), lost);
            qg_text_free(target);
            qg_text_free(message);
            Ok(taken)
        }
    }

    #[test]
    fn a_log_keeps_what_it_asked_for_and_counts_what_it_has_no_room_for() {
        let mut log = std::ptr::null_mut();
        let mut other = std::ptr::null_mut();
        // SAFETY: logs that are freed once.
        unsafe {
            assert_eq!(qg_log_open(6, &mut log, std::ptr::null_mut()).code(), QG_ERROR_ENUM);
            assert!(qg_log_open(QG_LOG_WARNING, &mut log, std::ptr::null_mut()).code() == QG_OK);
            assert!(qg_log_open(QG_LOG_ERROR, &mut other, std::ptr::null_mut()).code() == QG_OK);
        }
        for number in 0..CAPACITY + 9 {
            tracing::warn!(target: "kept", number, "message");
        }
        let mut taken = Vec::new();
        // Other tests say something, too.
        loop {
            let next = take(log, 0).unwrap();
            if next.0 == QG_LOG_OFF {
                break;
            }
            taken.push(next);
        }
        assert!(taken.iter().map(|next| next.3).sum::<u64>() >= 9 && taken.len() == CAPACITY);
        let own: Vec<_> = taken.iter().filter(|(_, target, ..)| target == "kept").collect();
        assert!(own.iter().enumerate().all(|(index, own)| own.2 == format!("message number={index}")), "{own:?}");
        tracing::warn!(target: "kept", "one more");
        // SAFETY: as above.
        unsafe {
            thread::scope(|scope| {
                let address = log as usize;
                let waiting = scope.spawn(move || {
                    let mut targets = Vec::new();
                    loop {
                        match take(address as *const qg_log, u64::MAX) {
                            Ok(next) => targets.push(next.1),
                            Err(status) => return (targets, status),
                        }
                    }
                });
                assert!(qg_log_end(log, std::ptr::null_mut()).code() == QG_OK);
                let (targets, status) = waiting.join().unwrap();
                assert!(targets.iter().any(|target| target == "kept") && status == QG_ERROR_WRONG_STATE);
            });
            qg_log_free(log);
            tracing::warn!(target: "kept", "to nobody");
            qg_log_free(other);
            qg_log_free(std::ptr::null_mut());
        }
    }
}
