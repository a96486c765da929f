//! How often a guard gave which verdict, and what its policies made of that. Counted where verdicts become final, by a few
//! additions for each: no lock, and nothing that waits.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    stats::{VerdictChannel, VerdictCount},
    verdict::{Labels, Risk, Verdict},
};

const RISKS: [Risk; 3] = [Risk::Safe, Risk::Controversial, Risk::Unsafe];

/// Counts of one guard, for all of its streams.
pub(crate) struct Tally {
    query: Arc<Labels>,
    response: Arc<Labels>,
    /// By channel, then level, then category; the first category is none.
    cells: Box<[Cell]>,
}

#[derive(Default)]
struct Cell {
    verdicts: AtomicU64,
    stops: AtomicU64,
    flags: AtomicU64,
}

/// What a policy made of a verdict that it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// The host is told to stop.
    Stop,
    /// It is told, and goes on.
    Flag,
}

impl Tally {
    pub(crate) fn new(query: &Arc<Labels>, response: &Arc<Labels>) -> Self {
        let width = 1 + query.categories().len().max(response.categories().len());
        let cells = (0..VerdictChannel::ALL.len() * RISKS.len() * width).map(|_| Cell::default()).collect();
        Tally { query: query.clone(), response: response.clone(), cells }
    }

    /// A verdict of a model that judges tokens.
    pub(crate) fn verdict(&self, channel: VerdictChannel, verdict: &Verdict) {
        let risk = verdict.risk();
        let category = (risk != Risk::Safe).then(|| verdict.top_category());
        add(&self.cell(channel, risk, category).verdicts);
    }

    /// A verdict on a whole conversation, of the first category that it names.
    pub(crate) fn annotation(&self, channel: VerdictChannel, risk: Risk, category: Option<&str>) {
        add(&self.named(channel, risk, category).verdicts);
    }

    /// Something that a policy found: the level that it counts as, and its category.
    pub(crate) fn found(&self, channel: VerdictChannel, risk: Risk, category: Option<&str>, made: Made) {
        let cell = self.named(channel, risk, category);
        add(match made {
            Made::Stop => &cell.stops,
            Made::Flag => &cell.flags,
        });
    }

    /// What was counted, without what never was.
    pub(crate) fn counts(&self) -> Vec<VerdictCount> {
        let count = |index: usize| {
            let Cell { verdicts, stops, flags } = &self.cells[index];
            let [verdicts, stops, flags] = [verdicts, stops, flags].map(|number| number.load(Ordering::Relaxed));
            let (place, category) = (index / self.width(), index % self.width());
            let channel = VerdictChannel::ALL[place / RISKS.len()];
            let name = category.checked_sub(1).and_then(|category| self.labels(channel).categories().get(category));
            let risk = RISKS[place % RISKS.len()];
            VerdictCount { channel, risk, category: name.cloned(), verdicts, stops, flags }
        };
        let all = (0..self.cells.len()).map(count);
        all.filter(|count| (count.verdicts, count.stops, count.flags) != (0, 0, 0)).collect()
    }

    fn named(&self, channel: VerdictChannel, risk: Risk, category: Option<&str>) -> &Cell {
        let place = |name| self.labels(channel).categories().iter().position(|known| known == name);
        self.cell(channel, risk, category.and_then(place))
    }

    fn cell(&self, channel: VerdictChannel, risk: Risk, category: Option<usize>) -> &Cell {
        let place = channel as usize * RISKS.len() + risk as usize;
        &self.cells[place * self.width() + category.map_or(0, |category| category + 1)]
    }

    fn width(&self) -> usize {
        self.cells.len() / (VerdictChannel::ALL.len() * RISKS.len())
    }

    fn labels(&self, channel: VerdictChannel) -> &Labels {
        if channel.is_of_prompts() { &self.query } else { &self.response }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn labels(categories: &[&str]) -> Arc<Labels> {
        let categories = categories.iter().map(|&name| name.to_owned()).collect();
        Arc::new(Labels { risks: vec![Risk::Safe, Risk::Unsafe, Risk::Controversial], categories })
    }

    #[test]
    fn every_channel_level_and_category_has_a_count_of_its_own() {
        let (query, response) = (labels(&["A", "B", "C"]), labels(&["B"]));
        let tally = Tally::new(&query, &response);
        let mut expected = Vec::new();
        for channel in VerdictChannel::ALL {
            let names = if channel.is_of_prompts() { &["A", "B", "C"][..] } else { &["B"] };
            for risk in RISKS {
                for category in [None].into_iter().chain(names.iter().copied().map(Some)) {
                    let (verdicts, stops) = (1 + expected.len() as u64, expected.len() as u64 % 3);
                    (0..verdicts).for_each(|_| tally.annotation(channel, risk, category));
                    (0..stops).for_each(|_| tally.found(channel, risk, category, Made::Stop));
                    tally.found(channel, risk, category, Made::Flag);
                    let category = category.map(str::to_owned);
                    expected.push(VerdictCount { channel, risk, category, verdicts, stops, flags: 1 });
                }
            }
        }
        assert_eq!(tally.counts(), expected);
    }

    #[test]
    fn what_never_was_is_left_out_and_a_safe_verdict_has_no_category() {
        let labels = labels(&["A", "B"]);
        let tally = Tally::new(&labels, &labels);
        assert!(tally.counts().is_empty());
        for risk in [array![9., 0., 0.], array![0., 9., 0.]] {
            let verdict = Verdict::from_logits(&labels, risk.view(), array![0., 1.].view());
            tally.verdict(VerdictChannel::Answer, &verdict);
        }
        let found = tally.counts();
        let found: Vec<_> = found.iter().map(|count| (count.risk, count.category.as_deref())).collect();
        assert_eq!(found, [(Risk::Safe, None), (Risk::Unsafe, Some("B"))]);
    }
}
