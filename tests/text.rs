//! Answers that come as text: any pieces give what the whole gives, and nothing of a violation is ever cleared.

mod common;

use common::{Known, bundle, conversations};
use qwenguard::{Error, Guard, Message, Stream, Violation};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

fn guard() -> Guard {
    Guard::open(bundle("grouped-bf16", "fp32")).unwrap()
}

fn answer(guard: &Guard, messages: &[Message], pieces: impl IntoIterator<Item = Vec<u8>>) -> Known {
    let mut stream = guard.stream().unwrap();
    stream.prompt(messages).unwrap();
    let mut known = Known::default();
    for piece in pieces {
        known.take(stream.push_text(&piece).unwrap());
    }
    known.take(stream.finish().unwrap());
    known
}

/// The tokens of the whole answer at once.
fn whole(guard: &Guard, messages: &[Message], text: &str) -> Known {
    let mut stream = guard.stream().unwrap();
    stream.prompt(messages).unwrap();
    let ids: Vec<u32> = guard.encode(text).unwrap().iter().map(|token| token.id).collect();
    let mut known = Known::default();
    known.take(stream.push_tokens(&ids).unwrap());
    known.take(stream.finish().unwrap());
    known
}

fn assert_same(a: &Known, b: &Known, what: &str) {
    let ids = |known: &Known| known.tokens.values().map(|token| token.token_id).collect::<Vec<_>>();
    assert_eq!(ids(a), ids(b), "{what}");
    for (a, b) in a.verdicts().iter().zip(b.verdicts()) {
        for ((_, a), (_, b)) in a.risk_probabilities().zip(b.risk_probabilities()) {
            assert!((a - b).abs() < 1e-5, "{what}: {a} and {b}");
        }
    }
    let place = |known: &Known| known.violation.as_ref().map(|found| (found.first_token, found.confirming_token));
    assert_eq!(place(a), place(b), "{what}");
}

#[test]
fn any_pieces_give_the_verdicts_of_the_whole() {
    let guard = guard();
    let mut rng = SmallRng::seed_from_u64(6);
    let mut stopped = 0;
    for conversation in conversations() {
        let (messages, text) = conversation.split();
        let text = text.unwrap_or_default();
        let expected = whole(&guard, messages, text);
        let single = answer(&guard, messages, text.bytes().map(|byte| vec![byte]));
        assert_same(&single, &expected, &format!("{}, byte by byte", conversation.id));
        for _ in 0..3 {
            let mut rest = text.as_bytes();
            let pieces = std::iter::from_fn(|| {
                let (piece, later) = rest.split_at(rng.random_range(0..30).min(rest.len()));
                let done = rest.is_empty();
                rest = later;
                (!done).then(|| piece.to_vec())
            });
            let random = answer(&guard, messages, pieces.collect::<Vec<_>>());
            assert_same(&random, &expected, &format!("{}, random pieces", conversation.id));
            match &random.violation {
                None => assert_eq!(random.horizon, text.len()),
                Some(violation) => assert!(random.horizon <= violation.bytes.start),
            }
            stopped += usize::from(random.violation.is_some());
        }
    }
    assert!(stopped > 5, "only {stopped} answers were stopped: the test is too easy");
}

fn prompted(guard: &Guard) -> Stream {
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("hello")]).unwrap();
    stream
}

#[test]
fn bytes_that_are_no_text_are_refused_and_the_stream_goes_on() {
    let guard = guard();
    let mut stream = prompted(&guard);
    stream.push_text("Zürich".as_bytes()).unwrap();
    let used = stream.context_used();
    let error = stream.push_text(b"ok \xFF").unwrap_err();
    assert!(matches!(&error, Error::Argument { reason, .. } if reason.contains("byte 10")), "{error}");
    assert_eq!(stream.context_used(), used);
    // Half a character is neither an error nor text yet.
    let horizon = stream.push_text(b"\xE6\x97").unwrap().horizon;
    assert!(horizon <= "Zürich".len());
    assert!(matches!(stream.finish(), Err(Error::Argument { .. })));
    stream.push_text(b"\xA5").unwrap();
    assert_eq!(stream.push_text(b"").unwrap().tokens, []);
    let end = stream.finish().unwrap();
    assert!(end.violation.is_some() || end.horizon == "Zürich日".len());
    assert!(matches!(stream.push_text(b"x"), Err(Error::WrongState { call: "push_text", .. })));
    assert!(matches!(stream.push_tokens(&[1]), Err(Error::WrongState { call: "push_tokens", .. })));
    assert!(matches!(stream.finish(), Err(Error::WrongState { call: "finish", .. })));
}

#[test]
fn an_answer_comes_one_way() {
    let guard = guard();
    let mut stream = prompted(&guard);
    stream.push_text(b"hi").unwrap();
    assert!(matches!(stream.push_tokens(&[1]), Err(Error::WrongState { .. })));
    let mut stream = prompted(&guard);
    stream.push_tokens(&[5]).unwrap();
    assert!(matches!(stream.push_text(b"hi"), Err(Error::WrongState { .. })));
}

#[test]
fn a_full_context_leaves_the_text_as_it_was() {
    // Context 512.
    let guard = Guard::open(bundle("odd-bf16", "fp32")).unwrap();
    let mut stream = prompted(&guard);
    let first = stream.push_text("Some words to begin ".as_bytes()).unwrap();
    assert!(matches!(stream.push_text("word ".repeat(700).as_bytes()), Err(Error::ContextFull { limit: 512, .. })));
    let again = stream.push_text(b"").unwrap();
    assert_eq!((again.horizon, again.final_tokens), (first.horizon, first.final_tokens));
    stream.push_text(b"with.").unwrap();
    stream.finish().unwrap();
}

/// What a stream says about the rest of an answer and its end.
fn rest(mut stream: Stream, text: &[u8]) -> (Vec<u32>, usize, Option<Violation>) {
    let pushed = stream.push_text(text).unwrap();
    let end = stream.finish().unwrap();
    let ids = pushed.tokens.iter().chain(&end.tokens).map(|token| token.token_id).collect();
    (ids, end.horizon, end.violation)
}

#[test]
fn after_a_cut_all_is_as_if_the_rest_had_never_been() {
    let guard = guard();
    let mut rng = SmallRng::seed_from_u64(7);
    for conversation in conversations() {
        let (messages, text) = conversation.split();
        let text = text.unwrap_or_default();
        for _ in 0..4 {
            let at = text.floor_char_boundary(rng.random_range(0..=text.len()));
            let mut cut = guard.stream().unwrap();
            cut.prompt(messages).unwrap();
            for piece in text.as_bytes().chunks(13) {
                cut.push_text(piece).unwrap();
            }
            let cut_back = cut.truncate(at).unwrap();
            let mut fresh = guard.stream().unwrap();
            fresh.prompt(messages).unwrap();
            let pushed = fresh.push_text(&text.as_bytes()[..at]).unwrap();
            assert_eq!(cut.context_used(), fresh.context_used());
            assert_eq!(cut_back.final_tokens, pushed.final_tokens);
            assert_eq!(cut_back.horizon, pushed.horizon);
            let place = |violation: &Option<Violation>| violation.as_ref().map(|found| found.bytes.clone());
            assert_eq!(place(&cut_back.violation), place(&pushed.violation));
            let (a, b) = (rest(cut, " and then?".as_bytes()), rest(fresh, " and then?".as_bytes()));
            assert_eq!((a.1, place(&a.2)), (b.1, place(&b.2)), "{}, cut at {at}", conversation.id);
        }
    }
}

#[test]
fn a_cut_inside_a_character_is_refused() {
    let guard = guard();
    let mut stream = prompted(&guard);
    stream.push_text("日本".as_bytes()).unwrap();
    assert!(matches!(stream.truncate(1), Err(Error::Argument { .. })));
    assert!(matches!(stream.truncate(7), Err(Error::Argument { .. })));
    stream.truncate(3).unwrap();
    assert!(matches!(guard.stream().unwrap().truncate(0), Err(Error::WrongState { .. })));
}

#[test]
fn drafts_over_a_shared_prefix_are_judged_as_alone() {
    let guard = guard();
    let messages = [Message::user("Tell me about the harbour, please.")];
    let mut stream = guard.stream().unwrap();
    stream.prompt(&messages).unwrap();
    let shared = "The harbour lies in the north of the town, ".repeat(3);
    stream.push_text(shared.as_bytes()).unwrap();
    let drafts = ["and it is old.", "where ships, of all kinds, come in!", "日本語 👩‍👩‍👧 e\u{301}"];
    let mut forks: Vec<Stream> = drafts.iter().map(|_| stream.fork().unwrap()).collect();
    drop(stream);
    for (fork, draft) in forks.iter_mut().zip(drafts) {
        fork.push_text(draft.as_bytes()).unwrap();
        let end = fork.finish().unwrap();
        let expected = whole(&guard, &messages, &format!("{shared}{draft}"));
        assert_eq!(end.violation.map(|found| found.bytes), expected.violation.map(|found| found.bytes));
        assert_eq!(end.horizon, expected.horizon);
    }
}

#[test]
fn pushed_tokens_can_be_cut_back_too() {
    let guard = guard();
    let mut stream = prompted(&guard);
    let tokens = guard.encode("The harbour lies in the north of the town.").unwrap();
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    let first = stream.push_tokens(&ids).unwrap();
    let at = tokens[4].bytes.end;
    assert!(matches!(stream.truncate(at + 1), Err(Error::Argument { .. })) || tokens[5].bytes.len() == 1);
    assert_eq!(stream.truncate(at).unwrap().final_tokens, 5);
    let again = stream.push_tokens(&ids[5..]).unwrap();
    assert_eq!(again.violation.map(|v| v.bytes), first.violation.map(|v| v.bytes));
    assert_eq!(again.tokens[..], first.tokens[5..]);
}
