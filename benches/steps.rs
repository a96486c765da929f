//! Steps on demand: `cargo bench --bench steps -- BUNDLE [fp32|int8] [exact|fast]`, the second for the cache, the third for
//! activations. `peers/table.py` talks to it, so that engines can take turns. Commands are lines on standard input, answers are lines of JSON:
//!
//! - `16x1@1000 3`: 16 streams get 1 token each at context 1000, three times; milliseconds of each time.
//! - `memory 4@1024`: opens 4 streams at context 1024; bytes by which the process grew.
//! - `info`: what the guard is made of, what opening it took, and its memory, of its own and of mapped files.

mod common;

use std::{
    io::{BufRead, stdin},
    time::Instant,
};

use common::{
    resident_bytes,
    steps::{Steps, Work},
    streams_at,
};
use qwenguard::{Activations, CachePrecision, Config, Guard};
use serde_json::{Value, json};

/// Bytes by which the process grows with so many streams at a context.
fn memory(steps: &mut Steps, count: usize, context: usize) -> usize {
    let Steps { guard, tokens, .. } = steps;
    // What the largest step needs is not the streams'.
    drop(streams_at(guard, tokens, 1, 1024));
    let before = resident_bytes(true);
    let streams = streams_at(guard, tokens, count, context);
    let after = resident_bytes(true);
    drop(streams);
    after - before
}

fn answer(steps: &mut Steps, opened_ms: f64, command: &str) -> Value {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["info"] => {
            let info = steps.guard.info();
            json!({
                "weights": info.weights, "cache": info.cache, "bytes_per_token": info.cache_bytes_per_token,
                "runtime": info.runtime, "qwenguard": env!("CARGO_PKG_VERSION"), "opened_ms": opened_ms,
                "anonymous_bytes": resident_bytes(true), "mapped_bytes": resident_bytes(false),
            })
        }
        ["memory", work] => match work.split_once('@') {
            Some((count, context)) => json!(memory(steps, number(count), number(context))),
            None => panic!("{command}"),
        },
        [work, times] => json!(steps.run(Work::parse(work), number(times))),
        _ => panic!("{command}"),
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut config = Config::default();
    config.cache.mib = 4096;
    if arguments.get(1).is_some_and(|precision| precision == "fp32") {
        config.cache.precision = CachePrecision::Fp32;
    }
    if arguments.get(2).is_some_and(|activations| activations == "fast") {
        config.runtime.activations = Activations::Fast;
    }
    let start = Instant::now();
    let guard = Guard::open_with(arguments.first().expect("the folder of a bundle"), &config).unwrap();
    let opened_ms = start.elapsed().as_secs_f64() * 1e3;
    let mut steps = Steps::new(guard);
    for command in stdin().lock().lines() {
        println!("{}", answer(&mut steps, opened_ms, &command.unwrap()));
    }
}
