//! The paged graph on a GPU: ONNX Runtime's own operators, and caches in the device's memory.

use super::{
    Graph, Kind, PagedModel,
    device::Device,
    recorded::{self, Recorder},
    session_error, weights,
};
use crate::{
    Error, Result,
    bundle::{Dimensions, Float},
    config::CachePrecision,
    model::{
        Numbers,
        cache_size::{self, Block, Memory},
        graph,
        request::{Backed, Request},
    },
    runtime::{MadeSession, SessionSpec, memory},
};

/// The smallest block: with version 0.4 of the WebGPU plugin the attention computes wrong with smaller ones.
const MIN_BLOCK: usize = 32;

/// The largest block.
const MAX_BLOCK: usize = 4096;

/// Opens a bundle's model.
pub(in crate::model) fn open(request: &Request) -> Result<Backed> {
    let Request { bundle, graph, runtime, config, .. } = *request;
    if config.cache.precision != CachePrecision::Auto {
        let reason = format!("the graph {} has caches of its own type: leave it at \"auto\"", request.name);
        return Err(Error::config("cache.precision", reason));
    }
    let dims = &bundle.manifest.model;
    let (block, float) = block(request)?;
    let weight_bits = request.field("weight_bits", &graph.weight_bits)?;
    if ![4, 8, 16].contains(&weight_bits) {
        return Err(request.field_error("weight_bits", format!("{weight_bits} is not 4, 8 or 16")));
    }
    let layout = block.layout(cache_size::bytes(config, dims.context, block, Memory::Device)?)?;
    let checks = graph::gpu::Gpu { float, block_tokens: block.tokens };
    let checked =
        Graph::checked(bundle, request.name, |bytes, expected| graph::gpu::checked(bytes, expected, &checks))?;
    let own = weights(bundle, &graph.weights, &checked)?;
    let digest = bundle.manifest.files.get(&graph.weights).map_or("", |file| &file.sha256);
    // What little is on the CPU needs no threads.
    let spec = SessionSpec { graph: &checked.bytes, weights: own, operators: None, threads: 1, digest };
    let made = runtime.session(&config.runtime, spec);
    let MadeSession { session, assigned } =
        made.map_err(|error| session_error(bundle, &checked.file, &graph.weights, error))?;
    drop(checked);
    let memory = memory::of_input(&session, &graph::paged::cache_names(dims, "")[0])?;
    let device = Device { runtime: runtime.clone(), memory };
    let records = config.runtime.records_steps();
    if records && block.tokens < recorded::LEAST_BLOCK {
        let reason = format!("the graph {} has blocks of {} tokens, too small for it", request.name, block.tokens);
        return Err(Error::config("runtime.cuda.graphs", reason));
    }
    let cache = device.cache(&session, dims, float, layout, usize::from(records))?;
    let most_width = dims.context.div_ceil(layout.block_tokens);
    let recorder = records.then(|| Recorder::new(device, layout.blocks, most_width)).transpose()?;
    let model = PagedModel::new(bundle, session, cache, Kind::Gpu { recorder });
    Ok(Backed { model: Box::new(model), numbers: Numbers::Own { weight_bits, float }, assigned })
}

/// A block of the cache, and what it stores.
fn block(request: &Request) -> Result<(Block, Float)> {
    let dims = &request.bundle.manifest.model;
    let float = request.field("cache", &request.graph.cache)?;
    if float == Float::Fp32 {
        return Err(request.field_error("cache", "\"fp32\" is not \"fp16\" or \"bf16\"".to_owned()));
    }
    let tokens = request.field("block_tokens", &request.graph.block_tokens)?;
    if !(MIN_BLOCK..=MAX_BLOCK).contains(&tokens) || !tokens.is_power_of_two() {
        let reason = format!("{tokens} is not a power of two of {MIN_BLOCK} to {MAX_BLOCK}");
        return Err(request.field_error("block_tokens", reason));
    }
    let Dimensions { num_layers, num_kv_heads, head_dim, .. } = *dims;
    Ok((Block { tokens, bytes: 2 * num_layers * tokens * num_kv_heads * head_dim * float.bytes() }, float))
}
