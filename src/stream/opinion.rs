//! A change on its way after the model has judged its tokens: what the policy makes of it, and the second opinions that it
//! takes.

use std::{ops::Range, time::Instant};

use super::{
    outcome::Settled,
    settling::{Scene, Settling},
    tape::Feed,
    turn::Turn,
    update::OpinionOutcome,
};
use crate::{
    Error, Result,
    annotation::{Annotation, Decoding},
    engine::{Batch, Notify},
    generative::Job,
    opened::Opened,
    policy::Policy,
    second::Second,
    stats::OpinionStats,
};

/// A change of an answer that the model judges, then the policy.
pub(super) struct Changing {
    pub(super) feed: Feed,
    settling: Option<Settling>,
    asked: Option<Asked>,
}

/// A second opinion that was asked for.
struct Asked {
    job: Job,
    /// What of the answer it gets, and whether that is not all.
    judged: Range<usize>,
    is_cut: bool,
    since: Instant,
}

/// Who judges.
#[derive(Clone, Copy)]
pub(super) struct Judges<'a> {
    pub(super) shared: &'a Opened,
    pub(super) second: Option<&'a Second>,
    pub(super) policy: &'a Policy,
}

impl Changing {
    pub(super) fn new(feed: Feed) -> Self {
        Changing { feed, settling: None, asked: None }
    }

    /// Whether going on does not wait.
    pub(super) fn is_ready(&self) -> bool {
        self.asked.as_ref().map_or_else(|| self.feed.is_ready(), |asked| !asked.job.is_waiting())
    }

    /// Waits until it does not, but not beyond a moment. Returns whether it is so.
    pub(super) fn wait_until(&self, deadline: Instant) -> bool {
        self.asked.as_ref().map_or_else(|| self.feed.wait_until(deadline), |asked| asked.job.wait_until(deadline))
    }

    /// Once the feed is computed: takes what was said of what is in dispute, waiting for it, and asks about what comes next.
    /// Returns whether that is nothing.
    pub(super) fn settle(&mut self, judges: Judges, turn: &Turn, batch: &mut Batch) -> bool {
        let Changing { feed, settling, asked } = self;
        let Judges { shared, second, policy } = judges;
        let Feed { change, verdicts, notify, .. } = feed;
        let scene = Scene { labels: &shared.response_labels, policy, answer: &turn.answer, change, verdicts };
        let settling = settling.get_or_insert_with(|| Settling::new(&scene));
        loop {
            if let Some(running) = asked {
                let Some(annotation) = running.advance(batch).transpose() else { return false };
                count(second, settling.rule(&scene, annotation), running.since);
                *asked = None;
            }
            let Some(disputed) = settling.next_dispute(&scene) else { return true };
            let since = Instant::now();
            match Asked::ask(judges, turn, &scene, disputed, notify.clone(), batch) {
                Ok(begun) => {
                    *asked = Some(begun);
                    return false;
                }
                Err(error) => count(second, settling.rule(&scene, Err(error)), since),
            }
        }
    }

    /// What it came to.
    pub(super) fn settled(self) -> (Feed, Settled) {
        (self.feed, self.settling.map(Settling::settled).unwrap_or_default())
    }
}

impl Asked {
    /// Asks for a second opinion on the answer up to the end of what is in dispute, which has to be judged as a whole.
    fn ask(
        Judges { shared, second, .. }: Judges,
        turn: &Turn,
        scene: &Scene,
        disputed: Range<usize>,
        notify: Option<Notify>,
        batch: &mut Batch,
    ) -> Result<Self> {
        let since = Instant::now();
        let second = second.ok_or(Error::EngineStopped)?;
        second.asked();
        let messages = turn.up_to(shared, scene.change, disputed.end)?;
        let whole = messages.last().map_or(0, |last| last.content.len());
        let (rendered, judged) = second.render(&messages)?;
        let is_cut = judged.len() < whole;
        if is_cut && judged.len() < disputed.len() {
            let Opened { info, .. } = &**second.shared;
            return Err(Error::ContextFull { used: info.context, wanted: 1, limit: info.context });
        }
        let mut job = Job::open(second.shared.clone(), second.model.clone(), Decoding::Constrained, rendered, notify)?;
        // The first step has to be computed.
        job.advance(batch)?;
        Ok(Asked { job, judged, is_cut, since })
    }

    /// What was said, waiting for what is computed; or nothing yet.
    fn advance(&mut self, batch: &mut Batch) -> Result<Option<Annotation>> {
        let said = self.job.advance(batch)?;
        let (judged, is_cut) = (self.judged.clone(), self.is_cut);
        Ok(said.map(|annotation| Annotation { judged, is_cut, ..annotation }))
    }
}

fn count(second: Option<&Second>, outcome: Option<OpinionOutcome>, since: Instant) {
    let (Some(second), Some(outcome)) = (second, outcome) else { return };
    let counted = |stats: &mut OpinionStats| match outcome {
        OpinionOutcome::Confirmed => stats.confirmed += 1,
        OpinionOutcome::Lifted | OpinionOutcome::Cleared => stats.lifted += 1,
        OpinionOutcome::Reported => stats.reported += 1,
        OpinionOutcome::Failed => stats.failed += 1,
    };
    second.answered(counted, since.elapsed());
}
