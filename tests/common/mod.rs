//! What the integration tests share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};

use qwenguard::Message;
use serde::Deserialize;

/// The golden checkpoints.
pub(crate) const CHECKPOINTS: [&str; 5] =
    ["grouped-bf16", "multiquery-fp32", "sharded-fp16", "odd-bf16", "deep-untied-bf16"];

/// A line of `conversations.jsonl`.
#[derive(Debug, Deserialize)]
pub(crate) struct Conversation {
    pub(crate) id: String,
    pub(crate) messages: Vec<Message>,
}

impl Conversation {
    /// The messages before the answer, and the answer.
    pub(crate) fn split(&self) -> (&[Message], Option<&str>) {
        match self.messages.split_last() {
            Some((last, before)) if last.role == "assistant" => (before, Some(&last.content)),
            _ => (&self.messages, None),
        }
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A golden checkpoint's bundle, as `make test-data` exports it.
pub(crate) fn bundle(checkpoint: &str, precision: &str) -> PathBuf {
    let folder = root().join(format!("target/golden/{checkpoint}-{precision}"));
    assert!(folder.join("guard.toml").is_file(), "{} is missing: run `make test-data`", folder.display());
    folder
}

pub(crate) fn conversations() -> Vec<Conversation> {
    let text = std::fs::read_to_string(root().join("tests/golden/conversations.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
