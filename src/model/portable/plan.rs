//! Which streams are in which runs: a pure function from the new tokens of a group's streams to runs of its graphs.

use crate::bundle::Variant;

/// New tokens of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stream {
    /// In its group.
    pub(super) slot: usize,
    /// Tokens in the cache.
    pub(super) past: usize,
    /// Its first row in the batch.
    pub(super) first: usize,
    pub(super) tokens: usize,
}

impl Stream {
    /// Takes its next tokens, no more than so many.
    fn take(&mut self, limit: usize) -> Part {
        let tokens = self.tokens.min(limit);
        let part = Part { slot: self.slot, past: self.past, first: self.first, tokens };
        self.past += tokens;
        self.first += tokens;
        self.tokens -= tokens;
        part
    }
}

/// A stream's part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// In its group.
    pub(super) slot: usize,
    pub(super) past: usize,
    /// Its first row in the batch.
    pub(super) first: usize,
    pub(super) tokens: usize,
}

/// A run of a graph.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The graph's place among the variants.
    pub(super) variant: usize,
    /// The first of its slots, in the group.
    pub(super) first_slot: usize,
    pub(super) parts: Vec<Part>,
}

/// Takes the next run from the streams of a group that is laid out for a context. None if nothing is left.
///
/// It is that of the graph with the fewest slots that has all streams with tokens left, else with the most slots. Of
/// these it is that with the fewest new tokens that suffice, else with the most.
pub(super) fn next(streams: &mut [Stream], variants: &[Variant], context: usize) -> Option<Run> {
    let left = || streams.iter().filter(|stream| stream.tokens > 0);
    let first = left().map(|stream| stream.slot).min()?;
    let last = left().map(|stream| stream.slot).max()?;
    let fitting = || variants.iter().enumerate().filter(|(_, variant)| variant.context == context);
    let all = fitting().map(|(_, variant)| variant.slots).filter(|slots| first / slots == last / slots).min();
    let slots = all.or_else(|| fitting().map(|(_, variant)| variant.slots).max())?;
    let first_slot = first / slots * slots;
    let together = |stream: &&mut Stream| stream.tokens > 0 && (first_slot..first_slot + slots).contains(&stream.slot);
    let wanted = streams.iter_mut().filter(together).map(|stream| stream.tokens).max()?;
    let of_slots = fitting().filter(|(_, variant)| variant.slots == slots);
    let (variant, new_tokens) = of_slots
        .map(|(index, variant)| (index, variant.new_tokens))
        .min_by_key(|(_, new)| (*new < wanted, if *new < wanted { usize::MAX - new } else { *new }))?;
    let parts = streams.iter_mut().filter(together).map(|stream| stream.take(new_tokens));
    Some(Run { variant, first_slot, parts: parts.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Append;

    fn variant(new_tokens: usize, context: usize, slots: usize) -> Variant {
        Variant { file: String::new(), append: Append::Rows, new_tokens, context, slots }
    }

    fn stream(slot: usize, past: usize, first: usize, tokens: usize) -> Stream {
        Stream { slot, past, first, tokens }
    }

    /// Runs as new tokens of the graph, first slot, and parts as slot, past, first row and tokens.
    type Runs = Vec<(usize, usize, Vec<(usize, usize, usize, usize)>)>;

    fn runs(mut streams: Vec<Stream>, variants: &[Variant], context: usize) -> Runs {
        let runs = std::iter::from_fn(|| next(&mut streams, variants, context));
        let part = |part: &Part| (part.slot, part.past, part.first, part.tokens);
        runs.map(|run| (variants[run.variant].new_tokens, run.first_slot, run.parts.iter().map(part).collect()))
            .collect()
    }

    #[test]
    fn the_smallest_graph_that_suffices_and_several_runs_of_the_largest() {
        let variants = [variant(64, 1024, 1), variant(1, 1024, 1), variant(16, 1024, 1), variant(2, 4096, 1)];
        let chosen = |tokens| runs(vec![stream(0, 5, 7, tokens)], &variants, 1024);
        assert_eq!(chosen(1), [(1, 0, vec![(0, 5, 7, 1)])]);
        assert_eq!(chosen(2), [(16, 0, vec![(0, 5, 7, 2)])]);
        assert_eq!(chosen(16), [(16, 0, vec![(0, 5, 7, 16)])]);
        assert_eq!(chosen(17), [(64, 0, vec![(0, 5, 7, 17)])]);
        assert_eq!(chosen(65), [(64, 0, vec![(0, 5, 7, 64)]), (1, 0, vec![(0, 69, 71, 1)])]);
        assert_eq!(chosen(0), []);
        assert_eq!(runs(vec![stream(0, 0, 0, 3)], &variants, 4096).len(), 2);
        assert_eq!(runs(vec![stream(0, 0, 0, 3)], &variants, 2048), []);
    }

    #[test]
    fn streams_of_a_group_run_together_where_a_graph_has_them_all() {
        let variants = [variant(4, 64, 1), variant(4, 64, 2), variant(4, 64, 4)];
        let one = runs(vec![stream(3, 0, 0, 2)], &variants, 64);
        assert_eq!(one, [(4, 3, vec![(3, 0, 0, 2)])]);
        let neighbours = runs(vec![stream(3, 9, 0, 2), stream(2, 0, 2, 4)], &variants, 64);
        assert_eq!(neighbours, [(4, 2, vec![(3, 9, 0, 2), (2, 0, 2, 4)])]);
        let apart = runs(vec![stream(0, 0, 0, 6), stream(3, 0, 6, 1)], &variants, 64);
        assert_eq!(apart, [(4, 0, vec![(0, 0, 0, 4), (3, 0, 6, 1)]), (4, 0, vec![(0, 4, 4, 2)])]);
        // Without a graph for all of them, one after the other.
        let alone = runs(vec![stream(0, 0, 0, 1), stream(3, 0, 1, 1)], &variants[..2], 64);
        assert_eq!(alone, [(4, 0, vec![(0, 0, 0, 1)]), (4, 3, vec![(3, 0, 1, 1)])]);
    }
}
