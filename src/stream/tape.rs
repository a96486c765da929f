//! What the model is fed of a conversation: the prompt, what the template puts before the answer, and the answer, or
//! the last part of an answer that is longer than the context.

use crate::{
    Channel, Error, Overflow, Result, Verdict,
    engine::{Read, Sequence},
    guard::Shared,
    text::{AnswerToken, Frame},
};

/// The least room for an answer with which a restart makes sense, in tokens.
const LEAST_ROOM: usize = 16;

/// The tokens of a stream's sequence.
#[derive(Debug, Clone)]
pub(super) struct Tape {
    pub(super) prompt: Vec<u32>,
    pub(super) frame: Frame,
    /// What follows the prompt in the sequence. None if that is nothing, or after a failure unknown.
    view: Option<View>,
    /// The end of the answer's tokens in the sequence.
    fed: usize,
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

impl Tape {
    pub(super) fn new(prompt: Vec<u32>, frame: Frame) -> Self {
        Tape { prompt, frame, view: None, fed: 0 }
    }

    /// Keeps the first `keep` of an answer's tokens, feeds others after them, and gives the verdicts of those that are
    /// judged. After a failure the sequence holds no more than before.
    pub(super) fn feed(
        &mut self,
        shared: &Shared,
        sequence: &mut Sequence,
        kept: &[AnswerToken],
        append: &[AnswerToken],
    ) -> Result<Vec<Option<Verdict>>> {
        let keep = kept.len();
        let end = keep + append.len();
        let room = self.room(shared, kept, append)?;
        let token = |index: usize| if index < keep { &kept[index] } else { &append[index - keep] };
        self.cut(sequence, keep)?;

        let mut verdicts = Vec::with_capacity(append.len());
        let mut at = keep;
        while at < end {
            let from = view_start(at, room);
            let until = end.min(from + room);
            let view = View { lead: lead(from, token(from)), from };
            let mut start = self.fed.min(at);
            let mut ids = Vec::new();
            if self.view != Some(view) {
                start = from;
                let have = sequence.len().min(self.prompt.len());
                sequence.truncate(have)?;
                ids.extend(&self.prompt[have..]);
                ids.extend(self.lead(view.lead));
                self.view = None;
            }
            let first_read = ids.len() + at - start;
            ids.extend((start..until).map(|index| token(index).id));
            let logits = sequence.append(ids, Read::Response { from: first_read })?;
            self.view = Some(view);
            self.fed = until;
            verdicts.extend((at..until).enumerate().map(|(row, index)| {
                let verdict =
                    || Verdict::from_logits(&shared.response_labels, logits.risk.row(row), logits.category.row(row));
                token(index).judged.then(verdict)
            }));
            at = until;
        }
        Ok(verdicts)
    }

    /// How many ids of a new conversation the sequence holds already.
    pub(super) fn common_prefix(&self, sequence: &Sequence, tokens: &[AnswerToken], ids: &[u32]) -> usize {
        let view = self.view.iter().flat_map(|view| {
            let answer = tokens[view.from..self.fed.min(tokens.len())].iter().map(|token| token.id);
            self.lead(view.lead).iter().copied().chain(answer)
        });
        let held = self.prompt.iter().copied().chain(view).take(sequence.len());
        held.zip(ids).take_while(|(held, id)| held == *id).count()
    }

    /// After a failure that cut the sequence within what this tape holds.
    pub(super) fn forget(&mut self) {
        self.view = None;
    }

    /// Takes what follows the answer's first `keep` tokens out of the sequence.
    fn cut(&mut self, sequence: &mut Sequence, keep: usize) -> Result<()> {
        match self.view {
            Some(view) if view.from <= keep && keep < self.fed => {
                self.fed = keep;
                sequence.truncate(self.prompt.len() + self.lead(view.lead).len() + keep - view.from)
            }
            _ => Ok(()),
        }
    }

    /// How many tokens of an answer the model sees at once, if these fit.
    fn room(&self, shared: &Shared, kept: &[AnswerToken], append: &[AnswerToken]) -> Result<usize> {
        let limit = shared.info.context;
        let room = match shared.overflow {
            Overflow::Error => {
                let first = kept.first().or(append.first());
                let lead = first.map_or(0, |first| self.lead(lead(0, first)).len());
                let used = self.prompt.len() + lead + kept.len();
                if used + append.len() > limit {
                    return Err(Error::ContextFull { used, wanted: append.len(), limit });
                }
                usize::MAX
            }
            Overflow::Restart => {
                let used = self.prompt.len() + self.frame.longest_lead();
                let room = limit.saturating_sub(used);
                if room < LEAST_ROOM && !append.is_empty() {
                    return Err(Error::ContextFull { used, wanted: LEAST_ROOM, limit });
                }
                room
            }
        };
        Ok(room)
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
