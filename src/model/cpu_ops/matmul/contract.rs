//! What a kernel is, and the multiplication: one task per panel of weights, with all rows of the batch.

use super::{
    PANEL, PackedWeights,
    activations::{Activations, GROUP, Line, RowWriter},
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

/// The multiplication for one instruction set, which this processor has.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    pub(super) round: RoundFn,
    pub(super) tile: TileFn,
    /// Rows that a tile may have.
    pub(super) tile_rows: usize,
}

impl Kernel {
    /// Rounds a row of a batch.
    ///
    /// # Safety
    /// See [`RowWriter::set`].
    pub(crate) unsafe fn round(&self, rows: RowWriter, row: usize, values: &[f32]) {
        // SAFETY: the caller's promises; the processor has the function's instruction set.
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
                    // SAFETY: the slices above reach to the panel's end and to the last row; the processor has
                    // the function's instruction set.
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
