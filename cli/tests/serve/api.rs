//! Moderations in OpenAI's form, and verdicts in the guard's own.

use serde_json::{Value, json};

use crate::{
    BAD, FINE, TURNS, client,
    common::bundle,
    post,
    server::Server,
    turning_answer,
    upstream::{Upstream, pieces},
};

fn asked(messages: &[(&str, &str)]) -> Value {
    messages.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_moderated_one_by_one() {
    let server = Server::start(&[]);
    let url = format!("{}/v1/moderations", server.url);
    let (status, body) = post(&url, &json!({ "model": "omni-moderation-latest", "input": [FINE, BAD, FINE] })).await;
    assert_eq!((status.as_u16(), body["model"].as_str()), (200, Some("nano")));
    let results = body["results"].as_array().unwrap();
    let flagged: Vec<bool> = results.iter().map(|result| result["flagged"].as_bool().unwrap()).collect();
    assert_eq!(flagged, [false, true, false]);
    // Company changes nothing.
    assert_eq!(results[0], results[2]);
    for result in results {
        let names: Vec<&String> = result["categories"].as_object().unwrap().keys().collect();
        assert!(names.len() >= 13 && names.contains(&&"illicit/violent".to_owned()), "{names:?}");
        assert!(result["categories"].as_object().unwrap().values().all(Value::is_boolean));
        let scores = result["category_scores"].as_object().unwrap();
        assert!(
            scores.keys().eq(names.iter().copied())
                && scores.values().all(|score| (0.0..=1.0).contains(&score.as_f64().unwrap()))
        );
        assert!(
            result["category_applied_input_types"].as_object().unwrap().values().all(|types| *types == json!(["text"]))
        );
    }
    let found = &results[1]["qwenguard"];
    assert_eq!(
        (found["decision"].as_str(), found["prompt"]["verdict"]["risk"].as_str()),
        (Some("stop"), Some("Unsafe"))
    );
    let category = found["prompt"]["finding"]["category"].as_str().unwrap();
    assert_eq!(category, "Violent");
    assert_eq!(results[1]["categories"]["violence"], true);
    let (_, one) = post(&url, &json!({ "input": BAD })).await;
    assert_eq!(one["results"][0], results[1]);
    let (_, parts) = post(&url, &json!({ "input": [{ "type": "text", "text": BAD }] })).await;
    assert_eq!(parts["results"], one["results"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moderated_is_an_error_that_names_it() {
    let server = Server::start(&["--max-inputs", "2"]);
    let url = format!("{}/v1/moderations", server.url);
    for (body, named) in [
        (json!({}), "input is missing"),
        (json!({ "input": ["a", "b", "c"] }), "3 items"),
        (json!({ "input": [{ "type": "image_url", "image_url": { "url": "data:" } }] }), "image_url"),
        (json!({ "input": "a", "text": "bad" }), "\"text\" is not read"),
    ] {
        let (status, answer) = post(&url, &body).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert_eq!(status.as_u16(), 400);
        assert!(message.contains(named), "{message}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
    }
    for (body, named) in [
        ("", "EOF"),
        ("[]", "an object"),
        ("{\"input\":\"a\",\"input\":\"b\"}", "twice"),
        ("{\"input\":\"\u{0}", "column"),
    ] {
        let answer: Value = client().post(&url).body(body).send().await.unwrap().json().await.unwrap();
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_judged_in_the_guards_own_terms() {
    let server = Server::start(&[]);
    let [prompt, answer] = ["prompt", "answer"].map(|what| format!("{}/v1/guard/{what}", server.url));
    let (status, body) = post(&prompt, &json!({ "messages": asked(&[("user", BAD)]) })).await;
    assert_eq!((status.as_u16(), body["decision"].as_str()), (200, Some("stop")));
    assert_eq!(body["prompt"]["finding"]["category"], "Violent");
    let (text, cut) = turning_answer();
    let turns = asked(&[("user", TURNS), ("assistant", &text)]);
    let (_, body) = post(&answer, &json!({ "messages": turns, "tokens": true })).await;
    assert_eq!((body["decision"].as_str(), body["answer"]["horizon"].as_u64()), (Some("stop"), Some(cut as u64)));
    assert!(body["answer"]["violation"]["byte_start"].as_u64().unwrap() >= cut as u64);
    assert!(body["answer"]["tokens"].as_array().unwrap().len() > 10);
    let (_, body) =
        post(&answer, &json!({ "messages": asked(&[("user", FINE), ("assistant", "Mix flour and water.")]) })).await;
    assert_eq!((body["decision"].as_str(), body["answer"]["horizon"].as_u64()), (Some("continue"), Some(20)));
    assert!(body["answer"].get("tokens").is_none());
    // An answer to a prompt that is stopped is not looked at.
    let (_, body) = post(&answer, &json!({ "messages": asked(&[("user", BAD), ("assistant", "No.")]) })).await;
    assert_eq!((body["decision"].as_str(), &body["answer"]), (Some("stop"), &Value::Null));
    for (url, messages, named) in [
        (&prompt, asked(&[("user", FINE), ("assistant", "Yes.")]), "last message is an answer"),
        (&answer, asked(&[("user", FINE)]), "not the assistant's"),
        (&answer, json!([]), "not the assistant's"),
        (&prompt, json!([]), "conversation"),
        (&prompt, asked(&[("oracle", FINE)]), "oracle"),
        (&prompt, json!([{ "role": "user", "content": FINE, "image": "bad" }]), "messages[0].image"),
    ] {
        let (status, body) = post(url, &json!({ "messages": messages })).await;
        let message = body["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(named), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gen_model_annotates() {
    let server = Server::start(&["--gen"]);
    let messages = asked(&[("user", FINE), ("assistant", "Mix flour and water.")]);
    let (status, body) = post(&format!("{}/v1/guard/answer", server.url), &json!({ "messages": messages })).await;
    assert_eq!((status.as_u16(), body["annotation"]["mode"].as_str()), (200, Some("response")));
    assert!(body["annotation"]["refusal"].is_boolean());
    let (_, body) =
        post(&format!("{}/v1/guard/prompt", server.url), &json!({ "messages": asked(&[("user", FINE)]) })).await;
    assert_eq!(body["annotation"]["mode"], "prompt");
    let (_, body) = post(&format!("{}/v1/moderations", server.url), &json!({ "input": FINE })).await;
    let result = &body["results"][0];
    assert_eq!(result["flagged"].as_bool(), Some(result["qwenguard"]["decision"] == "stop"));
    let (status, body) =
        post(&format!("{}/v1/guard/answer", server.url), &json!({ "messages": asked(&[("user", FINE)]) })).await;
    assert!(status == 400 && body["error"]["param"] == "messages");
    let (status, body) =
        post(&format!("{}/v1/guard/answer", server.url), &json!({ "messages": messages, "tokens": true })).await;
    assert!(status == 400 && body["error"]["param"] == "tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_it_sees_how_it_is() {
    let folder = bundle("grouped-bf16", "int8").display().to_string();
    let server = Server::start(&["--bundle", &folder]);
    let get = async |path: &str| client().get(format!("{}{path}", server.url)).send().await.unwrap();
    let health: Value = get("/health").await.json().await.unwrap();
    assert_eq!((health["live"].as_bool(), health["ready"].as_bool()), (Some(true), Some(true)));
    let info: Value = get("/info").await.json().await.unwrap();
    assert_eq!(
        (info["guard"]["bundle"].as_str(), info["version"].as_str()),
        (Some(&*folder), Some(env!("CARGO_PKG_VERSION")))
    );
    post(&format!("{}/v1/moderations", server.url), &json!({ "input": FINE })).await;
    let response = get("/metrics").await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4");
    let metrics = response.text().await.unwrap();
    for line in [
        "qwenguard_open_streams 0",
        "qwenguard_http_requests 0",
        "qwenguard_http_requests_total{route=\"/v1/moderations\",status=\"200\",client=\"\"} 1",
        "qwenguard_http_request_seconds_count{route=\"/v1/moderations\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let (status, body) = (get("/v1/other").await.status(), get("/v1/other").await.json::<Value>().await.unwrap());
    assert!(status == 404 && body["error"]["code"] == "unknown_route");
    let body: Value = get("/v1/chat/completions").await.json().await.unwrap();
    assert!(body["error"]["message"].as_str().unwrap().contains("--upstream"));
    assert_eq!(get("/v1/moderations").await.status(), 405);
}

/// The document names every route that there is, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn the_interface_is_described() {
    let server = Server::start(&["--upstream", "http://127.0.0.1:9/v1"]);
    let response = client().get(format!("{}/openapi.json", server.url)).send().await.unwrap();
    let document: Value = response.json().await.unwrap();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in ["get", "post"] {
            let request = client().request(method.to_uppercase().parse().unwrap(), format!("{}{path}", server.url));
            let status = request.send().await.unwrap().status().as_u16();
            assert_ne!(status, 404, "{path}");
            assert_eq!(status == 405, methods.get(method).is_none(), "{method} {path}: {status}");
        }
    }
    let source = std::fs::read_to_string(crate::common::root().join("cli/src/serve/mod.rs")).unwrap();
    let routes = source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    for route in routes {
        assert!(document["paths"].get(route).is_some(), "{route} is not described");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_have_no_texts() {
    let server = Server::start(&[]);
    let response = client().post(format!("{}/v1/moderations", server.url)).header("x-request-id", "mine-7");
    let response = response.json(&json!({ "input": BAD })).send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-7");
    drop(response);
    // The line is written before the answer's head is sent.
    let log = server.logged("mine-7").await;
    assert!(!log.contains("neighbour"), "{log}");
    let line: Value = serde_json::from_str(log.lines().find(|line| line.contains("mine-7")).unwrap()).unwrap();
    assert_eq!((line["route"].as_str(), line["status"].as_u64()), (Some("/v1/moderations"), Some(200)));
}

/// With `--log-texts` the words of what is found are in the log, in the span of their request, and no others.
#[tokio::test(flavor = "multi_thread")]
async fn texts_are_in_the_log_where_they_are_asked_for() {
    let upstream = Upstream::start().await;
    let server = Server::start(&["--log-texts", "--upstream", &upstream.url]);
    post(&format!("{}/v1/moderations", server.url), &json!({ "input": [FINE, BAD] })).await;
    let (bad, _) = turning_answer();
    upstream.answer(pieces(&bad));
    let chat = client().post(format!("{}/v1/chat/completions", server.url)).header("x-request-id", "mine-8");
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": TURNS }] });
    chat.json(&body).send().await.unwrap().text().await.unwrap();
    let log = server.logged("text of a violation").await;
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let texts: Vec<&Value> = lines.iter().filter(|line| line.get("text").is_some()).collect();
    let said: Vec<&str> = texts.iter().map(|line| line["text"].as_str().unwrap()).collect();
    let [prompt, violation] = said[..] else { panic!("{log}") };
    assert_eq!(prompt, BAD);
    let end = texts[1]["end"].as_u64().unwrap() as usize;
    assert!(bad[..end].ends_with(violation) && violation.contains("take the explosives"), "{violation:?}");
    assert_eq!(texts[1]["span"]["request_id"], "mine-8");
}
