//! Many answers at once for minutes, with clients that read, are slow, stall, leave and reset: `make soak-serve`. No byte past a
//! horizon is sent, safe answers come whole, nothing is left over, and memory does not grow.
//!
//! QWENGUARD_SOAK_SECONDS and QWENGUARD_SOAK_STREAMS change how long and how many.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::stream;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::{
    FINE, TURNS,
    proxy::{FINE_ANSWER, settled},
    server::Server,
    turning_answer,
    upstream::pieces,
};

/// An upstream that writes for a while, in pieces cut anywhere.
struct Writer {
    open: AtomicUsize,
    bad: String,
}

/// Counts an answer among those that are being written.
struct Writing(Arc<Writer>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn write(State(writer): State<Arc<Writer>>, body: Bytes) -> Response {
    let turns = String::from_utf8_lossy(&body).contains(TURNS);
    let text = if turns { writer.bad.clone() } else { FINE_ANSWER.to_owned() };
    let bytes = pieces(&text).concat();
    writer.open.fetch_add(1, Ordering::SeqCst);
    let state = (bytes, 0, StdRng::from_rng(&mut rand::rng()), Writing(writer));
    let pieces = stream::unfold(state, async |(bytes, at, mut random, writing)| {
        if at == bytes.len() {
            return None;
        }
        sleep(Duration::from_millis(random.random_range(0..40))).await;
        let end = (at + random.random_range(1..700)).min(bytes.len());
        let piece = Bytes::copy_from_slice(&bytes[at..end]);
        Some((Ok::<_, Infallible>(piece), (bytes, end, random, writing)))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces)).into_response()
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Reads,
    IsSlow,
    Stalls,
    Leaves,
    Resets,
}

impl Manner {
    fn random(random: &mut StdRng) -> Self {
        match random.random_range(0..100) {
            0..55 => Manner::Reads,
            55..70 => Manner::IsSlow,
            70..80 => Manner::Stalls,
            80..90 => Manner::Leaves,
            _ => Manner::Resets,
        }
    }
}

#[derive(Default)]
struct Counts {
    whole: AtomicUsize,
    cut: AtomicUsize,
    left: AtomicUsize,
}

/// Asks once, and reads as its manner is. What it has read is what may be read.
async fn ask(address: &str, turns: bool, manner: Manner, random: &mut StdRng, allowed: &str, counts: &Counts) {
    let prompt = if turns { TURNS } else { FINE };
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": prompt }] }).to_string();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all((head + &body).as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let mut piece = vec![0; if manner == Manner::IsSlow { 300 } else { 8192 }];
    let most = match manner {
        Manner::Reads | Manner::IsSlow => usize::MAX,
        _ => random.random_range(0..9000),
    };
    while read.len() < most {
        match connection.read(&mut piece).await.unwrap() {
            0 => break,
            count => read.extend_from_slice(&piece[..count]),
        }
        if manner == Manner::IsSlow {
            sleep(Duration::from_millis(random.random_range(0..60))).await;
        }
    }
    if manner == Manner::Stalls {
        sleep(Duration::from_millis(random.random_range(0..4000))).await;
    }
    if manner == Manner::Resets {
        connection.set_zero_linger().unwrap();
    }
    drop(connection);
    let (said, finish, is_done) = said(&read);
    assert!(allowed.starts_with(&said), "{manner:?}: {said}");
    if most < usize::MAX {
        counts.left.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let wanted = if turns { "content_filter" } else { "stop" };
    assert_eq!(
        (&*said, finish.as_deref(), is_done),
        (allowed, Some(wanted), true),
        "{}",
        String::from_utf8_lossy(&read)
    );
    if turns { &counts.cut } else { &counts.whole }.fetch_add(1, Ordering::Relaxed);
}

/// The text of an answer as far as it was read, how it ended, and whether that was its end.
fn said(read: &[u8]) -> (String, Option<String>, bool) {
    let Some(head) = read.windows(4).position(|window| window == b"\r\n\r\n") else { return Default::default() };
    assert!(read.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(read));
    let body = joined(&read[head + 4..]);
    let body = String::from_utf8_lossy(&body);
    let mut text = String::new();
    let mut finish = None;
    let mut is_done = false;
    // The last event may be cut off.
    let whole = body.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    for data in whole.split("\n\n").filter_map(|event| event.trim_start_matches('\n').strip_prefix("data: ")) {
        if data == "[DONE]" {
            is_done = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(data).unwrap();
        assert!(chunk.get("error").is_none(), "{chunk}");
        text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        finish = chunk["choices"][0]["finish_reason"].as_str().map(str::to_owned).or(finish);
    }
    (text, finish, is_done)
}

/// A chunked body, as far as it is there.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = chunks.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..line]).unwrap(), 16).unwrap();
        let rest = &chunks[line + 2..];
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        chunks = rest.get(size + 2..).unwrap_or_default();
    }
    body
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Bytes of memory that a process has.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

/// It takes minutes: `make soak-serve`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn two_hundred_answers_at_once_for_two_minutes() {
    let (seconds, streams) = (number("QWENGUARD_SOAK_SECONDS", 120), number("QWENGUARD_SOAK_STREAMS", 200));
    let (bad, cut) = turning_answer();
    let writer = Arc::new(Writer { open: AtomicUsize::new(0), bad: bad.clone() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}/v1", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/chat/completions", post(write)).with_state(writer.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("guard.toml");
    // A cache that is full soon: the system gives its pages as they are first used.
    std::fs::write(&config, "[cache]\nmib = 64\n").unwrap();
    let server = Server::start_quiet(&["--upstream", &upstream, "--config", config.to_str().unwrap()]);
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let (counts, until) = (Arc::new(Counts::default()), Instant::now() + Duration::from_secs(seconds));
    let clients: Vec<_> = (0..streams)
        .map(|seed| {
            let (address, counts, bad) = (address.clone(), counts.clone(), bad.clone());
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(seed);
                while Instant::now() < until {
                    let turns = random.random_range(0..3) == 0;
                    let allowed = if turns { &bad[..cut] } else { FINE_ANSWER };
                    let manner = Manner::random(&mut random);
                    ask(&address, turns, manner, &mut random, allowed, &counts).await;
                }
            })
        })
        .collect();
    let mut samples = Vec::new();
    while Instant::now() < until {
        sleep(Duration::from_millis(500)).await;
        samples.push(memory(server.id()));
    }
    for client in clients {
        client.await.unwrap();
    }
    settled(&server).await;
    while writer.open.load(Ordering::SeqCst) > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let quarter = samples.len() / 4;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or_default();
    let (early, late) = (most(&samples[quarter..2 * quarter]), most(&samples[3 * quarter..]));
    let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    println!(
        "{streams} streams for {seconds} s: {} whole, {} cut, {} left early; memory {} MiB in the second quarter, {} MiB in the last",
        of(&counts.whole),
        of(&counts.cut),
        of(&counts.left),
        early >> 20,
        late >> 20,
    );
    assert!(of(&counts.whole) > 0 && of(&counts.cut) > 0 && of(&counts.left) > 0);
    assert!(late <= early + early / 10 + (8 << 20), "memory grows: {samples:?}");
}
