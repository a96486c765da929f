//! The pool of KV cache blocks: who uses which, and which tokens a full block stands for.
//!
//! Full blocks are published under the tokens they hold and the block before them, so that a sequence that starts with
//! the same tokens finds them. A published block that nobody uses keeps its contents until its memory is needed, and
//! goes after those that continue it: so a block's number stands for its whole prefix, and a hit is exact.

use std::collections::{BTreeMap, HashMap};

use crate::model::BLOCK;

/// The blocks of the cache.
pub(crate) struct BlockPool {
    /// Blocks that were taken at least once. The others' memory is untouched.
    blocks: Vec<Block>,
    total: usize,
    /// Neither used nor published.
    free: Vec<u32>,
    published: HashMap<Contents, u32>,
    /// Published and not used, by the time they were given back.
    unused: BTreeMap<u64, u32>,
    clock: u64,
}

#[derive(Default)]
struct Block {
    users: u32,
    contents: Option<Contents>,
    /// Published blocks that continue this one.
    children: u32,
    /// Its key in `unused`.
    given_back: u64,
}

/// What a full block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Contents {
    parent: Option<u32>,
    ids: [u32; BLOCK],
}

impl BlockPool {
    pub(crate) fn new(total: usize) -> Self {
        BlockPool {
            blocks: Vec::new(),
            total,
            free: Vec::new(),
            published: HashMap::new(),
            unused: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Blocks that sequences use.
    pub(crate) fn used(&self) -> usize {
        self.blocks.len() - self.free.len() - self.unused.len()
    }

    /// Blocks that nobody uses, but whose contents may be found.
    pub(crate) fn unused(&self) -> usize {
        self.unused.len()
    }

    /// A block to write. If all are used or published, the one that was given back longest ago.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let block = if let Some(block) = self.free.pop() {
            block
        } else if self.blocks.len() < self.total {
            self.blocks.push(Block::default());
            self.blocks.len() as u32 - 1
        } else {
            let (_, block) = self.unused.pop_first()?;
            self.withdraw(block);
            block
        };
        self.block(block).users = 1;
        Some(block)
    }

    /// Gives blocks one more user. From then on nobody writes them.
    pub(crate) fn share(&mut self, blocks: &[u32]) {
        for block in blocks {
            self.block(*block).users += 1;
        }
    }

    /// Makes a block writable for its user, if no other uses it and none continues it.
    pub(crate) fn reclaim(&mut self, block: u32) -> bool {
        let Block { users, children, .. } = *self.block(block);
        let writable = users == 1 && children == 0;
        if writable {
            self.withdraw(block);
        }
        writable
    }

    /// Takes one user from each of a sequence's last blocks. Published ones stay until their memory is needed, the
    /// last of the sequence the shortest.
    pub(crate) fn give_back(&mut self, blocks: Vec<u32>) {
        for number in blocks.into_iter().rev() {
            self.clock += 1;
            let clock = self.clock;
            let block = self.block(number);
            block.users -= 1;
            if block.users == 0 {
                if block.contents.is_some() {
                    block.given_back = clock;
                    self.unused.insert(clock, number);
                } else {
                    self.free.push(number);
                }
            }
        }
    }

    /// The published block that holds `ids` after `parent`, with one more user.
    pub(crate) fn find(&mut self, parent: Option<u32>, ids: &[u32; BLOCK]) -> Option<u32> {
        let number = *self.published.get(&Contents { parent, ids: *ids })?;
        let block = self.block(number);
        block.users += 1;
        if block.users == 1 {
            let key = block.given_back;
            self.unused.remove(&key);
        }
        Some(number)
    }

    /// Publishes a block of one user's that holds `ids` after `parent`, which is published. If there is such a block
    /// already the user gets that instead.
    pub(crate) fn publish(&mut self, parent: Option<u32>, ids: &[u32; BLOCK], block: u32) -> u32 {
        if let Some(known) = self.find(parent, ids) {
            self.give_back(vec![block]);
            return known;
        }
        let contents = Contents { parent, ids: *ids };
        self.published.insert(contents, block);
        self.block(block).contents = Some(contents);
        if let Some(parent) = parent {
            self.block(parent).children += 1;
        }
        block
    }

    /// Forgets what a block holds. Nothing may continue it.
    fn withdraw(&mut self, block: u32) {
        debug_assert_eq!(self.block(block).children, 0, "block {block} goes before one that continues it");
        if let Some(contents) = self.block(block).contents.take() {
            self.published.remove(&contents);
            if let Some(parent) = contents.parent {
                self.block(parent).children -= 1;
            }
        }
    }

    fn block(&mut self, number: u32) -> &mut Block {
        &mut self.blocks[number as usize]
    }
}
