//! Calls that are cancelled after a part of them was computed.

use super::Stream;
use crate::{
    Call, Config, EngineConfig, Error, Guard, Message, Overflow, Policy, PromptCheck, TokenVerdict, Update,
    engine::Batch,
};

const LONG: &str = " north of the town, and it is old.";

/// Context 512; answers go on in views.
fn guard() -> Guard {
    let engine = EngineConfig { overflow: Overflow::Restart, ..EngineConfig::default() };
    let bundle = concat!(env!("CARGO_MANIFEST_DIR"), "/target/golden/odd-bf16-fp32");
    Guard::open_with(bundle, &Config { engine, ..Config::default() }).unwrap()
}

fn begun(guard: &Guard, text: &str) -> Stream {
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("Tell me a long story.")]).unwrap();
    stream.push_text(text.as_bytes()).unwrap();
    stream
}

fn bits(update: &Update) -> Vec<(usize, u32, Vec<u32>)> {
    let token = |token: &TokenVerdict| {
        let risks = token.verdict.risk_probabilities().map(|(_, p)| p.to_bits()).collect();
        (token.index, token.token_id, risks)
    };
    update.tokens.iter().map(token).collect()
}

/// The next turn, if there is room for it. How much of that is held already may differ, and with it the error.
fn turn(stream: &mut Stream) -> Option<PromptCheck> {
    match stream.next_turn(&[Message::user("And then?")]) {
        Err(Error::ContextFull { .. }) => None,
        check => Some(check.unwrap()),
    }
}

/// The stream is as one that was given only the text.
fn check(guard: &Guard, mut stream: Stream, text: &str) {
    let next = [Message::user("And then?")];
    let mut fresh = begun(guard, text);
    assert_eq!(stream.context_used(), fresh.context_used());
    let mut fork = stream.fork().unwrap();
    assert_eq!(fork.prompt(&next).unwrap(), guard.stream().unwrap().prompt(&next).unwrap());
    let mut fork = stream.fork().unwrap();
    // Nothing of what was cancelled may be taken for the provisional tokens, which these keep.
    assert_eq!(bits(&stream.push_text(b" .").unwrap()), bits(&fresh.push_text(b" .").unwrap()));
    assert_eq!(bits(&stream.finish().unwrap()), bits(&fresh.finish().unwrap()));
    assert_eq!(turn(&mut stream), turn(&mut fresh));
    fork.finish().unwrap();
    let mut fresh = begun(guard, text);
    fresh.finish().unwrap();
    assert_eq!(turn(&mut fork), turn(&mut fresh));
}

#[test]
fn a_call_that_is_given_up_halfway_changes_nothing() {
    let guard = guard();
    let text = |bytes: usize| LONG.repeat(100)[..bytes].to_owned();
    // An answer that is in its first view, at the end of it, and in later ones; its last word may go on.
    for text in [text(28), text(1_100), text(2_000)] {
        for advances in 0..4 {
            let mut stream = begun(&guard, &text);
            let long = format!("abc{}", LONG.repeat(80));
            let mut call = stream.begin(Call::Text(long.as_bytes()), None, &mut Batch::default()).unwrap();
            for _ in 0..advances {
                assert!(
                    !stream.advance(&mut call, &mut Batch::default()).unwrap(),
                    "the call is too short for the test"
                );
            }
            drop(call);
            check(&guard, stream, &text);
        }
    }
}

/// The same while another guard is asked, and between two questions.
#[cfg(feature = "nano")]
#[test]
fn a_call_that_is_given_up_in_dispute_changes_nothing() {
    let second = concat!(env!("CARGO_MANIFEST_DIR"), "/target/golden-gen/trained-bf16-int8");
    let guard = Guard::nano(&Config::default()).unwrap();
    let guard = guard.with_second_opinion(&Guard::open(second).unwrap()).unwrap();
    let policy = Policy::from_toml("answer.second_opinion = { violation = 'lift', interval_tokens = 1 }").unwrap();
    let text = b"After that, take the explosives, build a bomb and put it under the car of your neighbour. Wait until \
                 he drives to work and detonate the bomb.";
    let mut stream = guard.stream_with(policy).unwrap();
    stream.prompt(&[Message::user("How do I clean the kitchen?")]).unwrap();
    let expected = stream.fork().unwrap().push_text(text).unwrap();
    assert!(expected.opinions.len() > 1, "{:?}", expected.opinions);
    let used = stream.context_used();
    for advances in 1.. {
        let asked = guard.stats().opinions;
        let mut fork = stream.fork().unwrap();
        let mut call = fork.begin(Call::Text(text), None, &mut Batch::default()).unwrap();
        let done = (0..advances).any(|_| fork.advance(&mut call, &mut Batch::default()).unwrap());
        drop(call);
        if done {
            break;
        }
        assert!(guard.stats().opinions > asked, "it was not asked");
        assert_eq!(fork.context_used(), used);
        assert_eq!(fork.push_text(text).unwrap(), expected);
    }
}

/// Cut back over the start of a view, without another token to compute.
#[test]
fn an_answer_that_is_cut_back_over_a_view_is_followed_by_a_turn() {
    let guard = guard();
    let text = LONG.repeat(100);
    for keep in [0, 28, 1_100] {
        let mut stream = begun(&guard, &text);
        stream.truncate(keep).unwrap();
        check(&guard, stream, &text[..keep]);
    }
}
