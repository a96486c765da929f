//! What a task wants of an arithmetic, and the working memory that both use.

use super::{
    cache::{BLOCK, CacheFormat},
    softmax::Softmax,
};

/// A way to multiply rows with keys and values.
///
/// # Safety
/// `unsafe` functions want what [`Strip`] promises, and an instruction set where they say so.
pub(super) trait Arithmetic {
    /// Most rows of a strip, at most 6.
    const ROWS: usize;

    /// Writes a query of `dim` values as `scores` reads it, in at most `4 * dim` bytes that are aligned to 64. Returns
    /// the row's unit and offset.
    unsafe fn set_query(query: &[f32], to: *mut u8) -> (f32, i32);

    /// Records of a block as the other functions read them.
    unsafe fn open(format: CacheFormat, records: Records, dim: usize, scratch: &mut Scratch) -> Records;

    /// Products of the strip's queries with a block's keys. Those beyond `strip.seen` may be anything.
    unsafe fn scores<const ROWS: usize>(strip: &Strip, scores: &mut [[f32; BLOCK]; ROWS]);

    /// What [`Softmax::weigh`] does, with the same bits.
    #[inline(always)]
    unsafe fn weigh(softmax: &mut Softmax, scores: &mut [f32; BLOCK], seen: usize) -> f32 {
        softmax.weigh(scores, seen)
    }

    /// Multiplies the strip's sums with `shrinks`, then adds a block's values times `weights`.
    unsafe fn add_values<const ROWS: usize>(strip: &Strip, weights: &[[f32; BLOCK]; ROWS], shrinks: &[f32; ROWS]);
}

/// The key and the value record of a block, for one KV head.
#[derive(Clone, Copy)]
pub(super) struct Records {
    pub(super) keys: *const u8,
    pub(super) values: *const u8,
}

/// A few rows of a tile that see the same tokens of a block. The pointers are good for what they are documented to
/// point to, and nobody writes there meanwhile but through the strip.
pub(super) struct Strip {
    pub(super) dim: usize,
    /// Tokens of the block that the rows see: its first ones, at least one.
    pub(super) seen: usize,
    pub(super) records: Records,
    /// What will be read next, to be fetched. Might point anywhere.
    pub(super) ahead: Records,
    /// `[rows]`
    pub(super) rows: *mut Row,
    /// `[rows]`, `stride` apart, as [`Arithmetic::set_query`] wrote them.
    pub(super) queries: *const u8,
    /// Weighted values so far: `[rows]`, `stride` apart, of `f32 [dim]`.
    pub(super) sums: *mut u8,
    /// Bytes, a multiple of 64.
    pub(super) stride: usize,
}

impl Strip {
    #[inline(always)]
    pub(super) fn query(&self, row: usize) -> *const u8 {
        self.queries.wrapping_add(row * self.stride)
    }

    #[inline(always)]
    pub(super) fn sums(&self, row: usize) -> *mut f32 {
        self.sums.wrapping_add(row * self.stride).cast()
    }
}

/// A query row of a tile.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "f32 needs no unit and no offset")
)]
pub(super) struct Row {
    /// What a product of integers is worth.
    pub(super) unit: f32,
    /// What must be added to a sum of products of integers.
    pub(super) offset: i32,
    pub(super) softmax: Softmax,
}

/// Part of a row of a tile.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [f32; 16]);

/// Working memory of a thread, kept between tasks.
#[derive(Default)]
pub(super) struct Scratch {
    /// A block in fp32, for kernels that do not read int8.
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
    pub(super) rows: Vec<Row>,
    pub(super) queries: Vec<Line>,
    pub(super) sums: Vec<Line>,
    /// One key or query.
    pub(super) row: Vec<f32>,
}

/// Fetches a line of 64 bytes into the second-level cache, where the processor can be told to.
#[inline(always)]
pub(super) fn prefetch(line: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: all processors of this architecture have the instruction, and it accesses no memory.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(line.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    crate::model::cpu_ops::dot_products::prefetch(line);
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    let _ = line;
}
