//! How an event loop learns that a queue has something for it: a descriptor, or a callback.

use std::ffi::c_void;

use super::{
    boundary,
    cast::{Out, object},
    failure::qg_error,
    queue::qg_queue,
    signals::Callback,
    status::qg_status,
};

/// Tells that a queue has something to take. Called by any thread, also by threads of the library: a stream's next step waits
/// for it. It only has to wake the thread that takes calls (uv_async_send, PostQueuedCompletionStatus, kevent with
/// EVFILT_USER, a write to a pipe, call_soon_threadsafe): it may call no function of the library. It must return: no exception
/// and no longjmp may leave it, which would end the process.
pub type qg_wake_callback = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// Gives what an event loop of the system waits for while the queue has nothing to take: on Unix a file descriptor that becomes
/// readable, `(int)descriptor`, for epoll, kqueue, poll, uv_poll_t and add_reader of asyncio; on Windows a handle of an event
/// that becomes set, `(HANDLE)(intptr_t)descriptor`, for WaitForMultipleObjects and RegisterWaitForSingleObject.
///
/// It is ready for as long as there is something to take: level-triggered. When it is, call `qg_queue_wait` with a timeout of
/// 0; do not read from it, write to it, reset or close it. It may be ready although `qg_queue_wait` then gives nothing, for
/// one of several parts of a call, or because another thread was faster. It becomes ready for deadlines, too, of which a thread
/// of the library takes care from now on. A loop that is told of changes only (EPOLLET, EV_CLEAR) calls `qg_queue_wait`
/// until that gives fewer calls than there is room for.
///
/// It is the queue's, is always the same, and is closed by `qg_queue_free`: take it out of the loop before. A forked process
/// must not use it.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if the system gives no more descriptors; QG_ERROR_CONFIG if it gives no thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_queue_descriptor(
    queue: *const qg_queue,
    descriptor: *mut i64,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (queue, descriptor) = unsafe { (object(queue, "queue")?, Out::new(descriptor, "descriptor")?) };
        descriptor.write(queue.submitted.signals.descriptor(&queue.submitted.queue)?);
        Ok(())
    })
}

/// Has a function called when the queue has something to take, after it had nothing: in place of the one before, for loops that
/// are woken from other threads and not by descriptors. `context` is given to it. NULL switches it off. If there is something
/// to take already, it is called at once. When this returns, the function that was set before does not run and is not called
/// again; so it is after `qg_queue_free`.
///
/// It is called once, however much comes, until `qg_queue_wait` has found that nothing is left: when it was called, call
/// `qg_queue_wait` with a timeout of 0 until that gives fewer calls than there is room for. It may be called although there is
/// nothing then. It is called for deadlines, too, of which a thread of the library takes care from now on.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_WRONG_STATE from the function itself; QG_ERROR_CONFIG if the system gives no thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_queue_set_wake(
    queue: *const qg_queue,
    callback: qg_wake_callback,
    context: *mut c_void,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what this reads.
        let queue = unsafe { object(queue, "queue")? };
        let callback = callback.map(|call| Callback { call, context });
        queue.submitted.signals.set_wake(&queue.submitted.queue, callback)
    })
}
