//! Steps that a device has recorded and plays again, what CUDA calls graphs: the host gives one order for a whole step.
//!
//! A recording reads and writes fixed places in the device's memory and keeps its sizes, so a step is padded to the next
//! of few sizes. What pads it is a stream of nobody's, in a block of the cache that no stream gets.

use std::collections::HashMap;

use ort::{
    memory::Allocator,
    session::{IoBinding, NoSelectedOutputs, RunOptions, Session},
    value::{DynTensor, PrimitiveTensorElementType, Tensor, TensorElementType},
};

use super::{
    cache::{self, Cache, Memory},
    device::Device,
};
use crate::{
    Error, Result,
    model::{
        RaggedBatch,
        graph::{self, paged::ROW_CHECK},
    },
    runtime::memory,
};

/// The run option that names a recording.
const RECORDING: &str = "gpu_graph_id";

/// Longer steps are not recorded, unless they are one token of each stream: what a host's orders take is little of them.
const MOST_TOKENS: usize = 512;

/// Padded to a multiple of this above it, and to a power of two below, so that what is added fits into one block.
const STEP: usize = 64;

/// The least block of a cache: what pads a step fits into one.
pub(super) const LEAST_BLOCK: usize = STEP;

/// The least blocks of the longest stream.
const LEAST_WIDTH: usize = 4;

/// Recordings take device memory, and ONNX Runtime has no way to let go of one. Steps of other sizes are run as they are.
const MOST: usize = 256;

/// What a recording is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Size {
    tokens: usize,
    streams: usize,
    /// New tokens of a stream at most.
    new: usize,
    /// Blocks of a stream at most.
    width: usize,
    /// Of each input that names rows.
    rows: Vec<usize>,
}

impl Size {
    /// The one that a step is padded to, if such steps are recorded.
    fn of(batch: &RaggedBatch, rows: &[Vec<usize>], block_tokens: usize, most_width: usize) -> Option<Size> {
        let (tokens, streams) = (batch.tokens(), batch.past_lens.len());
        let width = needed(batch, block_tokens).max().unwrap_or(0);
        let width = width.next_power_of_two().clamp(LEAST_WIDTH, most_width.max(LEAST_WIDTH));
        let rows = rows.iter().map(|rows| rows.len().next_power_of_two()).collect();
        if tokens == streams {
            let streams = streams.next_power_of_two();
            return Some(Size { tokens: streams, streams, new: 1, width, rows });
        }
        let padded = if tokens <= STEP { tokens.next_power_of_two() } else { tokens.next_multiple_of(STEP) };
        let streams = (streams + usize::from(padded > tokens)).next_power_of_two();
        (tokens <= MOST_TOKENS).then_some(Size { tokens: padded, streams, new: padded, width, rows })
    }
}

/// Blocks that each stream of a batch needs.
fn needed(batch: &RaggedBatch, block_tokens: usize) -> impl Iterator<Item = usize> {
    let ends = batch.cu_seqlens.windows(2);
    ends.zip(&batch.past_lens).map(move |(ends, past)| ((past + ends[1] - ends[0]) as usize).div_ceil(block_tokens))
}

/// The inputs of a step that was padded.
#[derive(Debug, PartialEq)]
struct Padded {
    input_ids: Vec<i64>,
    cu_seqlens: Vec<i32>,
    past_lens: Vec<i32>,
    block_table: Vec<i32>,
    rows: Vec<Vec<i64>>,
}

impl Padded {
    fn new(batch: &RaggedBatch, rows: &[Vec<usize>], size: &Size, block_tokens: usize, spare: i32) -> Padded {
        let mut block_table = vec![spare; size.streams * size.width];
        let streams = block_table.chunks_exact_mut(size.width).zip(&batch.blocks);
        for ((row, blocks), count) in streams.zip(needed(batch, block_tokens)) {
            row[..count].copy_from_slice(&blocks[..count]);
        }
        let (mut cu_seqlens, mut past_lens) = (batch.cu_seqlens.clone(), batch.past_lens.clone());
        let mut left = size.tokens - batch.tokens();
        while past_lens.len() < size.streams {
            let new = left.min(size.new);
            left -= new;
            // One that has no new token has one before, so that none is without any.
            past_lens.push(i32::from(new == 0));
            cu_seqlens.push((size.tokens - left) as i32);
        }
        let mut input_ids = batch.input_ids.clone();
        input_ids.resize(size.tokens, 0);
        let rows = rows.iter().zip(&size.rows).map(|(rows, count)| {
            let mut rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
            rows.resize(*count, 0);
            rows
        });
        Padded { input_ids, cu_seqlens, past_lens, block_table, rows: rows.collect() }
    }
}

/// A tensor on the device, and one of the same shape on the host.
struct Pair {
    host: DynTensor,
    device: DynTensor,
}

impl Pair {
    fn new(allocator: &Allocator, kind: TensorElementType, shape: &[usize]) -> Result<Pair> {
        let host = DynTensor::new(&Allocator::default(), kind, shape)?;
        Ok(Pair { host, device: DynTensor::new(allocator, kind, shape)? })
    }

    fn write<T: PrimitiveTensorElementType + Copy>(&mut self, values: &[T]) -> Result<()> {
        let (_, host) = self.host.try_extract_tensor_mut::<T>()?;
        match host.len() == values.len() {
            true => host.copy_from_slice(values),
            false => return Err(Error::inference("a recorded step has inputs of another size")),
        }
        Ok(())
    }
}

/// A step of one size.
struct Recording {
    binding: IoBinding,
    options: RunOptions,
    /// Input ids, ends, lengths, blocks, then rows.
    inputs: Vec<Pair>,
    /// Heads, then the row check.
    outputs: Vec<Pair>,
}

/// The recordings of a session.
pub(super) struct Recorder {
    device: Device,
    /// The block that no stream gets.
    spare: usize,
    /// Blocks of a stream at most.
    most_width: usize,
    recordings: HashMap<Size, Recording>,
    /// For a step that is not recorded.
    plain: RunOptions,
}

/// The outputs of a model: heads with their number of classes and their input of rows.
pub(super) struct Outputs<'a> {
    pub(super) heads: Vec<(&'a str, usize, usize)>,
    pub(super) rows: &'a [String],
}

fn run_options(recording: i32) -> Result<RunOptions<NoSelectedOutputs>> {
    let mut options = RunOptions::new()?;
    options.set(RECORDING, recording.to_string())?;
    Ok(options)
}

impl Recorder {
    pub(super) fn new(device: Device, spare: usize, most_width: usize) -> Result<Self> {
        Ok(Recorder { device, spare, most_width, recordings: HashMap::new(), plain: run_options(-1)? })
    }

    /// How a step is run that is not recorded.
    pub(super) fn plain(&self) -> &RunOptions {
        &self.plain
    }

    /// Runs a step, recorded if it was not yet; what each output is, in order, with as many rows as its size has. `None` if
    /// such steps are not recorded.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        cache: &mut Cache,
        outputs: &Outputs,
        batch: &RaggedBatch,
        rows: &[Vec<usize>],
    ) -> Result<Option<Vec<&DynTensor>>> {
        let block_tokens = cache.layout.block_tokens;
        let Some(size) = Size::of(batch, rows, block_tokens, self.most_width) else { return Ok(None) };
        if !self.recordings.contains_key(&size) {
            if self.recordings.len() == MOST {
                return Ok(None);
            }
            let recording = self.recording(session, cache, outputs, &size)?;
            tracing::debug!(?size, count = self.recordings.len() + 1, "a step is recorded");
            self.recordings.insert(size.clone(), recording);
        }
        let padded = Padded::new(batch, rows, &size, block_tokens, self.spare as i32);
        let Some(recording) = self.recordings.get_mut(&size) else { return Ok(None) };
        recording.run(&self.device, session, &padded).map(Some)
    }

    /// Memory for a step of a size. The first run of it warms up and records.
    fn recording(&self, session: &Session, cache: &mut Cache, outputs: &Outputs, size: &Size) -> Result<Recording> {
        let allocator = self.device.allocator(session)?;
        let mut binding = session.create_binding()?;
        if let Memory::Device(tensors) = &mut cache.memory {
            cache::bind(&mut binding, tensors)?;
        }
        let (long, int) = (TensorElementType::Int64, TensorElementType::Int32);
        let mut inputs = Vec::new();
        let batch: [(&str, TensorElementType, Vec<usize>); 4] = [
            ("input_ids", long, vec![size.tokens]),
            ("cu_seqlens", int, vec![size.streams + 1]),
            ("past_lens", int, vec![size.streams]),
            ("block_table", int, vec![size.streams, size.width]),
        ];
        let rows = outputs.rows.iter().zip(&size.rows).map(|(name, count)| (&**name, long, vec![*count]));
        for (name, kind, shape) in batch.into_iter().chain(rows) {
            let pair = Pair::new(&allocator, kind, &shape)?;
            binding.bind_input(name, &pair.device)?;
            inputs.push(pair);
        }
        let most = (size.width * cache.layout.block_tokens) as i32;
        let metadata = vec![size.new as i32, most, most];
        binding.bind_input(graph::gpu::METADATA, &Tensor::from_array(([metadata.len()], metadata))?)?;
        let heads = outputs.heads.iter().map(|(name, classes, rows)| (*name, vec![size.rows[*rows], *classes]));
        let mut pairs = Vec::new();
        for (name, shape) in heads.chain([(ROW_CHECK, vec![size.tokens])]) {
            let mut pair = Pair::new(&allocator, TensorElementType::Float32, &shape)?;
            binding.bind_output(name, &mut pair.device)?;
            pairs.push(pair);
        }
        // The runtime counts those without a name as number 0.
        let options = run_options(self.recordings.len() as i32 + 1)?;
        Ok(Recording { binding, options, inputs, outputs: pairs })
    }
}

impl Recording {
    fn run(&mut self, device: &Device, session: &mut Session, padded: &Padded) -> Result<Vec<&DynTensor>> {
        let [input_ids, cu_seqlens, past_lens, block_table, rows @ ..] = &mut self.inputs[..] else {
            return Err(Error::inference("a recorded step is without inputs"));
        };
        input_ids.write(&padded.input_ids)?;
        cu_seqlens.write(&padded.cu_seqlens)?;
        past_lens.write(&padded.past_lens)?;
        block_table.write(&padded.block_table)?;
        for (pair, rows) in rows.iter_mut().zip(&padded.rows) {
            pair.write(rows)?;
        }
        memory::copy(&device.runtime, self.inputs.iter_mut().map(|pair| (&pair.host, &mut pair.device)))?;
        session.run_binding_with_options(&self.binding, &self.options)?;
        memory::copy(&device.runtime, self.outputs.iter_mut().map(|pair| (&pair.device, &mut pair.host)))?;
        Ok(self.outputs.iter().map(|pair| &pair.host).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BlockId;

    const BLOCK: usize = 128;
    const SPARE: i32 = 9;

    fn batch(streams: &[(usize, usize)]) -> RaggedBatch {
        let mut batch = RaggedBatch::new(1);
        for (index, (past, new)) in streams.iter().enumerate() {
            let blocks: Vec<BlockId> = (0..5).map(|block| BlockId::new(10 * (index + 1) + block)).collect();
            batch.push(&vec![index as u32 + 1; *new], *past, &blocks);
        }
        batch
    }

    fn padded(streams: &[(usize, usize)], rows: &[Vec<usize>]) -> (Size, Padded) {
        let batch = batch(streams);
        let size = Size::of(&batch, rows, BLOCK, 8).unwrap();
        let padded = Padded::new(&batch, rows, &size, BLOCK, SPARE);
        // Whatever the step, the sizes are those of the recording, and what pads it fits into the spare block.
        assert_eq!(padded.input_ids.len(), size.tokens);
        assert_eq!(padded.past_lens.len(), size.streams);
        assert_eq!(padded.cu_seqlens.len(), size.streams + 1);
        assert_eq!(*padded.cu_seqlens.last().unwrap() as usize, size.tokens);
        assert_eq!(padded.block_table.len(), size.streams * size.width);
        assert_eq!(padded.rows.iter().map(Vec::len).collect::<Vec<_>>(), size.rows);
        let longest = padded.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap();
        assert!(longest as usize <= size.new);
        for (ends, past) in padded.cu_seqlens.windows(2).zip(&padded.past_lens).skip(streams.len()) {
            assert!((1..=BLOCK as i32).contains(&(past + ends[1] - ends[0])), "{streams:?}");
        }
        (size, padded)
    }

    #[test]
    fn a_token_of_each_stream_is_padded_to_a_power_of_two() {
        let (size, padded) = padded(&[(3, 1), (200, 1), (0, 1)], &[vec![0, 1, 2], vec![]]);
        assert_eq!(size, Size { tokens: 4, streams: 4, new: 1, width: 4, rows: vec![4, 1] });
        assert_eq!(padded.input_ids, [1, 2, 3, 0]);
        assert_eq!(padded.cu_seqlens, [0, 1, 2, 3, 4]);
        assert_eq!(padded.past_lens, [3, 200, 0, 0]);
        // No block beyond those that a stream needs.
        assert_eq!(padded.block_table, [10, 9, 9, 9, 20, 21, 9, 9, 30, 9, 9, 9, 9, 9, 9, 9]);
        assert_eq!(padded.rows, [vec![0, 1, 2, 0], vec![0]]);
    }

    #[test]
    fn other_steps_are_padded_by_one_stream() {
        let (size, padded) = padded(&[(500, 20), (7, 1)], &[vec![19, 20]]);
        assert_eq!(size, Size { tokens: 32, streams: 4, new: 32, width: 8, rows: vec![2] });
        assert_eq!(padded.cu_seqlens, [0, 20, 21, 32, 32]);
        assert_eq!(padded.past_lens, [500, 7, 0, 1]);
        assert_eq!(padded.block_table[..8], [10, 11, 12, 13, 14, 9, 9, 9]);
    }

    #[test]
    fn every_step_fits_its_size() {
        for new in (2..MOST_TOKENS).step_by(7).chain([STEP, STEP + 1, MOST_TOKENS]) {
            padded(&[(0, new)], &[vec![0; new]]);
            padded(&[(5, new - 1), (127, 1)], &[vec![new - 1]]);
        }
        for streams in 1..70 {
            padded(&vec![(127, 1); streams], &[vec![]]);
        }
        let long = batch(&[(0, MOST_TOKENS + 1)]);
        assert_eq!(Size::of(&long, &[vec![]], BLOCK, 8), None);
    }
}
