//! `qg_stream`: one conversation being moderated.

use std::{ffi::c_char, sync::Arc};

use safer_ffi::derive_ReprC;

use super::{
    annotation::qg_annotation,
    boundary,
    cast::{Object, Out, OutArray, free_object, object, slice, text},
    conversation::{Conversation, Last},
    failure::{Failure, qg_error},
    guard::{Categories, qg_guard},
    memory::give,
    message::{qg_message, read_messages},
    result::{qg_opinion, qg_prompt_check, qg_token_verdict, qg_update, qg_violation},
    status::qg_status,
    text::qg_text,
};
use crate::{Error, Guard, Policy, Stream, process::Process};

/// One conversation being moderated: light, one user at a time.
#[derive_ReprC]
#[repr(opaque)]
pub struct qg_stream {
    pub(super) conversation: Arc<Conversation>,
}

impl qg_stream {
    fn allocate(guard: Guard, stream: Stream, last: Last) -> *mut qg_stream {
        give(qg_stream { conversation: Arc::new(Conversation::new(guard, stream, last)) })
    }
}

impl Object for qg_stream {
    fn process(&self) -> Process {
        self.conversation.guard.process()
    }
}

impl Drop for qg_stream {
    fn drop(&mut self) {
        self.conversation.withdraw();
    }
}

/// Opens a stream, which is yours to free. `policy` is a TOML document (UTF-8) with the rules for this conversation.
/// Everything about it that is not given is strict, whatever the guard's policy says. A length of 0 means the policy of the
/// guard's configuration, whether or not the pointer is NULL.
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
        let stream = match toml.is_empty() {
            true => guard.guard.stream()?,
            false => guard.guard.stream_with(Policy::from_toml(toml)?)?,
        };
        out.write(qg_stream::allocate(guard.guard.clone(), stream, Last::Nothing));
        Ok(())
    })
}

/// Frees a stream and gives its memory back. NULL is fine; the guard may have been freed before. A call of the stream that is
/// in a queue is cancelled and does not come back, unless a thread in `qg_queue_wait` is just taking it out.
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
/// Thinking between <think> and </think> at the answer's beginning is found and judged by the policy's rules for
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
/// forgotten. For a host that lets its model try again from there. Its last tokens are provisional again, so the horizon may
/// be before `bytes`, even where more was shown.
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

/// Copies the second opinions that the last update asked for, as `qg_stream_tokens` does with tokens; `*count` becomes
/// `qg_update.opinion_count`. `opinions` may be NULL if `capacity` is 0.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_IN_USE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_opinions(
    stream: *const qg_stream,
    opinions: *mut qg_opinion,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, opinions, count) = unsafe {
            (object(stream, "stream")?, OutArray::new(opinions, capacity, "opinions")?, Out::new(count, "count")?)
        };
        stream.conversation.read(|_, last| {
            let asked = last.update().map_or(&[][..], |update| &update.opinions);
            opinions.write(asked.iter().map(qg_opinion::new));
            count.write(asked.len());
            Ok(())
        })
    })
}

/// Gives what one of the opinions of the last update says, in the order of `qg_stream_opinions`. Its categories are those of
/// the guard that was asked, and what it is judged by are the policy's rules for the channel. It is yours to free.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if there is no such opinion; QG_ERROR_IN_USE. If the opinion could not be had:
/// the error for which it could not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_stream_opinion_annotation(
    stream: *const qg_stream,
    opinion: usize,
    annotation: *mut *mut qg_annotation,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (stream, annotation) = unsafe { (object(stream, "stream")?, Out::new(annotation, "annotation")?) };
        stream.conversation.read(|_, last| {
            let opinions = last.update().map_or(&[][..], |update| &update.opinions);
            let missing = || Failure::argument("opinion", format!("{opinion} is not below {}", opinions.len()));
            let said = opinions.get(opinion).ok_or_else(missing)?.annotation.clone()?;
            let asked = stream.conversation.guard.second_opinion().ok_or(Error::EngineStopped)?;
            annotation.write(qg_annotation::allocate(said, Categories::new(&asked)?));
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
