//! Qwen's own template, as the tokenizer's package has it, against its rendering by transformers: `tests/golden/qwen`.

use serde::Deserialize;

use super::tests::{qwen, read, renderer};
use crate::text::Message;

#[derive(Deserialize)]
struct Case {
    name: String,
    /// As the command line gives them to the library.
    messages: Vec<Message>,
    /// Of the whole rendering.
    ids: Vec<u32>,
}

#[test]
fn qwens_own_template_gives_the_reference_s_ids() {
    let config: serde_json::Value =
        serde_json::from_slice(&read("target/test-data/qwen3/tokenizer_config.json")).unwrap();
    let template = config["chat_template"].as_str().expect("the package has Qwen's template");
    assert!(template.contains("reasoning_content") && template.contains("tool_calls"));
    let cases: Vec<Case> = serde_json::from_slice(&read("tests/golden/qwen/conversations.json")).unwrap();
    assert!(cases.len() >= 8);
    let renderer = renderer(qwen(), template, 4096);
    let turn_end = qwen().find_special("<|im_end|>").unwrap().1;
    for Case { name, messages, ids } in cases {
        // All of them but the newline after the last turn.
        let turns = ids.len() - 1;
        assert_eq!(ids[turns - 1], turn_end, "{name}");
        let roles = ["user".to_owned(), "tool".to_owned()];
        assert_eq!(renderer.render(qwen(), &messages, &roles).unwrap().prompt, ids[..turns], "{name}");
        // What follows the last turn of the user is not judged: the prompt ends before it.
        let prompt = renderer.render(qwen(), &messages, &roles[..1]).unwrap().prompt;
        let last_is_user = messages.last().is_some_and(|last| last.role == "user");
        assert!(ids.starts_with(&prompt) && prompt.ends_with(&[turn_end]), "{name}");
        assert_eq!(prompt.len() == turns, last_is_user, "{name}");
    }
}
