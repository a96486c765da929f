//! Tasks and dot products for AVX2, with and without VNNI.

use std::arch::x86_64::*;

use super::{
    Attention,
    contract::{CachePools, OutputRows},
    int8::{Dots, LOW_BITS, split_terms, split_words},
    vector::run_vector,
};

#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn task_avx2(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    // SAFETY: the caller's promises.
    unsafe { run_vector::<Avx2>(attention, pools, output, task) }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) unsafe fn task_avx_vnni(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    // SAFETY: the caller's promises.
    unsafe { run_vector::<AvxVnni>(attention, pools, output, task) }
}

/// Parts are even and odd levels as 16-bit words, whose products cannot saturate.
struct Avx2;

impl Dots for Avx2 {
    type Vector = __m256i;
    const LANES: usize = 8;
    const ROWS: usize = 4;
    const ONE_SUM: bool = true;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the promises of `Dots`; so below.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const i32) -> __m256i {
        // SAFETY: see `zero`.
        unsafe { _mm256_set1_epi32(from.read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn keys(from: *const u8) -> [__m256i; 2] {
        // SAFETY: see `zero`.
        unsafe {
            let keys = _mm256_loadu_si256(from.cast());
            [_mm256_and_si256(keys, _mm256_set1_epi16(0x00ff)), _mm256_srli_epi16::<8>(keys)]
        }
    }

    #[inline(always)]
    unsafe fn values(from: *const u8) -> [__m256i; 2] {
        // SAFETY: see `zero`.
        unsafe {
            let values = _mm256_loadu_si256(from.cast());
            [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(values)), _mm256_srai_epi16::<8>(values)]
        }
    }

    #[inline(always)]
    unsafe fn add_keys(sums: __m256i, keys: __m256i, levels: __m256i) -> __m256i {
        // SAFETY: see `zero`.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(keys, levels)) }
    }

    #[inline(always)]
    unsafe fn add_values(sums: __m256i, values: __m256i, levels: __m256i) -> __m256i {
        // SAFETY: see `zero`.
        unsafe { Self::add_keys(sums, values, levels) }
    }

    #[inline(always)]
    unsafe fn total(parts: [__m256i; 2]) -> __m256i {
        // SAFETY: see `zero`.
        unsafe { _mm256_add_epi32(parts[0], parts[1]) }
    }

    #[inline(always)]
    unsafe fn set_scores(sums: __m256i, offset: i32, scales: *const f32, unit: f32, to: *mut f32) {
        // SAFETY: see `zero`.
        unsafe {
            let products = _mm256_cvtepi32_ps(_mm256_add_epi32(sums, _mm256_set1_epi32(offset)));
            let units = _mm256_mul_ps(_mm256_loadu_ps(scales), _mm256_set1_ps(unit));
            _mm256_storeu_ps(to, _mm256_mul_ps(products, units));
        }
    }

    #[inline(always)]
    unsafe fn add_scaled(to: *mut f32, shrink: f32, sums: __m256i, unit: f32) {
        // SAFETY: see `zero`.
        unsafe {
            let before = _mm256_mul_ps(_mm256_loadu_ps(to), _mm256_set1_ps(shrink));
            _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(unit), before));
        }
    }

    #[inline(always)]
    unsafe fn split(levels: &[i32], to: *mut i32, second: usize) {
        // SAFETY: see `zero`.
        unsafe { split_words(levels, to, second) }
    }
}

/// Parts are high and low terms.
struct AvxVnni;

impl Dots for AvxVnni {
    type Vector = __m256i;
    const LANES: usize = 8;
    const ROWS: usize = 2;
    const ONE_SUM: bool = false;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the promises of `Dots`; so below.
        unsafe { Avx2::zero() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const i32) -> __m256i {
        // SAFETY: see `zero`.
        unsafe { Avx2::splat(from) }
    }

    #[inline(always)]
    unsafe fn keys(from: *const u8) -> [__m256i; 2] {
        // SAFETY: see `zero`.
        unsafe { [_mm256_loadu_si256(from.cast()); 2] }
    }

    #[inline(always)]
    unsafe fn values(from: *const u8) -> [__m256i; 2] {
        // SAFETY: see `zero`.
        unsafe { Self::keys(from) }
    }

    #[inline(always)]
    unsafe fn add_keys(sums: __m256i, keys: __m256i, levels: __m256i) -> __m256i {
        // SAFETY: see `zero`.
        unsafe { _mm256_dpbusd_avx_epi32(sums, keys, levels) }
    }

    #[inline(always)]
    unsafe fn add_values(sums: __m256i, values: __m256i, levels: __m256i) -> __m256i {
        // SAFETY: see `zero`.
        unsafe { _mm256_dpbusd_avx_epi32(sums, levels, values) }
    }

    #[inline(always)]
    unsafe fn total(parts: [__m256i; 2]) -> __m256i {
        // SAFETY: see `zero`.
        unsafe { _mm256_add_epi32(_mm256_slli_epi32::<{ LOW_BITS as i32 }>(parts[0]), parts[1]) }
    }

    #[inline(always)]
    unsafe fn set_scores(sums: __m256i, offset: i32, scales: *const f32, unit: f32, to: *mut f32) {
        // SAFETY: see `zero`.
        unsafe { Avx2::set_scores(sums, offset, scales, unit, to) }
    }

    #[inline(always)]
    unsafe fn add_scaled(to: *mut f32, shrink: f32, sums: __m256i, unit: f32) {
        // SAFETY: see `zero`.
        unsafe { Avx2::add_scaled(to, shrink, sums, unit) }
    }

    #[inline(always)]
    unsafe fn split(levels: &[i32], to: *mut i32, second: usize) {
        // SAFETY: see `zero`.
        unsafe { split_terms(levels, to, second) }
    }
}
