//! Attention over the paged cache on the CPU: q/k norm, RoPE, append to the cache, and ragged causal grouped-query
//! attention, as one operator of the graph.
//!
//! [`operator`] is what ONNX Runtime calls; it checks its inputs and hands an [`Attention`] to a kernel
//! ([`contract`]), one `task` per stream and KV head. [`kernels`] has the kernel of each instruction set. [`cache`] knows
//! how keys and values lie in memory. `reference` is the same computation written for reading, the oracle of the tests.
//!
//! A kernel is the common task, compiled for an instruction set, with an `arithmetic`: `float` computes in f32, `int8`
//! in integers on int8 blocks as they are. The result of a row depends on nothing but its own tokens: whatever shares its
//! batch, task or tile, a kernel gives it the same bits.

mod arithmetic;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod cache;
pub(crate) mod contract;
mod float;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod int8;
pub(crate) mod kernels;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod operator;
#[cfg(test)]
mod reference;
mod softmax;
mod task;
#[cfg(test)]
mod tests;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;

use cache::{BLOCK, CacheFormat};

use crate::limits;

/// Sizes of the attention heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) query: usize,
    /// Key and value heads; each serves `query / kv` query heads.
    pub(crate) kv: usize,
    /// Values per head.
    pub(crate) dim: usize,
}

impl Heads {
    /// An error if no graph has such heads; if it is none, no product of the sizes can overflow.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Heads { query, kv, dim } = *self;
        let known = (1..=limits::HEADS).contains(&query) && (1..=limits::HEADS).contains(&kv);
        // Kernels take more than a bundle may have.
        let known = known && (1..=4 * limits::HEAD_DIM).contains(&dim);
        match known && query.is_multiple_of(kv) && dim.is_multiple_of(8) {
            true => Ok(()),
            false => Err(format!("head sizes {self:?} are not supported")),
        }
    }

    /// Query heads that read one KV head.
    pub(crate) fn group(&self) -> usize {
        self.query / self.kv
    }

    /// Values per token in the packed projection: all query heads, then key heads, then value heads.
    pub(crate) fn packed_width(&self) -> usize {
        (self.query + 2 * self.kv) * self.dim
    }
}

/// One layer's attention for a ragged batch: `tokens` new tokens of `streams` streams, flattened.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    pub(crate) heads: Heads,
    /// Factor on q·k, 1/sqrt(dim) for Qwen3.
    pub(crate) scale: f32,
    /// Added to the mean square in the q and k norms.
    pub(crate) epsilon: f32,
    /// Packed projections, `[tokens, heads.packed_width()]`.
    pub(crate) qkv: &'a [f32],
    /// First token of each stream and, last, the number of tokens: `[streams + 1]`.
    pub(crate) cu_seqlens: &'a [i32],
    /// Tokens of each stream that are in the cache already: `[streams]`.
    pub(crate) past_lens: &'a [i32],
    /// Blocks of each stream, in order: `[streams, table_width]`.
    pub(crate) block_table: &'a [i32],
    pub(crate) table_width: usize,
    /// Cosines and sines of the rotary angles, `[positions, dim / 2]`.
    pub(crate) cos: &'a [f32],
    pub(crate) sin: &'a [f32],
    /// Weights of the q and k norms, `[dim]`.
    pub(crate) q_norm: &'a [f32],
    pub(crate) k_norm: &'a [f32],
    /// Blocks in the cache, and how they are written.
    pub(crate) num_blocks: usize,
    pub(crate) format: CacheFormat,
}

impl Attention<'_> {
    pub(crate) fn streams(&self) -> usize {
        self.past_lens.len()
    }

    pub(crate) fn tokens(&self) -> usize {
        self.qkv.len() / self.heads.packed_width()
    }

    /// Checks everything that indexes memory later. Kernels rely on it.
    ///
    /// Two streams may read the same block, but nobody may write a block that another stream of the batch uses.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.heads.check()?;
        let dim = self.heads.dim;
        if !self.qkv.len().is_multiple_of(self.heads.packed_width()) {
            return Err(format!("qkv has {} values, not a multiple of {}", self.qkv.len(), self.heads.packed_width()));
        }
        let positions = self.cos.len() / (dim / 2);
        if self.sin.len() != self.cos.len() || self.q_norm.len() != dim || self.k_norm.len() != dim {
            return Err("cos, sin, q_norm or k_norm has the wrong size".to_owned());
        }
        let slots = self.streams().checked_mul(self.table_width);
        if self.cu_seqlens.len() != self.streams() + 1 || Some(self.block_table.len()) != slots {
            return Err("cu_seqlens, past_lens and block_table disagree on the number of streams".to_owned());
        }
        let ends = self.cu_seqlens.iter().map(|&end| usize::try_from(end));
        let ends: Vec<usize> = ends.collect::<Result<_, _>>().map_err(|_| "cu_seqlens is negative".to_owned())?;
        if ends[0] != 0 || *ends.last().unwrap_or(&0) != self.tokens() || ends.windows(2).any(|w| w[0] > w[1]) {
            return Err(format!("cu_seqlens {ends:?} does not partition {} tokens", self.tokens()));
        }
        if self.num_blocks > limits::CACHE_BLOCKS {
            return Err(format!("{} blocks, the limit is {}", self.num_blocks, limits::CACHE_BLOCKS));
        }
        let mut owner = vec![0u32; self.num_blocks];
        for stream in 0..self.streams() {
            let past = usize::try_from(self.past_lens[stream])
                .map_err(|_| format!("past_lens of stream {stream} is negative"))?;
            let total = past + ends[stream + 1] - ends[stream];
            if total > positions {
                return Err(format!("stream {stream} reaches position {total}, there are {positions}"));
            }
            if total.div_ceil(BLOCK) > self.table_width {
                return Err(format!("stream {stream} has {total} tokens in {} blocks", self.table_width));
            }
            let table = &self.block_table[stream * self.table_width..][..total.div_ceil(BLOCK)];
            for (index, &block) in table.iter().enumerate() {
                let slot = usize::try_from(block).ok().and_then(|block| owner.get_mut(block));
                let slot = slot.ok_or_else(|| format!("block {block} of stream {stream} does not exist"))?;
                let written = total > past && (index + 1) * BLOCK > past;
                // 0: nobody; u32::MAX: read by some; else one more than the stream that writes it.
                *slot = match (*slot, written) {
                    (0, true) => stream as u32 + 1,
                    (0 | u32::MAX, false) => u32::MAX,
                    _ => return Err(format!("block {block} is written while another stream uses it")),
                };
            }
        }
        Ok(())
    }
}
