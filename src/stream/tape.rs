//! What the model is fed of a conversation: the prompt, what the template puts before the answer, and the answer, or
//! the last part of an answer that is longer than the context.

use std::time::Instant;

use super::answer::Change;
use crate::{
    Error, Result,
    config::Overflow,
    engine::{Batch, Notify, Pending, Read, Sequence},
    model::HeadSet,
    opened::Opened,
    text::{AnswerToken, Channel, Frame, TokenEdit},
    verdict::Verdict,
};

/// The least room for an answer with which a restart makes sense, in tokens.
const LEAST_ROOM: usize = 16;

/// The tokens of a stream's sequence.
#[derive(Debug, Clone)]
pub(super) struct Tape {
    pub(super) prompt: Vec<u32>,
    pub(super) frame: Frame,
    /// What follows the prompt in the sequence, of the answer as it is. None if that is nothing, or after a failure
    /// unknown. After a call that was cancelled the sequence may hold more.
    held: Option<Held>,
}

/// The tokens of an answer that the sequence holds, after their lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    view: View,
    /// The end of these tokens.
    until: usize,
}

/// A part of an answer that the model sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct View {
    lead: Lead,
    /// Its first token.
    from: usize,
}

/// What comes before that part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// The start of an answer without thinking.
    Plain,
    /// The start of an answer, up to where thinking starts.
    Thinking,
    /// The start of an answer that brings its own tag.
    Bare,
}

/// A change of the answer on its way past the model.
pub(super) struct Feed {
    pub(super) change: Change,
    /// The verdicts of those of its new tokens that are computed.
    pub(super) verdicts: Vec<Option<Verdict>>,
    /// The heads that judge them.
    heads: HeadSet,
    /// How many tokens of an answer the model sees at once.
    room: usize,
    running: Option<Running>,
    /// What the sequence holds with what is computed so far.
    pub(super) held: Option<Held>,
    pub(super) notify: Option<Notify>,
}

/// A part of a feed that the engine computes.
struct Running {
    pending: Pending,
    view: View,
    until: usize,
}

impl Feed {
    /// Whether [`Tape::collect`] does not wait.
    pub(super) fn is_ready(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.pending.is_ready())
    }

    /// Waits until it does not, but not beyond a moment. Returns whether it is so.
    pub(super) fn wait_until(&self, deadline: Instant) -> bool {
        self.running.as_ref().is_none_or(|running| running.pending.wait_until(deadline))
    }

    /// The first token that is not computed.
    fn at(&self) -> usize {
        self.change.tokens.keep + self.verdicts.len()
    }

    /// The first place behind its tokens.
    fn end(&self) -> usize {
        self.change.tokens.keep + self.change.tokens.append.len()
    }

    /// A token of the answer as it will be. `tokens` are those that it has.
    fn token<'t>(&'t self, tokens: &'t [AnswerToken], index: usize) -> &'t AnswerToken {
        let TokenEdit { keep, append, .. } = &self.change.tokens;
        if index < *keep { &tokens[index] } else { &append[index - keep] }
    }
}

impl Tape {
    pub(super) fn new(prompt: Vec<u32>, frame: Frame) -> Self {
        Tape { prompt, frame, held: None }
    }

    /// Begins to feed the new tokens of a change, after those of the answer that it keeps. The change has happened when the
    /// tape [holds](Self::hold) what is then there; until then a failure, or dropping the feed, cancels it.
    pub(super) fn feed(
        &mut self,
        shared: &Opened,
        sequence: &mut Sequence,
        tokens: &[AnswerToken],
        change: Change,
        notify: Option<Notify>,
        batch: &mut Batch,
    ) -> Result<Feed> {
        let keep = change.tokens.keep;
        let room = self.room(shared, &tokens[..keep], &change.tokens.append)?;
        self.cut(sequence, keep, batch)?;
        let heads = shared.response_heads()?.into_iter().collect();
        let mut feed = Feed { change, heads, room, verdicts: Vec::new(), running: None, held: self.held, notify };
        self.run(sequence, tokens, &mut feed, batch)?;
        Ok(feed)
    }

    /// Takes what the model has computed of a feed, waiting for it, and begins what is left. Returns whether that is
    /// nothing.
    pub(super) fn collect(
        &mut self,
        shared: &Opened,
        sequence: &mut Sequence,
        tokens: &[AnswerToken],
        feed: &mut Feed,
        batch: &mut Batch,
    ) -> Result<bool> {
        let Some(Running { pending, view, until }) = feed.running.take() else { return Ok(true) };
        let logits = sequence.complete(pending)?;
        let [risk, category] = shared.response_heads()?.map(|head| logits.head(head));
        feed.held = Some(Held { view, until });
        for (row, index) in (feed.at()..until).enumerate() {
            let verdict = || Verdict::from_logits(&shared.response_labels, risk.row(row), category.row(row));
            feed.verdicts.push(feed.token(tokens, index).judged.then(verdict));
        }
        self.run(sequence, tokens, feed, batch)?;
        Ok(feed.running.is_none())
    }

    /// Begins the next part of a feed: what the model sees at once.
    fn run(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[AnswerToken],
        feed: &mut Feed,
        batch: &mut Batch,
    ) -> Result<()> {
        let (at, end) = (feed.at(), feed.end());
        if at == end {
            return Ok(());
        }
        let from = view_start(at, feed.room);
        let until = end.min(from.saturating_add(feed.room));
        let view = View { lead: lead(from, feed.token(tokens, from)), from };
        let mut ids = Vec::new();
        let held = feed.held.filter(|held| held.view == view);
        let start = held.map_or(from, |held| held.until);
        if held.is_none() {
            (feed.held, self.held) = (None, None);
            let have = sequence.len().min(self.prompt.len());
            sequence.truncate(have, batch)?;
            ids.extend(&self.prompt[have..]);
            ids.extend(self.lead(view.lead));
        }
        let first_read = ids.len() + at - start;
        ids.extend((start..until).map(|index| feed.token(tokens, index).id));
        let read = Read { heads: feed.heads, from: first_read };
        let pending = sequence.begin_append(ids, read, feed.notify.clone(), batch)?;
        feed.running = Some(Running { pending, view, until });
        Ok(())
    }

    /// How many ids of a new conversation the sequence holds already.
    pub(super) fn common_prefix(&self, sequence: &Sequence, tokens: &[AnswerToken], ids: &[u32]) -> usize {
        let answer = self.held.iter().flat_map(|Held { view, until }| {
            let answer = tokens[view.from..*until].iter().map(|token| token.id);
            self.lead(view.lead).iter().copied().chain(answer)
        });
        let held = self.prompt.iter().copied().chain(answer).take(sequence.len());
        held.zip(ids).take_while(|(held, id)| held == *id).count()
    }

    /// After a failure that cut the sequence within what this tape holds.
    pub(super) fn forget(&mut self) {
        self.held = None;
    }

    /// After a feed that has happened.
    pub(super) fn hold(&mut self, held: Option<Held>) {
        self.held = held;
    }

    /// How many tokens a sequence that was fed the answer anew would have.
    pub(super) fn used(&self, shared: &Opened, tokens: &[AnswerToken]) -> usize {
        let Some(last) = tokens.len().checked_sub(1) else { return self.prompt.len() };
        let from = view_start(last, self.most(shared));
        self.prompt.len() + self.lead(lead(from, &tokens[from])).len() + tokens.len() - from
    }

    /// Takes what follows the answer's first `keep` tokens out of the sequence, and what a call left that was cancelled.
    fn cut(&mut self, sequence: &mut Sequence, keep: usize, batch: &mut Batch) -> Result<()> {
        let held = self.held.filter(|held| held.view.from <= keep);
        self.held = held.map(|held| Held { until: held.until.min(keep), ..held });
        let answer = self.held.map_or(0, |Held { view, until }| self.lead(view.lead).len() + until - view.from);
        sequence.truncate(self.prompt.len() + answer, batch)
    }

    /// An error if so many tokens after so many of the answer cannot fit, whatever they are.
    pub(super) fn check_fits(&self, shared: &Opened, kept: usize, append: usize) -> Result<()> {
        let (used, limit) = (self.prompt.len() + kept, shared.info.context);
        if shared.overflow == Overflow::Error && append > limit.saturating_sub(used) {
            return Err(Error::ContextFull { used, wanted: append, limit });
        }
        Ok(())
    }

    /// How many tokens an answer may have.
    pub(super) fn most_tokens(&self, shared: &Opened) -> usize {
        match shared.overflow {
            Overflow::Error => shared.info.context.saturating_sub(self.prompt.len()),
            Overflow::Restart => usize::MAX,
        }
    }

    /// An error about the answer's length as one about the context's.
    pub(super) fn after_prompt(&self, shared: &Opened, error: Error) -> Error {
        match error {
            Error::ContextFull { used, wanted, .. } => {
                Error::ContextFull { used: self.prompt.len() + used, wanted, limit: shared.info.context }
            }
            other => other,
        }
    }

    /// How many tokens of an answer the model sees at once, if these fit.
    fn room(&self, shared: &Opened, kept: &[AnswerToken], append: &[AnswerToken]) -> Result<usize> {
        let limit = shared.info.context;
        match shared.overflow {
            Overflow::Error => {
                let first = kept.first().or(append.first());
                let lead = first.map_or(0, |first| self.lead(lead(0, first)).len());
                let used = self.prompt.len() + lead + kept.len();
                if used + append.len() > limit {
                    return Err(Error::ContextFull { used, wanted: append.len(), limit });
                }
            }
            Overflow::Restart => {
                if self.most(shared) < LEAST_ROOM && !append.is_empty() {
                    let used = self.prompt.len() + self.frame.longest_lead();
                    return Err(Error::ContextFull { used, wanted: LEAST_ROOM, limit });
                }
            }
        }
        Ok(self.most(shared))
    }

    /// How many tokens of an answer the model sees at once.
    fn most(&self, shared: &Opened) -> usize {
        match shared.overflow {
            Overflow::Error => usize::MAX,
            Overflow::Restart => shared.info.context.saturating_sub(self.prompt.len() + self.frame.longest_lead()),
        }
    }

    fn lead(&self, lead: Lead) -> &[u32] {
        match (lead, &self.frame.thinking) {
            (Lead::Thinking, Some(thinking)) => &thinking.open,
            (Lead::Bare, Some(thinking)) => &thinking.bare,
            _ => &self.frame.plain,
        }
    }
}

fn lead(from: usize, first: &AnswerToken) -> Lead {
    match first.channel {
        Channel::Answer => Lead::Plain,
        Channel::Thinking if from == 0 && !first.judged => Lead::Bare,
        Channel::Thinking => Lead::Thinking,
    }
}

/// The first token that the model sees with the token `at`: where the room is used up, half of it is given free. It
/// depends on the place alone, so that verdicts do not depend on how the answer was pushed.
fn view_start(at: usize, room: usize) -> usize {
    if at < room {
        return 0;
    }
    let stride = room - room / 2;
    ((at - room) / stride + 1) * stride
}

#[cfg(test)]
mod tests {
    use super::view_start;

    #[test]
    fn a_view_is_never_longer_than_the_room() {
        for room in [16, 17, 100] {
            for at in 0..500 {
                let from = view_start(at, room);
                assert!(from <= at && at - from < room, "{at} of {room} from {from}");
                assert!(from == 0 || at - from >= room / 2, "{at} of {room} from {from}");
            }
        }
    }
}
