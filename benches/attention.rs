//! Attention over a paged cache that is not in the processor's caches, on one thread: `cargo bench --features _internals --bench attention`.
//! Throughput is in bytes of cache, each counted once per step.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qwenguard::internals::PagedStreams;

/// Query heads, KV heads and values per head of the 0.6B model.
const HEADS: (usize, usize, usize) = (16, 8, 128);

/// Streams, new tokens of each, and tokens that the last one sees.
const CASES: [(usize, usize, usize); 9] = [
    (1, 1, 128),
    (1, 1, 1000),
    (1, 1, 7000),
    (16, 1, 128),
    (16, 1, 1000),
    (1, 16, 128),
    (1, 16, 1000),
    (1, 64, 1000),
    (1, 128, 128),
];

/// Cache of all layers together: more than a processor's own caches hold.
const BYTES: usize = 1 << 30;

fn attention(criterion: &mut Criterion) {
    for (format, int8) in [("int8", true), ("fp32", false)] {
        for (streams, new, context) in CASES {
            let mut work = PagedStreams::arbitrary(HEADS, int8, streams, new, context, BYTES);
            let mut group = criterion.benchmark_group(format!("attention {format} {streams}x{new}@{context}"));
            group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
            group.throughput(Throughput::Bytes(work.layer_bytes() as u64));
            for kernel in PagedStreams::kernels() {
                group.bench_function(BenchmarkId::from_parameter(kernel), |bencher| {
                    bencher.iter(|| work.attend(kernel));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, attention);
criterion_main!(benches);
