//! Kernels for x86-64.

#![expect(clippy::needless_range_loop, reason = "an index counts registers and memory alike")]

use std::arch::x86_64::*;

use super::{
    NIBBLE_OFFSET, PANEL, QUAD, ZERO_POINT_BYTES, ZERO_VALUE,
    activations::{LINE, LOW_BITS, RowWriter, Terms},
    contract::{Coarse, Groups, Kernel, Tile, Widened, by_rows},
};

/// Bytes of a panel's weights for one quad of inputs.
const QUAD_BYTES: usize = PANEL * QUAD;

/// How far ahead weights are fetched into the second-level cache, in bytes.
const AHEAD: usize = 8192;

/// AVX-512 with VNNI.
pub(super) const AVX512_VNNI: Kernel = Kernel {
    round: round_avx512,
    tile: tile_avx512_vnni,
    tile_rows: 5,
    span: 256,
    unpack: unpack_avx2,
    unpack_groups: unpack_groups_avx2,
    widened: None,
    coarse: Some(Coarse { tile: tile_coarse_avx512_vnni, tile_rows: 10 }),
};

/// AVX-VNNI, which is AVX2 with 8-bit dot products.
pub(super) const AVX_VNNI: Kernel = Kernel {
    round: round_avx_vnni,
    tile: tile_avx_vnni,
    tile_rows: 3,
    span: 256,
    unpack: unpack_avx2,
    unpack_groups: unpack_groups_avx2,
    widened: None,
    coarse: Some(Coarse { tile: tile_coarse_avx_vnni, tile_rows: 5 }),
};

/// Without weights to widen there are registers for six rows.
pub(super) const AVX2: Kernel = Kernel {
    round: round_avx2,
    tile: tile_avx2,
    tile_rows: 4,
    span: 128,
    unpack: unpack_avx2,
    unpack_groups: unpack_groups_avx2,
    widened: Some(Widened { widen: widen_avx2, tile: tile_widened_avx2, tile_rows: 6, from_rows: 48 }),
    coarse: None,
};

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn round_avx512(rows: RowWriter, row: usize, values: &[f32]) {
    // SAFETY: the caller's promises.
    unsafe { rows.set(Terms::Bytes, row, values) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn round_avx_vnni(rows: RowWriter, row: usize, values: &[f32]) {
    // SAFETY: the caller's promises.
    unsafe { rows.set(Terms::Bytes, row, values) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn round_avx2(rows: RowWriter, row: usize, values: &[f32]) {
    // SAFETY: the caller's promises.
    unsafe { rows.set(Terms::Words, row, values) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile_avx512_vnni(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_avx512_vnni_of, 2 terms, 1 2 3 4 5) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile_coarse_avx512_vnni(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_avx512_vnni_of, 1 terms, 1 2 3 4 5 6 7 8 9 10) }
}

/// A row's products with a panel take two registers for each term, so that weights are loaded once for both terms. Low terms
/// that are all zero are left out with `TERMS` 1.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile_avx512_vnni_of<const ROWS: usize, const TERMS: usize>(tile: Tile) {
    let Tile { groups, lines_per_group, stride, .. } = tile;
    // SAFETY: the promises of `TileFn`, with `ROWS` rows; fetching ahead does not access memory.
    unsafe {
        for group in 0..groups {
            let (units, offsets) = (tile.units.add(group * stride), tile.offsets.add(group * stride));
            let mut products = [[[_mm512_setzero_si512(); 2]; TERMS]; ROWS];
            for row in 0..ROWS {
                products[row][0] = [_mm512_set1_epi32(*offsets.add(row)); 2];
            }
            for line in group * lines_per_group..(group + 1) * lines_per_group {
                let values = tile.values.add(line * LINE * PANEL);
                let lines = tile.lines.add(line * stride).cast::<u8>();
                for quad in 0..LINE / QUAD {
                    let values = values.add(quad * QUAD_BYTES);
                    _mm_prefetch::<_MM_HINT_T1>(values.wrapping_add(AHEAD).cast());
                    _mm_prefetch::<_MM_HINT_T1>(values.wrapping_add(AHEAD + 64).cast());
                    let left = _mm512_loadu_si512(values.cast());
                    let right = _mm512_loadu_si512(values.add(64).cast());
                    for row in 0..ROWS {
                        let terms = lines.add(row * 2 * LINE + quad * QUAD).cast::<i32>();
                        for term in 0..TERMS {
                            let levels = _mm512_set1_epi32(terms.add(term * LINE / QUAD).read());
                            let [first, second] = &mut products[row][term];
                            *first = _mm512_dpbusd_epi32(*first, left, levels);
                            *second = _mm512_dpbusd_epi32(*second, right, levels);
                        }
                    }
                }
            }
            let scales = tile.scales.add(group * PANEL);
            for half in 0..2 {
                let scale = _mm512_cvtepu16_epi32(_mm256_loadu_si256(scales.add(half * 16).cast()));
                let scale = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(scale));
                for row in 0..ROWS {
                    let mut product = _mm512_slli_epi32::<LOW_BITS>(products[row][0][half]);
                    if TERMS == 2 {
                        product = _mm512_add_epi32(product, products[row][TERMS - 1][half]);
                    }
                    let factor = _mm512_mul_ps(scale, _mm512_set1_ps(*units.add(row)));
                    let sums = tile.sums.add(row).cast::<f32>().add(half * 16);
                    let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product), factor, _mm512_loadu_ps(sums));
                    _mm512_storeu_ps(sums, sum);
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn tile_avx_vnni(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_avx_vnni_of, 2 terms, 1 2 3) }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn tile_coarse_avx_vnni(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_avx_vnni_of, 1 terms, 1 2 3 4 5) }
}

/// Half a panel at a time, with both terms as above: a row takes four registers.
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn tile_avx_vnni_of<const ROWS: usize, const TERMS: usize>(tile: Tile) {
    let Tile { groups, lines_per_group, stride, .. } = tile;
    // SAFETY: the promises of `TileFn`, with `ROWS` rows; fetching ahead does not access memory.
    unsafe {
        for group in 0..groups {
            let (units, offsets) = (tile.units.add(group * stride), tile.offsets.add(group * stride));
            for half in 0..2 {
                let mut products = [[[_mm256_setzero_si256(); 2]; TERMS]; ROWS];
                for row in 0..ROWS {
                    products[row][0] = [_mm256_set1_epi32(*offsets.add(row)); 2];
                }
                for line in group * lines_per_group..(group + 1) * lines_per_group {
                    let values = tile.values.add(line * LINE * PANEL + half * QUAD_BYTES / 2);
                    let lines = tile.lines.add(line * stride).cast::<u8>();
                    for quad in 0..LINE / QUAD {
                        let values = values.add(quad * QUAD_BYTES);
                        _mm_prefetch::<_MM_HINT_T1>(values.wrapping_add(AHEAD).cast());
                        let left = _mm256_loadu_si256(values.cast());
                        let right = _mm256_loadu_si256(values.add(32).cast());
                        for row in 0..ROWS {
                            let terms = lines.add(row * 2 * LINE + quad * QUAD).cast::<i32>();
                            for term in 0..TERMS {
                                let levels = _mm256_set1_epi32(terms.add(term * LINE / QUAD).read());
                                let [first, second] = &mut products[row][term];
                                *first = _mm256_dpbusd_avx_epi32(*first, left, levels);
                                *second = _mm256_dpbusd_avx_epi32(*second, right, levels);
                            }
                        }
                    }
                }
                let mut whole = [[_mm256_setzero_si256(); 2]; ROWS];
                for row in 0..ROWS {
                    for side in 0..2 {
                        whole[row][side] = _mm256_slli_epi32::<{ LOW_BITS as i32 }>(products[row][0][side]);
                        if TERMS == 2 {
                            whole[row][side] = _mm256_add_epi32(whole[row][side], products[row][TERMS - 1][side]);
                        }
                    }
                }
                add_half_panel(&tile, group, half, units, &whole);
            }
        }
    }
}

/// Adds a group's products with half a panel to the sums.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_half_panel<const ROWS: usize>(
    tile: &Tile,
    group: usize,
    half: usize,
    units: *const f32,
    products: &[[__m256i; 2]; ROWS],
) {
    // SAFETY: the promises of `TileFn`, with `ROWS` rows.
    unsafe {
        let scales = tile.scales.add(group * PANEL + half * PANEL / 2);
        for side in 0..2 {
            let scale = _mm256_cvtepu16_epi32(_mm_loadu_si128(scales.add(side * 8).cast()));
            let scale = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(scale));
            for row in 0..ROWS {
                let factor = _mm256_mul_ps(scale, _mm256_set1_ps(*units.add(row)));
                let sums = tile.sums.add(row).cast::<f32>().add(half * PANEL / 2 + side * 8);
                let product = _mm256_cvtepi32_ps(products[row][side]);
                _mm256_storeu_ps(sums, _mm256_fmadd_ps(product, factor, _mm256_loadu_ps(sums)));
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_avx2(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_avx2_of, 1 2 3 4) }
}

/// Levels and weights as 16-bit words, whose products cannot saturate. A quarter of the panel's outputs takes one
/// register a row; half a panel is worked on at a time.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_avx2_of<const ROWS: usize>(tile: Tile) {
    let Tile { groups, lines_per_group, stride, .. } = tile;
    // SAFETY: the promises of `TileFn`, with `ROWS` rows; fetching ahead does not access memory.
    unsafe {
        let even = _mm256_set1_epi16(0x00ff);
        for group in 0..groups {
            let (units, offsets) = (tile.units.add(group * stride), tile.offsets.add(group * stride));
            for half in 0..2 {
                let mut products = [[_mm256_setzero_si256(); 2]; ROWS];
                for row in 0..ROWS {
                    products[row] = [_mm256_set1_epi32(*offsets.add(row) << LOW_BITS); 2];
                }
                for line in group * lines_per_group..(group + 1) * lines_per_group {
                    let values = tile.values.add(line * LINE * PANEL + half * QUAD_BYTES / 2);
                    let lines = tile.lines.add(line * stride).cast::<u8>();
                    for quad in 0..LINE / QUAD {
                        let values = values.add(quad * QUAD_BYTES);
                        _mm_prefetch::<_MM_HINT_T1>(values.wrapping_add(AHEAD).cast());
                        let left = _mm256_loadu_si256(values.cast());
                        let right = _mm256_loadu_si256(values.add(32).cast());
                        let values =
                            [left, right].map(|lanes| [_mm256_and_si256(lanes, even), _mm256_srli_epi16::<8>(lanes)]);
                        for row in 0..ROWS {
                            let levels = lines.add(row * 2 * LINE + quad * 2 * QUAD).cast::<i32>();
                            for parity in 0..2 {
                                let levels = _mm256_set1_epi32(levels.add(parity).read());
                                for side in 0..2 {
                                    let pair = _mm256_madd_epi16(values[side][parity], levels);
                                    products[row][side] = _mm256_add_epi32(products[row][side], pair);
                                }
                            }
                        }
                    }
                }
                add_half_panel(&tile, group, half, units, &products);
            }
        }
    }
}

/// Of a byte the lower bits are of one quad, the upper ones of the next.
#[target_feature(enable = "avx2")]
unsafe fn unpack_avx2(packed: *const u8, lines: usize, values: *mut u8) {
    let (low, offset) = (_mm256_set1_epi8(15), _mm256_set1_epi8(NIBBLE_OFFSET as i8));
    // SAFETY: the promises of `UnpackFn`; fetching ahead does not access memory.
    unsafe {
        for pair in 0..lines * LINE / (2 * QUAD) {
            let packed = packed.add(pair * QUAD_BYTES);
            let values = values.add(pair * 2 * QUAD_BYTES);
            _mm_prefetch::<_MM_HINT_T1>(packed.wrapping_add(AHEAD).cast());
            _mm_prefetch::<_MM_HINT_T1>(packed.wrapping_add(AHEAD + 64).cast());
            for part in (0..QUAD_BYTES).step_by(32) {
                let both = _mm256_loadu_si256(packed.add(part).cast());
                let first = _mm256_and_si256(both, low);
                let second = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
                _mm256_storeu_si256(values.add(part).cast(), _mm256_add_epi8(first, offset));
                _mm256_storeu_si256(values.add(QUAD_BYTES + part).cast(), _mm256_add_epi8(second, offset));
            }
        }
    }
}

/// As [`unpack_avx2`], with an offset for each output, made once for a group.
#[target_feature(enable = "avx2")]
unsafe fn unpack_groups_avx2(groups: Groups) {
    let low = _mm256_set1_epi8(15);
    let pairs = groups.lines_per_group * LINE / (2 * QUAD);
    // SAFETY: the promises of `Groups`; fetching ahead does not access memory.
    unsafe {
        for group in 0..groups.groups {
            let offsets = offsets_avx2(groups.zero_points.add(group * ZERO_POINT_BYTES));
            for pair in group * pairs..(group + 1) * pairs {
                let packed = groups.packed.add(pair * QUAD_BYTES);
                let values = groups.values.add(pair * 2 * QUAD_BYTES);
                _mm_prefetch::<_MM_HINT_T1>(packed.wrapping_add(AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T1>(packed.wrapping_add(AHEAD + 64).cast());
                for part in 0..4 {
                    let (at, offset) = (part * 32, offsets[part]);
                    let both = _mm256_loadu_si256(packed.add(at).cast());
                    let first = _mm256_and_si256(both, low);
                    let second = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
                    _mm256_storeu_si256(values.add(at).cast(), _mm256_add_epi8(first, offset));
                    _mm256_storeu_si256(values.add(QUAD_BYTES + at).cast(), _mm256_add_epi8(second, offset));
                }
            }
        }
    }
}

/// What a group's values of 4 bits lack, for each byte of a quad: the same for four inputs of an output.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn offsets_avx2(zero_points: *const u8) -> [__m256i; 4] {
    // SAFETY: the caller's pointer is good for a group's zero points.
    let both = unsafe { _mm_loadu_si128(zero_points.cast()) };
    let (low, zero) = (_mm_set1_epi8(15), _mm_set1_epi8(ZERO_VALUE as i8));
    // The first half of the panel's outputs is in the lower bits.
    let [first, second] = [both, _mm_srli_epi16::<4>(both)]
        .map(|half| _mm256_broadcastsi128_si256(_mm_sub_epi8(zero, _mm_and_si128(half, low))));
    let lanes = _mm256_setr_epi8(
        0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7,
    );
    let next = _mm256_add_epi8(lanes, _mm256_set1_epi8(8));
    [
        _mm256_shuffle_epi8(first, lanes),
        _mm256_shuffle_epi8(first, next),
        _mm256_shuffle_epi8(second, lanes),
        _mm256_shuffle_epi8(second, next),
    ]
}

/// Of each half of a panel and each quad the even inputs of 16 outputs, then the odd ones.
#[target_feature(enable = "avx2")]
unsafe fn widen_avx2(values: *const u8, lines: usize, words: *mut i16) {
    let even = _mm256_set1_epi16(0x00ff);
    // SAFETY: the promises of `Widened`: so many lines of weights, and room for as many words; fetching ahead does not
    // access memory.
    unsafe {
        for line in 0..lines {
            for half in 0..2 {
                for quad in 0..LINE / QUAD {
                    let values = values.add(line * LINE * PANEL + quad * QUAD_BYTES + half * QUAD_BYTES / 2);
                    let words = words.add((line * 2 + half) * LINE * PANEL / 2 + quad * QUAD_BYTES / 2);
                    _mm_prefetch::<_MM_HINT_T1>(values.wrapping_add(AHEAD).cast());
                    for side in 0..2 {
                        let lanes = _mm256_loadu_si256(values.add(side * 32).cast());
                        let (even, odd) = (_mm256_and_si256(lanes, even), _mm256_srli_epi16::<8>(lanes));
                        _mm256_storeu_si256(words.add(side * 16).cast(), even);
                        _mm256_storeu_si256(words.add(32 + side * 16).cast(), odd);
                    }
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_widened_avx2(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_widened_avx2_of, 1 2 3 4 5 6) }
}

/// As [`tile_avx2_of`], on words. A row's sums take two registers, weights two, and levels and a product one each.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_widened_avx2_of<const ROWS: usize>(tile: Tile) {
    let Tile { groups, lines_per_group, stride, .. } = tile;
    // SAFETY: the promises of `TileFn`, with `ROWS` rows, and words of all of the tile's lines.
    unsafe {
        for group in 0..groups {
            let (units, offsets) = (tile.units.add(group * stride), tile.offsets.add(group * stride));
            for half in 0..2 {
                let mut products = [[_mm256_setzero_si256(); 2]; ROWS];
                for row in 0..ROWS {
                    products[row] = [_mm256_set1_epi32(*offsets.add(row) << LOW_BITS); 2];
                }
                for line in group * lines_per_group..(group + 1) * lines_per_group {
                    let words = tile.words.add((line * 2 + half) * LINE * PANEL / 2);
                    let lines = tile.lines.add(line * stride).cast::<i32>();
                    for pair in 0..LINE / 2 {
                        let left = _mm256_loadu_si256(words.add(pair * PANEL).cast());
                        let right = _mm256_loadu_si256(words.add(pair * PANEL + 16).cast());
                        for row in 0..ROWS {
                            let levels = _mm256_set1_epi32(lines.add(row * LINE / 2 + pair).read());
                            let [first, second] = &mut products[row];
                            *first = _mm256_add_epi32(*first, _mm256_madd_epi16(left, levels));
                            *second = _mm256_add_epi32(*second, _mm256_madd_epi16(right, levels));
                        }
                    }
                }
                add_half_panel(&tile, group, half, units, &products);
            }
        }
    }
}
