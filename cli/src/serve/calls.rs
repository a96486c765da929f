//! Calls of the guard as requests make them: with a deadline, and long texts tokenized where nobody else waits.

use std::{future::Future, mem, pin::pin, time::Duration};

use qwenguard::{AnnotateOptions, Annotation, Call, Error, Guard, Message, Reply, Result, Stream};
use tokio::{task::block_in_place, time::timeout};

/// From how many bytes on tokenizing is work for a thread that nobody else waits for.
const LONG: usize = 4096;

/// A stream whose calls have a deadline. A call that is given up leaves it as it was.
pub(crate) struct Judge {
    stream: Stream,
    deadline: Duration,
}

impl Judge {
    pub(crate) fn new(stream: Stream, deadline: Duration) -> Self {
        Judge { stream, deadline }
    }

    pub(crate) async fn call(&mut self, call: Call<'_>) -> Result<Reply> {
        let is_long = length(&call) >= LONG;
        by(self.deadline, is_long, self.stream.call_async(call)).await
    }

    /// Another stream that goes on from here.
    pub(crate) fn fork(&self) -> Result<Judge> {
        Ok(Judge { stream: self.stream.fork()?, deadline: self.deadline })
    }
}

/// Judges a whole conversation.
pub(crate) async fn annotate(guard: &Guard, messages: &[Message], deadline: Duration) -> Result<Annotation> {
    let options = AnnotateOptions::default();
    by(deadline, length(&Call::Prompt(messages)) >= LONG, guard.annotate_async(messages, &options)).await
}

/// The first poll of a call tokenizes its text.
async fn by<T>(deadline: Duration, is_long: bool, call: impl Future<Output = Result<T>>) -> Result<T> {
    let mut call = pin!(call);
    let mut is_first = is_long;
    let polled = std::future::poll_fn(|context| match mem::take(&mut is_first) {
        true => block_in_place(|| call.as_mut().poll(context)),
        false => call.as_mut().poll(context),
    });
    timeout(deadline, polled).await.unwrap_or(Err(Error::DeadlineExceeded))
}

fn length(call: &Call) -> usize {
    match call {
        Call::Prompt(messages) | Call::NextTurn(messages) => messages.iter().map(|message| message.content.len()).sum(),
        Call::Text(text) | Call::Thinking(text) => text.len(),
        _ => 0,
    }
}
