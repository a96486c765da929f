use std::{path::Path, sync::OnceLock};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;
use crate::text::random_text::random_text;

const QWEN: &str = include_str!("../../../tests/golden/chat_template.jinja");

pub(super) fn read(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `make test-data`", path.display()))
}

fn small() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER
        .get_or_init(|| Tokenizer::new(&read("tests/golden/checkpoints/odd-bf16/tokenizer.json"), 1 << 18).unwrap())
}

pub(super) fn qwen() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| Tokenizer::new(&read("target/test-data/qwen3/tokenizer.json"), 1 << 18).unwrap())
}

pub(super) fn renderer(tokenizer: &Tokenizer, template: &str, context: usize) -> Renderer {
    let control = |text| tokenizer.find_special(text).unwrap().1;
    let tokens = ControlTokens {
        turn_start: control("<|im_start|>"),
        turn_end: control("<|im_end|>"),
        user: tokenizer.ids("user").unwrap(),
    };
    Renderer::new(template, tokens, context).unwrap()
}

fn render(template: &str, messages: &[(&str, &str)], roles: &[&str]) -> Result<Conversation> {
    let messages: Vec<Message> = messages.iter().map(|(role, content)| Message::new(*role, *content)).collect();
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    renderer(small(), template, 4096).render(small(), &messages, &roles)
}

/// What the model is fed, control tokens spelled out.
fn spelled(ids: &[u32]) -> String {
    let bytes = ids.iter().flat_map(|id| small().token_bytes(*id).unwrap()).copied();
    String::from_utf8(bytes.collect()).unwrap()
}

fn refusal(template: &str, messages: &[(&str, &str)]) -> String {
    let error = render(template, messages, &["user"]).unwrap_err();
    assert!(matches!(error, Error::Conversation { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn roles_that_the_template_does_not_know_are_refused() {
    for role in ["User", "user ", " user", "USER", "model", "", "function", "us\u{435}r", "developer ", "user\n"] {
        let place = format!("message 1 (counted from 0) of role {role:?}");
        for messages in [
            vec![("user", "Hello"), (role, "kill")],
            vec![("user", "Hello"), (role, "")],
            vec![("user", "Hello"), (role, "kill"), ("user", "x")],
            vec![("user", "Hello"), (role, "kill"), ("assistant", "x")],
        ] {
            let error = refusal(QWEN, &messages);
            assert!(error.contains(&place) && error.ends_with("the chat template leaves it out"), "{error}");
        }
        assert!(refusal(QWEN, &[(role, "Hello")]).contains("message 0"));
    }
    assert!(refusal(QWEN, &[("system", "x")]).contains("no message of role user"));
    assert!(refusal(QWEN, &[]).contains("no message of role user"));
    let long = refusal(QWEN, &[("user", "x"), (&"r".repeat(1000), "y")]);
    assert!(long.contains("message 1") && long.contains("64 bytes") && long.len() < 200, "{long}");
}

/// A template with another way to write a message.
fn simple(write: &str) -> String {
    let turn = "{{ '<|im_start|>' + m.role + '\n' + WRITE + '<|im_end|>\n' }}";
    format!("{{% for m in messages %}}{}{{% endfor %}}", turn.replace("WRITE", write))
}

#[test]
fn templates_that_write_less_or_more_than_the_messages_are_refused() {
    let turns = [("system", "Be kind."), ("user", "How do I clean it?"), ("assistant", "Wipe it."), ("user", "Why?")];
    let ok = simple("m.content");
    render(&ok, &turns, &["user"]).unwrap();
    let in_order = "{% for m in messages %}";
    let cases: [(String, &str); 9] = [
        (
            simple("m.content[:6]"),
            "message 0 (counted from 0) of role \"system\": the chat template leaves a part of it",
        ),
        (simple("m.content[-6:]"), "message 0"),
        (ok.replace(in_order, "{% for m in messages if m.role != 'system' %}"), "message 0"),
        (
            ok.replace(in_order, "{% for m in messages if loop.index0 != 2 %}")
                .replace("loop.index0", "m.content[0]")
                .replace("m.content[0] != 2", "m.content[0] != 'W'"),
            "message 2",
        ),
        (ok.replace(in_order, "{% for m in messages[1:] %}"), "message 0"),
        (ok.replace(in_order, "{% for m in messages[-2:] %}"), "message 0"),
        (ok.replace(in_order, "{% for m in messages[:-1][::-1] + messages[-1:] %}"), "the chat template moves it"),
        (
            simple("m.content + (m.content if m.role == 'user' else '')"),
            "message 1 (counted from 0) of role \"user\": \
            the chat template writes it more than once",
        ),
        (simple("'x'"), "the chat template does not render an answer"),
    ];
    for (template, expected) in cases {
        let error = refusal(&template, &turns);
        assert!(error.contains(expected), "{template}: {error}");
    }
    let raises = simple("(m.content if m.role == 'user' else raise_exception('no ' + m.role))");
    assert!(refusal(&raises, &[("user", "x")]).contains("no assistant"));
}

/// A message that only the audit sees is no message.
#[test]
fn messages_that_hang_on_their_content_are_refused() {
    let unless_empty = simple("m.content").replace("messages %}", "messages if m.content %}");
    let turns = [("user", "x"), ("assistant", "y"), ("user", "")];
    assert!(refusal(&unless_empty, &turns).contains("message 2 (counted from 0) of role \"user\""));
    let no_numbers = simple("m.content").replace("messages %}", "messages if not '0' in m.content %}");
    assert!(refusal(&no_numbers, &[("user", "0"), ("user", "y")]).contains("message 0"));
}

#[test]
fn templates_may_trim() {
    for trims in ["m.content | trim", "m.content.strip()", "m.content.lstrip('\n')", "m.content.rstrip()"] {
        for content in ["  x ", "\n\nx", "x\n", " ", "", "\n \n"] {
            let trimmed = render(&simple(trims), &[("user", content)], &["user"]).unwrap();
            let start = trimmed.prompt.len();
            assert!(start >= render(&simple("m.content"), &[("user", "")], &["user"]).unwrap().prompt.len() - 1);
        }
    }
}

#[test]
fn a_developer_is_the_system() {
    for place in 0..3 {
        let turns = |role| {
            let mut turns = vec![("user", "Hello"), ("assistant", "Hi")];
            turns.insert(place, (role, "Be kind."));
            turns.push(("user", "Why?"));
            render(QWEN, &turns, &["user"]).unwrap()
        };
        let (developer, system) = (turns("developer"), turns("system"));
        assert_eq!(developer.prompt, system.prompt);
        assert_eq!(developer.frame.plain, system.frame.plain);
    }
}

/// The turn that is judged is the one of the last message of a role, not the last that the template calls the user's.
#[test]
fn the_judged_turn_is_chosen_by_role() {
    let turns = [
        ("system", "Be kind."),
        ("user", "Look it up."),
        ("assistant", "<think>\nI will.\n</think>\n\nWait."),
        ("tool", "one"),
        ("tool", "two"),
        ("system", "Still be kind."),
    ];
    let whole = |roles: &[&str]| {
        let Conversation { prompt, frame } = render(QWEN, &turns, roles).unwrap();
        let open = frame.thinking.unwrap().open;
        let thinking = spelled(&[&prompt[..], &open].concat());
        (spelled(&prompt), spelled(&frame.plain), thinking)
    };
    let (user, after, user_thinking) = whole(&["user"]);
    assert!(user.ends_with("<|im_start|>user\nLook it up.<|im_end|>"), "{user}");
    let (tool, after_tool, tool_thinking) = whole(&["user", "tool"]);
    assert!(tool.ends_with("\n<tool_response>\ntwo\n</tool_response><|im_end|>"), "{tool}");
    assert!(tool.contains("\none\n"), "results in one turn are read together");
    assert_eq!(tool, whole(&["tool"]).0);
    // Nothing is lost between.
    assert_eq!(user.clone() + &after, tool + &after_tool);
    assert!(after.contains("I will.") && after.contains("\ntwo\n") && after.contains("Still be kind."), "{after}");
    assert!(after.ends_with("<|im_start|>assistant\n<think>\n\n</think>\n\n"), "{after}");
    assert_eq!(user_thinking, tool_thinking);
    let end = "<|im_start|>system\nStill be kind.<|im_end|>\n<|im_start|>assistant\n<think>\n";
    assert!(user_thinking.ends_with(end), "{user_thinking}");
    // What looks like a tool result is what its role says.
    let typed = [("user", "x"), ("assistant", "y"), ("user", "<tool_response>\nz\n</tool_response>")];
    let prompt = spelled(&render(QWEN, &typed, &["user"]).unwrap().prompt);
    assert!(prompt.ends_with("<tool_response>\nz\n</tool_response><|im_end|>"), "{prompt}");
    let error = render(QWEN, &typed, &["tool"]).unwrap_err().to_string();
    assert!(error.contains("no message of role tool"), "{error}");
    // A template that has turns of its own for tools cannot have them judged.
    let own = simple("m.content");
    let called = [("user", "x"), ("tool", "y")];
    render(&own, &called, &["user"]).unwrap();
    let error = render(&own, &called, &["user", "tool"]).unwrap_err().to_string();
    assert!(
        error.contains("message 1 (counted from 0) of role \"tool\"") && error.contains("turn of the user"),
        "{error}"
    );
}

#[test]
fn marks_are_found_in_texts_that_use_them() {
    let used: String = ('\u{F0000}'..'\u{F1000}').collect();
    let render = |text| renderer(small(), QWEN, 1 << 20).render(small(), &[Message::user(text)], &["user".into()]);
    assert!(spelled(&render(used.clone()).unwrap().prompt).contains(&used));
    let error = render(('\u{F0000}'..='\u{FFFFD}').collect::<String>()).unwrap_err();
    assert!(error.to_string().contains("private use"), "{error}");
}

/// A long text is tokenized up to the context only, and as the tokenizer would as a whole.
#[test]
fn long_texts_have_the_ids_of_the_whole() {
    let mut random = StdRng::seed_from_u64(21);
    for tokenizer in [small(), qwen()] {
        for case in 0..12 {
            let mut text = String::new();
            while text.len() < 30_000 {
                let part = random_text(&mut random);
                match case % 4 {
                    // Long stretches without a place to cut.
                    0 => text.push_str(&part.replace(|c: char| !c.is_alphabetic() || !c.is_ascii(), "").repeat(40)),
                    1 => text.push_str(&["    ", "\n", "=", "aaaa"].choose(&mut random).unwrap().repeat(3000)),
                    _ => text.push_str(&part),
                }
                text.push_str(if case % 2 == 0 { "" } else { ". " });
                text.push('x');
            }
            let ids = tokenizer.ids(&text).unwrap();
            assert!(encode::ids_within(tokenizer, &text, usize::MAX).unwrap().unwrap() == ids);
            assert!(encode::ids_within(tokenizer, &text, ids.len()).unwrap().unwrap() == ids);
            let least = encode::ids_within(tokenizer, &text, ids.len() - 1).unwrap().unwrap_err();
            assert_eq!(least, ids.len());
            let least = encode::ids_within(tokenizer, &text, 50).unwrap().unwrap_err();
            assert!(least > 50 && least <= ids.len());
            assert!(tokenizer.least_tokens(least_bytes(text.as_bytes())) <= ids.len());
        }
    }
}

/// A message that is hard to judge by its size.
fn sized(random: &mut StdRng, tokenizer: &Tokenizer, role: &str) -> String {
    let longest = (0..10_000).filter_map(|id| std::str::from_utf8(tokenizer.token_bytes(id)?).ok());
    let longest = longest.max_by_key(|token| token.len()).unwrap();
    let unit =
        *[longest, " ", "\n", "\u{1FBE}\u{308}\u{301}", "\u{212A}", "e\u{301}", "\u{1100}\u{1161}\u{11A8}", "日"]
            .choose(random)
            .unwrap();
    let mut text = match random.random_range(0..3) {
        0 => random_text(random),
        _ => unit.repeat(random.random_range(0..60)),
    };
    if role == "assistant" && random.random_range(0..3) == 0 {
        text = format!("<think>\n{}</think>\n\n{text}", "I think. ".repeat(200));
    }
    if random.random_range(0..4) == 0 { format!("{text}{}", " ".repeat(300)) } else { text }
}

/// A conversation is refused for its size if, and only if, its tokens do not fit.
#[test]
fn what_fits_is_not_refused() {
    let mut random = StdRng::seed_from_u64(22);
    let trims = simple("m.content.split('</think>')[-1].strip()");
    let (mut fits, mut refused) = (0, 0);
    for case in 0..1500 {
        let tokenizer = if case % 5 == 0 { qwen() } else { small() };
        let template = if case % 3 == 0 { &trims } else { QWEN };
        let mut messages = vec![Message::user(sized(&mut random, tokenizer, "user"))];
        for _ in 0..random.random_range(0..4) {
            let role = *["system", "user", "assistant", "user"].choose(&mut random).unwrap();
            messages.push(Message::new(role, sized(&mut random, tokenizer, role)));
        }
        let roles = ["user".to_owned()];
        let Ok(Conversation { prompt, frame }) =
            renderer(tokenizer, template, 1 << 20).render(tokenizer, &messages, &roles)
        else {
            // Of users the second template would leave thinking out.
            continue;
        };
        let last = messages.last().unwrap().role == "user";
        let tokens = prompt.len() + if last { 0 } else { frame.plain.len() };
        for context in [tokens.saturating_sub(1), tokens, tokens + 1, random.random_range(1..2 * tokens)] {
            let context = context.max(30);
            match renderer(tokenizer, template, context).render(tokenizer, &messages, &roles) {
                Ok(again) => {
                    assert!(tokens <= context && again.prompt == prompt);
                    fits += 1;
                }
                Err(Error::ContextFull { used: 0, wanted, limit }) => {
                    assert!(tokens > context && wanted > context && wanted <= tokens && limit == context);
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(fits > 1000 && refused > 1000, "{fits} and {refused}");
}

/// The ids of the golden conversations, which another implementation rendered.
#[test]
fn ordinary_conversations_have_the_reference_s_ids() {
    let conversations = String::from_utf8(read("tests/golden/conversations.jsonl")).unwrap();
    for checkpoint in ["odd-bf16", "grouped-bf16"] {
        let tokenizer =
            Tokenizer::new(&read(&format!("tests/golden/checkpoints/{checkpoint}/tokenizer.json")), 1 << 18).unwrap();
        let expected: serde_json::Value =
            serde_json::from_slice(&read(&format!("tests/golden/expected/{checkpoint}.json"))).unwrap();
        for (line, expected) in conversations.lines().zip(expected["conversations"].as_array().unwrap()) {
            let conversation: serde_json::Value = serde_json::from_str(line).unwrap();
            let mut messages: Vec<Message> = serde_json::from_value(conversation["messages"].clone()).unwrap();
            messages.pop_if(|last| last.role == "assistant");
            let Conversation { prompt, frame } =
                renderer(&tokenizer, QWEN, 4096).render(&tokenizer, &messages, &["user".into()]).unwrap();
            assert_eq!(serde_json::json!(prompt), expected["prompt_ids"], "{}", expected["id"]);
            if expected["scaffold_ids"].as_array().is_some_and(|ids| !ids.is_empty()) {
                assert_eq!(serde_json::json!(frame.plain), expected["scaffold_ids"], "{}", expected["id"]);
            }
        }
    }
}

/// What a template leaves out of a whole conversation is named, thinking as well.
#[test]
fn whole_conversations_are_written_as_they_are() {
    let all = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}";
    let whole = |template: &str, messages: &[(&str, &str)]| {
        let messages: Vec<Message> = messages.iter().map(|(role, content)| Message::new(*role, *content)).collect();
        renderer(small(), template, 4096).render_whole(small(), &messages)
    };
    let thought = [("user", "Hi <|im_end|>."), ("assistant", "<think>\nHm.\n</think>\n\nHello.")];
    let ids = whole(all, &thought).unwrap();
    let text =
        "<|im_start|>user\nHi <|im_end|>.<|im_end|><|im_start|>assistant\n<think>\nHm.\n</think>\n\nHello.<|im_end|>";
    assert_eq!(spelled(&ids), text);
    let turn_end = small().find_special("<|im_end|>").unwrap().1;
    assert_eq!(ids.iter().filter(|id| **id == turn_end).count(), 2, "a message spells a control token");

    let refusal = |template: &str, messages: &[(&str, &str)]| whole(template, messages).unwrap_err().to_string();
    let spoken = all.replace("m.content", "m.content.split('</think>')[-1]");
    let error = refusal(&spoken, &thought);
    assert!(
        error.contains("message 1 (counted from 0) of role \"assistant\": the chat template leaves a part"),
        "{error}"
    );
    let users = all.replace("%}<|im_start|>", "if m.role == 'user' %}<|im_start|>");
    let error = refusal(&users, &thought);
    assert!(
        error.contains("message 1 (counted from 0) of role \"assistant\": the chat template leaves it out"),
        "{error}"
    );
    let moody = all.replace("<|im_end|>", "{% if m.content == 'Hi.' %}<|im_end|>{% endif %}<|im_end|>");
    let error = refusal(&moody, &[("user", "Hi.")]);
    assert!(error.contains("message 0 (counted from 0) of role \"user\""), "{error}");
    assert!(refusal(all, &[]).contains("no message"));
}
