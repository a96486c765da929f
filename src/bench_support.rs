//! A door for this crate's benches to what is not public. No part of the interface: it may change in any release.

use crate::model::matmul::{
    PackedWeights, Shape,
    activations::Activations,
    kernel::{Kernel, Output},
};
use crate::text::{DeltaTokenizer, Tokenizer};

/// A text that is tokenized as it grows.
pub struct TextDeltas {
    tokenizer: Tokenizer,
    text: DeltaTokenizer,
}

impl TextDeltas {
    /// An empty text for the tokenizer of this `tokenizer.json`.
    pub fn new(json: &[u8]) -> Self {
        let tokenizer = Tokenizer::new(json).unwrap_or_else(|reason| panic!("{reason}"));
        let text = DeltaTokenizer::new(&tokenizer, 0).unwrap_or_else(|error| panic!("{error}"));
        TextDeltas { tokenizer, text }
    }

    /// Adds a delta.
    pub fn push(&mut self, delta: &[u8]) {
        let edit = self.text.push(&self.tokenizer, delta).unwrap_or_else(|error| panic!("{error}"));
        self.text.apply(edit);
    }

    /// Cuts the text back to so many bytes.
    pub fn truncate(&mut self, bytes: usize) {
        let edit = self.text.truncate(&self.tokenizer, bytes).unwrap_or_else(|error| panic!("{error}"));
        self.text.apply(edit);
    }

    /// Tokens so far.
    pub fn tokens(&self) -> usize {
        self.text.tokens().len()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.text.bytes()
    }
}

/// A matrix of 8-bit weights, with the kernel that multiplies by it on one thread.
pub struct Int8Matrix {
    kernel: Kernel,
    shape: Shape,
    values: Vec<u8>,
    scales: Vec<f32>,
    rounded: Activations,
}

impl Int8Matrix {
    /// Arbitrary weights. `block` inputs share a scale: 32, 64 or 128.
    pub fn arbitrary(inputs: usize, outputs: usize, block: usize) -> Self {
        let shape = Shape::new(inputs, outputs, block).unwrap_or_else(|reason| panic!("{reason}"));
        // Knuth's multiplicative hash.
        let values =
            (0..shape.values_dims().iter().product::<usize>() as u32).map(|i| (i.wrapping_mul(2654435761) >> 24) as u8);
        let scales = vec![0.01; shape.scales_dims().iter().product()];
        Int8Matrix {
            kernel: Kernel::detect(),
            shape,
            values: values.collect(),
            scales,
            rounded: Activations::default(),
        }
    }

    /// The instruction set in use.
    pub fn kernel(&self) -> &'static str {
        self.kernel.name
    }

    /// Multiplies rows of `inputs` activations; `results` takes as many rows of `outputs` values.
    pub fn multiply(&mut self, activations: &[f32], results: &mut [f32]) {
        let Shape { inputs, outputs, .. } = self.shape;
        let rows = activations.len() / inputs;
        assert!(rows > 0 && activations.len() == rows * inputs && results.len() == rows * outputs);
        self.rounded.reset(rows, self.shape);
        let writer = self.rounded.writer();
        for (row, values) in activations.chunks_exact(inputs).enumerate() {
            // SAFETY: nobody else uses `rounded`.
            unsafe { self.kernel.round(writer, row, values) };
        }
        let weights =
            PackedWeights::new(self.shape, &self.values, &self.scales).unwrap_or_else(|reason| panic!("{reason}"));
        let output = Output(results.as_mut_ptr());
        for panel in 0..self.shape.panels() {
            // SAFETY: `results` has the documented size and is ours.
            unsafe { self.kernel.multiply(&weights, &self.rounded, output, panel) };
        }
    }
}
