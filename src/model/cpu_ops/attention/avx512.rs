//! Tasks and dot products for AVX-512 with VNNI.

use std::arch::x86_64::*;

use super::{
    Attention,
    cache::{BLOCK, LANES},
    contract::{CachePools, OutputRows},
    int8::{Dots, LOW_BITS, QUAD, WEIGHT_LEVELS, split_terms},
    softmax::Softmax,
    vector::run_vector,
};
use crate::model::cpu_ops::{
    exp2::{COEFFICIENTS, LEAST},
    rounding::{ROUNDER, unit_of_largest},
};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
pub(super) unsafe fn task_avx512_vnni(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    // SAFETY: the caller's promises.
    unsafe { run_vector::<Avx512>(attention, pools, output, task) }
}

/// Parts are high and low terms.
struct Avx512;

impl Dots for Avx512 {
    type Vector = __m512i;
    const LANES: usize = 16;
    const ROWS: usize = 6;
    const ONE_SUM: bool = false;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the promises of `Dots`; so below.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const i32) -> __m512i {
        // SAFETY: see `zero`.
        unsafe { _mm512_set1_epi32(from.read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn keys(from: *const u8) -> [__m512i; 2] {
        // SAFETY: see `zero`.
        unsafe { [_mm512_loadu_si512(from.cast()); 2] }
    }

    #[inline(always)]
    unsafe fn values(from: *const u8) -> [__m512i; 2] {
        // SAFETY: see `zero`.
        unsafe { Self::keys(from) }
    }

    #[inline(always)]
    unsafe fn add_keys(sums: __m512i, keys: __m512i, levels: __m512i) -> __m512i {
        // SAFETY: see `zero`.
        unsafe { _mm512_dpbusd_epi32(sums, keys, levels) }
    }

    #[inline(always)]
    unsafe fn add_values(sums: __m512i, values: __m512i, levels: __m512i) -> __m512i {
        // SAFETY: see `zero`.
        unsafe { _mm512_dpbusd_epi32(sums, levels, values) }
    }

    #[inline(always)]
    unsafe fn total(parts: [__m512i; 2]) -> __m512i {
        // SAFETY: see `zero`.
        unsafe { _mm512_add_epi32(_mm512_slli_epi32::<LOW_BITS>(parts[0]), parts[1]) }
    }

    #[inline(always)]
    unsafe fn set_scores(sums: __m512i, offset: i32, scales: *const f32, unit: f32, to: *mut f32) {
        // SAFETY: see `zero`.
        unsafe {
            let products = _mm512_cvtepi32_ps(_mm512_add_epi32(sums, _mm512_set1_epi32(offset)));
            let units = _mm512_mul_ps(_mm512_loadu_ps(scales), _mm512_set1_ps(unit));
            _mm512_storeu_ps(to, _mm512_mul_ps(products, units));
        }
    }

    #[inline(always)]
    unsafe fn add_scaled(to: *mut f32, shrink: f32, sums: __m512i, unit: f32) {
        // SAFETY: see `zero`.
        unsafe {
            let before = _mm512_mul_ps(_mm512_loadu_ps(to), _mm512_set1_ps(shrink));
            _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(unit), before));
        }
    }

    #[inline(always)]
    unsafe fn split(levels: &[i32], to: *mut i32, second: usize) {
        // SAFETY: see `zero`.
        unsafe { split_terms(levels, to, second) }
    }

    /// Written out: of the common code a compiler makes steps of two and of one value here.
    #[inline(always)]
    unsafe fn weigh(softmax: &mut Softmax, scores: &mut [f32; BLOCK], seen: usize) -> f32 {
        // SAFETY: see `zero`; all memory is that of the arguments.
        unsafe {
            let (halves, seen) = (scores.as_mut_ptr(), seen_by_half(seen));
            let low = _mm512_mask_mov_ps(_mm512_set1_ps(f32::NEG_INFINITY), seen[0], _mm512_loadu_ps(halves));
            let high = _mm512_loadu_ps(halves.add(LANES));
            let high = _mm512_mask_mov_ps(_mm512_set1_ps(f32::NEG_INFINITY), seen[1], high);
            let before = _mm_set_ss(softmax.max);
            let max = _mm_max_ss(before, greatest(_mm512_max_ps(low, high)));
            let shrink = exp2(_mm512_broadcastss_ps(_mm_sub_ss(before, max)));
            let greatest = _mm512_broadcastss_ps(max);
            let (low, high) = (exp2(_mm512_sub_ps(low, greatest)), exp2(_mm512_sub_ps(high, greatest)));
            _mm512_storeu_ps(halves, low);
            _mm512_storeu_ps(halves.add(LANES), high);
            let totals = softmax.totals.as_mut_ptr();
            let earlier = _mm512_mul_ps(_mm512_loadu_ps(totals), shrink);
            _mm512_storeu_ps(totals, _mm512_add_ps(earlier, _mm512_add_ps(low, high)));
            softmax.max = _mm_cvtss_f32(max);
            _mm512_cvtss_f32(shrink)
        }
    }

    #[inline(always)]
    unsafe fn set_weights(weights: &[f32; BLOCK], scales: &[f32; BLOCK], seen: usize, to: *mut i32) -> f32 {
        // SAFETY: see `zero`; `to` has two lanes for each quad, first all high terms.
        unsafe {
            let seen = seen_by_half(seen);
            let (weights, scales) = (weights.as_ptr(), scales.as_ptr());
            // A weight of zero would not keep out what is beyond `seen`.
            let low = _mm512_mul_ps(_mm512_loadu_ps(weights), _mm512_maskz_loadu_ps(seen[0], scales));
            let scales = _mm512_maskz_loadu_ps(seen[1], scales.add(LANES));
            let high = _mm512_mul_ps(_mm512_loadu_ps(weights.add(LANES)), scales);
            // Magnitudes are ordered as their bits are; see `unit_of`.
            let magnitudes = [_mm512_castps_si512(_mm512_abs_ps(low)), _mm512_castps_si512(_mm512_abs_ps(high))];
            let largest = _mm512_reduce_max_epu32(_mm512_max_epu32(magnitudes[0], magnitudes[1]));
            let (unit, factor) = unit_of_largest(f32::from_bits(largest), WEIGHT_LEVELS);
            let factor = _mm512_set1_ps(factor);
            set_levels(_mm512_mul_ps(low, factor), to);
            set_levels(_mm512_mul_ps(high, factor), to.add(LANES / QUAD));
            unit
        }
    }
}

/// Rounds sixteen values to levels, and writes their terms.
#[inline(always)]
unsafe fn set_levels(values: __m512, to: *mut i32) {
    // SAFETY: the processor knows the instructions, and there is room for the terms of a block's half.
    unsafe {
        let rounder = _mm512_set1_ps(ROUNDER);
        let rounded = _mm512_castps_si512(_mm512_add_ps(values, rounder));
        let levels = _mm512_sub_epi32(rounded, _mm512_castps_si512(rounder));
        let low = _mm512_and_si512(levels, _mm512_set1_epi32((1 << LOW_BITS) - 1));
        _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_srai_epi32::<LOW_BITS>(levels)));
        _mm_storeu_si128(to.add(BLOCK / QUAD).cast(), _mm512_cvtepi32_epi8(low));
    }
}

/// The tokens of each half of a block that are seen.
#[inline(always)]
fn seen_by_half(seen: usize) -> [__mmask16; 2] {
    let seen = u32::MAX >> (BLOCK - seen);
    [seen as __mmask16, (seen >> LANES) as __mmask16]
}

/// The greatest lane, compared in the order of [`Softmax::weigh`].
#[inline(always)]
unsafe fn greatest(sixteen: __m512) -> __m128 {
    // SAFETY: the processor knows the instructions.
    unsafe {
        let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sixteen)));
        let eight = _mm256_max_ps(_mm512_castps512_ps256(sixteen), upper);
        let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_max_ss(two, _mm_movehdup_ps(two))
    }
}

/// [`crate::model::cpu_ops::exp2::exp2`], step by step.
#[inline(always)]
unsafe fn exp2(x: __m512) -> __m512 {
    // SAFETY: the processor knows the instructions.
    unsafe {
        let rounder = _mm512_set1_ps(ROUNDER);
        // The order of operands keeps what is not a number.
        let x = _mm512_max_ps(_mm512_set1_ps(LEAST), x);
        let rounded = _mm512_add_ps(x, rounder);
        let rest = _mm512_sub_ps(x, _mm512_sub_ps(rounded, rounder));
        let mut power = _mm512_set1_ps(COEFFICIENTS[0]);
        for coefficient in &COEFFICIENTS[1..] {
            power = _mm512_add_ps(_mm512_mul_ps(power, rest), _mm512_set1_ps(*coefficient));
        }
        let exponent = _mm512_sub_epi32(_mm512_castps_si512(rounded), _mm512_castps_si512(rounder));
        let exponent = _mm512_slli_epi32::<23>(_mm512_add_epi32(exponent, _mm512_set1_epi32(127)));
        _mm512_mul_ps(power, _mm512_castsi512_ps(exponent))
    }
}
