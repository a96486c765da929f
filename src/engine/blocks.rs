//! The pool of KV cache blocks.

/// Free blocks of the cache.
#[derive(Debug)]
pub(crate) struct BlockPool {
    free: Vec<u32>,
}

impl BlockPool {
    pub(crate) fn new(blocks: usize) -> Self {
        // Low numbers first: untouched memory of the pools stays untouched.
        BlockPool { free: (0..blocks as u32).rev().collect() }
    }

    pub(crate) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    pub(crate) fn give_back(&mut self, blocks: impl IntoIterator<Item = u32>) {
        self.free.extend(blocks);
    }
}
