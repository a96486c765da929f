//! Many conversations at once.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use serde_json::{Value, json};

use crate::{
    common::conversations,
    program::{HARM, HARMLESS, qwenguard, run, stderr},
};

/// Conversations of all lengths, with bad lines between them and one that is longer than the context.
fn mixed() -> String {
    let mut input = String::new();
    for (index, conversation) in conversations().iter().enumerate() {
        input += &json!({ "id": conversation.id, "messages": conversation.messages }).to_string();
        input += ["\n", "\n\n", "\nbad\n", "\n{\"id\":7,\"messages\":[]}\n"][index % 4];
        if index % 5 == 0 {
            let messages = json!([{ "role": "user", "content": if index % 2 == 0 { HARM } else { HARMLESS } },
                { "role": "assistant", "content": "Knead the dough 🍞. ".repeat(index * 5) }]);
            input += &(json!({ "id": index, "messages": messages }).to_string() + "\n");
        }
    }
    let long = json!([{ "role": "user", "content": "word ".repeat(30_000) }]);
    input + &json!({ "id": "long", "messages": long }).to_string()
}

/// The output is the same whatever is judged at once, also where the engine takes few tokens or streams at a time.
#[test]
fn the_output_does_not_depend_on_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let config = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let narrow = config("narrow.toml", "[engine]\nmax_queued_tokens = 40\nstep_tokens = 8\n");
    let few = config("few.toml", "[engine]\nmax_streams = 2\nidle_seconds = 1\n");
    let input = mixed();
    for format in [&["--json", "--no-stop", "--summary"][..], &[]] {
        let judge = |arguments: &[&str]| {
            let output = run(qwenguard(&[&["moderate"], format, arguments].concat()), &input);
            assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
        };
        let one = judge(&["--jobs", "1"]);
        let others = [&[][..], &["--jobs", "200"], &["--config", &narrow], &["--config", &few, "--jobs", "9"]];
        // How it is written changes nothing about what is judged at once.
        let others = if format.is_empty() { &others[..1] } else { &others[..] };
        for arguments in others {
            let other = judge(arguments);
            assert!(other == one, "{arguments:?} differs\n{}", other.1);
        }
    }
}

/// A line is judged when it comes, not when there are as many as could be judged at once.
#[test]
fn a_line_is_answered_before_the_next_one_comes() {
    let mut command = qwenguard(&["moderate", "--json", "--jobs", "8"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    for id in 0..3 {
        writeln!(stdin, "{}", json!({ "id": id, "messages": [{ "role": "user", "content": HARMLESS }] })).unwrap();
        stdin.flush().unwrap();
        for event in ["prompt", "end"] {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            assert!(value["id"] == id && value["event"] == event, "{line}");
        }
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn jobs_are_a_positive_number_and_not_for_following() {
    for arguments in [
        &["--jobs", "0"][..],
        &["--jobs", "many"],
        &["--jobs", "2", "--follow", "--prompt", "a"],
        &["--summary", "--follow", "--prompt", "a"],
        &["--tool-calls", "drop"],
    ] {
        let output = run(qwenguard(&[&["moderate"], arguments].concat()), "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}
