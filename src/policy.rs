//! From verdicts to a decision. Pure: nothing here runs a model or knows a text.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Risk, Verdict};

/// What the host should do with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Go on.
    Continue,
    /// Stop writing and show nothing past the violation's start.
    Stop,
}

/// Whether Controversial counts as harmful. The names are those of the paper (arXiv:2510.14276); the official eval
/// script prints them the other way round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Controversial counts as unsafe.
    #[default]
    Strict,
    /// Controversial counts as safe.
    Loose,
}

/// Data that turns verdicts into a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Default [`Mode::Strict`].
    pub mode: Mode,
    /// How many consecutive flagged tokens of an answer make a violation. Default 2, the rule of the paper's section
    /// 4.4: it fires at the second of two neighbours that are both at or above the level, also where the levels differ.
    pub debounce: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { mode: Mode::Strict, debounce: 2 }
    }
}

impl Policy {
    /// Whether a verdict counts as harmful.
    pub fn flags(&self, verdict: &Verdict) -> bool {
        self.flags_risk(verdict.risk())
    }

    fn flags_risk(&self, risk: Risk) -> bool {
        match self.mode {
            Mode::Strict => risk >= Risk::Controversial,
            Mode::Loose => risk >= Risk::Unsafe,
        }
    }

    /// The decision for a prompt: one verdict, no debounce.
    pub fn decide_prompt(&self, verdict: &Verdict) -> Decision {
        if self.flags(verdict) { Decision::Stop } else { Decision::Continue }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.debounce == 0 {
            return Err(Error::Config { field: "policy.debounce".into(), reason: "must be at least 1".into() });
        }
        Ok(())
    }
}

/// Watches the verdicts of one answer, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Debounce {
    run: usize,
    fired: bool,
}

impl Debounce {
    /// Takes the next token. Returns how many tokens the run of flagged tokens has, at the one that completes it;
    /// an answer turns once.
    pub(crate) fn next(&mut self, policy: &Policy, risk: Risk) -> Option<usize> {
        self.run = if policy.flags_risk(risk) { self.run + 1 } else { 0 };
        let fires = !self.fired && self.run >= policy.debounce;
        self.fired |= fires;
        fires.then_some(self.run)
    }

    /// Flagged tokens up to the last one, without one between them that is not.
    pub(crate) fn run(&self) -> usize {
        self.run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels as letters (s, c, u) and the index of the token that fires.
    fn fires_at(policy: &Policy, levels: &str) -> Option<usize> {
        let mut debounce = Debounce::default();
        let mut fired = levels.chars().enumerate().filter_map(|(index, level)| {
            let risk = match level {
                's' => Risk::Safe,
                'c' => Risk::Controversial,
                'u' => Risk::Unsafe,
                other => panic!("level {other}"),
            };
            debounce.next(policy, risk).map(|_| index)
        });
        let first = fired.next();
        assert_eq!(fired.next(), None, "an answer turns once");
        first
    }

    #[test]
    fn strict_and_loose_with_the_papers_debounce() {
        //     levels      strict    loose
        let table = [
            ("ssssss", None, None),
            ("sususu", None, None),
            ("ssuuss", Some(3), Some(3)),
            ("sscuss", Some(3), None), // a mixed pair fires in the paper, never in the eval script
            ("ssucss", Some(3), None),
            ("sccsuu", Some(2), Some(5)),
            ("uuuuuu", Some(1), Some(1)),
            ("", None, None),
        ];
        let strict = Policy::default();
        let loose = Policy { mode: Mode::Loose, ..Policy::default() };
        for (levels, in_strict, in_loose) in table {
            assert_eq!(fires_at(&strict, levels), in_strict, "{levels} strict");
            assert_eq!(fires_at(&loose, levels), in_loose, "{levels} loose");
        }
    }

    #[test]
    fn other_debounces() {
        assert_eq!(fires_at(&Policy { debounce: 1, ..Policy::default() }, "ssusuu"), Some(2));
        assert_eq!(fires_at(&Policy { debounce: 3, ..Policy::default() }, "suusuuu"), Some(6));
    }
}
