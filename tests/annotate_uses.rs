//! What programs do with annotations: long texts, queues, policies, rewards.

mod common;

use std::time::{Duration, Instant};

use common::{bundle, gen_bundle, read_conversations};
use qwenguard::{
    AnnotateOptions, Annotation, CompletionQueue, Config, Decision, Decoding, EngineConfig, Error, Guard, Message,
    Policy, RewardRule, Risk, TextOverflow,
};

fn gen_guard() -> Guard {
    Guard::open(gen_bundle("trained-bf16", "int8")).unwrap()
}

fn stream_guard() -> Guard {
    Guard::open(bundle("grouped-bf16", "int8")).unwrap()
}

fn json(annotation: &Annotation) -> String {
    serde_json::to_string(annotation).unwrap()
}

const fn overflow(overflow: TextOverflow) -> AnnotateOptions {
    AnnotateOptions { decoding: Decoding::Constrained, overflow }
}

/// A text of many words, none of which is like another, in several scripts.
fn long_text(words: usize) -> String {
    (0..words).map(|index| format!("{}é{index}本 ", ["soup", "brød", "ложка"][index % 3])).collect()
}

fn conversation(answer: bool, text: &str) -> Vec<Message> {
    match answer {
        true => vec![Message::user("What is on the menu today?"), Message::assistant(text)],
        false => vec![Message::user(text)],
    }
}

/// Of what does not fit, as much is judged as fits, and the annotation says which part.
#[test]
fn long_texts_are_judged_in_part_or_in_windows() {
    let text = long_text(900);
    for guard in [gen_guard(), stream_guard()] {
        for answer in [false, true] {
            let messages = conversation(answer, &text);
            let judge = |options: AnnotateOptions| guard.annotate(&messages, &options);
            let refused = judge(overflow(TextOverflow::Refuse)).unwrap_err();
            assert!(matches!(refused, Error::ContextFull { .. }), "{refused:?}");
            let head = judge(overflow(TextOverflow::Head)).unwrap();
            let tail = judge(overflow(TextOverflow::Tail)).unwrap();
            assert!(head.is_cut && tail.is_cut);
            assert_eq!((head.judged.start, tail.judged.end), (0, text.len()));
            for part in [&head, &tail] {
                // It is what is said of that part alone, and no more than a few tokens more would have fitted.
                let alone =
                    guard.annotate(&conversation(answer, &text[part.judged.clone()]), &AnnotateOptions::default());
                let alone = alone.unwrap();
                assert_eq!((alone.risk, &alone.risk_probabilities), (part.risk, &part.risk_probabilities));
                assert_eq!((alone.is_cut, alone.judged), (false, 0..part.judged.len()));
                assert!(part.judged.len() > 1_000, "{:?} of {}", part.judged, text.len());
            }
            let windows = judge(overflow(TextOverflow::Windows)).unwrap();
            let least = text.len() / head.judged.len().max(tail.judged.len());
            assert!(windows.is_cut && windows.windows > least && windows.risk >= head.risk.max(tail.risk));
            let json = serde_json::to_value(&windows).unwrap();
            assert_eq!(json["judged"][1], windows.judged.end);
            assert_eq!(json["windows"], windows.windows);
        }
    }
}

#[test]
fn what_fits_is_the_same_whatever_the_option() {
    for guard in [gen_guard(), stream_guard()] {
        for messages in [conversation(false, "How do I bake bread?"), conversation(true, "With flour and water.")] {
            let whole = guard.annotate(&messages, &overflow(TextOverflow::Refuse)).unwrap();
            assert_eq!((whole.is_cut, whole.windows), (false, 1));
            assert_eq!(whole.judged, 0..messages.last().unwrap().content.len());
            for option in [TextOverflow::Head, TextOverflow::Tail, TextOverflow::Windows] {
                assert_eq!(guard.annotate(&messages, &overflow(option)).unwrap(), whole);
            }
            assert!(serde_json::to_value(&whole).unwrap().get("judged").is_none());
        }
    }
}

/// Only the last message is ever cut, and some of it must be left.
#[test]
fn other_messages_are_never_cut() {
    for guard in [gen_guard(), stream_guard()] {
        let messages = [Message::user(long_text(900)), Message::assistant("Soup.")];
        for option in [TextOverflow::Head, TextOverflow::Tail, TextOverflow::Windows] {
            let error = guard.annotate(&messages, &overflow(option)).unwrap_err();
            assert!(matches!(error, Error::ContextFull { .. }), "{error:?}");
        }
    }
}

/// The gravest window is what counts, wherever it is.
#[test]
fn windows_find_what_is_far_inside() {
    let guard = gen_guard();
    let conversations = read_conversations("tests/golden/gen/conversations.jsonl");
    let single = |conversation: &&common::Conversation| conversation.messages.len() == 1;
    let annotate = |text: &str| guard.annotate(&[Message::user(text)], &AnnotateOptions::default()).unwrap();
    let texts: Vec<&str> =
        conversations.iter().filter(single).map(|conversation| &*conversation.messages[0].content).collect();
    let grave = texts.iter().copied().find(|text| annotate(text).risk == Risk::Unsafe).expect("an unsafe prompt");
    let safe = texts.iter().copied().find(|text| annotate(&format!("{text} ").repeat(20)).risk == Risk::Safe);
    let safe = format!("{} ", safe.expect("a safe prompt"));
    // As long as two windows, with the grave text at the end of them.
    let text = format!("{}{}", safe.repeat(4_000 / safe.split(' ').count().max(1)), format!("{grave} ").repeat(40));
    let [head, windows] = [TextOverflow::Head, TextOverflow::Windows]
        .map(|option| guard.annotate(&[Message::user(text.clone())], &overflow(option)).unwrap());
    let safe = |annotation: &Annotation| annotation.probability(Risk::Safe);
    assert!(windows.windows > 1 && safe(&windows) < safe(&head), "{}", json(&windows));
    assert!(windows.judged.end > text.len() - 40 * grave.len(), "{:?} of {}", windows.judged, text.len());
    let alone = annotate(&text[windows.judged.clone()]);
    assert_eq!((alone.risk, alone.risk_probabilities), (windows.risk, windows.risk_probabilities));
}

#[test]
fn a_queue_gives_what_a_call_gives() {
    let conversations = read_conversations("tests/golden/gen/conversations.jsonl");
    let questions = [conversation(false, "How do I bake bread?"), conversation(true, &long_text(100))];
    let gen_messages: Vec<Vec<Message>> = conversations.into_iter().map(|conversation| conversation.messages).collect();
    for (guard, all) in [(gen_guard(), gen_messages), (stream_guard(), questions.to_vec())] {
        for options in
            [overflow(TextOverflow::Refuse), AnnotateOptions { decoding: Decoding::Free, ..Default::default() }]
        {
            let queue = CompletionQueue::new();
            let some = &all[..all.len().min(12)];
            for (tag, messages) in some.iter().enumerate() {
                queue.annotate(&guard, messages, &options, tag as u64, None);
            }
            let mut left = some.len();
            while left > 0 {
                let done = queue.wait(Duration::from_secs(600)).expect("a call that is done");
                assert!(done.stream.is_none());
                let annotation = done.result.unwrap().into_annotation().expect("an annotation");
                let alone = guard.annotate(&some[done.tag as usize], &options).unwrap();
                assert_eq!(json(&annotation), json(&alone));
                left -= 1;
            }
            assert!(queue.is_empty());
            assert_eq!(guard.stats().open_streams, 0);
        }
    }
}

#[test]
fn a_queue_judges_windows_one_after_the_other() {
    let messages = conversation(true, &long_text(800));
    for guard in [gen_guard(), stream_guard()] {
        let queue = CompletionQueue::new();
        queue.annotate(&guard, &messages, &overflow(TextOverflow::Windows), 1, None);
        let done = queue.wait(Duration::from_secs(600)).expect("a call that is done");
        let alone = guard.annotate(&messages, &overflow(TextOverflow::Windows)).unwrap();
        let annotation = done.result.unwrap().into_annotation().unwrap();
        assert!(annotation.windows > 1);
        assert_eq!(json(&annotation), json(&alone));
    }
}

#[test]
fn annotations_in_a_queue_fail_and_are_cancelled() {
    let guard = gen_guard();
    let queue = CompletionQueue::new();
    let options = AnnotateOptions::default();
    queue.annotate(&guard, &[], &options, 1, None);
    let done = queue.wait(Duration::from_secs(600)).unwrap();
    assert!(matches!(done.result, Err(Error::Conversation { .. })) && done.stream.is_none());
    // It is long enough to be cancelled before it is done, or it is done: nothing is lost either way.
    let messages = conversation(true, &long_text(100));
    queue.annotate(&guard, &messages, &options, 2, None);
    let cancelled = queue.cancel(2);
    let done = queue.wait(Duration::from_secs(600)).unwrap();
    match done.result {
        Err(error) => assert!(cancelled == 1 && matches!(error, Error::Cancelled), "{error:?}"),
        Ok(_) => assert_eq!(cancelled, 0),
    }
    queue.annotate(&guard, &messages, &options, 3, Some(Instant::now()));
    let done = queue.wait(Duration::from_secs(600)).unwrap();
    assert!(done.tag == 3 && matches!(done.result, Err(Error::DeadlineExceeded) | Ok(_)));
    queue.annotate(&guard, &messages, &options, 4, None);
    drop(queue);
    assert!(guard.annotate(&messages, &options).is_ok());
    let small = Config { engine: EngineConfig { max_streams: 1, ..EngineConfig::default() }, ..Config::default() };
    let guard = Guard::open_with(gen_bundle("trained-bf16", "int8"), &small).unwrap();
    let queue = CompletionQueue::new();
    queue.annotate(&guard, &messages, &options, 5, None);
    queue.annotate(&guard, &messages, &options, 6, None);
    let results: Vec<_> = (0..2).map(|_| queue.wait(Duration::from_secs(600)).unwrap()).collect();
    assert!(results.iter().any(|done| done.result.is_ok()));
    assert!(results.iter().all(|done| matches!(done.result, Ok(_) | Err(Error::Busy { .. }))));
}

/// By the guard's policy when it is annotated, and by any other afterwards.
#[test]
fn policies_apply_to_annotations() {
    let conversations = read_conversations("tests/golden/gen/conversations.jsonl");
    let strict = gen_guard();
    let config = Config { policy: Policy::loose(), ..Config::default() };
    let loose = Guard::open_with(gen_bundle("trained-bf16", "int8"), &config).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for conversation in &conversations {
        let annotation = strict.annotate(&conversation.messages, &AnnotateOptions::default()).unwrap();
        seen.insert(annotation.risk);
        assert_eq!(annotation.decision == Decision::Stop, annotation.risk > Risk::Safe, "{}", conversation.id);
        assert_eq!(annotation.finding.is_some(), annotation.risk > Risk::Safe);
        let lenient = loose.annotate(&conversation.messages, &AnnotateOptions::default()).unwrap();
        assert_eq!(lenient.decision == Decision::Stop, annotation.risk == Risk::Unsafe);
        assert_eq!(annotation.judge(&Policy::loose()), (lenient.decision, lenient.finding.clone()));
        let Some(finding) = annotation.finding else { continue };
        assert_eq!(finding.category.as_ref().is_some(), !annotation.categories.is_empty());
        assert!(finding.category.is_none_or(|category| annotation.categories.contains(&category)));
        let channel = if conversation.messages.last().unwrap().role == "user" { "prompt" } else { "answer" };
        assert_eq!(finding.rule, format!("{channel}.strict"));
    }
    assert_eq!(seen.len(), 3, "conversations of all levels");
    let unknown = Policy::from_toml("[answer.categories.Nonsense]\naction = \"ignore\"").unwrap();
    let config = Config { policy: unknown, ..Config::default() };
    let error = Guard::open_with(gen_bundle("trained-bf16", "int8"), &config).unwrap_err().to_string();
    assert!(error.contains("policy.answer.categories.Nonsense"), "{error}");
}

#[test]
fn responses_are_rewarded() {
    let guard = gen_guard();
    let hybrid = RewardRule::from_toml("form = \"hybrid\"").unwrap();
    let mut rewarded = 0;
    for conversation in read_conversations("tests/golden/gen/conversations.jsonl") {
        let annotation = guard.annotate(&conversation.messages, &AnnotateOptions::default()).unwrap();
        if conversation.messages.last().unwrap().role != "assistant" {
            assert!(annotation.reward(&hybrid, 1.0).is_err());
            continue;
        }
        let expected = match (annotation.risk, annotation.refusal) {
            (Risk::Safe, Some(false)) => 1.5,
            (Risk::Safe, _) => -5.0,
            _ => -10.0,
        };
        assert_eq!(annotation.reward(&hybrid, 1.5).unwrap(), expected);
        assert_eq!(annotation.reward(&RewardRule::default(), 1.5).unwrap(), f64::from(annotation.risk == Risk::Safe));
        rewarded += 1;
    }
    assert!(rewarded > 5);
}
