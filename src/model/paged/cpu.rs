//! The paged graph on the CPU: our operators in a session, and pools in plain memory.

use super::{Cache, Graph, PagedModel, PagedOptions};
use crate::{
    Result,
    bundle::{Bundle, Dimensions, Place, WEIGHTS},
    model::{
        CacheFormat, Model,
        cache_size::Block,
        cpu_ops::{attention::cache::BLOCK, isa::Isa, operators},
    },
    runtime::{Runtime, SessionError, SessionSpec, Weights},
};

/// The graph's name in guard.toml.
pub(in crate::model) const GRAPH: &str = "paged_cpu";

/// A block of the cache.
pub(in crate::model) fn block(dims: &Dimensions, format: CacheFormat) -> Block {
    let bytes = 2 * dims.num_layers * dims.num_kv_heads * format.record_bytes(dims.head_dim);
    Block { tokens: BLOCK, bytes }
}

/// Opens a bundle's model.
pub(in crate::model) fn open(bundle: &Bundle, runtime: &Runtime, options: &PagedOptions) -> Result<Box<dyn Model>> {
    Ok(Box::new(PagedModel::open_with(bundle, runtime, options, Isa::detect())?))
}

impl PagedModel {
    /// Loads the bundle's graph, with the kernels of an instruction set, and takes memory for the cache.
    pub(crate) fn open_with(bundle: &Bundle, runtime: &Runtime, options: &PagedOptions, isa: Isa) -> Result<Self> {
        tracing::info!(isa = isa.name(), cache = ?options.format, "kernels on the CPU");
        let dims = &bundle.manifest.model;
        let layout = block(dims, options.format).layout(options.cache_bytes)?;
        let Graph { file, bytes, folder } = Graph::checked(bundle, GRAPH)?;
        let weights = match &bundle.place {
            Place::Folder(_) => Weights::Folder(&folder),
            Place::Embedded(_) => {
                Weights::Memory { name: WEIGHTS, bytes: bundle.place.read(WEIGHTS, u64::MAX)?.into_owned() }
            }
        };
        let spec = SessionSpec { graph: &bytes, weights, operators: operators(isa)?, threads: options.threads };
        let session = runtime.cpu_session(spec).map_err(|error| match error {
            SessionError::Threads(error) => error,
            SessionError::Graph(reason) => bundle.file_error(&file, reason),
            SessionError::Weights(reason) => bundle.file_error(WEIGHTS, reason),
        })?;
        drop(bytes);
        let cache = Cache::new(&session, dims, options.format, layout)?;
        Ok(PagedModel::new(bundle, session, cache, block(dims, CacheFormat::Fp32)))
    }
}
