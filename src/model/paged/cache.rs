//! The memory of a paged KV cache, bound to its session.

use ort::{
    session::{IoBinding, Session},
    value::DynTensor,
};

use crate::{
    Result,
    bundle::Dimensions,
    model::{CacheFormat, Layout, graph, pool::Pool},
};

/// The pools of a KV cache.
pub(super) struct Cache {
    /// Each pool is bound as an input and as an output once.
    pub(super) binding: IoBinding,
    /// The memory behind the binding; declared after it, so dropped after it.
    pub(super) memory: Memory,
    pub(super) layout: Layout,
}

/// Where a cache's keys and values are.
pub(super) enum Memory {
    Host {
        #[expect(dead_code, reason = "it is held")]
        pools: Vec<Pool>,
    },
    /// Each with the name of its input.
    Device(Vec<(String, DynTensor)>),
}

impl Cache {
    /// Takes memory for the cache and binds it to the session.
    pub(super) fn new(session: &Session, dims: &Dimensions, format: CacheFormat, layout: Layout) -> Result<Self> {
        let mut binding = session.create_binding()?;
        let pool_shape = [layout.blocks, dims.num_kv_heads, format.record_bytes(dims.head_dim)];
        let mut pools = Vec::with_capacity(2 * dims.num_layers);
        for (input, output) in
            graph::paged::cache_names(dims, "").into_iter().zip(graph::paged::cache_names(dims, "_out"))
        {
            pools.push(Pool::bind(&mut binding, input, output, pool_shape)?);
        }
        Ok(Cache { binding, memory: Memory::Host { pools }, layout })
    }
}

/// Binds tensors of a device's memory, each as an input and as the output that takes its place.
pub(super) fn bind(binding: &mut IoBinding, tensors: &mut [(String, DynTensor)]) -> Result<()> {
    for (name, tensor) in tensors {
        binding.bind_input(&*name, tensor)?;
        binding.bind_output(name.replace("_cache.", "_cache_out."), tensor)?;
    }
    Ok(())
}
