//! How many streams of 30 tokens a second a machine can judge, and how long a token waits for its verdict:
//! `cargo bench --bench load -- BUNDLE [STREAMS]`.
//!
//! Every stream is given a token each 1/30 s. A stream that still waits for a verdict gathers its tokens for the next
//! call, as a host would. If the queue grows, the same is tried with fewer streams.

mod common;

use std::time::{Duration, Instant};

use common::{RandomTokens, streams_at};
use qwenguard::{Call, CompletionQueue, Config, Guard, Stream};

/// Tokens a second of each stream.
const RATE: f64 = 30.0;
/// Tokens of each conversation at the start.
const CONTEXT: usize = 128;
/// Before the measurement, and its length.
const WARM: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(15);

/// A stream, which a call may have taken away, and when its tokens came in.
struct Speaker {
    stream: Option<Stream>,
    next: Instant,
    waiting: Vec<Instant>,
    in_call: Vec<Instant>,
}

/// What a run gave: for each token when it came, since the start, and how long it took.
struct Outcome {
    latencies: Vec<(Duration, Duration)>,
    mean_batch: f64,
}

impl Outcome {
    /// Milliseconds that a share of the tokens that came within these bounds stay below.
    fn quantile(&self, share: f64, from: Duration, to: Duration) -> f64 {
        let within = self.latencies.iter().filter(|(came, _)| (from..to).contains(came));
        let mut times: Vec<Duration> = within.map(|(_, took)| *took).collect();
        times.sort();
        let index = ((times.len() as f64 * share) as usize).min(times.len() - 1);
        times[index].as_secs_f64() * 1e3
    }

    fn measured(&self, share: f64) -> f64 {
        self.quantile(share, WARM, WARM + MEASURED)
    }

    /// Whether tokens wait no longer at the end than in the middle, but for noise and longer contexts, and never a
    /// second.
    fn is_stable(&self) -> bool {
        let third = MEASURED / 3;
        let middle = self.quantile(0.5, WARM + third, WARM + 2 * third);
        let end = self.quantile(0.5, WARM + 2 * third, WARM + MEASURED);
        end < 1.3 * middle + 10.0 && self.measured(0.99) < 1000.0
    }

    /// Verdicts given a second.
    fn throughput(&self) -> f64 {
        let done = |(came, took): &&(Duration, Duration)| (WARM..WARM + MEASURED).contains(&(*came + *took));
        self.latencies.iter().filter(done).count() as f64 / MEASURED.as_secs_f64()
    }
}

fn run(guard: &Guard, tokens: &mut RandomTokens, count: usize) -> Outcome {
    let period = Duration::from_secs_f64(1.0 / RATE);
    let streams = streams_at(guard, tokens, count, CONTEXT);
    let before = guard.stats();
    let start = Instant::now();
    let queue = CompletionQueue::new();
    let mut speakers: Vec<Speaker> = streams
        .into_iter()
        .enumerate()
        .map(|(index, stream)| Speaker {
            stream: Some(stream),
            next: start + period * index as u32 / count as u32,
            waiting: Vec::new(),
            in_call: Vec::new(),
        })
        .collect();
    let end = start + WARM + MEASURED;
    let mut latencies = Vec::new();
    loop {
        let now = Instant::now();
        for (index, speaker) in speakers.iter_mut().enumerate() {
            while speaker.next <= now && speaker.next < end {
                speaker.waiting.push(speaker.next);
                speaker.next += period;
            }
            if !speaker.waiting.is_empty()
                && let Some(stream) = speaker.stream.take()
            {
                speaker.in_call = std::mem::take(&mut speaker.waiting);
                queue.submit(stream, Call::Tokens(&tokens.take(speaker.in_call.len())), index as u64, None);
            }
        }
        let next = speakers.iter().map(|speaker| speaker.next).min().unwrap_or(end);
        if next >= end && queue.is_empty() {
            break;
        }
        // After the last arrival only completions are waited for.
        let until = if next < end { next } else { Instant::now() + period };
        if let Some(done) = queue.wait(until.saturating_duration_since(Instant::now())) {
            let now = Instant::now();
            done.result.unwrap();
            let speaker = &mut speakers[done.tag as usize];
            latencies.extend(speaker.in_call.drain(..).map(|came| (came - start, now - came)));
            speaker.stream = Some(done.stream.unwrap());
        }
    }
    let after = guard.stats();
    let mean_batch = (after.tokens - before.tokens) as f64 / (after.steps - before.steps) as f64;
    Outcome { latencies, mean_batch }
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let folder = arguments.first().expect("the folder of a bundle");
    let mut count: usize = arguments.get(1).map_or(64, |count| count.parse().expect("a number of streams"));
    let mut config = Config::default();
    config.cache.mib = 8192;
    let guard = Guard::open_with(folder, &config).unwrap();
    let mut tokens = RandomTokens::new(&guard);
    println!(
        "{folder}, contexts from {CONTEXT} to {} tokens",
        CONTEXT + (RATE * (WARM + MEASURED).as_secs_f64()) as usize
    );
    println!("streams  offered/s  judged/s  tokens a step   p50 ms   p95 ms   p99 ms");
    loop {
        let outcome = run(&guard, &mut tokens, count);
        let (offered, judged) = (count as f64 * RATE, outcome.throughput());
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| outcome.measured(share));
        let stable = outcome.is_stable();
        let note = if stable { "" } else { "  the queue grows" };
        let batch = outcome.mean_batch;
        println!("{count:7}  {offered:9.0}  {judged:8.0}  {batch:13.1}  {p50:7.1}  {p95:7.1}  {p99:7.1}{note}");
        if stable || count == 1 {
            return;
        }
        // What it judged when it had enough to do is the most that it may hold.
        count = (count - 1).min((judged / RATE) as usize).max(1);
    }
}
