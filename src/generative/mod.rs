//! A model that writes its verdict on a whole conversation (the variant gen).
//!
//! [`Rendered`] is a conversation as the model takes it, or the part of it that fits. [`Job`] is one conversation on its way: it has the engine compute what [`constrained`] says that a decision takes, or
//! [`free`] reads what the model writes by itself.

mod constrained;
mod free;
mod job;
mod rendered;
#[cfg(test)]
mod tests;

pub(crate) use job::Job;
pub(crate) use rendered::Rendered;
