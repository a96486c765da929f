//! The threads of a session. All of them are started before ONNX Runtime is asked for the session: if it cannot have a
//! thread that it wants, it waits for ever for those that it has.

use std::{
    sync::{Mutex, PoisonError, mpsc},
    thread::{Builder, JoinHandle},
};

use ort::environment::ThreadManager;

use crate::{Error, Result};

/// What the system gives a program's first thread, and ONNX Runtime its own.
const STACK: usize = 8 << 20;

type Work = Box<dyn FnOnce() + Send>;

/// Threads that wait for a session to take them. Those that it does not take end when this is dropped.
pub(super) struct Threads(Mutex<Vec<Idle>>);

struct Idle {
    work: mpsc::Sender<Work>,
    thread: JoinHandle<()>,
}

impl Threads {
    /// Starts all of them, or none.
    pub(super) fn start(count: usize) -> Result<Self> {
        let mut idle = Vec::with_capacity(count);
        for started in 0..count {
            match Idle::start() {
                Ok(thread) => idle.push(thread),
                Err(error) => {
                    idle.into_iter().for_each(Idle::end);
                    return Err(Error::threads(count, started, error));
                }
            }
        }
        Ok(Threads(Mutex::new(idle)))
    }
}

impl Idle {
    fn start() -> std::io::Result<Self> {
        let (work, receiver) = mpsc::channel::<Work>();
        let thread = Builder::new().name("qwenguard-pool".into()).stack_size(STACK).spawn(move || {
            if let Ok(work) = receiver.recv() {
                work();
            }
        })?;
        Ok(Idle { work, thread })
    }

    /// Lets the thread end and waits for that.
    fn end(self) {
        drop(self.work);
        // It does nothing, so it does not panic.
        let _ = self.thread.join();
    }
}

impl ThreadManager for Threads {
    type Thread = JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<JoinHandle<()>> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // More than were asked for would be a new habit of ONNX Runtime's.
        let idle = idle.map_or_else(Idle::start, Ok).map_err(|error| ort::Error::new(error.to_string()))?;
        idle.work.send(Box::new(work)).map_err(|_| ort::Error::new("a thread ended before its work"))?;
        Ok(idle.thread)
    }

    fn join(thread: JoinHandle<()>) -> ort::Result<()> {
        thread.join().map_err(|_| ort::Error::new("a thread of the session panicked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_do_what_they_are_given_or_end() {
        let threads = Threads::start(2).unwrap();
        let (done, results) = mpsc::channel();
        // One more than were started.
        let working = [1, 2, 3].map(|number| {
            let done = done.clone();
            threads.create(move || done.send(number).unwrap()).unwrap()
        });
        working.into_iter().for_each(|thread| Threads::join(thread).unwrap());
        let mut numbers: Vec<i32> = results.try_iter().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
        drop(Threads::start(1).unwrap());
    }
}
