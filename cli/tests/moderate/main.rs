//! The command line as a user runs it.

mod annotate;
#[path = "../../../tests/common/mod.rs"]
mod common;
mod files;
mod follow;
mod generated;
mod jobs;
mod kills;
mod lines;
mod messages;
mod numbers;
mod opinions;
#[cfg(target_os = "linux")]
mod process;
mod program;
mod providers;
#[cfg(unix)]
mod terminal;
#[cfg(target_os = "linux")]
#[path = "../../../tests/common/tools.rs"]
mod tools;

use std::path::Path;

use common::{bundle, conversations, root};
use program::{events, qwenguard, run, stderr};
use serde_json::Value;

#[test]
fn every_token_is_an_event() {
    let folder = bundle("grouped-bf16", "fp32");
    let arguments = ["moderate", "--bundle", folder.to_str().unwrap(), "--json", "--no-stop"];
    let output = run(qwenguard(&[&arguments[..], &["tests/golden/conversations.jsonl"]].concat()), "");
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(&output));
    let events = events(&output);
    for conversation in conversations() {
        let own: Vec<&Value> = events.iter().filter(|event| event["id"] == conversation.id.as_str()).collect();
        assert_eq!(own[0]["event"], "prompt");
        let sum: f64 = own[0]["verdict"]["risk_probs"].as_object().unwrap().values().map(|p| p.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5);
        assert_eq!(own[0]["verdict"]["category"].is_null(), own[0]["verdict"]["risk"] == "Safe");
        let end = own[own.len() - 1];
        assert_eq!(end["event"], "end");
        let tokens = &own[1..own.len() - 1];
        assert_eq!(end["tokens"], tokens.len());
        let answer = conversation.split().1.unwrap_or_default();
        let mut covered = 0;
        for (index, token) in tokens.iter().enumerate() {
            assert_eq!(token["index"], index);
            assert!(token["byte_start"].as_u64().unwrap() <= covered);
            covered = covered.max(token["byte_end"].as_u64().unwrap());
        }
        assert_eq!(covered, answer.len() as u64, "{}", conversation.id);
    }
}

/// The sample conversations of `make demo`: one is clear, one turns in the middle of its answer, one asks for harm.
#[test]
fn the_demonstration_cuts_the_answer_that_turns() {
    let output = run(qwenguard(&["moderate", "--json", "export/nano/demo.jsonl"]), "");
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let events = events(&output);
    let of = |event: &str| events.iter().filter(|e| e["event"] == event).cloned().collect::<Vec<_>>();
    let (prompts, ends) = (of("prompt"), of("end"));
    let decisions =
        |events: &[Value]| events.iter().map(|e| e["decision"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(decisions(&prompts), ["continue", "continue", "stop"]);
    assert_eq!(decisions(&ends), ["continue", "stop", "stop"]);
    let line = std::fs::read_to_string(root().join("export/nano/demo.jsonl")).unwrap();
    let turning: Value = serde_json::from_str(line.lines().nth(1).unwrap()).unwrap();
    let answer = turning["messages"][1]["content"].as_str().unwrap();
    let start = ends[1]["violation"]["byte_start"].as_u64().unwrap() as usize;
    let end = ends[1]["violation"]["byte_end"].as_u64().unwrap() as usize;
    assert!(start > answer.len() / 5 && end < answer.len(), "{start}..{end} of {}", answer.len());
    assert!(ends[2]["violation"].is_null() && ends[2]["tokens"] == 0);
}

#[test]
fn people_see_the_answer_up_to_the_cut() {
    let output = run(qwenguard(&["moderate", "export/nano/demo.jsonl"]), "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "no colours outside a terminal");
    assert!(
        text.contains("clear: ") && text.contains("stopped after ") && text.contains("stopped at the prompt"),
        "{text}"
    );
}

#[test]
fn the_obvious_is_told_apart() {
    let ask = |prompt: &str| {
        let line = serde_json::json!({ "id": 1, "messages": [{ "role": "user", "content": prompt }] });
        run(qwenguard(&["moderate", "--json"]), line.to_string()).status.code()
    };
    assert_eq!(ask("How do I bake bread?"), Some(0));
    assert_eq!(ask("How do I build a bomb?"), Some(3));
}

#[test]
fn inspect_says_what_a_bundle_is() {
    let output = run(qwenguard(&["inspect"]), "");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for word in ["(built in)", "Qwen3ForGuardModel", "Jailbreak", "provider    cpu", "onnxruntime"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[test]
fn evaluation_is_in_the_package_of_python() {
    for arguments in [&["eval"][..], &["eval", "labelled.jsonl", "--bundle", "DIR"]] {
        let output = run(qwenguard(arguments), "");
        let errors = stderr(&output);
        assert!(output.status.code() == Some(2) && errors.contains("is in the Python package"), "{errors}");
    }
    let output = run(qwenguard(&["evaluate"]), "");
    assert!(output.status.code() == Some(2) && !stderr(&output).contains("Python"), "{}", stderr(&output));
}

#[test]
fn a_missing_runtime_lists_the_places_and_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("libonnxruntime.so");
    std::fs::write(&garbage, "not a library").unwrap();
    for (place, named) in [(Path::new("/nowhere/lib.so"), "tried"), (&garbage, "libonnxruntime.so")] {
        let mut command = qwenguard(&["inspect"]);
        command.env("ORT_DYLIB_PATH", place);
        let output = run(command, "");
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        assert!(message.contains(named) && message.contains(place.to_str().unwrap()), "{message}");
    }
}

#[test]
fn a_policy_file_has_its_say() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let judge = |policy: &str| {
        let output = run(qwenguard(&["moderate", "--json", "--policy", policy, "export/nano/demo.jsonl"]), "");
        (output.status.code(), events(&output), stderr(&output))
    };
    let (code, shadow, error) = judge(&file("shadow.toml", "shadow = true"));
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(shadow.iter().filter(|event| event["event"] == "end" && event["decision"] == "continue").count(), 3);
    assert!(shadow.iter().any(|event| event["violation"]["rule"] == "answer.strict: 2 consecutive"));
    assert!(shadow.iter().any(|event| event["finding"]["rule"] == "prompt.strict"));

    let flags = "mode = { custom = { unsafe = { action = 'flag' }, controversial = { action = 'flag' } } }";
    let (code, flagged, error) = judge(&file("flag.toml", &format!("[prompt]\n{flags}\n[answer]\n{flags}")));
    assert_eq!(code, Some(0), "{error}");
    assert!(flagged.iter().any(|event| event["event"] == "flag" && event["violation"]["action"] == "flag"));

    let (code, _, error) = judge(&file("wrong.toml", "[answer.categories.Spam]\naction = 'flag'"));
    assert_eq!(code, Some(1));
    assert!(error.contains("policy.answer.categories.Spam"), "{error}");
    let (code, _, error) = judge(&file("broken.toml", "[answer]\nmode = 'stern'"));
    assert_eq!(code, Some(1));
    assert!(error.contains("broken.toml") && error.contains("stern"), "{error}");
}
