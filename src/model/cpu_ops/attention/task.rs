//! One task: a stream and a KV head of it. It appends the stream's new keys and values, then reads the cache block by
//! block for all query rows of the group, a tile of rows at a time.
//!
//! Everything here is inlined into functions that are compiled for one instruction set, so that it uses that set, too.
//! For the same reason nothing is passed as a closure to functions that might not be inlined.

use std::{cell::Cell, f32::consts::LOG2_E, ops::Range};

use super::{
    Attention, Heads,
    arithmetic::{Arithmetic, Line, Records, Row, Scratch, Strip},
    cache::BLOCK,
    contract::{CachePools, Kernel, OutputRows},
    softmax::Softmax,
};

/// Query rows that read a block together, so that their state stays in the caches next to the processor.
const TILE_ROWS: usize = 64;

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Runs a task by one arithmetic.
///
/// # Safety
/// That of [`Kernel::run_task`], and of the arithmetic.
#[inline(always)]
pub(super) unsafe fn run<A: Arithmetic>(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    let work = Task::new(attention, task);
    if work.new_tokens == 0 {
        return;
    }
    let mut scratch = SCRATCH.take();
    let mut first = 0;
    // SAFETY: the caller's promises.
    unsafe {
        work.append(pools, &mut scratch);
        while first < work.rows() {
            let end = (first + TILE_ROWS).min(work.rows());
            work.attend::<A>(pools, output, first..end, &mut scratch);
            first = end;
        }
    }
    SCRATCH.set(scratch);
}

/// One stream and one KV head of a batch.
struct Task<'a> {
    attention: &'a Attention<'a>,
    index: usize,
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
    fn new(attention: &'a Attention, index: usize) -> Self {
        let (stream, kv_head) = (index / attention.heads.kv, index % attention.heads.kv);
        let first_token = attention.cu_seqlens[stream] as usize;
        Task {
            attention,
            index,
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

    /// Tokens that a row sees: all up to its own.
    #[inline(always)]
    fn visible(&self, row: usize) -> usize {
        self.past + row / self.attention.heads.group() + 1
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

    #[inline(always)]
    fn records(&self, pools: CachePools, index: usize) -> Records {
        let offset = self.record_offset(index);
        Records { keys: pools.keys.wrapping_add(offset), values: pools.values.wrapping_add(offset) }
    }

    /// Stores keys and values of the new tokens.
    #[inline(always)]
    unsafe fn append(&self, pools: CachePools, scratch: &mut Scratch) {
        let Attention { heads, format, k_norm, .. } = *self.attention;
        let record_bytes = format.record_bytes(heads.dim);
        scratch.row.resize(heads.dim, 0.0);
        for token in 0..self.new_tokens {
            let position = self.past + token;
            let key_row = self.projection(token, heads.query + self.kv_head);
            let value_row = self.projection(token, heads.query + heads.kv + self.kv_head);
            self.norm_and_rotate(key_row, k_norm, position, 1.0, &mut scratch.row);
            let offset = self.record_offset(position / BLOCK);
            // SAFETY: `validate` checked that the block exists and that no other stream uses it; only this task uses
            // this head's record.
            let (keys, values) = unsafe {
                (
                    std::slice::from_raw_parts_mut(pools.keys.add(offset), record_bytes),
                    std::slice::from_raw_parts_mut(pools.values.add(offset), record_bytes),
                )
            };
            format.store_key(keys, position % BLOCK, &scratch.row);
            format.store_value(values, position % BLOCK, value_row);
        }
    }

    /// Root-mean-square norm, then rotation of the pairs (i, i + dim/2) by the angles of the position, times `factor`.
    #[inline(always)]
    fn norm_and_rotate(&self, row: &[f32], weight: &[f32], position: usize, factor: f32, out: &mut [f32]) {
        let half = row.len() / 2;
        let inverse = factor / (sum_of_squares(row) / row.len() as f32 + self.attention.epsilon).sqrt();
        let cos = &self.attention.cos[position * half..][..half];
        let sin = &self.attention.sin[position * half..][..half];
        let ((row_a, row_b), (weight_a, weight_b)) = (row.split_at(half), weight.split_at(half));
        let (out_a, out_b) = out.split_at_mut(half);
        let (row_b, weight_b, out_b) = (&row_b[..half], &weight_b[..half], &mut out_b[..half]);
        for i in 0..half {
            let a = row_a[i] * inverse * weight_a[i];
            let b = row_b[i] * inverse * weight_b[i];
            out_a[i] = a * cos[i] - b * sin[i];
            out_b[i] = b * cos[i] + a * sin[i];
        }
    }

    /// Attention of a tile of rows over the stream's cache.
    #[inline(always)]
    unsafe fn attend<A: Arithmetic>(
        &self,
        pools: CachePools,
        output: OutputRows,
        rows: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let Attention { heads: Heads { dim, .. }, format, .. } = *self.attention;
        // SAFETY: the caller's promises.
        unsafe { self.set_rows::<A>(rows.clone(), scratch) };
        // The last row of the tile sees the most tokens.
        let blocks = self.visible(rows.end - 1).div_ceil(BLOCK);
        for block in 0..blocks {
            let ahead = if block + 1 < blocks { self.records(pools, block + 1) } else { self.after(pools, rows.end) };
            // SAFETY: `validate` checked that the block exists; nobody writes it now: `append` of this task is done,
            // and blocks that other streams use are not written in this batch.
            let records = unsafe { A::open(format, self.records(pools, block), dim, scratch) };
            // SAFETY: the caller's promises.
            unsafe { self.attend_block::<A>(block, records, ahead, rows.clone(), scratch) };
        }
        // SAFETY: the caller's promises.
        unsafe { self.write_output(output, rows, scratch) };
    }

    /// What is read once the tile that ends at `row` is done.
    #[inline(always)]
    fn after(&self, pools: CachePools, row: usize) -> Records {
        let next = self.index + 1;
        if row < self.rows() || next == Kernel::tasks(self.attention) {
            return self.records(pools, 0);
        }
        let next = Task::new(self.attention, next);
        if next.past + next.new_tokens == 0 { self.records(pools, 0) } else { next.records(pools, 0) }
    }

    /// Prepares a tile.
    #[inline(always)]
    unsafe fn set_rows<A: Arithmetic>(&self, rows: Range<usize>, scratch: &mut Scratch) {
        let Attention { heads, scale, q_norm, .. } = *self.attention;
        let group = heads.group();
        let lines = lines_of(heads.dim);
        scratch.row.resize(heads.dim, 0.0);
        scratch.queries.resize(rows.len() * lines, Line([0.0; 16]));
        scratch.sums.clear();
        scratch.sums.resize(rows.len() * lines, Line([0.0; 16]));
        scratch.rows.clear();
        for (index, row) in rows.enumerate() {
            let projection = self.projection(row / group, self.kv_head * group + row % group);
            let position = self.past + row / group;
            // Softmax counts in powers of two.
            self.norm_and_rotate(projection, q_norm, position, scale * LOG2_E, &mut scratch.row);
            let to = scratch.queries[index * lines..][..lines].as_mut_ptr();
            // SAFETY: a row has enough lines for `dim` floats.
            let (unit, offset) = unsafe { A::set_query(&scratch.row, to.cast()) };
            scratch.rows.push(Row { unit, offset, softmax: Softmax::EMPTY });
        }
    }

    /// Adds a block to all rows that see any of it.
    #[inline(always)]
    unsafe fn attend_block<A: Arithmetic>(
        &self,
        block: usize,
        records: Records,
        ahead: Records,
        rows: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let Heads { dim, .. } = self.attention.heads;
        let (first, lines, group) = (block * BLOCK, lines_of(dim), self.attention.heads.group());
        // The first row that sees the block's first token.
        let mut row = rows.start.max(first.saturating_sub(self.past) * group);
        while row < rows.end {
            let seen = (self.visible(row) - first).min(BLOCK);
            // Rows see the whole block, or what the other heads of their token see.
            let end = if seen == BLOCK { rows.end } else { rows.end.min((row / group + 1) * group) };
            let count = (end - row).min(A::ROWS);
            let at = row - rows.start;
            let strip = Strip {
                dim,
                seen,
                records,
                ahead,
                rows: scratch.rows[at..].as_mut_ptr(),
                queries: scratch.queries[at * lines..].as_ptr().cast(),
                sums: scratch.sums[at * lines..].as_mut_ptr().cast(),
                stride: lines * size_of::<Line>(),
            };
            // SAFETY: the vectors have memory for all rows of the tile; the caller's promises.
            unsafe { attend_strip::<A>(&strip, count) };
            row += count;
        }
    }

    #[inline(always)]
    unsafe fn write_output(&self, output: OutputRows, rows: Range<usize>, scratch: &Scratch) {
        let Heads { query, dim, .. } = self.attention.heads;
        let (group, lines) = (self.attention.heads.group(), lines_of(dim));
        for (index, row) in rows.enumerate() {
            let column = (self.kv_head * group + row % group) * dim;
            let at = (self.first_token + row / group) * query * dim + column;
            // SAFETY: the output has `tokens` rows of `query * dim` values, and these columns are this task's own.
            let out = unsafe { std::slice::from_raw_parts_mut(output.0.add(at), dim) };
            let weight = 1.0 / scratch.rows[index].softmax.total();
            for (out, sums) in out.chunks_mut(16).zip(&scratch.sums[index * lines..]) {
                for (out, sum) in out.iter_mut().zip(&sums.0) {
                    *out = sum * weight;
                }
            }
        }
    }
}

/// Lines that a row of a tile takes.
#[inline(always)]
fn lines_of(dim: usize) -> usize {
    dim.div_ceil(16)
}

#[inline(always)]
fn sum_of_squares(values: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    for values in values.as_chunks::<8>().0 {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value * value;
        }
    }
    (sums[0] + sums[4] + (sums[2] + sums[6])) + (sums[1] + sums[5] + (sums[3] + sums[7]))
}

#[inline(always)]
unsafe fn attend_strip<A: Arithmetic>(strip: &Strip, rows: usize) {
    // SAFETY: the caller's promises.
    unsafe {
        match rows.min(A::ROWS) {
            1 => attend_rows::<A, 1>(strip),
            2 => attend_rows::<A, 2>(strip),
            3 => attend_rows::<A, 3>(strip),
            4 => attend_rows::<A, 4>(strip),
            5 => attend_rows::<A, 5>(strip),
            6 => attend_rows::<A, 6>(strip),
            rows => unreachable!("a strip of {rows} rows"),
        }
    }
}

/// Adds a block to the rows of a strip.
#[inline(always)]
unsafe fn attend_rows<A: Arithmetic, const ROWS: usize>(strip: &Strip) {
    let mut scores = [[0.0; BLOCK]; ROWS];
    let mut shrinks = [0.0; ROWS];
    // SAFETY: the promises of `Strip`.
    unsafe {
        A::scores(strip, &mut scores);
        for row in 0..ROWS {
            shrinks[row] = A::weigh(&mut (*strip.rows.add(row)).softmax, &mut scores[row], strip.seen);
        }
        A::add_values(strip, &scores, &shrinks);
    }
}
