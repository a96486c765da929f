//! The command line as a user runs it.

mod common;

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use common::{bundle, conversations, root};
use serde_json::Value;

fn qwenguard(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwenguard"));
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a command that must end by itself.
fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let reader = std::thread::spawn({
        let start = Instant::now();
        move || (child.wait_with_output().unwrap(), start.elapsed())
    });
    let (output, elapsed) = reader.join().unwrap();
    writer.join().unwrap();
    assert!(elapsed < Duration::from_secs(60), "took {elapsed:?}");
    output
}

fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

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
        run(qwenguard(&["moderate", "--json"]), &line.to_string()).status.code()
    };
    assert_eq!(ask("How do I bake bread?"), Some(0));
    assert_eq!(ask("How do I build a bomb?"), Some(3));
}

#[test]
fn inspect_says_what_a_bundle_is() {
    let output = run(qwenguard(&["inspect"]), "");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for word in ["(built in)", "Qwen3ForGuardModel", "Jailbreak", "CPU", "onnxruntime"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[test]
fn bad_input_names_the_line() {
    let cases = [
        ("{\"id\": 1, \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}\nnonsense\n", "line 2"),
        ("{\"id\": 1}\n", "messages"),
        ("{\"id\": 1, \"messages\": [{\"role\": \"user\"}]}\n", "content"),
        ("{\"id\": 1, \"messages\": []}\n", "no user turn"),
        ("{\"id\": 1, \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}\n\u{0}\n", "line 2"),
    ];
    for (input, named) in cases {
        let output = run(qwenguard(&["moderate", "--json"]), input);
        assert_eq!(output.status.code(), Some(1), "{input}");
        assert!(stderr(&output).contains(named), "{}", stderr(&output));
    }
    let output = run(qwenguard(&["moderate", "/nowhere.jsonl"]), "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere.jsonl"));
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
fn a_reader_that_stops_reading_is_no_error() {
    let mut command = qwenguard(&["moderate", "--json", "--no-stop", "tests/golden/conversations.jsonl"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// Runs `--follow` on an answer that is written in pieces.
fn follow(arguments: &[&str], answer: &[u8], piece: usize) -> Output {
    let arguments = [&["moderate", "--follow", "--prompt", "How do I clean the kitchen?"], arguments].concat();
    let mut child = qwenguard(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().unwrap();
    for piece in answer.chunks(piece) {
        // The program stops reading where the answer is stopped.
        if stdin.write_all(piece).and_then(|()| stdin.flush()).is_err() {
            break;
        }
    }
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn follow_shows_what_is_cleared_and_nothing_else() {
    let demo = std::fs::read_to_string(root().join("export/nano/demo.jsonl")).unwrap();
    let answers: Vec<String> = demo
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["messages"][1]["content"].as_str().unwrap().to_owned())
        .collect();
    for piece in [1, 7, 10_000] {
        let fine = follow(&[], answers[0].as_bytes(), piece);
        assert_eq!(fine.status.code(), Some(0), "{}", stderr(&fine));
        assert_eq!(fine.stdout, answers[0].as_bytes());

        let turns = follow(&[], answers[1].as_bytes(), piece);
        assert_eq!(turns.status.code(), Some(3), "{}", stderr(&turns));
        let shown = String::from_utf8(turns.stdout).unwrap();
        assert!(answers[1].starts_with(&shown) && shown.len() > answers[1].len() / 5, "{shown}");

        let json = follow(&["--json", "--no-stop"], answers[1].as_bytes(), piece);
        assert_eq!(json.status.code(), Some(3));
        let last = events(&json).pop().unwrap();
        assert_eq!(last["violation"]["byte_start"], shown.len(), "the cut is where the violation starts");
        assert_eq!(last["horizon"], shown.len());
    }
}

/// What `--follow --json` says in the end of every token, byte by byte and at once.
#[test]
fn follow_judges_pieces_like_the_whole() {
    let answer = "<think>\nSo: the counters first.\n</think>\n\nStart with the counters 日本 and wipe them.";
    let tokens = |piece: usize| {
        let mut tokens = std::collections::BTreeMap::new();
        for update in events(&follow(&["--json", "--no-stop"], answer.as_bytes(), piece)) {
            for token in update["tokens"].as_array().into_iter().flatten() {
                let index = token["index"].as_u64().unwrap();
                tokens.retain(|known, _| *known < index);
                let mut token = token.clone();
                // Half a character is not text, and what was provisional may be final later.
                token["text"] = Value::Null;
                token["final"] = Value::Null;
                tokens.insert(index, token);
            }
        }
        tokens
    };
    let whole = tokens(10_000);
    assert!(whole.len() > 15 && whole.values().any(|token| token["channel"] == "thinking"));
    assert_eq!(tokens(1), whole);
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

#[test]
fn follow_needs_a_prompt() {
    let output = run(qwenguard(&["moderate", "--follow"]), "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--prompt"), "{}", stderr(&output));
}
