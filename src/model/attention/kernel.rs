//! The attention kernel: one task per stream and KV head. A task appends its stream's new keys and values, then reads
//! the cache once, block by block, for all query rows of the group (Milakov and Gimelshein's online softmax,
//! arXiv:1805.02867). A row's result does not depend on which rows share its task: chunked and token-by-token runs give
//! the same bits.

use std::cell::RefCell;

use super::{Attention, Heads, cache::BLOCK};

/// Query rows that a task works on at a time, so that their state stays in the second-level cache.
const TILE_ROWS: usize = 64;

/// A layer's two pools, shared by the tasks of one run.
#[derive(Clone, Copy)]
pub(crate) struct CachePools {
    /// `[num_blocks, heads.kv, record_bytes]`
    pub(crate) keys: *mut u8,
    /// As `keys`.
    pub(crate) values: *mut u8,
}

/// The output rows, shared by the tasks of one run: `[tokens, heads.query * heads.dim]`.
#[derive(Clone, Copy)]
pub(crate) struct OutputRows(pub(crate) *mut f32);

// SAFETY: tasks touch disjoint parts: the records and output columns of their own stream and head, but for blocks that
// several streams share, which `Attention::validate` allows only for reading.
unsafe impl Send for CachePools {}
// SAFETY: as above.
unsafe impl Sync for CachePools {}
// SAFETY: as above.
unsafe impl Send for OutputRows {}
// SAFETY: as above.
unsafe impl Sync for OutputRows {}

/// A task function compiled for one instruction set.
type TaskFn = unsafe fn(&Attention, CachePools, OutputRows, usize);

/// The task function for this processor.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    task: TaskFn,
    pub(crate) name: &'static str,
}

impl Kernel {
    /// The fastest kernel that this processor runs.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Kernel { task: x86::task_avx2, name: "avx2" };
        }
        Self::portable()
    }

    /// The kernel that runs everywhere.
    pub(crate) fn portable() -> Self {
        Kernel { task: task_portable, name: "portable" }
    }

    /// Every kernel that this processor runs, slowest first.
    pub(crate) fn all() -> Vec<Self> {
        vec![Self::portable(), Self::detect()]
    }

    /// Tasks of a batch; [`Kernel::run_task`] takes one of `0..tasks`.
    pub(crate) fn tasks(attention: &Attention) -> usize {
        attention.streams() * attention.heads.kv
    }

    /// Runs one task. Tasks of one batch may run in any order and at the same time.
    ///
    /// # Safety
    /// `attention.validate()` succeeded; `pools` and `output` have the documented sizes, are not accessed by anyone
    /// else during the batch, and no task runs twice at the same time.
    pub(crate) unsafe fn run_task(&self, attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
        debug_assert!(task < Self::tasks(attention));
        // SAFETY: the caller's promises; `detect` chose a function that this processor runs.
        unsafe { (self.task)(attention, pools, output, task) }
    }
}

unsafe fn task_portable(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    // SAFETY: the promises of `Kernel::run_task`.
    unsafe { run(attention, pools, output, task) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Attention, CachePools, OutputRows};

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn task_avx2(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
        // SAFETY: the promises of `Kernel::run_task`.
        unsafe { super::run(attention, pools, output, task) }
    }
}

#[inline(always)]
unsafe fn run(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    let work = Task::new(attention, task);
    SCRATCH.with_borrow_mut(|scratch| {
        // SAFETY: the promises of `Kernel::run_task`.
        unsafe {
            work.append(pools, scratch);
            for first in (0..work.rows()).step_by(TILE_ROWS) {
                work.attend(pools, output, first..(first + TILE_ROWS).min(work.rows()), scratch);
            }
        }
    });
}

/// Working memory of a thread, kept between tasks.
#[derive(Default)]
struct Scratch {
    /// Keys of a block, `[dim][BLOCK]`.
    keys: Vec<f32>,
    /// Values of a block, `[BLOCK][dim]`.
    values: Vec<f32>,
    /// Rotated queries of a tile, `[TILE_ROWS][dim]`.
    queries: Vec<f32>,
    /// Weighted values so far, `[TILE_ROWS][dim]`.
    sums: Vec<f32>,
    /// Largest score so far and sum of weights of each row.
    softmax: Vec<(f32, f32)>,
    /// One rotated key.
    key: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One stream and one KV head of a batch.
struct Task<'a> {
    attention: &'a Attention<'a>,
    kv_head: usize,
    /// The stream's first row in the batch.
    first_token: usize,
    /// The stream's new tokens.
    new_tokens: usize,
    past: usize,
    blocks: &'a [i32],
}

impl<'a> Task<'a> {
    #[inline(always)]
    fn new(attention: &'a Attention, task: usize) -> Self {
        let (stream, kv_head) = (task / attention.heads.kv, task % attention.heads.kv);
        let first_token = attention.cu_seqlens[stream] as usize;
        Task {
            attention,
            kv_head,
            first_token,
            new_tokens: attention.cu_seqlens[stream + 1] as usize - first_token,
            past: attention.past_lens[stream] as usize,
            blocks: &attention.block_table[stream * attention.table_width..][..attention.table_width],
        }
    }

    /// Query rows: every new token times every query head of the group.
    #[inline(always)]
    fn rows(&self) -> usize {
        self.new_tokens * self.attention.heads.group()
    }

    /// The projection of one head (of all heads: queries, keys, values) for a new token.
    #[inline(always)]
    fn projection(&self, token: usize, head: usize) -> &'a [f32] {
        let Heads { dim, .. } = self.attention.heads;
        &self.attention.qkv[(self.first_token + token) * self.attention.heads.packed_width() + head * dim..][..dim]
    }

    /// Where the record of the stream's `index`-th block starts, in bytes.
    #[inline(always)]
    fn record_offset(&self, index: usize) -> usize {
        let record = self.attention.format.record_bytes(self.attention.heads.dim);
        (self.blocks[index] as usize * self.attention.heads.kv + self.kv_head) * record
    }

    /// Stores keys and values of the new tokens.
    #[inline(always)]
    unsafe fn append(&self, pools: CachePools, scratch: &mut Scratch) {
        let Attention { heads, format, k_norm, .. } = *self.attention;
        let record_bytes = format.record_bytes(heads.dim);
        scratch.key.resize(heads.dim, 0.0);
        for token in 0..self.new_tokens {
            let position = self.past + token;
            let key_row = self.projection(token, heads.query + self.kv_head);
            let value_row = self.projection(token, heads.query + heads.kv + self.kv_head);
            self.norm_and_rotate(key_row, k_norm, position, &mut scratch.key);
            let offset = self.record_offset(position / BLOCK);
            // SAFETY: `validate` checked that the block exists and that no other stream uses it; only this task uses
            // this head's record.
            let (keys, values) = unsafe {
                (
                    std::slice::from_raw_parts_mut(pools.keys.add(offset), record_bytes),
                    std::slice::from_raw_parts_mut(pools.values.add(offset), record_bytes),
                )
            };
            format.store_key(keys, position % BLOCK, &scratch.key);
            format.store_value(values, position % BLOCK, value_row);
        }
    }

    /// Root-mean-square norm, then rotation of the pairs (i, i + dim/2) by the angles of the position.
    #[inline(always)]
    fn norm_and_rotate(&self, row: &[f32], weight: &[f32], position: usize, out: &mut [f32]) {
        let half = row.len() / 2;
        let mean_square = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
        let inverse = 1.0 / (mean_square + self.attention.epsilon).sqrt();
        let cos = &self.attention.cos[position * half..][..half];
        let sin = &self.attention.sin[position * half..][..half];
        for i in 0..half {
            let a = row[i] * inverse * weight[i];
            let b = row[i + half] * inverse * weight[i + half];
            out[i] = a * cos[i] - b * sin[i];
            out[i + half] = b * cos[i] + a * sin[i];
        }
    }

    /// Attention of a tile of rows over the stream's cache.
    #[inline(always)]
    unsafe fn attend(
        &self,
        pools: CachePools,
        output: OutputRows,
        rows: std::ops::Range<usize>,
        scratch: &mut Scratch,
    ) {
        let Attention { heads, format, scale, q_norm, .. } = *self.attention;
        let (dim, group) = (heads.dim, heads.group());
        let record_bytes = format.record_bytes(dim);

        scratch.queries.resize(TILE_ROWS * dim, 0.0);
        for (index, row) in rows.clone().enumerate() {
            let projection = self.projection(row / group, self.kv_head * group + row % group);
            let query = &mut scratch.queries[index * dim..][..dim];
            self.norm_and_rotate(projection, q_norm, self.past + row / group, query);
            query.iter_mut().for_each(|x| *x *= scale);
        }
        scratch.keys.resize(dim * BLOCK, 0.0);
        scratch.values.resize(BLOCK * dim, 0.0);
        scratch.sums.clear();
        scratch.sums.resize(rows.len() * dim, 0.0);
        scratch.softmax.clear();
        scratch.softmax.resize(rows.len(), (f32::NEG_INFINITY, 0.0));

        // The last row of the tile sees the most tokens.
        let visible = self.past + (rows.end - 1) / group + 1;
        for block in 0..visible.div_ceil(BLOCK) {
            let first = block * BLOCK;
            let tokens = (visible - first).min(BLOCK);
            let offset = self.record_offset(block);
            // SAFETY: `validate` checked that the block exists; nobody writes it now: `append` of this task is done,
            // and blocks that other streams use are not written in this batch.
            let (keys, values) = unsafe {
                (
                    std::slice::from_raw_parts(pools.keys.add(offset), record_bytes),
                    std::slice::from_raw_parts(pools.values.add(offset), record_bytes),
                )
            };
            format.load_keys(keys, dim, tokens, &mut scratch.keys);
            format.load_values(values, dim, tokens, &mut scratch.values);
            for (index, row) in rows.clone().enumerate() {
                let seen = (self.past + row / group + 1).saturating_sub(first).min(BLOCK);
                if seen > 0 {
                    attend_block(
                        &scratch.queries[index * dim..][..dim],
                        &scratch.keys,
                        &scratch.values,
                        seen,
                        &mut scratch.softmax[index],
                        &mut scratch.sums[index * dim..][..dim],
                    );
                }
            }
        }

        for (index, row) in rows.enumerate() {
            let column = (self.kv_head * group + row % group) * dim;
            let at = (self.first_token + row / group) * heads.query * dim + column;
            // SAFETY: the output has `tokens` rows of `query * dim` values, and these columns are this task's own.
            let out = unsafe { std::slice::from_raw_parts_mut(output.0.add(at), dim) };
            let weight = 1.0 / scratch.softmax[index].1;
            for (out, sum) in out.iter_mut().zip(&scratch.sums[index * dim..][..dim]) {
                *out = sum * weight;
            }
        }
    }
}

/// Adds the first `seen` tokens of a block to one row: its running maximum, sum of weights and weighted values.
#[inline(always)]
fn attend_block(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    seen: usize,
    (max, total): &mut (f32, f32),
    sums: &mut [f32],
) {
    let mut scores = [0.0f32; BLOCK];
    for (q, column) in query.iter().zip(keys.as_chunks::<BLOCK>().0) {
        for (score, key) in scores.iter_mut().zip(column) {
            *score += q * key;
        }
    }
    let scores = &mut scores[..seen];
    let block_max = scores.iter().fold(f32::NEG_INFINITY, |max, score| max.max(*score));
    if block_max > *max {
        let shrink = (*max - block_max).exp();
        *total *= shrink;
        sums.iter_mut().for_each(|sum| *sum *= shrink);
        *max = block_max;
    }
    for (score, row) in scores.iter().zip(values.chunks_exact(sums.len())) {
        let weight = (score - *max).exp();
        *total += weight;
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += weight * value;
        }
    }
}
