//! Tasks and dot products for 64-bit ARM, with and without 8-bit products.

use std::{arch::aarch64::*, marker::PhantomData};

use super::{
    Attention,
    cache::BLOCK,
    contract::{CachePools, OutputRows},
    int8::{Dots, LOW_BITS, QUAD, split_terms, split_words},
    vector::run_vector,
};
use crate::model::cpu_ops::dot_products::{sdot_lane, sudot_lane, udot_lane, usdot_lane};

pub(super) unsafe fn task_neon(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    // SAFETY: the caller's promises.
    unsafe { run_vector::<Neon>(attention, pools, output, task) }
}

#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn task_dotprod(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    // SAFETY: the caller's promises.
    unsafe { run_vector::<Terms<SameSigns>>(attention, pools, output, task) }
}

#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn task_i8mm(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    // SAFETY: the caller's promises.
    unsafe { run_vector::<Terms<MixedSigns>>(attention, pools, output, task) }
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

/// Parts are high and low terms, multiplied by 8-bit products of one kind.
struct Terms<P>(PhantomData<P>);

/// 8-bit products of four bytes with the first four of another register, which are added to each lane.
///
/// # Safety
/// The processor knows the instructions.
trait Products {
    const KEY_OFFSET: i32;

    /// Keys, stored as unsigned bytes with an offset, as `add_keys` takes them.
    unsafe fn keys(stored: uint8x16_t) -> uint8x16_t;
    /// Values, stored as signed bytes, as `add_values` takes them.
    unsafe fn values(stored: uint8x16_t) -> uint8x16_t;
    /// Adds products of keys with signed terms.
    unsafe fn add_keys(sums: int32x4_t, keys: uint8x16_t, terms: int8x8_t) -> int32x4_t;
    /// Adds products of values with unsigned terms.
    unsafe fn add_values(sums: int32x4_t, values: uint8x16_t, terms: int8x8_t) -> int32x4_t;
    /// See [`Dots::corrected`].
    unsafe fn correction(parts: &[i32; 2 * BLOCK / QUAD]) -> i32;
}

/// Signs of both factors are the same: terms of queries are signed, so keys lose their offset; those of weights are not, so
/// values get one.
struct SameSigns;

impl Products for SameSigns {
    const KEY_OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn keys(stored: uint8x16_t) -> uint8x16_t {
        // SAFETY: the instructions are of every processor of the architecture.
        unsafe { veorq_u8(stored, vdupq_n_u8(0x80)) }
    }

    #[inline(always)]
    unsafe fn values(stored: uint8x16_t) -> uint8x16_t {
        // SAFETY: see `keys`.
        unsafe { veorq_u8(stored, vdupq_n_u8(0x80)) }
    }

    #[inline(always)]
    unsafe fn add_keys(sums: int32x4_t, keys: uint8x16_t, terms: int8x8_t) -> int32x4_t {
        // SAFETY: the promises of `Products`; so below.
        unsafe { sdot_lane(sums, vreinterpretq_s8_u8(keys), terms) }
    }

    #[inline(always)]
    unsafe fn add_values(sums: int32x4_t, values: uint8x16_t, terms: int8x8_t) -> int32x4_t {
        // SAFETY: see `add_keys`.
        unsafe { udot_lane(sums, values, vreinterpret_u8_s8(terms)) }
    }

    #[inline(always)]
    unsafe fn correction(parts: &[i32; 2 * BLOCK / QUAD]) -> i32 {
        let sum = |part: usize| -> i32 {
            let quads = &parts[part * BLOCK / QUAD..(part + 1) * BLOCK / QUAD];
            quads.iter().flat_map(|quad| quad.to_ne_bytes()).map(i32::from).sum()
        };
        -128 * ((sum(0) << LOW_BITS) + sum(1))
    }
}

/// Signs of the factors differ.
struct MixedSigns;

impl Products for MixedSigns {
    const KEY_OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn keys(stored: uint8x16_t) -> uint8x16_t {
        stored
    }

    #[inline(always)]
    unsafe fn values(stored: uint8x16_t) -> uint8x16_t {
        stored
    }

    #[inline(always)]
    unsafe fn add_keys(sums: int32x4_t, keys: uint8x16_t, terms: int8x8_t) -> int32x4_t {
        // SAFETY: the promises of `Products`; so below.
        unsafe { usdot_lane(sums, keys, terms) }
    }

    #[inline(always)]
    unsafe fn add_values(sums: int32x4_t, values: uint8x16_t, terms: int8x8_t) -> int32x4_t {
        // SAFETY: see `add_keys`.
        unsafe { sudot_lane(sums, vreinterpretq_s8_u8(values), vreinterpret_u8_s8(terms)) }
    }

    #[inline(always)]
    unsafe fn correction(_: &[i32; 2 * BLOCK / QUAD]) -> i32 {
        0
    }
}

impl<P: Products> Dots for Terms<P> {
    type Vector = Pair;
    const LANES: usize = 8;
    const ROWS: usize = 3;
    const ONE_SUM: bool = false;
    const KEY_OFFSET: i32 = P::KEY_OFFSET;

    #[inline(always)]
    unsafe fn zero() -> Pair {
        // SAFETY: the promises of `Dots`; so below.
        unsafe { Neon::zero() }
    }

    /// The first lane is all that products by a lane read: a plain load, where one that fills all lanes takes a port of the
    /// products.
    #[inline(always)]
    unsafe fn splat(from: *const i32) -> Pair {
        // SAFETY: see `zero`.
        unsafe { [vsetq_lane_s32::<0>(from.read_unaligned(), vdupq_n_s32(0)); 2] }
    }

    #[inline(always)]
    unsafe fn keys(from: *const u8) -> [Pair; 2] {
        // SAFETY: see `zero`.
        unsafe { [[0, 16].map(|at| vreinterpretq_s32_u8(P::keys(vld1q_u8(from.add(at))))); 2] }
    }

    #[inline(always)]
    unsafe fn values(from: *const u8) -> [Pair; 2] {
        // SAFETY: see `zero`.
        unsafe { [[0, 16].map(|at| vreinterpretq_s32_u8(P::values(vld1q_u8(from.add(at))))); 2] }
    }

    #[inline(always)]
    unsafe fn add_keys(sums: Pair, keys: Pair, levels: Pair) -> Pair {
        // SAFETY: see `zero`.
        unsafe { [0, 1].map(|half| P::add_keys(sums[half], vreinterpretq_u8_s32(keys[half]), first_lane(levels))) }
    }

    #[inline(always)]
    unsafe fn add_values(sums: Pair, values: Pair, levels: Pair) -> Pair {
        // SAFETY: see `zero`.
        unsafe { [0, 1].map(|half| P::add_values(sums[half], vreinterpretq_u8_s32(values[half]), first_lane(levels))) }
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
    unsafe fn corrected(sums: Pair, parts: &[i32; 2 * BLOCK / QUAD]) -> Pair {
        // SAFETY: see `zero`.
        unsafe { sums.map(|sums| vaddq_s32(sums, vdupq_n_s32(P::correction(parts)))) }
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

#[inline(always)]
unsafe fn first_lane(levels: Pair) -> int8x8_t {
    // SAFETY: the instruction is of every processor of the architecture.
    unsafe { vreinterpret_s8_s32(vget_low_s32(levels[0])) }
}
