//! What runs in the next step: a pure function from what waits, and what the cache holds, to a plan.
//!
//! The policy:
//! 1. Short work (no more new tokens than a block, and no more than [`SHORT`]) comes before long work, so that it waits for one step at most. In
//!    either class the oldest comes first.
//! 2. A step has a budget of new tokens. Long work is cut into chunks of what the budget leaves.
//! 3. The oldest long work comes before all others once it has waited for [`STARVATION_LIMIT`] steps. It then gets what
//!    the short work leaves of the budget or, if that is little, one part in [`LONG_SHARE`]: or a steady flow of short
//!    work would keep it waiting for ever.
//! 4. A chunk takes blocks that are available. If there are too few, idle sequences lose theirs, the one whose last step
//!    is the longest ago first.
//! 5. If nothing is idle, the step's first chunk may preempt other work, the youngest first, so that somebody always
//!    gets on. Work that has waited for [`STARVATION_LIMIT`] steps is safe from younger work, or two that do not fit
//!    together could take blocks from each other for ever.
//! 6. If the blocks still do not suffice the chunk is cut to what they hold.

use std::cmp::Reverse;

use super::command::SequenceId;
use crate::model::BlockId;

/// The most new tokens of short work: where a block is a whole context, not all work is short.
const SHORT: usize = 32;

/// After so many steps work has waited.
const STARVATION_LIMIT: u64 = 8;

/// Of a step, what is kept for long work that has waited: one part in so many.
const LONG_SHARE: usize = 4;

/// Work of a sequence that waits to be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    /// Order of arrival.
    pub(super) ticket: u64,
    /// Steps since it came.
    pub(super) waited: u64,
}

impl Work {
    fn has_waited(self) -> bool {
        self.waited >= STARVATION_LIMIT
    }
}

/// A sequence that wants to be in the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) sequence: SequenceId,
    pub(super) work: Work,
    /// Tokens to be computed, at least one.
    pub(super) new_tokens: usize,
    /// Tokens in its blocks.
    pub(super) cached: usize,
    /// Blocks that it has.
    pub(super) blocks: usize,
}

/// A sequence that has blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder<'b> {
    pub(super) sequence: SequenceId,
    /// None if it is idle.
    pub(super) work: Option<Work>,
    /// The step that used it last.
    pub(super) last_step: u64,
    pub(super) blocks: &'b [BlockId],
}

/// What a step may use.
#[derive(Debug, Clone)]
pub(super) struct Resources<'b> {
    /// The most new tokens.
    pub(super) tokens: usize,
    /// Tokens in a block.
    pub(super) block_tokens: usize,
    /// Blocks that are available.
    pub(super) blocks: usize,
    /// Who could lose blocks. May be left empty if the available ones suffice for all: see [`blocks_wanted`].
    pub(super) holders: Vec<Holder<'b>>,
    /// How many sequences use each block that a holder has.
    pub(super) users: Vec<u32>,
}

/// A sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) sequence: SequenceId,
    pub(super) tokens: usize,
    /// Blocks to be allocated for them.
    pub(super) blocks: usize,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StepPlan {
    /// Sequences that lose their blocks first.
    pub(super) victims: Vec<SequenceId>,
    /// What is computed then.
    pub(super) chunks: Vec<Chunk>,
}

impl Candidate {
    /// Blocks to be allocated for its next `tokens` tokens.
    fn missing_blocks(&self, tokens: usize, block_tokens: usize) -> usize {
        (self.cached + tokens).div_ceil(block_tokens).saturating_sub(self.blocks)
    }
}

impl Resources<'_> {
    /// Takes a holder's blocks: those that no other uses become available.
    fn take(&mut self, holder: usize) -> SequenceId {
        let Holder { sequence, blocks, .. } = self.holders.swap_remove(holder);
        for block in blocks {
            let users = &mut self.users[block.index()];
            *users -= 1;
            self.blocks += usize::from(*users == 0);
        }
        sequence
    }
}

/// Blocks with which no candidate needs those of another sequence.
pub(super) fn blocks_wanted(candidates: &[Candidate], tokens: usize, block_tokens: usize) -> usize {
    candidates.iter().map(|candidate| candidate.missing_blocks(candidate.new_tokens.min(tokens), block_tokens)).sum()
}

/// Plans a step. The plan is empty if there are no candidates, or none of them can get on.
pub(super) fn plan(candidates: Vec<Candidate>, mut resources: Resources<'_>) -> StepPlan {
    let mut plan = StepPlan::default();
    for (candidate, limit) in in_order(candidates, resources.tokens, resources.block_tokens) {
        if plan.victims.contains(&candidate.sequence) {
            continue;
        }
        let wanted = candidate.new_tokens.min(limit).min(resources.tokens);
        while candidate.missing_blocks(wanted, resources.block_tokens) > resources.blocks {
            let Some(victim) = victim(&resources.holders, &candidate, plan.chunks.is_empty()) else { break };
            plan.victims.push(resources.take(victim));
        }
        let room = (candidate.blocks + resources.blocks) * resources.block_tokens - candidate.cached;
        let tokens = wanted.min(room);
        if tokens > 0 {
            let blocks = candidate.missing_blocks(tokens, resources.block_tokens);
            resources.blocks -= blocks;
            resources.tokens -= tokens;
            plan.chunks.push(Chunk { sequence: candidate.sequence, tokens, blocks });
        }
    }
    plan
}

/// The candidates in the order in which they are served, each with the most tokens that it may have.
fn in_order(mut candidates: Vec<Candidate>, budget: usize, block_tokens: usize) -> Vec<(Candidate, usize)> {
    let is_long = |candidate: &Candidate| candidate.new_tokens > block_tokens.min(SHORT);
    candidates.sort_unstable_by_key(|candidate| (is_long(candidate), candidate.work.ticket));
    let short = candidates.partition_point(|candidate| !is_long(candidate));
    let short_tokens: usize = candidates[..short].iter().map(|candidate| candidate.new_tokens).sum();
    let mut order: Vec<_> = candidates.into_iter().map(|candidate| (candidate, usize::MAX)).collect();
    if let Some((oldest_long, limit)) = order.get_mut(short).filter(|(candidate, _)| candidate.work.has_waited()) {
        debug_assert!(is_long(oldest_long));
        *limit = budget.saturating_sub(short_tokens).max((budget / LONG_SHARE).max(1));
        order[..=short].rotate_right(1);
    }
    order
}

/// The sequence that loses its blocks for a candidate: its place among the holders.
fn victim(holders: &[Holder<'_>], candidate: &Candidate, is_first: bool) -> Option<usize> {
    let others = || holders.iter().enumerate().filter(|(_, holder)| holder.sequence != candidate.sequence);
    let idle = others().filter(|(_, holder)| holder.work.is_none());
    if let Some((place, _)) = idle.min_by_key(|(_, holder)| (holder.last_step, holder.sequence)) {
        return Some(place);
    }
    let at_work = others().filter_map(|(place, holder)| Some((place, holder.work?)));
    let weaker = at_work.filter(|(_, work)| work.ticket > candidate.work.ticket || !work.has_waited());
    weaker.min_by_key(|(_, work)| Reverse(work.ticket)).map(|(place, _)| place).filter(|_| is_first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of ten tokens.
    const BLOCK: usize = 10;

    /// A sequence of this number, which is its ticket too, with so many new tokens and an empty cache.
    fn wants(sequence: u64, new_tokens: usize) -> Candidate {
        let work = Work { ticket: sequence, waited: 0 };
        Candidate { sequence: SequenceId(sequence), work, new_tokens, cached: 0, blocks: 0 }
    }

    fn starved(candidate: Candidate) -> Candidate {
        Candidate { work: Work { waited: STARVATION_LIMIT, ..candidate.work }, ..candidate }
    }

    fn has(candidate: Candidate, cached: usize) -> Candidate {
        Candidate { cached, blocks: cached.div_ceil(BLOCK), ..candidate }
    }

    /// An idle sequence with these blocks.
    fn idle(sequence: u64, last_step: u64, blocks: &[BlockId]) -> Holder<'_> {
        Holder { sequence: SequenceId(sequence), work: None, last_step, blocks }
    }

    fn at_work(candidate: Candidate, blocks: &[BlockId]) -> Holder<'_> {
        let Candidate { sequence, work, .. } = candidate;
        assert_eq!(blocks.len(), candidate.blocks);
        Holder { sequence, work: Some(work), last_step: 0, blocks }
    }

    fn blocks(numbers: std::ops::Range<usize>) -> Vec<BlockId> {
        numbers.map(BlockId::new).collect()
    }

    /// Chunks, as sequences and tokens, and victims of a step of at most 50 tokens.
    fn planned(candidates: &[Candidate], blocks: usize, holders: &[Holder<'_>]) -> (Vec<(u64, usize)>, Vec<u64>) {
        let mut users = vec![0; 100];
        holders.iter().flat_map(|holder| holder.blocks).for_each(|block| users[block.index()] += 1);
        let resources = Resources { tokens: 50, block_tokens: BLOCK, blocks, holders: holders.to_vec(), users };
        let StepPlan { chunks, victims } = plan(candidates.to_vec(), resources);
        (
            chunks.iter().map(|chunk| (chunk.sequence.0, chunk.tokens)).collect(),
            victims.iter().map(|victim| victim.0).collect(),
        )
    }

    fn chunks(candidates: &[Candidate]) -> Vec<(u64, usize)> {
        planned(candidates, 1000, &[]).0
    }

    #[test]
    fn nothing_waits() {
        assert_eq!(chunks(&[]), []);
    }

    #[test]
    fn short_work_first_then_long_work_each_oldest_first() {
        assert_eq!(
            chunks(&[wants(4, 3), wants(1, 11), wants(3, 10), wants(2, 12)]),
            [(3, 10), (4, 3), (1, 11), (2, 12)]
        );
    }

    #[test]
    fn a_block_that_is_a_whole_context_does_not_make_all_work_short() {
        let resources = Resources { tokens: 50, block_tokens: 1024, blocks: 9, holders: vec![], users: vec![] };
        let StepPlan { chunks, .. } = plan(vec![wants(1, 900), wants(2, SHORT), wants(3, 3)], resources);
        let chunks: Vec<_> = chunks.iter().map(|chunk| (chunk.sequence.0, chunk.tokens, chunk.blocks)).collect();
        assert_eq!(chunks, [(2, SHORT, 1), (3, 3, 1), (1, 15, 1)]);
    }

    #[test]
    fn long_work_gets_what_the_budget_leaves() {
        assert_eq!(chunks(&[wants(1, 900), wants(2, 3)]), [(2, 3), (1, 47)]);
        assert_eq!(chunks(&[wants(1, 900), wants(2, 900)]), [(1, 50)]);
        let crowd: Vec<_> = (2..10).map(|sequence| wants(sequence, 7)).collect();
        assert_eq!(
            chunks(&[&crowd[..], &[wants(1, 900)]].concat()).last(),
            Some(&(9, 1)),
            "short work may fill a step"
        );
    }

    #[test]
    fn long_work_that_has_waited_comes_first_with_what_is_left_or_a_share() {
        let long = starved(wants(1, 900));
        assert_eq!(chunks(&[long, wants(2, 3)]), [(1, 47), (2, 3)]);
        let crowd: Vec<_> = (2..10).map(|sequence| wants(sequence, 10)).collect();
        assert_eq!(
            chunks(&[&crowd[..], &[long]].concat()),
            [(1, 12), (2, 10), (3, 10), (4, 10), (5, 8)],
            "a quarter of 50"
        );
        // Only the oldest, and only long work.
        assert_eq!(chunks(&[wants(2, 10), starved(wants(9, 10)), wants(3, 20), starved(wants(4, 20))])[0], (2, 10));
    }

    #[test]
    fn a_block_that_is_not_full_is_filled_first() {
        let candidate = has(wants(1, 5), 15);
        let resources = Resources { tokens: 50, block_tokens: BLOCK, blocks: 0, holders: vec![], users: vec![] };
        let chunk = Chunk { sequence: SequenceId(1), tokens: 5, blocks: 0 };
        assert_eq!(plan(vec![candidate], resources), StepPlan { victims: vec![], chunks: vec![chunk] });
        assert_eq!(planned(&[has(wants(1, 30), 15)], 1, &[]).0, [(1, 15)], "cut to what the blocks hold");
    }

    #[test]
    fn idle_sequences_lose_their_blocks_longest_idle_first_and_no_more_than_needed() {
        let all = blocks(0..5);
        let holders = [idle(7, 30, &all[..2]), idle(8, 10, &all[2..3]), idle(9, 20, &all[3..])];
        assert_eq!(planned(&[wants(1, 30)], 0, &holders), (vec![(1, 30)], vec![8, 9]));
        assert_eq!(planned(&[wants(1, 10)], 1, &holders), (vec![(1, 10)], vec![]));
        // For later chunks as well.
        assert_eq!(planned(&[wants(1, 10), wants(2, 10)], 1, &holders), (vec![(1, 10), (2, 10)], vec![8]));
    }

    #[test]
    fn blocks_that_several_use_become_available_with_the_last() {
        let all = blocks(0..3);
        let holders = [idle(7, 1, &all[..2]), idle(8, 2, &all[..2]), idle(9, 3, &all[2..])];
        assert_eq!(planned(&[wants(1, 20)], 0, &holders), (vec![(1, 20)], vec![7, 8]));
    }

    #[test]
    fn the_first_chunk_preempts_the_youngest_work_and_no_other_chunk_does() {
        let (middle, young) = (has(wants(2, 20), 40), has(wants(3, 20), 40));
        let all = blocks(0..10);
        let holders = [at_work(middle, &all[..4]), at_work(young, &all[4..8])];
        assert_eq!(planned(&[wants(1, 20), middle, young], 0, &holders), (vec![(1, 20), (2, 20)], vec![3]));
        assert_eq!(planned(&[wants(1, 10), middle], 1, &holders), (vec![(1, 10)], vec![]));
        // Older work too, if nothing else is there: it is computed again later.
        let old = has(wants(1, 50), 100);
        assert_eq!(planned(&[old, wants(2, 3)], 0, &[at_work(old, &all)]), (vec![(2, 3)], vec![1]));
    }

    #[test]
    fn work_that_has_waited_is_safe_from_younger_work() {
        let all = blocks(0..10);
        let old = starved(has(wants(1, 50), 100));
        assert_eq!(planned(&[wants(2, 3)], 0, &[at_work(old, &all)]), (vec![], vec![]));
        let young = starved(has(wants(3, 50), 100));
        assert_eq!(planned(&[wants(2, 3)], 0, &[at_work(young, &all)]), (vec![(2, 3)], vec![3]));
    }

    #[test]
    fn a_sequence_takes_no_blocks_of_its_own() {
        let (candidate, own) = (has(wants(1, 20), 20), blocks(0..2));
        assert_eq!(planned(&[candidate], 1, &[at_work(candidate, &own)]), (vec![(1, 10)], vec![]));
    }
}
