//! Annotations: verdicts on whole conversations.
//!
//! A model of the variant gen writes its verdict. [`job`] is one conversation on its way: it has the engine compute what
//! [`constrained`] says that a decision takes, or [`free`] reads what the model writes by itself. [`crowd`] has many of them
//! on their way. A model of the variant stream judges token by token; [`tokens`] says what its verdicts come to.

mod annotation;
mod constrained;
mod crowd;
mod free;
mod job;
mod tokens;

use std::sync::Arc;

pub use annotation::{AnnotateOptions, Annotation, AnnotationMode, Decoding};

use crate::{
    Result,
    opened::{Heads, Opened},
    process::Owned,
    text::Message,
};

/// Annotates conversations together. The results are in their order; one that fails leaves the others alone.
pub(crate) fn annotate<'m>(
    shared: &Arc<Owned<Opened>>,
    options: AnnotateOptions,
    conversations: impl IntoIterator<Item = &'m [Message]>,
) -> Vec<Result<Annotation>> {
    let conversations = conversations.into_iter();
    match &shared.heads {
        Heads::Gen(model) => crowd::annotate(shared, model, options, conversations),
        Heads::Stream { .. } => tokens::annotate(shared, conversations),
    }
}
