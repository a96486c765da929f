//! What the C ABI and the bindings are compared with: an empty push and a push of one token, through the Rust API.
//! `benches/crossing.py` runs the same program in every language.

use std::time::Instant;

use qwenguard::{Config, Guard, Message};

const CALLS: usize = 10_000;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

fn main() {
    let config = Config::from_toml("runtime.threads = 1\ncache.mib = 64").expect("a configuration");
    let guard = Guard::nano(&config).expect("the nano guard");
    let token = guard.encode(" bread").expect("tokens")[0].id;
    let mut stream = guard.stream().expect("a stream");
    stream.prompt(&[Message::new("user", "How do I bake bread?")]).expect("a prompt check");

    let mut batch = || {
        let begin = Instant::now();
        for _ in 0..CALLS {
            stream.push_text(b"").expect("an update");
        }
        begin.elapsed().as_secs_f64() * 1e9 / CALLS as f64
    };
    batch();
    let empty = median((0..20).map(|_| batch()).collect());

    let mut times = Vec::new();
    for push in 0..2500 {
        if push % 64 == 0 {
            stream.truncate(0).expect("an update");
        }
        let begin = Instant::now();
        stream.push_tokens(&[token]).expect("an update");
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    let token = median(times.split_off(500));
    println!(r#"{{"language":"rust","empty_push_ns":{empty:.1},"token_push_us":{token:.2}}}"#);
}
