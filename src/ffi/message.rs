//! `qg_message`: what was said before the answer.

use std::ffi::c_char;

use safer_ffi::derive_ReprC;

use super::{cast::slice, failure::Failure};
use crate::{Error, Guard, Message, text::size};

/// A message of a conversation.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct qg_message {
    /// "system" or "developer", which is the same, "user", "assistant", "tool" or what else the model's template knows, in
    /// UTF-8: exactly so, and at most 64 bytes. It need not end with a NUL.
    pub role: *const c_char,
    /// Its length in bytes.
    pub role_length: usize,
    /// The text, in UTF-8. It need not end with a NUL. Special tokens in it, such as <|im_end|>, are text: nobody can close
    /// their own turn.
    pub content: *const c_char,
    /// Its length in bytes.
    pub content_length: usize,
}

/// Messages for a stream of this guard. Nothing is copied of what is too long for its context.
pub(super) unsafe fn read_messages(
    guard: &Guard,
    messages: *const qg_message,
    count: usize,
) -> Result<Vec<Message>, Failure> {
    // SAFETY: as the caller's.
    let messages = unsafe { slice(messages, count, "messages") }?;
    guard.shared.check_lengths(count, 0)?;
    let lengths = messages.iter().map(|message| message.role_length.saturating_add(message.content_length));
    guard.shared.check_lengths(count, lengths.fold(0, usize::saturating_add))?;
    let mut read = Vec::new();
    let bytes = size_of::<Message>() * count;
    read.try_reserve_exact(count).map_err(|_| Error::OutOfMemory { bytes, purpose: "messages" })?;
    for (index, message) in messages.iter().enumerate() {
        // SAFETY: the header wants texts in messages.
        let (role, content) = unsafe {
            (
                text(message.role, message.role_length, "messages.role", index)?,
                text(message.content, message.content_length, "messages.content", index)?,
            )
        };
        read.push(Message::new(size::copy_text(role)?, size::copy_text(content)?));
    }
    Ok(read)
}

unsafe fn text<'a>(data: *const c_char, length: usize, field: &'static str, index: usize) -> Result<&'a str, Failure> {
    // SAFETY: as the caller's.
    let bytes = unsafe { slice(data.cast::<u8>(), length, field) }?;
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Failure::argument(field, format!("message {index} (counted from 0) is not UTF-8 at byte {at}"))
    })
}
