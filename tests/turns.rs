//! Conversations of several turns on one stream, and answers that are longer than the context.

mod common;

use common::{Known, bundle};
use qwenguard::{
    Config, EngineConfig, Error, Guard, Message, Overflow, Policy, PromptCheck, Verdict, policy::Debounce,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

fn probabilities(verdict: &Verdict) -> Vec<f32> {
    let risks = verdict.risk_probabilities().map(|(_, p)| p);
    risks.chain(verdict.category_probabilities().map(|(_, p)| p)).collect()
}

fn off(a: &Verdict, b: &Verdict) -> f32 {
    let pairs = probabilities(a).into_iter().zip(probabilities(b));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn assert_same(a: &PromptCheck, b: &PromptCheck) {
    assert!(off(&a.verdict, &b.verdict) < 1e-5, "{a:?} and {b:?}");
    assert_eq!(a.decision, b.decision);
}

/// Turns on one stream are judged like whole conversations on new streams.
#[test]
fn turns_follow_each_other() {
    let guard = Guard::open(bundle("grouped-bf16", "fp32")).unwrap();
    let system = Message::system("You help sailors.");
    let turns = [
        ("When does the ship leave?", "<think>\nAt eight.\n</think>\n\nAt eight o'clock."),
        ("And the next one? 日本語", "\n\nAt nine."),
        ("Thanks!", "<think>So polite</think>You are welcome."),
    ];
    let mut stream = guard.stream().unwrap();
    let mut messages = vec![system.clone()];
    for (index, (question, answer)) in turns.iter().enumerate() {
        let check = match index {
            0 => stream.prompt(&[system.clone(), Message::user(*question)]).unwrap(),
            _ => stream.next_turn(&[Message::user(*question)]).unwrap(),
        };
        messages.push(Message::user(*question));
        let mut fresh = guard.stream().unwrap();
        assert_same(&check, &fresh.prompt(&messages).unwrap());
        assert_eq!(stream.context_used(), fresh.context_used());
        let (mut known, mut expected) = (Known::default(), Known::default());
        for piece in answer.as_bytes().chunks(6) {
            known.take(stream.push_text(piece).unwrap());
        }
        expected.take(fresh.push_text(answer.as_bytes()).unwrap());
        known.take(stream.finish().unwrap());
        expected.take(fresh.finish().unwrap());
        assert_eq!(known.tokens.len(), expected.tokens.len());
        for (a, b) in known.verdicts().iter().zip(expected.verdicts()) {
            assert!(off(a, &b) < 1e-5);
        }
        messages.push(Message::assistant(*answer));
    }
}

#[test]
fn answers_as_tokens_are_followed_by_turns_too() {
    let guard = Guard::open(bundle("grouped-bf16", "fp32")).unwrap();
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("Where is the harbour?")]).unwrap();
    let ids: Vec<u32> = guard.encode("In the north, 日本.").unwrap().iter().map(|token| token.id).collect();
    stream.push_tokens(&ids).unwrap();
    assert!(matches!(stream.next_turn(&[Message::user("x")]), Err(Error::WrongState { .. })));
    stream.finish().unwrap();
    let check = stream.next_turn(&[Message::user("Is it old?")]).unwrap();
    let mut fresh = guard.stream().unwrap();
    let whole = ["Where is the harbour?", "In the north, 日本.", "Is it old?"];
    let whole = [Message::user(whole[0]), Message::assistant(whole[1]), Message::user(whole[2])];
    assert_same(&check, &fresh.prompt(&whole).unwrap());
    // Half a character is no message.
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("Where?")]).unwrap();
    let half = ids.iter().position(|id| std::str::from_utf8(guard.token_bytes(*id).unwrap()).is_err()).unwrap();
    stream.push_tokens(&ids[..=half]).unwrap();
    stream.finish().unwrap();
    assert!(matches!(stream.next_turn(&[Message::user("x")]), Err(Error::Conversation { .. })));
}

/// A prompt that fails leaves the stream as it was.
#[test]
fn a_turn_that_does_not_fit_changes_nothing() {
    // Context 512.
    let guard = Guard::open(bundle("odd-bf16", "fp32")).unwrap();
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("Hello")]).unwrap();
    let first = stream.push_text(b"Hello to you").unwrap();
    let long = [Message::user("word ".repeat(400))];
    assert!(matches!(stream.prompt(&long), Err(Error::ContextFull { limit: 512, .. })));
    let again = stream.push_text(b"").unwrap();
    assert_eq!((again.horizon, again.final_tokens), (first.horizon, first.final_tokens));
    stream.push_text(b" too.").unwrap();
    stream.finish().unwrap();
    assert!(matches!(stream.next_turn(&long), Err(Error::ContextFull { .. })));
    stream.next_turn(&[Message::user("And you?")]).unwrap();
}

/// With restarts an answer may be longer than the context; how it is pushed still does not matter, and a verdict is
/// that of the part which the model sees.
#[test]
fn a_long_answer_goes_on_with_its_last_part() {
    let engine = EngineConfig { overflow: Overflow::Restart, ..EngineConfig::default() };
    let guard = Guard::open_with(bundle("odd-bf16", "fp32"), &Config { engine, ..Config::default() }).unwrap();
    let prompt = [Message::user("Tell me a long story.")];
    let text = "The harbour lies in the north of the town, and it is old. ".repeat(45);
    let ids: Vec<u32> = guard.encode(&text).unwrap().iter().map(|token| token.id).collect();
    assert!(ids.len() > 1200, "{} tokens", ids.len());
    let verdicts = |mut next: Box<dyn FnMut() -> usize>| {
        let mut stream = guard.stream().unwrap();
        stream.prompt(&prompt).unwrap();
        let start = stream.context_used();
        let mut known = Known::default();
        let mut rest = &ids[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(next().min(rest.len()));
            known.take(stream.push_tokens(piece).unwrap());
            assert!(stream.context_used() <= 512);
            rest = later;
        }
        (start, known.verdicts())
    };
    let (prompt_tokens, whole) = verdicts(Box::new(|| usize::MAX));
    let mut rng = SmallRng::seed_from_u64(3);
    let (_, pieces) = verdicts(Box::new(move || rng.random_range(1..90)));
    assert_eq!(whole.len(), ids.len());
    assert!(whole.iter().zip(&pieces).all(|(a, b)| off(a, b) < 1e-5));

    // The template's eight tokens before an answer, see expected/odd-bf16.json.
    let room = 512 - prompt_tokens - 8;
    let stride = room - room / 2;
    for at in [room - 1, room, room + stride - 1, room + stride, ids.len() - 1] {
        let from = if at < room { 0 } else { ((at - room) / stride + 1) * stride };
        let mut fresh = guard.stream().unwrap();
        fresh.prompt(&prompt).unwrap();
        let update = fresh.push_tokens(&ids[from..=at]).unwrap();
        assert!(off(&update.tokens.last().unwrap().verdict, &whole[at]) < 1e-5, "token {at}");
    }
    assert!(off(&whole[room - 1], &whole[room + 10]) > 0.0);

    // As text, cut back over a restart, and on.
    let mut stream = guard.stream().unwrap();
    stream.prompt(&prompt).unwrap();
    for piece in text.as_bytes().chunks(100) {
        stream.push_text(piece).unwrap();
    }
    let back = stream.truncate(1000).unwrap();
    let mut fresh = guard.stream().unwrap();
    fresh.prompt(&prompt).unwrap();
    let pushed = fresh.push_text(&text.as_bytes()[..1000]).unwrap();
    assert_eq!((back.horizon, back.final_tokens), (pushed.horizon, pushed.final_tokens));
    let (a, b) = (stream.finish().unwrap(), fresh.finish().unwrap());
    assert_eq!((a.horizon, a.violation), (b.horizon, b.violation));
    // A prompt that leaves no room is an error all the same.
    let mut stream = guard.stream().unwrap();
    let error = stream.prompt(&[Message::user("word ".repeat(400))]).unwrap_err();
    assert!(matches!(error, Error::ContextFull { .. }), "{error}");
}

/// The eval script counts the tokens that close the turn.
#[test]
fn the_eval_rule_reads_the_end_of_the_turn() {
    let guard = Guard::open(bundle("grouped-bf16", "fp32")).unwrap();
    let mut policy = Policy::strict();
    policy.answer.debounce = Debounce::Eval;
    let text = "The harbour lies in the north.";
    for as_tokens in [false, true] {
        let finish = |policy: Policy| {
            let mut stream = guard.stream_with(policy).unwrap();
            stream.prompt(&[Message::user("Where is it?")]).unwrap();
            if as_tokens {
                let ids: Vec<u32> = guard.encode(text).unwrap().iter().map(|token| token.id).collect();
                stream.push_tokens(&ids).unwrap();
            } else {
                stream.push_text(text.as_bytes()).unwrap();
            }
            let end = stream.finish().unwrap();
            (end, stream)
        };
        let (plain, _) = finish(Policy::strict());
        let (eval, mut stream) = finish(policy.clone());
        // <|im_end|> and the line break after it.
        assert_eq!(eval.final_tokens, plain.final_tokens + 2);
        let closing: Vec<_> = eval.tokens.iter().rev().take(2).map(|token| token.bytes.clone()).collect();
        assert_eq!(closing, [text.len()..text.len(), text.len()..text.len()]);
        // They are gone when the answer goes on.
        let back = stream.truncate(text.len()).unwrap();
        assert!(back.final_tokens <= plain.final_tokens);
    }
}

#[test]
fn a_policy_must_suit_the_model() {
    let guard = Guard::open(bundle("grouped-bf16", "fp32")).unwrap();
    let policy = |toml: &str| Policy::from_toml(toml).unwrap();
    let error = guard.stream_with(policy("[answer.categories.Jailbreak]\naction = 'flag'")).err().unwrap().to_string();
    assert!(error.contains("policy.answer.categories.Jailbreak") && error.contains("PII"), "{error}");
    guard.stream_with(policy("[prompt.categories.Jailbreak]\naction = 'flag'")).unwrap();
    let config = Config::from_toml("[policy.thinking.categories.Spam]\nat = 0.5").unwrap();
    let error = Guard::open_with(bundle("grouped-bf16", "fp32"), &config).err().unwrap().to_string();
    assert!(error.contains("policy.thinking.categories.Spam"), "{error}");
}

#[test]
fn sizes_of_a_push() {
    let guard = Guard::open(bundle("grouped-bf16", "fp32")).unwrap();
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("hello")]).unwrap();
    let error = stream.push_text(vec![b'a'; (1 << 20) + 1]).unwrap_err();
    assert!(
        matches!(&error, Error::Argument { argument: "text", reason, .. } if reason.contains("1048576")),
        "{error}"
    );
    assert_eq!(stream.push_text(b"").unwrap().received, 0);
    assert_eq!(stream.push_text(b"hi").unwrap().received, 2);
    let empty = stream.finish().unwrap();
    assert_eq!(empty.received, 2);
}
