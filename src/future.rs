//! Calls of streams, and annotations, as futures. They need no runtime: whatever polls them is woken by the engine.
//!
//! A future does nothing before it is polled. Its first poll renders and tokenizes, in the thread that polls, as
//! [`CompletionQueue::submit`](crate::CompletionQueue::submit) does; after that the engine works at it, and the waker of the last
//! poll is woken once whenever polling again gets on. Dropping a future cancels its call, and the stream is as it was before. So
//! a deadline is what the runtime has for it, such as `tokio::time::timeout`.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    Error, Result,
    annotate::BegunAnnotation,
    annotation::{AnnotateOptions, Annotation},
    engine::{Batch, Notify},
    guard::Guard,
    stream::{BegunCall, Call, PromptCheck, Reply, Stream, Update},
    text::{Message, TokenId},
};

/// Who is woken when a call can go on: the last who polled.
#[derive(Default)]
struct Sleeper(Mutex<Option<Waker>>);

impl Sleeper {
    fn put(&self, waker: &Waker) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Some(old) => old.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Wakes who sleeps, who has to poll before it is woken again.
    fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn notify(self: &Arc<Self>) -> Notify {
        let sleeper = self.clone();
        Arc::new(move || sleeper.wake())
    }
}

/// A call of a stream as a future: see [`Stream::call_async`].
#[must_use = "futures do nothing before they are polled"]
pub struct CallFuture<'a> {
    stream: &'a mut Stream,
    sleeper: Arc<Sleeper>,
    state: State<'a>,
}

enum State<'a> {
    New(Call<'a>),
    Begun(BegunCall),
    Over,
}

impl fmt::Debug for CallFuture<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::New(_) => "new",
            State::Begun(_) => "begun",
            State::Over => "over",
        };
        formatter.debug_struct("CallFuture").field("state", &state).finish_non_exhaustive()
    }
}

impl Future for CallFuture<'_> {
    type Output = Result<Reply>;

    /// # Panics
    /// After it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut begun = match std::mem::replace(&mut this.state, State::Over) {
            State::New(call) => this.stream.begin(call, Some(this.sleeper.notify()), &mut Batch::default())?,
            State::Begun(begun) => begun,
            State::Over => panic!("a call that is over was polled"),
        };
        loop {
            // Before the look, so that what comes right after it wakes.
            this.sleeper.put(context.waker());
            if !begun.is_ready() {
                this.state = State::Begun(begun);
                return Poll::Pending;
            }
            if this.stream.advance(&mut begun, &mut Batch::default())? {
                return Poll::Ready(this.stream.complete(begun));
            }
        }
    }
}

/// An annotation as a future: see [`Guard::annotate_async`].
#[must_use = "futures do nothing before they are polled"]
pub struct AnnotateFuture<'a> {
    guard: &'a Guard,
    sleeper: Arc<Sleeper>,
    state: AnnotateState<'a>,
}

enum AnnotateState<'a> {
    New(&'a [Message], AnnotateOptions),
    Begun(Box<BegunAnnotation>),
    Over,
}

impl fmt::Debug for AnnotateFuture<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            AnnotateState::New(..) => "new",
            AnnotateState::Begun(_) => "begun",
            AnnotateState::Over => "over",
        };
        formatter.debug_struct("AnnotateFuture").field("state", &state).finish_non_exhaustive()
    }
}

impl Future for AnnotateFuture<'_> {
    type Output = Result<Annotation>;

    /// # Panics
    /// After it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut begun = match std::mem::replace(&mut this.state, AnnotateState::Over) {
            AnnotateState::New(messages, options) => {
                Box::new(this.guard.begin_annotation(messages, &options, this.sleeper.notify())?)
            }
            AnnotateState::Begun(begun) => begun,
            AnnotateState::Over => panic!("an annotation that is over was polled"),
        };
        loop {
            this.sleeper.put(context.waker());
            if !begun.is_ready() {
                this.state = AnnotateState::Begun(begun);
                return Poll::Pending;
            }
            if let Some(annotation) = begun.advance()? {
                return Poll::Ready(Ok(annotation));
            }
        }
    }
}

/// The calls as futures: each gives what the function of its name without `async` gives, and has its errors. Nothing happens
/// before a future is polled, and one that is dropped leaves the stream as it was before the call; the future of
/// [`Stream::call_async`] says how they are woken.
impl Stream {
    /// A call as a future, which any executor may poll: it does not wait, and the engine wakes it. What is dropped is
    /// cancelled. Texts are tokenized by the first poll: prompts up to what fits the model's context, about 5 ms for each
    /// 1,000 tokens, pushes whole, which have at most 1 MiB and take up to 0.3 s.
    ///
    /// ```no_run
    /// # use qwenguard::{Call, Guard};
    /// # async fn push() -> Result<(), qwenguard::Error> {
    /// # let guard = Guard::open("bundle")?;
    /// # let mut stream = guard.stream()?;
    /// let update = stream.push_text_async("Hello").await?;
    /// println!("{} bytes may be shown", update.horizon);
    /// let reply = stream.call_async(Call::Finish).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of the future: those of the call.
    pub fn call_async<'a>(&'a mut self, call: Call<'a>) -> CallFuture<'a> {
        CallFuture { stream: self, sleeper: Arc::default(), state: State::New(call) }
    }

    /// [`Stream::prompt`] as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn prompt_async(&mut self, messages: &[Message]) -> Result<PromptCheck> {
        prompt(self.call_async(Call::Prompt(messages)).await)
    }

    /// [`Stream::next_turn`] as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn next_turn_async(&mut self, messages: &[Message]) -> Result<PromptCheck> {
        prompt(self.call_async(Call::NextTurn(messages)).await)
    }

    /// [`Stream::push_text`] as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn push_text_async(&mut self, text: impl AsRef<[u8]>) -> Result<Update> {
        update(self.call_async(Call::Text(text.as_ref())).await)
    }

    /// [`Stream::push_thinking`] as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn push_thinking_async(&mut self, text: impl AsRef<[u8]>) -> Result<Update> {
        update(self.call_async(Call::Thinking(text.as_ref())).await)
    }

    /// [`Stream::push_tokens`] as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn push_tokens_async<T: TokenId>(&mut self, tokens: &[T]) -> Result<Update> {
        let ids = T::ids(tokens);
        update(self.call_async(Call::Tokens(&ids)).await)
    }

    /// [`Stream::finish`] as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn finish_async(&mut self) -> Result<Update> {
        update(self.call_async(Call::Finish).await)
    }

    /// [`Stream::truncate`] as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn truncate_async(&mut self, bytes: usize) -> Result<Update> {
        update(self.call_async(Call::Truncate(bytes)).await)
    }

    /// [`Stream::truncate_tokens`] as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn truncate_tokens_async(&mut self, tokens: usize) -> Result<Update> {
        update(self.call_async(Call::TruncateTokens(tokens)).await)
    }
}

impl Guard {
    /// [`Guard::annotate`] as a future, which any executor may poll: it does not wait, and the engine wakes it. What is
    /// dropped is cancelled. The conversation is rendered and tokenized by the first poll.
    ///
    /// # Errors
    /// As there.
    pub fn annotate_async<'a>(&'a self, messages: &'a [Message], options: &AnnotateOptions) -> AnnotateFuture<'a> {
        AnnotateFuture { guard: self, sleeper: Arc::default(), state: AnnotateState::New(messages, *options) }
    }
}

fn prompt(reply: Result<Reply>) -> Result<PromptCheck> {
    reply?.into_prompt().ok_or(Error::EngineStopped)
}

fn update(reply: Result<Reply>) -> Result<Update> {
    reply?.into_update().ok_or(Error::EngineStopped)
}
