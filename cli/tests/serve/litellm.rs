//! LiteLLM's generic guardrail, asked as LiteLLM asks.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    BAD, FINE, TURNS, client, post,
    proxy::{FINE_ANSWER, settled},
    server::Server,
    turning_answer,
};

const ROUTE: &str = "/beta/litellm_basic_guardrail_api";

/// A text in which characters, bytes and the units of UTF-16 differ.
const WIDE_ANSWER: &str = "Mix flour, water, salt and yeast 🍞 in a large bowl. Knead the dough for ten minutes – or longer – \
    and let it rest. Shape a loaf 🥖 and bake it at 220 °C until the crust is golden brown. Voilà!";

/// A question as LiteLLM 1.106.12 writes it.
fn question(input_type: &str, call: &str, texts: &[&str]) -> Value {
    json!({
        "input_type": input_type,
        "litellm_call_id": call,
        "litellm_trace_id": "1f1c3a0e-1c5e-4c64-9d0a-1d0f8f7ac001",
        "structured_messages": null,
        "images": null,
        "tools": null,
        "texts": texts,
        "request_data": { "user_api_key_hash": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
            "user_api_key_user_id": "default_user_id", "user_api_key_request_route": "/v1/chat/completions" },
        "request_headers": { "host": "127.0.0.1:4000", "user-agent": "OpenAI/Python 3.57.0" },
        "litellm_version": "1.106.12",
        "additional_provider_specific_params": {},
        "tool_calls": null,
        "model": "m",
    })
}

fn prompt(call: &str, text: &str) -> Value {
    let mut question = question("request", call, &[text]);
    question["structured_messages"] = json!([{ "role": "user", "content": text }]);
    question
}

async fn ask(server: &Server, question: &Value) -> Value {
    let (status, body) = post(&format!("{}{ROUTE}", server.url), question).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// What a client of LiteLLM sees of an answer that is streamed, and how it ends: None for the end, else the reason.
/// LiteLLM shows of each text all but what is held back, and of the last one all.
async fn streamed(server: &Server, call: &str, prompted: &str, answer: &str) -> (String, Option<String>) {
    let body = ask(server, &prompt(call, prompted)).await;
    assert_eq!(body["action"], "NONE");
    go_on(server, call, answer).await
}

async fn go_on(server: &Server, call: &str, answer: &str) -> (String, Option<String>) {
    let mut shown = String::new();
    let (mut so_far, last) = (String::new(), answer.split_inclusive(' ').count());
    for (round, word) in answer.split_inclusive(' ').chain([""]).enumerate() {
        so_far += word;
        let body = ask(server, &question("response", call, &[&so_far])).await;
        if body["action"] == "BLOCKED" {
            return (shown, Some(body["blocked_reason"].as_str().unwrap().to_owned()));
        }
        assert_eq!(body["texts"], json!([so_far]));
        let held_back = body["stream_holdback_chars"][0].as_u64().unwrap() as usize;
        let count = so_far.chars().count() - if round == last { 0 } else { held_back };
        let now: String = so_far.chars().take(count).collect();
        assert!(now.starts_with(&shown), "{now:?} takes back {shown:?}");
        shown = now;
    }
    (shown, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_shown_beyond_the_horizon_and_safe_answers_are_whole() {
    let server = Server::start(&[]);
    for (call, answer) in [("a", FINE_ANSWER), ("b", WIDE_ANSWER)] {
        assert_eq!(streamed(&server, call, FINE, answer).await, (answer.to_owned(), None));
    }
    let (text, cut) = turning_answer();
    let (shown, reason) = streamed(&server, "c", TURNS, &text).await;
    assert!(text[..cut].starts_with(&shown), "{shown}");
    // It is not held back for nothing, either.
    assert!(cut - shown.len() < 40, "{shown}");
    assert!(reason.unwrap().contains("Violent"));
    // Whatever is asked about that text now is answered the same.
    assert_eq!(ask(&server, &question("response", "c", &[&text])).await["action"], "BLOCKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_stopped_gets_no_answer() {
    let server = Server::start(&[]);
    let body = ask(&server, &prompt("a", BAD)).await;
    assert_eq!(body["action"], "BLOCKED");
    assert!(body["blocked_reason"].as_str().unwrap().contains("Violent"), "{body}");
    // Even if somebody goes on.
    assert_eq!(ask(&server, &question("response", "a", &["Mix flour and water."])).await["action"], "BLOCKED");
    // Other interfaces send texts without messages, and every one of them counts.
    assert_eq!(ask(&server, &question("request", "b", &[FINE])).await["action"], "NONE");
    for texts in [[FINE, BAD], [BAD, FINE]] {
        assert_eq!(ask(&server, &question("request", "c", &texts)).await["action"], "BLOCKED");
    }
    // A text that the messages do not have.
    let mut hidden = prompt("d", FINE);
    hidden["texts"] = json!([FINE, BAD]);
    assert_eq!(ask(&server, &hidden).await["action"], "BLOCKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_whole_is_judged_whole() {
    let server = Server::start(&[]);
    let (text, _) = turning_answer();
    for (call, answer, action) in [("a", FINE_ANSWER, "NONE"), ("b", &text, "BLOCKED")] {
        ask(&server, &prompt(call, TURNS)).await;
        assert_eq!(ask(&server, &question("response", call, &[answer])).await["action"], action);
    }
    // Both of two answers.
    ask(&server, &prompt("c", TURNS)).await;
    let body = ask(&server, &question("response", "c", &[FINE_ANSWER, &text])).await;
    assert_eq!(body["action"], "BLOCKED");
}

/// A conversation that was lost is judged anew, and so is one without a name.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_is_judged_all_the_same() {
    let (text, cut) = turning_answer();
    let server = Server::start(&["--kept-conversations", "1"]);
    ask(&server, &prompt("a", TURNS)).await;
    let mut so_far = String::new();
    let mut shown = 0;
    let mut was_blocked = false;
    for word in text.split_inclusive(' ') {
        so_far += word;
        // Another one takes its place.
        assert_eq!(ask(&server, &question("response", "other", &[FINE_ANSWER])).await["action"], "NONE");
        let body = ask(&server, &question("response", "a", &[&so_far])).await;
        was_blocked = body["action"] == "BLOCKED";
        if was_blocked {
            break;
        }
        shown = so_far.chars().count() - body["stream_holdback_chars"][0].as_u64().unwrap() as usize;
    }
    assert!(was_blocked && shown <= cut, "{shown}");
    let mut nameless = question("response", "", &[&text]);
    for call in [json!(""), Value::Null] {
        nameless["litellm_call_id"] = call;
        assert_eq!(ask(&server, &nameless).await["action"], "BLOCKED");
    }
}

/// Tokens that the guard has computed or found again.
async fn tokens(server: &Server) -> u64 {
    let metrics = client().get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    let of = |name: &str| {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.split(' ').nth(1)?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")) as u64
    };
    of("qwenguard_tokens_total") + of("qwenguard_prefix_hit_tokens_total")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_new_is_computed() {
    let server = Server::start(&[]);
    let before = tokens(&server).await;
    streamed(&server, "a", FINE, FINE_ANSWER).await;
    let kept = tokens(&server).await - before;
    // Without a name nothing is kept.
    go_on(&server, "", FINE_ANSWER).await;
    let anew = tokens(&server).await - before - kept;
    assert!(3 * kept < anew, "{kept} {anew}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_answers_each_goes_on_where_it_was() {
    let server = Server::start(&[]);
    ask(&server, &prompt("a", TURNS)).await;
    let (bad, cut) = turning_answer();
    let (mut fine, mut turning, mut round) = (String::new(), String::new(), 0);
    let words = FINE_ANSWER.split_inclusive(' ').chain(std::iter::repeat("")).zip(bad.split_inclusive(' '));
    let mut shown = 0;
    let blocked = 'stream: {
        for (one, other) in words {
            round += 1;
            turning += other;
            // The first answer has no text yet for some time, and the second takes its place.
            let texts = if round <= 3 { vec![&*turning] } else { vec![&*fine, &*turning] };
            let body = ask(&server, &question("response", "a", &texts)).await;
            if body["action"] == "BLOCKED" {
                break 'stream true;
            }
            assert_eq!(body["texts"], json!(texts));
            let held_back = body["stream_holdback_chars"].as_array().unwrap();
            assert_eq!(held_back.len(), texts.len());
            shown = turning.chars().count() - held_back.last().unwrap().as_u64().unwrap() as usize;
            fine += one;
        }
        false
    };
    assert!(blocked && shown <= cut, "{shown}");
}

/// Clients may name a call themselves. Under a name that two have an answer has to be fine after both prompts.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_two_calls_have_spares_no_judgement() {
    let server = Server::start(&[]);
    let prompts = [FINE, TURNS, "What is the weather like?", "How old is the moon?"];
    for text in prompts.iter().chain(&prompts) {
        assert_eq!(ask(&server, &prompt("a", text)).await["action"], "NONE");
    }
    assert_eq!(ask(&server, &question("response", "a", &[FINE_ANSWER])).await["action"], "NONE");
    let (text, _) = turning_answer();
    assert_eq!(ask(&server, &question("response", "a", &[&text])).await["action"], "BLOCKED");
    let body = ask(&server, &prompt("a", "One more?")).await;
    assert!(body["blocked_reason"].as_str().unwrap().contains("litellm_call_id"), "{body}");
    // A stopped prompt under a name stops the answers under it.
    assert_eq!(ask(&server, &prompt("b", FINE)).await["action"], "NONE");
    assert_eq!(ask(&server, &prompt("b", BAD)).await["action"], "BLOCKED");
    assert_eq!(ask(&server, &question("response", "b", &[FINE_ANSWER])).await["action"], "BLOCKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_is_blocked() {
    let server = Server::start(&[]);
    let with = |field: &str, value: Value| {
        let mut question = prompt("a", FINE);
        question[field] = value;
        question
    };
    let part = |part: Value| json!([{ "role": "user", "content": [{ "type": "text", "text": FINE }, part] }]);
    for (question, named) in [
        (with("images", json!(["data:image/png;base64,"])), "images"),
        (with("documents", json!([{ "text": BAD }])), "documents"),
        (with("input_type", json!("both")), "input_type"),
        (with("texts", json!({ "0": BAD })), "texts is not a list"),
        (with("texts", json!([7])), "texts[0]"),
        (with("texts", json!(vec!["a"; 257])), "257 items"),
        (with("structured_messages", part(json!({ "type": "image_url", "image_url": { "url": "x" } }))), "image_url"),
        (with("structured_messages", part(json!({ "type": "input_audio", "input_audio": {} }))), "input_audio"),
        (with("structured_messages", json!([{ "role": "oracle", "content": FINE }])), "oracle"),
        (
            with(
                "structured_messages",
                json!([{ "role": "user", "content": FINE }, { "role": "assistant", "content": "Mix" }]),
            ),
            "goes on",
        ),
        (question("request", "a", &[]), "nothing to judge"),
        (
            {
                let mut question = question("request", "a", &[FINE]);
                question["tool_calls"] = json!([{ "type": "function", "function": { "name": "f", "arguments": BAD } }]);
                question
            },
            "tool_calls",
        ),
    ] {
        let body = ask(&server, &question).await;
        let reason = body["blocked_reason"].as_str().unwrap_or_else(|| panic!("{question}: {body}"));
        assert!(body["action"] == "BLOCKED" && reason.contains(named), "{body}");
    }
    // What is no question at all is an error, and LiteLLM lets nothing through.
    for body in ["", "[]", "{\"texts\":[],\"texts\":[]}", "{\"texts\":[\"\\ud800\"]}"] {
        let response = client().post(format!("{}{ROUTE}", server.url)).body(body).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 400, "{body}");
    }
    // Definitions of tools are the program's words.
    let tools = json!([{ "type": "function", "function": { "name": "f", "description": "Looks something up" } }]);
    assert_eq!(ask(&server, &with("tools", tools)).await["action"], "NONE");
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_calls_are_judged() {
    let server = Server::start(&[]);
    let (bad, _) = turning_answer();
    let escaped: String = bad.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
    let call = |arguments: &str| json!({ "id": "call_1", "type": "function", "function": { "name": "send", "arguments": arguments } });
    for (texts, calls, action) in [
        (vec![], json!([call("{\"query\": \"how to bake bread\"}")]), "NONE"),
        (vec!["Let me look it up."], json!([call("{\"query\": \"how to bake bread\"}")]), "NONE"),
        (vec![], json!([call(&format!("{{\"text\": \"{bad}\"}}"))]), "BLOCKED"),
        (vec![], json!([call(&format!("{{\"text\": \"{escaped}\"}}"))]), "BLOCKED"),
        (vec!["Let me look."], json!([call("{}"), call(&format!("{{\"text\": \"{bad}\"}}"))]), "BLOCKED"),
        (vec!["One.", "Two."], json!([call(&format!("{{\"text\": \"{bad}\"}}"))]), "BLOCKED"),
        (vec![], json!([{ "type": "custom", "custom": { "input": bad } }]), "BLOCKED"),
        (vec![], json!([{ "type": "custom", "function": { "name": "f", "arguments": "" } }]), "BLOCKED"),
        (vec![], json!([{ "type": "function", "function": { "name": "f", "arguments": "", "more": bad } }]), "BLOCKED"),
        (vec![], json!(["f"]), "BLOCKED"),
        (vec![], json!([{ "type": "function" }]), "BLOCKED"),
    ] {
        ask(&server, &prompt("a", TURNS)).await;
        let mut question = question("response", "a", &texts);
        question["tool_calls"] = calls;
        let body = ask(&server, &question).await;
        assert_eq!(body["action"], action, "{question}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_nothing_is_blocked_and_all_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, "shadow = true").unwrap();
    let server = Server::start(&["--policy", policy.to_str().unwrap()]);
    let (text, _) = turning_answer();
    assert_eq!(ask(&server, &prompt("a", BAD)).await["action"], "NONE");
    assert_eq!(go_on(&server, "a", &text).await, (text, None));
    let metrics = client().get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    for place in ["prompt", "answer"] {
        let line = format!(
            "qwenguard_proxy_findings_total{{place=\"{place}\",risk=\"Unsafe\",category=\"Violent\",stopped=\"false\"}} 1"
        );
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_let_go_when_nobody_asks() {
    let server = Server::start(&["--kept-seconds", "1"]);
    for call in ["a", "b"] {
        streamed(&server, call, FINE, "Mix flour and water.").await;
    }
    settled(&server).await;
    // Where the guard has no more streams, those that are kept make room.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guard.toml");
    std::fs::write(&file, "[engine]\nmax_streams = 4\n").unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap()]);
    for call in ["a", "b", "c", "d", "e"] {
        assert_eq!(streamed(&server, call, FINE, "Mix flour and water.").await.1, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_comes_as_litellm_sends_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "s3cret\n").unwrap();
    let server = Server::start(&["--key-file", file.to_str().unwrap()]);
    let ask = async |name: &str, key: &str| {
        let request = client().post(format!("{}{ROUTE}", server.url)).header(name, key).json(&prompt("a", FINE));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("x-api-key", "s3cret").await, 200);
    assert_eq!(ask("authorization", "Bearer s3cret").await, 200);
    assert_eq!(ask("x-api-key", "other").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gen_model_is_refused() {
    let server = Server::start(&["--gen"]);
    let (status, body) = post(&format!("{}{ROUTE}", server.url), &prompt("a", FINE)).await;
    assert!(status == 400 && body["error"]["message"].as_str().unwrap().contains("whole conversations"), "{body}");
}
