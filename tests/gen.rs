//! Bundles of the variant gen: what is opened, and what their fields must be.

mod common;

use std::{fs, path::Path};

use common::{GEN_CHECKPOINTS, gen_bundle};
use qwenguard::{Error, Guard};
use toml::{Table, Value};

#[test]
fn all_precisions_open() {
    for checkpoint in GEN_CHECKPOINTS {
        for precision in ["fp32", "int8", "int4"] {
            let guard = Guard::open(gen_bundle(checkpoint, precision)).unwrap();
            assert_eq!(guard.info().variant, "gen");
            assert_eq!(guard.info().architecture, "Qwen3ForCausalLM");
            let categories = [guard.query_labels(), guard.response_labels()].map(|labels| labels.categories().len());
            assert!(categories.iter().all(|count| *count > 0), "{checkpoint}: {categories:?}");
        }
    }
}

#[test]
fn there_are_no_streams() {
    let guard = Guard::open(gen_bundle("tied-bf16", "int8")).unwrap();
    let error = guard.stream().err().unwrap();
    assert!(matches!(error, Error::WrongState { .. }), "{error:?}");
    assert!(error.to_string().contains("gen"), "{error}");
}

/// A copy of a bundle.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(gen_bundle("untied-fp16", "int8")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

fn edited(folder: &Path, edit: &dyn Fn(&mut Table)) -> Option<Error> {
    let path = folder.join("guard.toml");
    let before = fs::read_to_string(&path).unwrap();
    let mut manifest: Table = before.parse().unwrap();
    edit(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
    let error = Guard::open(folder).err();
    fs::write(&path, before).unwrap();
    error
}

/// The value at a dotted path, with indices in between.
fn at<'t>(table: &'t mut Table, path: &str) -> &'t mut Value {
    let mut parts = path.split('.');
    let mut value = &mut table[parts.next().unwrap()];
    for part in parts {
        value = match part.parse::<usize>() {
            Ok(index) => &mut value[index],
            Err(_) => &mut value[part],
        };
    }
    value
}

#[test]
fn the_grammar_is_checked_field_by_field() {
    let folder = copy();
    assert!(edited(folder.path(), &|_| {}).is_none());
    let ids = |ids: &[i64]| Value::from(ids.to_vec());
    let cases: Vec<(&str, Value, &str, &str)> = vec![
        ("answer.end_tokens", ids(&[]), "answer.end_tokens", "0 tokens"),
        ("answer.end_tokens", ids(&[100_000]), "answer.end_tokens", "not below model.vocab_size"),
        ("answer.end_tokens", ids(&[1; 17]), "answer.end_tokens", "17 tokens"),
        ("answer.safety.begin.text", "".into(), "answer.safety.begin.text", "1 to 256 bytes"),
        ("answer.safety.begin.text", "a\u{1b}".into(), "answer.safety.begin.text", "on one line"),
        ("answer.safety.begin.text", "Danger:".into(), "answer.safety.begin.ids", "the tokens of"),
        ("answer.safety.begin.ids", ids(&[5; 65]), "answer.safety.begin.ids", "65 tokens"),
        ("answer.safety.labels.1.name", "Safe".into(), "answer.safety.labels", "appears twice"),
        ("answer.safety.labels.1.name", "Evil".into(), "answer.safety.labels", "not a known level"),
        ("answer.safety.labels", Value::Array(Vec::new()), "answer.safety.labels", "at least one level"),
        ("answer.categories.none.ids", ids(&[640]), "answer.categories.none.ids", "640 is not below"),
        ("answer.categories.separator.ids", ids(&[198]), "answer.", "lines: what ends the line"),
        ("answer.categories.names.0.name", "None".into(), "answer.categories.names[0].name", "no category"),
        ("answer.categories.names.1.name", "Violent".into(), "answer.categories.names[1].name", "appears twice"),
        ("answer.categories.names.1.name", " ".into(), "answer.categories.names[1].name", "not a name"),
        ("answer.prompt.lines", vec!["categories"].into(), "answer.prompt.lines", "are not safety"),
        ("answer.prompt.lines", vec!["safety", "categories", "more"].into(), "answer.prompt.lines", "are not safety"),
        ("answer.prompt.categories", Value::Array(Vec::new()), "answer.prompt.categories", "0 names"),
        ("answer.prompt.categories", vec!["PII", "PII"].into(), "answer.prompt.categories", "appears twice"),
        ("answer.response.categories", vec!["Other"].into(), "answer.response.categories", "not in answer"),
        ("heads.0.tokens", ids(&[1, 2]), "heads[0].tokens", "is missing, which answers"),
        ("heads.0.name", "other".into(), "heads", "no head \"candidates\""),
        ("heads.1.name", "other".into(), "heads", "no head \"next_token\""),
        ("model.architecture", "Qwen3ForGuardModel".into(), "model.architecture", "Qwen3ForCausalLM"),
        ("variant", "stream".into(), "answer", "has none"),
    ];
    for (path, value, field, reason) in cases {
        let error = edited(folder.path(), &|table| *at(table, path) = value.clone());
        let error = error.unwrap_or_else(|| panic!("{path} = {value} was accepted")).to_string();
        assert!(error.contains(&format!("guard.toml: {field}")) && error.contains(reason), "{path} = {value}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn choices_may_begin_alike_but_none_is_the_beginning_of_another() {
    let folder = copy();
    let error = edited(folder.path(), &|table| {
        let first = at(table, "answer.categories.names.0.ids")[0].clone();
        *at(table, "answer.categories.none.ids") = Value::Array(vec![first]);
    });
    let error = error.unwrap().to_string();
    assert!(error.contains("guard.toml: answer.prompt.categories: the ids of choice 0 begin"), "{error}");
    let error = edited(folder.path(), &|table| {
        at(table, "answer").as_table_mut().unwrap().remove("refusal");
    });
    let error = error.unwrap().to_string();
    assert!(error.contains("answer.response.lines: there is no table answer.refusal"), "{error}");
}

#[test]
fn the_self_test_finds_damage() {
    let folder = copy();
    let error = edited(folder.path(), &|table| {
        let logit = &mut at(table, "self_test.0.logits.candidates")[0];
        *logit = (logit.as_float().unwrap() + 30.0).into();
    });
    let error = error.unwrap().to_string();
    assert!(error.contains("self_test[0].logits.candidates"), "{error}");
    let error = edited(folder.path(), &|table| {
        at(table, "self_test.0.logits").as_table_mut().unwrap().remove("candidates");
    });
    assert!(error.unwrap().to_string().contains("self_test[0].logits.candidates: missing"));
}
