//! The oracle: attention of one sequence, written for reading. Everything contiguous, in f64, one query at a time.

use super::{
    Heads,
    cache::{CacheFormat, quantizer},
};
use crate::model::cpu_ops::rounding::level;

/// The sequence's packed projections and the constants of a layer.
pub(super) struct Sequence<'a> {
    pub(super) heads: Heads,
    pub(super) scale: f32,
    pub(super) epsilon: f32,
    /// `[tokens, heads.packed_width()]`
    pub(super) qkv: &'a [f32],
    /// `[positions, dim / 2]`
    pub(super) cos: &'a [f32],
    pub(super) sin: &'a [f32],
    /// `[dim]`
    pub(super) q_norm: &'a [f32],
    pub(super) k_norm: &'a [f32],
    pub(super) format: CacheFormat,
}

impl Sequence<'_> {
    /// Attention of every token over itself and all before it: `[tokens, heads.query * dim]`.
    pub(super) fn attend(&self) -> Vec<f64> {
        let Heads { query, kv, dim } = self.heads;
        let tokens = self.qkv.len() / self.heads.packed_width();
        let key = |token, head| self.stored(&self.rotated(token, self.row(token, query + head), self.k_norm));
        let value = |token, head| self.stored(&widened(self.row(token, query + kv + head)));
        let mut output = Vec::with_capacity(tokens * query * dim);
        let keys: Vec<Vec<Vec<f64>>> = (0..kv).map(|head| (0..tokens).map(|t| key(t, head)).collect()).collect();
        let values: Vec<Vec<Vec<f64>>> = (0..kv).map(|head| (0..tokens).map(|t| value(t, head)).collect()).collect();
        for token in 0..tokens {
            for head in 0..query {
                let kv_head = head / self.heads.group();
                let q = self.rotated(token, self.row(token, head), self.q_norm);
                let scores: Vec<f64> =
                    keys[kv_head][..=token].iter().map(|key| dot(&q, key) * f64::from(self.scale)).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut sums = vec![0.0; dim];
                for (weight, value) in weights.iter().zip(&values[kv_head]) {
                    for (sum, x) in sums.iter_mut().zip(value) {
                        *sum += weight / total * x;
                    }
                }
                output.extend(sums);
            }
        }
        output
    }

    fn row(&self, token: usize, head: usize) -> &[f32] {
        let dim = self.heads.dim;
        &self.qkv[token * self.heads.packed_width() + head * dim..][..dim]
    }

    fn rotated(&self, position: usize, row: &[f32], weight: &[f32]) -> Vec<f64> {
        let half = row.len() / 2;
        let mean_square = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / row.len() as f64;
        let norm = (mean_square + f64::from(self.epsilon)).sqrt();
        let normed: Vec<f64> = row.iter().zip(weight).map(|(x, w)| f64::from(*x) / norm * f64::from(*w)).collect();
        let mut out = vec![0.0; row.len()];
        for i in 0..half {
            let cos = f64::from(self.cos[position * half + i]);
            let sin = f64::from(self.sin[position * half + i]);
            out[i] = normed[i] * cos - normed[i + half] * sin;
            out[i + half] = normed[i + half] * cos + normed[i] * sin;
        }
        out
    }

    /// What the cache gives back for a key or value.
    fn stored(&self, values: &[f64]) -> Vec<f64> {
        match self.format {
            CacheFormat::Fp32 => values.to_vec(),
            CacheFormat::Int8 => {
                let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
                let (scale, factor) = quantizer(&values);
                values.iter().map(|x| f64::from(level(*x, factor)) * f64::from(scale)).collect()
            }
        }
    }
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
