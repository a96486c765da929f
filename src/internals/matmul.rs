//! Multiplication by quantised weights.

use half::bf16;

use crate::model::cpu_ops::{
    isa::Isa,
    matmul::{
        self, Bits, PackedWeights, Shape,
        activations::{Activations, Rounding},
        contract::Output,
    },
};

/// A matrix of weights of 8 bits or 4, with the kernel that multiplies by it on one thread.
pub struct IntMatrix {
    isa: Isa,
    shape: Shape,
    values: Vec<u8>,
    scales: Vec<bf16>,
    zero_points: Option<Vec<u8>>,
    rounded: Activations,
}

impl IntMatrix {
    /// The names of the kernels that this processor runs: AMX, which nothing chooses by itself, then the others, slowest first.
    pub fn kernels() -> Vec<&'static str> {
        sets().map(Isa::name).collect()
    }

    /// Arbitrary symmetric weights of 8 bits or 4, for the kernel of this name. `group` inputs share a scale: 32, 64 or 128.
    pub fn arbitrary(kernel: &str, bits: usize, inputs: usize, outputs: usize, group: usize) -> Self {
        let isa = sets().find(|isa| isa.name() == kernel);
        let isa = isa.unwrap_or_else(|| panic!("no such kernel"));
        let bits = if bits == 4 { Bits::Four } else { Bits::Eight };
        let shape = Shape::new(bits, inputs, outputs, group).unwrap_or_else(|reason| panic!("{reason}"));
        // Knuth's multiplicative hash.
        let values =
            (0..shape.values_dims().iter().product::<usize>() as u32).map(|i| (i.wrapping_mul(2654435761) >> 24) as u8);
        let scales = vec![bf16::from_f32(0.01); shape.scales_dims().iter().product()];
        let (values, rounded) = (values.collect(), Activations::default());
        IntMatrix { isa, shape, values, scales, zero_points: None, rounded }
    }

    /// The same weights, of 4 bits, with arbitrary zero points.
    pub fn with_zero_points(self) -> Self {
        let count = self.shape.zero_points_dims().iter().product::<usize>() as u32;
        IntMatrix { zero_points: Some((0..count).map(|i| (i.wrapping_mul(2654435761) >> 24) as u8).collect()), ..self }
    }

    /// Multiplies rows of `inputs` activations; `results` takes as many rows of `outputs` values.
    pub fn multiply(&mut self, activations: &[f32], results: &mut [f32]) {
        let Shape { inputs, outputs, .. } = self.shape;
        let rows = activations.len() / inputs;
        assert!(rows > 0 && activations.len() == rows * inputs && results.len() == rows * outputs);
        let kernel = matmul::kernels::kernel(self.isa);
        self.rounded.reset(rows, self.shape, Rounding::Fine).unwrap_or_else(|reason| panic!("{reason}"));
        let writer = self.rounded.writer();
        for (row, values) in activations.chunks_exact(inputs).enumerate() {
            // SAFETY: nobody else uses `rounded`.
            unsafe { kernel.round(writer, row, values) };
        }
        let mut weights = PackedWeights::new(self.shape, &self.values, &self.scales);
        if let Some(zero_points) = &self.zero_points {
            weights = weights.and_then(|weights| weights.with_zero_points(zero_points));
        }
        let weights = weights.unwrap_or_else(|reason| panic!("{reason}"));
        let output = Output(results.as_mut_ptr());
        for task in 0..matmul::contract::Kernel::tasks(self.shape, &self.rounded) {
            // SAFETY: `results` has the documented size and is ours.
            unsafe { kernel.multiply(&weights, &self.rounded, output, task) };
        }
    }
}

fn sets() -> impl Iterator<Item = Isa> {
    Isa::amx().into_iter().chain(Isa::available())
}
