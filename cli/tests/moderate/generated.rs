//! Shell completions and manual pages.

#[cfg(unix)]
use std::process::{Command, Stdio};

use crate::program::{qwenguard, run, stderr, stdout};

#[test]
fn completions_know_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(qwenguard(&["completions", shell]), "");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let script = stdout(&output);
        for word in ["moderate", "annotate", "inspect", "completions", "tool-calls", "jobs", "summary", "follow"] {
            assert!(script.contains(word), "{word} is not in what {shell} gets");
        }
    }
    assert_eq!(run(qwenguard(&["completions", "tcsh"]), "").status.code(), Some(2));
}

/// What bash offers after the beginning of an option.
#[cfg(unix)]
#[test]
fn bash_completes_with_them() {
    let script = stdout(&run(qwenguard(&["completions", "bash"]), ""));
    let ask = "COMP_WORDS=(qwenguard moderate --tool-calls ''); COMP_CWORD=3; _qwenguard qwenguard '' --tool-calls; \
               echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    let bash =
        bash.args(["--norc", "-c", &format!("{script}\n{ask}")]).stderr(Stdio::inherit()).output().expect("bash");
    assert_eq!(String::from_utf8(bash.stdout).unwrap().trim(), "judge refuse");
}

#[test]
fn manual_pages_have_options_and_exit_codes() {
    let program = stdout(&run(qwenguard(&["man"]), ""));
    let moderate = stdout(&run(qwenguard(&["man", "moderate"]), ""));
    for (page, words) in [
        (&program, &["qwenguard", "moderate", "annotate", "inspect", "config", "Exit codes"][..]),
        (&moderate, &["qwenguard\\-moderate", "tool\\-calls", "jobs", "summary", "something was stopped"]),
    ] {
        assert!(page.contains(".TH qwenguard"), "{page}");
        for word in words {
            assert!(page.contains(word), "{word} is not in {page}");
        }
    }
    let output = run(qwenguard(&["man", "nothing"]), "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing"), "{}", stderr(&output));
}

#[test]
fn help_has_the_exit_codes() {
    for arguments in [&["--help"][..], &["moderate", "--help"]] {
        let output = run(qwenguard(arguments), "");
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("4  something was stopped, and something could not be judged"));
    }
}
