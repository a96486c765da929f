//! `qwenguard annotate`.

use qwenguard::{AnnotateOptions, Guard};
use serde_json::{Value, json};

use crate::{
    common::{gen_bundle, read_conversations, root},
    program::{events, qwenguard, run, stderr, stdout},
};

const CONVERSATIONS: &str = "tests/golden/gen/conversations.jsonl";

fn annotate(arguments: &[&str], input: impl AsRef<[u8]>) -> (i32, Vec<Value>, String) {
    let folder = gen_bundle("trained-bf16", "int8");
    let bundle = ["annotate", "--json", "--bundle", folder.to_str().unwrap()];
    let output = run(qwenguard(&[&bundle, arguments].concat()), input);
    (output.status.code().unwrap(), events(&output), stderr(&output))
}

/// In the order of the input, and as the library has it, to the byte.
#[test]
fn every_line_has_a_line() {
    let folder = gen_bundle("trained-bf16", "int8");
    let arguments = ["annotate", "--json", "--bundle", folder.to_str().unwrap(), CONVERSATIONS];
    let output = run(qwenguard(&arguments), "");
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let guard = Guard::open(&folder).unwrap();
    let (text, conversations) = (stdout(&output), read_conversations(CONVERSATIONS));
    assert_eq!(text.lines().count(), conversations.len());
    for (line, conversation) in text.lines().zip(conversations) {
        let annotation = guard.annotate(&conversation.messages, &AnnotateOptions::default()).unwrap();
        let annotation = serde_json::to_string(&annotation).unwrap();
        assert_eq!(line, format!("{{\"id\":\"{}\",{}", conversation.id, &annotation[1..]));
    }
}

#[test]
fn company_changes_no_byte_of_a_line() {
    let all = std::fs::read_to_string(root().join(CONVERSATIONS)).unwrap();
    let (_, together, _) = annotate(&["-"], &all);
    for (line, expected) in all.lines().zip(&together).step_by(7) {
        let (_, alone, _) = annotate(&[], line);
        assert_eq!(alone[0].to_string(), expected.to_string());
    }
}

#[test]
fn exit_codes_say_what_was_found() {
    let all = std::fs::read_to_string(root().join(CONVERSATIONS)).unwrap();
    let line = |id: &str| all.lines().find(|line| line.contains(id)).unwrap();
    let (safe, bomb) = (line("reply-soup"), line("ask-bomb"));
    let left_out =
        r#"{"id": 8, "messages": [{"role": "assistant", "content": "Hm."}, {"role": "user", "content": "?"}]}"#;
    let code = |lines: &[&str]| annotate(&[], lines.join("\n")).0;
    assert_eq!(code(&[]), 1);
    assert_eq!(code(&[safe]), 0);
    assert_eq!(code(&[safe, bomb]), 3);
    assert_eq!(code(&[safe, left_out]), 1);
    assert_eq!(code(&[bomb, left_out]), 4);
    let (_, lines, errors) = annotate(&[], [left_out, "nonsense", safe].join("\n"));
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["id"], 8);
    assert!(lines[0]["error"].as_str().unwrap().contains("message 0 (counted from 0) of role \"assistant\""));
    assert!(lines[1]["id"].is_null() && lines[1]["error"].is_string());
    assert_eq!(lines[2]["safety"]["label"], "Safe");
    assert!(errors.contains("standard input, line 1: ") && errors.contains("standard input, line 2: "), "{errors}");
}

#[test]
fn decoding_is_a_setting() {
    let input = std::fs::read_to_string(root().join(CONVERSATIONS)).unwrap();
    let (_, constrained, _) = annotate(&[], &input);
    let (_, labels, _) = annotate(&["--decoding", "label-only"], &input);
    let (_, free, _) = annotate(&["--decoding", "free"], &input);
    for ((constrained, label), free) in constrained.iter().zip(&labels).zip(&free) {
        assert_eq!(constrained["safety"], label["safety"]);
        assert!(label["refusal"].is_null() && label["categories"] == json!([]));
        assert!(free["safety"]["probs"].is_null() && free["parsed"].is_boolean());
        assert_eq!(constrained["ids_sha256"], free["ids_sha256"]);
    }
}

#[test]
fn long_texts_are_judged_as_the_option_says() {
    let text = "Bread needs flour and water. ".repeat(900);
    let line = json!({"id": 1, "messages": [{"role": "user", "content": text}]}).to_string();
    let (code, lines, _) = annotate(&[], &line);
    assert!(code == 1 && lines[0]["error"].is_string());
    for option in ["head", "tail", "windows"] {
        let (code, lines, errors) = annotate(&["--overflow", option], &line);
        assert!(code == 0 || code == 3, "{errors}");
        let judged = [0, 1].map(|end| lines[0]["judged"][end].as_u64().unwrap() as usize);
        assert!(judged[0] < judged[1] && judged[1] <= text.len(), "{judged:?}");
        assert_eq!(lines[0]["windows"].as_u64().is_some_and(|count| count > 1), option == "windows");
    }
}

#[test]
fn a_policy_decides_what_is_found() {
    let all = std::fs::read_to_string(root().join(CONVERSATIONS)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    let rules = "mode = { custom = { unsafe = { action = \"flag\" }, controversial = { action = \"flag\" } } }\n";
    std::fs::write(&policy, format!("[prompt]\n{rules}[answer]\n{rules}")).unwrap();
    let (code, lines, errors) = annotate(&["--policy", policy.to_str().unwrap()], &all);
    assert_eq!(code, 0, "{errors}");
    for line in &lines {
        assert_eq!(line["decision"], "continue");
        assert_eq!(line["finding"]["action"].as_str(), (line["safety"]["label"] != "Safe").then_some("flag"));
    }
    std::fs::write(&policy, "[answer]\nmoder = 1").unwrap();
    let (code, _, errors) = annotate(&["--policy", policy.to_str().unwrap()], &all);
    assert!(code == 1 && errors.contains("policy.toml") && errors.contains("moder"), "{errors}");
}

#[test]
fn people_get_a_line_each() {
    let folder = gen_bundle("trained-bf16", "int8");
    let output = run(qwenguard(&["annotate", "--bundle", folder.to_str().unwrap(), CONVERSATIONS]), "");
    let text = stdout(&output);
    assert!(text.starts_with("ask-cake: prompt: "), "{text}");
    assert!(text.contains("reply-refusal: response: ") && text.contains("refuse"), "{text}");
}

/// The sample conversations of `make demo`: a fine answer, one that turns, and one that refuses.
#[test]
fn the_demonstration_guard_annotates() {
    let output = run(qwenguard(&["annotate", "--json", "export/nano/demo.jsonl"]), "");
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let events = events(&output);
    assert_eq!(events[0]["safety"]["label"], "Safe");
    assert_eq!(events[1]["safety"]["label"], "Unsafe");
    assert_eq!(events[1]["categories"], json!(["Violent"]));
    assert_eq!(events[2]["safety"]["label"], "Safe");
    let refusals: Vec<&Value> = events.iter().map(|event| &event["refusal"]).collect();
    assert_eq!(refusals, [&json!(false), &json!(false), &json!(true)]);
}

/// A guard that judges token by token annotates all the same.
#[test]
fn a_stream_bundle_annotates() {
    let output =
        run(qwenguard(&["annotate", "--json", "--bundle", "export/nano/bundle", "export/nano/demo.jsonl"]), "");
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let events = events(&output);
    assert_eq!(events[0]["safety"]["label"], "Safe");
    assert_ne!(events[1]["safety"]["label"], "Safe");
    assert!(events.iter().all(|event| event["refusal"].is_null()));
}

/// For people as for programs: what rules decide stands in the line, also those of the configuration.
#[test]
fn what_rules_decide_is_in_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("guard.toml");
    // The server's table is skipped.
    let text = "[serve]\nmax_inputs = 7\n[policy.answer.categories.\"Violent\"]\naction = \"flag\"\n";
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let output = run(qwenguard(&["--config", config, "annotate", "export/nano/demo.jsonl"]), "");
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let decided: Vec<&str> = lines.lines().map(|line| line.rsplit(", ").next().unwrap()).collect();
    assert!(decided[0] == "continue" && decided[1].starts_with("flag (answer."), "{lines}");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = run(qwenguard(&["annotate", "--json"]), "{\"messages\": []}\n\nnonsense\n");
    let lines = events(&output);
    assert_eq!((lines[0]["line"].as_u64(), lines[1]["line"].as_u64()), (Some(1), Some(3)));
}
