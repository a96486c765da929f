//! Calls of streams as values: for many streams at once, and for queues.

use std::ffi::c_void;

use safer_ffi::derive_ReprC;

use super::{
    boundary,
    cast::{OutArray, object, slice},
    conversation::{Conversation, Holding},
    failure::{Failure, qg_error},
    message::{qg_message, read_messages},
    result::{qg_prompt_check, qg_update},
    status::qg_status,
    stream::qg_stream,
};
use crate::{Call, Error, Message, Reply, Result, Stream};

/// `qg_stream_prompt`: `data` is an array of `qg_message`.
pub const QG_CALL_PROMPT: u32 = 0;
/// `qg_stream_next_turn`: `data` is an array of `qg_message`.
pub const QG_CALL_NEXT_TURN: u32 = 1;
/// `qg_stream_push_text`: `data` is text.
pub const QG_CALL_PUSH_TEXT: u32 = 2;
/// `qg_stream_push_thinking`: `data` is text.
pub const QG_CALL_PUSH_THINKING: u32 = 3;
/// `qg_stream_push_tokens`: `data` is an array of uint32_t.
pub const QG_CALL_PUSH_TOKENS: u32 = 4;
/// `qg_stream_finish`: `data` and `length` are not used.
pub const QG_CALL_FINISH: u32 = 5;
/// `qg_stream_truncate`: `length` is how many bytes stay; `data` is not used.
pub const QG_CALL_TRUNCATE: u32 = 6;
/// `qg_stream_truncate_tokens`: `length` is how many tokens stay; `data` is not used.
pub const QG_CALL_TRUNCATE_TOKENS: u32 = 7;

/// One call of a stream.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct qg_call {
    /// The stream, which the call needs for itself.
    pub stream: *mut qg_stream,
    /// What to do: `QG_CALL_`.
    pub kind: u32,
    /// 0.
    pub reserved: u32,
    /// What the call takes, by its kind. NULL is fine if `length` is 0 or the kind does not use it.
    pub data: *const c_void,
    /// How much: bytes of text, messages or tokens; or how much of the answer stays.
    pub length: usize,
}

/// What a call answers.
#[derive_ReprC]
#[repr(C)]
pub struct qg_reply {
    /// How the call ended.
    pub status: qg_status,
    /// 1 if `check` holds the answer, 0 if `update` does.
    pub is_check: u32,
    /// Why it failed: yours to free. NULL if it did not.
    pub error: *mut qg_error,
    /// For a prompt or a next turn that worked; else all 0.
    pub check: qg_prompt_check,
    /// For any other call that worked; else all 0.
    pub update: qg_update,
}

/// A call's input as Rust has it. Texts and tokens are the caller's.
pub(super) enum Input<'a> {
    Prompt(Vec<Message>),
    NextTurn(Vec<Message>),
    Text(&'a [u8]),
    Thinking(&'a [u8]),
    Tokens(&'a [u32]),
    Finish,
    Truncate(usize),
    TruncateTokens(usize),
}

impl Input<'_> {
    pub(super) fn call(&self) -> Call<'_> {
        match self {
            Input::Prompt(messages) => Call::Prompt(messages),
            Input::NextTurn(messages) => Call::NextTurn(messages),
            Input::Text(text) => Call::Text(text),
            Input::Thinking(text) => Call::Thinking(text),
            Input::Tokens(ids) => Call::Tokens(ids),
            Input::Finish => Call::Finish,
            Input::Truncate(bytes) => Call::Truncate(*bytes),
            Input::TruncateTokens(tokens) => Call::TruncateTokens(*tokens),
        }
    }
}

impl qg_call {
    /// # Safety
    /// As the header says of a call.
    pub(super) unsafe fn read(&self) -> Result<(&qg_stream, Input<'_>), Failure> {
        // SAFETY: as the caller's.
        let stream = unsafe { object(self.stream, "call.stream") }?;
        if self.reserved != 0 {
            return Err(Failure::argument("call.reserved", "it is not 0"));
        }
        // SAFETY: as above.
        let text = || unsafe { slice(self.data.cast::<u8>(), self.length, "call.data") };
        // SAFETY: as above.
        let messages =
            || unsafe { read_messages(&stream.conversation.guard, self.data.cast::<qg_message>(), self.length) };
        let input = match self.kind {
            QG_CALL_PROMPT => Input::Prompt(messages()?),
            QG_CALL_NEXT_TURN => Input::NextTurn(messages()?),
            QG_CALL_PUSH_TEXT => Input::Text(text()?),
            QG_CALL_PUSH_THINKING => Input::Thinking(text()?),
            // SAFETY: as above.
            QG_CALL_PUSH_TOKENS => Input::Tokens(unsafe { slice(self.data.cast::<u32>(), self.length, "call.data") }?),
            QG_CALL_FINISH => Input::Finish,
            QG_CALL_TRUNCATE => Input::Truncate(self.length),
            QG_CALL_TRUNCATE_TOKENS => Input::TruncateTokens(self.length),
            kind => return Err(Failure::Enum { argument: "call.kind", value: kind.into() }),
        };
        Ok((stream, input))
    }

    /// # Safety
    /// As the header says of a call.
    unsafe fn hold(&self) -> Result<(Holding<'_>, Input<'_>), Failure> {
        // SAFETY: as the caller's.
        let (stream, input) = unsafe { self.read() }?;
        let conversation: &Conversation = &stream.conversation;
        Ok((conversation.hold()?, input))
    }
}

impl qg_reply {
    pub(super) fn new(mut stream: Holding<'_>, result: Result<Reply>) -> Self {
        match result {
            Ok(Reply::Prompt(check)) => qg_reply { is_check: 1, check: stream.checked(check), ..Default::default() },
            Ok(Reply::Update(update)) => qg_reply { update: stream.updated(update), ..Default::default() },
            Ok(Reply::Annotation(_)) => unreachable!("a call of a stream does not annotate"),
            Err(error) => qg_reply::failed(&error.into()),
        }
    }

    pub(super) fn failed(failure: &Failure) -> Self {
        qg_reply { status: failure.status(), error: qg_error::allocate(failure), ..Default::default() }
    }
}

impl Default for qg_reply {
    fn default() -> Self {
        qg_reply {
            status: qg_status::OK,
            is_check: 0,
            error: std::ptr::null_mut(),
            check: Default::default(),
            update: Default::default(),
        }
    }
}

/// Makes a call of each of many streams and waits for all of them. The model takes them together, which is much faster than
/// one after the other.
///
/// `replies` is an array with room for as many as there are calls, and in their order. One call that fails leaves the others
/// alone: `qg_reply.status` tells, and the error is yours to free. A second call of the same stream fails with
/// QG_ERROR_IN_USE.
///
/// Errors: QG_ERROR_NULL for an array of some length. Everything else is the error of a call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_streams_call(
    calls: *const qg_call,
    call_count: usize,
    replies: *mut qg_reply,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (calls, replies) =
            unsafe { (slice(calls, call_count, "calls")?, OutArray::new(replies, call_count, "replies")?) };
        let mut held = Vec::new();
        let bytes = calls.len().saturating_mul(size_of::<qg_reply>());
        held.try_reserve_exact(calls.len()).map_err(|_| Error::OutOfMemory { bytes, purpose: "calls" })?;
        // SAFETY: as above.
        held.extend(calls.iter().map(|call| unsafe { call.hold() }));
        let ready = held.iter_mut().filter_map(|held| held.as_mut().ok());
        let mut results = Stream::call_all(ready.map(|(stream, input)| (stream.stream(), input.call()))).into_iter();
        let made: Vec<qg_reply> = held
            .into_iter()
            .map(|held| match held {
                Ok((stream, _)) => qg_reply::new(stream, results.next().expect("a result for every call")),
                Err(failure) => qg_reply::failed(&failure),
            })
            .collect();
        replies.write(made.into_iter());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::{
        super::{
            error::{qg_error_free, qg_error_status},
            status::{QG_ERROR_NULL, QG_OK},
        },
        *,
    };

    #[test]
    fn every_call_has_a_reply() {
        let call = qg_call {
            stream: std::ptr::null_mut(),
            kind: QG_CALL_FINISH,
            reserved: 0,
            data: std::ptr::null(),
            length: 0,
        };
        let mut replies = [const { MaybeUninit::<qg_reply>::uninit() }; 2];
        // SAFETY: two calls, room for two replies, and errors that are freed once.
        unsafe {
            let made = qg_streams_call([call; 2].as_ptr(), 2, replies.as_mut_ptr().cast(), std::ptr::null_mut());
            assert!(made.code() == QG_OK);
            for reply in replies {
                let reply = reply.assume_init();
                assert_eq!((reply.status.code(), qg_error_status(reply.error)), (QG_ERROR_NULL, QG_ERROR_NULL));
                assert!(reply.is_check == 0 && reply.update == Default::default());
                qg_error_free(reply.error);
            }
        }
    }
}
