//! How large a step should be: `cargo bench --bench step_tokens -- BUNDLE`. For several settings of
//! `engine.step_tokens`: how fast a long prompt is read, and how long short pushes of other streams take meanwhile,
//! which wait for the slice of it that is being computed. The settings take turns.

mod common;

use std::time::{Duration, Instant};

use common::{RandomTokens, streams_at};
use qwenguard::{Call, CompletionQueue, Config, Guard, Stream};

const SETTINGS: [usize; 6] = [32, 64, 128, 256, 512, 1024];
const ROUNDS: usize = 3;
/// Tokens of the long prompt.
const LONG: usize = 2048;
/// Streams that push a token whenever their last one is judged, and their context.
const SHORT: usize = 4;
const CONTEXT: usize = 128;

/// A guard with one setting, and what was measured of it.
struct Bench {
    step_tokens: usize,
    guard: Guard,
    tokens: RandomTokens,
    short: Vec<Stream>,
    /// Seconds of the long prompt alone.
    alone: Vec<f64>,
    /// Seconds of the long prompt beside short pushes.
    beside: Vec<f64>,
    /// Milliseconds of a short push beside it.
    pushes: Vec<f64>,
}

impl Bench {
    fn new(bundle: &str, step_tokens: usize) -> Self {
        let mut config = Config::default();
        config.engine.step_tokens = step_tokens;
        config.cache.mib = 1024;
        let guard = Guard::open_with(bundle, &config).unwrap();
        let mut tokens = RandomTokens::new(&guard);
        let short = streams_at(&guard, &mut tokens, SHORT, CONTEXT);
        Bench { step_tokens, guard, tokens, short, alone: Vec::new(), beside: Vec::new(), pushes: Vec::new() }
    }

    fn long_stream(&mut self) -> Stream {
        streams_at(&self.guard, &mut self.tokens, 1, 64).remove(0)
    }

    fn run(&mut self) {
        let mut long = self.long_stream();
        let prompt = self.tokens.take(LONG);
        let start = Instant::now();
        long.push_tokens(&prompt).unwrap();
        self.alone.push(start.elapsed().as_secs_f64());
        drop(long);
        self.run_beside();
    }

    /// The same while short pushes go on.
    fn run_beside(&mut self) {
        let queue = CompletionQueue::new();
        let long = self.long_stream();
        let start = Instant::now();
        queue.submit(long, Call::Tokens(&self.tokens.take(LONG)), SHORT as u64, None);
        let mut begun = [start; SHORT];
        for (index, stream) in self.short.drain(..).enumerate() {
            queue.submit(stream, Call::Tokens(&self.tokens.take(1)), index as u64, None);
        }
        let mut done = false;
        while let Some(completion) = queue.wait(Duration::MAX) {
            completion.result.unwrap();
            let index = completion.tag as usize;
            if index == SHORT {
                self.beside.push(start.elapsed().as_secs_f64());
                done = true;
            } else {
                if !done {
                    self.pushes.push(begun[index].elapsed().as_secs_f64() * 1e3);
                    begun[index] = Instant::now();
                    queue.submit(completion.stream.unwrap(), Call::Tokens(&self.tokens.take(1)), completion.tag, None);
                } else {
                    self.short.push(completion.stream.unwrap());
                }
            }
            if done && queue.is_empty() {
                return;
            }
        }
    }
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() as f64 * share) as usize).min(values.len() - 1)]
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let bundle = arguments.first().expect("the folder of a bundle");
    let mut benches: Vec<Bench> = SETTINGS.iter().map(|step_tokens| Bench::new(bundle, *step_tokens)).collect();
    for _ in 0..ROUNDS {
        benches.iter_mut().for_each(Bench::run);
    }
    println!(
        "{bundle}: a prompt of {LONG} tokens, and {SHORT} streams that push token after token at context {CONTEXT}"
    );
    println!();
    println!("| step_tokens | prompt alone, tokens/s | beside pushes, tokens/s | a push, median ms | a push, p95 ms |");
    println!("|---|---|---|---|---|");
    for Bench { step_tokens, alone, beside, pushes, .. } in &mut benches {
        println!(
            "| {step_tokens} | {:.0} | {:.0} | {:.0} | {:.0} |",
            LONG as f64 / quantile(alone, 0.5),
            LONG as f64 / quantile(beside, 0.5),
            quantile(pushes, 0.5),
            quantile(pushes, 0.95)
        );
    }
}
