//! Whole conversations judged: one, or many at once. Through a queue: see `queue`.

use std::mem::offset_of;

use safer_ffi::derive_ReprC;

use super::{
    annotation::qg_annotation,
    boundary,
    cast::{Out, OutArray, object, slice},
    failure::{Failure, qg_error},
    grows::{self, Grows},
    guard::qg_guard,
    message::{qg_message, read_messages},
    status::qg_status,
};
use crate::{AnnotateOptions, Annotation, Decoding, Error, Message, Result, TextOverflow};

/// Held to the answer's grammar: the model decides where it can say different things, the rest is given. Always gives a
/// verdict, and probabilities of all decisions.
pub const QG_DECODING_CONSTRAINED: u32 = 0;
/// Held to the grammar, and only the level is decided: one run of the model, without categories and refusal.
pub const QG_DECODING_LABEL_ONLY: u32 = 1;
/// As the official code has it: the likeliest token each time, up to 128 tokens or the end, and what can be read in them.
/// Slower by far, and without probabilities.
pub const QG_DECODING_FREE: u32 = 2;

/// A conversation that does not fit the model's context is an error.
pub const QG_TEXT_OVERFLOW_REFUSE: u32 = 0;
/// The beginning of its last message is judged: as many of the text's tokens as fit, cut between characters. No other message
/// is ever cut: if they leave room for fewer than 16 tokens of it, that is QG_ERROR_CONTEXT_FULL.
pub const QG_TEXT_OVERFLOW_HEAD: u32 = 1;
/// The end of its last message is judged.
pub const QG_TEXT_OVERFLOW_TAIL: u32 = 2;
/// All of its last message is judged, in windows that are as long as fits and overlap by a quarter, each after all other
/// messages. The annotation is that of the gravest window; whether the answer refuses is said by the first one.
pub const QG_TEXT_OVERFLOW_WINDOWS: u32 = 3;

/// How conversations are annotated. Fill it with zeros, which are the defaults, and its size; then set what you want
/// differently.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct qg_annotate_options {
    /// sizeof(qg_annotate_options). It tells which version of this struct the program was built with.
    pub struct_size: u32,
    /// How the verdict is had of a model that writes it: `QG_DECODING_`. It means nothing to a bundle of the variant stream.
    pub decoding: u32,
    /// What happens to a conversation that does not fit the model's context: `QG_TEXT_OVERFLOW_`.
    pub overflow: u32,
    /// 0.
    pub reserved: u32,
}

impl Default for qg_annotate_options {
    fn default() -> Self {
        qg_annotate_options {
            struct_size: size_of::<qg_annotate_options>() as u32,
            decoding: QG_DECODING_CONSTRAINED,
            overflow: QG_TEXT_OVERFLOW_REFUSE,
            reserved: 0,
        }
    }
}

// SAFETY: numbers.
unsafe impl Grows for qg_annotate_options {
    const FIRST: usize = offset_of!(qg_annotate_options, reserved) + size_of::<u32>();
}

/// A conversation to judge.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct qg_conversation {
    /// The messages. NULL is fine if there are none.
    pub messages: *const qg_message,
    /// How many there are.
    pub message_count: usize,
}

/// What came of one of many conversations.
#[derive_ReprC]
#[repr(C)]
pub struct qg_annotation_result {
    /// How it ended.
    pub status: qg_status,
    /// 0.
    pub reserved: u32,
    /// Why it failed: yours to free. NULL if it did not.
    pub error: *mut qg_error,
    /// The annotation: yours to free. NULL if it failed.
    pub annotation: *mut qg_annotation,
}

pub(super) unsafe fn read_options(options: *const qg_annotate_options) -> Result<AnnotateOptions, Failure> {
    // SAFETY: as the caller's.
    let options = unsafe { grows::read(options) }?;
    let decoding = match options.decoding {
        QG_DECODING_CONSTRAINED => Decoding::Constrained,
        QG_DECODING_LABEL_ONLY => Decoding::LabelOnly,
        QG_DECODING_FREE => Decoding::Free,
        value => return Err(Failure::Enum { argument: "options.decoding", value: value.into() }),
    };
    let overflow = match options.overflow {
        QG_TEXT_OVERFLOW_REFUSE => TextOverflow::Refuse,
        QG_TEXT_OVERFLOW_HEAD => TextOverflow::Head,
        QG_TEXT_OVERFLOW_TAIL => TextOverflow::Tail,
        QG_TEXT_OVERFLOW_WINDOWS => TextOverflow::Windows,
        value => return Err(Failure::Enum { argument: "options.overflow", value: value.into() }),
    };
    if options.reserved != 0 {
        return Err(Failure::argument("options.reserved", "it is not 0"));
    }
    Ok(AnnotateOptions { decoding, overflow })
}

impl qg_annotation_result {
    fn new(guard: &qg_guard, result: Result<Annotation, Failure>) -> Self {
        let (status, error, annotation) = match result {
            Ok(annotation) => {
                (qg_status::OK, std::ptr::null_mut(), qg_annotation::allocate(annotation, guard.categories.clone()))
            }
            Err(failure) => (failure.status(), qg_error::allocate(&failure), std::ptr::null_mut()),
        };
        qg_annotation_result { status, reserved: 0, error, annotation }
    }
}

/// Judges a whole conversation, and gives an annotation that is yours to free: of what is asked, if the last message is the
/// user's, else of what is answered. It is for texts that are there already; what is being written a stream judges.
/// `options` may be NULL: the defaults.
///
/// A bundle of the variant gen writes its verdict. The conversation is rendered by the checkpoint's own template, as it is.
/// All callers' conversations are computed together, and what they begin with in common once.
///
/// A bundle of the variant stream judges the last message of the user, or every token of the answer: the annotation is the
/// worst that two tokens in a row agree on. Refusals are not known then.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM; QG_ERROR_ARGUMENT if a text is not UTF-8, or a size or `reserved` of the options is
/// wrong; QG_ERROR_CONVERSATION if there is no message, or the template refuses one or leaves out a part of it: the message
/// names its role and its index, counted from 0; of a bundle of the variant stream also if there is nothing to judge;
/// QG_ERROR_CONTEXT_FULL if conversation and answer do not fit the model's context; those of the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_annotate(
    guard: *const qg_guard,
    messages: *const qg_message,
    message_count: usize,
    options: *const qg_annotate_options,
    annotation: *mut *mut qg_annotation,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, options, annotation) =
            unsafe { (object(guard, "guard")?, read_options(options)?, Out::new(annotation, "annotation")?) };
        // SAFETY: as above.
        let messages = unsafe { read_messages(&guard.guard, messages, message_count) }?;
        let made = guard.guard.annotate(&messages, &options)?;
        annotation.write(qg_annotation::allocate(made, guard.categories.clone()));
        Ok(())
    })
}

/// Judges many conversations together, each as `qg_guard_annotate` does, and waits for all of them. That is much faster than
/// one after the other. Those that begin alike share more of the computation if they are close to each other.
///
/// `results` is an array with room for as many as there are conversations, and in their order. One that fails leaves the
/// others alone: `qg_annotation_result.status` tells. Errors and annotations are yours to free.
///
/// Errors: QG_ERROR_NULL for `guard` or an array of some length; QG_ERROR_ENUM or QG_ERROR_ARGUMENT for the options;
/// QG_ERROR_OUT_OF_MEMORY; QG_ERROR_ENGINE_STOPPED after a fork. Everything else is the error of a conversation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_annotate_all(
    guard: *const qg_guard,
    conversations: *const qg_conversation,
    conversation_count: usize,
    options: *const qg_annotate_options,
    results: *mut qg_annotation_result,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, conversations, options, results) = unsafe {
            (
                object(guard, "guard")?,
                slice(conversations, conversation_count, "conversations")?,
                read_options(options)?,
                OutArray::new(results, conversation_count, "results")?,
            )
        };
        let mut read: Vec<Result<Vec<Message>, Failure>> = Vec::new();
        let bytes = conversations.len().saturating_mul(size_of::<qg_annotation_result>());
        read.try_reserve_exact(conversations.len())
            .map_err(|_| Error::OutOfMemory { bytes, purpose: "conversations" })?;
        read.extend(conversations.iter().map(|conversation| {
            // SAFETY: as above.
            unsafe { read_messages(&guard.guard, conversation.messages, conversation.message_count) }
        }));
        let whole = read.iter().flatten().map(Vec::as_slice);
        let mut annotations = guard.guard.annotate_all(whole, &options).into_iter();
        let made: Vec<qg_annotation_result> = read
            .into_iter()
            .map(|read| read.and_then(|_| Ok(annotations.next().expect("a result for every conversation")?)))
            .map(|result| qg_annotation_result::new(guard, result))
            .collect();
        results.write(made.into_iter());
        Ok(())
    })
}
