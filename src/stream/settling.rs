//! What the policy makes of the tokens that a change makes final, before it happens: a second opinion may have to be asked
//! on the way.

use std::ops::Range;

use super::{
    answer::{Answer, Change},
    dispute::{Dispute, Raised, Weight},
    outcome::{Outcome, Ruling, Settled, Word, rules},
    update::{Opinion, OpinionOutcome, OpinionTrigger, Violation},
};
use crate::{
    Result,
    annotation::Annotation,
    policy::{Action, AnnotationFinding, Debounce, Finding, Look, Policy, Rules, What},
    text::{AnswerToken, Channel},
    verdict::{Labels, Risk, Verdict},
};

/// What a change is about, as far as the policy sees it.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) labels: &'a Labels,
    pub(super) policy: &'a Policy,
    pub(super) answer: &'a Answer,
    pub(super) change: &'a Change,
    /// Of the change's new tokens.
    pub(super) verdicts: &'a [Option<Verdict>],
}

/// On its way.
pub(super) struct Settling {
    /// The first token that the change makes final.
    from: usize,
    settled: Settled,
}

impl Scene<'_> {
    fn token(&self, index: usize) -> &AnswerToken {
        let edit = &self.change.tokens;
        if index < edit.keep { &self.answer.tokens[index] } else { &edit.append[index - edit.keep] }
    }

    /// Of a token that is not final yet, if it is judged.
    fn verdict(&self, index: usize) -> Option<&Verdict> {
        let keep = self.change.tokens.keep;
        match index < keep {
            true => self.answer.provisional[index - self.answer.looks.len()].as_ref(),
            false => self.verdicts[index - keep].as_ref(),
        }
    }

    /// The bytes from one token to another.
    fn bytes(&self, first: usize, last: usize) -> Range<usize> {
        self.token(first).bytes.start..self.token(last).bytes.end
    }
}

impl Settling {
    pub(super) fn new(scene: &Scene) -> Self {
        let Scene { answer, change, policy, .. } = scene;
        let from = answer.looks.len().min(change.tokens.keep);
        // Where final tokens go, those that stay are watched again.
        let outcome = if from < answer.looks.len() { Outcome::default() } else { answer.outcome.clone() };
        let look = |index| {
            let rules = rules(policy, scene.token(index).channel);
            scene.verdict(index).map_or(Look::Clear, |verdict| rules.look(verdict))
        };
        let looks = (from..change.tokens.stable).map(look).collect();
        Settling { from, settled: Settled { looks, outcome, ..Settled::default() } }
    }

    /// What it came to.
    pub(super) fn settled(self) -> Settled {
        self.settled
    }

    /// Goes on, up to what a second opinion is needed about: these bytes, and all of the answer before them. None if all is
    /// settled, or waits.
    pub(super) fn next_dispute(&mut self, scene: &Scene) -> Option<Range<usize>> {
        loop {
            if let Some(disputed) = self.due(scene) {
                return Some(disputed);
            }
            let index = self.settled.outcome.seen;
            if index == self.end() {
                return None;
            }
            self.settled.outcome.seen += 1;
            if scene.token(index).judged {
                self.watch(scene, index);
            }
        }
    }

    /// The first place behind the final tokens.
    fn end(&self) -> usize {
        self.from + self.settled.looks.len()
    }

    /// What is in dispute, if an opinion on it is to be asked for at the last token seen. If there was one, it is taken.
    fn due(&mut self, scene: &Scene) -> Option<Range<usize>> {
        let Outcome { seen, violation, dispute, asked, .. } = &self.settled.outcome;
        let (dispute, at) = (dispute.as_ref()?, seen.checked_sub(1)?);
        let known = scene.answer.rulings.iter().find(|ruling| ruling.token == at && at < self.from);
        if let Some(ruling) = known {
            self.resolve(scene, &ruling.word, false);
            return None;
        }
        let interval = rules(scene.policy, dispute.channel).second_opinion.interval_tokens;
        let waits = asked.is_some_and(|asked| at - asked < interval);
        let goes_on = if *seen == self.end() {
            scene.change.end.is_none()
        } else {
            scene.token(*seen).channel == dispute.channel
        };
        // A violation that stops is only asked about to be reported, and nothing comes after it.
        let due = !waits || !goes_on || violation.is_some();
        due.then(|| scene.bytes(dispute.first_token(), at))
    }

    /// Lets the policy see a token.
    fn watch(&mut self, scene: &Scene, index: usize) {
        let channel = scene.token(index).channel;
        let rules = rules(scene.policy, channel);
        let look = self.look(scene, index);
        let Some(fired) = self.settled.outcome.watch_mut(channel).next(rules.debounce, &look) else { return };
        let weight = Weight::of(fired.what, rules).filter(|_| self.settled.outcome.violation.is_none());
        let first_token = index + 1 - fired.tokens;
        let raised = |weight| Raised { what: fired.what, weight, first_token, token: index };
        if let (What::Violation(action), None | Some(Weight::Report)) = (fired.what, weight) {
            let found = self.violation(scene, channel, &raised(Weight::Report), action);
            self.add(scene, rules, found, index >= self.from);
        }
        let Some(weight) = weight else { return };
        match &mut self.settled.outcome.dispute {
            Some(dispute) => dispute.push(raised(weight)),
            none => *none = Some(Dispute::new(channel, raised(weight))),
        }
    }

    fn look(&self, scene: &Scene, index: usize) -> Look {
        if index < self.from { scene.answer.looks[index] } else { self.settled.looks[index - self.from] }
    }

    /// Takes the second opinion on what is in dispute. Gives what came of it.
    pub(super) fn rule(&mut self, scene: &Scene, mut annotation: Result<Annotation>) -> Option<OpinionOutcome> {
        let dispute = self.settled.outcome.dispute.as_ref()?;
        let (trigger, channel, first_token) = (dispute.trigger(), dispute.channel, dispute.first_token());
        if let Ok(annotation) = &mut annotation {
            judge(annotation, scene.policy, channel);
        }
        let word = match annotation.as_ref().map(|annotation| annotation.finding.clone()) {
            Ok(None) => Word::Nothing,
            Ok(Some(finding)) => Word::Found(Box::new(finding)),
            Err(_) => Word::Failed,
        };
        let outcome = self.resolve(scene, &word, true)?;
        let token = self.last_seen();
        self.settled.rulings.push(Ruling { token, word });
        let (bytes, confirming_token) = (scene.bytes(first_token, token), token);
        self.settled.opinions.push(Opinion {
            trigger,
            outcome,
            channel,
            bytes,
            first_token,
            confirming_token,
            annotation,
        });
        Some(outcome)
    }

    fn last_seen(&self) -> usize {
        self.settled.outcome.seen.saturating_sub(1)
    }

    /// Makes what an opinion says of what is in dispute a part of the outcome. `is_new` says whether it was not said before.
    fn resolve(&mut self, scene: &Scene, word: &Word, is_new: bool) -> Option<OpinionOutcome> {
        let dispute = self.settled.outcome.dispute.take()?;
        self.settled.outcome.asked = Some(self.last_seen());
        let decides = dispute.weight() > Weight::Report;
        if let Word::Nothing = word {
            if !decides {
                return Some(OpinionOutcome::Reported);
            }
            self.settled.outcome.watch_mut(dispute.channel).clear();
            return Some(match dispute.trigger() {
                OpinionTrigger::Violation => OpinionOutcome::Lifted,
                OpinionTrigger::Uncertain => OpinionOutcome::Cleared,
            });
        }
        for raised in dispute.decided() {
            let found = match (raised.what, word) {
                (What::Violation(action), _) => self.violation(scene, dispute.channel, raised, action),
                (What::Doubt, Word::Found(finding)) => self.confirmed(scene, dispute.channel, raised, finding),
                (What::Doubt, _) => self.unjudged(scene, dispute.channel, raised),
            };
            if let What::Doubt = raised.what {
                self.settled.outcome.watch_mut(dispute.channel).end_doubt();
            }
            self.add(scene, rules(scene.policy, dispute.channel), found, is_new);
        }
        Some(match word {
            Word::Failed => OpinionOutcome::Failed,
            _ if decides => OpinionOutcome::Confirmed,
            _ => OpinionOutcome::Reported,
        })
    }

    /// A violation as the rules found it.
    fn violation(&self, scene: &Scene, channel: Channel, raised: &Raised, action: Action) -> Violation {
        let rules = rules(scene.policy, channel);
        let look = self.look(scene, raised.token);
        let violation = self.found(scene, channel, raised, action, &look);
        let rule = look.finding().map(|finding| rules.judge().name(name(channel), finding, scene.labels));
        Violation { rule: format!("{}: {}", rule.unwrap_or_default(), rules.debounce), ..violation }
    }

    /// Uncertain tokens that an opinion confirmed.
    fn confirmed(&self, scene: &Scene, channel: Channel, raised: &Raised, by: &AnnotationFinding) -> Violation {
        let violation = self.found(scene, channel, raised, by.action, &self.look(scene, raised.token));
        let category = by.category.clone().filter(|name| scene.labels.categories().contains(name));
        Violation {
            risk: by.risk,
            probability: by.probability,
            category: category.unwrap_or(violation.category.clone()),
            ..violation
        }
    }

    /// What is uncertain and cannot be judged is not called clear.
    fn unjudged(&self, scene: &Scene, channel: Channel, raised: &Raised) -> Violation {
        self.found(scene, channel, raised, Action::Stop, &self.look(scene, raised.token))
    }

    /// A violation up to the last token seen, of what was seen. The rule is that of uncertain tokens.
    fn found(&self, scene: &Scene, channel: Channel, raised: &Raised, action: Action, look: &Look) -> Violation {
        let (risk, probability) =
            look.finding().map_or((Risk::Controversial, 0.0), |finding| (finding.risk, finding.probability));
        let confirming_token = self.last_seen();
        Violation {
            action,
            channel,
            bytes: scene.bytes(raised.first_token, confirming_token),
            first_token: raised.first_token,
            confirming_token,
            risk,
            category: category_of(scene.labels, look.finding()),
            probability,
            rule: format!("{}.second_opinion.uncertain: {}", name(channel), rules(scene.policy, channel).debounce),
        }
    }

    /// Adds a violation. `is_new` says whether it was not reported before.
    fn add(&mut self, scene: &Scene, rules: &Rules, found: Violation, is_new: bool) {
        let outcome = &mut self.settled.outcome;
        match found.action {
            Action::Stop => {
                // Of what is in dispute nothing can be shown any more, as nothing is asked any more.
                let held = outcome.dispute.take().and_then(|dispute| dispute.held_from());
                let held = held.map_or(usize::MAX, |token| scene.token(token).bytes.start);
                outcome.stop_at.get_or_insert(found.bytes.start.min(held));
                let escalates = |known: &Violation| {
                    rules.debounce == Debounce::Eval && known.channel == found.channel && known.risk < found.risk
                };
                if outcome.violation.as_ref().is_none_or(escalates) {
                    outcome.violation = Some(found);
                }
            }
            Action::Flag | Action::Ignore if is_new => self.settled.flags.push(found),
            Action::Flag | Action::Ignore => {}
        }
    }
}

/// What the rules of a channel make of an annotation.
fn judge(annotation: &mut Annotation, policy: &Policy, channel: Channel) {
    let answer = rules(policy, channel).clone();
    let policy = Policy { answer, shadow: policy.shadow, ..Policy::default() };
    (annotation.decision, annotation.finding) = annotation.judge(&policy);
    if let (Some(finding), Channel::Thinking) = (&mut annotation.finding, channel) {
        finding.rule = finding.rule.replacen(name(Channel::Answer), name(channel), 1);
    }
}

fn category_of(labels: &Labels, finding: Option<&Finding>) -> String {
    labels.categories()[finding.map_or(0, |finding| finding.category as usize)].clone()
}

fn name(channel: Channel) -> &'static str {
    match channel {
        Channel::Thinking => "thinking",
        Channel::Answer => "answer",
    }
}
