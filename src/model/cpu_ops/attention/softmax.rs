//! Online softmax (Milakov and Gimelshein, arXiv:1805.02867) of one query row, a block of scores at a time. Scores are
//! in units of ln 2, so that weights are powers of two.
//!
//! Written over arrays, without branches: compilers turn it into vector instructions, and each instruction set gives the
//! same bits.

use super::cache::{BLOCK, LANES};
use crate::model::cpu_ops::exp2::exp2;

/// A row's largest score and sum of weights so far.
#[derive(Clone, Copy)]
pub(super) struct Softmax {
    pub(super) max: f32,
    /// Sums of every sixteenth weight, so that no block needs their sum.
    pub(super) totals: [f32; LANES],
}

impl Softmax {
    pub(super) const EMPTY: Softmax = Softmax { max: f32::NEG_INFINITY, totals: [0.0; LANES] };

    /// Turns the first `seen` scores into weights and all others, whatever they are, into zeros. Returns what earlier
    /// weights, and sums made with them, must be multiplied with.
    #[inline(always)]
    pub(super) fn weigh(&mut self, scores: &mut [f32; BLOCK], seen: usize) -> f32 {
        for (score, mask) in scores.iter_mut().zip(mask(seen)) {
            *score = f32::from_bits(score.to_bits() & mask | f32::NEG_INFINITY.to_bits() & !mask);
        }
        let max = greater(self.max, reduce(&halve(scores, greater), greater));
        let shrink = exp2(self.max - max);
        for score in &mut *scores {
            *score = exp2(*score - max);
        }
        for (lane, total) in self.totals.iter_mut().enumerate() {
            *total = *total * shrink + (scores[lane] + scores[LANES + lane]);
        }
        self.max = max;
        shrink
    }

    /// The sum of all weights.
    #[inline(always)]
    pub(super) fn total(&self) -> f32 {
        reduce(&self.totals, |a, b| a + b)
    }
}

#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Combines all values, by halves.
#[inline(always)]
fn reduce(values: &[f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let eight: [f32; 8] = halve(values, &combine);
    let four: [f32; 4] = halve(&eight, &combine);
    combine(combine(four[0], four[2]), combine(four[1], four[3]))
}

#[inline(always)]
fn halve<const HALF: usize>(values: &[f32], combine: impl Fn(f32, f32) -> f32) -> [f32; HALF] {
    let mut combined = [0.0; HALF];
    for index in 0..HALF {
        combined[index] = combine(values[index], values[HALF + index]);
    }
    combined
}

/// All bits of the first `seen` tokens of a block, none of the others.
#[inline(always)]
pub(super) fn mask(seen: usize) -> &'static [u32] {
    const MASKS: [u32; 2 * BLOCK] = {
        let mut masks = [0; 2 * BLOCK];
        let mut token = 0;
        while token < BLOCK {
            masks[token] = u32::MAX;
            token += 1;
        }
        masks
    };
    static TABLE: [u32; 2 * BLOCK] = MASKS;
    &TABLE[BLOCK - seen..][..BLOCK]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unseen_scores_have_no_weight() {
        let mut row = Softmax::EMPTY;
        let mut scores = [f32::NAN; BLOCK];
        scores[..3].copy_from_slice(&[1.0, 3.0, 2.0]);
        assert_eq!(row.weigh(&mut scores, 3), 0.0);
        assert_eq!(scores[..4], [0.25, 1.0, 0.5, 0.0]);
        assert_eq!(scores[3..], [0.0; BLOCK - 3]);
        let mut scores = [f32::INFINITY; BLOCK];
        scores[0] = 4.0;
        assert_eq!((row.weigh(&mut scores, 1), scores[0]), (0.5, 1.0));
        assert_eq!(row.total(), 1.75 / 2.0 + 1.0);
    }
}
