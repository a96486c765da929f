//! What a kernel is, and the multiplication: one task per panel of weights and [`TASK_ROWS`] rows of the batch.

use std::mem::MaybeUninit;

use half::bf16;

use super::{
    Bits, PANEL, PackedWeights, Shape, ZERO_POINT_BYTES,
    activations::{Activations, LINE, Line, Rounding, RowWriter},
};

/// Most rows of a task: so many that they stay in the second-level cache for all panels, which come one after the other.
const TASK_ROWS: usize = 256;

/// Rows that a task works on at a time, so that they and their sums stay in the first-level cache.
const ROWS: usize = 64;

/// The largest [`Kernel::span`] there is. Every group size divides all of them.
const MAX_SPAN: usize = 256;

/// The largest [`Kernel::span`] of a kernel that widens weights.
const MAX_WIDENED_SPAN: usize = 128;

/// The results of one call, `[rows, shape.outputs]`, shared by its tasks.
#[derive(Clone, Copy)]
pub(crate) struct Output(pub(crate) *mut f32);

// SAFETY: a task writes its own rows' columns of its own panel and reads nothing.
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

/// Writes so many lines of a panel's 4-bit weights as 8-bit ones, compiled for one instruction set.
///
/// # Safety
/// There are as many lines of weights, and room for twice their bytes.
type UnpackFn = unsafe fn(packed: *const u8, lines: usize, values: *mut u8);

/// The same for groups with zero points, which become 128: what follows takes no notice of them.
///
/// # Safety
/// The pointers are as [`Groups`] says.
type UnpackGroupsFn = unsafe fn(Groups);

/// Some groups of a panel's 4-bit weights that have zero points, and where their 8-bit values go: the pointers are good for
/// so many groups.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    pub(super) packed: *const u8,
    /// `[groups][ZERO_POINT_BYTES]`
    pub(super) zero_points: *const u8,
    pub(super) groups: usize,
    pub(super) lines_per_group: usize,
    pub(super) values: *mut u8,
}

/// Some rows times some groups of one panel.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) groups: usize,
    pub(super) lines_per_group: usize,
    /// Rows of the batch: the distance between a row's lines, units and offsets.
    pub(super) stride: usize,
    /// `[groups * lines_per_group][LINE / 4][PANEL][4]`
    pub(super) values: *const u8,
    /// The same values as 16-bit words, as [`Widened`] made them, which no other kernel reads.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only AVX2 has such a kernel"))]
    pub(super) words: *const i16,
    /// `[groups][PANEL]`
    pub(super) scales: *const bf16,
    /// `[groups * lines_per_group][stride]`, from the tile's first row on
    pub(super) lines: *const Line,
    /// `[groups][stride]`, from the tile's first row on
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
    /// Inputs that a tile covers: enough to make the call worth it, few enough that their weights stay in the first-level
    /// cache for the rows' other tiles.
    pub(super) span: usize,
    pub(super) unpack: UnpackFn,
    pub(super) unpack_groups: UnpackGroupsFn,
    /// What many rows are multiplied by instead, if that is faster.
    pub(super) widened: Option<Widened>,
    /// What rows of coarse levels are multiplied by instead, if that is faster.
    pub(super) coarse: Option<Coarse>,
}

/// A way for coarse levels, whose low terms are zero: the same bits from half the products.
#[derive(Clone, Copy)]
pub(super) struct Coarse {
    pub(super) tile: TileFn,
    pub(super) tile_rows: usize,
}

/// A way for many rows: a tile's weights are widened to 16-bit words once, and its rows read those.
#[derive(Clone, Copy)]
pub(super) struct Widened {
    /// Writes the words of so many lines of a panel's weights.
    pub(super) widen: unsafe fn(values: *const u8, lines: usize, words: *mut i16),
    pub(super) tile: TileFn,
    pub(super) tile_rows: usize,
    /// From how many rows on.
    pub(super) from_rows: usize,
}

/// A tile's weights of 8 bits, unpacked.
#[repr(C, align(64))]
struct Values([u8; MAX_SPAN * PANEL]);

/// The words of a tile's weights, which stay in the first-level cache.
#[repr(C, align(64))]
struct Words([i16; MAX_WIDENED_SPAN * PANEL]);

/// The function of a tile's rows, of which each number has its own.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! by_rows {
    ($tile:ident, $of:ident, $terms:literal terms, $($rows:literal)+) => {
        match $tile.rows {
            $($rows => $of::<$rows, $terms>($tile),)+
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
    ($tile:ident, $of:ident, $($rows:literal)+) => {
        match $tile.rows {
            $($rows => $of::<$rows>($tile),)+
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use by_rows;

impl Kernel {
    /// Rounds a row of a batch.
    ///
    /// # Safety
    /// See [`RowWriter::set`].
    pub(crate) unsafe fn round(&self, rows: RowWriter, row: usize, values: &[f32]) {
        // SAFETY: the caller's promises; the processor has the function's instruction set.
        unsafe { (self.round)(rows, row, values) }
    }

    /// Tasks that the rows' multiplication by a matrix has.
    pub(crate) fn tasks(shape: Shape, rows: &Activations) -> usize {
        shape.panels() * rows.rows().div_ceil(TASK_ROWS)
    }

    /// What tiles of such levels are multiplied by where weights are not widened, and how many rows they may have.
    fn own_tile(&self, rounding: Rounding) -> (TileFn, usize) {
        match (rounding, self.coarse) {
            (Rounding::Coarse, Some(coarse)) => (coarse.tile, coarse.tile_rows),
            _ => (self.tile, self.tile_rows),
        }
    }

    /// The 8-bit weights of some groups of a panel: where they lie, or unpacked into the room for them.
    fn values_of(&self, panel: &Panel, first: usize, groups: usize, room: &mut MaybeUninit<Values>) -> *const u8 {
        let Shape { bits, group, .. } = panel.shape;
        let packed = panel.values[panel.shape.bytes_of(first * group)..].as_ptr();
        if bits == Bits::Eight {
            return packed;
        }
        assert!(first + groups <= panel.shape.groups() && groups * group <= MAX_SPAN);
        let (lines_per_group, values) = (group / LINE, room.as_mut_ptr().cast());
        // SAFETY: the panel has these groups, with their zero points, and there is room for them; the processor has the
        // functions' instruction set.
        unsafe {
            match panel.zero_points {
                None => (self.unpack)(packed, groups * lines_per_group, values),
                Some(zero_points) => {
                    let zero_points = zero_points[first * ZERO_POINT_BYTES..].as_ptr();
                    (self.unpack_groups)(Groups { packed, zero_points, groups, lines_per_group, values });
                }
            }
        }
        values
    }

    /// Runs one task of [`Kernel::tasks`]: multiplies some rows with one panel. Tasks may be done in any order and at the
    /// same time. The rows must have been rounded by the same kernel.
    ///
    /// # Safety
    /// `output` is good for `[rows, shape.outputs]` and not accessed by anyone else meanwhile, other tasks excepted.
    pub(crate) unsafe fn multiply(&self, weights: &PackedWeights, rows: &Activations, output: Output, task: usize) {
        let shape = weights.shape;
        assert!(task < Self::tasks(shape, rows) && rows.fit(shape));
        let (panel, first) = (task % shape.panels(), task / shape.panels() * TASK_ROWS);
        let last = rows.rows().min(first + TASK_ROWS);
        assert!(self.span <= if self.widened.is_some() { MAX_WIDENED_SPAN } else { MAX_SPAN });
        let (lines_per_group, span_groups) = (shape.group / LINE, self.span / shape.group);
        let (stride, groups) = (rows.rows(), shape.groups());
        let weights = Panel::of(weights, panel);
        let (own_tile, own_rows) = self.own_tile(rows.rounding());
        // Set as far as they are used only: to set them all takes as long as some products of one row.
        let mut sums = Sums([MaybeUninit::uninit(); ROWS]);
        let mut unpacked = MaybeUninit::<Values>::uninit();
        let mut words = MaybeUninit::<Words>::uninit();
        for first in (first..last).step_by(ROWS) {
            let count = (last - first).min(ROWS);
            sums.0[..count].fill(MaybeUninit::new([0.0; PANEL]));
            let widened = self.widened.filter(|widened| count >= widened.from_rows);
            let (tile_fn, tile_rows) =
                widened.map_or((own_tile, own_rows), |widened| (widened.tile, widened.tile_rows));
            // Tiles of equal height, as far as possible: a flat last one would be as slow as a full one.
            let tiles = count.div_ceil(tile_rows);
            for group in (0..groups).step_by(span_groups) {
                let line = group * lines_per_group;
                let span = (groups - group).min(span_groups);
                let values = self.values_of(&weights, group, span, &mut unpacked);
                if let Some(widened) = widened {
                    // SAFETY: the panel has these lines, and the words have room for a whole span's; the processor has
                    // the function's instruction set.
                    unsafe { (widened.widen)(values, span * lines_per_group, words.as_mut_ptr().cast()) };
                }
                for tile in 0..tiles {
                    let (start, end) = (count * tile / tiles, count * (tile + 1) / tiles);
                    let tile = Tile {
                        rows: end - start,
                        groups: span,
                        lines_per_group,
                        stride,
                        values,
                        words: words.as_ptr().cast(),
                        scales: weights.scales[group * PANEL..].as_ptr(),
                        lines: rows.lines()[line * stride + first + start..].as_ptr(),
                        units: rows.units()[group * stride + first + start..].as_ptr(),
                        offsets: rows.offsets()[group * stride + first + start..].as_ptr(),
                        sums: sums.0[start..].as_mut_ptr().cast(),
                    };
                    // SAFETY: the slices above reach to the panel's end and to the last row; the processor has
                    // the function's instruction set.
                    unsafe { tile_fn(tile) };
                }
            }
            let width = (shape.outputs - panel * PANEL).min(PANEL);
            for (row, sums) in sums.0[..count].iter().enumerate() {
                // SAFETY: the row is one of the batch and its sums are set; the columns are the panel's, as far as there are any.
                unsafe {
                    let to = output.0.add((first + row) * shape.outputs + panel * PANEL);
                    to.copy_from_nonoverlapping(sums.as_ptr().cast(), width);
                }
            }
        }
    }
}

/// What a matrix has of one panel.
struct Panel<'a> {
    shape: Shape,
    values: &'a [u8],
    scales: &'a [bf16],
    zero_points: Option<&'a [u8]>,
}

impl<'a> Panel<'a> {
    fn of(weights: &PackedWeights<'a>, panel: usize) -> Self {
        let PackedWeights { shape, values, scales, zero_points } = *weights;
        let (bytes, scale_count) = (shape.panel_bytes(), shape.groups() * PANEL);
        let zero_bytes = shape.groups() * ZERO_POINT_BYTES;
        Panel {
            shape,
            values: &values[panel * bytes..][..bytes],
            scales: &scales[panel * scale_count..][..scale_count],
            zero_points: zero_points.map(|all| &all[panel * zero_bytes..][..zero_bytes]),
        }
    }
}

/// Results of some rows so far.
#[repr(C, align(64))]
struct Sums([MaybeUninit<[f32; PANEL]>; ROWS]);
