//! Multiplication by 8-bit weights, on one thread: `cargo bench --features _internals --bench matmul`. Throughput is in multiplications
//! (elements) per second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qwenguard::internals::Int8Matrix;

/// Outputs and inputs of a layer's matrices in the 0.6B model: q, k and v; o; gate and up; down.
const SHAPES: [(usize, usize); 4] = [(4096, 1024), (1024, 2048), (6144, 1024), (1024, 3072)];

const BLOCK: usize = 32;

fn matmul(criterion: &mut Criterion) {
    for (outputs, inputs) in SHAPES {
        let mut matrix = Int8Matrix::arbitrary(inputs, outputs, BLOCK);
        let mut group = criterion.benchmark_group(format!("matmul {} {outputs}x{inputs}", matrix.kernel()));
        for rows in [1, 4, 16, 32, 128] {
            let activations: Vec<f32> = (0..rows * inputs).map(|i| (i as f32 * 0.37).sin()).collect();
            let mut results = vec![0.0; rows * outputs];
            group.throughput(Throughput::Elements((rows * outputs * inputs) as u64));
            group.bench_function(BenchmarkId::from_parameter(format!("{rows} rows")), |bencher| {
                bencher.iter(|| matrix.multiply(&activations, &mut results));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, matmul);
criterion_main!(benches);
