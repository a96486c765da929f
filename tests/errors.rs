//! Errors keep what is behind them.

mod common;

use std::{error::Error as _, fs, io};

use common::bundle;
use qwenguard::{Config, Error, Guard, Message, Policy};

fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(bundle("odd-bf16", "fp32")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

/// The error is one line that has the words of what is behind it.
fn source<T: std::error::Error + 'static>(error: &Error) -> &T {
    let source = error.source().unwrap_or_else(|| panic!("{error}: nothing is behind it"));
    let source = source.downcast_ref().unwrap_or_else(|| panic!("{error}: {source:?}"));
    assert!(!error.to_string().contains('\n'), "{error}");
    source
}

fn open(folder: &tempfile::TempDir) -> Error {
    let config = Config { verify_files: false, ..Config::default() };
    Guard::open_with(folder.path(), &config).expect_err("it is damaged")
}

#[test]
fn of_a_file_the_system_says_why() {
    let error = Guard::open("no/such/folder").err().unwrap();
    assert!(matches!(error, Error::BundleFile { .. }), "{error}");
    let found = source::<io::Error>(&error);
    assert!(found.kind() == io::ErrorKind::NotFound && error.to_string().contains(&found.to_string()), "{error}");
}

#[test]
fn of_a_document_its_parser_says_why() {
    let folder = copy();
    let manifest = fs::read_to_string(folder.path().join("guard.toml")).unwrap();
    fs::write(folder.path().join("guard.toml"), manifest.replace("variant = \"stream\"", "variant = 1")).unwrap();
    let error = open(&folder);
    assert!(error.to_string().contains(source::<toml::de::Error>(&error).message()), "{error}");
    let error = Policy::from_toml("answer = 1").unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error}");
    source::<toml::de::Error>(&error);
}

#[test]
fn of_a_template_its_engine_says_why() {
    let folder = copy();
    let template = folder.path().join("chat_template.jinja");
    let length = fs::metadata(&template).unwrap().len() as usize;
    fs::write(&template, format!("{:length$}", "{% if %}")).unwrap();
    let error = open(&folder);
    assert_eq!(source::<minijinja::Error>(&error).kind(), minijinja::ErrorKind::SyntaxError);

    let guard = Guard::open(bundle("odd-bf16", "fp32")).unwrap();
    let error = guard.stream().unwrap().prompt(&[Message::new("nobody", "hello")]).unwrap_err();
    // Nothing but the library itself is behind this one.
    assert!(matches!(error, Error::Conversation { .. }) && error.source().is_none(), "{error}");
}

#[test]
fn of_a_text_its_bytes_say_why() {
    let guard = Guard::open(bundle("odd-bf16", "fp32")).unwrap();
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("hello")]).unwrap();
    let error = stream.push_text(b"a\xff").unwrap_err();
    assert_eq!(source::<std::str::Utf8Error>(&error).valid_up_to(), 1);
}

/// What is pushed is what a caller has: texts and bytes, ids and what `encode` gives.
#[test]
fn pushes_take_what_is_at_hand() {
    let guard = Guard::open(bundle("odd-bf16", "fp32")).unwrap();
    let prompted = || {
        let mut stream = guard.stream().unwrap();
        stream.prompt(&[Message::user("hello")]).unwrap();
        stream
    };
    let tokens = guard.encode("hello to you").unwrap();
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    let verdicts = prompted().push_tokens(&tokens).unwrap();
    assert_eq!(verdicts, prompted().push_tokens(&ids).unwrap());
    assert_eq!(verdicts.tokens.len(), tokens.len());
    assert_eq!(prompted().push_text("hello").unwrap(), prompted().push_text(b"hello").unwrap());
}
