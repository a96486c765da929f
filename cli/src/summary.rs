//! `moderate --summary`: how many of what.

use std::collections::BTreeMap;

use qwenguard::{Decision, PromptCheck, Risk, TokenVerdict, Violation, policy::Action};
use serde::Serialize;
use serde_json::{Value, json};

/// Counts over conversations, or of one.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Counts {
    /// Judged to their end, or to where they were stopped.
    conversations: usize,
    pub(crate) errors: usize,
    pub(crate) stopped: usize,
    flagged: usize,
    /// The model's verdicts on prompts.
    prompts: Kind,
    /// What the policy found in answers: a violation, or else the gravest flag.
    answers: Kind,
    /// The model's verdicts on tokens.
    tokens: Kind,
    /// Of the conversation that is being counted: whether something was flagged, and the gravest flag.
    flags: bool,
    gravest: Option<(Risk, String)>,
}

/// How many there were of a kind, and of which level and category.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
struct Kind {
    count: usize,
    levels: Levels,
    categories: BTreeMap<String, usize>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Levels {
    safe: usize,
    controversial: usize,
    r#unsafe: usize,
}

impl Levels {
    fn of(&mut self, risk: Risk) -> &mut usize {
        match risk {
            Risk::Safe => &mut self.safe,
            Risk::Controversial => &mut self.controversial,
            Risk::Unsafe => &mut self.r#unsafe,
        }
    }
}

impl Kind {
    fn add(&mut self, risk: Risk, category: Option<&str>) {
        *self.levels.of(risk) += 1;
        if let Some(category) = category {
            // The name is copied only once.
            match self.categories.get_mut(category) {
                Some(count) => *count += 1,
                None => drop(self.categories.insert(category.to_owned(), 1)),
            }
        }
    }

    fn merge(&mut self, other: Kind) {
        self.count += other.count;
        self.levels.safe += other.levels.safe;
        self.levels.controversial += other.levels.controversial;
        self.levels.r#unsafe += other.levels.r#unsafe;
        for (category, count) in other.categories {
            *self.categories.entry(category).or_default() += count;
        }
    }

    fn text(&self, name: &str) -> String {
        let Kind { count, levels, categories } = self;
        let Levels { safe, controversial, r#unsafe } = levels;
        let mut text = format!("{name} {count}: Safe {safe}, Controversial {controversial}, Unsafe {}", r#unsafe);
        for (at, (category, count)) in categories.iter().enumerate() {
            text += if at == 0 { "; " } else { ", " };
            text += &format!("{category} {count}");
        }
        text
    }
}

impl Counts {
    pub(crate) fn prompt(&mut self, check: &PromptCheck) {
        self.prompts.count += 1;
        self.prompts.add(check.verdict.risk(), check.verdict.category());
        self.flags |= check.finding.as_ref().is_some_and(|finding| finding.action == Action::Flag);
    }

    pub(crate) fn token(&mut self, token: &TokenVerdict) {
        self.tokens.count += 1;
        self.tokens.add(token.verdict.risk(), token.verdict.category());
    }

    pub(crate) fn flag(&mut self, flag: &Violation) {
        self.flags = true;
        if self.gravest.as_ref().is_none_or(|(risk, _)| *risk < flag.risk) {
            self.gravest = Some((flag.risk, flag.category.clone()));
        }
    }

    /// The conversation ends; `answered` says whether some of an answer was judged.
    pub(crate) fn end(&mut self, decision: Decision, violation: Option<&Violation>, answered: bool) {
        self.conversations += 1;
        self.stopped += usize::from(decision == Decision::Stop);
        self.flagged += usize::from(self.flags);
        self.answers.count += usize::from(answered);
        let found = violation.map(|found| (found.risk, found.category.clone())).or(self.gravest.take());
        if let Some((risk, category)) = found {
            self.answers.add(risk, Some(&category));
        }
    }

    pub(crate) fn merge(&mut self, other: Counts) {
        self.conversations += other.conversations;
        self.errors += other.errors;
        self.stopped += other.stopped;
        self.flagged += other.flagged;
        self.prompts.merge(other.prompts);
        self.answers.merge(other.answers);
        self.tokens.merge(other.tokens);
    }

    pub(crate) fn event(&self) -> Value {
        json!({
            "event": "summary",
            "conversations": self.conversations,
            "errors": self.errors,
            "stopped": self.stopped,
            "flagged": self.flagged,
            "prompts": self.prompts,
            "answers": self.answers,
            "tokens": self.tokens,
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let Counts { conversations, errors, stopped, flagged, .. } = self;
        format!(
            "{conversations} conversations judged: {stopped} stopped, {flagged} flagged; {errors} errors\n{}\n{}\n{}",
            self.prompts.text("prompts"),
            self.answers.text("answers"),
            self.tokens.text("tokens"),
        )
    }
}
