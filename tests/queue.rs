//! Calls of many streams: together, without waiting, given up.

mod common;

use std::{
    collections::HashMap,
    sync::mpsc,
    time::{Duration, Instant},
};

use common::{bundle, conversations};
use qwenguard::{Call, CompletionQueue, Config, EngineConfig, Error, Guard, Message, Overflow, Reply, Stream, Update};

const LONG: Duration = Duration::from_secs(60);

fn guard() -> Guard {
    Guard::open(bundle("grouped-bf16", "fp32")).unwrap()
}

/// What every answer comes to, one stream after the other.
fn alone(guard: &Guard) -> Vec<Vec<Update>> {
    let conversations = conversations();
    let judge = |conversation: &common::Conversation| {
        let (messages, answer) = conversation.split();
        let mut stream = guard.stream().unwrap();
        stream.prompt(messages).unwrap();
        let pieces = answer.unwrap_or_default().as_bytes().chunks(17);
        let mut updates: Vec<Update> = pieces.map(|piece| stream.push_text(piece).unwrap()).collect();
        updates.push(stream.finish().unwrap());
        updates
    };
    conversations.iter().map(judge).collect()
}

fn assert_same(a: &Update, b: &Update) {
    let place =
        |update: &Update| (update.horizon, update.final_tokens, update.violation.as_ref().map(|v| v.bytes.clone()));
    assert_eq!(place(a), place(b));
    assert_eq!(a.tokens.len(), b.tokens.len());
    for (a, b) in a.tokens.iter().zip(&b.tokens) {
        assert_eq!(a.token_id, b.token_id);
        for ((_, a), (_, b)) in a.verdict.risk_probabilities().zip(b.verdict.risk_probabilities()) {
            assert!((a - b).abs() < 1e-5);
        }
    }
}

#[test]
fn streams_together_are_judged_as_alone() {
    let guard = guard();
    let expected = alone(&guard);
    let conversations = conversations();
    let mut streams: Vec<Stream> = conversations.iter().map(|_| guard.stream().unwrap()).collect();
    let prompts: Vec<_> = conversations.iter().map(|conversation| conversation.split().0).collect();
    let replies =
        Stream::call_all(streams.iter_mut().zip(&prompts).map(|(stream, prompt)| (stream, Call::Prompt(prompt))));
    assert!(replies.into_iter().all(|reply| matches!(reply, Ok(Reply::Prompt(_)))));
    let answers: Vec<Vec<&[u8]>> = conversations
        .iter()
        .map(|conversation| conversation.split().1.unwrap_or_default().as_bytes().chunks(17).collect())
        .collect();
    for tick in 0..answers.iter().map(Vec::len).max().unwrap() {
        // As a chat server's tick: whoever has something to say.
        let live: Vec<usize> = (0..streams.len()).filter(|index| tick < answers[*index].len()).collect();
        let calls = streams.iter_mut().enumerate().filter(|(index, _)| live.contains(index));
        let calls = calls.map(|(index, stream)| (stream, Call::Text(answers[index][tick])));
        let replies = Stream::call_all(calls);
        for (index, reply) in live.iter().zip(replies) {
            assert_same(&reply.unwrap().into_update().unwrap(), &expected[*index][tick]);
        }
    }
    // One that fails leaves the others alone.
    let mut calls: Vec<_> = streams.iter_mut().map(|stream| (stream, Call::Finish)).collect();
    calls[3].1 = Call::Text(b"\xFF");
    let replies = Stream::call_all(calls);
    assert!(matches!(&replies[3], Err(Error::Argument { .. })));
    assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), streams.len() - 1);
}

#[test]
fn a_queue_gives_every_stream_back_with_its_reply() {
    let guard = guard();
    let expected = alone(&guard);
    let conversations = conversations();
    let answers: Vec<Vec<&[u8]>> = conversations
        .iter()
        .map(|conversation| conversation.split().1.unwrap_or_default().as_bytes().chunks(17).collect())
        .collect();
    let queue = CompletionQueue::new();
    assert!(queue.poll().is_none() && queue.is_empty());
    // From two threads, three streams for every conversation.
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (queue, guard, conversations) = (&queue, &guard, &conversations);
            scope.spawn(move || {
                for (index, conversation) in conversations.iter().enumerate().filter(|(index, _)| index % 2 == half) {
                    for copy in 0..3 {
                        let tag = (copy * 100 + index) as u64;
                        queue.submit(guard.stream().unwrap(), Call::Prompt(conversation.split().0), tag, None);
                    }
                }
            });
        }
        let mut pushed: HashMap<u64, usize> = HashMap::new();
        let mut finished = 0;
        while finished < 3 * conversations.len() {
            let done = queue.wait(LONG).expect("nothing hangs");
            let index = (done.tag % 100) as usize;
            let pushed = pushed.entry(done.tag).or_default();
            if let Reply::Update(update) = done.result.unwrap() {
                assert_same(&update, &expected[index][*pushed - 1]);
            }
            let call = match answers[index].get(*pushed) {
                Some(piece) => Call::Text(piece),
                None if *pushed == answers[index].len() => Call::Finish,
                None => {
                    finished += 1;
                    continue;
                }
            };
            *pushed += 1;
            queue.submit(done.stream.unwrap(), call, done.tag, None);
        }
    });
    assert!(queue.is_empty());
    assert_eq!(guard.stats().open_streams, 0);
}

#[test]
fn a_call_that_is_given_up_changes_nothing() {
    let guard = guard();
    let mut stream = guard.stream().unwrap();
    let past = Instant::now();
    let prompt = [Message::user("Where is the harbour? ".repeat(40))];
    let queue = CompletionQueue::new();
    // Whether the deadline or the engine is first is open; in both cases the stream can be used.
    for call in [Call::Prompt(&prompt), Call::Prompt(&prompt)] {
        let result = stream.call_by(call, past);
        assert!(matches!(result, Ok(Reply::Prompt(_)) | Err(Error::DeadlineExceeded)), "{result:?}");
    }
    stream.prompt(&prompt).unwrap();
    let first = stream.push_text(b"In the north, ").unwrap();
    let used = stream.context_used();
    for tag in 0..20 {
        queue.submit(
            stream,
            Call::Text(b"where the ships are."),
            tag,
            Some(Instant::now() + Duration::from_micros(40 * tag)),
        );
        if tag % 2 == 0 {
            // It may be done already; then it is not cancelled.
            assert!(queue.cancel(tag) <= 1);
        }
        let done = queue.wait(LONG).expect("nothing hangs");
        assert_eq!(done.tag, tag);
        stream = done.stream.unwrap();
        match done.result {
            Err(Error::DeadlineExceeded) => {}
            Err(Error::Cancelled) => assert_eq!(tag % 2, 0),
            Ok(_) => drop(stream.truncate(first.received).unwrap()),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(stream.context_used(), used);
    }
    assert!(queue.is_empty() && queue.poll().is_none());
    let rest = stream.push_text(b"where the ships are.").unwrap();
    let mut fresh = guard.stream().unwrap();
    fresh.prompt(&prompt).unwrap();
    fresh.push_text(b"In the north, ").unwrap();
    assert_same(&rest, &fresh.push_text(b"where the ships are.").unwrap());
}

/// A truncation through the queue is as any other call: it comes back, also when it was cancelled, and then nothing is cut.
#[test]
fn a_truncation_goes_through_the_queue() {
    let guard = guard();
    let answer = "In the north, where the ships are, and further up the coast.";
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("Where is the harbour?")]).unwrap();
    let whole = stream.push_text(answer.as_bytes()).unwrap();
    let (keep, tokens) = (14, whole.final_tokens / 2);
    let queue = CompletionQueue::new();
    for (call, cut) in [(Call::Truncate(keep), true), (Call::TruncateTokens(tokens), true), (Call::Truncate(99), false)]
    {
        let mut alone = stream.fork().unwrap();
        let wanted = alone.call(call);
        for (tag, deadline) in [(0, None), (1, Some(Instant::now())), (2, None)] {
            queue.submit(stream.fork().unwrap(), call, tag, deadline);
            let cancelled = if tag == 2 { queue.cancel(tag) } else { 0 };
            let done = queue.wait(LONG).expect("nothing hangs");
            assert_eq!(done.tag, tag);
            match (&wanted, done.result) {
                (_, Err(Error::Cancelled)) => assert_eq!(cancelled, 1),
                (_, Err(Error::DeadlineExceeded)) => assert_eq!(tag, 1),
                (Ok(Reply::Update(wanted)), Ok(Reply::Update(update))) => {
                    assert_same(&update, wanted);
                    assert_same(
                        &done.stream.unwrap().push_text(b"").unwrap(),
                        &alone.fork().unwrap().push_text(b"").unwrap(),
                    );
                    continue;
                }
                (Err(Error::Argument { argument, .. }), Err(Error::Argument { argument: found, .. })) => {
                    assert!(!cut && found == *argument);
                }
                (wanted, found) => panic!("{found:?} instead of {wanted:?}"),
            }
            // Given up or refused: nothing is cut.
            let update = done.stream.unwrap().push_text(b"").unwrap();
            assert_same(&update, &stream.fork().unwrap().push_text(b"").unwrap());
        }
    }
    assert!(queue.is_empty() && queue.poll().is_none());
    queue.submit(guard.stream().unwrap(), Call::Truncate(0), 3, None);
    let refused = queue.wait(LONG).expect("nothing hangs").result;
    assert!(matches!(refused, Err(Error::WrongState { call: "truncate", .. })), "{refused:?}");
}

/// A push over a restart takes several runs of the model.
#[test]
fn long_pushes_go_through_the_queue_too() {
    let engine = EngineConfig { overflow: Overflow::Restart, ..EngineConfig::default() };
    let guard = Guard::open_with(bundle("odd-bf16", "fp32"), &Config { engine, ..Config::default() }).unwrap();
    let text = "The harbour lies in the north of the town, and it is old. ".repeat(45);
    let prompted = || {
        let mut stream = guard.stream().unwrap();
        stream.prompt(&[Message::user("Tell me a long story.")]).unwrap();
        stream
    };
    let expected = prompted().push_text(text.as_bytes()).unwrap();
    let queue = CompletionQueue::new();
    for tag in 0..4 {
        queue.submit(prompted(), Call::Text(text.as_bytes()), tag, None);
    }
    for _ in 0..4 {
        let done = queue.wait(LONG).expect("nothing hangs");
        assert_same(&done.result.unwrap().into_update().unwrap(), &expected);
    }
}

/// What cannot be judged or cannot fit comes back as an error, with its stream.
#[test]
fn what_is_refused_comes_back() {
    let guard = guard();
    let queue = CompletionQueue::new();
    let left_out = [Message::user("hello"), Message::new("model", "x")];
    let long = [Message::user("a".repeat(5 << 20))];
    queue.submit(guard.stream().unwrap(), Call::Prompt(&left_out), 1, None);
    queue.submit(guard.stream().unwrap(), Call::Prompt(&long), 2, None);
    for _ in 0..2 {
        let done = queue.wait(LONG).expect("nothing hangs");
        let error = done.result.unwrap_err();
        match done.tag {
            1 => assert!(error.to_string().contains("message 1 (counted from 0) of role \"model\""), "{error}"),
            _ => assert!(matches!(error, Error::ContextFull { .. }), "{error}"),
        }
        done.stream.unwrap().prompt(&[Message::user("hello")]).unwrap();
    }
}

#[test]
fn a_cancelled_call_comes_back() {
    let guard = guard();
    let queue = CompletionQueue::new();
    assert_eq!(queue.cancel(1), 0);
    let long = [Message::user("Where is the harbour? ".repeat(60))];
    for tag in 0..12 {
        queue.submit(guard.stream().unwrap(), Call::Prompt(&long), tag, None);
    }
    let cancelled: usize = (0..12).map(|tag| queue.cancel(tag)).sum();
    assert!(cancelled > 0, "twelve long prompts take longer than this");
    let mut came = 0;
    for _ in 0..12 {
        let done = queue.wait(LONG).expect("nothing hangs");
        match done.result {
            Ok(_) => {}
            Err(Error::Cancelled) => {
                came += 1;
                assert_eq!(done.stream.unwrap().context_used(), 0);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(came, cancelled);
    assert!(queue.is_empty() && queue.poll().is_none());
}

/// Whether a call is being computed or gone on with by a thread that waits: it is cancelled once, or done.
#[test]
fn calls_are_cancelled_while_others_wait() {
    let engine = EngineConfig { overflow: Overflow::Restart, ..EngineConfig::default() };
    let guard = Guard::open_with(bundle("odd-bf16", "fp32"), &Config { engine, ..Config::default() }).unwrap();
    let text = "The harbour lies in the north of the town, and it is old. ".repeat(45);
    let queue = CompletionQueue::new();
    let (mut cancelled, mut came) = (0, 0);
    for round in 0..6 {
        for tag in 0..8 {
            let mut stream = guard.stream().unwrap();
            stream.prompt(&[Message::user("Tell me a long story.")]).unwrap();
            queue.submit(stream, Call::Text(text.as_bytes()), tag, None);
        }
        std::thread::scope(|scope| {
            let wait = || (0..4).map(|_| queue.wait(LONG).expect("nothing hangs").result).collect::<Vec<_>>();
            let waiting = [scope.spawn(wait), scope.spawn(wait)];
            std::thread::sleep(Duration::from_millis(round));
            cancelled += (0..8).map(|tag| queue.cancel(tag)).sum::<usize>();
            for result in waiting.into_iter().flat_map(|thread| thread.join().unwrap()) {
                match result {
                    Ok(_) => {}
                    Err(Error::Cancelled) => came += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        assert!(queue.is_empty() && queue.poll().is_none());
    }
    assert!(cancelled > 0 && came == cancelled, "{came} of {cancelled}");
}

#[test]
fn a_queue_may_be_dropped_with_calls_in_it() {
    let guard = guard();
    let queue = CompletionQueue::new();
    for tag in 0..30 {
        queue.submit(guard.stream().unwrap(), Call::Prompt(&[Message::user("hello")]), tag, None);
    }
    // A call that fails at once comes back as well.
    queue.submit(guard.stream().unwrap(), Call::Finish, 30, None);
    assert_eq!(queue.len(), 31);
    let mut done = 0;
    while done < 31 && queue.wait(LONG).inspect(|done| assert_eq!(done.result.is_err(), done.tag == 30)).is_some() {
        done += 1;
    }
    assert_eq!(done, 31);
    for tag in 0..30 {
        queue.submit(guard.stream().unwrap(), Call::Prompt(&[Message::user("hello")]), tag, None);
    }
    drop(queue);
    assert_eq!(guard.stats().open_streams, 0);
    guard.stream().unwrap().prompt(&[Message::user("hello")]).unwrap();
}

#[test]
fn a_host_is_woken_when_there_is_something_to_take() {
    let (guard, queue) = (guard(), CompletionQueue::new());
    let (sender, woken) = mpsc::channel();
    queue.on_ready(move || sender.send(()).unwrap_or_default()).unwrap();
    let take = || loop {
        woken.recv_timeout(LONG).unwrap();
        if let Some(done) = queue.poll() {
            return done;
        }
    };
    queue.submit(guard.stream().unwrap(), Call::Prompt(&[Message::user("Hello")]), 1, None);
    let done = take();
    assert!(done.tag == 1 && done.result.is_ok());
    // What fails at once is there at once, and a function that comes later hears of it, too.
    while queue.poll().is_some() {}
    queue.submit(guard.stream().unwrap(), Call::Finish, 2, None);
    let (sender, also_woken) = mpsc::channel();
    queue.on_ready(move || sender.send(()).unwrap_or_default()).unwrap();
    also_woken.recv_timeout(LONG).unwrap();
    assert!(matches!(take().result, Err(Error::WrongState { .. })));
    drop(queue);
    assert!(also_woken.recv_timeout(LONG).is_err(), "the function went with the queue");
}

#[test]
fn a_call_whose_deadline_has_passed_is_not_begun() {
    let guard = guard();
    let queue = CompletionQueue::new();
    let messages = [Message::user("Hello")];
    let before = guard.stats().tokens;
    queue.submit(guard.stream().unwrap(), Call::Prompt(&messages), 1, Some(Instant::now()));
    let done = queue.wait(LONG).unwrap();
    assert!(matches!(done.result, Err(Error::DeadlineExceeded)), "{:?}", done.result);
    let mut stream = done.stream.unwrap();
    assert_eq!((stream.context_used(), guard.stats().tokens), (0, before));
    stream.prompt(&messages).unwrap();
}
