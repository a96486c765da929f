//! The multiplication: one task per panel of weights, with all rows of the batch.

use super::{
    PANEL, PackedWeights, QUAD,
    activations::{Activations, GROUP, LOW_BITS, Line, RowWriter, Terms},
};

/// Rows that a task works on at a time, so that they and their sums stay in the first-level cache.
const ROWS: usize = 64;

/// Inputs that a tile covers: enough to make the call worth it, few enough that their weights stay in the first-level
/// cache for the rows' other tiles. Every block size divides it.
const SPAN: usize = 128;

/// The results of one call, `[rows, shape.outputs]`, shared by its tasks.
#[derive(Clone, Copy)]
pub(crate) struct Output(pub(crate) *mut f32);

// SAFETY: a task writes the columns of its own panel and reads nothing.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// [`RowWriter::set`] compiled for one instruction set.
type RoundFn = unsafe fn(RowWriter, usize, &[f32]);

/// Adds a tile's products to the sums of its rows, compiled for one instruction set.
///
/// # Safety
/// The pointers of the tile are good for its sizes; `rows` is at most the kernel's `tile_rows`.
pub(super) type TileFn = unsafe fn(Tile);

/// Some rows times some blocks of one panel.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) blocks: usize,
    pub(super) groups_per_block: usize,
    /// Rows of the batch: the distance between a row's lines, units and offsets.
    pub(super) stride: usize,
    /// `[blocks * groups_per_block][GROUP / 4][PANEL][4]`
    pub(super) values: *const u8,
    /// `[blocks][PANEL]`
    pub(super) scales: *const f32,
    /// `[blocks * groups_per_block][stride]`, from the tile's first row on
    pub(super) lines: *const Line,
    /// `[blocks][stride]`, from the tile's first row on
    pub(super) units: *const f32,
    /// As `units`.
    pub(super) offsets: *const i32,
    /// `[rows]`
    pub(super) sums: *mut [f32; PANEL],
}

/// The multiplication for one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(super) round: RoundFn,
    pub(super) tile: TileFn,
    /// Rows that a tile may have.
    pub(super) tile_rows: usize,
}

impl Kernel {
    /// The fastest kernel that this processor runs.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = super::x86::fastest() {
            return kernel;
        }
        Self::portable()
    }

    /// Every kernel that this processor runs, slowest first.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut kernels = vec![Self::portable()];
        // Miri knows no vector instructions.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        kernels.extend([super::x86::avx2(), super::x86::avx_vnni(), super::x86::avx512_vnni()].into_iter().flatten());
        kernels
    }

    /// The kernel that runs everywhere.
    pub(crate) fn portable() -> Self {
        Kernel { name: "portable", round: round_portable, tile: tile_portable, tile_rows: 4 }
    }

    /// Rounds a row of a batch.
    ///
    /// # Safety
    /// See [`RowWriter::set`].
    pub(crate) unsafe fn round(&self, rows: RowWriter, row: usize, values: &[f32]) {
        // SAFETY: the caller's promises; `detect` chose functions that this processor runs.
        unsafe { (self.round)(rows, row, values) }
    }

    /// Multiplies all rows with one panel, one of `0..shape.panels()`. Panels may be done in any order and at the same
    /// time. The rows must have been rounded by the same kernel.
    ///
    /// # Safety
    /// `output` is good for `[rows, shape.outputs]` and not accessed by anyone else meanwhile, other panels' tasks
    /// excepted.
    pub(crate) unsafe fn multiply(&self, weights: &PackedWeights, rows: &Activations, output: Output, panel: usize) {
        let shape = weights.shape;
        assert!(panel < shape.panels() && rows.fit(shape));
        let groups_per_block = shape.block / GROUP;
        let (stride, blocks) = (rows.rows(), shape.blocks());
        let values = &weights.values[panel * shape.panel_bytes()..][..shape.panel_bytes()];
        let scales = &weights.scales[panel * blocks * PANEL..][..blocks * PANEL];
        let mut sums = Sums([[0.0; PANEL]; ROWS]);
        for first in (0..stride).step_by(ROWS) {
            let count = (stride - first).min(ROWS);
            sums.0[..count].fill([0.0; PANEL]);
            // Tiles of equal height, as far as possible: a flat last one would be as slow as a full one.
            let tiles = count.div_ceil(self.tile_rows);
            for block in (0..blocks).step_by(SPAN / shape.block) {
                for tile in 0..tiles {
                    let (start, end) = (count * tile / tiles, count * (tile + 1) / tiles);
                    let group = block * groups_per_block;
                    let tile = Tile {
                        rows: end - start,
                        blocks: (blocks - block).min(SPAN / shape.block),
                        groups_per_block,
                        stride,
                        values: values[group * GROUP * PANEL..].as_ptr(),
                        scales: scales[block * PANEL..].as_ptr(),
                        lines: rows.lines()[group * stride + first + start..].as_ptr(),
                        units: rows.units()[block * stride + first + start..].as_ptr(),
                        offsets: rows.offsets()[block * stride + first + start..].as_ptr(),
                        sums: sums.0[start..].as_mut_ptr(),
                    };
                    // SAFETY: the slices above reach to the panel's end and to the last row; `detect` chose a function
                    // that this processor runs.
                    unsafe { (self.tile)(tile) };
                }
            }
            let width = (shape.outputs - panel * PANEL).min(PANEL);
            for (row, sums) in sums.0[..count].iter().enumerate() {
                // SAFETY: the row is one of the batch, and the columns are the panel's, as far as there are any.
                unsafe {
                    let to = output.0.add((first + row) * shape.outputs + panel * PANEL);
                    to.copy_from_nonoverlapping(sums.as_ptr(), width);
                }
            }
        }
    }
}

/// Results of some rows so far.
#[repr(C, align(64))]
struct Sums([[f32; PANEL]; ROWS]);

unsafe fn round_portable(rows: RowWriter, row: usize, values: &[f32]) {
    // SAFETY: the caller's promises.
    unsafe { rows.set(Terms::Words, row, values) }
}

unsafe fn tile_portable(tile: Tile) {
    let Tile { rows, blocks, groups_per_block, stride, .. } = tile;
    for block in 0..blocks {
        for row in 0..rows {
            // SAFETY: the promises of `TileFn`.
            let (unit, offset) =
                unsafe { (*tile.units.add(block * stride + row), *tile.offsets.add(block * stride + row)) };
            let mut products = [offset << LOW_BITS; PANEL];
            for group in block * groups_per_block..(block + 1) * groups_per_block {
                // SAFETY: the promises of `TileFn`.
                let (line, values) = unsafe {
                    (&*tile.lines.add(group * stride + row), &*tile.values.add(group * GROUP * PANEL).cast::<Group>())
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
                unsafe { (&mut *tile.sums.add(row), &*tile.scales.add(block * PANEL).cast::<[f32; PANEL]>()) };
            for ((sum, product), scale) in sums.iter_mut().zip(products).zip(scales) {
                *sum += product as f32 * (scale * unit);
            }
        }
    }
}

/// A panel's weights for [`GROUP`] inputs.
type Group = [[[u8; QUAD]; PANEL]; GROUP / QUAD];
