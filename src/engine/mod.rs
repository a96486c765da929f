//! The engine: one worker thread owns the model; streams send it tokens and wait for logits. Each step takes what is
//! waiting into one ragged batch. Token ids are the truth, the KV cache is only a cache: a sequence that loses its
//! blocks is computed again from its ids.
//!
//! A call's way: [`handle`] admits it (`admission`), puts a `command` into a batch (`mailbox`) and waits for its `reply`.
//! The `worker` receives the batch, asks `schedule` for a plan, gives the `sequence`s of it blocks of the pool
//! (`blocks`), runs the model, and commits what came of it.

mod admission;
mod blocks;
mod command;
mod handle;
mod life;
mod limits;
mod mailbox;
mod reply;
mod schedule;
mod sequence;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use command::Read;
pub(crate) use handle::{Engine, Pending, Sequence};
pub(crate) use life::Use;
pub(crate) use limits::Limits;
pub(crate) use mailbox::Batch;
pub(crate) use reply::Notify;
