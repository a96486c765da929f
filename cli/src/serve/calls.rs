//! Calls of the guard as requests make them: with a deadline, and long texts tokenized where nobody else waits. That a guard
//! has failed for good is noted.

use std::{
    future::Future,
    mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use qwenguard::{AnnotateOptions, Annotation, Call, Error, Guard, Message, Reply, Result, Stream};
use tokio::{task::block_in_place, time::timeout};

use super::heard::Heard;

/// From how many bytes on tokenizing is work for a thread that nobody else waits for.
const LONG: usize = 4096;

/// What all calls of a guard have in common.
#[derive(Clone)]
pub(crate) struct Terms {
    deadline: Duration,
    /// Whether texts of what is found are in the log.
    logs_texts: bool,
    has_failed: Arc<AtomicBool>,
}

impl Terms {
    pub(crate) fn new(deadline: Duration, logs_texts: bool) -> Self {
        Terms { deadline, logs_texts, has_failed: Arc::default() }
    }

    /// Whether the guard answers nothing any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Waits for a call. Its first poll tokenizes its text.
    async fn wait<T>(&self, is_long: bool, call: impl Future<Output = Result<T>>) -> Result<T> {
        let mut call = pin!(call);
        let mut is_first = is_long;
        let polled = std::future::poll_fn(|context| match mem::take(&mut is_first) {
            true => block_in_place(|| call.as_mut().poll(context)),
            false => call.as_mut().poll(context),
        });
        let result = timeout(self.deadline, polled).await.unwrap_or(Err(Error::DeadlineExceeded));
        if matches!(result, Err(Error::EngineStopped | Error::Provider { .. })) {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// A stream whose calls have a deadline. A call that is given up leaves it as it was.
pub(crate) struct Judge {
    stream: Stream,
    terms: Terms,
    /// What was said, if it is for the log.
    heard: Option<Heard>,
}

impl Judge {
    pub(crate) fn new(stream: Stream, terms: Terms) -> Self {
        let heard = terms.logs_texts.then(Heard::default);
        Judge { stream, terms, heard }
    }

    pub(crate) async fn call(&mut self, call: Call<'_>) -> Result<Reply> {
        let is_long = length(&call) >= LONG;
        let reply = self.terms.wait(is_long, self.stream.call_async(call)).await?;
        if let Some(heard) = &mut self.heard {
            heard.take(call, &reply);
        }
        Ok(reply)
    }

    /// Another stream that goes on from here.
    pub(crate) fn fork(&self) -> Result<Judge> {
        Ok(Judge { stream: self.stream.fork()?, terms: self.terms.clone(), heard: self.heard.clone() })
    }
}

/// Judges a whole conversation.
pub(crate) async fn annotate(guard: &Guard, messages: &[Message], terms: &Terms) -> Result<Annotation> {
    let options = AnnotateOptions::default();
    let judged = guard.annotate_async(messages, &options);
    let annotation = terms.wait(length(&Call::Prompt(messages)) >= LONG, judged).await?;
    if terms.logs_texts
        && annotation.finding.is_some()
        && let Some(last) = messages.last()
    {
        tracing::info!(text = last.content, "text of an annotation");
    }
    Ok(annotation)
}

fn length(call: &Call) -> usize {
    match call {
        Call::Prompt(messages) | Call::NextTurn(messages) => messages.iter().map(|message| message.content.len()).sum(),
        Call::Text(text) | Call::Thinking(text) => text.len(),
        _ => 0,
    }
}
