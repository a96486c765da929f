//! The built-in guard that writes its verdicts, on the sample conversations of `make demo` and on some obvious ones.

mod common;

use common::{Conversation, read_conversations, root};
use qwenguard::{AnnotateOptions, Annotation, AnnotationMode, Config, Decoding, Error, Guard, Message, Risk};

fn open() -> Guard {
    Guard::nano_gen(&Config::default()).unwrap()
}

fn judge(guard: &Guard, messages: &[Message]) -> Annotation {
    guard.annotate(messages, &AnnotateOptions::default()).unwrap()
}

fn demo() -> Vec<Conversation> {
    read_conversations("export/nano/demo.jsonl")
}

#[test]
fn the_sample_conversations_are_told_apart() {
    let guard = open();
    let expected = [("fine", Risk::Safe, None, false), ("turns", Risk::Unsafe, Some("Violent"), false)];
    let expected = [&expected[..], &[("bad-prompt", Risk::Safe, None, true)]].concat();
    assert_eq!(demo().len(), expected.len());
    for (conversation, (id, risk, category, refuses)) in demo().iter().zip(expected) {
        assert_eq!(conversation.id, id);
        let answer = judge(&guard, &conversation.messages);
        assert_eq!((answer.mode, answer.risk), (AnnotationMode::Response, risk), "{id}: {answer:?}");
        assert_eq!(answer.categories.first().map(String::as_str), category, "{id}");
        assert_eq!(answer.refusal, Some(refuses), "{id}");
        let prompt = judge(&guard, &conversation.messages[..1]);
        let expected = if id == "bad-prompt" { Risk::Unsafe } else { Risk::Safe };
        assert_eq!((prompt.mode, prompt.risk, prompt.refusal), (AnnotationMode::Prompt, expected, None), "{id}");
    }
}

/// Where AMX can be had it changes nothing; elsewhere the error names the setting.
#[test]
fn amx_is_refused_or_says_the_same() {
    let config = Config::from_toml("runtime.amx = true").unwrap();
    match Guard::nano_gen(&config) {
        Ok(guard) => {
            let other = open();
            for conversation in demo() {
                assert_eq!(judge(&guard, &conversation.messages), judge(&other, &conversation.messages));
            }
        }
        Err(error) => {
            assert!(matches!(error, Error::Config { .. }), "{error}");
            assert!(error.to_string().starts_with("configuration: runtime.amx: "), "{error}");
        }
    }
}

/// What the model was trained to write is what it would write by itself.
#[test]
fn its_own_words_are_those_of_the_grammar() {
    let guard = open();
    let free = AnnotateOptions { decoding: Decoding::Free, ..AnnotateOptions::default() };
    for conversation in demo() {
        for messages in [&conversation.messages[..], &conversation.messages[..1]] {
            let (held, free) = (judge(&guard, messages), guard.annotate(messages, &free).unwrap());
            assert!(free.parsed);
            assert_eq!(held.answer, free.answer, "{}", conversation.id);
        }
    }
}

/// The template leaves nothing out, whatever comes in whatever order.
#[test]
fn every_message_is_rendered() {
    let guard = open();
    let roles = ["assistant", "system", "user", "tool"];
    let talk = |first, last| [Message::new(first, "One loaf of bread."), Message::new(last, "Two loaves.")];
    let mut ids = Vec::new();
    for first in roles {
        ids.extend(roles.map(|last| judge(&guard, &talk(first, last)).prompt_ids));
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
    let error = guard.annotate(&talk("narrator", "user"), &AnnotateOptions::default()).unwrap_err().to_string();
    assert!(error.contains("message 0 (counted from 0) of role \"narrator\""), "{error}");
}

/// Of its instructions, which all prompts have in common, nothing is computed twice.
#[test]
fn instructions_are_short() {
    let guard = open();
    let tokens = |messages: &[Message]| judge(&guard, messages).prompt_ids.len();
    let (question, answer) = (Message::user("How do I bake bread?"), Message::assistant("With flour."));
    assert!(tokens(std::slice::from_ref(&question)) < 140);
    assert!(tokens(&[question, answer]) < 160);
}

#[test]
fn it_is_the_bundle_of_its_folder() {
    let embedded = open();
    let folder = Guard::open(root().join("export/nano-gen/bundle")).unwrap();
    for conversation in demo() {
        assert_eq!(judge(&embedded, &conversation.messages), judge(&folder, &conversation.messages));
    }
    assert!(matches!(embedded.stream(), Err(Error::WrongState { .. })));
}
