//! `ai.qwenguard::SwiGlu`: the gate of a feed-forward layer (Shazeer, arXiv:2002.05202), as one operator instead of four.
//!
//! Input: float32 `[T, 2 F]`, in each row F values of the gate, then F values to be gated. Output: float32 `[T, F]`,
//! `silu(gate) * value` with `silu(x) = x / (1 + e^-x)`.

use ort::{
    operator::{ComputeContext, Kernel as OrtKernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use super::{
    exp2::exp2,
    isa::{Isa, Level},
    operator::{guarded, input, output_pointer, run_tasks, tensor},
};

/// From how many results on they are computed by several threads. Starting those costs what a few thousand do.
const IN_PARALLEL: usize = 16 * 1024;

/// Gates a row: the two halves of it, and where as many results go, which is good for writing.
type RowFn = unsafe fn(&[f32], &[f32], *mut f32);

/// The function for an instruction set.
fn kernel(isa: Isa) -> RowFn {
    match isa.level() {
        Level::Portable => row_portable,
        // Whose instructions compilers use anyway.
        #[cfg(target_arch = "aarch64")]
        Level::Neon | Level::NeonDotprod | Level::NeonI8mm => row_portable,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni => row_avx2,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni | Level::Amx => row_avx512,
    }
}

unsafe fn row_portable(gate: &[f32], values: &[f32], to: *mut f32) {
    // SAFETY: the caller's promises.
    unsafe { row(gate, values, to) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn row_avx2(gate: &[f32], values: &[f32], to: *mut f32) {
    // SAFETY: the caller's promises.
    unsafe { row(gate, values, to) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn row_avx512(gate: &[f32], values: &[f32], to: *mut f32) {
    // SAFETY: the caller's promises.
    unsafe { row(gate, values, to) }
}

#[inline(always)]
unsafe fn row(gate: &[f32], values: &[f32], to: *mut f32) {
    for (index, (gate, value)) in gate.iter().zip(values).enumerate() {
        // SAFETY: there is room for as many results.
        unsafe { to.add(index).write(silu(*gate) * value) }
    }
}

/// By a power of a negative number, which cannot overflow.
#[inline(always)]
fn silu(x: f32) -> f32 {
    let power = exp2(-x.abs() * std::f32::consts::LOG2_E);
    let numerator = if x < 0.0 { power } else { 1.0 };
    x * (numerator / (1.0 + power))
}

/// Where the rows' results go, each row's to a place of its own.
#[derive(Clone, Copy)]
struct Output(*mut f32);

// SAFETY: a task writes the results of its own row and reads nothing.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    fn row(self, index: usize, width: usize) -> *mut f32 {
        self.0.wrapping_add(index * width)
    }
}

pub(super) struct SwiGlu {
    pub(super) isa: Isa,
}

impl Operator for SwiGlu {
    type Kernel<'attr> = SwiGluNode;

    fn name(&self) -> &str {
        "SwiGlu"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<SwiGluNode> {
        Ok(SwiGluNode { kernel: kernel(self.isa), name: context.node_name().unwrap_or_default() })
    }
}

/// One node of the graph.
pub(super) struct SwiGluNode {
    kernel: RowFn,
    name: String,
}

impl OrtKernel for SwiGluNode {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        guarded(|| format!("SwiGlu {}", self.name), || self.run(context))
    }
}

impl SwiGluNode {
    fn run(&self, context: &ComputeContext) -> Result<(), String> {
        let both = input(context, 0)?;
        let (shape, both) = tensor::<f32>(&both, 0)?;
        let (rows, width) = match *shape {
            [rows, columns] if columns > 0 && columns % 2 == 0 => (rows as usize, columns as usize / 2),
            _ => return Err(format!("the input has the shape {shape:?}, expected [T, an even number]")),
        };
        let output = Output(output_pointer(context, 0, &[rows as i64, width as i64])?);
        let task = |index: usize| {
            let (gate, values) = both[2 * index * width..][..2 * width].split_at(width);
            // SAFETY: ONNX Runtime allocated the output for these rows; the processor has the function's instruction set.
            unsafe { (self.kernel)(gate, values, output.row(index, width)) }
        };
        if rows * width < IN_PARALLEL {
            (0..rows).for_each(task);
            return Ok(());
        }
        run_tasks(context, rows, task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gated(isa: Isa, gate: &[f32], values: &[f32]) -> Vec<f32> {
        // One more, to see that nobody writes beyond the end.
        let mut results = vec![7.0; gate.len() + 1];
        // SAFETY: `results` has room for a row, and the processor has the instruction set.
        unsafe { kernel(isa)(gate, values, results.as_mut_ptr()) };
        assert_eq!(results.pop(), Some(7.0), "{}", isa.name());
        results
    }

    #[test]
    fn gates_are_those_of_the_formula() {
        let step = if cfg!(miri) { 5.0 } else { 0.001 };
        let gate: Vec<f32> = (-40_000..40_000).map(|index| index as f32 * step).filter(|x| x.abs() < 120.0).collect();
        let values: Vec<f32> = gate.iter().map(|x| (x * 0.7).sin() * 3.0).collect();
        for isa in Isa::available() {
            for ((gate, value), found) in gate.iter().zip(&values).zip(gated(isa, &gate, &values)) {
                let (x, value) = (f64::from(*gate), f64::from(*value));
                let wanted = x / (1.0 + (-x).exp()) * value;
                // The product with log2(e) is off by up to half a unit, which the power takes times its exponent.
                let limit = wanted.abs() * f64::from(f32::EPSILON) * (4.0 + x.abs());
                // Powers below 2^-126 are zero.
                let limit = limit + 1e-36;
                assert!((f64::from(found) - wanted).abs() <= limit, "{}: {found} for {x}, {value}", isa.name());
            }
        }
    }

    #[test]
    fn ends_of_the_range() {
        for isa in Isa::available() {
            let gate = [0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
            let found = gated(isa, &gate, &[1.0; 7]);
            assert_eq!(found[..5], [0.0, -0.0, f32::MAX, -0.0, f32::INFINITY], "{}", isa.name());
            assert!(found[5].is_nan() && found[6].is_nan(), "{}: {found:?}", isa.name());
        }
    }

    #[test]
    fn kernels_agree_on_every_bit() {
        let gate: Vec<f32> = (0..1003).map(|index| (index as f32 * 0.37).sin() * 20.0).collect();
        let values: Vec<f32> = gate.iter().rev().copied().collect();
        let results: Vec<Vec<f32>> = Isa::available().into_iter().map(|isa| gated(isa, &gate, &values)).collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
