//! Calls as futures: polled by hand, by a small executor, and by tokio.

mod common;

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use common::{Conversation, conversations};
use qwenguard::{AnnotateOptions, Call, Config, Error, Guard, Message, Reply, Stream, Update};

fn guard() -> Guard {
    let mut config = Config::default();
    (config.runtime.threads, config.cache.mib) = (1, 64);
    Guard::nano(&config).unwrap()
}

/// Counts how often it is woken.
#[derive(Default)]
struct Alarm {
    rings: AtomicUsize,
    woken: Mutex<bool>,
    rang: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        *self.woken.lock().unwrap() = true;
        self.rang.notify_all();
    }
}

impl Alarm {
    fn wait(&self) {
        let mut woken = self.rang.wait_while(self.woken.lock().unwrap(), |woken| !*woken).unwrap();
        *woken = false;
    }

    fn rings(&self) -> usize {
        self.rings.load(Ordering::SeqCst)
    }
}

/// Polls a future whenever it was woken, and only then.
fn block_on<F: Future>(future: F) -> F::Output {
    let (mut future, alarm) = (pin!(future), Arc::new(Alarm::default()));
    let waker = Waker::from(alarm.clone());
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => alarm.wait(),
        }
    }
}

fn poll<F: Future>(future: Pin<&mut F>, alarm: &Arc<Alarm>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(alarm.clone())))
}

/// What the calls of a stream say, one after the other.
fn synchronous(guard: &Guard, conversation: &Conversation) -> Vec<Update> {
    let (messages, answer) = conversation.split();
    let mut stream = guard.stream().unwrap();
    stream.prompt(messages).unwrap();
    let mut updates: Vec<Update> =
        answer.unwrap_or("").as_bytes().chunks(11).map(|piece| stream.push_text(piece).unwrap()).collect();
    updates.push(stream.finish().unwrap());
    updates
}

async fn asynchronous(mut stream: Stream, conversation: &Conversation) -> Result<Vec<Update>, Error> {
    let (messages, answer) = conversation.split();
    stream.prompt_async(messages).await?;
    let mut updates = Vec::new();
    for piece in answer.unwrap_or("").as_bytes().chunks(11) {
        updates.push(stream.push_text_async(piece).await?);
    }
    updates.push(stream.finish_async().await?);
    Ok(updates)
}

/// Conversations without thinking, which the demonstration guard knows nothing of.
fn samples() -> Vec<Conversation> {
    conversations().into_iter().filter(|conversation| conversation.split().1.is_some()).collect()
}

#[test]
fn futures_say_what_calls_say() {
    let guard = guard();
    for conversation in samples() {
        let expected = synchronous(&guard, &conversation);
        let stream = guard.stream().unwrap();
        assert_eq!(block_on(asynchronous(stream, &conversation)).unwrap(), expected, "{}", conversation.id);
    }
    assert_eq!(guard.stats().open_streams, 0);
}

#[test]
fn every_call_is_a_future() {
    let guard = guard();
    let (mut stream, mut other) = (guard.stream().unwrap(), guard.stream().unwrap());
    let user = [Message::user("Where is the harbour?")];
    block_on(async {
        assert_eq!(stream.prompt_async(&user).await.unwrap(), other.prompt(&user).unwrap());
        let thought = stream.push_thinking_async("In the north.").await;
        assert_eq!(thought.is_ok(), other.push_thinking("In the north.").is_ok());
        let text = "It is in the north, where the ships are.";
        let update = stream.push_text_async(String::from(text)).await.unwrap();
        assert_eq!(update, other.push_text(text).unwrap());
        assert_eq!(
            stream.truncate_async(update.received - 3).await.unwrap(),
            other.truncate(update.received - 3).unwrap()
        );
        assert_eq!(stream.truncate_tokens_async(2).await.unwrap(), other.truncate_tokens(2).unwrap());
        let Ok(Reply::Update(end)) = stream.call_async(Call::Finish).await else { panic!() };
        assert_eq!(end, other.finish().unwrap());
        let next = [Message::user("And the market?")];
        assert_eq!(stream.next_turn_async(&next).await.unwrap(), other.next_turn(&next).unwrap());
        let tokens = guard.encode("Behind it.").unwrap();
        assert_eq!(stream.push_tokens_async(&tokens).await.unwrap(), other.push_tokens(&tokens).unwrap());
        let error = stream.push_text_async("text").await.unwrap_err();
        assert!(matches!(error, Error::WrongState { call: "push_text", .. }), "{error}");
    });
}

/// Nothing happens before a future is polled. Whoever polled last is woken, once for each time that it has to poll again at
/// the least, and never after the result.
#[test]
fn the_last_who_polled_is_woken() {
    let guard = guard();
    let mut stream = guard.stream().unwrap();
    let user = [Message::user("Where is the harbour?")];
    drop(stream.prompt_async(&user));
    assert!(matches!(stream.push_text("a"), Err(Error::WrongState { .. })), "the prompt was not polled");
    for round in 0..50 {
        let (first, second) = (Arc::new(Alarm::default()), Arc::new(Alarm::default()));
        let mut future = pin!(stream.prompt_async(&user));
        assert_eq!(first.rings(), 0);
        let mut waits = 0;
        let mut polled = poll(future.as_mut(), &first);
        // With another waker each time, as when a task moves.
        if polled.is_pending() && round % 2 == 0 {
            polled = poll(future.as_mut(), &second);
            assert!(polled.is_ready() || first.rings() == 0);
        }
        let current = if polled.is_pending() && round % 2 == 0 { &second } else { &first };
        while polled.is_pending() {
            waits += 1;
            current.wait();
            polled = poll(future.as_mut(), current);
        }
        assert!(matches!(polled, Poll::Ready(Ok(_))), "{polled:?}");
        assert!(first.rings() + second.rings() >= waits);
    }
}

/// As if the call had never been made, whenever it was dropped.
#[test]
fn a_future_that_is_dropped_cancels_its_call() {
    let guard = guard();
    let user = [Message::user("Where is the harbour? ".repeat(20))];
    let mut stream = guard.stream().unwrap();
    let mut pending = 0;
    for _ in 0..10 {
        let alarm = Arc::new(Alarm::default());
        pending += usize::from(poll(pin!(stream.prompt_async(&user)), &alarm).is_pending());
    }
    block_on(stream.prompt_async(&user)).unwrap();
    let first = block_on(stream.push_text_async("In the north, ")).unwrap();
    let used = stream.context_used();
    for _ in 0..20 {
        let alarm = Arc::new(Alarm::default());
        let polled = poll(pin!(stream.push_text_async("where the ships are.")), &alarm);
        match polled {
            Poll::Pending => pending += 1,
            Poll::Ready(update) => {
                update.unwrap();
                block_on(stream.truncate_async(first.received)).unwrap();
            }
        }
        assert_eq!(stream.context_used(), used);
    }
    assert!(pending > 0, "every call was over at once");
    let rest = block_on(stream.push_text_async("where the ships are.")).unwrap();
    let mut fresh = guard.stream().unwrap();
    fresh.prompt(&user).unwrap();
    fresh.push_text("In the north, ").unwrap();
    assert_eq!(rest, fresh.push_text("where the ships are.").unwrap());
    // With its stream: what a task is in the middle of.
    let alarm = Arc::new(Alarm::default());
    let mut task = Box::pin(async move { stream.push_text_async(" And further up the coast.").await });
    let _ = poll(task.as_mut(), &alarm);
    drop(task);
    drop(fresh);
    assert_eq!(guard.stats().open_streams, 0);
}

#[test]
fn annotations_are_futures() {
    let mut config = Config::default();
    (config.runtime.threads, config.cache.mib) = (1, 64);
    let guard = Guard::nano_gen(&config).unwrap();
    let options = AnnotateOptions::default();
    for conversation in conversations().iter().take(4) {
        let expected = guard.annotate(&conversation.messages, &options);
        let alarm = Arc::new(Alarm::default());
        let _ = poll(pin!(guard.annotate_async(&conversation.messages, &options)), &alarm);
        let said = block_on(guard.annotate_async(&conversation.messages, &options));
        match (said, expected) {
            (Ok(said), Ok(expected)) => assert_eq!(said, expected),
            (Err(said), Err(expected)) => assert_eq!(said.to_string(), expected.to_string()),
            (said, expected) => panic!("{said:?} {expected:?}"),
        }
    }
    assert!(block_on(guard.annotate_async(&[], &options)).is_err());
}

#[test]
fn futures_can_move_between_threads() {
    fn moves<T: Send>(future: T) -> T {
        future
    }
    let guard = guard();
    let mut stream = guard.stream().unwrap();
    drop(moves(stream.prompt_async(&[])));
    drop(moves(stream.push_text_async("text")));
    drop(moves(stream.call_async(Call::Finish)));
    drop(moves(guard.annotate_async(&[], &AnnotateOptions::default())));
    assert!(format!("{:?}", stream.call_async(Call::Finish)).contains("new"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tokio_runs_many_streams() {
    let guard = guard();
    let samples = Arc::new(samples());
    let expected: Vec<Vec<Update>> = samples.iter().map(|conversation| synchronous(&guard, conversation)).collect();
    let tasks: Vec<_> = (0..3 * samples.len())
        .map(|task| {
            let (stream, samples) = (guard.stream().unwrap(), samples.clone());
            tokio::spawn(async move { asynchronous(stream, &samples[task % samples.len()]).await })
        })
        .collect();
    for (task, running) in tasks.into_iter().enumerate() {
        assert_eq!(running.await.unwrap().unwrap(), expected[task % expected.len()]);
    }
    assert_eq!(guard.stats().open_streams, 0);
}

/// Whether the time or the engine is first is open; in both cases the stream can be used.
#[tokio::test]
async fn a_timeout_of_tokio_cancels() {
    let guard = guard();
    let mut stream = guard.stream().unwrap();
    let user = [Message::user("Where is the harbour? ".repeat(20))];
    for _ in 0..10 {
        let said = tokio::time::timeout(Duration::ZERO, stream.prompt_async(&user)).await;
        assert!(matches!(said, Ok(Ok(_)) | Err(_)), "{said:?}");
    }
    stream.prompt_async(&user).await.unwrap();
    let task = tokio::spawn(async move {
        loop {
            let update = stream.push_text_async("In the north. ").await.unwrap();
            stream.truncate_async(update.received / 2).await.unwrap();
        }
    });
    tokio::task::yield_now().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(guard.stats().open_streams, 0);
}
