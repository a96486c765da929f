//! The pool of KV cache blocks.

/// The blocks of the cache, and how many sequences use each.
#[derive(Debug)]
pub(crate) struct BlockPool {
    free: Vec<u32>,
    /// Users of every block.
    users: Vec<u32>,
}

impl BlockPool {
    pub(crate) fn new(blocks: usize) -> Self {
        // Low numbers first: untouched memory of the pools stays untouched.
        BlockPool { free: (0..blocks as u32).rev().collect(), users: vec![0; blocks] }
    }

    /// A block that nobody uses.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.users[block as usize] = 1;
        Some(block)
    }

    /// Gives blocks one more user. From then on nobody writes them.
    pub(crate) fn share(&mut self, blocks: &[u32]) {
        for block in blocks {
            self.users[*block as usize] += 1;
        }
    }

    pub(crate) fn is_shared(&self, block: u32) -> bool {
        self.users[block as usize] > 1
    }

    /// Takes one user from each block; those without any are free.
    pub(crate) fn give_back(&mut self, blocks: impl IntoIterator<Item = u32>) {
        for block in blocks {
            let users = &mut self.users[block as usize];
            *users -= 1;
            if *users == 0 {
                self.free.push(block);
            }
        }
    }
}
