//! How commands reach a worker: one at a time, or as a batch that it takes before its next step.

use std::sync::{Arc, mpsc};

use super::command::Command;
use crate::{Error, Result};

/// The sending end. Clones reach the same worker.
#[derive(Clone)]
pub(super) struct Mailbox(Arc<mpsc::Sender<Vec<Command>>>);

/// A mailbox and the worker's end of it.
pub(super) fn mailbox() -> (Mailbox, mpsc::Receiver<Vec<Command>>) {
    let (sender, receiver) = mpsc::channel();
    (Mailbox(Arc::new(sender)), receiver)
}

impl Mailbox {
    /// Sends one command.
    pub(super) fn send(&self, command: Command) -> Result<()> {
        self.0.send(vec![command]).map_err(|_| Error::EngineStopped)
    }
}

/// Commands to any number of engines. Those to one engine reach it as one message when the batch is dropped, so that all
/// of them are there for its next step.
#[derive(Default)]
pub(crate) struct Batch(Vec<(Mailbox, Vec<Command>)>);

impl Batch {
    pub(super) fn push(&mut self, to: &Mailbox, command: Command) {
        match self.0.iter_mut().find(|(known, _)| Arc::ptr_eq(&known.0, &to.0)) {
            Some((_, commands)) => commands.push(command),
            None => self.0.push((to.clone(), vec![command])),
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for (to, commands) in self.0.drain(..) {
            // Replies of an engine that has stopped say so when they are dropped.
            let _ = to.0.send(commands);
        }
    }
}
