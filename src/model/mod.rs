//! The model: a ragged batch of new tokens in, the logits out of each head for the rows that are wanted of it. Nothing above
//! knows what ONNX is, nothing here knows what a stream says or what a head is for.

pub(crate) mod cache_size;
pub(crate) mod cpu_ops;
mod graph;
mod on_device;
mod onnx;
pub(crate) mod open;
pub(crate) mod paged;
mod pool;
pub(crate) mod portable;
pub(crate) mod request;

use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};

use crate::{Result, bundle::Float, config::Activations};

pub(crate) use cpu_ops::attention::cache::CacheFormat;

/// What a model computes with, beside what the bundle says of its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// The bundle's own weights, a cache of this format, and activations rounded so.
    Bundle(CacheFormat, Activations),
    /// Weights that were made for this backend, of so many bits in its matrices, and a cache of such numbers.
    Own { weight_bits: u32, float: Float },
}

/// A head of a model: its place among those that the bundle lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadId(u8);

impl HeadId {
    pub(crate) const fn new(index: usize) -> Self {
        HeadId(index as u8)
    }

    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

/// Some heads of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HeadSet(u32);

impl HeadSet {
    pub(crate) fn iter(self) -> impl Iterator<Item = HeadId> {
        (0..u32::BITS as usize).filter(move |index| self.0 >> index & 1 == 1).map(HeadId::new)
    }
}

impl FromIterator<HeadId> for HeadSet {
    fn from_iter<T: IntoIterator<Item = HeadId>>(heads: T) -> Self {
        HeadSet(heads.into_iter().fold(0, |set, head| set | 1 << head.index()))
    }
}

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
#[derive(Debug)]
pub(crate) struct RaggedBatch {
    /// `[tokens]`
    pub(crate) input_ids: Vec<i64>,
    /// Where each stream's tokens end; starts with 0: `[streams + 1]`.
    pub(crate) cu_seqlens: Vec<i32>,
    /// Tokens of each stream in the cache: `[streams]`.
    pub(crate) past_lens: Vec<i32>,
    /// Cache blocks of each stream, first to last.
    pub(crate) blocks: Vec<Vec<i32>>,
    /// Of each head the rows, that is places among the tokens, whose logits are wanted: ascending.
    pub(crate) wanted: Vec<Vec<usize>>,
}

impl RaggedBatch {
    /// An empty batch for a model of so many heads.
    pub(crate) fn new(heads: usize) -> Self {
        RaggedBatch {
            input_ids: Vec::new(),
            cu_seqlens: vec![0],
            past_lens: Vec::new(),
            blocks: Vec::new(),
            wanted: vec![Vec::new(); heads],
        }
    }

    /// Adds a stream's next tokens. `blocks` must have room for `past` and the new ones.
    pub(crate) fn push(&mut self, ids: &[u32], past: usize, blocks: &[BlockId]) {
        self.input_ids.extend(ids.iter().map(|id| i64::from(*id)));
        self.cu_seqlens.push(self.input_ids.len() as i32);
        self.past_lens.push(past as i32);
        self.blocks.push(blocks.iter().map(|block| block.0 as i32).collect());
    }

    /// Wants logits of heads for rows that come after those wanted so far.
    pub(crate) fn want(&mut self, heads: HeadSet, rows: Range<usize>) {
        for head in heads.iter() {
            self.wanted[head.index()].extend(rows.clone());
        }
    }

    pub(crate) fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// Which of a head's wanted rows are among these.
    fn places(&self, head: HeadId, rows: &Range<usize>) -> Range<usize> {
        let place = |row: usize| self.wanted[head.index()].partition_point(|wanted| *wanted < row);
        place(rows.start)..place(rows.end)
    }
}

/// What a step gives.
#[derive(Debug)]
pub(crate) struct StepLogits {
    /// Of each head, `[wanted rows, classes]`.
    pub(crate) heads: Vec<Array2<f32>>,
    /// For each token of the batch a number that is finite only if all that the heads would read of it is, wanted or not.
    pub(crate) row_check: Vec<f32>,
}

impl StepLogits {
    /// A head's logits for those of some rows that the batch wants of it.
    pub(crate) fn rows(&self, batch: &RaggedBatch, head: HeadId, rows: Range<usize>) -> ArrayView2<'_, f32> {
        self.heads[head.index()].slice(s![batch.places(head, &rows), ..])
    }

    /// The first of some rows that has a number which is not finite: of its check, or a logit that is wanted.
    pub(crate) fn first_not_finite(&self, batch: &RaggedBatch, rows: Range<usize>) -> Option<usize> {
        let checked = rows.clone().find(|row| !self.row_check[*row].is_finite());
        let wanted = (0..self.heads.len()).map(HeadId::new).filter_map(|head| {
            let logits = self.rows(batch, head, rows.clone());
            let place = logits.rows().into_iter().position(|row| !row.iter().all(|logit| logit.is_finite()))?;
            batch.wanted[head.index()].get(batch.places(head, &rows).start + place).copied()
        });
        checked.into_iter().chain(wanted).min()
    }
}

/// Logits of some heads, `[rows, classes]` each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logits(Vec<(HeadId, Array2<f32>)>);

impl Logits {
    /// A head's. Of a head that was not asked for, or no tokens, there are no rows.
    pub(crate) fn head(&self, head: HeadId) -> ArrayView2<'_, f32> {
        let found = self.0.iter().find(|(known, _)| *known == head);
        found.map_or_else(|| ArrayView2::from(&[[]; 0]), |(_, logits)| logits.view())
    }
}

impl FromIterator<(HeadId, Array2<f32>)> for Logits {
    fn from_iter<T: IntoIterator<Item = (HeadId, Array2<f32>)>>(heads: T) -> Self {
        Logits(heads.into_iter().collect())
    }
}

/// A model that runs one step at a time and keeps the KV cache.
pub(crate) trait Model: Send {
    /// What errors call it: the bundle's name.
    fn name(&self) -> &str;

    /// How its KV cache is divided.
    fn layout(&self) -> Layout;

    /// The most tokens of a stream: all blocks, unless a stream cannot have several.
    fn context(&self) -> usize {
        let Layout { blocks, block_tokens, .. } = self.layout();
        blocks.saturating_mul(block_tokens)
    }

    /// How many heads it has.
    fn heads(&self) -> usize;

    /// Runs something with an empty cache of so many blocks in place of its own, which comes back as it was. It is of f32,
    /// or of what the graph has if that has a type of its own.
    fn with_f32_cache(&mut self, blocks: usize, run: &mut dyn FnMut(&mut dyn Model) -> Result<()>) -> Result<()>;

    /// Runs one step and gives the logits that the batch wants. After an error the cache holds nothing new for any
    /// stream of the batch.
    fn run(&mut self, batch: &RaggedBatch) -> Result<StepLogits>;
}

#[cfg(test)]
mod tests;
