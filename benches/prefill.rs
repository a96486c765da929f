//! How fast long texts are read: `cargo bench --bench prefill -- BUNDLE [TOKENS [ROUNDS]]`. The same number of new tokens comes as a
//! prompt, of which one token is judged, and as one push of an answer, of which all are. No two texts share a prefix.
//! Tokens are those that the engine computed; the time of a prompt has its rendering and tokenizing.

mod common;

use std::time::Instant;

use common::{RandomTokens, streams_at};
use qwenguard::{Config, Guard, Message, Stream};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

const ROUNDS: usize = 7;
const TOKENS: usize = 2048;
/// What the template has around a prompt, at most.
const TEMPLATE: usize = 128;

struct Bench {
    guard: Guard,
    random: SmallRng,
    tokens: RandomTokens,
    count: usize,
}

impl Bench {
    /// Random words of about `count` tokens.
    fn text(&mut self) -> String {
        let mut text = String::new();
        while self.guard.encode(&text).unwrap().len() < self.count {
            for _ in 0..self.count / 32 + 1 {
                text.extend((0..self.random.random_range(2..8)).map(|_| self.random.random_range('a'..='z')));
                text.push(' ');
            }
        }
        let start = self.guard.encode(&text).unwrap()[self.count - 1].bytes.start;
        text.truncate(start);
        text
    }

    /// Tokens a second of a call.
    fn measure(&self, mut stream: Stream, call: impl FnOnce(&mut Stream)) -> f64 {
        let (before, start) = (self.guard.stats().tokens, Instant::now());
        call(&mut stream);
        let seconds = start.elapsed().as_secs_f64();
        (self.guard.stats().tokens - before) as f64 / seconds
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let bundle = arguments.first().expect("the folder of a bundle");
    let mut config = Config::default();
    config.cache.mib = 1024;
    let guard = Guard::open_with(bundle, &config).unwrap();
    let wanted = arguments.get(1).map_or(TOKENS, |count| count.parse().expect("a number of tokens"));
    let count = wanted.min(guard.info().context - TEMPLATE);
    let tokens = RandomTokens::new(&guard);
    let mut bench = Bench { guard, random: SmallRng::seed_from_u64(2), tokens, count };
    let (mut prompts, mut answers) = (Vec::new(), Vec::new());
    let rounds = arguments.get(2).map_or(ROUNDS, |count| count.parse().expect("a number of rounds"));
    for _ in 0..rounds {
        let text = bench.text();
        let stream = bench.guard.stream().unwrap();
        prompts.push(bench.measure(stream, |stream| drop(stream.prompt(&[Message::user(text)]).unwrap())));
        let ids = bench.tokens.take(count);
        let stream = streams_at(&bench.guard, &mut bench.tokens, 1, 64).remove(0);
        answers.push(bench.measure(stream, |stream| drop(stream.push_tokens(&ids).unwrap())));
    }
    println!("{bundle}: {count} tokens at once");
    println!();
    println!("| as a prompt, tokens/s | as an answer, tokens/s |");
    println!("|---|---|");
    println!("| {:.0} | {:.0} |", median(prompts), median(answers));
}
