//! Annotations: verdicts on whole conversations, with bundles of both variants.
//!
//! [`part`] is what of a conversation is judged at once, [`work`] one such part on its way: past a model that writes its
//! verdict (`generative`), or past one that judges token by token ([`tokens`]). [`crowd`] has many of them on their way,
//! [`begun`] those of one conversation, for queues.

mod begun;
mod crowd;
mod part;
mod tokens;
mod work;

pub(crate) use begun::BegunAnnotation;
pub(crate) use crowd::annotate;
