//! What a token costs: one stream, one token at a time, at context 128.
//!
//! The bundle is the folder that `QWENGUARD_BENCH_BUNDLE` names, else `target/bench/0.6B-int8`, which
//! `make bench` exports: the true shape of Qwen3Guard-Stream-0.6B with random weights.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use qwenguard::{Guard, Message};

/// Tokens of context before the first and after the last measured one: 128 in the middle.
const FROM: usize = 112;
const TO: usize = 144;

fn bundle() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench/0.6B-int8");
    std::env::var_os("QWENGUARD_BENCH_BUNDLE").map_or_else(|| default.into(), PathBuf::from)
}

/// Time of `TO - FROM` single tokens on a new stream.
fn tokens_at_128(guard: &Guard, token: u32) -> Duration {
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("Tell me about the sea.")]).unwrap();
    // The first push feeds the template's scaffold as well.
    stream.push_tokens(&[token]).unwrap();
    stream.push_tokens(&vec![token; FROM - stream.context_used()]).unwrap();
    let start = Instant::now();
    for _ in FROM..TO {
        stream.push_tokens(&[token]).unwrap();
    }
    start.elapsed()
}

fn step(criterion: &mut Criterion) {
    let guard = Guard::open(bundle()).expect("a bundle to measure, see the top of this file");
    let token = guard.encode(" the").unwrap()[0].id;
    let mut group = criterion.benchmark_group("step");
    group.sample_size(10).measurement_time(Duration::from_secs(20));
    group.bench_function("1 stream x 1 token, context 128", |bencher| {
        bencher.iter_custom(|iterations| {
            let runs: Duration = (0..iterations).map(|_| tokens_at_128(&guard, token)).sum();
            runs / (TO - FROM) as u32
        });
    });
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
