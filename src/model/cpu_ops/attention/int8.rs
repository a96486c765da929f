//! Attention in 8-bit integers, on blocks as they are stored. Queries and weights become two 8-bit terms, so that what
//! is lost is the cache's own rounding only; products are exact.

#![expect(clippy::needless_range_loop, reason = "an index counts registers and memory alike")]

use std::marker::PhantomData;

use super::{
    arithmetic::{Arithmetic, Records, Scratch, Strip, prefetch},
    cache::{BLOCK, CacheFormat, LANES},
    softmax::{Softmax, mask},
};
use crate::model::cpu_ops::rounding::{level, unit_of};

/// Channels or tokens that make one lane of a dot product.
pub(super) const QUAD: usize = 4;

/// Bits of the low term: a level is `high << LOW_BITS | low`.
pub(super) const LOW_BITS: u32 = 7;

/// The level of a query's largest magnitude: both terms are at most 127.
const QUERY_LEVELS: f32 = 16383.0;

/// The level of a block's largest weight: its terms are at most 255 and 127.
pub(super) const WEIGHT_LEVELS: f32 = 32767.0;

/// Most values of a head for which no sum overflows.
pub(super) const MAX_DIM: usize = 1024;

/// Dot products of one instruction set. A quad of levels is multiplied in two parts, which are its high and its low
/// terms or its even and its odd levels, as the instruction set wants it.
///
/// # Safety
/// Pointers are good for the documented sizes, at any alignment; the processor knows the instructions.
pub(super) trait Dots {
    /// A register of 32-bit lanes.
    type Vector: Copy;
    /// Lanes of a register: 8 or 16.
    const LANES: usize;
    /// Most rows of a strip: so many that their sums stay in registers.
    const ROWS: usize;
    /// Whether the sums of both parts count the same, so that one register can take both. For more than two rows it does;
    /// fewer are faster with sums that do not wait for each other.
    const ONE_SUM: bool;
    /// What `keys` gives more than keys are: they are stored with an offset, which signed products have to lose.
    const KEY_OFFSET: i32 = 128;

    unsafe fn zero() -> Self::Vector;
    /// The lane at `from`, in all lanes.
    unsafe fn splat(from: *const i32) -> Self::Vector;
    /// What the two parts of levels multiply: `LANES` quads of keys with `KEY_OFFSET`.
    unsafe fn keys(from: *const u8) -> [Self::Vector; 2];
    /// As `keys`, of values.
    unsafe fn values(from: *const u8) -> [Self::Vector; 2];
    /// Adds the products of one part.
    unsafe fn add_keys(sums: Self::Vector, keys: Self::Vector, levels: Self::Vector) -> Self::Vector;
    /// As `add_keys`.
    unsafe fn add_values(sums: Self::Vector, values: Self::Vector, levels: Self::Vector) -> Self::Vector;
    /// The sum of both parts.
    unsafe fn total(parts: [Self::Vector; 2]) -> Self::Vector;
    /// Writes `(sums + offset) * (scales * unit)` for `LANES` lanes.
    unsafe fn set_scores(sums: Self::Vector, offset: i32, scales: *const f32, unit: f32, to: *mut f32);
    /// Multiplies `LANES` floats with `shrink` and adds `unit * sums`.
    unsafe fn add_scaled(to: *mut f32, shrink: f32, sums: Self::Vector, unit: f32);
    /// Splits levels into their two parts, a lane for each quad; the second part starts `second` lanes after the first.
    unsafe fn split(levels: &[i32], to: *mut i32, second: usize);

    /// Corrects sums of values that `values` gives with an offset, by the weights' parts as `split` wrote them.
    #[inline(always)]
    unsafe fn corrected(sums: Self::Vector, parts: &[i32; 2 * BLOCK / QUAD]) -> Self::Vector {
        let _ = parts;
        sums
    }

    /// See [`Arithmetic::weigh`].
    #[inline(always)]
    unsafe fn weigh(softmax: &mut Softmax, scores: &mut [f32; BLOCK], seen: usize) -> f32 {
        softmax.weigh(scores, seen)
    }

    /// Writes the levels of weights times their tokens' scales as [`Dots::split`] does, and returns their unit. What is
    /// beyond `seen` counts as zero.
    #[inline(always)]
    unsafe fn set_weights(weights: &[f32; BLOCK], scales: &[f32; BLOCK], seen: usize, to: *mut i32) -> f32 {
        let mut scaled = [0.0; BLOCK];
        for (token, mask) in mask(seen).iter().enumerate() {
            // Beyond `seen` a scale may be anything, and a weight of zero would not keep it out.
            scaled[token] = weights[token] * f32::from_bits(scales[token].to_bits() & mask);
        }
        let (unit, factor) = unit_of(&scaled, WEIGHT_LEVELS);
        let mut levels = [0; BLOCK];
        for token in 0..BLOCK {
            levels[token] = level(scaled[token], factor);
        }
        // SAFETY: there are two lanes for each quad.
        unsafe { Self::split(&levels, to, BLOCK / QUAD) };
        unit
    }
}

/// Parts that are high and low terms, as [`Dots::split`] writes them.
#[inline(always)]
pub(super) unsafe fn split_terms(levels: &[i32], to: *mut i32, second: usize) {
    let (high, low) = (to.cast::<u8>(), to.wrapping_add(second).cast::<u8>());
    for (index, level) in levels.iter().enumerate() {
        // SAFETY: a byte for each level in both parts.
        unsafe {
            high.add(index).write((level >> LOW_BITS) as u8);
            low.add(index).write((level & ((1 << LOW_BITS) - 1)) as u8);
        }
    }
}

/// Parts that are even and odd levels, as [`Dots::split`] writes them.
#[inline(always)]
pub(super) unsafe fn split_words(levels: &[i32], to: *mut i32, second: usize) {
    for (index, quad) in levels.as_chunks::<QUAD>().0.iter().enumerate() {
        // SAFETY: a lane for each quad in both parts.
        unsafe {
            to.add(index).write(quad[0] & 0xffff | quad[2] << 16);
            to.add(second + index).write(quad[1] & 0xffff | quad[3] << 16);
        }
    }
}

pub(super) struct Int8<D>(PhantomData<D>);

impl<D: Dots> Arithmetic for Int8<D> {
    const ROWS: usize = D::ROWS;

    #[inline(always)]
    unsafe fn set_query(query: &[f32], to: *mut u8) -> (f32, i32) {
        let (unit, factor) = unit_of(query, QUERY_LEVELS);
        let quads = query.len() / QUAD;
        let mut sum = 0i32;
        for (index, query) in query.as_chunks::<LANES>().0.iter().enumerate() {
            let mut levels = [0; LANES];
            for (to, value) in levels.iter_mut().zip(query) {
                *to = level(*value, factor);
                sum = sum.wrapping_add(*to);
            }
            // SAFETY: the promises of `Arithmetic`: half of the row's bytes are used.
            unsafe { D::split(&levels, to.cast::<i32>().add(index * LANES / QUAD), quads) };
        }
        // Makes up for the keys' offset.
        (unit, sum.wrapping_mul(-D::KEY_OFFSET))
    }

    #[inline(always)]
    unsafe fn open(_: CacheFormat, records: Records, _: usize, _: &mut Scratch) -> Records {
        records
    }

    #[inline(always)]
    unsafe fn scores<const ROWS: usize>(strip: &Strip, scores: &mut [[f32; BLOCK]; ROWS]) {
        let Strip { dim, records, ahead, .. } = *strip;
        let half_bytes = LANES * dim;
        prefetch_scales(ahead.keys, dim);
        for first in (0..BLOCK).step_by(2 * D::LANES) {
            let side = Side {
                cache: records.keys.wrapping_add(first / LANES * half_bytes),
                ahead: ahead.keys.wrapping_add(first / LANES * half_bytes),
                step: LANES * QUAD,
                piece: if D::LANES == LANES { half_bytes } else { D::LANES * QUAD },
                quads: dim / QUAD,
                levels: strip.query(0).cast(),
                stride: strip.stride / size_of::<i32>(),
            };
            // SAFETY: the promises of `Strip`; a record ends with its scales, and a block has room for two registers from
            // `first` on.
            unsafe {
                let sums = dots::<D, true, ROWS, 2>(side);
                let scales = records.keys.add(BLOCK * dim).cast::<f32>().add(first);
                for row in 0..ROWS {
                    let (unit, offset) = ((*strip.rows.add(row)).unit, (*strip.rows.add(row)).offset);
                    let to = scores[row].as_mut_ptr().add(first);
                    D::set_scores(sums[row][0], offset, scales, unit, to);
                    D::set_scores(sums[row][1], offset, scales.add(D::LANES), unit, to.add(D::LANES));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn weigh(softmax: &mut Softmax, scores: &mut [f32; BLOCK], seen: usize) -> f32 {
        // SAFETY: the caller's promises.
        unsafe { D::weigh(softmax, scores, seen) }
    }

    #[inline(always)]
    unsafe fn add_values<const ROWS: usize>(strip: &Strip, weights: &[[f32; BLOCK]; ROWS], shrinks: &[f32; ROWS]) {
        let Strip { dim, seen, records, ahead, .. } = *strip;
        prefetch_scales(ahead.values, dim);
        // SAFETY: a record ends with its scales.
        let scales = unsafe { records.values.add(BLOCK * dim).cast::<[f32; BLOCK]>().read_unaligned() };
        let mut units = [0.0; ROWS];
        let mut parts = [[0i32; 2 * BLOCK / QUAD]; ROWS];
        for row in 0..ROWS {
            // SAFETY: `parts` has two lanes for each quad.
            units[row] = unsafe { D::set_weights(&weights[row], &scales, seen, parts[row].as_mut_ptr()) };
        }
        let mut channel = 0;
        let side = |channel: usize| Side {
            cache: records.values.wrapping_add(channel * QUAD),
            ahead: ahead.values.wrapping_add(channel * QUAD),
            step: dim * QUAD,
            piece: D::LANES * QUAD,
            quads: BLOCK / QUAD,
            levels: parts.as_ptr().cast(),
            stride: 2 * BLOCK / QUAD,
        };
        // SAFETY: the promises of `Strip`; a number of channels is a multiple of `LANES`.
        unsafe {
            while channel + 2 * D::LANES <= dim {
                add_scaled::<D, ROWS, 2>(
                    strip,
                    channel,
                    dots::<D, false, ROWS, 2>(side(channel)),
                    &parts,
                    shrinks,
                    &units,
                );
                channel += 2 * D::LANES;
            }
            if channel < dim {
                add_scaled::<D, ROWS, 1>(
                    strip,
                    channel,
                    dots::<D, false, ROWS, 1>(side(channel)),
                    &parts,
                    shrinks,
                    &units,
                );
            }
        }
    }
}

/// Fetches the scales that a record ends with.
#[inline(always)]
fn prefetch_scales(record: *const u8, dim: usize) {
    for line in 0..BLOCK * size_of::<f32>() / 64 {
        prefetch(record.wrapping_add(BLOCK * dim + line * 64));
    }
}

/// Where the quads of one side of a block, keys or values, are, and the levels that they are multiplied with.
struct Side {
    cache: *const u8,
    /// The same place of the block that comes next.
    ahead: *const u8,
    /// Bytes from a quad to the next.
    step: usize,
    /// Bytes from a register's quads to those of the next register.
    piece: usize,
    quads: usize,
    /// `[rows]`, `stride` apart, of `[2][quads]`
    levels: *const i32,
    stride: usize,
}

/// Dot products of some rows with `PIECES` registers of keys (`KEYS`) or values.
#[inline(always)]
unsafe fn dots<D: Dots, const KEYS: bool, const ROWS: usize, const PIECES: usize>(
    side: Side,
) -> [[D::Vector; PIECES]; ROWS] {
    let Side { cache, ahead, step, piece, quads, levels, stride } = side;
    // SAFETY: the caller's promises; fetching ahead does not access memory.
    unsafe {
        let mut sums = [[[D::zero(); 2]; PIECES]; ROWS];
        for quad in 0..quads {
            let mut lanes = [[D::zero(); 2]; PIECES];
            for index in 0..PIECES {
                let at = quad * step + index * piece;
                // A line of 64 bytes once.
                if D::LANES == LANES || index == 0 {
                    prefetch(ahead.wrapping_add(at));
                }
                lanes[index] = if KEYS { D::keys(cache.add(at)) } else { D::values(cache.add(at)) };
            }
            for row in 0..ROWS {
                for part in 0..2 {
                    let levels = D::splat(levels.add(row * stride + part * quads + quad));
                    for index in 0..PIECES {
                        let of = if D::ONE_SUM && ROWS > 2 { 0 } else { part };
                        let (sum, lanes) = (sums[row][index][of], lanes[index][part]);
                        sums[row][index][of] =
                            if KEYS { D::add_keys(sum, lanes, levels) } else { D::add_values(sum, lanes, levels) };
                    }
                }
            }
        }
        let mut totals = [[D::zero(); PIECES]; ROWS];
        for row in 0..ROWS {
            for index in 0..PIECES {
                totals[row][index] = D::total(sums[row][index]);
            }
        }
        totals
    }
}

/// Adds dot products with the values of some channels to the strip's sums.
#[inline(always)]
unsafe fn add_scaled<D: Dots, const ROWS: usize, const PIECES: usize>(
    strip: &Strip,
    channel: usize,
    dots: [[D::Vector; PIECES]; ROWS],
    parts: &[[i32; 2 * BLOCK / QUAD]; ROWS],
    shrinks: &[f32; ROWS],
    units: &[f32; ROWS],
) {
    for row in 0..ROWS {
        for index in 0..PIECES {
            // SAFETY: the promises of `Strip`.
            unsafe {
                let to = strip.sums(row).add(channel + index * D::LANES);
                D::add_scaled(to, shrinks[row], D::corrected(dots[row][index], &parts[row]), units[row]);
            }
        }
    }
}
