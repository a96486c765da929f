//! The paged graph on the CPU: our operators in a session, and pools in plain memory.

use super::{Graph, PagedModel, PagedOptions};
use crate::{
    Result,
    bundle::{Bundle, Dimensions},
    model::{
        CacheFormat, Model,
        cache_size::Block,
        cpu_ops::{attention::cache::BLOCK, isa::Isa, operators},
        pool::Pool,
    },
    runtime::Runtime,
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
        let session = runtime.cpu_session(bundle, &file, (&bytes, &folder), operators(isa)?, options.threads)?;
        drop(bytes);
        let mut binding = session.create_binding()?;
        let pool_shape = [layout.blocks, dims.num_kv_heads, options.format.record_bytes(dims.head_dim)];
        let mut pools = Vec::with_capacity(2 * dims.num_layers);
        for layer in 0..dims.num_layers {
            for part in ["key_cache", "value_cache"] {
                let (input, output) = (format!("{part}.{layer}"), format!("{part}_out.{layer}"));
                pools.push(Pool::bind(&mut binding, input, output, pool_shape)?);
            }
        }
        Ok(PagedModel::new(bundle, session, binding, pools, layout))
    }
}
