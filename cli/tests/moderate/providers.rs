//! `qwenguard providers`, and `--provider`.

use serde_json::Value;

use crate::program::{qwenguard, run, stderr, stdout};

#[test]
fn providers_are_listed_with_reasons() {
    let output = run(qwenguard(&["providers", "--json"]), "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|status| status["provider"].as_str().unwrap()).collect();
    assert_eq!(names, ["cpu", "cuda", "webgpu", "directml", "coreml"]);
    assert_eq!(all[0]["available"], true);
    assert_eq!((&all[0]["devices"][0]["index"], &all[0]["devices"][0]["kind"]), (&0.into(), &"cpu".into()));
    for status in all.as_array().unwrap() {
        assert_eq!(status["available"] == false, status["reason"].is_string(), "{status}");
        assert!(status["available"] == true || status["devices"].as_array().unwrap().is_empty(), "{status}");
    }
    let output = run(qwenguard(&["providers"]), "");
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.starts_with("cpu       yes: 0 "), "{text}");
    assert!(cfg!(windows) || text.contains("directml  no: there is none but on Windows"), "{text}");
}

/// One line that says what is missing, for each command that opens a bundle.
#[test]
fn a_provider_that_cannot_be_had_is_one_line() {
    for command in ["moderate", "annotate", "inspect"] {
        let output = run(qwenguard(&[command, "--provider", "cuda"]), "");
        assert_eq!(output.status.code(), Some(1), "{command}");
        let error = stderr(&output);
        assert_eq!((error.lines().count(), &*stdout(&output)), (1, ""), "{error}");
        assert!(error.contains("execution provider cuda: ") && error.contains("onnxruntime-gpu"), "{error}");
        let output = run(qwenguard(&[command, "--provider", "gpu"]), "");
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(stderr(&output).contains("one of cpu, cuda, webgpu, directml, coreml"), "{}", stderr(&output));
        let output = run(qwenguard(&[command, "--provider", "webgpu"]), "");
        assert!(stderr(&output).contains("runtime.webgpu.library"), "{}", stderr(&output));
    }
    let output = run(qwenguard(&["inspect", "--provider", "cpu"]), "");
    assert!(stdout(&output).contains("provider    cpu\n"), "{}", stdout(&output));
}
