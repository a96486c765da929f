//! A child process and what its parent opened: every call fails at once, dropping is silent, a guard of its own works.
#![cfg(unix)]

use std::time::{Duration, Instant};

use qwenguard::{Call, CompletionQueue, Config, Error, Guard, Message, Stream};

fn config() -> Config {
    let mut config = Config::default();
    (config.runtime.threads, config.cache.mib) = (1, 64);
    config
}

fn prompted(guard: &Guard) -> Stream {
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("How do I clean the kitchen?")]).unwrap();
    stream
}

fn stopped<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::EngineStopped))
}

/// Whether all is as it must be in the child. What it is given is dropped here.
fn in_child(guard: Guard, mut stream: Stream, other: Stream, queue: CompletionQueue) -> bool {
    let messages = [Message::user("Hello")];
    let deadline = Instant::now() + Duration::from_secs(3600);
    let calls = [
        stopped(guard.stream()),
        stopped(guard.encode("a")),
        stopped(guard.token_bytes(1)),
        stopped(stream.prompt(&messages)),
        stopped(stream.next_turn(&messages)),
        stopped(stream.push_text(b"a")),
        stopped(stream.push_thinking(b"a")),
        stopped(stream.push_tokens::<u32>(&[])),
        stopped(stream.finish()),
        stopped(stream.truncate(0)),
        stopped(stream.truncate_tokens(0)),
        stopped(stream.fork()),
        stopped(stream.call_by(Call::Finish, deadline)),
        Stream::call_all([(&mut stream, Call::Finish)]).into_iter().all(stopped),
    ];
    queue.submit(other, Call::Finish, 2, None);
    let nothing = queue.wait(Duration::MAX).is_none() && queue.poll().is_none();
    let empty = queue.is_empty() && queue.cancel(1) == 0 && guard.stats().steps == 0;
    drop((queue, stream, guard));
    let own = Guard::nano(&config()).unwrap();
    let works = prompted(&own).push_text(b"Wipe the counters.").unwrap().received == 18;
    calls.into_iter().all(|call| call) && nothing && empty && works
}

#[test]
fn children_are_told_and_parents_go_on() {
    let guard = Guard::nano(&config()).unwrap();
    let (mut stream, other) = (prompted(&guard), prompted(&guard));
    let queue = CompletionQueue::new();
    queue.submit(prompted(&guard), Call::Text(b"Wipe the counters."), 1, None);
    // SAFETY: the child uses what has no locks or is known not to wait for them, and leaves by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            let child = std::panic::AssertUnwindSafe(|| in_child(guard, stream, other, queue));
            let good = std::panic::catch_unwind(child).unwrap_or(false);
            // SAFETY: it has no preconditions.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        child => {
            let mut status = -1;
            // SAFETY: a child of this process and a place for its status.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0);
        }
    }
    let done = queue.wait(Duration::MAX).unwrap();
    assert_eq!((done.tag, done.result.unwrap().into_update().unwrap().received), (1, 18));
    assert_eq!(stream.push_text(b"Wipe the counters.").unwrap().received, 18);
}
