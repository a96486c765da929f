//! How much memory the KV cache takes.

use super::{CacheFormat, Layout};
use crate::{
    CachePrecision, Config, Error, Overflow, Result,
    bundle::{Dimensions, Precision, limits},
    runtime::memory,
};

/// A block of a backend's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) tokens: usize,
    /// What it takes in all layers together.
    pub(crate) bytes: usize,
}

impl Block {
    /// Bytes of the blocks that so many tokens of one stream take.
    fn bytes_of(self, tokens: usize) -> usize {
        tokens.div_ceil(self.tokens) * self.bytes
    }

    /// How a cache of so many bytes is divided.
    pub(crate) fn layout(self, cache_bytes: usize) -> Result<Layout> {
        let (blocks, limit) = (cache_bytes / self.bytes, limits::CACHE_BLOCKS);
        if !(1..=limit).contains(&blocks) {
            let Block { tokens, bytes } = self;
            let reason = format!("a block of {tokens} tokens takes {bytes} bytes, and 1 to {limit} can be");
            return Err(Error::Config { field: "cache.mib".into(), reason });
        }
        Ok(Layout { block_tokens: self.tokens, blocks, block_bytes: self.bytes })
    }
}

/// How keys and values are stored.
pub(super) fn format(config: &Config, weights: Precision) -> CacheFormat {
    match (config.cache.precision, weights) {
        (CachePrecision::Fp32, _) | (CachePrecision::Auto, Precision::Fp32) => CacheFormat::Fp32,
        (CachePrecision::Int8 | CachePrecision::Auto, _) => CacheFormat::Int8,
    }
}

/// Bytes of the cache: as the configuration says, else by the machine's memory, but no more than all streams can fill.
pub(super) fn bytes(config: &Config, model: &Dimensions, block: Block) -> Result<usize> {
    let context = block.bytes_of(model.context);
    let bytes = match config.cache.mib {
        0 => {
            let most = context.saturating_mul(config.engine.max_streams);
            let blocks = limits::CACHE_BLOCKS.saturating_mul(block.bytes);
            memory::default_cache_bytes(memory::limit(), context).min(most).min(blocks)
        }
        mib => mib.saturating_mul(1 << 20),
    };
    // Answers that go on in views need a cache that holds a view, which is as long as the context.
    if config.engine.overflow == Overflow::Restart && bytes < context {
        let reason = format!(
            "{} MiB are too few for engine.overflow = \"restart\": the model's context of {} tokens takes {} MiB, set at \
             least as many",
            bytes >> 20,
            model.context,
            context.div_ceil(1 << 20)
        );
        return Err(Error::Config { field: "cache.mib".into(), reason });
    }
    Ok(bytes)
}
