//! `qwenguard annotate INPUT --out PATH`.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::Path,
    process::Stdio,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::program::{BAD, HARM, HARMLESS, events, qwenguard, run, stderr, stdout};

/// The built-in guard of streams, which needs no step after the prompt.
pub(crate) const STREAM: [&str; 2] = ["--bundle", "export/nano/bundle"];

/// Some rows, every third of them harmful; with columns that the guard does not know.
pub(crate) fn rows(count: usize) -> Vec<String> {
    let row = |index: usize| {
        let text = if index % 3 == 2 { HARM } else { HARMLESS };
        format!(
            r#"{{"id": {index}, "big": 123456789012345678901234567890, "f": 1.0, "messages": [{{"role": "user", "content": "{text} ({index})"}}] }}"#
        )
    };
    (0..count).map(row).collect()
}

/// Runs the command on files in a folder. Gives its exit code and standard error.
pub(crate) fn annotate(folder: &Path, input: &str, out: &str, arguments: &[&str]) -> (i32, String) {
    let (input, out) = (folder.join(input), folder.join(out));
    let paths = [input.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let output = run(qwenguard(&[&["annotate"], &STREAM[..], &paths, arguments].concat()), "");
    assert_eq!(stdout(&output), "");
    (output.status.code().unwrap(), stderr(&output))
}

pub(crate) fn folder_with(name: &str, lines: &[String]) -> TempDir {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join(name), lines.join("\n") + "\n").unwrap();
    folder
}

pub(crate) fn read_lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

pub(crate) fn values(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whatever is in a folder.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |entry: Result<fs::DirEntry, std::io::Error>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())
    };
    fs::read_dir(folder).unwrap().map(entry).collect()
}

#[test]
fn a_row_is_written_as_it_was_with_the_verdict_behind() {
    let mut lines = rows(7);
    lines.insert(2, "{\"id\": \"bad\", \"messages\": [}".into());
    lines.insert(3, String::new());
    lines.insert(4, "{ }".into());
    let folder = folder_with("in.jsonl", &lines);
    let (code, errors) = annotate(folder.path(), "in.jsonl", "out.jsonl", &[]);
    assert_eq!(code, 4, "{errors}");
    assert!(errors.contains("in.jsonl, line 3: column") && errors.contains("line 5: messages is missing"), "{errors}");
    assert!(errors.contains("9 rows: 5 safe, 0 controversial, 2 unsafe, 2 not judged; 9 written"), "{errors}");
    lines.remove(3);
    let written = read_lines(&folder.path().join("out.jsonl"));
    assert_eq!(written.len(), lines.len());
    let judged = run(qwenguard(&[&["annotate", "--json"], &STREAM[..]].concat()), {
        let plain = |line: &String| line.replace(r#""big": 123456789012345678901234567890, "f": 1.0, "#, "");
        lines.iter().map(plain).collect::<Vec<_>>().join("\n")
    });
    for ((old, new), alone) in lines.iter().zip(&written).zip(events(&judged)) {
        let row: Value = serde_json::from_str(new).unwrap();
        if alone["error"].is_string() {
            assert!(row["guard_error"].is_string() && row["guard_risk"].is_null(), "{new}");
            continue;
        }
        let start = old.strip_suffix(" }").unwrap();
        assert!(new.starts_with(&format!("{start},\"guard_mode\":")), "{new}");
        assert_eq!(row["guard_mode"], alone["mode"]);
        assert_eq!(row["guard_risk"], alone["safety"]["label"]);
        for (column, level) in [("safe", "Safe"), ("controversial", "Controversial"), ("unsafe", "Unsafe")] {
            assert_eq!(row[format!("guard_{column}")].to_string(), alone["safety"]["probs"][level].to_string());
        }
        assert_eq!(row["guard_categories"], alone["categories"]);
        assert_eq!(row["guard_category_probs"], *alone.get("category_probs").unwrap_or(&Value::Null));
        assert!(row["guard_error"].is_null() && row["guard_input"].is_null());
    }
    assert_eq!(values(&written)[2]["guard_input"], lines[2].as_str());
    assert_eq!(values(&written)[3]["guard_mode"], Value::Null);
}

#[test]
fn lines_come_and_go_compressed() {
    let lines = rows(5);
    let folder = folder_with("in.jsonl", &lines);
    assert_eq!(annotate(folder.path(), "in.jsonl", "plain.jsonl", &[]).0, 3);
    let text = fs::read(folder.path().join("in.jsonl")).unwrap();
    // Two members, as programs that append make them.
    let mut packed = Vec::new();
    for part in text.chunks(text.len() / 2 + 1) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(part).unwrap();
        packed.extend(encoder.finish().unwrap());
    }
    fs::write(folder.path().join("in.jsonl.gz"), packed).unwrap();
    fs::write(folder.path().join("in2.jsonl.zst"), zstd::encode_all(&text[..], 0).unwrap()).unwrap();
    assert_eq!(annotate(folder.path(), "in.jsonl.gz", "out.jsonl.zst", &[]).0, 3);
    assert_eq!(annotate(folder.path(), "in2.jsonl.zst", "out.jsonl.gz", &[]).0, 3);
    let plain = fs::read(folder.path().join("plain.jsonl")).unwrap();
    let zst = fs::read(folder.path().join("out.jsonl.zst")).unwrap();
    assert_eq!(zstd::decode_all(&zst[..]).unwrap(), plain);
    let mut gz = Vec::new();
    GzDecoder::new(&fs::read(folder.path().join("out.jsonl.gz")).unwrap()[..]).read_to_end(&mut gz).unwrap();
    assert_eq!(gz, plain);
}

/// The bytes of all parts, the manifest too.
#[test]
fn what_is_written_does_not_depend_on_jobs() {
    let mut lines = rows(70);
    lines.insert(20, "bad".into());
    lines.insert(33, format!(r#"{{"messages": [{{"role": "user", "content": "{}"}}]}}"#, "word ".repeat(300)));
    let folder = folder_with("in.jsonl", &lines);
    let input = folder.path().join("in.jsonl");
    for (name, bundle) in [("stream", &STREAM[..]), ("gen", &[])] {
        let written = |jobs: &str| {
            let out = folder.path().join(format!("{name}-{jobs}"));
            let paths = [input.to_str().unwrap(), "--out", out.to_str().unwrap()];
            let jobs = ["--jobs", jobs, "--part-rows", "30"];
            let output = run(qwenguard(&[&["annotate"], bundle, &paths, &jobs].concat()), "");
            assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
            contents(&out)
        };
        let one = written("1");
        assert_eq!(one.keys().filter(|name| name.starts_with("part-")).count(), 3);
        for jobs in ["4", "1000"] {
            assert!(written(jobs) == one, "{name}: with --jobs {jobs} something else is written");
        }
    }
}

#[test]
fn a_file_that_breaks_off_ends_the_run() {
    let lines: Vec<String> = (0..2000).map(|index| rows(index + 1).pop().unwrap()).collect();
    let folder = folder_with("in.jsonl", &lines);
    let text = fs::read(folder.path().join("in.jsonl")).unwrap();
    let zst = zstd::encode_all(&text[..], 0).unwrap();
    fs::write(folder.path().join("cut.jsonl.zst"), &zst[..zst.len() * 2 / 3]).unwrap();
    let (code, errors) = annotate(folder.path(), "cut.jsonl.zst", "out.jsonl", &["--part-rows", "100"]);
    assert!(matches!(code, 1 | 4) && errors.contains("cut.jsonl.zst: "), "{code} {errors}");
    assert!(!folder.path().join("out.jsonl").exists());
}

#[test]
fn rows_are_kept_by_level_category_and_probability() {
    let mut lines = rows(9);
    lines.push("nonsense".into());
    let folder = folder_with("in.jsonl", &lines);
    annotate(folder.path(), "in.jsonl", "all.jsonl", &[]);
    let all = values(&read_lines(&folder.path().join("all.jsonl")));
    let category = all[2]["guard_categories"][0].as_str().unwrap().to_owned();
    let named = |row: &Value| row["guard_categories"].as_array().is_some_and(|list| list.contains(&json!(category)));
    let risk = |row: &Value, level: &str| row["guard_risk"] == level;
    type Expected<'a> = &'a dyn Fn(&Value) -> bool;
    let table: [(&[&str], Expected); 7] = [
        (&["--keep", "safe"], &|row| risk(row, "Safe")),
        (&["--keep", "unsafe,error"], &|row| risk(row, "Unsafe") || row["guard_error"].is_string()),
        (&["--category", &category], &named),
        (&["--without-category", &category], &|row| row["guard_error"].is_null() && !named(row)),
        (&["--max-unsafe", "0.5"], &|row| row["guard_unsafe"].as_f64().is_some_and(|p| p <= 0.5)),
        (&["--min-safe", "0.5", "--keep", "unsafe"], &|_| false),
        (&["--min-safe", "0.5"], &|row| row["guard_safe"].as_f64().is_some_and(|p| p >= 0.5)),
    ];
    for (index, (arguments, expected)) in table.into_iter().enumerate() {
        let out = format!("kept-{index}.jsonl");
        let (code, errors) = annotate(folder.path(), "in.jsonl", &out, arguments);
        assert_eq!(code, 4, "{errors}");
        let kept = values(&read_lines(&folder.path().join(out)));
        assert_eq!(kept, all.iter().filter(|row| expected(row)).cloned().collect::<Vec<_>>(), "{arguments:?}");
    }
    for (arguments, named) in [
        (["--category", "Cookery"], "\"Cookery\" is no category of this guard, which has"),
        (["--max-unsafe", "1.5"], "not a probability from 0 to 1"),
        (["--keep", "good"], "good"),
    ] {
        let (code, errors) = annotate(folder.path(), "in.jsonl", "no.jsonl", &arguments);
        assert!(code != 0 && errors.contains(named), "{errors}");
        assert!(!folder.path().join("no.jsonl").exists());
    }
}

#[test]
fn prompts_responses_rewards_and_rules_have_columns() {
    let row = |answer: &str, score: f64| json!({"q": HARMLESS, "a": answer, "s": score}).to_string();
    let folder = folder_with("in.jsonl", &[row("Mix flour and water.", 2.5), row(HARM, 1.0), row("", 0.0)]);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("reward.toml"), "form = \"guard\"\n").unwrap();
    fs::write(path("hybrid.toml"), "form = \"hybrid\"\n").unwrap();
    fs::write(path("policy.toml"), "[answer]\nmode = \"loose\"\n").unwrap();
    let (reward, policy) = (path("reward.toml"), path("policy.toml"));
    let columns = ["--prompt-column", "q", "--response-column", "a", "--prefix", "g."];
    let rules = ["--reward", &*reward, "--policy", &*policy];
    let (code, errors) = annotate(folder.path(), "in.jsonl", "out.jsonl", &[&columns[..], &rules].concat());
    let rows = values(&read_lines(&folder.path().join("out.jsonl")));
    assert_eq!(rows[0]["g.mode"], "response", "{code} {errors}");
    let rewards: Vec<Option<f64>> = rows.iter().map(|row| row["g.reward"].as_f64()).collect();
    let expected = |row: &Value| row["g.risk"].as_str().map(|risk| f64::from(risk == "Safe"));
    assert_eq!(rewards, rows.iter().map(expected).collect::<Vec<_>>());
    assert_eq!((&rows[0]["g.decision"], &rows[0]["g.rule"]), (&json!("continue"), &Value::Null));
    // A Stream bundle does not know whether an answer refuses.
    let hybrid = path("hybrid.toml");
    let scored = ["--reward", &*hybrid, "--helpfulness-column", "s"];
    annotate(folder.path(), "in.jsonl", "hybrid.jsonl", &[&columns[..], &scored].concat());
    let rows = values(&read_lines(&folder.path().join("hybrid.jsonl")));
    assert!(rows[0]["g.error"].as_str().unwrap().contains("refuses"), "{}", rows[0]);
    let (code, errors) = annotate(folder.path(), "in.jsonl", "no.jsonl", &[&columns[..], &scored[..2]].concat());
    assert!(code == 1 && errors.contains("needs --helpfulness-column"), "{errors}");
}

/// Rows of a prompt with thinking and an answer, and the reward of each as equations 1 and 2 of the report have it. Each text is
/// judged by itself first, so that the numbers follow from the levels by hand.
#[test]
fn harmful_thinking_is_not_rewarded() {
    let fine = "Mix flour and water.";
    let row = |thinking: Value, answer: &str| json!({"q": HARMLESS, "t": thinking, "a": answer, "s": 2.5});
    let data = [
        row(json!(fine), fine),
        row(json!(BAD), fine),
        row(json!(fine), BAD),
        row(json!(BAD), BAD),
        row(Value::Null, fine),
        row(json!(""), BAD),
        row(json!(7), fine),
        json!({"q": HARMLESS, "a": fine, "s": 2.5}),
    ];
    let folder = folder_with("in.jsonl", &data.map(|row| row.to_string()));
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("guard.toml"), "").unwrap();
    fs::write(path("hybrid.toml"), "form = \"hybrid\"\n").unwrap();
    let (input, guard, hybrid) = (path("in.jsonl"), path("guard.toml"), path("hybrid.toml"));
    // The built-in guard that writes its verdicts: it says whether an answer refuses.
    let rows = |out: &str, more: &[&str]| {
        let out = path(out);
        let texts = ["--prompt-column", "q", "--response-column", "a"];
        let output = run(qwenguard(&[&["annotate", &*input, "--out", &*out], &texts[..], more].concat()), "");
        (values(&read_lines(Path::new(&out))), stderr(&output))
    };
    let (alone, errors) = rows("alone.jsonl", &["--reward", &guard]);
    let of = |rows: &[Value], column: &str| rows.iter().map(|row| row[column].clone()).collect::<Vec<_>>();
    // The levels of the two texts as answers to the prompt, by the guard.
    assert_eq!((&alone[0]["guard_risk"], &alone[2]["guard_risk"]), (&json!("Safe"), &json!("Unsafe")), "{errors}");
    assert_eq!(alone[0]["guard_refusal"], false);
    assert_eq!(of(&alone, "guard_reward"), [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0].map(Value::from));
    let thinking = ["--thinking-column", "t"];
    let (both, errors) = rows("both.jsonl", &[&thinking[..], &["--reward", &guard]].concat());
    let null = Value::Null;
    let expected = [json!(1.0), json!(0.0), json!(0.0), json!(0.0), json!(1.0), json!(0.0), null.clone(), null.clone()];
    assert_eq!(of(&both, "guard_reward"), expected, "{errors}");
    let levels = ["Safe", "Unsafe", "Safe", "Unsafe"].map(Value::from);
    assert_eq!(of(&both, "guard_thinking_risk")[..4], levels);
    assert_eq!(of(&both, "guard_thinking_risk")[4..], [null.clone(), null.clone(), null.clone(), null.clone()]);
    assert_eq!(both[1]["guard_thinking_categories"], alone[2]["guard_categories"]);
    assert!(both[0]["guard_thinking_categories"] == json!([]) && both[4]["guard_thinking_categories"].is_null());
    // The verdict is of the answer.
    for column in ["guard_mode", "guard_risk", "guard_unsafe", "guard_categories", "guard_refusal", "guard_answer"] {
        assert_eq!(of(&both, column)[..6], of(&alone, column)[..6], "{column}");
    }
    assert!(errors.contains("t is not a text") && errors.contains("in.jsonl, line 8: t is missing"), "{errors}");
    let (scored, _) =
        rows("hybrid.jsonl", &[&thinking[..], &["--reward", &hybrid, "--helpfulness-column", "s"]].concat());
    let expected = [json!(2.5), json!(-10.0), json!(-10.0), json!(-10.0), json!(2.5), json!(-10.0), null.clone(), null];
    assert_eq!(of(&scored, "guard_reward"), expected);
    // Thinking in tags before the answer is part of what is judged.
    let tagged = json!({"q": HARMLESS, "a": format!("<think>\n{BAD}\n</think>\n\n{fine}")}).to_string();
    fs::write(&input, tagged + "\n").unwrap();
    assert_eq!(rows("tagged.jsonl", &["--reward", &guard]).0[0]["guard_reward"], 0.0);
    for wrong in [&["--thinking-column", "t"][..], &["--thinking-column", "t", "--reward", &guard]] {
        let output = run(qwenguard(&[&["annotate", &*input, "--out", "x.jsonl"], wrong].concat()), "");
        assert!(
            output.status.code() == Some(2) && stderr(&output).contains("--response-column"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn another_job_in_the_folder_and_what_others_wrote_are_left_alone() {
    let folder = folder_with("in.jsonl", &rows(6));
    assert_eq!(annotate(folder.path(), "in.jsonl", "out", &["--part-rows", "2"]).0, 3);
    let before = contents(&folder.path().join("out"));
    assert_eq!(before.keys().filter(|name| name.starts_with("part-")).count(), 3);
    for (arguments, named) in [
        (&["--part-rows", "3"][..], "its part_rows is 2, and now 3"),
        (&["--part-rows", "2", "--keep", "safe"], "its keep is"),
        (&["--part-rows", "2", "--overflow", "tail"], "its options is"),
        (&["--part-rows", "2", "--format", "jsonl.gz"], "its format is"),
    ] {
        let (code, errors) = annotate(folder.path(), "in.jsonl", "out", arguments);
        assert!(code == 1 && errors.contains(named), "{errors}");
    }
    fs::write(folder.path().join("in.jsonl"), rows(7).join("\n")).unwrap();
    let (code, errors) = annotate(folder.path(), "in.jsonl", "out", &["--part-rows", "2"]);
    assert!(code == 1 && errors.contains("its input is"), "{errors}");
    assert_eq!(contents(&folder.path().join("out")), before);
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/part-000000.jsonl"), "mine").unwrap();
    for (out, named) in [("mine", "there is something in it already"), ("in.jsonl", "there is such a file already")] {
        let (code, errors) = annotate(folder.path(), "in.jsonl", out, &[]);
        assert!(code == 1 && errors.contains(named), "{errors}");
    }
    assert_eq!(fs::read(folder.path().join("mine/part-000000.jsonl")).unwrap(), b"mine");
    // A part that somebody took away is missed.
    fs::write(folder.path().join("in.jsonl"), rows(6).join("\n") + "\n").unwrap();
    fs::remove_file(folder.path().join("out/part-000001.jsonl")).unwrap();
    let (code, errors) = annotate(folder.path(), "in.jsonl", "out", &["--part-rows", "2"]);
    assert!(code == 1 && errors.contains("part-000001.jsonl: it is gone"), "{errors}");
}

#[test]
fn another_bundle_policy_or_reward_is_refused_by_name() {
    let folder = folder_with("in.jsonl", &rows(4));
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("policy.toml"), "[answer]\nmode = \"loose\"\n").unwrap();
    fs::write(path("other.toml"), "shadow = true\n[answer]\nmode = \"loose\"\n").unwrap();
    fs::write(path("reward.toml"), "safe = 2.0\n").unwrap();
    let (policy, other, reward) = (path("policy.toml"), path("other.toml"), path("reward.toml"));
    assert_eq!(annotate(folder.path(), "in.jsonl", "out", &["--policy", &policy]).0, 3);
    let before = contents(&folder.path().join("out"));
    for (arguments, named) in [
        (&[&STREAM[..], &["--policy", &other]].concat()[..], "its policy is {"),
        (&STREAM, "and now null"),
        (&[&STREAM[..], &["--policy", &policy, "--reward", &reward]].concat(), "its reward is null, and now {"),
        (&["--policy", &policy], "its bundle_sha256 is \""),
    ] {
        let (input, out) = (path("in.jsonl"), path("out"));
        let output = run(qwenguard(&[&["annotate", &*input, "--out", &*out], arguments].concat()), "");
        let errors = stderr(&output);
        assert!(output.status.code() == Some(1) && errors.contains(named), "{arguments:?}: {errors}");
        assert!(errors.contains("another job is in this folder"), "{errors}");
    }
    assert_eq!(contents(&folder.path().join("out")), before);
}

#[test]
fn a_second_run_in_a_folder_or_at_a_file_is_refused_as_long_as_the_first_goes_on() {
    let folder = folder_with("in.jsonl", &rows(20_000));
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (out, begun, written) in
        [("out", "out/part-000000.jsonl", "_parts.jsonl"), ("out.jsonl", "_out.jsonl", "_out.jsonl")]
    {
        let (input, to) = (path("in.jsonl"), path(out));
        let arguments = ["annotate", &*input, "--out", &*to, "--part-rows", "10"];
        let mut first = qwenguard(&[&arguments[..], &STREAM].concat()).stderr(Stdio::null()).spawn().unwrap();
        while fs::metadata(path(begun)).map_or(0, |data| data.len()) == 0 {
            assert!(first.try_wait().unwrap().is_none(), "it ended before it wrote anything");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let (code, errors) = annotate(folder.path(), "in.jsonl", out, &["--part-rows", "10"]);
        let goes_on = first.try_wait().unwrap().is_none();
        first.kill().unwrap();
        first.wait().unwrap();
        assert!(goes_on, "the first run was not long enough for the second");
        assert!(code == 1 && errors.contains(&format!("{written}: another run writes it")), "{errors}");
        // What the first has written is whole still.
        assert!(fs::metadata(path(begun)).unwrap().len() > 0);
    }
}

#[test]
fn wrong_inputs_are_refused_by_name() {
    let folder = folder_with("in.jsonl", &rows(3));
    fs::write(folder.path().join("in.csv"), "a,b\n").unwrap();
    fs::create_dir(folder.path().join("none")).unwrap();
    fs::create_dir(folder.path().join("mixed")).unwrap();
    fs::copy(folder.path().join("in.jsonl"), folder.path().join("mixed/a.jsonl")).unwrap();
    fs::write(folder.path().join("mixed/b.parquet"), "").unwrap();
    for (input, out, arguments, named) in [
        ("gone.jsonl", "out", &[][..], "gone.jsonl: "),
        ("in.csv", "out", &[], "in.csv: its name does not say what it is: it ends in none of .jsonl, .jsonl.gz"),
        ("none", "out", &[], "there is no file in it"),
        ("mixed", "out", &[], "b.parquet: it is not of the kind of the files before it"),
        (
            "in.jsonl",
            "out.parquet",
            &[],
            "out.parquet: rows are written as what they were read as, and the input is jsonl",
        ),
        ("in.jsonl", "out.parquet", &[], "convert the input to parquet first"),
        ("in.jsonl", "out", &["--format", "xml"], "--format xml"),
        ("in.jsonl", "out", &["--messages-column", "chat"], "there is no column chat: there are id, big, f, messages"),
        ("in.jsonl", "out", &["--prefix", "", "--prompt-column", "id"], "id is not a text"),
    ] {
        let (code, errors) = annotate(folder.path(), input, out, arguments);
        assert!(code == 1 && errors.contains(named), "{input} {out} {arguments:?}: {errors}");
    }
    assert_eq!(annotate(folder.path(), "in.jsonl", "once.jsonl", &[]).0, 3);
    let (code, errors) = annotate(folder.path(), "once.jsonl", "twice.jsonl", &[]);
    assert!(code == 1 && errors.contains("there is a column guard_mode already: name another --prefix"), "{errors}");
    assert_eq!(annotate(folder.path(), "once.jsonl", "twice.jsonl", &["--prefix", "second_"]).0, 3);
    let output = run(qwenguard(&["annotate", "--keep", "safe", "export/nano/demo.jsonl"]), "");
    assert!(output.status.code() == Some(2) && stderr(&output).contains("--out"), "{}", stderr(&output));
}

#[test]
fn a_dry_run_says_what_it_would_do_and_writes_nothing() {
    let folder = folder_with("in.jsonl", &rows(90));
    let before = contents(folder.path());
    let (input, out) = (folder.path().join("in.jsonl"), folder.path().join("out"));
    let paths = [input.to_str().unwrap(), "--out", out.to_str().unwrap(), "--dry-run", "--part-rows", "40"];
    let plan = || {
        let output = run(qwenguard(&[&["annotate"], &STREAM[..], &paths].concat()), "");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let text = plan();
    for part in [
        "messages (messages)",
        "parts of 40 rows\n",
        "rows     90\n",
        "64 rows in",
        "of which 0 cannot be judged and 64 would be written\n",
        "about",
        "decoding constrained\n",
        "too long is an error\n",
        "policy   none\n",
        "reward   none\n",
        "filters  none, all rows are written\n",
        "jobs     128 rows at once\n",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!out.exists());
    assert_eq!(contents(folder.path()), before);
    annotate(folder.path(), "in.jsonl", "out", &["--part-rows", "40"]);
    assert!(plan().contains("of which 3 are there, of 90 rows"), "{}", plan());
}

#[test]
fn a_dry_run_says_filters_rules_rewards_and_columns_and_counts_its_sample() {
    let row = |asked: &str, score: Value| json!({"q": asked, "a": "Well.", "t": "Hm.", "s": score}).to_string();
    let mut lines = vec![row(HARMLESS, json!(1.0)); 5];
    lines.extend([row(HARM, json!("no number")), "bad".into()]);
    let folder = folder_with("in.jsonl", &lines);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("reward.toml"), "form = \"hybrid\"\nnot_safe_cap = -7.5\n").unwrap();
    fs::write(path("policy.toml"), "[answer]\nmode = \"loose\"\n").unwrap();
    let (input, out, reward, policy) = (path("in.jsonl"), path("out.jsonl"), path("reward.toml"), path("policy.toml"));
    let columns = ["--prompt-column", "q", "--response-column", "a", "--thinking-column", "t"];
    let rules = ["--reward", &*reward, "--helpfulness-column", "s", "--policy", &*policy];
    let filters = ["--keep", "safe,error", "--max-unsafe", "0.25", "--without-category", "Violent"];
    let others = ["--overflow", "tail", "--jobs", "7", "--part-rows", "20", "--dry-run"];
    let paths = ["annotate", &*input, "--out", &*out];
    let output = run(qwenguard(&[&paths[..], &columns, &rules, &filters, &others].concat()), "");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for part in [
        "columns  q (prompt), a (response), t (thinking), s (helpfulness)\n",
        "too long the end is judged\n",
        "policy   as given",
        "reward   hybrid: the score of helpfulness if answer and thinking are Safe, else at most -7.5; for a refusal at most -5\n",
        "filters  Safe or not judged, and without Violent, and Unsafe with at most 0.25\n",
        "jobs     7 rows at once\n",
        "20 rows at a time\n",
        "7 rows in",
        "of which 2 cannot be judged and ",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let label_only = ["--decoding", "label-only", "--prompt-column", "q", "--keep", "unsafe", "--dry-run"];
    let text = stdout(&run(qwenguard(&[&paths[..], &label_only].concat()), ""));
    assert!(text.contains("decoding label-only"), "{text}");
    assert!(text.contains("of which 1 cannot be judged and 1 would be written\n"), "{text}");
    assert!(!folder.path().join("out.jsonl").exists());
}

#[cfg(feature = "parquet")]
pub(crate) mod parquet_files {
    use std::{fs::File, sync::Arc};

    use arrow_array::{
        Array, ArrayRef, Int32Array, RecordBatch, StringArray,
        builder::{ListBuilder, StringBuilder, StructBuilder},
        cast::AsArray,
        types::{Float32Type, Int32Type},
    };
    use arrow_schema::{DataType, Field, Fields, Schema};
    use parquet::{
        arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
        basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel},
        file::properties::WriterProperties,
    };

    use super::*;

    /// A batch with conversations as lists, as JSON, and as texts; row 4 has none.
    pub(crate) fn batch(first: i32, count: i32) -> RecordBatch {
        let texts: Vec<Option<String>> = (first..first + count)
            .map(|row| (row != 4).then(|| format!("{} ({row})", if row % 3 == 2 { HARM } else { HARMLESS })))
            .collect();
        let fields = Fields::from(vec![
            Field::new("role", DataType::Utf8, true),
            Field::new("content", DataType::Utf8, true),
            Field::new("name", DataType::Utf8, true),
        ]);
        let mut list = ListBuilder::new(StructBuilder::from_fields(fields, 0));
        for text in &texts {
            if let Some(text) = text {
                let message = list.values();
                message.field_builder::<StringBuilder>(0).unwrap().append_value("user");
                message.field_builder::<StringBuilder>(1).unwrap().append_value(text);
                message.field_builder::<StringBuilder>(2).unwrap().append_null();
                message.append(true);
            }
            list.append(text.is_some());
        }
        let json =
            |text: &Option<String>| text.as_ref().map(|text| json!([{"role": "user", "content": text}]).to_string());
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("row", Arc::new((first..first + count).collect::<Int32Array>())),
            ("messages", Arc::new(list.finish())),
            ("as_json", Arc::new(texts.iter().map(json).collect::<StringArray>())),
            ("question", Arc::new(texts.iter().cloned().collect::<StringArray>())),
        ];
        let schema: Vec<Field> =
            columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
        RecordBatch::try_new(Arc::new(Schema::new(schema)), columns.into_iter().map(|(_, column)| column).collect())
            .unwrap()
    }

    pub(crate) fn write(path: &Path, batches: &[RecordBatch]) {
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batches[0].schema(), None).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();
    }

    pub(crate) fn read(path: &Path) -> Vec<RecordBatch> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        reader.with_batch_size(1000).build().unwrap().map(Result::unwrap).collect()
    }

    /// The ids in a file of rows of [`batch`].
    pub(crate) fn ids(path: &Path) -> Vec<u64> {
        let batches = read(path);
        let ids = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int32Type>().values());
        ids.map(|id| u64::try_from(*id).unwrap()).collect()
    }

    fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
        let column = batch.column_by_name(column).unwrap().as_string::<i32>();
        column.iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn columns_stay_and_those_of_the_verdict_come() {
        let folder = tempdir().unwrap();
        write(&folder.path().join("in.parquet"), &[batch(0, 5), batch(5, 4)]);
        let mut all = Vec::new();
        for (index, arguments) in
            [&[][..], &["--messages-column", "as_json"], &["--prompt-column", "question"]].into_iter().enumerate()
        {
            let out = format!("out-{index}.parquet");
            let (code, errors) = annotate(folder.path(), "in.parquet", &out, arguments);
            assert_eq!(code, 4, "{errors}");
            assert!(errors.contains("in.parquet, row 5: ") && errors.contains(" is null"), "{errors}");
            all.push(read(&folder.path().join(out)).remove(0));
        }
        let old = read(&folder.path().join("in.parquet")).remove(0);
        for batch in &all {
            for (index, column) in old.columns().iter().enumerate() {
                assert_eq!(batch.schema().field(index), old.schema().field(index));
                assert_eq!(batch.column(index), column);
            }
            let risks = texts(batch, "guard_risk");
            let expected = |row: usize| (row != 4).then(|| if row % 3 == 2 { "Unsafe" } else { "Safe" }.to_owned());
            assert_eq!(risks, (0..9).map(expected).collect::<Vec<_>>());
            assert_eq!(texts(batch, "guard_error").iter().filter(|error| error.is_some()).count(), 1);
            let unsafe_ = batch.column_by_name("guard_unsafe").unwrap().as_primitive::<Float32Type>();
            assert!(unsafe_.value(2) > 0.5 && unsafe_.is_null(4));
            let probabilities = batch.column_by_name("guard_category_probs").unwrap().as_map();
            assert!(probabilities.is_null(4) && probabilities.value_length(2) > 1);
        }
        assert_eq!(texts(&all[0], "guard_risk"), texts(&all[2], "guard_risk"));
    }

    #[test]
    fn folders_of_files_go_to_parts_that_a_filter_may_leave_empty() {
        let folder = tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        write(&folder.path().join("in/b.parquet"), &[batch(10, 6)]);
        write(&folder.path().join("in/a.parquet"), &[batch(0, 5), batch(5, 5)]);
        fs::write(folder.path().join("in/_SUCCESS"), "").unwrap();
        let arguments = ["--part-rows", "2", "--keep", "unsafe", "--prompt-column", "question"];
        let (code, errors) = annotate(folder.path(), "in", "out", &arguments);
        assert_eq!(code, 4, "{errors}");
        let mut rows = Vec::new();
        for part in 0..8 {
            for batch in read(&folder.path().join(format!("out/part-{part:06}.parquet"))) {
                rows.extend(batch.column(0).as_primitive::<Int32Type>().values().iter().copied());
            }
        }
        assert_eq!(rows, [2, 5, 8, 11, 14]);
        // The last parts are done again from the middle of a file.
        let log = folder.path().join("out/_parts.jsonl");
        let kept: Vec<String> = read_lines(&log).into_iter().take(3).collect();
        fs::write(&log, kept.join("\n") + "\n{\"name\":\"part-0000").unwrap();
        let before = contents(&folder.path().join("out"));
        assert_eq!(annotate(folder.path(), "in", "out", &arguments).0, 4);
        let after = contents(&folder.path().join("out"));
        for (name, bytes) in before.iter().filter(|(name, _)| name.starts_with("part-")) {
            assert!(after[name] == *bytes, "{name}");
        }
        assert_eq!(read_lines(&log).len(), 8);
    }

    fn write_packed(path: &Path, batches: &[RecordBatch], compression: Compression) {
        let properties = WriterProperties::builder().set_compression(compression).build();
        let file = File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batches[0].schema(), Some(properties)).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();
    }

    /// However pages or lines are compressed.
    #[test]
    fn compression_changes_no_verdict() {
        let folder = tempdir().unwrap();
        let rows = batch(0, 7);
        let mut lines = Vec::new();
        for (row, question) in texts(&rows, "question").into_iter().enumerate() {
            writeln!(lines, "{}", json!({"row": row, "question": question})).unwrap();
        }
        let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(&lines).unwrap();
        fs::write(folder.path().join("gz.jsonl.gz"), gz.finish().unwrap()).unwrap();
        fs::write(folder.path().join("zst.jsonl.zst"), zstd::encode_all(&lines[..], 0).unwrap()).unwrap();
        fs::write(folder.path().join("plain.jsonl"), lines).unwrap();
        let of_lines = ["plain.jsonl", "gz.jsonl.gz", "zst.jsonl.zst"].map(|name| {
            let out = format!("out-{name}.jsonl");
            let (code, errors) = annotate(folder.path(), name, &out, &["--prompt-column", "question"]);
            assert_eq!(code, 4, "{errors}");
            let rows = values(&read_lines(&folder.path().join(out)));
            let number = |row: &Value| row["guard_unsafe"].as_f64().map(|number| number as f32);
            rows.iter().map(|row| (row["guard_risk"].as_str().map(str::to_owned), number(row))).collect::<Vec<_>>()
        });
        assert_eq!(of_lines[0].iter().filter(|(risk, _)| risk.as_deref() == Some("Unsafe")).count(), 2);
        assert!(of_lines.iter().all(|lines| *lines == of_lines[0]), "{of_lines:?}");
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::BROTLI(BrotliLevel::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
            Compression::ZSTD(ZstdLevel::default()),
        ] {
            let name = format!("{compression:?}").split('(').next().unwrap().to_owned();
            let (input, out) = (format!("{name}.parquet"), format!("out-{name}.parquet"));
            write_packed(&folder.path().join(&input), std::slice::from_ref(&rows), compression);
            let (code, errors) = annotate(folder.path(), &input, &out, &["--prompt-column", "question"]);
            assert_eq!(code, 4, "{name}: {errors}");
            let out = folder.path().join(out);
            let written = read(&out).remove(0);
            let numbers = written.column_by_name("guard_unsafe").unwrap().as_primitive::<Float32Type>();
            let found: Vec<_> = texts(&written, "guard_risk").into_iter().zip(numbers).collect();
            assert_eq!(found, of_lines[0], "{name}");
            // What is written is always in zstd.
            let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&out).unwrap()).unwrap();
            let packed = builder.metadata().row_group(0).column(0).compression();
            assert!(matches!(packed, Compression::ZSTD(_)), "{name}: {packed:?}");
        }
    }

    #[test]
    fn tables_that_do_not_fit_are_refused() {
        let folder = tempdir().unwrap();
        write(&folder.path().join("in.parquet"), &[batch(0, 2)]);
        fs::create_dir(folder.path().join("two")).unwrap();
        write(&folder.path().join("two/a.parquet"), &[batch(0, 2)]);
        write(&folder.path().join("two/b.parquet"), &[batch(0, 2).project(&[0, 1]).unwrap()]);
        fs::write(folder.path().join("broken.parquet"), "PAR1 and no more").unwrap();
        for (input, arguments, named) in [
            ("in.parquet", &["--messages-column", "row"][..], "column row is of type Int32"),
            ("in.parquet", &["--prompt-column", "messages"], "column messages is of type"),
            ("in.parquet", &["--messages-column", "chat"], "there is no column chat: there are row, messages"),
            ("in.parquet", &["--format", "jsonl"], "the input is parquet: convert the input to jsonl first"),
            ("two", &[], "b.parquet: its columns are not those of the first file"),
            ("broken.parquet", &[], "broken.parquet: "),
        ] {
            let (code, errors) = annotate(folder.path(), input, "out", arguments);
            assert!(code == 1 && errors.contains(named), "{input} {arguments:?}: {errors}");
            assert!(!folder.path().join("out").exists());
        }
    }
}
