//! Lines that are no conversations, and what the exit code says.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use serde_json::{Value, json};

use crate::program::{BAD, HARM, HARMLESS, moderate, of, qwenguard, run, stderr, stdout};

fn line(id: impl Into<Value>, prompt: &str, answer: &str) -> String {
    let messages = json!([{ "role": "user", "content": prompt }, { "role": "assistant", "content": answer }]);
    json!({ "id": id.into(), "messages": messages }).to_string() + "\n"
}

/// A bad line between two good ones, of which the last is stopped.
#[test]
fn a_bad_line_is_an_error_and_the_run_goes_on() {
    let long = vec![b'x'; (4 << 20) + 1];
    let twice = br#"{"id":2,"messages":[],"messages":[{"role":"user","content":"Hi"}]}"#;
    let table: [(&[u8], Value, &str); 12] = [
        (br#"{"id":2,"messages":[{"role":"user","content":"Hello \ud83c"}]}"#, json!(2), "column"),
        (b"{\"id\":2,\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", json!(2), "UTF-8"),
        (b"nonsense", Value::Null, "column"),
        (b"\0", Value::Null, "column"),
        (b"[]", Value::Null, "object"),
        (b"{\"id\":2}", json!(2), "messages"),
        (br#"{"id":2,"messages":[{"role":"user"}]}"#, json!(2), "messages[0].content"),
        (br#"{"id":2,"messages":[]}"#, json!(2), "no user turn"),
        (br#"{"id":2,"messages":[{"role":"user","content":"Hi"}]} {}"#, json!(2), "trailing"),
        (twice, json!(2), "twice"),
        (&long, Value::Null, "4194304"),
        (b"\xef\xbb\xbf{}", Value::Null, "column"),
    ];
    for (bad, id, named) in table {
        let (one, three) = (line(1, HARMLESS, "Mix flour."), line("3\u{1f35e}", HARM, ""));
        let input = [one.as_bytes(), b"\r\n", bad, b"\r\n", three.as_bytes()].concat();
        let (code, events) = moderate(&[], &input);
        let errors = of(&events, "error");
        assert_eq!((code, errors.len()), (4, 1), "{}", String::from_utf8_lossy(&bad[..bad.len().min(80)]));
        assert_eq!((&errors[0]["line"], &errors[0]["id"]), (&json!(3), &id));
        let reason = errors[0]["error"].as_str().unwrap();
        assert!(reason.contains(named) && !reason.contains("line"), "{reason}");
        let ends = of(&events, "end");
        assert_eq!(ends.iter().map(|end| end["decision"].as_str().unwrap()).collect::<Vec<_>>(), ["continue", "stop"]);
        assert_eq!(ends[1]["id"], "3\u{1f35e}");
    }
}

#[test]
fn people_read_file_and_line_of_an_error() {
    let input = line(1, HARMLESS, "Mix flour.") + "nonsense\n" + &line(3, HARMLESS, "Knead it.");
    let output = run(qwenguard(&["moderate"]), &input);
    assert_eq!(output.status.code(), Some(1));
    let errors = stderr(&output);
    assert!(
        errors.starts_with("qwenguard: standard input, line 2: column 2: ") && errors.lines().count() == 1,
        "{errors}"
    );
    assert_eq!(stdout(&output).matches("clear").count(), 2);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.jsonl");
    std::fs::write(&file, "\n\n{}\n").unwrap();
    let output = run(qwenguard(&["moderate", file.to_str().unwrap()]), "");
    assert!(stderr(&output).contains("talk.jsonl, line 3: messages is missing"), "{}", stderr(&output));
}

/// An answer that is longer than the context: what was judged of it is there, and an error, and no end.
#[test]
fn an_answer_that_cannot_be_judged_to_its_end_is_an_error() {
    let long = line("long", HARMLESS, &"Mix the flour with water and salt. ".repeat(2000));
    let input = long.clone() + &line("next", HARMLESS, "Knead it.");
    let folder = tempfile::tempdir().unwrap();
    let shadow = folder.path().join("shadow.toml");
    std::fs::write(&shadow, "shadow = true").unwrap();
    let shadow = shadow.to_str().unwrap();
    let (code, events) = moderate(&["--policy", shadow], &input);
    assert_eq!(code, 1);
    let own: Vec<&Value> = events.iter().filter(|event| event["id"] == "long").collect();
    assert_eq!((&own[0]["event"], &own[1]["event"]), (&json!("prompt"), &json!("token")));
    let last = own[own.len() - 1];
    assert!(last["event"] == "error" && last["line"] == 1, "{last}");
    assert!(last["error"].as_str().unwrap().contains("context"), "{last}");
    assert!(own.iter().all(|event| event["event"] != "end"));
    assert_eq!(of(&events, "end").len(), 1);
    let output = run(qwenguard(&["moderate", "--policy", shadow]), &long);
    assert!(stdout(&output).contains("not judged to the end") && !stdout(&output).contains("clear"));
}

#[test]
fn the_exit_code_says_the_worst_of_both_kinds() {
    let (fine, bad, wrong) = (line(1, HARMLESS, "Mix flour."), line(2, HARMLESS, BAD), "{}\n".to_owned());
    let table = [
        (fine.clone(), 0),
        (wrong.clone(), 1),
        (fine.clone() + &wrong, 1),
        (bad.clone(), 3),
        (bad.clone() + &fine, 3),
        (bad.clone() + &wrong, 4),
        (wrong + &bad + &fine, 4),
        (String::new(), 1),
        ("\n \n\r\n".into(), 1),
        ("\u{feff}".into(), 1),
        ("\u{feff}".to_owned() + fine.trim_end(), 0),
        (fine[..fine.len() - 3].into(), 1),
    ];
    for (input, expected) in table {
        for arguments in [&["moderate", "--json"][..], &["moderate"], &["moderate", "--jobs", "1", "--no-stop"]] {
            let output = run(qwenguard(arguments), &input);
            assert_eq!(output.status.code(), Some(expected), "{input}: {}", stderr(&output));
        }
    }
    let (_, events) = moderate(&[], "");
    assert_eq!(events.len(), 1);
    assert!(events[0]["event"] == "error" && events[0]["line"].is_null(), "{}", events[0]);
    let shown = run(qwenguard(&["moderate", "/nowhere.jsonl"]), "");
    assert_eq!(shown.status.code(), Some(1));
    assert!(stderr(&shown).contains("/nowhere.jsonl"));
    // A folder can be opened, but not read.
    let output = run(qwenguard(&["moderate", "--json", "tests"]), "");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

#[test]
fn a_reader_that_leaves_is_an_error_unless_all_was_written() {
    let (fine, bad) = (line(1, HARMLESS, &"Mix flour with water. ".repeat(20)), line(2, HARMLESS, BAD));
    for (input, first_lines, expected) in
        [(fine.clone() + &bad, 0, vec![1]), (fine.repeat(30), 1, vec![1]), (bad.repeat(60), 1, vec![4])]
    {
        for arguments in [&["moderate", "--json", "--no-stop"][..], &["moderate", "--json", "--no-stop", "--jobs", "1"]]
        {
            let mut command = qwenguard(arguments);
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let out = child.stdout.take().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let input = input.clone();
            let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
            let mut out = BufReader::new(out);
            for _ in 0..first_lines {
                out.read_line(&mut String::new()).unwrap();
            }
            drop(out);
            let output = child.wait_with_output().unwrap();
            writer.join().unwrap();
            let code = output.status.code().unwrap();
            assert!(expected.contains(&code), "{code}: {}", stderr(&output));
            assert!(stderr(&output).contains("the reader of the output left"), "{}", stderr(&output));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    for arguments in [&["moderate"][..], &["moderate", "--json"], &["inspect"], &["man"], &["completions", "bash"]] {
        let mut command = qwenguard(arguments);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(line(1, HARMLESS, "Mix flour.").as_bytes());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("writing the output"), "{}", stderr(&output));
    }
}

#[test]
fn a_summary_counts() {
    let flags = "[answer]\nmode = { custom = { unsafe = { action = 'flag' }, controversial = { action = 'flag' } } }";
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("flag.toml");
    std::fs::write(&policy, flags).unwrap();
    let input = line(1, HARMLESS, "Mix flour.") + "{}\n" + &line(2, HARMLESS, BAD) + &line(3, HARM, "No.");
    let (code, events) = moderate(&["--summary"], &input);
    assert_eq!(code, 4);
    let last = events.last().unwrap();
    assert_eq!(last["event"], "summary");
    let ends: u64 = of(&events, "end").iter().map(|end| end["tokens"].as_u64().unwrap()).sum();
    let numbers = ["conversations", "errors", "stopped", "flagged"].map(|field| last[field].as_u64().unwrap());
    assert_eq!(numbers, [3, 1, 2, 0], "{last}");
    let sum = |kind: &str| last[kind]["levels"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    assert_eq!((&last["tokens"]["count"], sum("tokens")), (&json!(ends), ends));
    assert_eq!((&last["prompts"]["count"], sum("prompts")), (&json!(3), 3));
    assert_eq!((&last["answers"]["count"], sum("answers")), (&json!(2), 1));
    let of_category =
        |kind: &str| last[kind]["categories"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    assert_eq!(of_category("tokens"), ends - last["tokens"]["levels"]["Safe"].as_u64().unwrap());

    let (code, events) = moderate(&["--summary", "--policy", policy.to_str().unwrap()], line(2, HARMLESS, BAD));
    assert_eq!((code, &events.last().unwrap()["flagged"]), (0, &json!(1)));

    let output = run(qwenguard(&["moderate", "--summary"]), &input);
    let told = stderr(&output);
    assert!(told.contains("3 conversations judged: 2 stopped, 0 flagged; 1 errors"), "{told}");
    assert!(told.contains("prompts 3: Safe 2"), "{told}");
    assert!(!stdout(&output).contains("conversations judged"));
}
