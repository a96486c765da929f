//! `qg_stream`: one conversation being moderated.

use std::{
    ffi::c_char,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard, TryLockError, Weak},
};

use safer_ffi::derive_ReprC;

use super::{
    boundary,
    cast::{Object, Out, OutArray, free_object, give, object, slice, text},
    error::qg_error,
    guard::qg_guard,
    queue::Submitted,
    result::{qg_prompt_check, qg_token_verdict, qg_update, qg_violation},
    status::{Failure, qg_status},
    text::qg_text,
};
use crate::{Error, Guard, Message, Policy, PromptCheck, Result, Stream, Update, process::Process, text::size};

/// One conversation being moderated: light, one user at a time.
#[derive_ReprC]
#[repr(opaque)]
pub struct qg_stream {
    pub(super) conversation: Arc<Conversation>,
}

/// What a handle stands for. A queue that has the stream knows it too.
pub(super) struct Conversation {
    pub(super) guard: Guard,
    /// Its readers are the functions of `const qg_stream *`, its writers the others. Nobody waits for it.
    held: RwLock<Held>,
}

struct Held {
    place: Place,
    last: Last,
}

#[expect(clippy::large_enum_variant, reason = "there is one for every stream, and it is mostly here")]
enum Place {
    Here(Stream),
    /// A queue has it, for the call of this ticket.
    Queued(Weak<Submitted>, u64),
    /// A panic took it, while a queue had it.
    Lost,
}

/// What the last call that succeeded answered, for those who ask for details.
#[derive(Clone)]
enum Last {
    Nothing,
    Check(PromptCheck),
    Update(Update),
}

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

impl qg_stream {
    fn allocate(guard: Guard, stream: Stream, last: Last) -> *mut qg_stream {
        let held = RwLock::new(Held { place: Place::Here(stream), last });
        give(qg_stream { conversation: Arc::new(Conversation { guard, held }) })
    }
}

impl Object for qg_stream {
    fn process(&self) -> Process {
        self.conversation.guard.process()
    }
}

impl Drop for qg_stream {
    fn drop(&mut self) {
        if let Place::Queued(queue, ticket) = &self.conversation.held_at_last().place
            && let Some(queue) = queue.upgrade()
        {
            drop(queue.withdraw(*ticket));
        }
    }
}

impl Conversation {
    fn read<T>(&self, body: impl FnOnce(&Stream, &Last) -> Result<T, Failure>) -> Result<T, Failure> {
        match &*self.held.try_read().map_err(locked)? {
            Held { place: Place::Here(stream), last } => body(stream, last),
            Held { place, .. } => Err(place.failure()),
        }
    }

    /// Takes the stream for itself.
    pub(super) fn hold(&self) -> Result<Holding<'_>, Failure> {
        let held = self.held.try_write().map_err(locked)?;
        match &held.place {
            Place::Here(_) => Ok(Holding { guard: &self.guard, held }),
            place => Err(place.failure()),
        }
    }

    /// Waits, which is for moments: for those that look at a stream that is in a queue.
    fn held_at_last(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the stream to a queue.
    pub(super) fn lend(&self, queue: Weak<Submitted>, ticket: u64) -> Result<Stream, Failure> {
        let mut holding = self.hold()?;
        match std::mem::replace(&mut holding.held.place, Place::Queued(queue, ticket)) {
            Place::Here(stream) => Ok(stream),
            place => Err(place.failure()),
        }
    }

    /// After a panic that took the stream: it does not come back.
    pub(super) fn lose(&self) {
        self.held_at_last().place = Place::Lost;
    }

    /// Takes the stream back from a queue.
    pub(super) fn take_back(&self, stream: Stream) -> Holding<'_> {
        let mut held = self.held_at_last();
        held.place = Place::Here(stream);
        Holding { guard: &self.guard, held }
    }

    /// Makes a call that answers with an update.
    fn update(&self, call: impl FnOnce(&mut Stream) -> Result<Update>) -> Result<qg_update, Failure> {
        let mut holding = self.hold()?;
        let update = call(holding.stream())?;
        Ok(holding.updated(update))
    }

    /// Makes a call that answers with a prompt's verdict.
    fn check(&self, call: impl FnOnce(&mut Stream) -> Result<PromptCheck>) -> Result<qg_prompt_check, Failure> {
        let mut holding = self.hold()?;
        let check = call(holding.stream())?;
        Ok(holding.checked(check))
    }
}

/// A stream that nobody else can use now.
pub(super) struct Holding<'a> {
    guard: &'a Guard,
    held: RwLockWriteGuard<'a, Held>,
}

impl Holding<'_> {
    pub(super) fn stream(&mut self) -> &mut Stream {
        match &mut self.held.place {
            Place::Here(stream) => stream,
            Place::Queued(..) | Place::Lost => unreachable!("a stream that is held is nowhere else"),
        }
    }

    /// Keeps what the last call answered, and gives it as C has it.
    pub(super) fn updated(&mut self, update: Update) -> qg_update {
        let result = qg_update::new(&update, self.guard);
        self.held.last = Last::Update(update);
        result
    }

    /// As `updated`.
    pub(super) fn checked(&mut self, check: PromptCheck) -> qg_prompt_check {
        let result = qg_prompt_check::new(&check, self.guard);
        self.held.last = Last::Check(check);
        result
    }
}

impl Place {
    /// Why a stream that is not here cannot be used.
    fn failure(&self) -> Failure {
        match self {
            Place::Here(_) | Place::Queued(..) => Failure::InUse,
            Place::Lost => unfinished(),
        }
    }
}

impl Last {
    fn update(&self) -> Option<&Update> {
        match self {
            Last::Update(update) => Some(update),
            Last::Nothing | Last::Check(_) => None,
        }
    }
}

fn locked<T>(error: TryLockError<T>) -> Failure {
    match error {
        TryLockError::WouldBlock => Failure::InUse,
        TryLockError::Poisoned(_) => unfinished(),
    }
}

fn unfinished() -> Failure {
    Failure::Panic("an earlier call on this stream did not come to its end".into())
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
    for message in messages {
        // SAFETY: the header wants texts in messages.
        let (role, content) = unsafe {
            (
                text(message.role, message.role_length, "messages.role")?,
                text(message.content, message.content_length, "messages.content")?,
            )
        };
        read.push(Message::new(size::copy_text(role)?, size::copy_text(content)?));
    }
    Ok(read)
}

/// Opens a stream, which is yours to free. `policy` is a TOML document (UTF-8) with the rules for this conversation; NULL and
/// 0 mean the policy of the guard's configuration. Everything about it that is not given is strict, whatever the guard's
/// policy says.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT; QG_ERROR_CONFIG if the policy is wrong or names a category that the model does
/// not have; QG_ERROR_BUSY if as many streams are open as the configuration allows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_open(
    guard: *const qg_guard,
    policy: *const c_char,
    policy_length: usize,
    stream: *mut *mut qg_stream,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, toml, out) =
            unsafe { (object(guard, "guard")?, text(policy, policy_length, "policy")?, Out::new(stream, "stream")?) };
        let stream = match policy.is_null() {
            true => guard.guard.stream()?,
            false => guard.guard.stream_with(Policy::from_toml(toml)?)?,
        };
        out.write(qg_stream::allocate(guard.guard.clone(), stream, Last::Nothing));
        Ok(())
    })
}

/// Frees a stream and gives its memory back. NULL is fine; the guard may have been freed before. A call of the stream that is
/// in a queue is given up and does not come back, unless a thread in `qg_queue_wait` is just taking it out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_free(stream: *mut qg_stream) {
    // SAFETY: the header wants a stream or NULL.
    boundary::value((), || unsafe { free_object(stream) })
}

/// Gives the conversation, and judges its last message of the user.
///
/// The conversation is rendered by the checkpoint's own template, thinking off. A message of the assistant at the end is the
/// beginning of the answer: it is given to the model but not judged, and so is what stands between the judged message and the
/// answer, such as results of tools. The policy's `prompt.roles = ["user", "tool"]` has the last message of either role
/// judged; results that the template puts into one turn are judged together. On a stream that had a prompt this starts the
/// next turn; only what differs from the conversation so far is computed.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if a text is not UTF-8; QG_ERROR_CONVERSATION if there is no message to judge, the
/// template refuses the messages, or it leaves one out or a part of it, as it does with roles that it does not know: the
/// message names role and index, counted from 0; QG_ERROR_CONTEXT_FULL if the prompt is longer than the model's context,
/// which is known before all of it is tokenized; QG_ERROR_IN_USE; those of the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_prompt(
    stream: *mut qg_stream,
    messages: *const qg_message,
    message_count: usize,
    check: *mut qg_prompt_check,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, check) = unsafe { (object(stream, "stream")?, Out::new(check, "check")?) };
        // SAFETY: as above.
        let messages = unsafe { read_messages(&stream.conversation.guard, messages, message_count) }?;
        check.write(stream.conversation.check(|stream| stream.prompt(&messages))?);
        Ok(())
    })
}

/// Goes on with the conversation after `qg_stream_finish`: the messages so far, the answer as it was pushed, and these
/// messages. The last of the user is judged, as `qg_stream_prompt` says.
///
/// Errors: QG_ERROR_WRONG_STATE before the end of the answer; QG_ERROR_CONVERSATION also if the answer came as tokens and is
/// not UTF-8; and as `qg_stream_prompt`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_next_turn(
    stream: *mut qg_stream,
    messages: *const qg_message,
    message_count: usize,
    check: *mut qg_prompt_check,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, check) = unsafe { (object(stream, "stream")?, Out::new(check, "check")?) };
        // SAFETY: as above.
        let messages = unsafe { read_messages(&stream.conversation.guard, messages, message_count) }?;
        check.write(stream.conversation.check(|stream| stream.next_turn(&messages))?);
        Ok(())
    })
}

/// Gives the next piece of the answer's text, and judges its tokens. The piece may begin and end anywhere, even inside a
/// character. After `QG_DECISION_STOP` further text is still judged: stopping is yours to do.
///
/// A think block between <think> and </think> at the answer's beginning is found and judged by the policy's rules for
/// thinking.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if the text is not UTF-8 (the message says at which byte of the answer), has more
/// than 1 MiB, or the bundle's tokenizer cannot take text in pieces; QG_ERROR_WRONG_STATE before the prompt, after tokens or
/// after the end of the answer; QG_ERROR_CONTEXT_FULL if the text does not fit the model's context; QG_ERROR_IN_USE;
/// those of the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_push_text(
    stream: *mut qg_stream,
    text: *const c_char,
    text_length: usize,
    update: *mut qg_update,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, text, update) = unsafe {
            (object(stream, "stream")?, slice(text.cast::<u8>(), text_length, "text")?, Out::new(update, "update")?)
        };
        update.write(stream.conversation.update(|stream| stream.push_text(text))?);
        Ok(())
    })
}

/// As `qg_stream_push_text`, for a piece of thinking from a host that knows it as such: no tag in it means anything. The first
/// `qg_stream_push_text` ends the thinking.
///
/// Errors: as `qg_stream_push_text`; QG_ERROR_WRONG_STATE also if the answer has begun already or the template has no place
/// for thinking.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_push_thinking(
    stream: *mut qg_stream,
    text: *const c_char,
    text_length: usize,
    update: *mut qg_update,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, text, update) = unsafe {
            (object(stream, "stream")?, slice(text.cast::<u8>(), text_length, "text")?, Out::new(update, "update")?)
        };
        update.write(stream.conversation.update(|stream| stream.push_thinking(text))?);
        Ok(())
    })
}

/// Gives the next tokens of the answer, from a model with the guard's own vocabulary, and judges each of them. None of them is
/// provisional. If the first is the tokenizer's <think>, thinking goes up to its </think>; the two tags and newlines right
/// after them are not judged.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT for an id that is no token or more than 1,048,576 of them; QG_ERROR_WRONG_STATE
/// before the prompt, after text or after the end of the answer; QG_ERROR_CONTEXT_FULL if the tokens do not fit the model's
/// context; QG_ERROR_IN_USE; those of the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_push_tokens(
    stream: *mut qg_stream,
    ids: *const u32,
    id_count: usize,
    update: *mut qg_update,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, ids, update) =
            unsafe { (object(stream, "stream")?, slice(ids, id_count, "ids")?, Out::new(update, "update")?) };
        update.write(stream.conversation.update(|stream| stream.push_tokens(ids))?);
        Ok(())
    })
}

/// Says that the answer is complete: what was provisional becomes final. Nothing can be pushed afterwards.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_WRONG_STATE before the prompt or after the end of the answer; QG_ERROR_ARGUMENT if the text
/// ends inside a character (the message says at which byte); QG_ERROR_CONTEXT_FULL; QG_ERROR_IN_USE; those of the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_finish(
    stream: *mut qg_stream,
    update: *mut qg_update,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, update) = unsafe { (object(stream, "stream")?, Out::new(update, "update")?) };
        update.write(stream.conversation.update(Stream::finish)?);
        Ok(())
    })
}

/// Cuts the answer back to its first `bytes` bytes, as if nothing after them had ever come; a violation after them is
/// forgotten. For a host that lets its model try again from there.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if the answer is shorter, or that is inside a character or, for pushed tokens,
/// inside a token; QG_ERROR_WRONG_STATE before the prompt; QG_ERROR_IN_USE; those of the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_truncate(
    stream: *mut qg_stream,
    bytes: usize,
    update: *mut qg_update,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, update) = unsafe { (object(stream, "stream")?, Out::new(update, "update")?) };
        update.write(stream.conversation.update(|stream| stream.truncate(bytes))?);
        Ok(())
    })
}

/// As `qg_stream_truncate`, to the answer's first `tokens` tokens, as `qg_token_verdict.index` counts them.
///
/// Errors: as `qg_stream_truncate`; QG_ERROR_ARGUMENT also if its text has no place between characters there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_truncate_tokens(
    stream: *mut qg_stream,
    tokens: usize,
    update: *mut qg_update,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, update) = unsafe { (object(stream, "stream")?, Out::new(update, "update")?) };
        update.write(stream.conversation.update(|stream| stream.truncate_tokens(tokens))?);
        Ok(())
    })
}

/// Gives another stream with the same conversation so far, which goes its own way from here and is yours to free. It shares
/// the cache of what is common, so that several drafts of an answer cost their own tokens only.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_BUSY if as many streams are open as the configuration allows; QG_ERROR_IN_USE;
/// QG_ERROR_EXPIRED; QG_ERROR_ENGINE_STOPPED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_fork(
    stream: *const qg_stream,
    fork: *mut *mut qg_stream,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, fork) = unsafe { (object(stream, "stream")?, Out::new(fork, "fork")?) };
        let (forked, last) = stream.conversation.read(|stream, last| Ok((stream.fork()?, last.clone())))?;
        fork.write(qg_stream::allocate(stream.conversation.guard.clone(), forked, last));
        Ok(())
    })
}

/// Tells how many tokens of the model's context the conversation uses so far, those of the template included: 0 before the
/// first prompt. With engine.overflow = "restart" only the part of the answer counts that the model still sees. Of a stream
/// that has expired it tells what it had.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_IN_USE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_context_used(
    stream: *const qg_stream,
    tokens: *mut usize,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, tokens) = unsafe { (object(stream, "stream")?, Out::new(tokens, "tokens")?) };
        tokens.write(stream.conversation.read(|stream, _| Ok(stream.context_used()))?);
        Ok(())
    })
}

/// Copies the tokens that the last update judged, in order: as many as `capacity` allows. `*count` becomes how many there are,
/// which is `qg_update.token_count`, and 0 if the last call that succeeded was not one with an update. `tokens` may be NULL if
/// `capacity` is 0.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_IN_USE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_tokens(
    stream: *const qg_stream,
    tokens: *mut qg_token_verdict,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, tokens, count) = unsafe {
            (object(stream, "stream")?, OutArray::new(tokens, capacity, "tokens")?, Out::new(count, "count")?)
        };
        stream.conversation.read(|_, last| {
            let judged = last.update().map_or(&[][..], |update| &update.tokens);
            tokens.write(judged.iter().map(|token| qg_token_verdict::new(token, &stream.conversation.guard)));
            count.write(judged.len());
            Ok(())
        })
    })
}

/// Copies the places that the last update found flagged, as `qg_stream_tokens` does with tokens; `*count` becomes
/// `qg_update.flag_count`. `flags` may be NULL if `capacity` is 0.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_IN_USE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_flags(
    stream: *const qg_stream,
    flags: *mut qg_violation,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, flags, count) =
            unsafe { (object(stream, "stream")?, OutArray::new(flags, capacity, "flags")?, Out::new(count, "count")?) };
        stream.conversation.read(|_, last| {
            let found = last.update().map_or(&[][..], |update| &update.flags);
            flags.write(found.iter().map(|flag| qg_violation::new(flag, &stream.conversation.guard)));
            count.write(found.len());
            Ok(())
        })
    })
}

/// Gives the rule of the policy that fired, by the names of its settings, such as "answer.strict: 2 consecutive": for the
/// violation of the last update, or for what the last prompt's verdict found. The text is yours to free.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_WRONG_STATE if the last call that succeeded found nothing; QG_ERROR_IN_USE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_rule(
    stream: *const qg_stream,
    rule: *mut *mut qg_text,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, rule) = unsafe { (object(stream, "stream")?, Out::new(rule, "rule")?) };
        stream.conversation.read(|_, last| {
            let found = match last {
                Last::Nothing => None,
                Last::Check(check) => check.finding.as_ref().map(|finding| &finding.rule),
                Last::Update(update) => update.violation.as_ref().map(|violation| &violation.rule),
            };
            let nothing = Error::WrongState { call: "rule", state: "where no rule applies" };
            rule.write(qg_text::allocate(found.ok_or(nothing)?));
            Ok(())
        })
    })
}

/// As `qg_stream_rule`, for one of the flags of the last update, in the order of `qg_stream_flags`.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if there is no such flag; QG_ERROR_IN_USE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_flag_rule(
    stream: *const qg_stream,
    flag: usize,
    rule: *mut *mut qg_text,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, rule) = unsafe { (object(stream, "stream")?, Out::new(rule, "rule")?) };
        stream.conversation.read(|_, last| {
            let flags = last.update().map_or(&[][..], |update| &update.flags);
            let missing = || Failure::argument("flag", format!("{flag} is not below {}", flags.len()));
            rule.write(qg_text::allocate(flags.get(flag).map(|flag| &flag.rule).ok_or_else(missing)?));
            Ok(())
        })
    })
}
