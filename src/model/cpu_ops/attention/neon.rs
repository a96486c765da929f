//! Tasks and dot products for 64-bit ARM, with and without 8-bit products of signs that differ.

use std::arch::aarch64::*;

use super::{
    Attention,
    contract::{CachePools, OutputRows},
    int8::{Dots, LOW_BITS, split_terms, split_words},
    vector::run_vector,
};
use crate::model::cpu_ops::dot_products::usdot;

pub(super) unsafe fn task_neon(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    // SAFETY: the caller's promises.
    unsafe { run_vector::<Neon>(attention, pools, output, task) }
}

#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn task_i8mm(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    // SAFETY: the caller's promises.
    unsafe { run_vector::<I8mm>(attention, pools, output, task) }
}

/// Two registers, which are eight lanes of 32 bits.
type Pair = [int32x4_t; 2];

/// Parts are even and odd levels as 16-bit words.
struct Neon;

impl Dots for Neon {
    type Vector = Pair;
    const LANES: usize = 8;
    const ROWS: usize = 4;
    const ONE_SUM: bool = true;

    #[inline(always)]
    unsafe fn zero() -> Pair {
        // SAFETY: the promises of `Dots`; so below.
        unsafe { [vdupq_n_s32(0); 2] }
    }

    #[inline(always)]
    unsafe fn splat(from: *const i32) -> Pair {
        // SAFETY: see `zero`.
        unsafe { [vdupq_n_s32(from.read_unaligned()); 2] }
    }

    #[inline(always)]
    unsafe fn keys(from: *const u8) -> [Pair; 2] {
        // SAFETY: see `zero`.
        unsafe {
            let even = vdupq_n_u16(0x00ff);
            let keys = [0, 16].map(|at| vreinterpretq_u16_u8(vld1q_u8(from.add(at))));
            [
                keys.map(|keys| vreinterpretq_s32_u16(vandq_u16(keys, even))),
                keys.map(|keys| vreinterpretq_s32_u16(vshrq_n_u16::<8>(keys))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn values(from: *const u8) -> [Pair; 2] {
        // SAFETY: see `zero`.
        unsafe {
            let values = [0, 16].map(|at| vreinterpretq_s16_u8(vld1q_u8(from.add(at))));
            [
                values.map(|values| vreinterpretq_s32_s16(vshrq_n_s16::<8>(vshlq_n_s16::<8>(values)))),
                values.map(|values| vreinterpretq_s32_s16(vshrq_n_s16::<8>(values))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn add_keys(sums: Pair, keys: Pair, levels: Pair) -> Pair {
        // SAFETY: see `zero`.
        unsafe { [add_pairs(sums[0], keys[0], levels[0]), add_pairs(sums[1], keys[1], levels[1])] }
    }

    #[inline(always)]
    unsafe fn add_values(sums: Pair, values: Pair, levels: Pair) -> Pair {
        // SAFETY: see `zero`.
        unsafe { Self::add_keys(sums, values, levels) }
    }

    #[inline(always)]
    unsafe fn total(parts: [Pair; 2]) -> Pair {
        // SAFETY: see `zero`.
        unsafe { [vaddq_s32(parts[0][0], parts[1][0]), vaddq_s32(parts[0][1], parts[1][1])] }
    }

    #[inline(always)]
    unsafe fn set_scores(sums: Pair, offset: i32, scales: *const f32, unit: f32, to: *mut f32) {
        // SAFETY: see `zero`.
        unsafe {
            for (index, sums) in sums.into_iter().enumerate() {
                let products = vcvtq_f32_s32(vaddq_s32(sums, vdupq_n_s32(offset)));
                let units = vmulq_n_f32(vld1q_f32(scales.add(4 * index)), unit);
                vst1q_f32(to.add(4 * index), vmulq_f32(products, units));
            }
        }
    }

    #[inline(always)]
    unsafe fn add_scaled(to: *mut f32, shrink: f32, sums: Pair, unit: f32) {
        // SAFETY: see `zero`.
        unsafe {
            for (half, sums) in sums.into_iter().enumerate() {
                let to = to.add(half * 4);
                let before = vmulq_n_f32(vld1q_f32(to), shrink);
                vst1q_f32(to, vfmaq_n_f32(before, vcvtq_f32_s32(sums), unit));
            }
        }
    }

    #[inline(always)]
    unsafe fn split(levels: &[i32], to: *mut i32, second: usize) {
        // SAFETY: see `zero`.
        unsafe { split_words(levels, to, second) }
    }
}

/// Adds products of 16-bit words, two for each lane.
#[inline(always)]
unsafe fn add_pairs(sums: int32x4_t, words: int32x4_t, levels: int32x4_t) -> int32x4_t {
    // SAFETY: the instructions are of every processor of the architecture.
    unsafe {
        let (words, levels) = (vreinterpretq_s16_s32(words), vreinterpretq_s16_s32(levels));
        let low = vmull_s16(vget_low_s16(words), vget_low_s16(levels));
        vaddq_s32(sums, vpaddq_s32(low, vmull_high_s16(words, levels)))
    }
}

/// Parts are high and low terms.
struct I8mm;

impl Dots for I8mm {
    type Vector = Pair;
    const LANES: usize = 8;
    const ROWS: usize = 2;
    const ONE_SUM: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Pair {
        // SAFETY: the promises of `Dots`; so below.
        unsafe { Neon::zero() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const i32) -> Pair {
        // SAFETY: see `zero`.
        unsafe { Neon::splat(from) }
    }

    #[inline(always)]
    unsafe fn keys(from: *const u8) -> [Pair; 2] {
        // SAFETY: see `zero`.
        unsafe { [[0, 16].map(|at| vreinterpretq_s32_u8(vld1q_u8(from.add(at)))); 2] }
    }

    #[inline(always)]
    unsafe fn values(from: *const u8) -> [Pair; 2] {
        // SAFETY: see `zero`.
        unsafe { Self::keys(from) }
    }

    #[inline(always)]
    unsafe fn add_keys(sums: Pair, keys: Pair, levels: Pair) -> Pair {
        // SAFETY: see `zero`.
        unsafe { [add_bytes(sums[0], keys[0], levels[0]), add_bytes(sums[1], keys[1], levels[1])] }
    }

    #[inline(always)]
    unsafe fn add_values(sums: Pair, values: Pair, levels: Pair) -> Pair {
        // SAFETY: see `zero`.
        unsafe { [add_bytes(sums[0], levels[0], values[0]), add_bytes(sums[1], levels[1], values[1])] }
    }

    #[inline(always)]
    unsafe fn total(parts: [Pair; 2]) -> Pair {
        // SAFETY: see `zero`.
        unsafe {
            let both = |half: usize| vaddq_s32(vshlq_n_s32::<{ LOW_BITS as i32 }>(parts[0][half]), parts[1][half]);
            [both(0), both(1)]
        }
    }

    #[inline(always)]
    unsafe fn set_scores(sums: Pair, offset: i32, scales: *const f32, unit: f32, to: *mut f32) {
        // SAFETY: see `zero`.
        unsafe { Neon::set_scores(sums, offset, scales, unit, to) }
    }

    #[inline(always)]
    unsafe fn add_scaled(to: *mut f32, shrink: f32, sums: Pair, unit: f32) {
        // SAFETY: see `zero`.
        unsafe { Neon::add_scaled(to, shrink, sums, unit) }
    }

    #[inline(always)]
    unsafe fn split(levels: &[i32], to: *mut i32, second: usize) {
        // SAFETY: see `zero`.
        unsafe { split_terms(levels, to, second) }
    }
}

/// Adds products of unsigned with signed bytes, four for each lane.
#[inline(always)]
unsafe fn add_bytes(sums: int32x4_t, unsigned: int32x4_t, signed: int32x4_t) -> int32x4_t {
    // SAFETY: the promises of `Dots`.
    unsafe { usdot(sums, vreinterpretq_u8_s32(unsigned), vreinterpretq_s8_s32(signed)) }
}
