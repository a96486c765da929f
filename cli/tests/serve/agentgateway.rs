//! The webhook of agentgateway.

use serde_json::{Value, json};

use crate::{BAD, FINE, client, post, proxy::FINE_ANSWER, server::Server, turning_answer};

async fn ask(server: &Server, route: &str, body: Value) -> Value {
    let (status, answer) = post(&format!("{}{route}", server.url), &json!({ "body": body })).await;
    assert_eq!(status.as_u16(), 200, "{answer}");
    answer["action"].clone()
}

fn messages(text: &str) -> Value {
    json!({ "messages": [{ "role": "system", "content": "You help." }, { "role": "user", "content": text }] })
}

fn choices(texts: &[&str]) -> Value {
    let choice = |text: &&str| json!({ "message": { "role": "assistant", "content": text } });
    json!({ "choices": texts.iter().map(choice).collect::<Value>() })
}

/// The gateway tells what is to be done by the fields there are.
fn is_pass(action: &Value) -> bool {
    let fields = action.as_object().unwrap();
    !fields.contains_key("body") && !fields.contains_key("status_code") && fields["reason"].is_string()
}

fn rejected(action: &Value) -> (u64, Value) {
    let body = serde_json::from_str(action["body"].as_str().unwrap_or_else(|| panic!("{action}"))).unwrap();
    (action["status_code"].as_u64().unwrap(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_and_answers_pass_or_are_rejected() {
    let server = Server::start(&[]);
    let (bad, _) = turning_answer();
    assert!(is_pass(&ask(&server, "/request", messages(FINE)).await));
    assert!(is_pass(&ask(&server, "/response", choices(&[FINE_ANSWER])).await));
    for (route, body) in
        [("/request", messages(BAD)), ("/response", choices(&[&bad])), ("/response", choices(&[FINE_ANSWER, &bad]))]
    {
        let (status, body) = rejected(&ask(&server, route, body).await);
        assert_eq!((status, body["error"]["code"].as_str()), (400, Some("content_filter")));
        assert!(body["error"]["message"].as_str().unwrap().contains("Violent"));
    }
    // A window of an answer, as the gateway cuts it: it begins anywhere.
    let window = &bad[bad.len() - 200..];
    let action = ask(&server, "/response", choices(&[&format!("{window}{window}")])).await;
    assert!(action["reason"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_is_rejected() {
    let server = Server::start(&["--max-body-bytes", "10000"]);
    let user = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    for (route, body, named) in [
        ("/request", json!({ "messages": [] }), "empty"),
        ("/request", json!({ "messages": "a" }), "not a list"),
        ("/request", json!({ "messages": [{ "role": "user", "content": FINE }], "more": BAD }), "body.more"),
        ("/request", user(json!([{ "type": "image_url", "image_url": {} }])), "image_url"),
        ("/request", json!({ "messages": [{ "role": "assistant", "content": "Mix" }] }), "goes on"),
        ("/request", json!({ "messages": [{ "role": "oracle", "content": FINE }] }), "oracle"),
        ("/request", choices(&[FINE]), "body.choices"),
        ("/response", json!({ "choices": [] }), "empty"),
        ("/response", json!({ "choices": [{ "text": BAD }] }), "body.choices[0].text"),
        ("/response", json!({ "choices": [{}] }), "message is missing"),
        (
            "/response",
            json!({ "choices": [{ "message": { "role": "user", "content": FINE } }] }),
            "not the assistant's",
        ),
        (
            "/response",
            json!({ "choices": [{ "message": { "role": "assistant", "content": "a", "audio": { "t": BAD } } }] }),
            "audio",
        ),
        ("/response", choices(&["a"; 129]), "128"),
    ] {
        let (status, body) = rejected(&ask(&server, route, body).await);
        let message = body["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(named), "{route}: {message}");
    }
    let (status, _) = rejected(&ask(&server, "/request", messages(&"a".repeat(10_000))).await);
    assert_eq!(status, 413);
    // Even what is no question is rejected by an answer: errors of a webhook may be ignored.
    for body in ["", "[]", "{\"body\":7}", "{\"body\":{},\"body\":{}}"] {
        let answer = client().post(format!("{}/request", server.url)).body(body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(rejected(&answer["action"]).0, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gen_model_judges_prompts_only() {
    let server = Server::start(&["--gen"]);
    assert!(is_pass(&ask(&server, "/request", messages(FINE)).await));
    assert_eq!(rejected(&ask(&server, "/request", messages(BAD)).await).0, 400);
    let (status, body) = rejected(&ask(&server, "/response", choices(&[FINE_ANSWER])).await);
    assert!(status == 400 && body["error"]["message"].as_str().unwrap().contains("whole conversations"));
}
