//! Multiplication by weights of 8 and 4 bits, these with zero points too, on one thread:
//! `cargo bench --features _internals --bench matmul`. Throughput is in multiplications (elements) per second. `peak` is what
//! the processor can do at most: the kernel's dot products and nothing else, on registers. Measured is the best kernel of
//! this processor, or those that the variable `KERNELS` names (`avx2,avx-vnni`).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qwenguard::internals::IntMatrix;

/// Outputs and inputs of a layer's matrices in the 0.6B model: q, k and v; o; gate and up; down.
const SHAPES: [(usize, usize); 4] = [(4096, 1024), (1024, 2048), (6144, 1024), (1024, 3072)];

const GROUP: usize = 32;

/// The kernels that are measured.
fn kernels() -> Vec<&'static str> {
    let all = IntMatrix::kernels();
    match std::env::var("KERNELS") {
        Ok(names) => all.into_iter().filter(|kernel| names.split(',').any(|name| name == *kernel)).collect(),
        Err(_) => all.into_iter().rev().take(1).collect(),
    }
}

fn matmul(criterion: &mut Criterion) {
    for kernel in kernels() {
        for (outputs, inputs) in SHAPES {
            let arbitrary = |bits| IntMatrix::arbitrary(kernel, bits, inputs, outputs, GROUP);
            for (name, matrix) in [
                ("int8", arbitrary(8)),
                ("int4", arbitrary(4)),
                ("int4 with zero points", arbitrary(4).with_zero_points()),
            ] {
                let group = format!("matmul {name} {kernel} {outputs}x{inputs}");
                multiplications(criterion, group, matrix, inputs, outputs);
            }
        }
    }
}

fn multiplications(criterion: &mut Criterion, name: String, mut matrix: IntMatrix, inputs: usize, outputs: usize) {
    let mut group = criterion.benchmark_group(name);
    for rows in [1, 4, 16, 32, 128, 512] {
        let activations: Vec<f32> = (0..rows * inputs).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut results = vec![0.0; rows * outputs];
        group.throughput(Throughput::Elements((rows * outputs * inputs) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{rows} rows")), |bencher| {
            bencher.iter(|| matrix.multiply(&activations, &mut results));
        });
    }
    group.finish();
}

/// Dot products on registers, in the form that the kernel of an instruction set has them: eight sums at a time, or sixteen where
/// there are registers for them, for the next product of a sum has to wait for the last one.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
mod peak {
    use std::arch::asm;

    const LOOPS: usize = 1000;

    /// What runs the loops of a kernel, and how many multiplications they are. The processor must have its instructions.
    pub(super) fn of(kernel: &str) -> Option<(unsafe fn(), usize)> {
        match kernel {
            "avx2" => Some((avx2, 8 * 16 * LOOPS)),
            // A level has two terms.
            "avx-vnni" => Some((avx_vnni, 8 * 32 / 2 * LOOPS)),
            "avx512-vnni" => Some((avx512_vnni, 16 * 64 / 2 * LOOPS)),
            _ => None,
        }
    }

    macro_rules! loops {
        ($(#[$attribute:meta])* $name:ident, $($instruction:literal),+) => {
            $(#[$attribute])*
            fn $name() {
                // SAFETY: it changes nothing but registers, and declares them.
                unsafe {
                    asm!(
                        "2:",
                        $($instruction,)+
                        "dec {count}",
                        "jnz 2b",
                        count = inout(reg) LOOPS => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                        out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                        out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    )
                }
            }
        };
    }

    loops!(
        /// Words: a product and a sum for 16 multiplications.
        #[target_feature(enable = "avx2")]
        avx2,
        "vpmaddwd ymm10, ymm8, ymm9", "vpaddd ymm0, ymm0, ymm10",
        "vpmaddwd ymm10, ymm8, ymm9", "vpaddd ymm1, ymm1, ymm10",
        "vpmaddwd ymm10, ymm8, ymm9", "vpaddd ymm2, ymm2, ymm10",
        "vpmaddwd ymm10, ymm8, ymm9", "vpaddd ymm3, ymm3, ymm10",
        "vpmaddwd ymm10, ymm8, ymm9", "vpaddd ymm4, ymm4, ymm10",
        "vpmaddwd ymm10, ymm8, ymm9", "vpaddd ymm5, ymm5, ymm10",
        "vpmaddwd ymm10, ymm8, ymm9", "vpaddd ymm6, ymm6, ymm10",
        "vpmaddwd ymm10, ymm8, ymm9", "vpaddd ymm7, ymm7, ymm10"
    );
    loops!(
        /// Bytes, 32 in one instruction.
        #[target_feature(enable = "avx2,avxvnni")]
        avx_vnni,
        "{{vex}} vpdpbusd ymm0, ymm8, ymm9",
        "{{vex}} vpdpbusd ymm1, ymm8, ymm9",
        "{{vex}} vpdpbusd ymm2, ymm8, ymm9",
        "{{vex}} vpdpbusd ymm3, ymm8, ymm9",
        "{{vex}} vpdpbusd ymm4, ymm8, ymm9",
        "{{vex}} vpdpbusd ymm5, ymm8, ymm9",
        "{{vex}} vpdpbusd ymm6, ymm8, ymm9",
        "{{vex}} vpdpbusd ymm7, ymm8, ymm9"
    );
    loops!(
        /// Bytes, 64 in one instruction. The registers above the fifteenth are read only.
        #[target_feature(enable = "avx512f,avx512vnni")]
        avx512_vnni,
        "vpdpbusd zmm0, zmm16, zmm17",
        "vpdpbusd zmm1, zmm16, zmm17",
        "vpdpbusd zmm2, zmm16, zmm17",
        "vpdpbusd zmm3, zmm16, zmm17",
        "vpdpbusd zmm4, zmm16, zmm17",
        "vpdpbusd zmm5, zmm16, zmm17",
        "vpdpbusd zmm6, zmm16, zmm17",
        "vpdpbusd zmm7, zmm16, zmm17",
        "vpdpbusd zmm8, zmm16, zmm17",
        "vpdpbusd zmm9, zmm16, zmm17",
        "vpdpbusd zmm10, zmm16, zmm17",
        "vpdpbusd zmm11, zmm16, zmm17",
        "vpdpbusd zmm12, zmm16, zmm17",
        "vpdpbusd zmm13, zmm16, zmm17",
        "vpdpbusd zmm14, zmm16, zmm17",
        "vpdpbusd zmm15, zmm16, zmm17"
    );
}

#[cfg(target_arch = "x86_64")]
fn registers(criterion: &mut Criterion) {
    for kernel in kernels() {
        let Some((run, multiplications)) = peak::of(kernel) else { continue };
        let mut group = criterion.benchmark_group(format!("peak {kernel}"));
        group.throughput(Throughput::Elements(multiplications as u64));
        group.bench_function("registers", |bencher| {
            // SAFETY: the library found the instruction set.
            bencher.iter(|| unsafe { run() })
        });
        group.finish();
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn registers(_: &mut Criterion) {}

criterion_group!(benches, registers, matmul);
criterion_main!(benches);
