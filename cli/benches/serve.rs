//! What the server costs: `make bench-serve`.
//!
//! Added latency: an upstream writes a word every 20 ms, and each event carries when it was written. Clients read it from the
//! upstream itself and through the guard. Then moderations a second, over connections that are kept.
//!
//! QWENGUARD_BENCH_SECONDS changes how long each of the nine measurements takes.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::post,
    serve::ListenerExt,
};
use futures_util::stream;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

/// Between two words of an answer.
const WORD: Duration = Duration::from_millis(20);
/// For each measurement.
static MEASURED: LazyLock<Duration> = LazyLock::new(|| {
    let seconds = std::env::var("QWENGUARD_BENCH_SECONDS").map(|seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(15))
});

const PROMPT: &str = "How do I bake bread?";
const ANSWER: &str = "Mix flour, water, salt and yeast in a large bowl. Knead the dough for ten minutes and let it rest \
    under a towel for an hour. Shape a loaf and bake it at 220 degrees until the crust is golden brown.";

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now() -> u64 {
    BEGUN.elapsed().as_micros() as u64
}

/// Words, each with the microsecond at which it was written: clients read `created` as a number and pass it on.
async fn write() -> Response {
    let words: Vec<&str> = ANSWER.split_inclusive(' ').collect();
    let pieces = stream::unfold(0, move |at| {
        let words = words.clone();
        async move {
            sleep(if at == 0 { Duration::ZERO } else { WORD }).await;
            let of = |delta: Value, finish: Value| {
                let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
                let chunk = json!({ "id": "c", "object": "chat.completion.chunk", "created": now(), "model": "m", "choices": [choice] });
                format!("data: {chunk}\n\n")
            };
            let text = match at.cmp(&words.len()) {
                std::cmp::Ordering::Less => of(json!({ "content": words[at] }), Value::Null),
                std::cmp::Ordering::Equal => of(json!({}), json!("stop")) + "data: [DONE]\n\n",
                std::cmp::Ordering::Greater => return None,
            };
            Some((Ok::<_, Infallible>(Bytes::from(text)), at + 1))
        }
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces)).into_response()
}

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(upstream: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwenguard"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--upstream", upstream]).env("RUST_LOG", "error");
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("qwenguard serves on ").map(str::to_owned));
        std::thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
        Server { child, url: url.expect("it serves") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client measures of an answer, in milliseconds: until its head, and for each event from when it was written.
#[derive(Default)]
struct Times {
    first: Vec<f64>,
    events: Vec<f64>,
    last: Vec<f64>,
}

async fn read(client: &Client, url: &str, times: &mut Times) {
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": PROMPT }] });
    let asked = now();
    let mut response = client.post(format!("{url}/chat/completions")).json(&body).send().await.unwrap();
    let mut text = String::new();
    let mut events: Vec<f64> = Vec::new();
    while let Some(piece) = response.chunk().await.unwrap() {
        let came = now();
        text += std::str::from_utf8(&piece).unwrap();
        while let Some((event, rest)) = text.split_once("\n\n") {
            if let Some(written) =
                event.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok())
            {
                let written = written["created"].as_u64().unwrap();
                events.push((came - written) as f64 / 1e3);
                if events.len() == 1 {
                    times.first.push((came - asked) as f64 / 1e3);
                }
            }
            text = rest.to_owned();
        }
    }
    times.last.extend(events.last());
    times.events.extend(events);
}

async fn measure(client: &Client, url: &str, streams: usize) -> Times {
    let until = Instant::now() + *MEASURED;
    let readers: Vec<_> = (0..streams)
        .map(|place| {
            let (client, url) = (client.clone(), url.to_owned());
            tokio::spawn(async move {
                // Not all at the same moment.
                sleep(WORD.mul_f64(place as f64 / streams as f64)).await;
                let mut times = Times::default();
                read(&client, &url, &mut Times::default()).await;
                while Instant::now() < until {
                    read(&client, &url, &mut times).await;
                }
                times
            })
        })
        .collect();
    let mut all = Times::default();
    for reader in readers {
        let Times { first, events, last } = reader.await.unwrap();
        all.first.extend(first);
        all.events.extend(events);
        all.last.extend(last);
    }
    all
}

fn quantiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [0.5, 0.95, 0.99].map(|share| values[((values.len() as f64 * share) as usize).min(values.len() - 1)])
}

async fn latency(client: &Client, upstream: &str, guarded: &str) {
    println!("Added latency, ms (through the guard less the bare upstream; a word every {} ms)\n", WORD.as_millis());
    println!("| streams | what | bare p50 | p95 | p99 | guarded p50 | p95 | p99 | added p50 | p95 | p99 |");
    println!("|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for streams in [1, 16, 64] {
        let (bare, through) = (measure(client, upstream, streams).await, measure(client, guarded, streams).await);
        for (what, bare, through) in [
            ("first event, from the request", bare.first, through.first),
            ("an event, from when it was written", bare.events, through.events),
            ("the last event, from when it was written", bare.last, through.last),
        ] {
            let (bare, through) = (quantiles(bare), quantiles(through));
            let added: Vec<String> =
                bare.iter().zip(through).map(|(bare, through)| format!("{:.2}", through - bare)).collect();
            let of = |values: [f64; 3]| values.map(|value| format!("{value:.2}")).join(" | ");
            println!("| {streams} | {what} | {} | {} | {} |", of(bare), of(through), added.join(" | "));
        }
    }
}

async fn moderations(client: &Client, url: &str) {
    println!(
        "\nModerations a second, one text each\n\n| connections | a second | p50 ms | p95 | p99 |\n|--:|--:|--:|--:|--:|"
    );
    let body = json!({ "input": PROMPT }).to_string();
    for connections in [1, 8, 64] {
        let until = Instant::now() + *MEASURED;
        let askers: Vec<_> = (0..connections)
            .map(|_| {
                let (client, url, body) = (client.clone(), format!("{url}/v1/moderations"), body.clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while Instant::now() < until {
                        let asked = Instant::now();
                        let response = client.post(&url).body(body.clone()).send().await.unwrap();
                        assert!(response.status().is_success());
                        response.bytes().await.unwrap();
                        times.push(asked.elapsed().as_secs_f64() * 1e3);
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for asker in askers {
            times.extend(asker.await.unwrap());
        }
        let rate = times.len() as f64 / MEASURED.as_secs_f64();
        let [p50, p95, p99] = quantiles(times);
        println!("| {connections} | {rate:.0} | {p50:.2} | {p95:.2} | {p99:.2} |");
    }
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}/v1", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/chat/completions", post(write));
    // As servers of models do: else the bare upstream waits 40 ms for the client's acknowledgement.
    let listener = listener.tap_io(|connection| connection.set_nodelay(true).expect("it is open"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let server = Server::start(&upstream);
    let client = Client::new();
    latency(&client, &upstream, &format!("{}/v1", server.url)).await;
    moderations(&client, &server.url).await;
}
