//! From the tokens that count to a violation: watching one text, token by token.

use super::rules::{Action, Debounce, Look, MAX_WINDOW};
use crate::verdict::Risk;

const _: () = assert!(MAX_WINDOW == u64::BITS as usize, "a track has a bit for each token of a window");

/// Which of the last tokens count, the newest in the lowest bit.
#[derive(Debug, Clone, Copy, Default)]
struct Track(u64);

impl Track {
    fn push(&mut self, hit: bool) {
        self.0 = self.0 << 1 | u64::from(hit);
    }

    /// If there are `hits` among the last `of` tokens: how many tokens it is from the first of them to the newest one.
    fn span(self, (hits, of): (usize, usize)) -> Option<usize> {
        let window = self.last(of);
        (window.count_ones() as usize >= hits).then(|| length(window))
    }

    /// From the first token that coming ones could still complete to the newest one.
    fn pending(self, (hits, of): (usize, usize)) -> usize {
        // With `seen` of the window's tokens known, the others may all count.
        let possible = |seen: &usize| self.last(*seen).count_ones() as usize + of - seen >= hits;
        (1..of).filter(possible).map(|seen| length(self.last(seen))).max().unwrap_or(0)
    }

    fn last(self, count: usize) -> u64 {
        self.0 & (u64::MAX >> (MAX_WINDOW - count))
    }
}

/// How far back the first hit is, itself included.
fn length(window: u64) -> usize {
    MAX_WINDOW - window.leading_zeros() as usize
}

/// The tokens of one action: all of them, and by level for the rule that does not mix levels.
#[derive(Debug, Clone, Copy, Default)]
struct Tracks {
    all: Track,
    by_level: [Track; 2],
}

impl Tracks {
    fn push(&mut self, risk: Option<Risk>) {
        self.all.push(risk.is_some());
        for (track, level) in self.by_level.iter_mut().zip([Risk::Unsafe, Risk::Controversial]) {
            track.push(risk == Some(level));
        }
    }

    fn of(&self, debounce: Debounce) -> &[Track] {
        match debounce {
            Debounce::Eval => &self.by_level,
            Debounce::Consecutive(_) | Debounce::Window { .. } => std::slice::from_ref(&self.all),
        }
    }

    fn span(&self, debounce: Debounce) -> Option<usize> {
        self.of(debounce).iter().find_map(|track| track.span(debounce.window()))
    }

    fn pending(&self, debounce: Debounce) -> usize {
        self.of(debounce).iter().map(|track| track.pending(debounce.window())).max().unwrap_or(0)
    }
}

/// Tokens in doubt, for a second opinion.
#[derive(Debug, Clone, Copy, Default)]
struct Doubt {
    /// Those that are uncertain or count.
    all: Track,
    /// Those that are uncertain.
    uncertain: Track,
}

impl Doubt {
    fn push(&mut self, look: &Look) {
        self.all.push(!matches!(look, Look::Clear));
        self.uncertain.push(matches!(look, Look::Uncertain(_)));
    }

    /// As [`Track::span`], if one of the tokens is uncertain.
    fn span(&self, debounce: Debounce) -> Option<usize> {
        self.all.span(debounce.window()).filter(|tokens| self.uncertain.last(*tokens).count_ones() > 0)
    }
}

/// Watches the tokens of one text, in order.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watch {
    stop: Tracks,
    /// Tokens that are flagged or worse.
    flag: Tracks,
    doubt: Doubt,
    /// Whether the newest token belongs to a violation of each kind, or to tokens in doubt.
    stopping: bool,
    flagging: bool,
    doubting: bool,
}

/// What the newest token completes, with its tokens up to the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fired {
    pub(crate) what: What,
    pub(crate) tokens: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A violation, with its gravest action.
    Violation(Action),
    /// Tokens that are uncertain.
    Doubt,
}

impl Watch {
    /// Takes the next token. What goes on fires once.
    pub(crate) fn next(&mut self, debounce: Debounce, look: &Look) -> Option<Fired> {
        let finding = if let Look::Counts(finding) = look { Some(finding) } else { None };
        let risk = |action| finding.filter(|finding| finding.action >= action).map(|finding| finding.risk);
        self.stop.push(risk(Action::Stop));
        self.flag.push(risk(Action::Flag));
        self.doubt.push(look);
        let (stop, flag, doubt) = (self.stop.span(debounce), self.flag.span(debounce), self.doubt.span(debounce));
        let stopped = std::mem::replace(&mut self.stopping, stop.is_some());
        let flagged = std::mem::replace(&mut self.flagging, flag.is_some());
        let doubted = std::mem::replace(&mut self.doubting, doubt.is_some());
        let fired =
            |what, tokens: Option<usize>, before: bool| tokens.filter(|_| !before).map(|tokens| Fired { what, tokens });
        let stop = fired(What::Violation(Action::Stop), stop, stopped);
        let flag = fired(What::Violation(Action::Flag), flag, flagged);
        let violation = stop.or(flag);
        if violation.is_some() {
            // What follows is in doubt on its own account.
            self.end_doubt();
            return violation;
        }
        fired(What::Doubt, doubt, doubted)
    }

    /// None of the tokens so far counts any more.
    pub(crate) fn clear(&mut self) {
        *self = Watch::default();
    }

    /// None of the tokens so far is in doubt any more.
    pub(crate) fn end_doubt(&mut self) {
        (self.doubt, self.doubting) = (Doubt::default(), false);
    }

    /// How many of the newest tokens may still turn out to be part of a violation that stops, or to be in doubt, if that
    /// counts as well.
    pub(crate) fn pending(&self, debounce: Debounce, doubt: bool) -> usize {
        let doubt = if doubt { self.doubt.all.pending(debounce.window()) } else { 0 };
        self.stop.pending(debounce).max(doubt)
    }
}
