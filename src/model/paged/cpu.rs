//! The paged graph on the CPU: our operators in a session, and pools in plain memory.

use super::{Graph, Kind, PagedModel, PagedOptions, cache::Cache, session_error, weights};
use crate::{
    Error, Result,
    bundle::{Bundle, Dimensions, WEIGHTS},
    config::{Activations, RuntimeConfig},
    model::{
        CacheFormat, Numbers,
        cache_size::{self, Block, Memory},
        cpu_ops::{attention::cache::BLOCK, isa::Isa, matmul::activations::Rounding, operators},
        graph,
        request::{Backed, Request},
    },
    runtime::{Assigned, MadeSession, Runtime, SessionSpec},
};

/// The graph's name in guard.toml.
const GRAPH: &str = "paged_cpu";

/// A block of the cache.
fn block(dims: &Dimensions, format: CacheFormat) -> Block {
    let bytes = 2 * dims.num_layers * dims.num_kv_heads * format.record_bytes(dims.head_dim);
    Block { tokens: BLOCK, bytes }
}

/// Opens a bundle's model.
pub(in crate::model) fn open(request: &Request) -> Result<Backed> {
    let Request { bundle, runtime, config, .. } = request;
    let dims = &bundle.manifest.model;
    let format = cache_size::format(config, bundle.manifest.precision);
    let cache_bytes = cache_size::bytes(config, dims.context, block(dims, format), Memory::Host)?;
    let options =
        PagedOptions { format, cache_bytes, threads: request.threads(), activations: config.runtime.activations };
    let isa = match config.runtime.amx {
        true => Isa::amx().map_err(|reason| Error::config("runtime.amx", reason))?,
        false => Isa::detect(),
    };
    let (model, assigned) = PagedModel::on_cpu(bundle, runtime, &options, isa)?;
    Ok(Backed { model: Box::new(model), numbers: Numbers::Bundle(format, config.runtime.activations), assigned })
}

impl PagedModel {
    /// Loads the bundle's graph, with the kernels of an instruction set, and takes memory for the cache.
    pub(crate) fn on_cpu(
        bundle: &Bundle,
        runtime: &Runtime,
        options: &PagedOptions,
        isa: Isa,
    ) -> Result<(Self, Vec<Assigned>)> {
        tracing::info!(isa = isa.name(), cache = ?options.format, activations = ?options.activations, "kernels on the CPU");
        let rounding = match options.activations {
            Activations::Exact => Rounding::Fine,
            Activations::Fast => Rounding::Coarse,
        };
        let dims = &bundle.manifest.model;
        let layout = block(dims, options.format).layout(options.cache_bytes)?;
        let checked = Graph::checked(bundle, GRAPH, graph::cpu::checked)?;
        let own = weights(bundle, WEIGHTS, &checked)?;
        let spec = SessionSpec {
            graph: &checked.bytes,
            weights: own,
            operators: Some(operators(isa, rounding)?),
            threads: options.threads,
            digest: "",
        };
        let made = runtime.session(&RuntimeConfig::default(), spec);
        let MadeSession { session, assigned } =
            made.map_err(|error| session_error(bundle, &checked.file, WEIGHTS, error))?;
        drop(checked);
        let cache = Cache::new(&session, dims, options.format, layout)?;
        Ok((PagedModel::new(bundle, session, cache, Kind::Cpu { f32_block: block(dims, CacheFormat::Fp32) }), assigned))
    }
}
