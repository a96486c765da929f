//! Commands that reach an engine together.

use std::{cell::RefCell, sync::mpsc};

use super::{Engine, worker::Command};

/// Makes what `begin` begins one command to each engine, so that all of it is there for the next step. It must not wait for
/// an engine meanwhile.
pub(crate) fn together<T>(begin: impl FnOnce() -> T) -> T {
    let _sent_at_the_end = Together::start();
    begin()
}

/// Sends what was kept when it is dropped.
pub(super) struct Together;

/// Commands to one engine.
struct Kept {
    engine: *const Engine,
    to: mpsc::Sender<Command>,
    commands: Vec<Command>,
}

thread_local! {
    /// What this thread is going to send.
    static KEPT: RefCell<Option<Vec<Kept>>> = const { RefCell::new(None) };
}

impl Together {
    /// Starts keeping commands, unless the thread does so already.
    fn start() -> Option<Self> {
        KEPT.with_borrow_mut(|kept| kept.is_none().then(|| *kept = Some(Vec::new()))).map(|()| Together)
    }

    /// Keeps a command, or gives it back if it is to be sent at once.
    pub(super) fn keep(to: &mpsc::Sender<Command>, engine: *const Engine, command: Command) -> Option<Command> {
        let mut command = Some(command);
        // A thread that is ending, and drops what it had of its own, keeps nothing any more.
        let _ = KEPT.try_with(|kept| {
            let Some(kept) = &mut *kept.borrow_mut() else { return };
            let commands = command.take();
            match kept.iter_mut().find(|kept| kept.engine == engine) {
                Some(kept) => kept.commands.extend(commands),
                None => kept.push(Kept { engine, to: to.clone(), commands: commands.into_iter().collect() }),
            }
        });
        command
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        for Kept { to, commands, .. } in KEPT.take().into_iter().flatten() {
            // Replies of an engine that has stopped say so when they are dropped.
            let _ = to.send(Command::Together(commands));
        }
    }
}
