//! The paged graph on the CPU: sessions, the KV pools bound to it, and its inputs and outputs.

use ndarray::{Array2, Ix2};
use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, Session, SessionOutputs},
    value::Tensor,
};

use super::{
    CacheFormat, HeadLogits, Layout, Model, RaggedBatch, RoleLogits,
    cpu_ops::{attention::cache::BLOCK, isa::Isa, operators},
    graph,
    pool::Pool,
};
use crate::{
    Error, Result,
    bundle::{Bundle, Dimensions, Place, WEIGHTS},
    limits,
    runtime::{Runtime, SessionError, SessionSpec, Weights},
};

/// The graph's outputs beside the caches, and the number of classes each must have.
const HEADS: [&str; 4] = ["risk_logits", "category_logits", "query_risk_logits", "query_category_logits"];

/// How to open a [`PagedModel`].
pub(crate) struct PagedOptions {
    pub(crate) format: CacheFormat,
    /// Bytes for keys and values of all layers together.
    pub(crate) cache_bytes: usize,
    pub(crate) threads: usize,
}

/// The paged graph with its KV cache.
pub(crate) struct PagedModel {
    name: String,
    session: Session,
    cache: Cache,
    dims: Dimensions,
    /// Classes of the [`HEADS`].
    classes: [usize; 4],
}

/// The pools of a KV cache.
struct Cache {
    /// Each pool is bound as an input and as an output once.
    binding: IoBinding,
    /// The memory behind the binding; declared after it, so dropped after it.
    _pools: Vec<Pool>,
    layout: Layout,
}

impl Cache {
    fn new(session: &Session, dims: &Dimensions, format: CacheFormat, blocks: usize) -> Result<Self> {
        let mut binding = session.create_binding()?;
        let pool_shape = [blocks, dims.num_kv_heads, format.record_bytes(dims.head_dim)];
        let mut pools = Vec::with_capacity(2 * dims.num_layers);
        for layer in 0..dims.num_layers {
            for part in ["key_cache", "value_cache"] {
                let (input, output) = (format!("{part}.{layer}"), format!("{part}_out.{layer}"));
                pools.push(Pool::bind(&mut binding, input, output, pool_shape)?);
            }
        }
        let layout = Layout { block_tokens: BLOCK, blocks, block_bytes: block_bytes(dims, format) };
        Ok(Cache { binding, _pools: pools, layout })
    }
}

impl PagedModel {
    /// Loads the bundle's graph and takes memory for the cache.
    pub(crate) fn open(bundle: &Bundle, runtime: &Runtime, options: &PagedOptions) -> Result<Self> {
        Self::open_with(bundle, runtime, options, Isa::detect())
    }

    /// As [`PagedModel::open`], with the kernels of this instruction set.
    pub(crate) fn open_with(bundle: &Bundle, runtime: &Runtime, options: &PagedOptions, isa: Isa) -> Result<Self> {
        let graph = bundle.manifest.graphs.paged_cpu.file.as_str();
        let dims = &bundle.manifest.model;
        tracing::info!(isa = isa.name(), cache = ?options.format, "kernels on the CPU");
        let block_bytes = block_bytes(dims, options.format);
        let num_blocks = options.cache_bytes / block_bytes;
        if !(1..=limits::CACHE_BLOCKS).contains(&num_blocks) {
            let limit = limits::CACHE_BLOCKS;
            let reason = format!("a block of {BLOCK} tokens takes {block_bytes} bytes, and 1 to {limit} can be");
            return Err(Error::Config { field: "cache.mib".into(), reason });
        }
        let (folder, location) = bundle.place.weights()?;
        let (checked, classes) = checked_graph(bundle, graph, &location)?;
        let weights = match &bundle.place {
            Place::Folder(_) => Weights::Folder(&folder),
            Place::Embedded(_) => {
                Weights::Memory { name: WEIGHTS, bytes: bundle.place.read(WEIGHTS, u64::MAX)?.into_owned() }
            }
        };
        let spec = SessionSpec { graph: &checked, weights, operators: operators(isa)?, threads: options.threads };
        let session = runtime.cpu_session(spec).map_err(|error| match error {
            SessionError::Threads(error) => error,
            SessionError::Graph(reason) => bundle.file_error(graph, reason),
            SessionError::Weights(reason) => bundle.file_error(WEIGHTS, reason),
        })?;
        drop(checked);
        let cache = Cache::new(&session, dims, options.format, num_blocks)?;
        Ok(PagedModel { name: bundle.name(), session, cache, dims: dims.clone(), classes })
    }

    /// Runs something with an empty f32 cache of so many blocks. The model's own comes back as it was.
    pub(crate) fn with_f32_cache<T>(&mut self, blocks: usize, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let other = Cache::new(&self.session, &self.dims, CacheFormat::Fp32, blocks)?;
        let own = std::mem::replace(&mut self.cache, other);
        let result = run(self);
        self.cache = own;
        result
    }

    /// Bytes of the cache that a stream of so many tokens takes.
    pub(crate) fn cache_bytes(dims: &Dimensions, format: CacheFormat, tokens: usize) -> usize {
        tokens.div_ceil(BLOCK) * block_bytes(dims, format)
    }

    /// Bytes of the cache that one token takes.
    pub(crate) fn cache_bytes_per_token(&self) -> usize {
        self.cache.layout.block_bytes / BLOCK
    }

    fn bind_batch(&mut self, batch: &RaggedBatch) -> Result<()> {
        let streams = batch.past_lens.len();
        let width = batch.blocks.iter().map(Vec::len).max().unwrap_or(0);
        let mut table = vec![0i32; streams * width];
        for (row, blocks) in table.chunks_exact_mut(width.max(1)).zip(&batch.blocks) {
            row[..blocks.len()].copy_from_slice(blocks);
        }
        let binding = &mut self.cache.binding;
        let cpu = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?;
        for name in HEADS {
            // Anew for every step: a bound output keeps the tensor, and so the shape, of the last run.
            binding.bind_output_to_device(name, &cpu)?;
        }
        binding.bind_input("input_ids", &Tensor::from_array(([batch.tokens()], batch.input_ids.clone()))?)?;
        binding.bind_input("cu_seqlens", &Tensor::from_array(([streams + 1], batch.cu_seqlens.clone()))?)?;
        binding.bind_input("past_lens", &Tensor::from_array(([streams], batch.past_lens.clone()))?)?;
        binding.bind_input("block_table", &Tensor::from_array(([streams, width], table))?)?;
        Ok(())
    }
}

impl Model for PagedModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn layout(&self) -> Layout {
        self.cache.layout
    }

    fn run(&mut self, batch: &RaggedBatch) -> Result<HeadLogits> {
        // The runtime's Gather would read outside the embedding only after its own check, but its message would not
        // name the token; an empty batch crashes some kernels.
        let known = 0..self.dims.vocab_size as i64;
        if batch.tokens() == 0 || batch.input_ids.iter().any(|id| !known.contains(id)) {
            return Err(Error::Inference("a batch is empty or has an unknown token id".into()));
        }
        self.bind_batch(batch)?;
        let outputs = self.session.run_binding(&self.cache.binding)?;
        let logits = |head: usize| matrix(&outputs, HEADS[head], [batch.tokens(), self.classes[head]]);
        Ok(HeadLogits {
            response: RoleLogits { risk: logits(0)?, category: logits(1)? },
            query: RoleLogits { risk: logits(2)?, category: logits(3)? },
        })
    }
}

/// Bytes that one block of tokens takes in all layers together.
fn block_bytes(dims: &Dimensions, format: CacheFormat) -> usize {
    2 * dims.num_layers * dims.num_kv_heads * format.record_bytes(dims.head_dim)
}

/// An output of this shape. The runtime does not hold a graph to the shapes that it promises.
fn matrix(outputs: &SessionOutputs, name: &str, shape: [usize; 2]) -> Result<Array2<f32>> {
    let view = outputs[name].try_extract_array::<f32>()?;
    if view.shape() != shape {
        return Err(Error::Inference(format!("{name} has the shape {:?}, not {shape:?}", view.shape())));
    }
    let view = view.into_dimensionality::<Ix2>().map_err(|error| Error::Inference(format!("{name}: {error}")))?;
    Ok(view.to_owned())
}

/// The bundle's graph, after it was checked, and the classes of its [`HEADS`]. `location` is the weights' file name for
/// the runtime.
fn checked_graph(bundle: &Bundle, graph: &str, location: &str) -> Result<(Vec<u8>, [usize; 4])> {
    let manifest = &bundle.manifest;
    let response = manifest.response_labels(&bundle.name())?;
    let query = manifest.query_labels(&bundle.name())?;
    let classes = [response.risks.len(), response.categories.len(), query.risks.len(), query.categories.len()];
    let mut heads = HEADS.map(|name| (name, 0));
    heads.iter_mut().zip(classes).for_each(|((_, head), classes)| *head = classes);
    let expected = graph::Expected { dims: &manifest.model, heads, weights: bundle.place.len(WEIGHTS)?, location };
    let bytes = bundle.place.read(graph, limits::GRAPH_BYTES)?;
    let checked = graph::checked(&bytes, &expected).map_err(|reason| bundle.file_error(graph, reason))?;
    Ok((checked, classes))
}
