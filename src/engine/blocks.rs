//! The pool of KV cache blocks: who uses which, and which tokens a full block stands for.
//!
//! Full blocks are published under the tokens they hold and the block before them, so that a sequence that starts with
//! the same tokens finds them: the prefix cache. A published block that nobody uses keeps its contents until its memory
//! is needed, and goes after those that continue it: so a block's number stands for its whole prefix, and a hit is exact.

use std::collections::{BTreeMap, HashMap};

use crate::model::{BlockId, Layout};

/// The blocks of the cache.
pub(super) struct BlockPool {
    /// Tokens in a block.
    block_tokens: usize,
    total: usize,
    /// Blocks that were allocated at least once. The others' memory is untouched.
    blocks: Vec<Block>,
    /// Neither used nor published.
    free: Vec<BlockId>,
    /// Full blocks, by the block before them and their tokens.
    published: HashMap<Option<BlockId>, HashMap<Box<[u32]>, BlockId>>,
    /// Published and not used, by the time they were freed.
    unused: BTreeMap<u64, BlockId>,
    clock: u64,
}

#[derive(Default)]
struct Block {
    users: u32,
    contents: Option<Contents>,
    /// Published blocks that continue this one.
    children: u32,
    /// Its key in `unused`.
    freed: u64,
}

/// What a full block holds.
struct Contents {
    parent: Option<BlockId>,
    tokens: Box<[u32]>,
}

impl BlockPool {
    pub(super) fn new(layout: Layout) -> Self {
        BlockPool {
            block_tokens: layout.block_tokens,
            total: layout.blocks,
            blocks: Vec::new(),
            free: Vec::new(),
            published: HashMap::new(),
            unused: BTreeMap::new(),
            clock: 0,
        }
    }

    pub(super) fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// Blocks that sequences use.
    pub(super) fn used(&self) -> usize {
        self.blocks.len() - self.free.len() - self.unused.len()
    }

    /// Blocks that nobody uses, but whose contents may be reused.
    pub(super) fn unused(&self) -> usize {
        self.unused.len()
    }

    /// Blocks that [`BlockPool::allocate`] can give.
    pub(super) fn available(&self) -> usize {
        self.total - self.used()
    }

    /// How many sequences use each block.
    pub(super) fn users(&self) -> Vec<u32> {
        self.blocks.iter().map(|block| block.users).collect()
    }

    /// A block to write. If all are used or published, the one that was freed longest ago.
    pub(super) fn allocate(&mut self) -> Option<BlockId> {
        let block = if let Some(block) = self.free.pop() {
            block
        } else if self.blocks.len() < self.total {
            self.blocks.push(Block::default());
            BlockId::new(self.blocks.len() - 1)
        } else {
            let (_, block) = self.unused.pop_first()?;
            self.withdraw(block);
            block
        };
        self.block(block).users = 1;
        Some(block)
    }

    /// Gives blocks one more user. From then on nobody writes them.
    pub(super) fn share(&mut self, blocks: &[BlockId]) {
        for block in blocks {
            self.block(*block).users += 1;
        }
    }

    /// Makes a block writable for its user, if no other uses it and none continues it.
    pub(super) fn make_writable(&mut self, block: BlockId) -> bool {
        let Block { users, children, .. } = *self.block(block);
        let writable = users == 1 && children == 0;
        if writable {
            self.withdraw(block);
        }
        writable
    }

    /// Takes one user from each of a sequence's last blocks. Published ones stay until their memory is needed, the
    /// last of the sequence the shortest.
    pub(super) fn free(&mut self, blocks: Vec<BlockId>) {
        for id in blocks.into_iter().rev() {
            self.clock += 1;
            let clock = self.clock;
            let block = self.block(id);
            block.users -= 1;
            if block.users == 0 {
                if block.contents.is_some() {
                    block.freed = clock;
                    self.unused.insert(clock, id);
                } else {
                    self.free.push(id);
                }
            }
        }
    }

    /// The published block that holds `tokens` after `parent`, with one more user.
    pub(super) fn reuse(&mut self, parent: Option<BlockId>, tokens: &[u32]) -> Option<BlockId> {
        let id = *self.published.get(&parent)?.get(tokens)?;
        let block = self.block(id);
        block.users += 1;
        if block.users == 1 {
            let key = block.freed;
            self.unused.remove(&key);
        }
        Some(id)
    }

    /// Publishes a block of one user's that holds `tokens` after `parent`, which is published. If there is such a block
    /// already the user gets that instead.
    pub(super) fn publish(&mut self, parent: Option<BlockId>, tokens: &[u32], block: BlockId) -> BlockId {
        if let Some(known) = self.reuse(parent, tokens) {
            self.free(vec![block]);
            return known;
        }
        self.published.entry(parent).or_default().insert(tokens.into(), block);
        self.block(block).contents = Some(Contents { parent, tokens: tokens.into() });
        if let Some(parent) = parent {
            self.block(parent).children += 1;
        }
        block
    }

    /// Forgets what a block holds. Nothing may continue it.
    fn withdraw(&mut self, block: BlockId) {
        debug_assert_eq!(self.block(block).children, 0, "{block:?} goes before one that continues it");
        let Some(Contents { parent, tokens }) = self.block(block).contents.take() else { return };
        if let Some(children) = self.published.get_mut(&parent) {
            children.remove(&tokens);
            if children.is_empty() {
                self.published.remove(&parent);
            }
        }
        if let Some(parent) = parent {
            self.block(parent).children -= 1;
        }
    }

    fn block(&mut self, id: BlockId) -> &mut Block {
        &mut self.blocks[id.index()]
    }

    /// Panics if the pool contradicts itself or the sequences' block lists. For debug builds.
    pub(super) fn check<'s>(&self, sequences: impl Iterator<Item = &'s [BlockId]>) {
        let mut users = vec![0; self.blocks.len()];
        for id in sequences.flatten() {
            users[id.index()] += 1;
        }
        let mut children = vec![0; self.blocks.len()];
        for parent in self.blocks.iter().filter_map(|block| block.contents.as_ref()?.parent) {
            children[parent.index()] += 1;
        }
        let mut idle = 0;
        for (index, block) in self.blocks.iter().enumerate() {
            let id = BlockId::new(index);
            assert_eq!(block.users, users[index], "users of {id:?}");
            assert_eq!(block.children, children[index], "blocks that continue {id:?}");
            if let Some(Contents { parent, tokens }) = &block.contents {
                let found = self.published.get(parent).and_then(|children| children.get(tokens));
                assert_eq!(found, Some(&id), "what {id:?} is published under");
                let parent = parent.map(|parent| &self.blocks[parent.index()]);
                assert!(parent.is_none_or(|parent| parent.contents.is_some()), "{id:?} outlives the one before it");
            }
            if block.users == 0 {
                idle += 1;
                let listed = self.unused.get(&block.freed) == Some(&id);
                assert_eq!(listed, block.contents.is_some(), "{id:?} is unused");
            }
        }
        assert_eq!(idle, self.free.len() + self.unused.len(), "blocks that nobody uses");
        assert!(self.blocks.len() <= self.total);
        let published = self.published.values().map(HashMap::len).sum::<usize>();
        assert_eq!(published, self.blocks.iter().filter(|block| block.contents.is_some()).count());
    }
}
