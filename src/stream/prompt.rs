//! A prompt: from messages past the model to what the policy makes of it.

use super::{
    turn::Turn,
    update::{PromptCheck, PromptFinding},
};
use crate::{
    Result,
    engine::{Batch, Notify, Pending, Read, Sequence},
    opened::Opened,
    policy::{Decision, Policy},
    stats::VerdictChannel,
    tally::{Made, Tally},
    text::{Frame, Message},
    verdict::Verdict,
};

/// A prompt that the engine works at.
pub(super) struct Prompt {
    pub(super) pending: Pending,
    messages: Vec<Message>,
    ids: Vec<u32>,
    frame: Frame,
}

impl Prompt {
    /// Renders messages and begins to feed what the sequence does not hold of them. `turn` is the one before.
    pub(super) fn begin(
        shared: &Opened,
        sequence: &mut Sequence,
        policy: &Policy,
        turn: Option<&mut Turn>,
        messages: Vec<Message>,
        notify: Option<Notify>,
        batch: &mut Batch,
    ) -> Result<Self> {
        let conversation = shared.renderer.render(&shared.tokenizer, &messages, &policy.prompt.roles)?;
        let ids = conversation.prompt;
        let last = ids.len() - 1;
        let common = |turn: &&mut Turn| turn.tape.common_prefix(sequence, &turn.answer.tokens, &ids);
        // The logits of the last token are needed.
        let keep = turn.as_ref().map_or(0, common).min(last);
        sequence.check_room(keep, ids.len() - keep)?;
        if let Some(turn) = turn {
            // If this fails or is cancelled, the answer is fed anew.
            turn.tape.forget();
        }
        sequence.truncate(keep, batch)?;
        let read = Read { heads: shared.query_heads()?.into_iter().collect(), from: last - keep };
        let pending = sequence.begin_append(ids[keep..].to_vec(), read, notify, batch)?;
        Ok(Prompt { pending, messages, ids, frame: conversation.frame })
    }

    /// Waits for the prompt's logits. Gives the turn that it starts.
    pub(super) fn complete(
        self,
        shared: &Opened,
        sequence: &mut Sequence,
        policy: &Policy,
        tally: Option<&Tally>,
    ) -> Result<(Turn, PromptCheck)> {
        let Prompt { pending, messages, ids, frame } = self;
        let logits = sequence.complete(pending)?;
        let [risk, category] = shared.query_heads()?.map(|head| logits.head(head));
        let verdict = Verdict::from_logits(&shared.query_labels, risk.row(0), category.row(0));
        let check = check(policy, verdict);
        if let Some(tally) = tally {
            count(tally, &check);
        }
        Ok((Turn::new(messages, ids, frame), check))
    }
}

/// What a policy makes of the verdict on a prompt.
pub(super) fn check(policy: &Policy, verdict: Verdict) -> PromptCheck {
    let judge = policy.prompt.judge();
    let finding = judge.find(&verdict);
    PromptCheck {
        decision: policy.decide(finding.map(|finding| finding.action)),
        finding: finding.map(|finding| PromptFinding {
            action: finding.action,
            risk: finding.risk,
            category: verdict.labels().categories()[finding.category as usize].clone(),
            probability: finding.probability,
            rule: judge.name("prompt", &finding, verdict.labels()),
        }),
        verdict,
    }
}

/// Counts it for the guard's statistics.
fn count(tally: &Tally, check: &PromptCheck) {
    tally.verdict(VerdictChannel::Prompt, &check.verdict);
    if let Some(finding) = &check.finding {
        let made = if check.decision == Decision::Stop { Made::Stop } else { Made::Flag };
        tally.found(VerdictChannel::Prompt, finding.risk, Some(&finding.category), made);
    }
}
