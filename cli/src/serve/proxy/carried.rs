//! Answers whose bytes a gateway brings and takes away: guarded as those of our own upstream are.

use axum::{body::Bytes, http::StatusCode};
use tokio::sync::mpsc;

use super::{ANSWER_BYTES, Protocol, Source, chat, guard_whole, judged, messages, read, relayed, responses, upstream};
use crate::serve::{App, fault::Fault, keys::Room};

/// What a request asks of the upstream. All others are refused: nobody would judge their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Chat,
    Messages,
    Responses,
    Models,
}

impl Route {
    /// The route of a path, which may stand behind a prefix of the gateway's.
    pub(crate) fn of(method: &str, path: &str) -> Option<Self> {
        let (_, route) = path.split('?').next()?.rsplit_once("/v1")?;
        match method {
            "POST" if route == chat::Answers::PATH => Some(Route::Chat),
            "POST" if route == messages::Answer::PATH => Some(Route::Messages),
            "POST" if route == responses::Answer::PATH => Some(Route::Responses),
            "GET" if route == "/models" => Some(Route::Models),
            _ => None,
        }
    }

    /// An error in the words of the interface.
    pub(crate) fn error(self, fault: &Fault) -> Vec<u8> {
        let body = match self {
            Route::Chat | Route::Models => chat::Answers::error(fault),
            Route::Messages => messages::Answer::error(fault),
            Route::Responses => responses::Answer::error(fault),
        };
        body.to_string().into_bytes()
    }

    /// Judges the prompt of a request of a client.
    pub(crate) async fn ask(self, app: &App, client: &str, body: &[u8]) -> Result<Answers, Fault> {
        Ok(Answers(match self {
            Route::Chat => Of::Chat(asked(app, client, body).await?),
            Route::Messages => Of::Messages(asked(app, client, body).await?),
            Route::Responses => Of::Responses(asked(app, client, body).await?),
            Route::Models => Of::Models,
        }))
    }
}

async fn asked<P: Protocol>(app: &App, client: &str, body: &[u8]) -> Result<Box<(P, Room)>, Fault> {
    let (asked, room) = read::<P>(app, client, body)?;
    let (judge, _, ()) = judged(app, &asked, async { Ok(()) }).await?;
    Ok(Box::new((P::new(judge, asked.answers), room)))
}

/// The answers to a prompt that was judged.
pub(crate) struct Answers(Of);

/// They are of an interface each.
enum Of {
    Chat(Box<(chat::Answers, Room)>),
    Messages(Box<(messages::Answer, Room)>),
    Responses(Box<(responses::Answer, Room)>),
    /// Not a model's words.
    Models,
}

impl Answers {
    /// The longest answer that may come whole, in bytes.
    pub(crate) fn most(&self) -> usize {
        if matches!(self.0, Of::Models) { upstream::PASSED_BYTES } else { ANSWER_BYTES }
    }

    /// Judges an answer that came whole, and gives what is sent of it.
    pub(crate) async fn whole(self, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let body = match self.0 {
            Of::Chat(mut of) => guard_whole(&mut of.0, bytes).await.map(|(body, _)| body),
            Of::Messages(mut of) => guard_whole(&mut of.0, bytes).await.map(|(body, _)| body),
            Of::Responses(mut of) => guard_whole(&mut of.0, bytes).await.map(|(body, _)| body),
            Of::Models => upstream::list(bytes),
        };
        Ok(body?.to_string().into_bytes())
    }

    /// Of an answer that comes as events: what may be sent, as it comes.
    pub(crate) fn events(self, app: &App, source: Pieces) -> Result<mpsc::Receiver<Bytes>, Fault> {
        Ok(match self.0 {
            Of::Chat(of) => relayed(app, source, of.0, of.1),
            Of::Messages(of) => relayed(app, source, of.0, of.1),
            Of::Responses(of) => relayed(app, source, of.0, of.1),
            Of::Models => return Err(super::unjudged("a list of models does not come as events")),
        })
    }
}

/// The bytes of an answer as a gateway brings them.
pub(crate) type Pieces = mpsc::Receiver<Result<Bytes, Fault>>;

impl Source for Pieces {
    async fn bytes(&mut self) -> Result<Option<Bytes>, Fault> {
        self.recv().await.transpose()
    }
}

/// The longest error of an upstream that is read, in bytes.
pub(crate) const ERROR_BYTES: usize = upstream::PASSED_BYTES;

/// What is told of an answer that is no success.
pub(crate) fn refusal(status: StatusCode, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    upstream::check_error(status)?;
    Ok(upstream::error(status, bytes).to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_known_whatever_stands_before_them() {
        for (method, path, route) in [
            ("POST", "/v1/chat/completions", Some(Route::Chat)),
            ("POST", "/v1/chat/completions?api-version=1", Some(Route::Chat)),
            ("POST", "/team/v1/messages", Some(Route::Messages)),
            ("POST", "/v1/responses", Some(Route::Responses)),
            ("GET", "/v1/models", Some(Route::Models)),
            ("GET", "/v1/chat/completions", None),
            ("POST", "/v1/models", None),
            ("POST", "/v1/completions", None),
            ("POST", "/v1/threads/a/messages", None),
            ("POST", "/v1/chat/completions/", None),
            ("POST", "/v1/chat/completion%73", None),
            ("POST", "/other?path=/v1/messages", None),
            ("GET", "/health", None),
        ] {
            assert_eq!(Route::of(method, path), route, "{method} {path}");
        }
    }
}
