//! `GET /v1/guard/stream`, a WebSocket: one conversation, judged while its answer is written. A message in is a JSON object
//! with one field, the call; a message out is what the library answers, or an error, which changes nothing.

use std::time::Duration;

use axum::{
    Extension,
    body::Bytes,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
};
use qwenguard::{Call, Reply};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{Admission, Shared, calls::Judge, fault::Fault};
use crate::{
    json,
    message::{self, ToolCalls},
};

pub(crate) async fn open(
    State(app): State<Shared>,
    Extension(admission): Extension<Admission>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Fault> {
    if app.is_gen() {
        return Err(Fault::request("the guard judges whole conversations: POST /v1/guard/answer"));
    }
    let judge = app.judge()?;
    let most = app.settings.max_body_bytes;
    // The name that a browser is answered, which tells its key by another one.
    let upgrade = upgrade.protocols(["qwenguard"]).max_message_size(most).max_frame_size(most);
    let silence = app.silence();
    Ok(upgrade.on_upgrade(move |socket| async move {
        // The request is served until the socket is closed.
        let _admission = admission;
        converse(socket, judge, silence).await;
    }))
}

/// How long a client may say nothing before it is asked whether it is there.
const PATIENCE: Duration = Duration::from_secs(15);

/// The next message. A client may think for long, but one that is not there any more, which answers no ping, is given up.
async fn next(socket: &mut WebSocket, silence: Duration) -> Option<Message> {
    let mut waited = Duration::ZERO;
    let patience = PATIENCE.min(silence / 3);
    loop {
        match timeout(patience, socket.recv()).await {
            Ok(message) => return message?.ok(),
            Err(_) if waited >= silence => return None,
            Err(_) => waited += patience,
        }
        timeout(silence, socket.send(Message::Ping(Bytes::new()))).await.ok()?.ok()?;
    }
}

async fn converse(mut socket: WebSocket, mut judge: Judge, silence: Duration) {
    while let Some(message) = next(&mut socket, silence).await {
        let text = match &message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return,
        };
        let answer = match answer(&mut judge, text).await {
            Ok(answer) => answer,
            Err(fault) => {
                let mut body = fault.body();
                body["type"] = "error".into();
                body
            }
        };
        // A client that takes nothing for so long has left.
        if !matches!(timeout(silence, socket.send(Message::Text(answer.to_string().into()))).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn answer(judge: &mut Judge, text: &[u8]) -> Result<Value, Fault> {
    let fields = json::read_object(text, &mut Value::Null).map_err(Fault::request)?;
    let (name, value) = only(&fields)?;
    let wrong = |what: &str| Fault::field(name, format!("{name} is not {what}"));
    let text = || value.as_str().ok_or_else(|| wrong("a text"));
    let count =
        || value.as_u64().and_then(|count| usize::try_from(count).ok()).ok_or_else(|| wrong("a number of bytes"));
    let reply = match name {
        "prompt" | "next_turn" => {
            let messages = value.as_array().ok_or_else(|| wrong("a list of messages"))?;
            let messages =
                message::read_whole(messages, ToolCalls::Judge).map_err(|reason| Fault::field(name, reason))?;
            let call = if name == "prompt" { Call::Prompt(&messages) } else { Call::NextTurn(&messages) };
            judge.call(call).await?
        }
        "text" => judge.call(Call::Text(text()?.as_bytes())).await?,
        "thinking" => judge.call(Call::Thinking(text()?.as_bytes())).await?,
        "truncate" => judge.call(Call::Truncate(count()?)).await?,
        "finish" if *value == Value::Bool(true) => judge.call(Call::Finish).await?,
        "finish" => return Err(wrong("true")),
        _ => {
            return Err(Fault::request(format!(
                "{name:?} is no call: prompt, next_turn, text, thinking, truncate, finish"
            )));
        }
    };
    let (kind, mut body) = match reply {
        Reply::Prompt(check) => ("prompt", json!(check)),
        Reply::Update(update) => ("update", json!(update)),
        Reply::Annotation(annotation) => ("annotation", json!(annotation)),
    };
    body["type"] = kind.into();
    Ok(body)
}

fn only(fields: &Map<String, Value>) -> Result<(&str, &Value), Fault> {
    let mut fields = fields.iter();
    match (fields.next(), fields.next()) {
        (Some((name, value)), None) => Ok((name, value)),
        _ => Err(Fault::request("a message is an object with one field, the call")),
    }
}
