//! Kernels for 64-bit ARM.

#![expect(clippy::needless_range_loop, reason = "an index counts registers and memory alike")]

use std::arch::aarch64::*;

use super::{
    NIBBLE_OFFSET, PANEL, QUAD, ZERO_POINT_BYTES, ZERO_VALUE,
    activations::{LINE, LOW_BITS, RowWriter, Terms},
    contract::{Coarse, Groups, Kernel, Tile, by_rows},
};
use crate::model::cpu_ops::dot_products::{prefetch, sdot_lane, usdot_lane};

/// Bytes of a panel's weights for one quad of inputs.
const QUAD_BYTES: usize = PANEL * QUAD;

/// How far ahead weights are fetched into the second-level cache, in bytes.
const AHEAD: usize = 4096;

/// Bytes, and so lanes times [`QUAD`], of a register.
const REGISTER: usize = 16;

/// Products of bytes with signs that differ.
pub(super) const NEON_I8MM: Kernel = Kernel {
    round: round_terms,
    tile: tile_i8mm,
    tile_rows: 3,
    span: 256,
    unpack: unpack_neon,
    unpack_groups: unpack_groups_neon,
    widened: None,
    coarse: Some(Coarse { tile: tile_coarse_i8mm, tile_rows: 6 }),
};

/// Products of signed bytes.
pub(super) const NEON_DOTPROD: Kernel = Kernel {
    round: round_terms,
    tile: tile_dotprod,
    tile_rows: 3,
    span: 256,
    unpack: unpack_neon,
    unpack_groups: unpack_groups_neon,
    widened: None,
    coarse: Some(Coarse { tile: tile_coarse_dotprod, tile_rows: 6 }),
};

/// What every processor of the architecture has.
pub(super) const NEON: Kernel = Kernel {
    round: round_words,
    tile: tile_words,
    tile_rows: 5,
    span: 128,
    unpack: unpack_neon,
    unpack_groups: unpack_groups_neon,
    widened: None,
    coarse: None,
};

unsafe fn round_terms(rows: RowWriter, row: usize, values: &[f32]) {
    // SAFETY: the caller's promises.
    unsafe { rows.set(Terms::Bytes, row, values) }
}

unsafe fn round_words(rows: RowWriter, row: usize, values: &[f32]) {
    // SAFETY: the caller's promises.
    unsafe { rows.set(Terms::Words, row, values) }
}

#[target_feature(enable = "neon,i8mm")]
unsafe fn tile_i8mm(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_i8mm_of, 2 terms, 1 2 3) }
}

#[target_feature(enable = "neon,i8mm")]
unsafe fn tile_coarse_i8mm(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_i8mm_of, 1 terms, 1 2 3 4 5 6) }
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn tile_dotprod(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_dotprod_of, 2 terms, 1 2 3) }
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn tile_coarse_dotprod(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_dotprod_of, 1 terms, 1 2 3 4 5 6) }
}

unsafe fn tile_words(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { by_rows!(tile, tile_words_of, 1 2 3 4 5) }
}

/// A tile's products, half a panel at a time, in four registers a row for each term, so that weights are loaded once for both.
/// Low terms that are all zero are left out with `TERMS` 1. The macro's last arguments are where a group's sums begin, what is made of a register of weights, and what adds its
/// products with the first lane of a register of terms.
macro_rules! tile_of_terms {
    ($name:ident, $features:literal, $begin:expr, $weights:expr, $add:expr) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const ROWS: usize, const TERMS: usize>(tile: Tile) {
            let Tile { groups, lines_per_group, stride, .. } = tile;
            // SAFETY: the promises of `TileFn`, with `ROWS` rows.
            unsafe {
                for group in 0..groups {
                    let (units, offsets) = (tile.units.add(group * stride), tile.offsets.add(group * stride));
                    for half in 0..2 {
                        let mut products = [[[vdupq_n_s32(0); 4]; TERMS]; ROWS];
                        for row in 0..ROWS {
                            products[row][0] = [vdupq_n_s32($begin(*offsets.add(row))); 4];
                        }
                        for line in group * lines_per_group..(group + 1) * lines_per_group {
                            let values = tile.values.add(line * LINE * PANEL + half * QUAD_BYTES / 2);
                            let lines = tile.lines.add(line * stride).cast::<u8>();
                            for quad in 0..LINE / QUAD {
                                let values = values.add(quad * QUAD_BYTES);
                                prefetch(values.wrapping_add(AHEAD));
                                let weights = [0, 1, 2, 3].map(|part| $weights(vld1q_u8(values.add(part * REGISTER))));
                                for row in 0..ROWS {
                                    let terms = lines.add(row * 2 * LINE + quad * QUAD).cast::<i32>();
                                    for term in 0..TERMS {
                                        let levels = first_lane(terms.add(term * LINE / QUAD));
                                        for part in 0..4 {
                                            let products = &mut products[row][term][part];
                                            *products = $add(*products, weights[part], levels);
                                        }
                                    }
                                }
                            }
                        }
                        for row in 0..ROWS {
                            for part in 0..4 {
                                let column = half * PANEL / 2 + part * 4;
                                let mut both = vshlq_n_s32::<{ LOW_BITS as i32 }>(products[row][0][part]);
                                if TERMS == 2 {
                                    both = vaddq_s32(both, products[row][TERMS - 1][part]);
                                }
                                add_lanes(&tile, group, units, row, column, both);
                            }
                        }
                    }
                }
            }
        }
    };
}

tile_of_terms!(tile_i8mm_of, "neon,i8mm", |offset| offset, |weights| weights, |sums, weights, terms| {
    usdot_lane(sums, weights, terms)
});

// Weights without their offset are signed bytes, whose products need none made up for.
tile_of_terms!(
    tile_dotprod_of,
    "neon,dotprod",
    |_: i32| 0,
    |weights| vreinterpretq_s8_u8(veorq_u8(weights, vdupq_n_u8(0x80))),
    |sums, weights, terms| sdot_lane(sums, weights, terms)
);

/// Four terms in the first lane of a register: a plain load, where one that fills all lanes takes a port of the products.
#[inline(always)]
unsafe fn first_lane(terms: *const i32) -> int8x8_t {
    // SAFETY: the caller's pointer is good for reading.
    unsafe { vreinterpret_s8_s32(vset_lane_s32::<0>(terms.read(), vdup_n_s32(0))) }
}

/// Levels and weights as 16-bit words, a quarter of the panel at a time. Neighbouring lanes are products of one output,
/// added up at the end of a group.
unsafe fn tile_words_of<const ROWS: usize>(tile: Tile) {
    let Tile { groups, lines_per_group, stride, .. } = tile;
    // SAFETY: the promises of `TileFn`, with `ROWS` rows.
    unsafe {
        let even = vdupq_n_u16(0x00ff);
        for group in 0..groups {
            let (units, offsets) = (tile.units.add(group * stride), tile.offsets.add(group * stride));
            for quarter in 0..4 {
                let mut products = [[[vdupq_n_s32(0); 2]; 2]; ROWS];
                for line in group * lines_per_group..(group + 1) * lines_per_group {
                    let values = tile.values.add(line * LINE * PANEL + quarter * QUAD_BYTES / 4);
                    let lines = tile.lines.add(line * stride).cast::<u8>();
                    for quad in 0..LINE / QUAD {
                        let values = values.add(quad * QUAD_BYTES);
                        prefetch(values.wrapping_add(AHEAD));
                        let weights = [0, 1].map(|part| vreinterpretq_u16_u8(vld1q_u8(values.add(part * REGISTER))));
                        let weights = weights.map(|both| {
                            [vandq_u16(both, even), vshrq_n_u16::<8>(both)].map(|words| vreinterpretq_s16_u16(words))
                        });
                        for row in 0..ROWS {
                            let levels = lines.add(row * 2 * LINE + quad * 2 * QUAD).cast::<i32>();
                            for parity in 0..2 {
                                let levels = vreinterpretq_s16_s32(vld1q_dup_s32(levels.add(parity)));
                                for part in 0..2 {
                                    let [low, high] = &mut products[row][part];
                                    let words = weights[part][parity];
                                    *low = vmlal_s16(*low, vget_low_s16(words), vget_low_s16(levels));
                                    *high = vmlal_high_s16(*high, words, levels);
                                }
                            }
                        }
                    }
                }
                for row in 0..ROWS {
                    let offset = vdupq_n_s32(*offsets.add(row) << LOW_BITS);
                    for part in 0..2 {
                        let [low, high] = products[row][part];
                        let sums = vaddq_s32(vpaddq_s32(low, high), offset);
                        add_lanes(&tile, group, units, row, quarter * PANEL / 4 + part * 4, sums);
                    }
                }
            }
        }
    }
}

/// Adds a group's products with four outputs, from `column` on, to the sums of a row.
#[inline(always)]
unsafe fn add_lanes(tile: &Tile, group: usize, units: *const f32, row: usize, column: usize, products: int32x4_t) {
    // SAFETY: the promises of `TileFn`.
    unsafe {
        let scales = vmovl_u16(vld1_u16(tile.scales.add(group * PANEL + column).cast()));
        let factor = vmulq_n_f32(vreinterpretq_f32_u32(vshlq_n_u32::<16>(scales)), *units.add(row));
        let sums = tile.sums.add(row).cast::<f32>().add(column);
        vst1q_f32(sums, vfmaq_f32(vld1q_f32(sums), vcvtq_f32_s32(products), factor));
    }
}

/// Of a byte the lower bits are of one quad, the upper ones of the next.
unsafe fn unpack_neon(packed: *const u8, lines: usize, values: *mut u8) {
    // SAFETY: the promises of `UnpackFn`.
    unsafe {
        let (low, offset) = (vdupq_n_u8(15), vdupq_n_u8(NIBBLE_OFFSET));
        for pair in 0..lines * LINE / (2 * QUAD) {
            let packed = packed.add(pair * QUAD_BYTES);
            let values = values.add(pair * 2 * QUAD_BYTES);
            prefetch(packed.wrapping_add(AHEAD));
            for part in (0..QUAD_BYTES).step_by(REGISTER) {
                let both = vld1q_u8(packed.add(part));
                vst1q_u8(values.add(part), vaddq_u8(vandq_u8(both, low), offset));
                vst1q_u8(values.add(QUAD_BYTES + part), vaddq_u8(vshrq_n_u8::<4>(both), offset));
            }
        }
    }
}

/// As [`unpack_neon`], with an offset for each output, made once for a group.
unsafe fn unpack_groups_neon(groups: Groups) {
    let pairs = groups.lines_per_group * LINE / (2 * QUAD);
    // SAFETY: the promises of `Groups`.
    unsafe {
        let low = vdupq_n_u8(15);
        for group in 0..groups.groups {
            let offsets = offsets_neon(groups.zero_points.add(group * ZERO_POINT_BYTES));
            for pair in group * pairs..(group + 1) * pairs {
                let packed = groups.packed.add(pair * QUAD_BYTES);
                let values = groups.values.add(pair * 2 * QUAD_BYTES);
                prefetch(packed.wrapping_add(AHEAD));
                for part in 0..QUAD_BYTES / REGISTER {
                    let (at, offset) = (part * REGISTER, offsets[part]);
                    let both = vld1q_u8(packed.add(at));
                    vst1q_u8(values.add(at), vaddq_u8(vandq_u8(both, low), offset));
                    vst1q_u8(values.add(QUAD_BYTES + at), vaddq_u8(vshrq_n_u8::<4>(both), offset));
                }
            }
        }
    }
}

/// What a group's values of 4 bits lack, for each byte of a quad: the same for four inputs of an output.
unsafe fn offsets_neon(zero_points: *const u8) -> [uint8x16_t; QUAD_BYTES / REGISTER] {
    // SAFETY: the caller's pointer is good for a group's zero points; the architecture has these instructions.
    unsafe {
        let both = vld1q_u8(zero_points);
        // The first half of the panel's outputs is in the lower bits.
        let halves = [vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8::<4>(both)];
        let halves = halves.map(|half| vsubq_u8(vdupq_n_u8(ZERO_VALUE), half));
        let lanes = vld1q_u8([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3].as_ptr());
        [0, 1, 2, 3, 4, 5, 6, 7].map(|part| {
            let lanes = vaddq_u8(lanes, vdupq_n_u8(part % 4 * 4));
            vqtbl1q_u8(halves[usize::from(part / 4)], lanes)
        })
    }
}
