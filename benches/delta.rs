//! What a text delta costs late in an answer: `cargo bench --features _internals --bench delta`. The same words are pushed after 1,000 and
//! after 7,000 tokens, with the tokenizer of Qwen3: tokenizing alone, and whole pushes on a tiny model, whose attention
//! still grows with the context.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use qwenguard::{Guard, Message, internals::TextDeltas};

const TEXT: &str = "The old harbour lies in the north of the town, where 3 ships came in yesterday; nobody knows why. ";

/// Deltas that are measured together.
const DELTAS: usize = 64;

/// As many deltas, of the length that a model's tokens have.
fn deltas() -> impl Iterator<Item = &'static [u8]> {
    TEXT.as_bytes().chunks(4).cycle().take(DELTAS)
}

fn tokenizing(criterion: &mut Criterion) {
    let json = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-data/qwen3/tokenizer.json");
    let mut text = TextDeltas::new(&std::fs::read(json).expect("`make test-data` gets it"));
    let mut group = criterion.benchmark_group("tokenize a delta of 4 bytes");
    for tokens in [1000, 7000] {
        while text.tokens() < tokens {
            text.push(TEXT.as_bytes());
        }
        let start = text.bytes();
        group.bench_function(BenchmarkId::from_parameter(format!("after {tokens} tokens")), |bencher| {
            bencher.iter_custom(|iterations| {
                let run = |_| {
                    let begin = Instant::now();
                    deltas().for_each(|delta| text.push(delta));
                    let time = begin.elapsed();
                    text.truncate(start);
                    time
                };
                (0..iterations).map(run).sum::<Duration>() / DELTAS as u32
            });
        });
    }
}

fn pushing(criterion: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/golden/qwen3-tiny");
    let guard = Guard::open(folder).expect("`make test-data` exports it");
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user("Tell me about the harbour.")]).unwrap();
    let mut group = criterion.benchmark_group("push a delta of 4 bytes");
    group.sample_size(20);
    for tokens in [1000, 7000] {
        let mut update = stream.push_text(TEXT.as_bytes()).unwrap();
        while update.final_tokens < tokens {
            update = stream.push_text(TEXT.as_bytes()).unwrap();
        }
        let start = update.received;
        group.bench_function(BenchmarkId::from_parameter(format!("after {tokens} tokens")), |bencher| {
            bencher.iter_custom(|iterations| {
                let run = |_| {
                    let begin = Instant::now();
                    for delta in deltas() {
                        stream.push_text(delta).unwrap();
                    }
                    let time = begin.elapsed();
                    stream.truncate(start).unwrap();
                    time
                };
                (0..iterations).map(run).sum::<Duration>() / DELTAS as u32
            });
        });
    }
}

criterion_group!(benches, tokenizing, pushing);
criterion_main!(benches);
