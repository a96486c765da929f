//! tests/vectors through the Rust API: they are what this source gives. With QWENGUARD_UPDATE_VECTORS=1 the expectations
//! are written anew.

#[path = "common/vectors.rs"]
mod common;

use std::{fmt::Write, fs, path::Path, time::Duration};

use common::{
    OTHER_NUMBERS, TOLERANCE, decision, failure, far_from_ties, gpu_bundle, kept, messages, on_provider, provider,
    rounded, same, updating,
};

use qwenguard::{
    Annotation, Call, Channel, CompletionQueue, Config, Guard, Message, Opinion, Policy, PromptCheck, Reply, Risk,
    Stream, Update, Verdict,
};
use serde_json::{Map, Value, json};

fn verdict(verdict: &Verdict) -> Value {
    let risks = [Risk::Safe, Risk::Controversial, Risk::Unsafe].map(|risk| rounded(verdict.probability(risk)));
    let categories: Vec<Value> = verdict.category_probabilities().map(|(_, p)| rounded(p)).collect();
    json!({
        "risk": verdict.risk().to_string(),
        "category": verdict.category(),
        "risk_probs": risks,
        "category_probs": categories,
    })
}

fn check(check: &PromptCheck) -> Value {
    let finding = check.finding.as_ref().map(|finding| {
        json!({
            "action": finding.action,
            "risk": finding.risk.to_string(),
            "category": finding.category,
            "probability": rounded(finding.probability),
            "rule": finding.rule,
        })
    });
    json!({ "decision": decision(check.decision), "finding": finding, "verdict": verdict(&check.verdict) })
}

fn channel(channel: Channel) -> &'static str {
    match channel {
        Channel::Answer => "answer",
        Channel::Thinking => "thinking",
    }
}

fn update(update: &Update) -> Value {
    let violation = |found: &qwenguard::Violation| {
        json!({
            "action": found.action,
            "channel": channel(found.channel),
            "byte_start": found.bytes.start,
            "byte_end": found.bytes.end,
            "first_token": found.first_token,
            "confirming_token": found.confirming_token,
            "risk": found.risk.to_string(),
            "category": found.category,
            "probability": rounded(found.probability),
            "rule": found.rule,
        })
    };
    let tokens = update.tokens.iter().map(|token| {
        json!({
            "index": token.index,
            "id": token.token_id,
            "byte_start": token.bytes.start,
            "byte_end": token.bytes.end,
            "channel": channel(token.channel),
            "final": token.is_final,
            "verdict": verdict(&token.verdict),
        })
    });
    let mut value = json!({
        "decision": decision(update.decision),
        "horizon": update.horizon,
        "horizon_tokens": update.horizon_tokens,
        "received": update.received,
        "excess": update.excess(),
        "final_tokens": update.final_tokens,
        "void_from": update.void_from,
        "violation": update.violation.as_ref().map(violation),
        "flags": update.flags.iter().map(violation).collect::<Vec<_>>(),
        "tokens": tokens.collect::<Vec<_>>(),
    });
    if !update.opinions.is_empty() {
        value["opinions"] = update.opinions.iter().map(opinion).collect();
    }
    value
}

fn opinion(opinion: &Opinion) -> Value {
    let risks = |annotation: &Annotation| {
        [Risk::Safe, Risk::Controversial, Risk::Unsafe].map(|risk| rounded(annotation.probability(risk)))
    };
    let mut value = json!({
        "trigger": opinion.trigger,
        "outcome": opinion.outcome,
        "channel": channel(opinion.channel),
        "byte_start": opinion.bytes.start,
        "byte_end": opinion.bytes.end,
        "first_token": opinion.first_token,
        "confirming_token": opinion.confirming_token,
    });
    let said = match &opinion.annotation {
        Ok(annotation) => json!({ "risk": annotation.risk.to_string(), "risk_probs": risks(annotation) }),
        Err(error) => failure(error),
    };
    value.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
    value
}

fn number(step: &Value, name: &str) -> usize {
    step[name].as_u64().unwrap_or(0) as usize
}

/// A piece of text, or bytes in hexadecimal digits, repeated if the step says so.
fn bytes(step: &Value) -> Vec<u8> {
    let piece = match (step["text"].as_str(), step["hex"].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(hex)) => {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        }
        _ => panic!("{step} has no text"),
    };
    piece.repeat(step["repeat"].as_u64().unwrap_or(1) as usize)
}

fn ids(step: &Value) -> Vec<u32> {
    step["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// What a call looks at.
#[derive(Default)]
struct Input {
    messages: Vec<Message>,
    bytes: Vec<u8>,
    ids: Vec<u32>,
}

impl Input {
    fn new(step: &Value) -> Self {
        match step["call"].as_str().unwrap() {
            "prompt" | "next_turn" => Input { messages: messages(step), ..Input::default() },
            "push_text" | "push_thinking" => Input { bytes: bytes(step), ..Input::default() },
            "push_tokens" => Input { ids: ids(step), ..Input::default() },
            _ => Input::default(),
        }
    }

    fn call(&self, step: &Value) -> Call<'_> {
        match step["call"].as_str().unwrap() {
            "prompt" => Call::Prompt(&self.messages),
            "next_turn" => Call::NextTurn(&self.messages),
            "push_text" => Call::Text(&self.bytes),
            "push_thinking" => Call::Thinking(&self.bytes),
            "push_tokens" => Call::Tokens(&self.ids),
            "finish" => Call::Finish,
            "truncate" => Call::Truncate(number(step, "bytes")),
            "truncate_tokens" => Call::TruncateTokens(number(step, "tokens")),
            other => panic!("{other} is not for many streams"),
        }
    }
}

fn reply(result: qwenguard::Result<Reply>) -> Value {
    match result {
        Ok(Reply::Prompt(result)) => check(&result),
        Ok(Reply::Update(result)) => update(&result),
        Ok(Reply::Annotation(_)) => panic!("a call of a stream does not annotate"),
        Err(error) => failure(&error),
    }
}

/// Calls of many streams at once.
fn call_all(streams: &mut [Stream], calls: &[Value]) -> Vec<Value> {
    let inputs: Vec<Input> = calls.iter().map(Input::new).collect();
    let mut places: Vec<Option<&mut Stream>> = streams.iter_mut().map(Some).collect();
    let made = calls.iter().zip(&inputs).map(|(step, input)| {
        let stream = places[number(step, "stream")].take().expect("a stream has one call at a time");
        (stream, input.call(step))
    });
    Stream::call_all(made).into_iter().map(reply).collect()
}

/// The same through a queue.
fn queued(streams: &mut Vec<Stream>, calls: &[Value]) -> Vec<Value> {
    let queue = CompletionQueue::new();
    let mut places: Vec<Option<Stream>> = streams.drain(..).map(Some).collect();
    for (tag, step) in calls.iter().enumerate() {
        let stream = places[number(step, "stream")].take().expect("a stream has one call at a time");
        queue.submit(stream, Input::new(step).call(step), tag as u64, None);
    }
    let mut replies = vec![Value::Null; calls.len()];
    while !queue.is_empty() {
        let done = queue.wait(Duration::MAX).unwrap();
        let tag = done.tag as usize;
        replies[tag] = reply(done.result);
        places[number(&calls[tag], "stream")] = done.stream;
    }
    streams.extend(places.into_iter().flatten());
    replies
}

/// What a step gives.
fn expectation(guard: &Guard, streams: &mut Vec<Stream>, step: &Value) -> Value {
    let index = number(step, "stream");
    let call = step["call"].as_str().unwrap();
    let result = match call {
        "open" => {
            let opened = match step["policy"].as_str() {
                Some(toml) => Policy::from_toml(toml).and_then(|policy| guard.stream_with(policy)),
                None => guard.stream(),
            };
            opened.map(|stream| {
                streams.push(stream);
                json!({})
            })
        }
        "fork" => streams[index].fork().map(|fork| {
            streams.push(fork);
            json!({})
        }),
        "encode" => guard.encode(step["text"].as_str().unwrap()).map(|tokens| {
            let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
            let spans: Vec<[usize; 2]> = tokens.iter().map(|token| [token.bytes.start, token.bytes.end]).collect();
            json!({ "ids": ids, "spans": spans })
        }),
        "call_all" => Ok(json!({ "replies": call_all(streams, step["calls"].as_array().unwrap()) })),
        "queue" => Ok(json!({ "replies": queued(streams, step["calls"].as_array().unwrap()) })),
        "context_used" => Ok(json!({ "tokens": streams[index].context_used() })),
        "prompt" => streams[index].prompt(&messages(step)).map(|result| check(&result)),
        "next_turn" => streams[index].next_turn(&messages(step)).map(|result| check(&result)),
        _ => {
            let stream = &mut streams[index];
            let result = match call {
                "push_text" => stream.push_text(bytes(step)),
                "push_thinking" => stream.push_thinking(bytes(step)),
                "push_tokens" => stream.push_tokens(&ids(step)),
                "finish" => stream.finish(),
                "truncate" => stream.truncate(number(step, "bytes")),
                "truncate_tokens" => stream.truncate_tokens(number(step, "tokens")),
                other => panic!("no call {other}"),
            };
            result.map(|result| update(&result))
        }
    };
    result.unwrap_or_else(|error| failure(&error))
}

/// One step a line, so that changes can be read.
fn write(document: &Map<String, Value>) -> String {
    let mut text = "{\n".to_owned();
    for (name, value) in document {
        if name == "cases" {
            continue;
        }
        writeln!(text, "  {}: {value},", json!(name)).unwrap();
    }
    text += "  \"cases\": [\n";
    let cases = document["cases"].as_array().unwrap();
    for (index, case) in cases.iter().enumerate() {
        write!(text, "    {{\"name\": {}, \"steps\": [", case["name"]).unwrap();
        let steps: Vec<String> =
            case["steps"].as_array().unwrap().iter().map(|step| format!("\n      {step}")).collect();
        let comma = if index + 1 < cases.len() { "," } else { "" };
        writeln!(text, "{}\n    ]}}{comma}", steps.join(",")).unwrap();
    }
    text + "  ]\n}\n"
}

#[test]
fn vectors_are_up_to_date() {
    check_file("vectors.json");
}

#[test]
fn vectors_with_second_opinions_are_up_to_date() {
    check_file("opinions.json");
}

#[test]
fn vectors_with_the_built_in_second_guard_are_up_to_date() {
    check_file("built_in_opinions.json");
}

/// The guard of a file: with another one behind it, if the file names one by its place in the project's folder.
fn open(document: &Map<String, Value>) -> Guard {
    let mut config = document["config"].as_str().unwrap().to_owned();
    if let Some(bundle) = document.get("second_opinion") {
        let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join(bundle.as_str().unwrap());
        write!(config, "\nsecond_opinion.bundle = {:?}\nsecond_opinion.cache_mib = 64", bundle.display().to_string())
            .unwrap();
    }
    Guard::nano(&Config::from_toml(&config).unwrap()).unwrap()
}

fn read(name: &str) -> Map<String, Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    match serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap() {
        Value::Object(document) => document,
        _ => panic!("not an object"),
    }
}

fn labels(guard: &Guard) -> Value {
    json!({
        "prompt": guard.query_labels().categories(),
        "answer": guard.response_labels().categories(),
    })
}

/// Runs all cases. Returns what differs from what is expected, which becomes what was found.
fn run(document: &mut Map<String, Value>, guard: &Guard, tolerance: f64) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in document["cases"].as_array_mut().unwrap() {
        let name = case["name"].as_str().unwrap().to_owned();
        let mut streams = Vec::new();
        for (index, step) in case["steps"].as_array_mut().unwrap().iter_mut().enumerate() {
            let found = expectation(guard, &mut streams, step);
            if tolerance == TOLERANCE {
                far_from_ties(&found, &format!("{name}, step {index}"));
            }
            if !same(&found, &step["expect"], kept(tolerance)) {
                wrong.push(format!("{name}, step {index}: {} instead of {found}", step["expect"]));
                step["expect"] = found;
            }
        }
    }
    wrong
}

fn check_file(name: &str) {
    let mut document = read(name);
    let guard = open(&document);
    let wrong = run(&mut document, &guard, TOLERANCE);
    if updating() {
        document["categories"] = labels(&guard);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
        fs::write(&file, write(&document)).unwrap();
    } else {
        assert_eq!(document["categories"], labels(&guard));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The demonstration guard in other numbers, on graphs of fixed shapes, on the provider that QWENGUARD_TEST_PROVIDER names.
#[test]
fn vectors_are_the_same_through_portable_graphs() {
    let provider = provider().unwrap_or("cpu".into());
    // In software a graph of fixed shapes takes long.
    let precisions = if provider == "cpu" { &["fp32", "fp16"][..] } else { &["fp16"] };
    for precision in precisions {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/golden-portable/nano-{precision}"));
        assert!(folder.is_dir(), "{} is missing: run `make test-data`", folder.display());
        let config = format!("cache.mib = 64\n[runtime]\nthreads = 1\ngraph = \"portable\"\nprovider = {provider:?}");
        let guard = Guard::open_with(folder, &Config::from_toml(&config).unwrap()).unwrap();
        let mut document = read("vectors.json");
        assert_eq!(document["categories"], labels(&guard));
        let wrong = run(&mut document, &guard, OTHER_NUMBERS);
        assert!(wrong.is_empty(), "{precision}: {}", wrong.join("\n"));
    }
}

/// On the provider that QWENGUARD_TEST_PROVIDER names, by its own graph.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn vectors_are_the_same_on_another_provider() {
    let mut document = read("vectors.json");
    let config = on_provider(document["config"].as_str().unwrap());
    let guard = Guard::open_with(gpu_bundle("nano"), &Config::from_toml(&config).unwrap()).unwrap();
    assert_eq!(Some(&*guard.info().provider), provider().as_deref());
    assert_eq!(document["categories"], labels(&guard));
    let wrong = run(&mut document, &guard, OTHER_NUMBERS);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// And so is the guard behind.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn second_opinions_are_the_same_on_another_provider() {
    let mut document = read("opinions.json");
    let behind = gpu_bundle(document["second_opinion"].as_str().unwrap());
    let config = on_provider(document["config"].as_str().unwrap());
    let config =
        format!("{config}\nsecond_opinion.bundle = {:?}\nsecond_opinion.cache_mib = 64", behind.display().to_string());
    let guard = Guard::open_with(gpu_bundle("nano"), &Config::from_toml(&config).unwrap()).unwrap();
    let wrong = run(&mut document, &guard, OTHER_NUMBERS);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
