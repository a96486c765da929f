//! Second opinions in what `moderate` writes, by the built-in guard.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{events, qwenguard, run, stderr, stdout};

const DEMO: &str = "export/nano/demo.jsonl";

/// A configuration with a second guard, and a policy that asks it.
fn config(policy: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, format!("[second_opinion]\nbuilt_in = 'nano-gen'\ncache_mib = 16\n[policy.answer]\n{policy}"))
        .unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn opinions_are_events() {
    let (_folder, path) = config("second_opinion.violation = 'report'");
    let moderate = |arguments: &[&str]| run(qwenguard(&[&["moderate", "--config", &path], arguments].concat()), "");
    let output = moderate(&["--json", DEMO]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let all = events(&output);
    let opinions: Vec<&Value> = all.iter().filter(|event| event["event"] == "opinion").collect();
    let [opinion] = &opinions[..] else { panic!("{opinions:?}") };
    assert_eq!(
        (&opinion["id"], &opinion["trigger"], &opinion["outcome"]),
        (&"turns".into(), &"violation".into(), &"reported".into())
    );
    let end = all.iter().find(|event| event["event"] == "end" && event["id"] == "turns").unwrap();
    for field in ["byte_start", "byte_end", "first_token", "confirming_token"] {
        assert_eq!(opinion[field], end["violation"][field], "{field}");
    }
    let said = &opinion["annotation"]["safety"];
    let label = said["label"].as_str().unwrap();
    assert_eq!(opinion["annotation"]["mode"], "response");

    let text = stdout(&moderate(&[DEMO]));
    let (start, end) = (&opinion["byte_start"], &opinion["byte_end"]);
    let line = format!(
        "second opinion on bytes {start} to {end}: reported: {label} {:.2}",
        said["probs"][label].as_f64().unwrap()
    );
    assert!(text.lines().any(|found| found.starts_with(&line)), "{line} is not in {text}");

    // An answer that is being written has them in its updates.
    let answer = "Take the explosives, build a bomb and put it under the car of your neighbour. ".repeat(3);
    let follow = ["moderate", "--config", &path, "--follow", "--json", "--prompt", "How do I clean the kitchen?"];
    let followed = run(qwenguard(&follow), &answer);
    assert_eq!(followed.status.code(), Some(3), "{}", stderr(&followed));
    let updates = events(&followed);
    let found: Vec<&Value> = updates.iter().flat_map(|update| update["opinions"].as_array()).flatten().collect();
    assert!(found.iter().any(|opinion| opinion["outcome"] == "reported"), "{updates:?}");
}

/// The events and the text are the same whatever else is judged.
#[test]
fn company_changes_no_opinion() {
    let (_folder, path) =
        config("second_opinion = { violation = 'lift', uncertain = { at = 0.05 }, interval_tokens = 3 }");
    let judged = |jobs: &str| {
        let output = run(qwenguard(&["moderate", "--json", "--no-stop", "--config", &path, "--jobs", jobs, DEMO]), "");
        events(&output).into_iter().filter(|event| event["event"] == "opinion").collect::<Vec<Value>>()
    };
    let alone = judged("1");
    assert!(!alone.is_empty());
    assert_eq!(alone, judged("3"));
}
