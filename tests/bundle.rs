//! Bundles that are damaged, newer or of an unknown kind: refused with the file or field named, never a crash.

mod common;

use std::{fs, path::Path, time::Duration};

use common::bundle;
use qwenguard::{Config, Error, Guard};
use toml::{Table, Value};

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
    assert_eq!(guard.info().weights, "int8, groups of 32");
    assert_eq!(guard.info().cache, "int8");
    let guard = open(&bundle("odd-bf16", "int4-zero-points")).unwrap();
    assert_eq!(guard.info().weights, "int4, groups of 32 with zero points");
}

#[test]
fn a_folder_that_is_not_there() {
    let error = open(Path::new("/nowhere/bundle")).err().unwrap().to_string();
    assert!(error.contains("/nowhere/bundle") && error.contains("guard.toml: there is no such folder"), "{error}");
    let error = open(Path::new("")).err().unwrap().to_string();
    assert_eq!(error, "argument bundle: it is empty, where the folder of a bundle is wanted");
    let folder = copy();
    let error = open(&folder.path().join("tokenizer.json")).err().unwrap().to_string();
    assert!(error.contains("guard.toml: the bundle is a file"), "{error}");
    fs::remove_file(folder.path().join("guard.toml")).unwrap();
    let error = open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("guard.toml") && !error.contains("folder:"), "{error}");
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let error = open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("this is a checkpoint: qwenguard-export"), "{error}");
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
    for other in ["format = 1", "format = 3"] {
        let error = refusal("format = 2", other);
        assert!(error.contains(&other.replace(" = ", " ")) && error.contains("is not supported"), "{error}");
    }
    let cases = [
        ("format = 2", "", "format"),
        ("variant = \"stream\"", "variant = \"both\"", "variant"),
        ("variant = \"stream\"", "variant = \"gen\"", "answer"),
        ("architecture = \"Qwen3ForGuardModel\"", "architecture = \"LlamaForCausalLM\"", "model.architecture"),
        ("num_heads = 4", "num_heads = 3", "model.num_heads"),
        ("num_layers = 2", "num_layers = 0", "model.num_layers"),
        ("num_layers = 2", "num_layers = 3", "paged.onnx"),
        ("precision = \"int8\"", "precision = \"int3\"", "precision"),
        ("precision = \"int8\"", "precision = \"int8\"\nzero_points = true", "zero_points: weights in int8 have none"),
        ("\"Unsafe\"", "\"Terrible\"", "heads[0].labels"),
        ("\"Unsafe\"", "\"Safe\"", "heads[0].labels"),
        ("    \"PII\",\n", "", "self_test[0].logits.response_category"),
        ("turn_end = ", "turn_end = 1", "tokens"),
        ("[files.\"weights.bin\"]", "[files.\"../weights.bin\"]", "files"),
    ];
    for (from, to, named) in cases {
        let error = refusal(from, to);
        assert!(error.contains(named), "{to}: {error}");
    }
}

/// The error of opening a bundle after an edit of what `guard.toml` says.
fn refusal_of(edit: &dyn Fn(&mut Table)) -> String {
    let folder = copy();
    let path = folder.path().join("guard.toml");
    let mut manifest: Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    edit(&mut manifest);
    let text = manifest.to_string();
    fs::write(path, &text).unwrap();
    let error = open(folder.path()).err().unwrap_or_else(|| panic!("accepted: {text}")).to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn head(pairs: &[(&str, Value)]) -> Value {
    Value::Table(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

type Edit<'a> = (&'a dyn Fn(&mut Table), &'a str);

fn are_refused(cases: &[Edit]) {
    for (edit, expected) in cases {
        let error = refusal_of(edit);
        assert!(error.contains(expected), "{error} is not about {expected}");
    }
}

fn set(table: &mut Table, index: usize, field: &str, value: Value) {
    table["heads"][index].as_table_mut().unwrap().insert(field.to_owned(), value);
}

fn remove(table: &mut Table, index: usize, field: &str) {
    table["heads"][index].as_table_mut().unwrap().remove(field).unwrap();
}

#[test]
fn names_of_heads_are_checked() {
    are_refused(&[
        (&|table| drop(table.remove("heads")), "heads: 0 heads, 1 to 16 can be"),
        (&|table| table["heads"] = Value::Array(vec![]), "heads: 0 heads, 1 to 16 can be"),
        (
            &|table| {
                let heads = table["heads"].as_array_mut().unwrap();
                heads.extend(vec![heads[0].clone(); 13]);
            },
            "heads: 17 heads",
        ),
        (&|table| set(table, 1, "name", "response_risk".into()), "heads[1].name: \"response_risk\" appears twice"),
        (&|table| set(table, 1, "name", "query_rows".into()), "heads[1].name: \"query_rows\" is an input of rows"),
        (&|table| set(table, 1, "name", "row_check".into()), "heads[1].name: \"row_check\" is something else"),
        (&|table| set(table, 1, "name", "Category".into()), "heads[1].name: \"Category\" is not 1 to 64 letters"),
        (&|table| set(table, 1, "name", "".into()), "heads[1].name: \"\" is not 1 to 64 letters"),
        (&|table| set(table, 2, "rows", "a".repeat(65).into()), "heads[2].rows: \"aaa"),
        (&|table| set(table, 2, "rows", "past_lens".into()), "heads[2].rows: \"past_lens\" is something else"),
        (&|table| set(table, 2, "rows", "key_cache.0".into()), "heads[2].rows: \"key_cache.0\" is not 1 to 64"),
        (&|table| remove(table, 2, "rows"), "missing field `rows`"),
    ]);
}

#[test]
fn kinds_of_heads_are_checked() {
    let ids = |ids: &[i64]| Value::Array(ids.iter().map(|id| Value::Integer(*id)).collect());
    let kind = |table: &mut Table, kind: &str| {
        remove(table, 3, "labels");
        set(table, 3, "kind", kind.into());
    };
    are_refused(&[
        (
            &|table| set(table, 0, "kind", "label".into()),
            "heads[0].kind: \"label\" is not \"labels\", \"candidates\" or",
        ),
        (&|table| remove(table, 0, "labels"), "heads[0].labels: missing"),
        (&|table| set(table, 0, "tokens", ids(&[1])), "heads[0].tokens: a head of kind \"labels\" has none"),
        (
            &|table| set(table, 0, "kind", "vocabulary".into()),
            "heads[0].labels: a head of kind \"vocabulary\" has none",
        ),
        (&|table| kind(table, "candidates"), "heads[3].tokens: missing"),
        (
            &|table| (kind(table, "candidates"), set(table, 3, "tokens", ids(&[]))).1,
            "heads[3].tokens: 0 tokens, 1 to 1024",
        ),
        (
            &|table| (kind(table, "candidates"), set(table, 3, "tokens", ids(&[1, 640]))).1,
            "heads[3].tokens: 640 is not below model.vocab_size 640",
        ),
        (
            &|table| (kind(table, "candidates"), set(table, 3, "tokens", ids(&[1, 2, 1]))).1,
            "heads[3].tokens: 1 appears twice",
        ),
        (&|table| kind(table, "vocabulary"), "heads[3].kind: \"query_category\" must be of kind \"labels\""),
        (&|table| set(table, 2, "name", "other".into()), "heads: there is no head \"query_risk\""),
    ]);
}

#[test]
fn a_self_test_has_the_logits_of_the_heads() {
    are_refused(&[
        (
            &|table| drop(table["self_test"][1]["logits"].as_table_mut().unwrap().remove("query_risk")),
            "self_test[1].logits.query_risk: missing",
        ),
        (
            &|table| drop(table["self_test"][1]["logits"].as_table_mut().unwrap().insert("x".into(), vec![1.0].into())),
            "self_test[1].logits.x: there is no such head",
        ),
    ]);
}

/// What guard.toml says by itself may be fine: the graph must have it, and nothing else.
#[test]
fn the_graph_has_the_heads_of_the_manifest() {
    let with_head = |table: &mut Table, extra: &[(&str, Value)]| {
        table["heads"].as_array_mut().unwrap().push(head(extra));
    };
    let error = refusal_of(&|table| {
        let labels = table["heads"][1]["labels"].as_array_mut().unwrap();
        labels.pop();
        for test in table["self_test"].as_array_mut().unwrap() {
            test["logits"]["response_category"].as_array_mut().unwrap().pop();
        }
    });
    let expected = "paged.onnx: output response_category is missing or not what guard.toml says, 7 classes for each of";
    assert!(error.contains(expected), "{error}");
    let error = refusal_of(&|table| {
        with_head(
            table,
            &[("name", "next_token".into()), ("kind", "vocabulary".into()), ("rows", "next_token_rows".into())],
        );
    });
    assert!(error.contains("paged.onnx: 10 inputs, 11 are expected"), "{error}");
    let error = refusal_of(&|table| {
        with_head(
            table,
            &[
                ("name", "candidates".into()),
                ("kind", "candidates".into()),
                ("rows", "query_rows".into()),
                ("tokens", vec![3, 5].into()),
            ],
        );
        for test in table["self_test"].as_array_mut().unwrap() {
            test["logits"].as_table_mut().unwrap().insert("candidates".into(), vec![0.5, 1.5].into());
        }
    });
    assert!(error.contains("output candidates is missing or not what guard.toml says, 2 classes"), "{error}");
}

#[test]
fn a_provider_that_cannot_be_had_is_named() {
    for (provider, expected) in [
        ("cuda", "was built without it; the Python package onnxruntime-gpu has it"),
        ("webgpu", "there is no "),
        #[cfg(not(windows))]
        ("directml", "there is none but on Windows"),
        #[cfg(not(target_vendor = "apple"))]
        ("coreml", "there is none but on the systems of Apple"),
    ] {
        let config = Config::from_toml(&format!("runtime.provider = \"{provider}\"")).unwrap();
        let error = Guard::open_with(bundle("grouped-bf16", "int8"), &config).err().unwrap();
        assert!(matches!(&error, Error::Provider { provider: named, .. } if named == provider), "{error}");
        let error = error.to_string();
        assert!(error.starts_with(&format!("execution provider {provider}: ")) && error.contains(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = refusal("[graphs.paged_cpu]", "[graphs.paged_gpu]");
    assert!(error.contains("has no graph for it: export the checkpoint again, with --target cpu"), "{error}");
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

/// Puts other contents into a file, with their size and digest in `guard.toml`.
fn reseal(folder: &Path, file: &str, new: &[u8]) {
    let path = folder.join("guard.toml");
    let mut manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    let entry = manifest["files"][file].as_table_mut().unwrap();
    entry.insert("bytes".into(), (new.len() as i64).into());
    entry.insert("sha256".into(), sha256(new).into());
    fs::write(folder.join(file), new).unwrap();
    fs::write(path, manifest.to_string()).unwrap();
}

/// A FIFO would wait for a writer, a device never end.
#[test]
#[cfg(unix)]
fn only_regular_files_are_read() {
    use std::os::unix::{fs::symlink, net::UnixListener};
    for file in ["guard.toml", "paged.onnx", "weights.bin", "tokenizer.json", "chat_template.jinja"] {
        for kind in ["a FIFO", "a device", "a directory", "a socket"] {
            let folder = copy();
            let path = folder.path().join(file);
            fs::remove_file(&path).unwrap();
            match kind {
                "a FIFO" => assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success()),
                "a device" => symlink("/dev/zero", &path).unwrap(),
                "a directory" => fs::create_dir(&path).unwrap(),
                _ => drop(UnixListener::bind(&path)),
            }
            let error = open(folder.path()).err().unwrap().to_string();
            // Opening a socket fails already.
            let named = error.contains(kind) || kind == "a socket" || kind == "a directory";
            assert!(error.contains(file) && named && error.lines().count() == 1, "{kind}: {error}");
        }
    }
}

/// Bundles in caches are folders of links.
#[test]
#[cfg(unix)]
fn files_may_be_links_to_files() {
    let (folder, links) = (copy(), tempfile::tempdir().unwrap());
    for file in fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap()) {
        std::os::unix::fs::symlink(file.path(), links.path().join(file.file_name())).unwrap();
    }
    open(links.path()).unwrap();
}

#[test]
fn files_beyond_their_limits_are_refused() {
    for (file, size) in [("chat_template.jinja", 257 << 10), ("paged.onnx", 65 << 20), ("tokenizer.json", 65 << 20)] {
        let folder = copy();
        reseal(folder.path(), file, &vec![b' '; size]);
        let error = open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(file) && error.contains("the limit is"), "{error}");
    }
    let folder = copy();
    let path = folder.path().join("guard.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + &"#".repeat(5 << 20)).unwrap();
    let error = open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("guard.toml") && error.contains("the limit is"), "{error}");
}

#[test]
fn dimensions_and_labels_have_limits() {
    let cases = [
        ("num_layers = 2", "num_layers = 16777216", "model.num_layers"),
        ("num_layers = 2", "num_layers = 257", "model.num_layers"),
        ("vocab_size = 640", "vocab_size = 1048577", "model.vocab_size"),
        ("vocab_size = 640", "vocab_size = 630", "model.vocab_size"),
        ("vocab_size = 640", "vocab_size = -1", "vocab_size"),
        ("hidden_size = 96", "hidden_size = 65537", "model.hidden_size"),
        ("head_dim = 32", "head_dim = 1032", "model.head_dim"),
        ("context = 2048", "context = 1048577", "model.context"),
        ("context = 2048", "context = 2049", "paged.onnx"),
        ("    \"PII\",\n", "    \"Unethical Acts\",\n", "heads[1].labels"),
        ("    \"PII\",\n", "    \" \",\n", "heads[1].labels"),
        ("    \"PII\",\n", "    \"P\\nI\",\n", "heads[1].labels"),
        ("    \"PII\",\n", &"    \"PII\",\n".repeat(17), "heads[1].labels"),
        ("[[heads]]\n", &format!("[[heads]]\nx = {}\n", "[".repeat(100_000)), "guard.toml"),
        ("[graphs.paged_cpu]\nfile = \"paged.onnx\"", "[graphs.paged_cpu]\nfile = \"weights.bin\"", "graphs"),
        ("bytes = ", "bytes = 9223372036854775807 #", "files"),
    ];
    for (from, to, named) in cases {
        let error = refusal(from, to);
        assert!(error.contains(named) && error.lines().count() == 1, "{error}");
    }
}

/// The verdict of a prompt must not depend on what tokenizer.json says about truncation and padding.
#[test]
fn prompts_are_not_cut_by_the_tokenizer() {
    let verdict = |folder: &Path| {
        let text = "How do I clean the kitchen? ".repeat(30);
        let mut stream = open(folder).unwrap().stream().unwrap();
        let check = stream.prompt(&[qwenguard::Message::user(text)]).unwrap();
        check.verdict.category_probabilities().map(|(_, probability)| probability.to_bits()).collect::<Vec<_>>()
    };
    let folder = copy();
    let whole = verdict(folder.path());
    for (field, value) in [
        ("truncation", r#"{"max_length":5,"strategy":"LongestFirst","stride":0,"direction":"Right"}"#),
        (
            "padding",
            r#"{"strategy":{"Fixed":900},"direction":"Left","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"x"}"#,
        ),
    ] {
        let mut json: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path().join("tokenizer.json")).unwrap()).unwrap();
        json[field] = serde_json::from_str(value).unwrap();
        reseal(folder.path(), "tokenizer.json", json.to_string().as_bytes());
        assert_eq!(verdict(folder.path()), whole, "{field}");
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
        ("[cache]\nmib = 1099511627776", "cache.mib"),
        ("[engine]\nstep_tokens = 9223372036854775807", "engine.step_tokens"),
        ("[runtime]\nthreads = 9223372036854775807", "runtime.threads"),
        (&"#".repeat(2 << 20), "the limit is"),
        (&format!("x = {}", "[".repeat(100_000)), "document"),
        (&format!("x = {}", "{a=".repeat(100_000)), "document"),
        (&format!("[{}]", "a.".repeat(100_000)), "document"),
    ] {
        let error = Config::from_toml(text).unwrap_err().to_string();
        assert!(error.contains(named) && error.lines().count() == 1, "{error}");
        assert!(qwenguard::Policy::from_toml(text).is_err());
    }
}

/// Sizes that callers choose may be as large as they like: they are refused, or nothing comes of them.
#[test]
fn settings_may_be_huge() {
    for text in [
        "[cache]\nmib = 16777216",
        "[engine]\nmax_streams = 9223372036854775807\nmax_queued_tokens = 9223372036854775807\nstep_tokens = 65536",
        "[engine]\nidle_seconds = 9223372036854775807",
    ] {
        let config = Config::from_toml(text).unwrap();
        match Guard::open_with(bundle("grouped-bf16", "int8"), &config) {
            Ok(guard) => drop(guard.stream().unwrap().prompt(&[qwenguard::Message::user("hi")]).unwrap()),
            Err(error) => assert!(text.contains("cache"), "{error}"),
        }
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
