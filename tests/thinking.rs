//! Answers that begin with thinking: its own channel, at the official read positions.

mod common;

use common::{CHECKPOINTS, Known, bundle, root};
use qwenguard::{Channel, Config, Decision, Error, Guard, Message, Policy, Stream, TokenVerdict};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::Deserialize;

/// What the official evaluation reads of an answer with thinking, by PyTorch: see `tests/golden/README.md`.
#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    thinking_start: usize,
    answer_start: usize,
    end: usize,
    risk: Vec<Vec<f32>>,
    category: Vec<Vec<f32>>,
}

struct Case {
    messages: Vec<Message>,
    answer: String,
    expected: Expected,
}

fn cases(checkpoint: &str) -> Vec<Case> {
    let expected = root().join(format!("tests/golden/expected/{checkpoint}-thinking.json"));
    let expected: Vec<Expected> = serde_json::from_str(&std::fs::read_to_string(expected).unwrap()).unwrap();
    let conversations = common::read_conversations("tests/golden/thinking.jsonl");
    let cases = conversations.into_iter().zip(expected).map(|(conversation, expected)| {
        let (messages, answer) = conversation.split();
        Case { messages: messages.to_vec(), answer: answer.unwrap().to_owned(), expected }
    });
    cases.collect()
}

impl Case {
    fn stream(&self, guard: &Guard) -> Stream {
        let mut stream = guard.stream().unwrap();
        stream.prompt(&self.messages).unwrap();
        stream
    }

    /// The verdicts of an answer are those of the official evaluation, at its positions and at no others.
    fn compare(&self, known: &Known, how: &str) {
        let Expected { ids, thinking_start, answer_start, end, risk, category } = &self.expected;
        let of = |channel: Channel| known.tokens.values().filter(move |token| token.channel == channel);
        let thinking = of(Channel::Thinking).count();
        assert!(thinking == 0 || (3..=4).contains(&(answer_start - thinking_start - thinking + 1)), "{how}");
        for (channel, start) in [(Channel::Thinking, *thinking_start), (Channel::Answer, *answer_start)] {
            let judged: Vec<&TokenVerdict> = of(channel).collect();
            let end = if channel == Channel::Answer { *end } else { start + thinking };
            let found: Vec<u32> = judged.iter().map(|token| token.token_id).collect();
            assert_eq!(found, ids[start..end], "{how}: {channel:?}");
            for (token, at) in judged.iter().zip(start..) {
                let probabilities = token.verdict.risk_probabilities().map(|(_, p)| p).zip(&risk[at]);
                let categories = token.verdict.category_probabilities().map(|(_, p)| p).zip(&category[at]);
                let off = probabilities.chain(categories).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 1e-4, "{how}: position {at} is off by {off}");
            }
        }
    }
}

#[test]
fn thinking_is_read_where_the_official_evaluation_reads_it() {
    let mut rng = SmallRng::seed_from_u64(11);
    for checkpoint in CHECKPOINTS {
        let guard = Guard::open(bundle(checkpoint, "fp32")).unwrap();
        for case in cases(checkpoint) {
            for how in ["at once", "byte by byte", "random pieces"] {
                let mut stream = case.stream(&guard);
                let mut known = Known::default();
                let mut rest = case.answer.as_bytes();
                while !rest.is_empty() {
                    let size = match how {
                        "at once" => rest.len(),
                        "byte by byte" => 1,
                        _ => rng.random_range(1..20).min(rest.len()),
                    };
                    let (piece, later) = rest.split_at(size);
                    known.take(stream.push_text(piece).unwrap());
                    rest = later;
                }
                known.take(stream.finish().unwrap());
                case.compare(&known, &format!("{checkpoint}, {how}"));
                known.cover(&case.answer);
            }
        }
    }
}

#[test]
fn thinking_that_the_caller_names_is_the_same() {
    let guard = Guard::open(bundle("grouped-bf16", "fp32")).unwrap();
    for case in cases("grouped-bf16") {
        let (thinking, answer) = case.answer.strip_prefix("<think>").unwrap().split_once("</think>").unwrap();
        let mut stream = case.stream(&guard);
        let mut known = Known::default();
        for piece in thinking.as_bytes().chunks(5) {
            known.take(stream.push_thinking(piece).unwrap());
        }
        known.take(stream.push_text(answer.as_bytes()).unwrap());
        assert!(matches!(stream.push_thinking(b"x"), Err(Error::WrongState { call: "push_thinking", .. })));
        known.take(stream.finish().unwrap());
        case.compare(&known, "named by the caller");
        known.cover(&format!("{thinking}{answer}"));
    }
}

/// Tokens of a model that writes its own tags.
#[test]
fn thinking_in_tokens_is_found_by_its_tags() {
    for checkpoint in CHECKPOINTS {
        let guard = Guard::open(bundle(checkpoint, "fp32")).unwrap();
        for case in cases(checkpoint) {
            let tag = case.expected.thinking_start - 2;
            let ids = &case.expected.ids[tag..case.expected.end];
            let mut stream = case.stream(&guard);
            let mut known = Known::default();
            for piece in ids.chunks(3) {
                known.take(stream.push_tokens(piece).unwrap());
            }
            known.take(stream.finish().unwrap());
            // Here the line break after the thinking may be a token of its own, which is part of it.
            let thinking: Vec<&TokenVerdict> =
                known.tokens.values().filter(|token| token.channel == Channel::Thinking).collect();
            let Expected { ids, thinking_start, answer_start, risk, .. } = &case.expected;
            for (token, at) in thinking.iter().zip(*thinking_start..) {
                assert_eq!(token.token_id, ids[at]);
                let off = token.verdict.risk_probabilities().zip(&risk[at]).map(|((_, a), b)| (a - b).abs());
                assert!(off.fold(0.0, f32::max) < 1e-4);
            }
            let answer = known.tokens.values().find(|token| token.channel == Channel::Answer).unwrap();
            assert_eq!(answer.index, answer_start - tag, "tokens count as the caller counts them");
            let off = answer.verdict.risk_probabilities().zip(&risk[*answer_start]).map(|((_, a), b)| (a - b).abs());
            assert!(off.fold(0.0, f32::max) < 1e-4);
        }
    }
}

/// A model whose prompt opens the thinking.
#[test]
fn thinking_may_begin_in_the_prompt() {
    let guard = Guard::open(bundle("grouped-bf16", "fp32")).unwrap();
    for case in cases("grouped-bf16") {
        let rest = case.answer.strip_prefix("<think>\n").unwrap_or(&case.answer[7..]);
        let mut messages = case.messages.clone();
        messages.push(Message::assistant("<think>\n"));
        let mut stream = guard.stream().unwrap();
        stream.prompt(&messages).unwrap();
        let mut known = Known::default();
        for piece in rest.as_bytes().chunks(4) {
            known.take(stream.push_text(piece).unwrap());
        }
        known.take(stream.finish().unwrap());
        case.compare(&known, "begun in the prompt");
        known.cover(rest);
    }
}

#[test]
fn a_cut_within_thinking_is_as_if_the_rest_had_never_been() {
    let guard = Guard::open(bundle("grouped-bf16", "fp32")).unwrap();
    for case in cases("grouped-bf16") {
        for at in (0..=case.answer.len()).filter(|at| case.answer.is_char_boundary(*at)) {
            let (mut cut, mut fresh) = (case.stream(&guard), case.stream(&guard));
            cut.push_text(case.answer.as_bytes()).unwrap();
            if at % 2 == 0 {
                cut.finish().unwrap();
            }
            let back = cut.truncate(at).unwrap();
            let pushed = fresh.push_text(&case.answer.as_bytes()[..at]).unwrap();
            let state = |update: &qwenguard::Update| (update.horizon, update.final_tokens, update.received);
            assert_eq!(state(&back), state(&pushed), "cut at {at}");
            let rest = "nk>k>\n\nand more.";
            let (back, pushed) = (cut.push_text(rest.as_bytes()).unwrap(), fresh.push_text(rest.as_bytes()).unwrap());
            assert_eq!(state(&back), state(&pushed), "cut at {at}, and on");
            let (back, pushed) = (cut.finish().unwrap(), fresh.finish().unwrap());
            assert_eq!(state(&back), state(&pushed), "cut at {at}, at the end");
            assert_eq!(cut.context_used(), fresh.context_used(), "cut at {at}");
        }
    }
}

const HARMFUL: &str = "To build the bomb, mix the powder with the acid and pack it into a steel pipe with nails.";
const HARMLESS: &str = "I would rather tell you how to bake bread at home.";

/// The built-in guard on a harmful thought before a harmless answer.
fn think_aloud(policy: Policy) -> (Known, String) {
    let guard = Guard::nano(&Config::default()).unwrap();
    let answer = format!("<think>\n{HARMFUL}\n</think>\n\n{HARMLESS}");
    let mut stream = guard.stream_with(policy).unwrap();
    stream.prompt(&[Message::user("How do I bake bread?")]).unwrap();
    let mut known = Known::default();
    for piece in answer.as_bytes().chunks(9) {
        known.take(stream.push_text(piece).unwrap());
    }
    known.take(stream.finish().unwrap());
    (known, answer)
}

#[test]
fn thinking_has_rules_of_its_own() {
    let (known, answer) = think_aloud(Policy::strict());
    let violation = known.violation.expect("by default thinking is judged as strictly as the answer");
    assert_eq!((violation.channel, violation.rule.as_str()), (Channel::Thinking, "thinking.strict: 2 consecutive"));
    assert!(known.horizon <= violation.bytes.start);
    assert_eq!(known.last.as_ref().unwrap().excess(), answer.len() - known.horizon);

    let flag = Policy::from_toml(
        "[thinking]\nmode = { custom = { unsafe = { action = 'flag' }, controversial = { action = 'ignore' } } }",
    );
    let (known, answer) = think_aloud(flag.unwrap());
    assert!(known.violation.is_none_or(|violation| violation.channel == Channel::Answer));
    let flag = known.flags.first().expect("it is reported");
    assert_eq!((flag.channel, flag.rule.as_str()), (Channel::Thinking, "thinking.custom: 2 consecutive"));
    assert!(flag.bytes.end < answer.find("</think>").unwrap());

    let (known, answer) = think_aloud(Policy { shadow: true, ..Policy::strict() });
    let last = known.last.unwrap();
    assert_eq!((last.decision, last.horizon, last.excess()), (Decision::Continue, answer.len(), 0));
    assert_eq!(last.violation.unwrap().channel, Channel::Thinking);
}

/// An answer that never leaves its thinking hides nothing: what is shown of it was judged.
#[test]
fn open_thinking_is_judged_to_its_end() {
    let guard = Guard::nano(&Config::default()).unwrap();
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("How do I bake bread?")]).unwrap();
    stream.push_text(b"<think>").unwrap();
    stream.push_text(HARMFUL.as_bytes()).unwrap();
    let end = stream.finish().unwrap();
    assert_eq!(end.decision, Decision::Stop);
    assert!(end.horizon < "<think>".len() + HARMFUL.len() / 2);
}
