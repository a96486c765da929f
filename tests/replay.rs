//! A policy's word on verdicts that were given before is what a stream of that policy says.

mod common;

use common::bundle;
use qwenguard::{Guard, Message, Policy, TokenVerdict, Update, policy::Action};
use rand::{SeedableRng, rngs::StdRng};

use common::random_text::random_text;

const POLICIES: [&str; 6] = [
    "",
    "answer.mode = 'loose'\nthinking.mode = 'loose'",
    "answer.debounce = 'eval'\nthinking.debounce = 'eval'",
    "answer.mode = { custom = { controversial = { at = 0.1, action = 'flag' }, unsafe = { at = 0.3 } } }\n\
     answer.debounce = { window = { hits = 2, of = 5 } }",
    "answer.debounce = { consecutive = 1 }\nanswer.mode = { custom = { unsafe = { at = 0.05, action = 'flag' } } }\n\
     thinking.debounce = { consecutive = 1 }",
    "shadow = true\nanswer.debounce = { consecutive = 1 }",
];

/// All verdicts of an answer, and what was said at its end.
fn judged(guard: &Guard, policy: &Policy, text: &str) -> (Vec<TokenVerdict>, Update) {
    let mut stream = guard.stream_with(policy.clone()).unwrap();
    stream.prompt(&[Message::user("Say something.")]).unwrap();
    let mut tokens: Vec<TokenVerdict> = Vec::new();
    let mut flags = Vec::new();
    let mut take = |update: Update| {
        tokens.retain(|token| token.index < update.void_from);
        flags.retain(|flag: &qwenguard::Violation| flag.confirming_token < update.void_from);
        tokens.extend(update.tokens.iter().cloned());
        flags.extend(update.flags.iter().cloned());
        update
    };
    for piece in text.as_bytes().chunks(9) {
        take(stream.push_text(piece).unwrap());
    }
    let mut last = take(stream.finish().unwrap());
    last.flags = flags;
    (tokens, last)
}

#[test]
fn a_replay_says_what_a_stream_of_that_policy_says() {
    let guard = Guard::open(bundle("grouped-bf16", "int8")).unwrap();
    let mut random = StdRng::seed_from_u64(15);
    let mut found = 0;
    for round in 0..12 {
        let said = random_text(&mut random);
        let text = if round % 3 == 0 { format!("<think>\n{said}\n</think>\n\n{said}") } else { said };
        let policies: Vec<Policy> = POLICIES.iter().map(|policy| Policy::from_toml(policy).unwrap()).collect();
        // What was written down and is read again is the same.
        let (kept, _) = judged(&guard, &policies[2], &text);
        let written = serde_json::to_string(&kept).unwrap();
        let kept: Vec<TokenVerdict> = serde_json::from_str(&written).unwrap();
        for policy in &policies {
            let (_, live) = judged(&guard, policy, &text);
            let again = policy.replay(&kept).unwrap();
            assert_eq!((again.decision, &again.violation), (live.decision, &live.violation), "{policy:?} {text:?}");
            assert_eq!(again.flags, live.flags, "{policy:?} {text:?}");
            // Where a character begins the text alone knows.
            let floor = (0..=again.horizon).rev().find(|byte| text.is_char_boundary(*byte)).unwrap();
            assert!(live.horizon == floor || live.violation.is_none(), "{policy:?} {text:?}");
            found += usize::from(live.violation.is_some()) + live.flags.len();
        }
    }
    assert!(found > 0, "nothing was found in any text");
}

#[test]
fn a_prompt_is_replayed_too() {
    let guard = Guard::open(bundle("grouped-bf16", "int8")).unwrap();
    let check = guard.stream().unwrap().prompt(&[Message::user("Say something.")]).unwrap();
    let all = "prompt.mode = { custom = { unsafe = { at = 1e-9, action = 'flag' } } }";
    for policy in [Policy::strict(), Policy::loose(), Policy::from_toml(all).unwrap()] {
        let live = guard.stream_with(policy.clone()).unwrap().prompt(&[Message::user("Say something.")]).unwrap();
        assert_eq!(policy.replay_prompt(&check.verdict).unwrap(), live);
    }
    let flagged = Policy::from_toml(all).unwrap().replay_prompt(&check.verdict).unwrap();
    assert_eq!(flagged.finding.unwrap().action, Action::Flag);
}

#[test]
fn what_is_not_one_answer_is_an_error() {
    let guard = Guard::open(bundle("grouped-bf16", "int8")).unwrap();
    let (tokens, _) = judged(&guard, &Policy::strict(), "One two three four five.");
    let wrong = |change: &dyn Fn(&mut Vec<TokenVerdict>)| {
        let mut tokens = tokens.clone();
        change(&mut tokens);
        Policy::strict().replay(&tokens).unwrap_err().to_string()
    };
    assert!(wrong(&|tokens| tokens.swap(0, 1)).contains("comes where token"));
    assert!(wrong(&|tokens| tokens[1].index = 900).contains("token 900"));
    assert!(wrong(&|tokens| tokens[1].bytes = 0..0).contains("after byte"));
    let policy = Policy::from_toml("[answer.categories.Nonsense]\naction = 'flag'").unwrap();
    assert!(policy.replay(&tokens).unwrap_err().to_string().contains("no such category"));
    let mut out_of_range = Policy::strict();
    out_of_range.answer.debounce = qwenguard::policy::Debounce::Consecutive(0);
    assert!(out_of_range.replay(&tokens).unwrap_err().to_string().contains("policy.answer.debounce"));
    let nothing = Policy::strict().replay(&[]).unwrap();
    assert_eq!((nothing.horizon, nothing.violation), (0, None));
}

/// docs/policy.md: each example is one that a guard takes.
#[test]
fn the_policies_of_the_page_are_taken() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policy.md")).unwrap();
    let guard = Guard::open(concat!(env!("CARGO_MANIFEST_DIR"), "/export/nano/bundle")).unwrap();
    let examples: Vec<&str> = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 3, "{page}");
    for example in examples {
        let policy = Policy::from_toml(example).unwrap_or_else(|error| panic!("{error}: {example}"));
        guard.stream_with(policy).unwrap_or_else(|error| panic!("{error}: {example}"));
    }
}

/// docs/policy.md: without a rule for Controversial, what is not Unsafe enough counts as Controversial.
#[test]
fn a_rule_that_is_left_out_is_as_in_strict_mode() {
    let guard = Guard::open(bundle("grouped-bf16", "int8")).unwrap();
    let counted = |policy: &str| {
        let (tokens, _) =
            judged(&guard, &Policy::from_toml("shadow = true").unwrap(), "Some answer, of some length, to it.");
        let policy = Policy::from_toml(&format!("answer.debounce = {{ consecutive = 1 }}\n{policy}")).unwrap();
        policy.replay(&tokens).unwrap().violation.map(|violation| violation.risk)
    };
    let strict = counted("answer.mode = 'strict'");
    assert!(strict.is_some(), "the text has nothing that counts");
    let one = counted("answer.mode.custom = { unsafe = { at = 1.0 } }");
    assert_eq!(one, Some(qwenguard::Risk::Controversial));
    let both = "answer.mode.custom = { unsafe = { at = 1.0 }, controversial = { action = 'ignore' } }";
    assert_eq!(counted(both), None);
}
