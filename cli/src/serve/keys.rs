//! Clients' keys, and how many requests each may have at once.

use std::{borrow::Cow, sync::Arc};

use axum::http::{
    HeaderMap,
    header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    fault::Fault,
    settings::{Key, Settings},
};
use crate::Failure;

/// Who may ask, and how much at once.
pub(crate) struct Keys {
    clients: Vec<Arc<Client>>,
    requests: Arc<Semaphore>,
    max_requests: usize,
}

struct Client {
    name: String,
    /// Digests have one length, so that comparing them tells nothing of the key's.
    digest: [u8; 32],
    requests: Arc<Semaphore>,
    max_requests: usize,
}

/// The right to be served, as long as it lives.
pub(crate) struct Admitted {
    /// The client's name; empty if the server has no keys.
    pub(crate) client: String,
    _room: Room,
}

/// Room of a client, if the server has keys, and of the server.
pub(crate) struct Room {
    _of_client: Option<OwnedSemaphorePermit>,
    _of_server: OwnedSemaphorePermit,
}

impl Keys {
    pub(crate) fn read(settings: &Settings) -> Result<Self, Failure> {
        let mut clients: Vec<Arc<Client>> = Vec::new();
        for (index, key) in settings.keys.iter().enumerate() {
            let wrong = |reason: &str| Failure::Message(format!("configuration: serve.keys[{index}]: {reason}"));
            if key.name.is_empty() || clients.iter().any(|client| client.name == key.name) {
                return Err(wrong("it needs a name that no other key has"));
            }
            let secret = secret(key).map_err(|reason| wrong(&reason))?;
            let max_requests = key.max_requests.unwrap_or(settings.max_requests).min(settings.max_requests);
            if max_requests == 0 {
                return Err(wrong("max_requests is 0"));
            }
            clients.push(Arc::new(Client {
                name: key.name.clone(),
                digest: Sha256::digest(secret).into(),
                requests: Arc::new(Semaphore::new(max_requests)),
                max_requests,
            }));
        }
        let max_requests = settings.max_requests.min(Semaphore::MAX_PERMITS);
        Ok(Keys { clients, requests: Arc::new(Semaphore::new(max_requests)), max_requests })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whose request it is, by its key: `Authorization: Bearer KEY`, or `x-api-key`.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Admitted, Fault> {
        let client = if self.is_open() { None } else { Some(self.client(headers)?) };
        let room = self.room(client.as_deref(), 1)?;
        Ok(Admitted { client: client.map(|client| client.name.clone()).unwrap_or_default(), _room: room })
    }

    /// Room for the answers of a request but for the first, which has its own.
    pub(crate) fn more(&self, client: &str, answers: usize) -> Result<Room, Fault> {
        let client = self.clients.iter().find(|known| known.name == client).map(Arc::as_ref);
        let limit = client.map_or(self.max_requests, |client| client.max_requests);
        if answers > limit {
            // Another try would not help.
            return Err(Fault::field("n", format!("n is out of range: {limit} answers are served at once")));
        }
        self.room(client, answers - 1)
    }

    fn room(&self, client: Option<&Client>, count: usize) -> Result<Room, Fault> {
        let take = |requests: &Arc<Semaphore>, limit: usize, whose: &str| {
            let busy = |_| Fault::busy(format!("{limit} requests of {whose} are being served, which is its limit"));
            requests.clone().try_acquire_many_owned(u32::try_from(count).unwrap_or(u32::MAX)).map_err(busy)
        };
        // The client's first: one that asks for too much takes nothing from the others.
        let of_client = client.map(|client| take(&client.requests, client.max_requests, "this key")).transpose()?;
        Ok(Room { _of_client: of_client, _of_server: take(&self.requests, self.max_requests, "this server")? })
    }

    /// Waits until nothing is served.
    pub(crate) async fn wait_for_all(&self) {
        let all = u32::try_from(self.max_requests).unwrap_or(u32::MAX);
        drop(self.requests.acquire_many(all).await);
    }

    /// Whether a request's key is known.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Fault> {
        if self.is_open() { Ok(()) } else { self.client(headers).map(drop) }
    }

    fn client(&self, headers: &HeaderMap) -> Result<Arc<Client>, Fault> {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
        let key = match bearer {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => Some(Cow::Borrowed(key)),
            _ => headers.get("x-api-key").map(|value| value.as_bytes().into()).or_else(|| of_browser(headers)),
        };
        let key = key.ok_or_else(|| Fault::key("a key is wanted: Authorization: Bearer KEY"))?;
        let digest: [u8; 32] = Sha256::digest(key.trim_ascii()).into();
        // All are compared, so that the time does not tell which is near.
        let matching = |client: &&Arc<Client>| bool::from(client.digest.ct_eq(&digest));
        let found: Vec<&Arc<Client>> = self.clients.iter().filter(matching).collect();
        found.first().map(|client| (*client).clone()).ok_or_else(|| Fault::key("the key is not known"))
    }
}

/// What the name of a protocol begins with that is a key.
const KEY_PROTOCOL: &str = "qwenguard.key.";

/// The key of a WebSocket that a browser opens, which sets no headers but the names of protocols: one of them is the key, as
/// base64url without padding.
fn of_browser(headers: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    let mut names = lists.flat_map(|list| list.split(',')).map(str::trim);
    let key = names.find_map(|name| name.strip_prefix(KEY_PROTOCOL))?;
    BASE64_URL_SAFE_NO_PAD.decode(key).ok().map(Cow::Owned)
}

fn secret(key: &Key) -> Result<Vec<u8>, String> {
    let secret = match (&key.secret, &key.secret_env, &key.secret_file) {
        (Some(secret), None, None) => secret.clone(),
        (None, Some(name), None) => std::env::var(name).map_err(|error| format!("secret_env: {name}: {error}"))?,
        (None, None, Some(path)) => {
            std::fs::read_to_string(path).map_err(|error| format!("secret_file: {}: {error}", path.display()))?
        }
        _ => return Err("it needs one of secret, secret_env and secret_file".into()),
    };
    match secret.trim() {
        "" => Err("the key is empty".into()),
        secret => Ok(secret.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(max_requests: usize, of_key: Option<usize>) -> Keys {
        let key = Key { name: "one".into(), secret: Some("s3cret".into()), max_requests: of_key, ..Key::default() };
        Keys::read(&Settings { keys: vec![key], max_requests, ..Settings::default() }).unwrap_or_else(|_| panic!())
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn a_key_opens_and_no_other_does() {
        let keys = keys(4, None);
        for (name, value) in [
            ("authorization", "Bearer s3cret"),
            ("authorization", "bearer s3cret"),
            ("x-api-key", "s3cret"),
            ("sec-websocket-protocol", "qwenguard, qwenguard.key.czNjcmV0"),
        ] {
            assert_eq!(keys.admit(&headers(name, value)).unwrap_or_else(|_| panic!("{value}")).client, "one");
        }
        for (name, value) in [
            ("authorization", "Bearer s3cre"),
            ("authorization", "Bearer s3cretx"),
            ("authorization", "Basic s3cret"),
            ("authorization", ""),
            ("x-api-key", ""),
            ("x-other", "s3cret"),
            ("sec-websocket-protocol", "qwenguard, qwenguard.key.czNjcmU"),
            ("sec-websocket-protocol", "qwenguard, qwenguard.key.czNjcmV0=="),
            ("sec-websocket-protocol", "qwenguard, s3cret"),
        ] {
            let fault = keys.admit(&headers(name, value)).err().unwrap();
            assert_eq!(fault.status.as_u16(), 401, "{value}");
        }
    }

    #[test]
    fn more_than_the_limit_is_refused_until_one_is_done() {
        for keys in [keys(2, None), keys(9, Some(2))] {
            let key = headers("x-api-key", "s3cret");
            let first = keys.admit(&key).ok().unwrap();
            let second = keys.admit(&key).ok().unwrap();
            assert_eq!(keys.admit(&key).err().unwrap().status.as_u16(), 429);
            drop(first);
            assert!(keys.admit(&key).is_ok());
            drop(second);
        }
    }

    /// Each answer takes room, of the key's as well.
    #[test]
    fn a_request_for_several_answers_is_as_many_requests() {
        for (keys, client) in [
            (keys(9, Some(3)), "one"),
            (keys(3, None), "one"),
            (Keys::read(&Settings { max_requests: 3, ..Settings::default() }).ok().unwrap(), ""),
        ] {
            let key = headers("x-api-key", "s3cret");
            let first = keys.admit(&key).ok().unwrap();
            assert_eq!(keys.more(client, 4).err().unwrap().status.as_u16(), 400);
            let all = keys.more(client, 3).ok().unwrap();
            assert_eq!(keys.admit(&key).err().unwrap().status.as_u16(), 429);
            drop(all);
            let second = keys.admit(&key).ok().unwrap();
            assert_eq!(keys.more(client, 3).err().unwrap().status.as_u16(), 429);
            assert!(keys.more(client, 2).is_ok() && keys.more(client, 1).is_ok());
            drop((first, second));
        }
    }

    #[test]
    fn settings_that_cannot_be_are_errors() {
        let of = |keys: Vec<Key>| Keys::read(&Settings { keys, ..Settings::default() }).err().unwrap().to_string();
        let key = |name: &str, secret: &str| Key { name: name.into(), secret: Some(secret.into()), ..Key::default() };
        assert!(of(vec![key("", "a")]).contains("serve.keys[0]: it needs a name"));
        assert!(of(vec![key("a", "a"), key("a", "b")]).contains("serve.keys[1]: it needs a name"));
        assert!(of(vec![key("a", " ")]).contains("the key is empty"));
        assert!(of(vec![Key { name: "a".into(), ..Key::default() }]).contains("one of secret"));
        assert!(of(vec![Key { max_requests: Some(0), ..key("a", "b") }]).contains("max_requests is 0"));
    }
}
