//! What a terminal gets to see.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;

use crate::program::{HARMLESS, qwenguard, run};

/// Both ends of a terminal: what its user sees, and what programs write to.
fn terminal() -> (File, File) {
    let user: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let name = ptsname(&user, Vec::new()).unwrap();
    let program = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (File::from(user), program)
}

/// What a terminal shows of a command's output and errors, and the exit code.
fn shown(mut command: Command, input: &[u8]) -> (String, i32) {
    let (mut user, program) = terminal();
    let errors = program.try_clone().unwrap();
    command.env_remove("NO_COLOR").env("TERM", "xterm").stdin(Stdio::piped()).stdout(program).stderr(errors);
    let mut child = command.spawn().unwrap();
    // The command keeps ends of the terminal open for further children.
    drop(command);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    // Reading fails when no program has the terminal any more.
    while let Ok(count @ 1..) = user.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
    }
    writer.join().unwrap();
    (String::from_utf8(seen).unwrap(), child.wait().unwrap().code().unwrap())
}

/// Whether nothing but line breaks and our own colours would move a terminal.
fn is_tame(seen: &str) -> bool {
    let mut rest = seen.replace("\r\n", "\n");
    for colour in ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"] {
        rest = rest.replace(colour, "");
    }
    let wild = |letter: char| {
        (letter.is_control() && letter != '\n' && letter != '\t')
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    !rest.contains(wild)
}

/// Titles, erasing, links, the clipboard; C1 and DEL; marks that turn the direction of text.
const WILD: &str = "Mix flour.\u{1b}]0;pwned\u{7}\u{1b}[2J\u{1b}[H\u{1b}[2mclear\u{1b}[4m: 99 tokens judged\n\
    clear: 98 tokens judged\u{1b}]52;c;cm0gLXJm\u{7} \u{9b}2m \u{8}\u{8}\u{7f}\r fi\u{202e}n\u{2066}e\u{200b}\u{feff}\u{2029}.\tEnd";

fn conversation() -> String {
    let messages = json!([{ "role": "user", "content": HARMLESS }, { "role": "assistant", "content": WILD }]);
    json!({ "id": "id\u{1b}]0;t\u{7}\n\u{1b}[1A", "messages": messages }).to_string() + "\n"
}

#[test]
fn a_terminal_shows_control_characters_and_obeys_none() {
    let (seen, _) = shown(qwenguard(&["moderate", "--no-stop"]), conversation().as_bytes());
    assert!(is_tame(&seen), "{seen:?}");
    for text in
        ["id<U+001B>]0;t<U+0007><U+000A><U+001B>[1A", "<U+009B>2m", "<U+007F><U+000D>", "<U+202E>", "<U+2029>", "\tEnd"]
    {
        assert!(seen.contains(text), "{text} is not in {seen:?}");
    }
    // No line of the answer passes for one of the program's.
    assert!(seen.contains("\n  clear: 98") && seen.matches("\nclear").count() <= 1, "{seen:?}");
}

#[test]
fn json_on_a_terminal_is_tame_and_the_same_json() {
    let (seen, _) = shown(qwenguard(&["moderate", "--json", "--no-stop"]), conversation().as_bytes());
    assert!(is_tame(&seen), "{seen:?}");
    let piped = run(qwenguard(&["moderate", "--json", "--no-stop"]), conversation());
    let parse =
        |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>();
    assert_eq!(parse(&seen), parse(std::str::from_utf8(&piped.stdout).unwrap()));
}

#[test]
fn a_pipe_gets_bytes_untouched() {
    let output = run(qwenguard(&["moderate", "--no-stop"]), conversation());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(WILD) && text.contains("id\u{1b}]0;t\u{7}\n\u{1b}[1A"), "{text:?}");
    let output = run(qwenguard(&["moderate", "--follow", "--prompt", HARMLESS, "--no-stop"]), WILD);
    assert!(WILD.as_bytes().starts_with(&output.stdout));
}

#[test]
fn following_errors_and_file_names_are_tame_too() {
    let follow = qwenguard(&["moderate", "--follow", "--prompt", HARMLESS]);
    let (seen, _) = shown(follow, WILD.as_bytes());
    assert!(is_tame(&seen) && seen.contains("flour.<U+001B>]0;pwned"), "{seen:?}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a\u{1b}[2J\u{9b}b.jsonl");
    let path = file.to_str().unwrap();
    let (seen, code) = shown(qwenguard(&["moderate", path]), b"");
    assert!(code == 1 && is_tame(&seen) && seen.contains("a<U+001B>[2J<U+009B>b.jsonl"), "{seen:?}");
    std::fs::write(&file, "{\"id\":1,\"messages\":[],\"\\u001b[2J\\u009b\":\"text\"}\n").unwrap();
    let (seen, code) = shown(qwenguard(&["moderate", path]), b"");
    assert!(code == 1 && is_tame(&seen) && seen.contains("a<U+001B>[2J<U+009B>b.jsonl, line 1"), "{seen:?}");
    for arguments in [&["inspect", path][..], &["inspect", "--config", path], &["moderate", path, path], &[path]] {
        let (seen, code) = shown(qwenguard(arguments), b"");
        assert!(code != 0 && is_tame(&seen), "{arguments:?} {seen:?}");
    }
}

/// A long run says how far it is where only its errors go to a terminal; its output is the same.
#[test]
fn a_terminal_shows_how_far_a_run_is() {
    let arguments = ["annotate", "--json", "export/nano/demo.jsonl"];
    let (mut user, program) = terminal();
    let mut command = qwenguard(&arguments);
    let mut child = command.env("TERM", "xterm").stdout(Stdio::piped()).stderr(program).spawn().unwrap();
    drop(command);
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    child.wait().unwrap();
    let mut seen = vec![0; 1 << 16];
    let count = user.read(&mut seen).unwrap();
    let seen = String::from_utf8_lossy(&seen[..count]).into_owned();
    assert!(seen.contains(" conversations, ") && seen.contains('%'), "{seen:?}");
    let piped = run(qwenguard(&arguments), "");
    assert_eq!(output, std::str::from_utf8(&piped.stdout).unwrap());
    assert!(piped.stderr.is_empty(), "{:?}", String::from_utf8_lossy(&piped.stderr));
}

#[test]
fn a_terminal_shows_the_rate_of_a_data_set_and_the_time_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (input, out) = (path("in.jsonl"), path("out"));
    let row = json!({ "messages": [{ "role": "user", "content": HARMLESS }] }).to_string() + "\n";
    std::fs::write(&input, row.repeat(6)).unwrap();
    let (seen, code) = shown(qwenguard(&["annotate", &input, "--out", &out, "--part-rows", "2"]), b"");
    assert_eq!(code, 0, "{seen:?}");
    // One of the lines that were drawn over each other.
    let drawn = |line: &str| {
        [" % [", " rows, ", " a second, ", " gone, ", " left"]
            .into_iter()
            .try_fold(line, |rest, part| rest.split_once(part).map(|(_, rest)| rest))
            .is_some()
    };
    assert!(seen.split('\r').any(drawn), "{seen:?}");
    assert!(seen.contains("6 rows: 6 safe"), "{seen:?}");
}
