//! The paged graph: its session, the KV pools bound to it, and its inputs and outputs.

mod cache;
pub(super) mod cpu;
mod device;
pub(super) mod gpu;
mod recorded;

use ndarray::{Array2, ArrayViewD, Axis, Ix1, Ix2};
use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::Session,
    value::Tensor,
};

use super::{
    CacheFormat, Layout, Model, RaggedBatch, StepLogits,
    cache_size::Block,
    graph::{self, paged::ROW_CHECK},
};
use crate::{
    Error, Result,
    bundle::{Bundle, Dimensions, Place},
    config::Activations,
    limits,
    runtime::{SessionError, Weights},
};
use cache::Cache;
use recorded::{Outputs, Recorder};

/// How to open a [`PagedModel`].
pub(crate) struct PagedOptions {
    pub(crate) format: CacheFormat,
    /// Bytes for keys and values of all layers together.
    pub(crate) cache_bytes: usize,
    pub(crate) threads: usize,
    pub(crate) activations: Activations,
}

/// The paged graph with its KV cache.
pub(crate) struct PagedModel {
    name: String,
    session: Session,
    cache: Cache,
    kind: Kind,
    dims: Dimensions,
    heads: Vec<Head>,
    /// The inputs that name rows.
    rows: Vec<String>,
}

/// What differs between processors.
enum Kind {
    Cpu {
        /// A block of a cache in f32.
        f32_block: Block,
    },
    Gpu {
        /// If steps are recorded.
        recorder: Option<Recorder>,
    },
}

/// An output of the graph.
struct Head {
    name: String,
    classes: usize,
    /// Which of the inputs names its rows.
    rows: usize,
}

/// A bundle's graph, after it was checked.
struct Graph {
    file: String,
    bytes: Vec<u8>,
    /// Where the weights are: the folder, and the name that the graph has for them.
    folder: String,
    location: String,
}

/// What is wrong with a bundle, or with the machine, if there is no session.
fn session_error(bundle: &Bundle, graph: &str, weights: &str, error: SessionError) -> Error {
    match error {
        SessionError::Threads(error) | SessionError::Provider(error) => error,
        SessionError::Graph(reason) => bundle.file_error(graph, reason),
        SessionError::Weights(reason) => bundle.file_error(weights, reason),
    }
}

/// A bundle's file of weights, which is in this folder or in memory.
fn weights<'a>(bundle: &Bundle, file: &'a str, graph: &'a Graph) -> Result<Weights<'a>> {
    Ok(match &bundle.place {
        Place::Folder(_) => Weights::Folder { folder: &graph.folder, name: &graph.location },
        Place::Embedded(_) => Weights::Memory { name: file, bytes: bundle.place.read(file, u64::MAX)? },
    })
}

impl Graph {
    /// Checks the graph of this name in guard.toml.
    fn checked(
        bundle: &Bundle,
        name: &str,
        check: impl FnOnce(&[u8], &graph::paged::Expected) -> Result<Vec<u8>, String>,
    ) -> Result<Self> {
        let manifest = &bundle.manifest;
        let missing = || bundle.field_error(&format!("graphs.{name}.file"), "missing".to_owned());
        let graph = manifest.graphs.get(name).ok_or_else(missing)?;
        let file = graph.file.clone().ok_or_else(missing)?;
        let (folder, location) = bundle.place.weights(&graph.weights)?;
        let expected = graph::paged::Expected {
            dims: &manifest.model,
            heads: &manifest.heads,
            file: &graph.weights,
            weights: bundle.place.len(&graph.weights)?,
            location: &location,
        };
        let bytes = bundle.place.read(&file, limits::GRAPH_BYTES)?;
        let bytes = check(&bytes, &expected).map_err(|reason| bundle.file_error(&file, reason))?;
        Ok(Graph { file, bytes, folder, location })
    }
}

impl PagedModel {
    fn new(bundle: &Bundle, session: Session, cache: Cache, kind: Kind) -> Self {
        let manifest = &bundle.manifest;
        let rows: Vec<String> = graph::paged::row_inputs(&manifest.heads).into_iter().map(str::to_owned).collect();
        let heads = manifest.heads.iter().map(|head| Head {
            name: head.name.clone(),
            classes: head.class_count(&manifest.model),
            rows: rows.iter().position(|rows| *rows == head.rows).unwrap_or(0),
        });
        let (heads, dims) = (heads.collect(), manifest.model.clone());
        PagedModel { name: bundle.name(), session, cache, kind, dims, heads, rows }
    }

    /// The rows that each input names: those of its heads, ascending.
    fn rows(&self, batch: &RaggedBatch) -> Vec<Vec<usize>> {
        let mut rows = vec![Vec::new(); self.rows.len()];
        for (head, wanted) in self.heads.iter().zip(&batch.wanted) {
            let rows = &mut rows[head.rows];
            if rows != wanted {
                rows.extend(wanted);
                rows.sort_unstable();
                rows.dedup();
            }
        }
        rows
    }

    fn bind_batch(&mut self, batch: &RaggedBatch, rows: &[Vec<usize>]) -> Result<()> {
        let streams = batch.past_lens.len();
        let width = batch.blocks.iter().map(Vec::len).max().unwrap_or(0);
        let mut table = vec![0i32; streams * width];
        for (row, blocks) in table.chunks_exact_mut(width.max(1)).zip(&batch.blocks) {
            row[..blocks.len()].copy_from_slice(blocks);
        }
        let binding = &mut self.cache.binding;
        let cpu = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?;
        for name in self.heads.iter().map(|head| &*head.name).chain([ROW_CHECK]) {
            // Anew for every step: a bound output keeps the tensor, and so the shape, of the last run.
            binding.bind_output_to_device(name, &cpu)?;
        }
        for (name, rows) in self.rows.iter().zip(rows) {
            let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
            binding.bind_input(name, &Tensor::from_array(([rows.len()], rows))?)?;
        }
        binding.bind_input("input_ids", &Tensor::from_array(([batch.tokens()], batch.input_ids.clone()))?)?;
        binding.bind_input("cu_seqlens", &Tensor::from_array(([streams + 1], batch.cu_seqlens.clone()))?)?;
        binding.bind_input("past_lens", &Tensor::from_array(([streams], batch.past_lens.clone()))?)?;
        binding.bind_input("block_table", &Tensor::from_array(([streams, width], table))?)?;
        if let Kind::Gpu { .. } = self.kind {
            let metadata = device::metadata(batch).to_vec();
            binding.bind_input(graph::gpu::METADATA, &Tensor::from_array(([metadata.len()], metadata))?)?;
        }
        Ok(())
    }

    /// The runtime's Gather would read outside its tables only after its own check, but its message would not name the
    /// token, and it takes negative rows; an empty batch crashes some kernels.
    fn check(&self, batch: &RaggedBatch) -> Result<()> {
        let known = 0..self.dims.vocab_size as i64;
        if batch.tokens() == 0 || batch.input_ids.iter().any(|id| !known.contains(id)) {
            return Err(Error::inference("a batch is empty or has an unknown token id"));
        }
        let ascending = |rows: &Vec<usize>| rows.is_sorted_by(|a, b| a < b);
        let inside = |rows: &Vec<usize>| rows.last().is_none_or(|last| *last < batch.tokens());
        if batch.wanted.len() != self.heads.len() || !batch.wanted.iter().all(|rows| ascending(rows) && inside(rows)) {
            return Err(Error::inference("a batch wants rows or heads that are not there"));
        }
        match &self.kind {
            // The operator of the CPU looks at the rest.
            Kind::Cpu { .. } => Ok(()),
            Kind::Gpu { .. } => device::check(batch, self.cache.layout, self.dims.context),
        }
    }

    /// Runs a step that was checked.
    fn run_checked(&mut self, batch: &RaggedBatch) -> Result<StepLogits> {
        let rows = self.rows(batch);
        if let Some(logits) = self.run_recorded(batch, &rows)? {
            return Ok(logits);
        }
        self.bind_batch(batch, &rows)?;
        let binding = &self.cache.binding;
        let outputs = match &self.kind {
            Kind::Gpu { recorder: Some(recorder) } => {
                self.session.run_binding_with_options(binding, recorder.plain())?
            }
            _ => self.session.run_binding(binding)?,
        };
        let heads = self.heads.iter().zip(&batch.wanted).map(|(head, wanted)| {
            head_logits(outputs[&*head.name].try_extract_array()?, head, &rows[head.rows], wanted)
        });
        let heads = heads.collect::<Result<_>>()?;
        Ok(StepLogits { heads, row_check: row_check(outputs[ROW_CHECK].try_extract_array()?, batch.tokens())? })
    }

    /// Runs a step as the device has recorded it, if it records such steps.
    fn run_recorded(&mut self, batch: &RaggedBatch, rows: &[Vec<usize>]) -> Result<Option<StepLogits>> {
        let Kind::Gpu { recorder: Some(recorder) } = &mut self.kind else { return Ok(None) };
        let heads = self.heads.iter().map(|head| (&*head.name, head.classes, head.rows)).collect();
        let outputs = Outputs { heads, rows: &self.rows };
        let Some(found) = recorder.run(&mut self.session, &mut self.cache, &outputs, batch, rows)? else {
            return Ok(None);
        };
        let Some((check, found)) = found.split_last() else { return Ok(None) };
        let heads = self.heads.iter().zip(&batch.wanted).zip(found).map(|((head, wanted), found)| {
            let (all, rows) = (found.try_extract_array()?, &rows[head.rows]);
            head_logits(all.slice_axis(Axis(0), (..rows.len()).into()), head, rows, wanted)
        });
        let heads = heads.collect::<Result<_>>()?;
        let check = check.try_extract_array()?;
        let row_check = row_check(check.slice_axis(Axis(0), (..batch.tokens()).into()), batch.tokens())?;
        Ok(Some(StepLogits { heads, row_check }))
    }
}

impl Model for PagedModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn layout(&self) -> Layout {
        self.cache.layout
    }

    fn heads(&self) -> usize {
        self.heads.len()
    }

    fn with_f32_cache(&mut self, blocks: usize, run: &mut dyn FnMut(&mut dyn Model) -> Result<()>) -> Result<()> {
        let Kind::Cpu { f32_block: Block { tokens: block_tokens, bytes: block_bytes } } = self.kind else {
            return run(self);
        };
        let layout = Layout { block_tokens, blocks, block_bytes };
        let other = Cache::new(&self.session, &self.dims, CacheFormat::Fp32, layout)?;
        let own = std::mem::replace(&mut self.cache, other);
        let result = run(self);
        self.cache = own;
        result
    }

    fn run(&mut self, batch: &RaggedBatch) -> Result<StepLogits> {
        self.check(batch)?;
        match self.kind {
            Kind::Cpu { .. } => self.run_checked(batch),
            Kind::Gpu { .. } => device::in_parts(batch, &mut |part| self.run_checked(part)),
        }
    }
}

/// The rows that are wanted of a head, of those that were computed. The runtime does not hold a graph to the shapes that
/// it promises.
fn head_logits(view: ArrayViewD<f32>, head: &Head, rows: &[usize], wanted: &[usize]) -> Result<Array2<f32>> {
    let view = view.into_dimensionality::<Ix2>().map_err(|error| unexpected(&head.name, &error))?;
    if view.dim() != (rows.len(), head.classes) {
        let shape = [rows.len(), head.classes];
        return Err(unexpected(&head.name, &format!("its shape is {:?}, not {shape:?}", view.shape())));
    }
    if rows == wanted {
        return Ok(view.to_owned());
    }
    let places: Vec<usize> = wanted.iter().map(|row| rows.partition_point(|known| known < row)).collect();
    Ok(view.select(Axis(0), &places))
}

fn row_check(view: ArrayViewD<f32>, tokens: usize) -> Result<Vec<f32>> {
    let view = view.into_dimensionality::<Ix1>().map_err(|error| unexpected(ROW_CHECK, &error))?;
    match view.len() == tokens {
        true => Ok(view.to_vec()),
        false => Err(unexpected(ROW_CHECK, &format!("{} numbers, not {tokens}", view.len()))),
    }
}

fn unexpected(output: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::inference(format!("output {output}: {reason}"))
}

#[cfg(test)]
mod tests;
