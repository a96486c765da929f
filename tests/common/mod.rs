//! What the integration tests share.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod golden;
pub(crate) mod random_text;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use qwenguard::{Decision, Message, TokenVerdict, Update, Verdict, Violation};
use serde::Deserialize;

/// The golden checkpoints.
pub(crate) const CHECKPOINTS: [&str; 5] =
    ["grouped-bf16", "multiquery-fp32", "sharded-fp16", "odd-bf16", "deep-untied-bf16"];

/// The golden checkpoints of models that write their verdict.
pub(crate) const GEN_CHECKPOINTS: [&str; 4] = ["tied-bf16", "untied-fp16", "copied-bf16", "trained-bf16"];

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

/// The folder of the whole project: the tests of the command line are in a package below it.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("Cargo.lock").is_file()).expect("Cargo.lock is at the root")
}

/// A golden checkpoint's bundle, as `make test-data` exports it.
pub(crate) fn bundle(checkpoint: &str, precision: &str) -> PathBuf {
    exported("target/golden", checkpoint, precision)
}

/// The bundle of a golden checkpoint of a model that writes its verdict.
pub(crate) fn gen_bundle(checkpoint: &str, precision: &str) -> PathBuf {
    exported("target/golden-gen", checkpoint, precision)
}

fn exported(folder: &str, checkpoint: &str, precision: &str) -> PathBuf {
    let folder = root().join(format!("{folder}/{checkpoint}-{precision}"));
    assert!(folder.join("guard.toml").is_file(), "{} is missing: run `make test-data`", folder.display());
    folder
}

pub(crate) fn conversations() -> Vec<Conversation> {
    read_conversations("tests/golden/conversations.jsonl")
}

pub(crate) fn read_conversations(file: &str) -> Vec<Conversation> {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a caller knows of an answer.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) tokens: BTreeMap<usize, TokenVerdict>,
    pub(crate) horizon: usize,
    pub(crate) violation: Option<Violation>,
    pub(crate) flags: Vec<Violation>,
    pub(crate) last: Option<Update>,
}

impl Known {
    /// Takes an update, and checks what holds for every one.
    pub(crate) fn take(&mut self, update: Update) {
        assert!(update.horizon >= self.horizon, "the horizon moved back from {} to {}", self.horizon, update.horizon);
        assert!(update.horizon <= update.received);
        self.horizon = update.horizon;
        self.tokens.retain(|index, _| *index < update.void_from);
        assert!(update.tokens.iter().all(|token| token.index >= update.void_from));
        for token in &update.tokens {
            assert_eq!(token.is_final, token.index < update.final_tokens);
            self.tokens.insert(token.index, token.clone());
        }
        let cleared = self.tokens.values().filter(|token| token.bytes.end <= update.horizon);
        assert!(cleared.clone().all(|token| token.index < update.horizon_tokens));
        let shadow = update.violation.is_some() && update.decision == Decision::Continue;
        if !shadow {
            assert_eq!(update.decision == Decision::Stop, update.violation.is_some());
            assert!(cleared.clone().all(|token| token.index < update.final_tokens), "a provisional token is cleared");
        }
        if let Some(violation) = update.violation.as_ref().filter(|_| !shadow) {
            assert!(self.horizon <= violation.bytes.start, "{violation:?} is cleared up to {}", self.horizon);
            assert!(self.violation.as_ref().is_none_or(|known| known == violation));
            assert_eq!(update.excess(), update.received - update.horizon);
        }
        self.violation = update.violation.clone();
        self.flags.extend(update.flags.clone());
        self.last = Some(update);
    }

    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        self.tokens.values().map(|token| token.verdict.clone()).collect()
    }

    /// The tokens of a finished answer stand for all of it but tags and line breaks around thinking, in order.
    pub(crate) fn cover(&self, answer: &str) {
        let mut end = 0;
        for token in self.tokens.values() {
            if token.bytes.start > end {
                let gap = &answer[end..token.bytes.start];
                let gap = gap.replace("<think>", "").replace("</think>", "");
                assert_eq!(gap.trim_matches('\n'), "", "not judged");
            }
            end = end.max(token.bytes.end);
        }
        let last = self.last.as_ref().unwrap();
        assert_eq!(last.received, answer.len());
        if last.decision == Decision::Continue {
            assert_eq!(last.horizon, answer.len());
        }
    }
}
