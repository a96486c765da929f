//! Probabilities are numbers, or there are none.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    common::root,
    program::{qwenguard, run, stderr, stdout},
};

/// What becomes of the samples with this bundle and configuration: exit code, events and errors.
fn judged(bundle: &Path, config: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, config).unwrap();
    let mut command = qwenguard(&["moderate", "--json", "--no-stop", "export/nano/demo.jsonl", "--bundle"]);
    command.arg(bundle).arg("--config").arg(file);
    let output = run(command, "");
    (output.status.code(), stdout(&output), stderr(&output))
}

#[test]
fn probabilities_in_json_are_numbers() {
    let (code, events, errors) = judged(&root().join("export/nano/bundle"), "");
    assert_eq!(code, Some(3), "{errors}");
    let mut verdicts = 0;
    for event in events.lines() {
        let event: Value = serde_json::from_str(event).unwrap();
        for probabilities in ["risk_probs", "category_probs"].iter().filter_map(|name| event["verdict"].get(name)) {
            assert!(probabilities.as_object().unwrap().values().all(Value::is_number), "{event}");
            verdicts += 1;
        }
    }
    assert!(verdicts > 100);
}

/// With all that looks at a bundle turned off, the program says what is wrong, and gives no verdict.
#[test]
fn weights_that_are_not_numbers_give_no_verdict() {
    let nano = root().join("export/nano/bundle");
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(nano).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let weights = copy.path().join("weights.bin");
    let length = fs::metadata(&weights).unwrap().len() as usize;
    fs::write(&weights, vec![0xff; length]).unwrap();
    let (code, events, errors) = judged(copy.path(), "verify_files = false\nself_test = false");
    assert!(!matches!(code, Some(0 | 3)), "{code:?}: {events}");
    assert!(!events.contains("verdict"), "{events}");
    assert!((events + &errors).contains("not finite"), "{errors}");
}
