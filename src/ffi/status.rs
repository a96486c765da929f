//! Status codes.

use safer_ffi::derive_ReprC;

/// How a call ended: `QG_OK` or one of the `QG_ERROR_` values. New values may be added; treat one that you do not know as
/// an error.
#[derive_ReprC]
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct qg_status(i32);

/// It worked.
pub const QG_OK: i32 = 0;
/// The ONNX Runtime library was found nowhere; the message lists where. Set ORT_DYLIB_PATH or
/// `qg_guard_options.runtime_library`, or put it beside the library.
pub const QG_ERROR_RUNTIME_NOT_FOUND: i32 = 1;
/// An ONNX Runtime library was found but cannot be used: too old, not loadable, or not the one that the process uses
/// already.
pub const QG_ERROR_RUNTIME_UNUSABLE: i32 = 2;
/// The execution provider that was asked for cannot be had here, or its device was lost.
pub const QG_ERROR_PROVIDER: i32 = 3;
/// A setting of the configuration or of a policy is wrong; the message names it.
pub const QG_ERROR_CONFIG: i32 = 4;
/// A file of the bundle is missing, unreadable or damaged, or was changed while the bundle was opened.
pub const QG_ERROR_BUNDLE_FILE: i32 = 5;
/// The bundle's guard.toml says something that this library cannot accept, or a self-test that is written there failed:
/// the bundle is damaged, or this machine computes wrong.
pub const QG_ERROR_BUNDLE_FIELD: i32 = 6;
/// The bundle was made in a format that this version does not read.
pub const QG_ERROR_BUNDLE_FORMAT: i32 = 7;
/// The conversation cannot be rendered, or there is nothing in it to judge.
pub const QG_ERROR_CONVERSATION: i32 = 8;
/// An argument is out of its documented range; the message names it.
pub const QG_ERROR_ARGUMENT: i32 = 9;
/// The call has no meaning at this moment, such as an answer before its prompt.
pub const QG_ERROR_WRONG_STATE: i32 = 10;
/// The conversation does not fit the model's context, or the KV cache if that is smaller. Nothing was added.
pub const QG_ERROR_CONTEXT_FULL: i32 = 11;
/// A limit is reached that passes with time: as other calls end, or streams are freed. Try again later.
pub const QG_ERROR_BUSY: i32 = 12;
/// Memory could not be had.
pub const QG_ERROR_OUT_OF_MEMORY: i32 = 13;
/// ONNX Runtime failed to load or run the graph, or the model's logits for the tokens are not finite: the bundle, which is
/// then named, is damaged, or this machine computes wrong.
pub const QG_ERROR_INFERENCE: i32 = 14;
/// The guard's engine has stopped after a failure it could not contain, or the guard, stream or queue was made in the process
/// that this one was forked from. Open the guard again.
pub const QG_ERROR_ENGINE_STOPPED: i32 = 15;
/// The deadline of the call passed before its tokens were computed. Nothing was added; try again with more time.
pub const QG_ERROR_DEADLINE_EXCEEDED: i32 = 16;
/// The stream was idle for longer than the configuration allows. Open a new one and give it the conversation again.
pub const QG_ERROR_EXPIRED: i32 = 17;
/// The call was cancelled by `qg_queue_cancel`. Nothing was added.
pub const QG_ERROR_CANCELLED: i32 = 18;
/// A pointer is NULL that must not be; the message names the argument.
pub const QG_ERROR_NULL: i32 = 100;
/// A number is none of the values that the argument can have; the message names the argument.
pub const QG_ERROR_ENUM: i32 = 101;
/// Another thread is using the stream, or it is in a queue: a stream has one user at a time.
pub const QG_ERROR_IN_USE: i32 = 102;
/// A bug of the library. The stream that it happened on stays unusable and gives this status from then on; free it.
pub const QG_ERROR_PANIC: i32 = 103;

/// Every status with its name.
const NAMES: &[(i32, &std::ffi::CStr)] = &[
    (QG_OK, c"QG_OK"),
    (QG_ERROR_RUNTIME_NOT_FOUND, c"QG_ERROR_RUNTIME_NOT_FOUND"),
    (QG_ERROR_RUNTIME_UNUSABLE, c"QG_ERROR_RUNTIME_UNUSABLE"),
    (QG_ERROR_PROVIDER, c"QG_ERROR_PROVIDER"),
    (QG_ERROR_CONFIG, c"QG_ERROR_CONFIG"),
    (QG_ERROR_BUNDLE_FILE, c"QG_ERROR_BUNDLE_FILE"),
    (QG_ERROR_BUNDLE_FIELD, c"QG_ERROR_BUNDLE_FIELD"),
    (QG_ERROR_BUNDLE_FORMAT, c"QG_ERROR_BUNDLE_FORMAT"),
    (QG_ERROR_CONVERSATION, c"QG_ERROR_CONVERSATION"),
    (QG_ERROR_ARGUMENT, c"QG_ERROR_ARGUMENT"),
    (QG_ERROR_WRONG_STATE, c"QG_ERROR_WRONG_STATE"),
    (QG_ERROR_CONTEXT_FULL, c"QG_ERROR_CONTEXT_FULL"),
    (QG_ERROR_BUSY, c"QG_ERROR_BUSY"),
    (QG_ERROR_OUT_OF_MEMORY, c"QG_ERROR_OUT_OF_MEMORY"),
    (QG_ERROR_INFERENCE, c"QG_ERROR_INFERENCE"),
    (QG_ERROR_ENGINE_STOPPED, c"QG_ERROR_ENGINE_STOPPED"),
    (QG_ERROR_DEADLINE_EXCEEDED, c"QG_ERROR_DEADLINE_EXCEEDED"),
    (QG_ERROR_EXPIRED, c"QG_ERROR_EXPIRED"),
    (QG_ERROR_CANCELLED, c"QG_ERROR_CANCELLED"),
    (QG_ERROR_NULL, c"QG_ERROR_NULL"),
    (QG_ERROR_ENUM, c"QG_ERROR_ENUM"),
    (QG_ERROR_IN_USE, c"QG_ERROR_IN_USE"),
    (QG_ERROR_PANIC, c"QG_ERROR_PANIC"),
];

impl qg_status {
    pub(super) const OK: Self = qg_status(QG_OK);

    pub(super) fn new(code: i32) -> Self {
        qg_status(code)
    }

    pub(super) fn code(self) -> i32 {
        self.0
    }

    /// The name of a status, or none if there is no such status.
    pub(super) fn name(value: i32) -> Option<&'static std::ffi::CStr> {
        NAMES.iter().find(|(status, _)| *status == value).map(|(_, name)| *name)
    }
}
