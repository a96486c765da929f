//! tests/vectors/annotations.json through the Rust API: every conversation alone, and what fits the context also together with
//! the others of its group, and through a queue. With QWENGUARD_UPDATE_VECTORS=1 the expectations are written anew.

#[path = "common/vectors.rs"]
mod common;

use std::{fmt::Write, fs, path::Path, time::Duration};

use common::{
    OTHER_NUMBERS, TOLERANCE, decision, failure, far_from_ties, gpu_bundle, kept, messages, on_provider, provider,
    rounded, same, updating,
};
use qwenguard::{
    AnnotateOptions, Annotation, CompletionQueue, Config, Decision, Guard, Message, Policy, Result, RewardRule, Risk,
    policy::AnnotationFinding,
};
use serde_json::{Map, Value, json};

fn judgement(decided: Decision, finding: Option<&AnnotationFinding>) -> Value {
    let finding = finding.map(|finding| {
        json!({
            "action": finding.action,
            "risk": finding.risk.to_string(),
            "category": finding.category,
            "probability": rounded(finding.probability),
            "rule": finding.rule,
        })
    });
    json!({ "decision": decision(decided), "finding": finding })
}

fn said(annotation: &Annotation) -> Value {
    let levels = [Risk::Safe, Risk::Controversial, Risk::Unsafe].map(|risk| rounded(annotation.probability(risk)));
    let risks = (!annotation.risk_probabilities.is_empty()).then_some(levels);
    let named = |name: &Option<String>| name.is_some();
    let categories = annotation.category_probabilities.as_ref().map(|all| {
        all.iter().filter(|(name, _)| named(name)).map(|(_, probability)| rounded(*probability)).collect::<Vec<_>>()
    });
    let none = annotation.category_probabilities.iter().flatten().find(|(name, _)| !named(name));
    let mut value = judgement(annotation.decision, annotation.finding.as_ref());
    let more = json!({
        "mode": annotation.mode,
        "risk": annotation.risk.to_string(),
        "risk_probs": risks,
        "categories": annotation.categories,
        "category_probs": categories,
        "none_prob": rounded(none.map_or(0.0, |(_, probability)| *probability)),
        "refusal": annotation.refusal,
        "refusal_prob": annotation.refusal_probability.map(rounded),
        "parsed": annotation.parsed,
        "answer": annotation.answer,
        "cut": annotation.is_cut,
        "judged": [annotation.judged.start, annotation.judged.end],
        "windows": annotation.windows,
        "ids": annotation.prompt_ids.len(),
    });
    value.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
    value
}

/// What other policies make of it.
fn judged(annotation: &Annotation, policy: &str) -> Value {
    match Policy::from_toml(policy) {
        Ok(policy) => {
            let (decided, finding) = annotation.judge(&policy);
            judgement(decided, finding.as_ref())
        }
        Err(error) => failure(&error),
    }
}

fn reward(step: &Value, annotation: &Annotation, before: &[Option<Annotation>]) -> Value {
    let thinking = step["thinking"].as_u64().map(|index| before[index as usize].as_ref().unwrap());
    let all: Vec<&Annotation> = thinking.into_iter().chain([annotation]).collect();
    let rule = RewardRule::from_toml(step["rule"].as_str().unwrap_or_default());
    let reward = rule.and_then(|rule| rule.reward(&all, step["helpfulness"].as_f64().unwrap_or(0.0)));
    reward.map_or_else(|error| failure(&error), |reward| json!({ "reward": reward }))
}

fn list<'v>(case: &'v Value, name: &str) -> &'v [Value] {
    case[name].as_array().map_or(&[], Vec::as_slice)
}

fn outcome(case: &Value, result: &Result<Annotation>, before: &[Option<Annotation>]) -> Value {
    let annotation = match result {
        Ok(annotation) => annotation,
        Err(error) => return failure(error),
    };
    let mut value = said(annotation);
    let judgements = list(case, "policies").iter().map(|policy| judged(annotation, policy.as_str().unwrap()));
    value["judgements"] = judgements.collect();
    value["rewards"] = list(case, "rewards").iter().map(|step| reward(step, annotation, before)).collect();
    value
}

fn conversation(case: &Value) -> Vec<Message> {
    let mut messages = messages(case);
    if let (Some(last), Some(times)) = (messages.last_mut(), case["repeat"].as_u64()) {
        last.content = last.content.repeat(times as usize);
    }
    messages
}

fn queued(guard: &Guard, conversations: &[Vec<Message>], options: &AnnotateOptions) -> Vec<Result<Annotation>> {
    let queue = CompletionQueue::new();
    for (tag, messages) in conversations.iter().enumerate() {
        queue.annotate(guard, messages, options, tag as u64, None);
    }
    let mut results: Vec<Option<Result<Annotation>>> = conversations.iter().map(|_| None).collect();
    while !queue.is_empty() {
        let done = queue.wait(Duration::MAX).unwrap();
        assert!(done.stream.is_none());
        results[done.tag as usize] = Some(done.result.map(|reply| reply.into_annotation().unwrap()));
    }
    results.into_iter().map(Option::unwrap).collect()
}

fn open(group: &Value, config: &str) -> Guard {
    let config = Config::from_toml(config).unwrap();
    match group["guard"].as_str().unwrap() {
        "nano" => Guard::nano(&config).unwrap(),
        "nano-gen" => Guard::nano_gen(&config).unwrap(),
        bundle => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(bundle);
            assert!(folder.join("guard.toml").is_file(), "{} is missing: run `make test-data`", folder.display());
            Guard::open_with(folder, &config).unwrap()
        }
    }
}

/// One case a line, so that changes can be read.
fn write(document: &Map<String, Value>) -> String {
    let mut text = "{\n".to_owned();
    for (name, value) in document.iter().filter(|(name, _)| *name != "groups") {
        writeln!(text, "  {}: {value},", json!(name)).unwrap();
    }
    text += "  \"groups\": [";
    for (index, group) in document["groups"].as_array().unwrap().iter().enumerate() {
        text += if index > 0 { ",\n    {" } else { "\n    {" };
        for (name, value) in group.as_object().unwrap().iter().filter(|(name, _)| *name != "cases") {
            write!(text, "{}: {value}, ", json!(name)).unwrap();
        }
        let cases: Vec<String> = list(group, "cases").iter().map(|case| format!("\n      {case}")).collect();
        write!(text, "\"cases\": [{}\n    ]}}", cases.join(",")).unwrap();
    }
    text + "\n  ]\n}\n"
}

/// What differs from what is expected in a group, which becomes what was found.
fn run(group: &mut Value, guard: &Guard, tolerance: f64, wrong: &mut Vec<String>) {
    let options: AnnotateOptions =
        serde_json::from_value(json!({ "decoding": group["decoding"], "overflow": group["overflow"] })).unwrap();
    let conversations: Vec<Vec<Message>> = list(group, "cases").iter().map(conversation).collect();
    let mut ways = vec![("alone", conversations.iter().map(|messages| guard.annotate(messages, &options)).collect())];
    if group["overflow"] == "refuse" {
        ways.push(("together", guard.annotate_all(conversations.iter().map(Vec::as_slice), &options)));
        ways.push(("queued", queued(guard, &conversations, &options)));
    }
    for (way, results) in ways {
        let annotations: Vec<Option<Annotation>> = results.iter().map(|result| result.as_ref().ok().cloned()).collect();
        for (index, (case, result)) in group["cases"].as_array_mut().unwrap().iter_mut().zip(&results).enumerate() {
            let found = outcome(case, result, &annotations);
            let place = format!("{}, {way}", case["name"]);
            if tolerance == TOLERANCE {
                far_from_ties(&found, &place);
            }
            if !same(&found, &case["expect"], kept(tolerance)) {
                wrong.push(format!("{place} ({index}): {} instead of {found}", case["expect"]));
                case["expect"] = found;
            }
        }
    }
    let categories = json!({
        "prompt": guard.query_labels().categories(),
        "response": guard.response_labels().categories(),
    });
    if group["categories"] != categories {
        wrong.push(format!("{}: other categories", group["guard"]));
        group["categories"] = categories;
    }
}

#[test]
fn annotations_are_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/annotations.json");
    let Value::Object(mut document) = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap() else {
        panic!("not an object")
    };
    let config = document["config"].as_str().unwrap().to_owned();
    let mut wrong = Vec::new();
    for group in document["groups"].as_array_mut().unwrap() {
        let guard = open(group, &config);
        run(group, &guard, TOLERANCE, &mut wrong);
    }
    if updating() {
        fs::write(&file, write(&document)).unwrap();
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// On graphs of fixed shapes, and the demonstration guard in other numbers: see tests/vectors.rs.
#[test]
fn annotations_are_the_same_through_portable_graphs() {
    let provider = provider().unwrap_or("cpu".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/vectors/annotations.json")).unwrap();
    let Value::Object(mut document) = serde_json::from_str(&text).unwrap() else { panic!("not an object") };
    let config = format!("cache.mib = 64\n[runtime]\nthreads = 1\ngraph = \"portable\"\nprovider = {provider:?}");
    let mut wrong = Vec::new();
    for group in document["groups"].as_array_mut().unwrap() {
        let bundle = match group["guard"].as_str().unwrap() {
            "nano" => "target/golden-portable/nano-fp32".to_owned(),
            // Not exported so; other groups have its architecture.
            "nano-gen" => continue,
            bundle => bundle.replace("golden-gen", "golden-portable"),
        };
        if provider != "cpu" {
            // Graphs that write into their cache keep a place of each slot for what pads a run: a context is a token less.
            group["cases"].as_array_mut().unwrap().retain(|case| case["expect"]["cut"] != true);
        }
        let opened = open(&json!({ "guard": bundle }), &config);
        run(group, &opened, OTHER_NUMBERS, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// On the provider that QWENGUARD_TEST_PROVIDER names, by its own graph.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn annotations_are_the_same_on_another_provider() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/annotations.json");
    let Value::Object(mut document) = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap() else {
        panic!("not an object")
    };
    let config = Config::from_toml(&on_provider(document["config"].as_str().unwrap())).unwrap();
    let mut wrong = Vec::new();
    for group in document["groups"].as_array_mut().unwrap() {
        // Not exported so; other groups have its architecture.
        if group["guard"] != "nano-gen" {
            let guard = Guard::open_with(gpu_bundle(group["guard"].as_str().unwrap()), &config).unwrap();
            run(group, &guard, OTHER_NUMBERS, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
