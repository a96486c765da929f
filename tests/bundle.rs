//! Bundles that are damaged, newer or of an unknown kind: refused with the file or field named, never a crash.

mod common;

use std::{fs, path::Path, time::Duration};

use common::bundle;
use qwenguard::{Config, Error, Guard};

/// A copy of a good bundle.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(bundle("grouped-bf16", "int8")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

fn open(folder: &Path) -> Result<Guard, Error> {
    Guard::open(folder)
}

fn edit_manifest(folder: &Path, from: &str, to: &str) {
    let path = folder.join("guard.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in guard.toml");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// The error of opening a bundle after an edit of `guard.toml`.
fn refusal(from: &str, to: &str) -> String {
    let folder = copy();
    edit_manifest(folder.path(), from, to);
    open(folder.path()).err().unwrap_or_else(|| panic!("{to} was accepted")).to_string()
}

#[test]
fn a_good_copy_opens() {
    let folder = copy();
    let guard = open(folder.path()).unwrap();
    assert_eq!(guard.info().weights, "int8, blocks of 32");
    assert_eq!(guard.info().cache, "int8");
}

#[test]
fn a_folder_that_is_not_there() {
    let error = open(Path::new("/nowhere/bundle")).err().unwrap().to_string();
    assert!(error.contains("/nowhere/bundle") && error.contains("guard.toml"), "{error}");
}

#[test]
fn every_file_must_be_there_and_whole() {
    for file in ["guard.toml", "paged.onnx", "weights.bin", "tokenizer.json", "chat_template.jinja"] {
        let folder = copy();
        fs::remove_file(folder.path().join(file)).unwrap();
        let error = open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(file), "missing {file}: {error}");

        let folder = copy();
        let path = folder.path().join(file);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(file), "half of {file}: {error}");
    }
}

#[test]
fn a_changed_byte_is_found() {
    for file in ["paged.onnx", "tokenizer.json", "chat_template.jinja", "weights.bin"] {
        let folder = copy();
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(file) && error.contains("SHA-256"), "{error}");
        if file == "weights.bin" {
            let config = Config { verify_files: false, self_test: false, ..Config::default() };
            Guard::open_with(folder.path(), &config).unwrap();
        }
    }
}

#[test]
fn the_manifest_is_checked_field_by_field() {
    let error = refusal("format = 1", "format = 2");
    assert!(error.contains("format 2 is not supported"), "{error}");
    let cases = [
        ("format = 1", "", "format"),
        ("variant = \"stream\"", "variant = \"gen\"", "variant"),
        ("architecture = \"Qwen3ForGuardModel\"", "architecture = \"LlamaForCausalLM\"", "model.architecture"),
        ("num_heads = 4", "num_heads = 3", "model.num_heads"),
        ("num_layers = 2", "num_layers = 0", "model.num_layers"),
        ("num_layers = 2", "num_layers = 3", "paged.onnx"),
        ("precision = \"int8\"", "precision = \"int3\"", "precision"),
        ("\"Unsafe\"", "\"Terrible\"", "labels.response_risk"),
        ("\"Unsafe\"", "\"Safe\"", "labels.response_risk"),
        ("    \"PII\",\n", "", "labels.response_category"),
        ("turn_end = ", "turn_end = 1", "tokenizer.json"),
        ("[files.\"weights.bin\"]", "[files.\"../weights.bin\"]", "files"),
    ];
    for (from, to, named) in cases {
        let error = refusal(from, to);
        assert!(error.contains(named), "{to}: {error}");
    }
}

/// A graph or tokenizer that is well sealed but nonsense inside.
#[test]
fn sealed_nonsense_is_refused() {
    for file in ["paged.onnx", "tokenizer.json", "chat_template.jinja"] {
        let folder = copy();
        let manifest = fs::read_to_string(folder.path().join("guard.toml")).unwrap();
        let old = fs::read(folder.path().join(file)).unwrap();
        let new = b"{% nonsense".repeat(old.len() / 11 + 1)[..old.len()].to_vec();
        fs::write(folder.path().join(file), &new).unwrap();
        let manifest = manifest.replace(&sha256(&old), &sha256(&new));
        fs::write(folder.path().join("guard.toml"), manifest).unwrap();
        let error = open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(file), "{error}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn settings_out_of_range_are_named() {
    for (text, named) in [
        ("[engine]\nmax_queued_tokens = 0", "engine.max_queued_tokens"),
        ("[engine]\nstep_tokens = 0", "engine.step_tokens"),
        ("[policy.answer]\ndebounce = { consecutive = 0 }", "policy.answer.debounce"),
        ("[policy.answer]\nmode = { custom = { unsafe = { at = nan } } }", "answer.mode.custom.unsafe.at: NaN"),
        (
            "[policy.prompt]\nmode = { custom = { controversial = { at = inf } } }",
            "prompt.mode.custom.controversial.at: inf",
        ),
        ("[policy.thinking.categories.PII]\nat = -nan", "thinking.categories.PII.at: NaN"),
        ("[cache]\nprecision = \"int5\"", "int5"),
        ("[chace]\nmib = 1", "chace"),
    ] {
        let error = Config::from_toml(text).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

/// Opening and closing guards leaves no threads behind and never hangs.
#[test]
fn guards_come_and_go() {
    let folder = bundle("grouped-bf16", "int8");
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..5 {
            let first = Guard::open(&folder).unwrap();
            let second = Guard::open(&folder).unwrap();
            let mut stream = first.stream().unwrap();
            drop((first, second));
            stream.prompt(&[qwenguard::Message::user("hi")]).unwrap();
        }
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(120)).expect("opening or closing a guard hangs or fails");
}

/// Each test binary is a process of its own, and the first guards of this one may well be opened here.
#[test]
fn guards_open_at_the_same_time() {
    let folder = bundle("grouped-bf16", "int8");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| Guard::open(&folder).unwrap());
        }
    });
}
