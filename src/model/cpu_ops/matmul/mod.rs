//! Matrix multiplication with 8-bit or 4-bit weights on the CPU, as operators of the graph.
//!
//! Weights are integers with one scale per group of [`Shape::group`] inputs, in bfloat16, for which their integers are rounded. Activations are rounded to 15 bits,
//! row by row and group by group, so that what is lost is the weights' rounding only, and so that a row's result does
//! not depend on the rows beside it. Within a group everything is integer arithmetic and exact; groups are added up in
//! f32, always in the same order. So a kernel gives a row the same bits alone and in any batch. With coarse activations
//! (`runtime.activations = "fast"`) all that is so with 8 bits: a level is a multiple of 128, so every kernel takes it, and those
//! that have a loop for it skip the low term.
//!
//! [`operator`] is what ONNX Runtime calls; it checks its inputs, has [`activations`] round them, and runs a kernel
//! ([`contract`]), one task per panel of weights and some hundred rows. [`gather`] reads single rows of such a matrix, of an embedding that is a
//! head, too. [`kernels`] has the kernel of each instruction set; that of `amx` is taken only where it is asked for.
//! `reference` is the same computation written for reading, the oracle of the tests.
//!
//! How weights lie in memory, and in the bundle, from where they are mapped:
//!
//! | tensor | type | shape | beyond the edge |
//! |---|---|---|---|
//! | values of 8 bits | uint8, offset 128 | `[panels][padded inputs / 4][32 outputs][4 inputs]` | 128 |
//! | values of 4 bits | two in a uint8, offset 8 | `[panels][padded inputs / 8][32 outputs][4 inputs]` | 8 |
//! | scales | bfloat16 | `[panels][groups][32 outputs]` | 0 |
//! | zero points, of 4 bits only, where there are any | two in a uint8 | `[panels][groups][16]` | 8 |
//!
//! Of two values in a byte the lower bits are of the first four inputs of eight, the upper bits of the last four. They are
//! unpacked to 8 bits some lines at a time, in the first-level cache, so that kernels know 8 bits only. A value's weight is
//! what it is above its offset, times the scale. With zero points, 0 to 15, a group of an output has an offset of its own:
//! it is taken away when values are unpacked, which then are 15 either way of 128. Of two zero points in a byte the lower
//! bits are of an output in the panel's first half, the upper bits of the one 16 outputs on.
//!
//! A panel is 32 outputs, inputs are padded to whole groups. Four neighbouring inputs make the 32-bit lane that 8-bit
//! dot-product instructions want; a task reads its panel from one end to the other, once for 64 rows.

pub(crate) mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(all(test, target_arch = "x86_64"))]
mod amx_model;
pub(crate) mod contract;
pub(crate) mod gather;
pub(crate) mod kernels;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod operator;
mod portable;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use half::bf16;

/// Outputs in a panel.
pub(crate) const PANEL: usize = 32;

/// Inputs that make one lane of a dot product.
const QUAD: usize = 4;

/// What a value of 4 bits lacks to be one of 8: their offsets are 8 and 128.
const NIBBLE_OFFSET: u8 = ZERO_VALUE - 8;

/// The value of 8 bits that stands for 0.
const ZERO_VALUE: u8 = 128;

/// Bytes of a panel's zero points for one group.
const ZERO_POINT_BYTES: usize = PANEL / 2;

/// Bits of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bits {
    Four,
    Eight,
}

/// Sizes of a weight matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) bits: Bits,
    /// Values in a row of activations, K.
    pub(crate) inputs: usize,
    /// Values in a row of results, N.
    pub(crate) outputs: usize,
    /// Inputs that share a scale: 32, 64 or 128.
    pub(crate) group: usize,
}

impl Shape {
    pub(crate) fn new(bits: Bits, inputs: usize, outputs: usize, group: usize) -> Result<Self, String> {
        let shape = Shape { bits, inputs, outputs, group };
        // Larger sizes could overflow when they are multiplied.
        let sizes = 1..=i32::MAX as usize / 2;
        if !sizes.contains(&inputs) || !sizes.contains(&outputs) || ![32, 64, 128].contains(&group) {
            return Err(format!("sizes {shape:?} are not supported"));
        }
        if shape.groups().checked_mul(group * PANEL).and_then(|bytes| bytes.checked_mul(shape.panels())).is_none() {
            return Err(format!("sizes {shape:?} are too large"));
        }
        Ok(shape)
    }

    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    pub(crate) fn groups(&self) -> usize {
        self.inputs.div_ceil(self.group)
    }

    /// Bytes of a panel's values for so many inputs.
    fn bytes_of(&self, inputs: usize) -> usize {
        match self.bits {
            Bits::Four => inputs * PANEL / 2,
            Bits::Eight => inputs * PANEL,
        }
    }

    /// Bytes of a panel's values.
    fn panel_bytes(&self) -> usize {
        self.bytes_of(self.groups() * self.group)
    }

    /// Dimensions of the values' tensor.
    pub(crate) fn values_dims(&self) -> [usize; 4] {
        [self.panels(), self.panel_bytes() / (PANEL * QUAD), PANEL, QUAD]
    }

    /// Dimensions of the scales' tensor.
    pub(crate) fn scales_dims(&self) -> [usize; 3] {
        [self.panels(), self.groups(), PANEL]
    }

    /// Dimensions of the zero points' tensor.
    pub(crate) fn zero_points_dims(&self) -> [usize; 3] {
        [self.panels(), self.groups(), ZERO_POINT_BYTES]
    }
}

/// A weight matrix, laid out as this module says.
#[derive(Clone, Copy)]
pub(crate) struct PackedWeights<'a> {
    shape: Shape,
    values: &'a [u8],
    scales: &'a [bf16],
    zero_points: Option<&'a [u8]>,
}

impl<'a> PackedWeights<'a> {
    /// Checks the sizes, on which kernels rely.
    pub(crate) fn new(shape: Shape, values: &'a [u8], scales: &'a [bf16]) -> Result<Self, String> {
        let wanted = (shape.values_dims().iter().product(), shape.scales_dims().iter().product());
        if (values.len(), scales.len()) != wanted {
            let found = (values.len(), scales.len());
            return Err(format!("weights and scales have {found:?} values, {wanted:?} expected for {shape:?}"));
        }
        Ok(PackedWeights { shape, values, scales, zero_points: None })
    }

    /// The same weights of 4 bits with zero points. Checks their number.
    pub(crate) fn with_zero_points(self, zero_points: &'a [u8]) -> Result<Self, String> {
        let shape = self.shape;
        let wanted: usize = shape.zero_points_dims().iter().product();
        if shape.bits != Bits::Four || zero_points.len() != wanted {
            let found = zero_points.len();
            return Err(format!("zero points have {found} bytes, {wanted} expected for 4 bits and {shape:?}"));
        }
        Ok(PackedWeights { zero_points: Some(zero_points), ..self })
    }

    /// The 8-bit weights of one output, one for each input, as floats.
    pub(crate) fn output(&self, output: usize) -> impl Iterator<Item = f32> {
        let Shape { inputs, group, .. } = self.shape;
        assert!(self.shape.bits == Bits::Eight);
        let (panel, lane) = (output / PANEL, output % PANEL);
        let values = &self.values[panel * self.shape.panel_bytes()..][..self.shape.panel_bytes()];
        let scales = &self.scales[panel * self.shape.groups() * PANEL..][..self.shape.groups() * PANEL];
        (0..inputs).map(move |input| {
            let level = values[(input / QUAD * PANEL + lane) * QUAD + input % QUAD];
            (f32::from(level) - 128.0) * wide(scales[input / group * PANEL + lane])
        })
    }
}

/// A scale as a float: its bits are the upper ones. Unlike the conversion of `half` it treats all alike, so loops become vectors.
#[inline(always)]
fn wide(scale: bf16) -> f32 {
    f32::from_bits(u32::from(scale.to_bits()) << 16)
}
