//! The model: a ragged batch of new tokens in, the heads' logits for each of them out. Nothing above knows what ONNX
//! is, nothing here knows what a stream says.

pub(crate) mod cache_size;
pub(crate) mod cpu_ops;
mod graph;
mod onnx;
pub(crate) mod paged;
mod pool;

use std::ops::Range;

use ndarray::{Array2, ArrayView1};

use crate::Result;

pub(crate) use cpu_ops::attention::cache::CacheFormat;
pub(crate) use paged::{PagedModel, PagedOptions};

/// A block of the KV cache: token slots in all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockId(u32);

impl BlockId {
    pub(crate) fn new(index: usize) -> Self {
        BlockId(index as u32)
    }

    /// Its place in the cache.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a model's KV cache is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Tokens in a block.
    pub(crate) block_tokens: usize,
    /// Blocks in the cache.
    pub(crate) blocks: usize,
    /// Bytes of a block.
    pub(crate) block_bytes: usize,
}

/// New tokens of several streams, flattened to one axis.
#[derive(Debug, Default)]
pub(crate) struct RaggedBatch {
    /// `[tokens]`
    pub(crate) input_ids: Vec<i64>,
    /// Where each stream's tokens end; starts with 0: `[streams + 1]`.
    pub(crate) cu_seqlens: Vec<i32>,
    /// Tokens of each stream in the cache: `[streams]`.
    pub(crate) past_lens: Vec<i32>,
    /// Cache blocks of each stream, first to last.
    pub(crate) blocks: Vec<Vec<i32>>,
}

impl RaggedBatch {
    pub(crate) fn new() -> Self {
        RaggedBatch { cu_seqlens: vec![0], ..RaggedBatch::default() }
    }

    /// Adds a stream's next tokens. `blocks` must have room for `past` and the new ones.
    pub(crate) fn push(&mut self, ids: &[u32], past: usize, blocks: &[BlockId]) {
        self.input_ids.extend(ids.iter().map(|id| i64::from(*id)));
        self.cu_seqlens.push(self.input_ids.len() as i32);
        self.past_lens.push(past as i32);
        self.blocks.push(blocks.iter().map(|block| block.0 as i32).collect());
    }

    pub(crate) fn tokens(&self) -> usize {
        self.input_ids.len()
    }
}

/// Logits of the four heads for every token of a batch, each `[tokens, classes]`.
#[derive(Debug)]
pub(crate) struct HeadLogits {
    pub(crate) response: RoleLogits,
    pub(crate) query: RoleLogits,
}

/// Logits of one role's two heads.
#[derive(Debug, Clone)]
pub(crate) struct RoleLogits {
    pub(crate) risk: Array2<f32>,
    pub(crate) category: Array2<f32>,
}

impl RoleLogits {
    /// The first of these rows that has a logit which is not finite.
    pub(crate) fn first_not_finite(&self, rows: Range<usize>) -> Option<usize> {
        let finite = |row: ArrayView1<f32>| row.iter().all(|logit| logit.is_finite());
        rows.into_iter().find(|row| !finite(self.risk.row(*row)) || !finite(self.category.row(*row)))
    }

    /// Logits of no token.
    pub(crate) fn empty() -> Self {
        RoleLogits { risk: Array2::zeros((0, 0)), category: Array2::zeros((0, 0)) }
    }
}

/// A model that runs one step at a time and keeps the KV cache.
pub(crate) trait Model: Send {
    /// What errors call it: the bundle's name.
    fn name(&self) -> &str;

    /// How its KV cache is divided.
    fn layout(&self) -> Layout;

    /// Runs one step. After an error the cache holds nothing new for any stream of the batch.
    fn run(&mut self, batch: &RaggedBatch) -> Result<HeadLogits>;
}
