//! Activations rounded to integers: a row's group becomes `unit * level`, with levels of at most [`LEVELS`] either way.
//!
//! Kernels with 8-bit dot products take a level as two 8-bit terms, `high * 128 + low`; the others take it as it is.
//! Coarse levels are multiples of 128: their low terms are zero, and a kernel may leave them out.

use super::{QUAD, Shape};
use crate::model::cpu_ops::rounding::{level, unit_of};

/// The level of a group's largest magnitude: 127 in the high term, 0 in the low.
const LEVELS: f32 = (127 << LOW_BITS) as f32;

/// What the high term counts in, as a power of two.
pub(super) const LOW_BITS: u32 = 7;

/// How finely activations are rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// To 15 bits.
    #[default]
    Fine,
    /// To 8 bits.
    Coarse,
}

/// Values whose levels one [`Line`] holds. Divides every group size.
pub(super) const LINE: usize = 32;

/// The levels of [`LINE`] values, in one of the [`Terms`] forms.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 2 * LINE]);

/// How a [`Line`] holds levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    /// 32 high terms, then 32 low terms, `i8`.
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        allow(dead_code, reason = "the portable kernel takes words")
    )]
    Bytes,
    /// 32 levels, `i16`; of four neighbours the order is 0, 2, 1, 3, so that the pairs match the even and the odd bytes
    /// of a 32-bit lane of weights.
    Words,
}

/// A batch of rows, rounded. Reused from call to call.
#[derive(Default)]
pub(crate) struct Activations {
    rows: usize,
    inputs: usize,
    group: usize,
    rounding: Rounding,
    /// `[inputs / LINE, padded to whole groups][rows]`
    lines: Vec<Line>,
    /// `[groups][rows]`
    units: Vec<f32>,
    /// Minus the sum of the group's levels: `[groups][rows]`. Times 128 it makes up for the weights' offset.
    offsets: Vec<i32>,
}

impl Activations {
    /// Takes memory for `rows` rows. Their contents are those of earlier rows until they are set. After an error there
    /// are none.
    pub(crate) fn reset(&mut self, rows: usize, shape: Shape, rounding: Rounding) -> Result<(), String> {
        self.rows = 0;
        let groups = shape.groups().checked_mul(rows);
        let lines = groups.and_then(|groups| groups.checked_mul(shape.group / LINE));
        let (Some(groups), Some(lines)) = (groups, lines) else { return Err(format!("{rows} rows are too many")) };
        resize(&mut self.lines, lines, Line([0; 2 * LINE]))?;
        resize(&mut self.units, groups, 0.0)?;
        resize(&mut self.offsets, groups, 0)?;
        (self.rows, self.inputs, self.group, self.rounding) = (rows, shape.inputs, shape.group, rounding);
        Ok(())
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// Whether these are rows for a weight matrix of this shape.
    pub(super) fn fit(&self, shape: Shape) -> bool {
        (self.inputs, self.group) == (shape.inputs, shape.group)
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(super) fn units(&self) -> &[f32] {
        &self.units
    }

    pub(super) fn offsets(&self) -> &[i32] {
        &self.offsets
    }

    /// Access to all rows for several threads.
    pub(crate) fn writer(&mut self) -> RowWriter {
        RowWriter {
            rows: self.rows,
            inputs: self.inputs,
            group: self.group,
            rounding: self.rounding,
            lines: self.lines.as_mut_ptr(),
            units: self.units.as_mut_ptr(),
            offsets: self.offsets.as_mut_ptr(),
        }
    }
}

fn resize<T: Clone>(values: &mut Vec<T>, len: usize, value: T) -> Result<(), String> {
    let missing = len.saturating_sub(values.len());
    values.try_reserve(missing).map_err(|_| format!("no memory for {len} rounded activations"))?;
    values.resize(len, value);
    Ok(())
}

/// Sets rows of [`Activations`], several at a time.
#[derive(Clone, Copy)]
pub(crate) struct RowWriter {
    rows: usize,
    inputs: usize,
    group: usize,
    rounding: Rounding,
    lines: *mut Line,
    units: *mut f32,
    offsets: *mut i32,
}

// SAFETY: threads set different rows, which are disjoint memory: the promise of `RowWriter::set`.
unsafe impl Send for RowWriter {}
// SAFETY: as above.
unsafe impl Sync for RowWriter {}

impl RowWriter {
    /// Rounds a row. A group with a value that is not finite gets a unit that is not a number, and so does every result
    /// of its row.
    ///
    /// # Safety
    /// The `Activations` are alive, not moved, reset or read meanwhile, and nobody else sets the same row.
    #[inline(always)]
    pub(super) unsafe fn set(&self, terms: Terms, row: usize, values: &[f32]) {
        assert!(row < self.rows && values.len() == self.inputs);
        let lines_per_group = self.group / LINE;
        // A coarse level counts in high terms.
        let shift = if self.rounding == Rounding::Coarse { LOW_BITS } else { 0 };
        for (index, group) in values.chunks(self.group).enumerate() {
            let (unit, factor) = unit_of(group, LEVELS);
            let factor = factor / (1 << shift) as f32;
            let mut sum = 0;
            for line in 0..lines_per_group {
                let levels = levels_of(group.get(line * LINE..).unwrap_or_default(), factor, shift);
                sum += levels.iter().sum::<i32>();
                let at = (index * lines_per_group + line) * self.rows + row;
                // SAFETY: `Activations::reset` made a line for every row and 32 of its values; this one is ours.
                unsafe { self.lines.add(at).write(line_of(terms, &levels)) };
            }
            let at = index * self.rows + row;
            // SAFETY: `Activations::reset` made a unit and an offset for every group and row; these are ours.
            unsafe {
                self.units.add(at).write(unit);
                self.offsets.add(at).write(-sum);
            }
        }
    }
}

#[inline(always)]
fn levels_of(values: &[f32], factor: f32, shift: u32) -> [i32; LINE] {
    let mut levels = [0; LINE];
    if factor == 0.0 {
        return levels;
    }
    if let Some(values) = values.first_chunk::<LINE>() {
        for (to, value) in levels.iter_mut().zip(values) {
            *to = level(*value, factor) << shift;
        }
    } else {
        for (to, value) in levels.iter_mut().zip(values) {
            *to = level(*value, factor) << shift;
        }
    }
    levels
}

#[inline(always)]
fn line_of(terms: Terms, levels: &[i32; LINE]) -> Line {
    let mut line = Line([0; 2 * LINE]);
    match terms {
        Terms::Bytes => {
            let (high, low) = line.0.split_at_mut(LINE);
            for ((high, low), level) in high.iter_mut().zip(low).zip(levels) {
                // Rounded to nearest, so that both fit into 8 bits.
                let rounded = (level + (1 << (LOW_BITS - 1))) >> LOW_BITS;
                *high = rounded as u8;
                *low = (level - (rounded << LOW_BITS)) as u8;
            }
        }
        Terms::Words => {
            for (to, quad) in line.0.chunks_exact_mut(2 * QUAD).zip(levels.chunks_exact(QUAD)) {
                for (to, level) in to.chunks_exact_mut(2).zip([quad[0], quad[2], quad[1], quad[3]]) {
                    to.copy_from_slice(&(level as i16).to_ne_bytes());
                }
            }
        }
    }
    line
}
