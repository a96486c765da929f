//! `--follow`: an answer that is being written.

use std::{
    io::Write,
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::{
    common::root,
    program::{HARM, events, qwenguard, run, stderr},
};

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

/// The answers of `make demo`: one is clear, one turns.
fn demo_answers() -> Vec<String> {
    let demo = std::fs::read_to_string(root().join("export/nano/demo.jsonl")).unwrap();
    let answer =
        |line| serde_json::from_str::<Value>(line).unwrap()["messages"][1]["content"].as_str().unwrap().to_owned();
    demo.lines().map(answer).collect()
}

#[test]
fn follow_shows_what_is_cleared_and_nothing_else() {
    let answers = demo_answers();
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
fn follow_needs_a_prompt() {
    let output = run(qwenguard(&["moderate", "--follow"]), "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--prompt"), "{}", stderr(&output));
}

#[test]
fn follow_says_what_was_not_judged() {
    let cut = follow(&[], "Bake the bread 🍞".as_bytes().split_last().unwrap().1, 5);
    assert_eq!(cut.status.code(), Some(1), "a writer that is cut off inside a character");
    assert!(stderr(&cut).contains("byte 15"), "{}", stderr(&cut));
    assert!(b"Bake the bread ".starts_with(&cut.stdout));

    let wrong = follow(&["--json"], b"Bake the bread \xff and more", 100);
    assert_eq!(wrong.status.code(), Some(1));
    let last = events(&wrong).pop().unwrap();
    assert_eq!(last["event"], "error");
    assert!(last["error"].as_str().unwrap().contains("byte 15"), "{last}");

    for arguments in [&[][..], &["--json"]] {
        let empty = follow(arguments, b"", 1);
        assert_eq!(empty.status.code(), Some(1));
        assert!(stderr(&empty).contains("empty"), "{}", stderr(&empty));
    }

    // A violation is not hidden by an error, nor the error by the violation.
    let answer = [demo_answers()[1].as_bytes(), b" \xff"].concat();
    assert_eq!(follow(&["--no-stop"], &answer, 5).status.code(), Some(4));
    assert_eq!(run(qwenguard(&["moderate", "--follow", "--prompt", HARM]), "").status.code(), Some(3));
}

#[test]
fn follow_says_that_its_reader_left() {
    let mut command = qwenguard(&["moderate", "--follow", "--prompt", "How do I clean the kitchen?"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(demo_answers()[0].as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("reader"), "{}", stderr(&output));
}

/// The texts of the tokens that stand in the end, with what follows them, are the answer.
#[test]
fn follow_joins_texts_to_the_answer() {
    let answer = "<think>\nSo: 🍞 is 好吃.\n</think>\n\nBread 🍞 is 好吃, e\u{301}t\u{e9}.";
    for (answer, piece) in [(answer, 1), (answer, 7), (answer, 4096), ("<think>\nOnly 🍞\n</think>\n", 3)] {
        let output = follow(&["--json", "--no-stop"], answer.as_bytes(), piece);
        let mut tokens = std::collections::BTreeMap::new();
        let mut rest = Value::Null;
        for update in events(&output).into_iter().filter(|event| event["event"] == "update") {
            if let Some(first) = update["tokens"][0]["index"].as_u64() {
                tokens.retain(|index, _| *index < first);
            }
            for token in update["tokens"].as_array().unwrap() {
                tokens.insert(token["index"].as_u64().unwrap(), token["text"].as_str().unwrap().to_owned());
            }
            rest = update["rest"].clone();
        }
        let text = tokens.into_values().collect::<String>() + rest.as_str().unwrap();
        assert_eq!(text, answer, "in pieces of {piece}");
    }
}
