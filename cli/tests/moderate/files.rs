//! `qwenguard annotate INPUT --out PATH`.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::program::{HARM, HARMLESS, events, qwenguard, run, stderr, stdout};

/// The built-in guard of streams, which needs no step after the prompt.
const STREAM: [&str; 2] = ["--bundle", "export/nano/bundle"];

/// Some rows, every third of them harmful; with columns that the guard does not know.
fn rows(count: usize) -> Vec<String> {
    let row = |index: usize| {
        let text = if index % 3 == 2 { HARM } else { HARMLESS };
        format!(
            r#"{{"id": {index}, "big": 123456789012345678901234567890, "f": 1.0, "messages": [{{"role": "user", "content": "{text} ({index})"}}] }}"#
        )
    };
    (0..count).map(row).collect()
}

/// Runs the command on files in a folder. Gives its exit code and standard error.
fn annotate(folder: &Path, input: &str, out: &str, arguments: &[&str]) -> (i32, String) {
    let (input, out) = (folder.join(input), folder.join(out));
    let paths = [input.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let output = run(qwenguard(&[&["annotate"], &STREAM[..], &paths, arguments].concat()), "");
    assert_eq!(stdout(&output), "");
    (output.status.code().unwrap(), stderr(&output))
}

fn folder_with(name: &str, lines: &[String]) -> TempDir {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join(name), lines.join("\n") + "\n").unwrap();
    folder
}

fn read_lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn values(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whatever is in a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
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

/// Kills the command again and again, at whatever point that is.
fn kill_and_go_on(count: usize, part_rows: usize, kills: usize) {
    let lines = rows(count);
    let folder = folder_with("in.jsonl", &lines);
    let part = part_rows.to_string();
    let arguments = ["--part-rows", &*part, "--jobs", "16"];
    annotate(folder.path(), "in.jsonl", "whole", &arguments);
    let (input, out) = (folder.path().join("in.jsonl"), folder.path().join("killed"));
    let paths = [input.to_str().unwrap(), "--out", out.to_str().unwrap()];
    for kill in 0..kills {
        let before = parts_with_times(&out);
        let mut child = qwenguard(&[&["annotate"], &STREAM[..], &paths, &arguments].concat());
        let mut child = child.stderr(Stdio::null()).spawn().unwrap();
        // Until some more parts are there, and then a little longer each time.
        while child.try_wait().unwrap().is_none() && parts_with_times(&out).len() < before.len() + 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(kill as u64 * 7 % 40));
        child.kill().unwrap();
        child.wait().unwrap();
        let after = parts_with_times(&out);
        let again = before.iter().filter(|(name, time)| after.get(*name).is_some_and(|now| now != *time)).count();
        assert!(again <= 1, "{again} parts were made twice");
    }
    let (code, errors) = annotate(folder.path(), "in.jsonl", "killed", &arguments);
    assert_eq!(code, 3, "{errors}");
    let mut whole = contents(&folder.path().join("whole"));
    let mut killed = contents(&out);
    assert_eq!(whole.remove("_manifest.json"), killed.remove("_manifest.json"));
    assert_eq!(whole.keys().collect::<Vec<_>>(), killed.keys().collect::<Vec<_>>());
    assert!(whole == killed, "the parts differ");
    let texts = killed.iter().filter(|(name, _)| name.starts_with("part-")).map(|(_, bytes)| bytes);
    let ids: Vec<u64> = texts
        .flat_map(|bytes| String::from_utf8(bytes.clone()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| serde_json::from_str::<Value>(&line).unwrap()["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, (0..count as u64).collect::<Vec<_>>());
    // When all is done nothing is done again.
    let before = parts_with_times(&out);
    assert_eq!(annotate(folder.path(), "in.jsonl", "killed", &arguments).0, 3);
    assert_eq!(parts_with_times(&out), before);
}

fn parts_with_times(folder: &Path) -> BTreeMap<PathBuf, std::time::SystemTime> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let parts = entries.map(|entry| entry.unwrap().path());
    let parts = parts.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("part-"));
    parts.map(|path| (path.clone(), fs::metadata(&path).unwrap().modified().unwrap())).collect()
}

#[test]
fn a_run_that_was_killed_goes_on() {
    kill_and_go_on(240, 15, 6);
}

/// The same with 20,000 rows: `make test-kill`.
#[test]
#[ignore = "takes minutes"]
fn a_long_run_that_was_killed_twenty_times_goes_on() {
    kill_and_go_on(20_000, 200, 20);
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
        ("in.jsonl", "out.parquet", &[], "out.parquet: rows are written as what they were read as"),
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
    for part in
        ["messages (messages)", "parts of 40 rows\n", "rows     90\n", "64 rows in", "of which 0 cannot", "about"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert!(!out.exists());
    assert_eq!(contents(folder.path()), before);
    annotate(folder.path(), "in.jsonl", "out", &["--part-rows", "40"]);
    assert!(plan().contains("of which 3 are there, of 90 rows"), "{}", plan());
}

#[cfg(feature = "parquet")]
mod parquet_files {
    use std::{fs::File, sync::Arc};

    use arrow_array::{
        Array, ArrayRef, Int32Array, RecordBatch, StringArray,
        builder::{ListBuilder, StringBuilder, StructBuilder},
        cast::AsArray,
        types::{Float32Type, Int32Type},
    };
    use arrow_schema::{DataType, Field, Fields, Schema};
    use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};

    use super::*;

    /// A batch with conversations as lists, as JSON, and as texts; row 4 has none.
    fn batch(first: i32, count: i32) -> RecordBatch {
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

    fn write(path: &Path, batches: &[RecordBatch]) {
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batches[0].schema(), None).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();
    }

    fn read(path: &Path) -> Vec<RecordBatch> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        reader.with_batch_size(1000).build().unwrap().map(Result::unwrap).collect()
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
            ("in.parquet", &["--format", "jsonl"], "the input is parquet"),
            ("two", &[], "b.parquet: its columns are not those of the first file"),
            ("broken.parquet", &[], "broken.parquet: "),
        ] {
            let (code, errors) = annotate(folder.path(), input, "out", arguments);
            assert!(code == 1 && errors.contains(named), "{input} {arguments:?}: {errors}");
            assert!(!folder.path().join("out").exists());
        }
    }
}
