//! The multiplication written for reading, in f64, over the values that weights and activations stand for.

use half::bf16;

use super::{Bits, PANEL, PackedWeights, QUAD, Shape, activations::Rounding};

/// Weights as integers, of 8 bits or of 4, scales and zero points, not packed.
#[derive(Clone)]
pub(super) struct PlainWeights {
    pub(super) shape: Shape,
    /// `[outputs][inputs]`
    pub(super) values: Vec<i8>,
    /// `[outputs][groups]`
    pub(super) scales: Vec<bf16>,
    /// As `scales`; 0 to 15, and values as if they were 8.
    pub(super) zero_points: Option<Vec<u8>>,
}

/// Weights as the exporter writes them.
pub(super) struct Tensors {
    pub(super) values: Vec<u8>,
    pub(super) scales: Vec<bf16>,
    pub(super) zero_points: Option<Vec<u8>>,
}

impl Tensors {
    pub(super) fn weights(&self, shape: Shape) -> PackedWeights<'_> {
        let symmetric = PackedWeights::new(shape, &self.values, &self.scales).unwrap();
        match &self.zero_points {
            Some(zero_points) => symmetric.with_zero_points(zero_points).unwrap(),
            None => symmetric,
        }
    }
}

impl PlainWeights {
    pub(super) fn weight(&self, output: usize, input: usize) -> f64 {
        let Shape { inputs, group, .. } = self.shape;
        let at = output * self.shape.groups() + input / group;
        let zero = self.zero_points.as_ref().map_or(0, |zero_points| i32::from(zero_points[at]) - 8);
        f64::from(f32::from(self.scales[at])) * f64::from(i32::from(self.values[output * inputs + input]) - zero)
    }

    pub(super) fn pack(&self) -> Tensors {
        let zero_points = self.zero_points.as_ref().map(|zero_points| {
            let by_group = self.by_panels(zero_points, 8);
            let pairs = |panel: &[u8]| -> Vec<u8> {
                let (first, second) = panel.split_at(PANEL / 2);
                first.iter().zip(second).map(|(first, second)| first | second << 4).collect()
            };
            by_group.chunks(PANEL).flat_map(pairs).collect()
        });
        Tensors { values: self.pack_values(), scales: self.by_panels(&self.scales, bf16::ZERO), zero_points }
    }

    fn pack_values(&self) -> Vec<u8> {
        let shape = self.shape;
        let (panels, quads, lanes, width) = (shape.panels(), shape.groups() * shape.group / QUAD, PANEL, QUAD);
        let mut values = Vec::new();
        for index in 0..panels * quads * lanes * width {
            let (output, input) = (
                index / (width * lanes * quads) * lanes + index / width % lanes,
                index / (width * lanes) % quads * width + index % width,
            );
            let exists = output < shape.outputs && input < shape.inputs;
            values.push(if exists { self.values[output * shape.inputs + input] } else { 0 });
        }
        match shape.bits {
            Bits::Eight => values.iter().map(|value| (*value as u8) ^ 0x80).collect(),
            Bits::Four => {
                let nibble = |value: i8| (value + 8) as u8;
                let pair = |pair: &[i8]| {
                    let (first, second) = pair.split_at(lanes * width);
                    first
                        .iter()
                        .zip(second)
                        .map(|(first, second)| nibble(*first) | nibble(*second) << 4)
                        .collect::<Vec<_>>()
                };
                values.chunks(2 * lanes * width).flat_map(pair).collect()
            }
        }
    }

    /// `[outputs][groups]` as `[panels][groups][PANEL]`.
    fn by_panels<T: Copy>(&self, values: &[T], beyond: T) -> Vec<T> {
        let Shape { outputs, .. } = self.shape;
        let groups = self.shape.groups();
        let places = (0..self.shape.panels() * groups).flat_map(|at| {
            let (panel, group) = (at / groups, at % groups);
            (panel * PANEL..(panel + 1) * PANEL).map(move |output| (output, group))
        });
        places.map(|(output, group)| if output < outputs { values[output * groups + group] } else { beyond }).collect()
    }
}

/// What a row of activations stands for after rounding: in each group the largest magnitude is 127 high units, and a low
/// unit is a 128th of a high one. Coarse levels have high units only.
pub(super) fn round(row: &[f32], group: usize, rounding: Rounding) -> Vec<f64> {
    row.chunks(group).flat_map(|values| round_group(values, rounding)).collect()
}

fn round_group(values: &[f32], rounding: Rounding) -> Vec<f64> {
    if values.iter().any(|value| !value.is_finite()) {
        return vec![f64::NAN; values.len()];
    }
    let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    if largest < 1e-32 {
        return vec![0.0; values.len()];
    }
    let two_terms = |value: &f32| {
        // In f32, so that what is nearly a tie falls to the same side.
        let level = match rounding {
            Rounding::Fine => (value * (127.0 * 128.0 / largest)).round_ties_even(),
            Rounding::Coarse => (value * (127.0 / largest)).round_ties_even() * 128.0,
        };
        let high = (level / 128.0).round();
        let low = level - high * 128.0;
        assert!(high.abs() <= 127.0 && low.abs() <= 64.0);
        f64::from(largest) / 127.0 * (f64::from(high) + f64::from(low) / 128.0)
    };
    values.iter().map(two_terms).collect()
}

/// The exact product of rounded activations and weights, `[outputs]`, and for each the sum of its terms' magnitudes,
/// which is what rounding errors are measured by.
pub(super) fn multiply(weights: &PlainWeights, rounded: &[f64]) -> Vec<(f64, f64)> {
    let product = |output| {
        let terms = rounded.iter().enumerate().map(|(input, value)| value * weights.weight(output, input));
        terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
    };
    (0..weights.shape.outputs).map(product).collect()
}
