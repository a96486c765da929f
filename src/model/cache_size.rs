//! How much memory the KV cache takes: what is set, else a share of what this process may use.

use super::{CacheFormat, Layout};
use crate::{
    Error, Result,
    bundle::Precision,
    config::{CachePrecision, Config, Overflow},
    limits, machine,
};

/// The cache's share where it is not known how much memory there is.
const FALLBACK: usize = 1 << 30;

/// Whose memory a cache is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    Host,
    /// A device's own, of which it is not known how much there is.
    Device,
}

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
            return Err(Error::config("cache.mib", reason));
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

/// Bytes of the cache: as the configuration says, else by the machine's memory, but no more than all streams of so many
/// tokens can fill.
pub(super) fn bytes(config: &Config, tokens: usize, block: Block, memory: Memory) -> Result<usize> {
    let context = block.bytes_of(tokens);
    let bytes = match config.cache.mib {
        0 => {
            let most = context.saturating_mul(config.engine.max_streams);
            let blocks = limits::CACHE_BLOCKS.saturating_mul(block.bytes);
            let memory = if memory == Memory::Host { machine::memory() } else { None };
            share(memory, context).min(most).min(blocks)
        }
        mib => mib.saturating_mul(1 << 20),
    };
    // Answers that go on in views need a cache that holds a view, which is as long as the context.
    if config.engine.overflow == Overflow::Restart && bytes < context {
        let reason = format!(
            "{} MiB are too few for engine.overflow = \"restart\": the model's context of {} tokens takes {} MiB, set at \
             least as many",
            bytes >> 20,
            tokens,
            context.div_ceil(1 << 20)
        );
        return Err(Error::config("cache.mib", reason));
    }
    Ok(bytes)
}

/// A quarter of the memory, or enough for one stream of `context` bytes if that is not more than half.
fn share(memory: Option<usize>, context: usize) -> usize {
    memory.map_or(FALLBACK, |memory| (memory / 4).max(context.min(memory / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_takes_a_quarter_or_one_full_stream() {
        assert_eq!(share(Some(1000), 100), 250);
        assert_eq!(share(Some(1000), 400), 400);
        assert_eq!(share(Some(1000), 600), 500);
        assert_eq!(share(None, 100), FALLBACK);
    }
}
