//! A GPU: its memory, and what its kernels want of a batch, which they do not check.

use half::{bf16, f16, vec::HalfBitsVecExt};
use ort::{
    memory::{Allocator, MemoryInfo},
    session::Session,
    value::{DynTensor, Tensor, TensorElementType},
};

use super::cache::{self, Cache, Memory};
use crate::{
    Error, Result,
    bundle::{Dimensions, Float},
    model::{Layout, RaggedBatch, StepLogits, graph},
    runtime::{Runtime, memory},
};

/// The most streams that ONNX Runtime's attention takes at a time.
const MAX_STREAMS: usize = 256;

/// The device that a model is on.
pub(super) struct Device {
    pub(super) runtime: Runtime,
    /// The device's.
    pub(super) memory: MemoryInfo<'static>,
}

impl Device {
    pub(super) fn allocator(&self, session: &Session) -> Result<Allocator> {
        Ok(Allocator::new(session, self.memory.clone())?)
    }

    /// Takes device memory for the cache, and blocks beyond those that streams get, fills it with zeros, and binds it to the
    /// session.
    pub(super) fn cache(
        &self,
        session: &Session,
        dims: &Dimensions,
        float: Float,
        layout: Layout,
        spare: usize,
    ) -> Result<Cache> {
        let allocator = self.allocator(session)?;
        let mut tensors = Vec::new();
        let shape = [layout.blocks + spare, layout.block_tokens, dims.num_kv_heads, dims.head_dim];
        let kind = if float == Float::Bf16 { TensorElementType::Bfloat16 } else { TensorElementType::Float16 };
        let bytes = shape.iter().product::<usize>() * float.bytes();
        let mut zero = None;
        for name in graph::paged::cache_names(dims, "") {
            let out_of_memory = |error: ort::Error| {
                tracing::error!(error = error.message(), bytes, "no device memory for a layer's KV cache");
                Error::OutOfMemory { bytes, purpose: "a layer's KV cache in device memory: set cache.mib to less" }
            };
            let mut tensor = DynTensor::new(&allocator, kind, shape).map_err(out_of_memory)?;
            // What was in the memory before is nobody's to see.
            let zeros = match zero.take() {
                Some(zeros) => zeros,
                None => zeros(shape, float)?,
            };
            self.copy(&zeros, &mut tensor)?;
            zero = Some(zeros);
            tensors.push((name, tensor));
        }
        let mut binding = session.create_binding()?;
        cache::bind(&mut binding, &mut tensors)?;
        // Some providers only notice later that there was not so much.
        self.is_there(session).map_err(|error| {
            let reason = format!(
                "the device does not answer after {} MiB were taken of it: {error}",
                (layout.blocks * layout.block_bytes) >> 20
            );
            Error::config("cache.mib", reason)
        })?;
        Ok(Cache { binding, memory: Memory::Device(tensors), layout })
    }

    /// Copies a tensor to one of the same shape and type that is elsewhere.
    fn copy(&self, from: &DynTensor, to: &mut DynTensor) -> Result<()> {
        Ok(memory::copy(&self.runtime, [(from, to)])?)
    }

    /// Whether the device still takes and gives what it was given.
    fn is_there(&self, session: &Session) -> Result<()> {
        let allocator = self.allocator(session)?;
        let sent = Tensor::from_array(([4usize], vec![1f32, 2.0, 3.0, 4.0]))?.upcast();
        let mut there = DynTensor::new(&allocator, TensorElementType::Float32, [4usize])?;
        let mut back = DynTensor::new(&Allocator::default(), TensorElementType::Float32, [4usize])?;
        self.copy(&sent, &mut there)?;
        self.copy(&there, &mut back)?;
        match back.try_extract_tensor::<f32>()?.1 == [1.0, 2.0, 3.0, 4.0] {
            true => Ok(()),
            false => Err(Error::inference("it gives back other numbers than it was given")),
        }
    }
}

fn zeros(shape: [usize; 4], float: Float) -> Result<DynTensor> {
    let zeros = pages_of_zeros(shape.iter().product())?;
    Ok(match float {
        Float::Bf16 => Tensor::from_array((shape, zeros.reinterpret_into::<bf16>()))?.upcast(),
        _ => Tensor::from_array((shape, zeros.reinterpret_into::<f16>()))?.upcast(),
    })
}

/// Zeros of 16 bits. They are never written, so the system needs no memory for those that are many.
fn pages_of_zeros(count: usize) -> Result<Vec<u16>> {
    let bytes = count.saturating_mul(size_of::<u16>());
    let out_of_memory =
        |_| Error::OutOfMemory { bytes, purpose: "zeros for a layer's KV cache: set cache.mib to less" };
    // What cannot be had would end the process below.
    Vec::<u16>::new().try_reserve_exact(count).map_err(out_of_memory)?;
    Ok(vec![0; count])
}

/// How long streams are, as the attention is told beforehand: the most new tokens of a stream, and twice the most tokens of
/// one.
pub(super) fn metadata(batch: &RaggedBatch) -> [i32; 3] {
    let (mut new, mut all) = (0, 0);
    for (ends, past) in batch.cu_seqlens.windows(2).zip(&batch.past_lens) {
        new = new.max(ends[1] - ends[0]);
        all = all.max(past + ends[1] - ends[0]);
    }
    [new, all, all]
}

/// The kernels check nothing: a wrong index would read or write what is another stream's, without a word.
pub(super) fn check(batch: &RaggedBatch, layout: Layout, context: usize) -> Result<()> {
    let streams = batch.past_lens.len();
    let ends = &batch.cu_seqlens;
    if batch.blocks.len() != streams
        || ends.len() != streams + 1
        || ends[0] != 0
        || ends[streams] as usize != batch.tokens()
    {
        return Err(Error::inference("a batch has streams without lengths or blocks"));
    }
    let mut written: Vec<i32> = Vec::new();
    let mut read: Vec<i32> = Vec::new();
    for (stream, blocks) in batch.blocks.iter().enumerate() {
        let (past, new) = (batch.past_lens[stream], ends[stream + 1].checked_sub(ends[stream]).unwrap_or(-1));
        let (Ok(past), Ok(new)) = (usize::try_from(past), usize::try_from(new)) else {
            return Err(Error::inference("a batch has a stream of a negative length"));
        };
        let needed = (past + new).div_ceil(layout.block_tokens);
        if new == 0 || past + new > context || needed > blocks.len() {
            return Err(Error::inference("a batch has a stream that is empty, too long, or without blocks for it"));
        }
        if blocks.iter().any(|block| usize::try_from(*block).ok().is_none_or(|block| block >= layout.blocks)) {
            return Err(Error::inference("a batch names a block that is not there"));
        }
        let (kept, own) = blocks[..needed].split_at(past / layout.block_tokens);
        read.extend(kept);
        written.extend(own);
    }
    written.sort_unstable();
    if !written.is_sorted_by(|a, b| a < b) || read.iter().any(|block| written.binary_search(block).is_ok()) {
        return Err(Error::inference("a batch writes a block that another stream has"));
    }
    Ok(())
}

/// Runs a batch in parts of as many streams as the attention takes.
pub(super) fn in_parts(
    batch: &RaggedBatch,
    run: &mut dyn FnMut(&RaggedBatch) -> Result<StepLogits>,
) -> Result<StepLogits> {
    let streams = batch.past_lens.len();
    if streams <= MAX_STREAMS {
        return run(batch);
    }
    let mut all: Option<StepLogits> = None;
    for first in (0..streams).step_by(MAX_STREAMS) {
        let part = run(&part(batch, first, (first + MAX_STREAMS).min(streams)))?;
        match &mut all {
            None => all = Some(part),
            Some(all) => {
                for (all, part) in all.heads.iter_mut().zip(part.heads) {
                    all.append(ndarray::Axis(0), part.view()).map_err(|error| Error::inference(error.to_string()))?;
                }
                all.row_check.extend(part.row_check);
            }
        }
    }
    all.ok_or_else(|| Error::inference("a batch has no streams"))
}

/// Some streams of a batch.
fn part(batch: &RaggedBatch, first: usize, end: usize) -> RaggedBatch {
    let rows = batch.cu_seqlens[first] as usize..batch.cu_seqlens[end] as usize;
    let own = |wanted: &Vec<usize>| {
        wanted.iter().filter(|row| rows.contains(row)).map(|row| row - rows.start).collect::<Vec<_>>()
    };
    RaggedBatch {
        input_ids: batch.input_ids[rows.clone()].to_vec(),
        cu_seqlens: batch.cu_seqlens[first..=end].iter().map(|row| row - rows.start as i32).collect(),
        past_lens: batch.past_lens[first..end].to_vec(),
        blocks: batch.blocks[first..end].to_vec(),
        wanted: batch.wanted.iter().map(own).collect(),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis, array};

    use super::*;
    use crate::model::BlockId;

    const LAYOUT: Layout = Layout { block_tokens: 32, blocks: 8, block_bytes: 1 };

    /// Three streams: a prompt of 40 tokens, one token after 64, and one after 31.
    fn batch() -> RaggedBatch {
        let blocks = |ids: &[usize]| ids.iter().map(|id| BlockId::new(*id)).collect::<Vec<_>>();
        let mut batch = RaggedBatch::new(2);
        batch.push(&[1; 40], 0, &blocks(&[3, 0]));
        batch.push(&[2], 64, &blocks(&[1, 2, 4]));
        // Shares its first block.
        batch.push(&[3], 64, &blocks(&[1, 2, 5, 6]));
        batch
    }

    #[test]
    fn lengths_are_told_beforehand() {
        assert_eq!(metadata(&batch()), [40, 65, 65]);
    }

    #[test]
    fn what_kernels_would_not_notice_is_refused() {
        check(&batch(), LAYOUT, 100).unwrap();
        type Edit = fn(&mut RaggedBatch);
        let edits: [(Edit, &str); 14] = [
            (|batch| batch.blocks[0][1] = 8, "a block that is not there"),
            (|batch| batch.blocks[0][1] = -1, "a block that is not there"),
            (|batch| batch.blocks[2][3] = i32::MAX, "a block that is not there"),
            (|batch| batch.blocks[0].truncate(1), "without blocks"),
            (|batch| batch.blocks.truncate(2), "without lengths or blocks"),
            (|batch| batch.past_lens[1] = -1, "negative"),
            (|batch| batch.past_lens[1] = 100, "too long"),
            (|batch| batch.cu_seqlens[1] = 41, "empty"),
            (|batch| batch.cu_seqlens[1] = 99, "without blocks"),
            (|batch| batch.cu_seqlens[0] = 1, "without lengths or blocks"),
            (|batch| batch.cu_seqlens[3] = 43, "without lengths or blocks"),
            (|batch| batch.cu_seqlens[1] = i32::MIN, "negative"),
            // Two write one block, or one writes what another reads.
            (|batch| batch.blocks[2][2] = 4, "that another stream has"),
            (|batch| batch.blocks[0][0] = 1, "that another stream has"),
        ];
        for (edit, expected) in edits {
            let mut batch = batch();
            edit(&mut batch);
            let error = check(&batch, LAYOUT, 100).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        // As many as the context has, and not one more.
        check(&batch(), LAYOUT, 65).unwrap();
        check(&batch(), LAYOUT, 64).unwrap_err();
    }

    /// Rows keep their order and their logits, whatever part they are in.
    #[test]
    fn more_streams_than_the_attention_takes_are_run_in_parts() {
        let mut whole = RaggedBatch::new(2);
        for stream in 0..600usize {
            let first = whole.tokens();
            whole.push(&vec![stream as u32; 1 + stream % 3], stream, &[BlockId::new(stream)]);
            whole.want([crate::model::HeadId::new(stream % 2)].into_iter().collect(), first..whole.tokens());
        }
        let mut streams = Vec::new();
        let mut run = |part: &RaggedBatch| {
            streams.push(part.past_lens.len());
            assert_eq!(part.cu_seqlens[0], 0);
            assert_eq!(*part.cu_seqlens.last().unwrap() as usize, part.tokens());
            let id = |row: &usize| part.input_ids[*row] as f32;
            let heads =
                part.wanted.iter().map(|rows| Array2::from_shape_fn((rows.len(), 1), |(row, _)| id(&rows[row])));
            Ok(StepLogits { heads: heads.collect(), row_check: part.input_ids.iter().map(|id| *id as f32).collect() })
        };
        let logits = in_parts(&whole, &mut run).unwrap();
        assert_eq!(streams, [256, 256, 88]);
        assert_eq!(logits.row_check, whole.input_ids.iter().map(|id| *id as f32).collect::<Vec<_>>());
        for (head, rows) in logits.heads.iter().zip(&whole.wanted) {
            let wanted: Vec<f32> = rows.iter().map(|row| whole.input_ids[*row] as f32).collect();
            assert_eq!(head.index_axis(Axis(1), 0).to_vec(), wanted);
        }
        let few = in_parts(&batch(), &mut |_| Ok(StepLogits { heads: vec![array![[7.0]]], row_check: Vec::new() }));
        assert_eq!(few.unwrap().heads, [array![[7.0]]]);
    }
}
