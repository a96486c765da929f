//! Steps on demand: `cargo bench --bench steps -- BUNDLE [fp32|int8]`, the second for the cache. `peers/table.py` talks
//! to it, so that engines can take turns. Commands are lines on standard input, answers are lines of JSON:
//!
//! - `16x1@1000 3`: 16 streams get 1 token each at context 1000, three times; milliseconds of each time.
//! - `memory 4@1024`: opens 4 streams at context 1024; bytes by which the process grew.
//! - `info`: what the guard is made of.

mod common;

use std::{
    io::{BufRead, stdin},
    time::Instant,
};

use common::{RandomTokens, push_all, resident_bytes, streams_at};
use qwenguard::{CachePrecision, Config, Guard, Stream};
use serde_json::{Value, json};

/// The most streams at a context; above `LONG` tokens only one.
const STREAMS: usize = 16;
const LONG: usize = 2000;

struct Bench {
    guard: Guard,
    tokens: RandomTokens,
    /// Streams at this context, kept for the next command.
    context: usize,
    streams: Vec<Stream>,
}

impl Bench {
    fn steps(&mut self, streams: usize, new: usize, context: usize, times: usize) -> Vec<f64> {
        if self.context != context {
            self.streams.clear();
            let count = if context > LONG { 1 } else { STREAMS };
            self.streams = streams_at(&self.guard, &mut self.tokens, count, context);
            self.context = context;
        }
        // The first is to warm up.
        (0..=times).map(|_| self.step(streams, new)).skip(1).collect()
    }

    /// Milliseconds of one step, after which the streams are as before.
    fn step(&mut self, streams: usize, new: usize) -> f64 {
        let pieces: Vec<Vec<u32>> = (0..streams).map(|_| self.tokens.take(new)).collect();
        let start = Instant::now();
        push_all(&mut self.streams[..streams], &pieces);
        let time = start.elapsed();
        for stream in &mut self.streams[..streams] {
            let tokens = stream.push_tokens::<u32>(&[]).unwrap().final_tokens;
            stream.truncate_tokens(tokens - new).unwrap();
        }
        time.as_secs_f64() * 1e3
    }

    fn memory(&mut self, count: usize, context: usize) -> usize {
        // What the largest step needs is not the streams'.
        drop(streams_at(&self.guard, &mut self.tokens, 1, 1024));
        let before = resident_bytes();
        let streams = streams_at(&self.guard, &mut self.tokens, count, context);
        let after = resident_bytes();
        drop(streams);
        after - before
    }

    fn answer(&mut self, command: &str) -> Value {
        let words: Vec<&str> = command.split_whitespace().collect();
        let numbers = |text: &str| -> Vec<usize> {
            text.split(['x', '@']).map(|number| number.parse().expect("a number")).collect()
        };
        match words[..] {
            ["info"] => {
                let info = self.guard.info();
                json!({
                    "weights": info.weights, "cache": info.cache, "bytes_per_token": info.cache_bytes_per_token,
                    "runtime": info.runtime, "qwenguard": env!("CARGO_PKG_VERSION"),
                })
            }
            ["memory", work] => match numbers(work)[..] {
                [count, context] => json!(self.memory(count, context)),
                _ => panic!("{command}"),
            },
            [work, times] => match numbers(work)[..] {
                [streams, new, context] => json!(self.steps(streams, new, context, times.parse().expect("a number"))),
                _ => panic!("{command}"),
            },
            _ => panic!("{command}"),
        }
    }
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut config = Config::default();
    config.cache.mib = 4096;
    if arguments.get(1).is_some_and(|precision| precision == "fp32") {
        config.cache.precision = CachePrecision::Fp32;
    }
    let guard = Guard::open_with(arguments.first().expect("the folder of a bundle"), &config).unwrap();
    let tokens = RandomTokens::new(&guard);
    let mut bench = Bench { guard, tokens, context: 0, streams: Vec::new() };
    for command in stdin().lock().lines() {
        println!("{}", bench.answer(&command.unwrap()));
    }
}
