//! Golden vectors of PyTorch: tests/golden/README.md.

use serde::Deserialize;

use super::root;

#[derive(Deserialize)]
struct Golden {
    conversations: Vec<Expected>,
}

/// Expected verdicts of one conversation.
#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) id: String,
    pub(crate) answer_ids: Vec<u32>,
    pub(crate) prompt: Probabilities,
    pub(crate) answer: Answer,
}

/// Of the last token of a prompt.
#[derive(Deserialize)]
pub(crate) struct Probabilities {
    pub(crate) risk: Vec<f32>,
    pub(crate) category: Vec<f32>,
}

/// Probabilities of some tokens of an answer.
#[derive(Deserialize)]
pub(crate) struct Answer {
    pub(crate) index: Vec<usize>,
    pub(crate) risk: Vec<Vec<f32>>,
    pub(crate) category: Vec<Vec<f32>>,
}

/// What is expected of a checkpoint, in the order of the conversations.
pub(crate) fn golden(checkpoint: &str) -> Vec<Expected> {
    let path = root().join(format!("tests/golden/expected/{checkpoint}.json"));
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    golden.conversations
}
