//! Tasks and dot products for AVX-512 with VNNI.

use std::arch::x86_64::*;

use super::{
    Attention,
    contract::{CachePools, OutputRows},
    int8::{Dots, LOW_BITS, split_terms},
    vector::run_vector,
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
    unsafe fn store(sums: __m512i, to: *mut i32) {
        // SAFETY: see `zero`.
        unsafe { _mm512_storeu_si512(to.cast(), sums) }
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
}
