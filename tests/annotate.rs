//! Annotations: against golden vectors of an independent PyTorch reference, see `tests/golden/README.md`, and what holds for
//! all of them.

mod common;

use std::collections::BTreeMap;

use common::{CHECKPOINTS, Conversation, GEN_CHECKPOINTS, bundle, gen_bundle, read_conversations, root};
use qwenguard::{
    AnnotateOptions, Annotation, AnnotationMode, CacheConfig, CachePrecision, Config, Decoding, EngineConfig, Error,
    Guard, Message, Risk, TextOverflow,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    conversations: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    id: String,
    mode: AnnotationMode,
    prompt_ids: Vec<u32>,
    label_only: LabelOnly,
    constrained: Constrained,
    free: Option<Free>,
}

#[derive(Deserialize)]
struct LabelOnly {
    risk: Risk,
    risk_probs: BTreeMap<String, f32>,
}

#[derive(Deserialize)]
struct Constrained {
    risk: Risk,
    risk_probs: BTreeMap<String, f32>,
    categories: Vec<String>,
    category_probs: Option<BTreeMap<String, f32>>,
    refusal: Option<bool>,
    refusal_prob: Option<f32>,
    answer: String,
}

#[derive(Deserialize)]
struct Free {
    answer: String,
    parsed: bool,
    risk: Risk,
    categories: Vec<String>,
    refusal: Option<bool>,
}

fn golden(checkpoint: &str) -> Vec<Expected> {
    let path = root().join(format!("tests/golden/gen/expected/{checkpoint}.json"));
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    golden.conversations
}

fn conversations() -> Vec<Conversation> {
    read_conversations("tests/golden/gen/conversations.jsonl")
}

const fn options(decoding: Decoding) -> AnnotateOptions {
    AnnotateOptions { decoding, overflow: TextOverflow::Refuse }
}

const CONSTRAINED: AnnotateOptions = options(Decoding::Constrained);
const LABEL_ONLY: AnnotateOptions = options(Decoding::LabelOnly);
const FREE: AnnotateOptions = options(Decoding::Free);

fn open(checkpoint: &str, precision: &str) -> Guard {
    let cache = CacheConfig { precision: CachePrecision::Auto, mib: 16 };
    Guard::open_with(gen_bundle(checkpoint, precision), &Config { cache, ..Config::default() }).unwrap()
}

fn annotate_all(guard: &Guard, conversations: &[Conversation], options: &AnnotateOptions) -> Vec<Annotation> {
    let messages = conversations.iter().map(|conversation| &*conversation.messages);
    guard.annotate_all(messages, options).into_iter().map(Result::unwrap).collect()
}

fn risks(annotation: &Annotation) -> BTreeMap<String, f32> {
    annotation.risk_probabilities.iter().map(|(risk, probability)| (risk.to_string(), *probability)).collect()
}

fn categories(annotation: &Annotation) -> Option<BTreeMap<String, f32>> {
    let name = |name: &Option<String>| name.clone().unwrap_or("None".into());
    let all = annotation.category_probabilities.as_ref()?;
    Some(all.iter().map(|(category, probability)| (name(category), *probability)).collect())
}

/// The largest difference of probabilities by name.
fn difference(found: &BTreeMap<String, f32>, wanted: &BTreeMap<String, f32>) -> f32 {
    assert!(found.keys().eq(wanted.keys()), "{found:?}, {wanted:?}");
    found.values().zip(wanted.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Compares everything but probabilities, and gives their largest difference.
fn compare(found: &Annotation, expected: &Expected) -> f32 {
    let Expected { id, mode, prompt_ids, constrained, .. } = expected;
    assert_eq!(found.prompt_ids, *prompt_ids, "{id}");
    assert_eq!(found.mode, *mode, "{id}");
    assert_eq!(found.risk, constrained.risk, "{id}");
    assert_eq!(found.categories, constrained.categories, "{id}");
    assert_eq!(found.refusal, constrained.refusal, "{id}");
    assert_eq!(found.answer, constrained.answer, "{id}");
    assert!(found.parsed);
    let refusals = [found.refusal_probability, constrained.refusal_prob];
    assert_eq!(refusals[0].is_some(), refusals[1].is_some(), "{id}");
    let refusal = refusals[0].zip(refusals[1]).map_or(0.0, |(a, b)| (a - b).abs());
    let category = match (categories(found), &constrained.category_probs) {
        (Some(found), Some(wanted)) => difference(&found, wanted),
        (found, wanted) => {
            assert_eq!(found.is_some(), wanted.is_some(), "{id}");
            0.0
        }
    };
    difference(&risks(found), &constrained.risk_probs).max(refusal).max(category)
}

#[test]
fn fp32_agrees_with_pytorch() {
    for checkpoint in GEN_CHECKPOINTS {
        let guard = open(checkpoint, "fp32");
        let (conversations, golden) = (conversations(), golden(checkpoint));
        let mut worst = 0f32;
        for (conversation, expected) in conversations.iter().zip(&golden) {
            assert_eq!(conversation.id, expected.id);
            let found = guard.annotate(&conversation.messages, &CONSTRAINED).unwrap();
            worst = worst.max(compare(&found, expected));
            let label = guard.annotate(&conversation.messages, &LABEL_ONLY).unwrap();
            assert_eq!((label.risk, &label.prompt_ids), (expected.label_only.risk, &expected.prompt_ids));
            assert_eq!((label.categories.len(), label.category_probabilities, label.refusal), (0, None, None));
            worst = worst.max(difference(
                &label.risk_probabilities.iter().map(|(risk, p)| (risk.to_string(), *p)).collect(),
                &expected.label_only.risk_probs,
            ));
        }
        assert_eq!(golden.len(), conversations.len());
        assert!(worst < 1e-4, "{checkpoint}: off by {worst}");
        println!("{checkpoint}: largest difference of a probability {worst:.1e}");
    }
}

#[test]
fn free_answers_are_those_of_pytorch() {
    for checkpoint in GEN_CHECKPOINTS {
        let guard = open(checkpoint, "fp32");
        let mut compared = 0;
        for (conversation, expected) in conversations().iter().zip(golden(checkpoint)) {
            let Some(free) = expected.free else { continue };
            let found = guard.annotate(&conversation.messages, &FREE).unwrap();
            assert_eq!(found.answer, free.answer, "{checkpoint}, {}", expected.id);
            assert_eq!(found.parsed, free.parsed, "{checkpoint}, {}", expected.id);
            assert_eq!(found.risk, free.risk, "{checkpoint}, {}", expected.id);
            assert_eq!(found.categories, free.categories, "{checkpoint}, {}", expected.id);
            assert_eq!(found.refusal, free.refusal, "{checkpoint}, {}", expected.id);
            assert!(found.risk_probabilities.is_empty());
            compared += 1;
        }
        assert!(compared > 0, "{checkpoint}");
    }
}

/// A trained model keeps its labels under int8 weights; random ones decide by little.
#[test]
fn int8_keeps_the_labels() {
    for checkpoint in GEN_CHECKPOINTS {
        let guard = open(checkpoint, "int8");
        let found = annotate_all(&guard, &conversations(), &CONSTRAINED);
        let golden = golden(checkpoint);
        let same = found.iter().zip(&golden).filter(|(found, expected)| found.risk == expected.constrained.risk);
        let share = same.count() as f32 / golden.len() as f32;
        let floor = if checkpoint.starts_with("trained") { 0.97 } else { 0.85 };
        assert!(share >= floor, "{checkpoint}: {share}");
        println!("{checkpoint}: int8 keeps {:.1}% of the labels", share * 100.0);
    }
}

fn json(annotation: &Annotation) -> String {
    serde_json::to_string(annotation).unwrap()
}

/// Long conversations in both modes that are unlike the golden ones.
fn others(count: usize) -> Vec<Conversation> {
    let text = |index: usize| format!("{index} is a number, and so is {}. ", index * 7919).repeat(12);
    let conversation = |index: usize| {
        let mut messages = vec![Message::user(text(index))];
        if index.is_multiple_of(2) {
            messages.push(Message::assistant(text(index + 1)));
        }
        Conversation { id: index.to_string(), messages }
    };
    (0..count).map(conversation).collect()
}

#[test]
fn company_and_evictions_change_no_byte() {
    let same = |found: &[Annotation], alone: &[String]| {
        for (found, alone) in found.iter().zip(alone) {
            assert_eq!(json(found), *alone);
        }
    };
    for (checkpoint, precision) in [("tied-bf16", "int8"), ("untied-fp16", "int8"), ("untied-fp16", "int4")] {
        let conversations = conversations();
        let cache = CacheConfig { precision: CachePrecision::Auto, mib: 1 };
        let config = Config { cache, ..Config::default() };
        let guard = Guard::open_with(gen_bundle(checkpoint, precision), &config).unwrap();
        for options in [CONSTRAINED, LABEL_ONLY] {
            let alone = |conversation: &Conversation| json(&guard.annotate(&conversation.messages, &options).unwrap());
            let alone: Vec<String> = conversations.iter().map(alone).collect();
            let crowd = annotate_all(&guard, &conversations, &options);
            same(&crowd, &alone);
            let others = others(20);
            std::thread::scope(|scope| {
                let beside = scope.spawn(|| annotate_all(&guard, &others, &options));
                let together: Vec<_> =
                    (0..3).map(|_| scope.spawn(|| annotate_all(&guard, &conversations, &options))).collect();
                for annotations in together {
                    same(&annotations.join().unwrap(), &alone);
                }
                beside.join().unwrap();
            });
            // Of one that comes again, all but the last block is in the cache; after others it is not.
            let hits = |conversation: &Conversation| {
                let before = guard.stats().prefix_hit_tokens;
                assert_eq!(json(&guard.annotate(&conversation.messages, &options).unwrap()), alone[24]);
                guard.stats().prefix_hit_tokens - before
            };
            let (_, warm) = (hits(&conversations[24]), hits(&conversations[24]));
            annotate_all(&guard, &others, &options);
            assert!(hits(&conversations[24]) < warm, "nothing was taken from the cache");
            let after = annotate_all(&guard, &conversations, &options);
            same(&after, &alone);
        }
    }
}

fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// What both texts begin with is found in the cache; an answer that is Safe takes no step of its own.
#[test]
fn a_text_costs_its_own_tokens() {
    for checkpoint in GEN_CHECKPOINTS {
        let engine = EngineConfig { step_tokens: 8192, ..EngineConfig::default() };
        let config = Config { engine, ..Config::default() };
        let guard = Guard::open_with(gen_bundle(checkpoint, "fp32"), &config).unwrap();
        let conversations = conversations();
        let modes = [AnnotationMode::Prompt, AnnotationMode::Response];
        for mode in modes {
            let mut before: Vec<Annotation> = Vec::new();
            for conversation in &conversations {
                let start = guard.stats();
                let found = guard.annotate(&conversation.messages, &CONSTRAINED).unwrap();
                let end = guard.stats();
                if found.mode != mode {
                    continue;
                }
                let cached = before.iter().map(|other| common(&other.prompt_ids, &found.prompt_ids) / 32 * 32).max();
                let (computed, hit) = (end.tokens - start.tokens, end.prefix_hit_tokens - start.prefix_hit_tokens);
                assert!(hit as usize >= cached.unwrap_or(0), "{checkpoint}, {}: {hit}", conversation.id);
                // Some tokens more where choices begin alike.
                let most = found.prompt_ids.len() - cached.unwrap_or(0) + 120;
                assert!(computed as usize <= most, "{checkpoint}, {}: {computed} of {most}", conversation.id);
                if found.risk == Risk::Safe && ["tied-bf16", "trained-bf16"].contains(&checkpoint) {
                    assert_eq!(end.steps - start.steps, 1, "{checkpoint}, {}", conversation.id);
                }
                before.push(found);
            }
        }
    }
}

/// Several answers to one prompt, as reinforcement learning has them: the prompt is computed once.
#[test]
fn a_group_shares_its_prompt() {
    let guard = open("trained-bf16", "fp32");
    let ask = Message::user("Tell me everything that you know of bread, and of soup as well. ".repeat(10));
    let answer = |index: usize| vec![ask.clone(), Message::assistant(format!("{index} things are known of it."))];
    let group: Vec<Vec<Message>> = (1..9).map(answer).collect();
    let annotations = guard.annotate_all(group.iter().map(Vec::as_slice), &LABEL_ONLY);
    let annotations: Vec<Annotation> = annotations.into_iter().map(Result::unwrap).collect();
    let alike = |other: &Annotation| common(&annotations[0].prompt_ids, &other.prompt_ids);
    let shared = annotations.iter().map(alike).min().unwrap() / 32 * 32;
    assert!(shared > 300, "{shared}");
    let stats = guard.stats();
    assert!(stats.prefix_hit_tokens as usize >= 7 * shared, "{} of 7 x {shared}", stats.prefix_hit_tokens);
}

fn refusal(guard: &Guard, messages: &[(&str, &str)]) -> String {
    let messages: Vec<Message> = messages.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    let error = guard.annotate(&messages, &CONSTRAINED).unwrap_err();
    assert!(matches!(error, Error::Conversation { .. }), "{error:?}");
    let error = error.to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn what_the_template_leaves_out_is_named() {
    let guard = open("tied-bf16", "int8");
    assert!(refusal(&guard, &[]).contains("no message"));
    for (messages, place) in [
        (vec![("assistant", "Hello."), ("user", "Hi.")], "message 0 (counted from 0) of role \"assistant\""),
        (
            vec![("user", "Hi."), ("system", "Be good."), ("user", "Hi.")],
            "message 1 (counted from 0) of role \"system\"",
        ),
        (vec![("user", "Hi."), ("tool", "42")], "message 1 (counted from 0) of role \"tool\""),
    ] {
        let error = refusal(&guard, &messages);
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn nothing_is_ever_cut() {
    let guard = open("tied-bf16", "int8");
    let long = |count: usize| [Message::user("no ".repeat(count))];
    let longest = (0..4096).rev().find(|count| guard.annotate(&long(*count), &LABEL_ONLY).is_ok()).unwrap();
    for options in [CONSTRAINED, LABEL_ONLY, FREE] {
        for count in [longest + 1, 5_000, 1 << 20] {
            let error = guard.annotate(&long(count), &options).unwrap_err();
            assert!(matches!(error, Error::ContextFull { limit: 4096, .. }), "{error:?}");
        }
    }
    // It leaves no room for more than the level.
    let whole = guard.annotate(&long(longest), &FREE).unwrap_err();
    assert!(matches!(whole, Error::ContextFull { .. }), "{whole:?}");
}

/// One that fails leaves the others alone, and results are in the order of the conversations.
#[test]
fn failures_are_in_their_places() {
    let guard = open("trained-bf16", "int8");
    let conversations = conversations();
    let bad = [Message::user("no ".repeat(1 << 20))];
    let mut all: Vec<&[Message]> = vec![&bad, &[]];
    for conversation in &conversations {
        all.extend([&*conversation.messages, &bad]);
    }
    let results = guard.annotate_all(all.iter().copied(), &CONSTRAINED);
    assert_eq!(results.len(), all.len());
    let alone = annotate_all(&guard, &conversations, &CONSTRAINED);
    for (index, result) in results.into_iter().enumerate() {
        match index {
            1 => assert!(matches!(result, Err(Error::Conversation { .. }))),
            index if index % 2 == 0 && index > 0 => assert_eq!(result.unwrap(), alone[index / 2 - 1]),
            _ => assert!(matches!(result, Err(Error::ContextFull { .. })), "{index}"),
        }
    }
}

/// However few streams and tokens the configuration allows.
#[test]
fn small_limits_only_take_longer() {
    let conversations = conversations();
    let expected = annotate_all(&open("tied-bf16", "int8"), &conversations, &CONSTRAINED);
    for engine in [
        EngineConfig { max_streams: 1, ..EngineConfig::default() },
        EngineConfig { max_streams: 3, ..EngineConfig::default() },
        EngineConfig { max_queued_tokens: 1200, ..EngineConfig::default() },
    ] {
        let guard = Guard::open_with(gen_bundle("tied-bf16", "int8"), &Config { engine, ..Config::default() }).unwrap();
        let found = annotate_all(&guard, &conversations, &CONSTRAINED);
        assert_eq!(found.iter().map(json).collect::<Vec<_>>(), expected.iter().map(json).collect::<Vec<_>>());
        assert_eq!(guard.stats().open_streams, 0);
    }
}

#[test]
fn json_has_the_names_of_the_command_line() {
    let guard = open("trained-bf16", "fp32");
    let conversations = conversations();
    for (annotation, conversation) in annotate_all(&guard, &conversations, &CONSTRAINED).iter().zip(&conversations) {
        let value = serde_json::to_value(annotation).unwrap();
        let response = conversation.messages.last().unwrap().role == "assistant";
        assert_eq!(value["mode"], if response { "response" } else { "prompt" });
        assert_eq!(value["safety"]["label"], annotation.risk.to_string());
        assert_eq!(value["safety"]["probs"].as_object().unwrap().len(), 3);
        assert_eq!(value["categories"].as_array().unwrap().len(), annotation.categories.len());
        assert_eq!(value["refusal"].is_boolean(), response);
        assert_eq!(value["n_ids"], annotation.prompt_ids.len());
        assert_eq!(value["ids_sha256"].as_str().unwrap().len(), 64);
        assert_eq!(value["answer"], annotation.answer);
    }
}

/// A bundle of the variant stream annotates, too: by the heads of prompts, or by all tokens of the answer.
#[test]
fn streams_annotate() {
    for checkpoint in CHECKPOINTS {
        let guard = Guard::open(bundle(checkpoint, "int8")).unwrap();
        let conversations = common::conversations();
        let (judged, refused): (Vec<&Conversation>, Vec<_>) = conversations.iter().partition(|conversation| {
            let before = conversation.messages.iter().rev().nth(1);
            let last = conversation.messages.last().unwrap();
            let alone = before.is_none_or(|before| before.role != "assistant");
            last.role == "user" || last.role == "assistant" && alone && !last.content.is_empty()
        });
        assert!(judged.len() > 10, "{checkpoint}");
        let all = guard.annotate_all(judged.iter().map(|conversation| &*conversation.messages), &CONSTRAINED);
        for (conversation, annotation) in judged.iter().zip(all) {
            let annotation = annotation.unwrap();
            let alone = guard.annotate(&conversation.messages, &CONSTRAINED).unwrap();
            assert_eq!(json(&annotation), json(&alone), "{checkpoint}, {}", conversation.id);
            let mut stream = guard.stream().unwrap();
            let (messages, answer) = conversation.split();
            let check = stream.prompt(messages).unwrap();
            let Some(answer) = answer else {
                assert_eq!(annotation.mode, AnnotationMode::Prompt);
                assert_eq!(annotation.risk, check.verdict.risk());
                continue;
            };
            let mut known = common::Known::default();
            known.take(stream.push_text(answer.as_bytes()).unwrap());
            known.take(stream.finish().unwrap());
            assert_eq!(annotation.mode, AnnotationMode::Response);
            assert_eq!(annotation.refusal, None);
            // Two tokens in a row that are not Safe are a violation, and the other way round.
            if known.verdicts().len() > 1 {
                assert_eq!(
                    annotation.risk > Risk::Safe,
                    known.violation.is_some(),
                    "{checkpoint}, {}",
                    conversation.id
                );
            }
            assert_eq!(annotation.categories.is_empty(), annotation.risk == Risk::Safe);
            assert_eq!(annotation.risk_probabilities.len(), 3);
        }
        for conversation in refused {
            let error = guard.annotate(&conversation.messages, &CONSTRAINED).unwrap_err();
            assert!(matches!(error, Error::Conversation { .. }), "{}: {error:?}", conversation.id);
        }
    }
}

/// A guard that takes few tokens at once judges many conversations all the same.
#[test]
fn streams_annotate_within_small_limits() {
    let conversations: Vec<Vec<Message>> = (0..20)
        .map(|index| {
            let question = format!("How do I clean kitchen {index}?");
            vec![Message::user(question), Message::assistant("Start with the counters. ".repeat(1 + index % 5))]
        })
        .collect();
    let annotate = |engine| {
        let guard = Guard::open_with(bundle("grouped-bf16", "int8"), &Config { engine, ..Config::default() }).unwrap();
        let all = guard.annotate_all(conversations.iter().map(Vec::as_slice), &CONSTRAINED);
        all.iter().map(|annotation| json(annotation.as_ref().unwrap())).collect::<Vec<_>>()
    };
    let expected = annotate(EngineConfig::default());
    assert_eq!(annotate(EngineConfig { max_queued_tokens: 40, ..EngineConfig::default() }), expected);
    assert_eq!(annotate(EngineConfig { max_streams: 3, ..EngineConfig::default() }), expected);
}
