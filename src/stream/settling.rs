//! What the policy makes of the tokens that a change makes final, before it happens: a second opinion may have to be asked
//! on the way.

use std::ops::Range;

use super::{
    answer::{Answer, Change},
    outcome::{Effect, Outcome, Ruling, Settled, rules},
    update::{Opinion, OpinionOutcome, OpinionTrigger, Violation},
};
use crate::{
    Result,
    annotation::Annotation,
    policy::{Action, Debounce, Finding, Look, OnUncertain, OnViolation, Policy, Rules, What},
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
    dispute: Option<Dispute>,
}

/// What a second opinion is asked about.
struct Dispute {
    trigger: OpinionTrigger,
    channel: Channel,
    /// What is to be done, if it is a violation.
    action: Action,
    first_token: usize,
    token: usize,
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
        Settling { from, settled: Settled { looks, outcome, ..Settled::default() }, dispute: None }
    }

    /// What it came to.
    pub(super) fn settled(self) -> Settled {
        self.settled
    }

    /// Goes on, up to what a second opinion is needed about: these bytes, and all of the answer before them. None if all is
    /// settled.
    pub(super) fn next_dispute(&mut self, scene: &Scene) -> Option<Range<usize>> {
        while self.settled.outcome.seen < self.from + self.settled.looks.len() {
            let index = self.settled.outcome.seen;
            self.settled.outcome.seen += 1;
            if scene.token(index).judged {
                self.dispute = self.watch(scene, index);
            }
            if let Some(dispute) = &self.dispute {
                return Some(scene.bytes(dispute.first_token, index));
            }
        }
        None
    }

    /// Lets the policy see a token. Gives what has to be asked about it.
    fn watch(&mut self, scene: &Scene, index: usize) -> Option<Dispute> {
        let channel = scene.token(index).channel;
        let rules = rules(scene.policy, channel);
        let look = self.look(scene, index);
        let fired = self.settled.outcome.watch_mut(channel).next(rules.debounce, &look)?;
        let (trigger, action) = match fired.what {
            What::Violation(action) => (OpinionTrigger::Violation, action),
            What::Doubt => (OpinionTrigger::Uncertain, Action::Stop),
        };
        let dispute = Dispute { trigger, channel, action, first_token: index + 1 - fired.tokens, token: index };
        let known = scene.answer.rulings.iter().find(|ruling| ruling.token == index && index < self.from);
        if let Some(ruling) = known {
            self.apply(scene, &dispute, &ruling.effect);
            return None;
        }
        let asks = match trigger {
            OpinionTrigger::Violation => rules.second_opinion.violation.is_some(),
            OpinionTrigger::Uncertain => rules.second_opinion.uncertain.is_some(),
        };
        if asks && self.settled.outcome.violation.is_none() {
            return Some(dispute);
        }
        self.apply(scene, &dispute, &Effect::None);
        None
    }

    fn look(&self, scene: &Scene, index: usize) -> Look {
        if index < self.from { scene.answer.looks[index] } else { self.settled.looks[index - self.from] }
    }

    /// Takes the second opinion on what is in dispute. Gives what came of it.
    pub(super) fn rule(&mut self, scene: &Scene, mut annotation: Result<Annotation>) -> Option<OpinionOutcome> {
        let dispute = self.dispute.take()?;
        if let Ok(annotation) = &mut annotation {
            judge(annotation, scene.policy, dispute.channel);
        }
        let (outcome, effect) = self.ruling(scene, &dispute, &annotation);
        self.apply(scene, &dispute, &effect);
        let Dispute { trigger, channel, first_token, token, .. } = dispute;
        self.settled.rulings.push(Ruling { token, effect });
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

    /// What an opinion counts.
    fn ruling(&self, scene: &Scene, dispute: &Dispute, annotation: &Result<Annotation>) -> (OpinionOutcome, Effect) {
        use {OpinionOutcome as Came, OpinionTrigger::*};
        let rules = rules(scene.policy, dispute.channel);
        let report = match dispute.trigger {
            Violation => rules.second_opinion.violation == Some(OnViolation::Report),
            Uncertain => rules.second_opinion.uncertain.is_some_and(|uncertain| uncertain.word == OnUncertain::Report),
        };
        match (annotation.as_ref().map(|annotation| annotation.finding.as_ref()), dispute.trigger) {
            (Err(_), Uncertain) if !report => (Came::Failed, self.unjudged(scene, dispute)),
            (Err(_), _) => (Came::Failed, Effect::None),
            (Ok(_), _) if report => (Came::Reported, Effect::None),
            (Ok(None), Violation) => (Came::Lifted, Effect::Cleared),
            (Ok(None), Uncertain) => (Came::Cleared, Effect::Cleared),
            (Ok(Some(_)), Violation) => (Came::Confirmed, Effect::None),
            (Ok(Some(finding)), Uncertain) => {
                let looked = self.look(scene, dispute.token);
                let category = finding.category.clone().filter(|name| scene.labels.categories().contains(name));
                let category = category.unwrap_or_else(|| category_of(scene.labels, looked.finding()));
                let violation = dispute.violation(scene, finding.action, finding.risk, category, finding.probability);
                (Came::Confirmed, Effect::Confirmed(Box::new(violation)))
            }
        }
    }

    /// What is uncertain and cannot be judged is not called clear.
    fn unjudged(&self, scene: &Scene, dispute: &Dispute) -> Effect {
        let look = self.look(scene, dispute.token);
        let (risk, probability) =
            look.finding().map_or((Risk::Controversial, 0.0), |finding| (finding.risk, finding.probability));
        let category = category_of(scene.labels, look.finding());
        Effect::Confirmed(Box::new(dispute.violation(scene, Action::Stop, risk, category, probability)))
    }

    /// Makes what was found, or what an opinion on it counts, a part of the outcome.
    fn apply(&mut self, scene: &Scene, dispute: &Dispute, effect: &Effect) {
        let rules = rules(scene.policy, dispute.channel);
        match (effect, dispute.trigger) {
            (Effect::Cleared, _) => self.settled.outcome.watch_mut(dispute.channel).clear(),
            (Effect::Confirmed(violation), _) => {
                self.settled.outcome.watch_mut(dispute.channel).end_doubt();
                self.add(rules, (**violation).clone());
            }
            (Effect::None, OpinionTrigger::Uncertain) => {}
            (Effect::None, OpinionTrigger::Violation) => {
                let Look::Counts(finding) = self.look(scene, dispute.token) else { return };
                let category = category_of(scene.labels, Some(&finding));
                let rule = rules.judge().name(name(dispute.channel), &finding, scene.labels);
                let violation = dispute.violation(scene, dispute.action, finding.risk, category, finding.probability);
                self.add(rules, Violation { rule: format!("{rule}: {}", rules.debounce), ..violation });
            }
        }
    }

    fn add(&mut self, rules: &Rules, found: Violation) {
        let outcome = &mut self.settled.outcome;
        match found.action {
            Action::Stop => {
                outcome.stop_at.get_or_insert(found.bytes.start);
                let escalates = |known: &Violation| {
                    rules.debounce == Debounce::Eval && known.channel == found.channel && known.risk < found.risk
                };
                if outcome.violation.as_ref().is_none_or(escalates) {
                    outcome.violation = Some(found);
                }
            }
            // Others were reported before.
            Action::Flag | Action::Ignore if found.confirming_token >= self.from => self.settled.flags.push(found),
            Action::Flag | Action::Ignore => {}
        }
    }
}

impl Dispute {
    /// A violation of its tokens. The rule is that of uncertain ones.
    fn violation(&self, scene: &Scene, action: Action, risk: Risk, category: String, probability: f32) -> Violation {
        let debounce = rules(scene.policy, self.channel).debounce;
        Violation {
            action,
            channel: self.channel,
            bytes: scene.bytes(self.first_token, self.token),
            first_token: self.first_token,
            confirming_token: self.token,
            risk,
            category,
            probability,
            rule: format!("{}.second_opinion.uncertain: {debounce}", name(self.channel)),
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
