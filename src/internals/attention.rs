//! Attention over a paged cache.

use crate::model::cpu_ops::{
    attention::{
        self, Attention, Heads,
        cache::{BLOCK, CacheFormat},
        contract::{CachePools, OutputRows},
    },
    isa::Isa,
};

/// Streams of equal length whose layers are attended to one after the other, on one thread.
pub struct PagedStreams {
    heads: Heads,
    format: CacheFormat,
    layers: usize,
    next_layer: usize,
    /// Blocks of one layer.
    layer_blocks: usize,
    keys: Vec<u8>,
    values: Vec<u8>,
    qkv: Vec<f32>,
    cu_seqlens: Vec<i32>,
    past_lens: Vec<i32>,
    block_table: Vec<i32>,
    angles: Vec<f32>,
    norm: Vec<f32>,
    output: Vec<f32>,
}

impl PagedStreams {
    /// `streams` streams with `new` tokens each, the last of which sees `context` tokens, in as many layers as take
    /// `bytes` of cache, in int8 or fp32. `heads` are query heads, KV heads and values per head.
    pub fn arbitrary(
        heads: (usize, usize, usize),
        int8: bool,
        streams: usize,
        new: usize,
        context: usize,
        bytes: usize,
    ) -> Self {
        let heads = Heads { query: heads.0, kv: heads.1, dim: heads.2 };
        let format = if int8 { CacheFormat::Int8 } else { CacheFormat::Fp32 };
        let layer_blocks = streams * context.div_ceil(BLOCK);
        let layer_bytes = layer_blocks * heads.kv * format.record_bytes(heads.dim);
        let layers = (bytes / (2 * layer_bytes)).max(1);
        let wave = |len: usize, step: f32| (0..len).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>();
        // Two records of values that any format may hold, over and over.
        let mut record = vec![0; format.record_bytes(heads.dim)];
        for slot in 0..BLOCK {
            format.store_key(&mut record, slot, &wave(heads.dim, 0.1 + slot as f32));
        }
        let keys = record.repeat(layers * layer_blocks * heads.kv);
        for slot in 0..BLOCK {
            format.store_value(&mut record, slot, &wave(heads.dim, 0.1 + slot as f32));
        }
        let values = record.repeat(layers * layer_blocks * heads.kv);
        // A stride that is prime to the number of blocks spreads a stream's blocks over the pool.
        let stride = (layer_blocks / 2 + 1..).find(|stride| gcd(*stride, layer_blocks) == 1).unwrap_or(1);
        PagedStreams {
            heads,
            format,
            layers,
            next_layer: 0,
            layer_blocks,
            keys,
            values,
            qkv: wave(streams * new * heads.packed_width(), 0.37),
            cu_seqlens: (0..=streams).map(|stream| (stream * new) as i32).collect(),
            past_lens: vec![(context - new) as i32; streams],
            block_table: (0..layer_blocks).map(|index| (index * stride % layer_blocks) as i32).collect(),
            angles: wave(context * heads.dim / 2, 0.01),
            norm: vec![1.0; heads.dim],
            output: vec![0.0; streams * new * heads.query * heads.dim],
        }
    }

    /// The names of the kernels that this processor runs, slowest first.
    pub fn kernels() -> Vec<&'static str> {
        Isa::available().into_iter().map(Isa::name).collect()
    }

    /// Bytes of cache that a layer's attention reads: whole blocks, each once.
    pub fn layer_bytes(&self) -> usize {
        2 * self.layer_blocks * self.heads.kv * self.format.record_bytes(self.heads.dim)
    }

    /// Attention of the next layer by the kernel of this name.
    pub fn attend(&mut self, kernel: &str) {
        let isa = Isa::available().into_iter().find(|isa| isa.name() == kernel);
        let kernel = attention::kernels::kernel(isa.unwrap_or_else(|| panic!("no such kernel")));
        let attention = Attention {
            heads: self.heads,
            scale: 0.09,
            epsilon: 1e-6,
            qkv: &self.qkv,
            cu_seqlens: &self.cu_seqlens,
            past_lens: &self.past_lens,
            block_table: &self.block_table,
            table_width: self.layer_blocks / self.past_lens.len(),
            cos: &self.angles,
            sin: &self.angles,
            q_norm: &self.norm,
            k_norm: &self.norm,
            num_blocks: self.layer_blocks,
            format: self.format,
        };
        attention.validate().unwrap_or_else(|reason| panic!("{reason}"));
        self.next_layer = (self.next_layer + 1) % self.layers;
        let offset = self.next_layer * self.layer_bytes() / 2;
        let pools = CachePools { keys: self.keys[offset..].as_mut_ptr(), values: self.values[offset..].as_mut_ptr() };
        let output = OutputRows(self.output.as_mut_ptr());
        for task in 0..attention::contract::Kernel::tasks(&attention) {
            // SAFETY: validated; pools and output have the documented sizes and are ours.
            unsafe { kernel.run_task(&attention, pools, output, task) };
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
