//! The kernel that runs everywhere.

use std::mem::MaybeUninit;

use half::bf16;

use super::{
    NIBBLE_OFFSET, PANEL, QUAD, ZERO_POINT_BYTES, ZERO_VALUE,
    activations::{LINE, LOW_BITS, RowWriter, Terms},
    contract::{Groups, Kernel, Tile},
    wide,
};

pub(super) const KERNEL: Kernel = Kernel {
    round: round_portable,
    tile: tile_portable,
    tile_rows: 4,
    span: 128,
    unpack: unpack_portable,
    unpack_groups: unpack_groups_portable,
    widened: None,
    coarse: None,
};

unsafe fn round_portable(rows: RowWriter, row: usize, values: &[f32]) {
    // SAFETY: the caller's promises.
    unsafe { rows.set(Terms::Words, row, values) }
}

unsafe fn tile_portable(tile: Tile) {
    let Tile { rows, groups, lines_per_group, stride, .. } = tile;
    for group in 0..groups {
        for row in 0..rows {
            // SAFETY: the promises of `TileFn`.
            let (unit, offset) =
                unsafe { (*tile.units.add(group * stride + row), *tile.offsets.add(group * stride + row)) };
            let mut products = [offset << LOW_BITS; PANEL];
            for line in group * lines_per_group..(group + 1) * lines_per_group {
                // SAFETY: the promises of `TileFn`.
                let (line, values) = unsafe {
                    (
                        &*tile.lines.add(line * stride + row),
                        &*tile.values.add(line * LINE * PANEL).cast::<LineWeights>(),
                    )
                };
                for (values, levels) in values.iter().zip(line.0.as_chunks::<{ 2 * QUAD }>().0) {
                    // The order of `Terms::Words`.
                    let level = |at: usize| i32::from(i16::from_ne_bytes([levels[2 * at], levels[2 * at + 1]]));
                    let levels = [level(0), level(2), level(1), level(3)];
                    for (product, lane) in products.iter_mut().zip(values) {
                        // Shifts, not four bytes, so that compilers see vectors of 32-bit lanes.
                        let lane = u32::from_le_bytes(*lane);
                        let value = |at: usize| (lane >> (8 * at) & 0xff) as i32;
                        *product +=
                            levels[0] * value(0) + levels[1] * value(1) + levels[2] * value(2) + levels[3] * value(3);
                    }
                }
            }
            // SAFETY: the promises of `TileFn`.
            let (sums, scales) =
                unsafe { (&mut *tile.sums.add(row), &*tile.scales.add(group * PANEL).cast::<[bf16; PANEL]>()) };
            for ((sum, product), scale) in sums.iter_mut().zip(products).zip(scales) {
                *sum += product as f32 * (wide(*scale) * unit);
            }
        }
    }
}

unsafe fn unpack_portable(packed: *const u8, lines: usize, values: *mut u8) {
    let pairs = lines * LINE / (2 * QUAD);
    // SAFETY: the promises of `UnpackFn`.
    let (packed, values) = unsafe {
        (
            std::slice::from_raw_parts(packed.cast::<[u8; PANEL * QUAD]>(), pairs),
            std::slice::from_raw_parts_mut(values.cast::<MaybeUninit<[[u8; PANEL * QUAD]; 2]>>(), pairs),
        )
    };
    for (packed, values) in packed.iter().zip(values) {
        values.write([packed.map(|both| (both & 15) + NIBBLE_OFFSET), packed.map(|both| (both >> 4) + NIBBLE_OFFSET)]);
    }
}

unsafe fn unpack_groups_portable(groups: Groups) {
    let pairs = groups.lines_per_group * LINE / (2 * QUAD);
    for group in 0..groups.groups {
        // SAFETY: the promises of `Groups`.
        let (zero_points, packed, values) = unsafe {
            (
                &*groups.zero_points.add(group * ZERO_POINT_BYTES).cast::<[u8; ZERO_POINT_BYTES]>(),
                std::slice::from_raw_parts(groups.packed.cast::<PairWeights>().add(group * pairs), pairs),
                std::slice::from_raw_parts_mut(
                    groups.values.cast::<MaybeUninit<[PairWeights; 2]>>().add(group * pairs),
                    pairs,
                ),
            )
        };
        let offsets: PairWeights = std::array::from_fn(|at| {
            let output = at / QUAD;
            let both = zero_points[output % ZERO_POINT_BYTES];
            ZERO_VALUE - (both >> (output / ZERO_POINT_BYTES * 4) & 15)
        });
        for (packed, values) in packed.iter().zip(values) {
            values.write([
                std::array::from_fn(|at| (packed[at] & 15) + offsets[at]),
                std::array::from_fn(|at| (packed[at] >> 4) + offsets[at]),
            ]);
        }
    }
}

/// A panel's weights for two quads of inputs, of 4 bits.
type PairWeights = [u8; PANEL * QUAD];

/// A panel's weights for [`LINE`] inputs.
type LineWeights = [[[u8; QUAD]; PANEL]; LINE / QUAD];
