//! What one verdict means: whether it counts, at which level, for which category, and what is to be done about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::second_opinion::SecondOpinion;
use crate::{
    Error, Result,
    error::one_line,
    verdict::{Labels, Risk, Verdict},
};

/// The most tokens that a debounce looks back at.
pub(super) const MAX_WINDOW: usize = 64;

/// What is to be done where a rule applies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing, as if it were safe.
    Ignore,
    /// Report it and go on.
    Flag,
    /// Stop.
    #[default]
    Stop,
}

/// Which verdicts count. Strict and loose are named as in the paper (arXiv:2510.14276); the official eval script
/// prints them the other way round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Controversial counts as unsafe: where either is the most probable level, stop.
    #[default]
    Strict,
    /// Controversial counts as safe.
    Loose,
    /// Thresholds and actions of one's own.
    Custom(Custom),
}

/// A rule for each level. The rule for Unsafe is asked first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Custom {
    /// When a verdict counts as Unsafe. `unsafe` in TOML.
    #[serde(rename = "unsafe")]
    pub on_unsafe: LevelRule,
    /// When a verdict counts as Controversial. `controversial` in TOML.
    #[serde(rename = "controversial")]
    pub on_controversial: LevelRule,
}

/// When a verdict counts as of a level, and what then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LevelRule {
    /// From which probability on, over 0 to 1, of this level or a worse one: for Controversial that is
    /// p(Controversial) + p(Unsafe). Default: where it is the most probable level.
    pub at: Option<f32>,
    /// Default [`Action::Stop`].
    pub action: Action,
}

/// What is different for one category. What is not given is as for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CategoryRule {
    /// What to do where a verdict of this category counts.
    pub action: Option<Action>,
    /// Which verdicts of this category count.
    pub mode: Option<Mode>,
    /// A verdict is of its most probable category; and of this one also from this probability on, over 0 to 1.
    pub at: Option<f32>,
}

/// Rules for prompts, which have one verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptRules {
    /// Whose messages are judged: of those of these roles the last. `["user"]`, the default, `["tool"]` or both. The
    /// model is trained on what users say; tool results can be judged because the template writes them as turns of the
    /// user. Results that it puts into one turn are judged together.
    pub roles: Vec<String>,
    /// Default [`Mode::Strict`].
    pub mode: Mode,
    /// By the model's own name of the category. Default: none.
    pub categories: BTreeMap<String, CategoryRule>,
}

impl Default for PromptRules {
    fn default() -> Self {
        PromptRules { roles: vec!["user".into()], mode: Mode::default(), categories: BTreeMap::new() }
    }
}

/// Rules for text that is judged token by token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Default [`Mode::Strict`].
    pub mode: Mode,
    /// By the model's own name of the category. Default: none.
    pub categories: BTreeMap<String, CategoryRule>,
    /// How many tokens it takes. Default two consecutive ones.
    pub debounce: Debounce,
    /// When a second guard is asked, and what its word counts. Default: never.
    pub second_opinion: SecondOpinion,
}

/// How many tokens that count make a violation. It is confirmed at the token that completes them and starts at the
/// first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Debounce {
    /// So many in a row, 1 to 64, whatever their levels. 2 is the rule of the paper's section 4.4 and the default.
    Consecutive(usize),
    /// The rule of the official eval script (`consecutive_unsafe` in eval_stream.py): two in a row of the same level. A
    /// Controversial and an Unsafe neighbour never fire; a violation of two Controversial tokens gives way to a
    /// later one of two Unsafe tokens. As there, [`Stream::finish`](crate::Stream::finish) also judges the tokens that
    /// close the answer's turn.
    Eval,
    /// `hits` of any `of` tokens in a row, 1 to 64.
    Window {
        /// Tokens that count.
        hits: usize,
        /// Among so many.
        of: usize,
    },
}

impl Default for Debounce {
    fn default() -> Self {
        Debounce::Consecutive(2)
    }
}

impl Debounce {
    /// How many hits among how many tokens.
    pub(super) fn window(self) -> (usize, usize) {
        match self {
            Debounce::Consecutive(hits) => (hits, hits),
            Debounce::Eval => (2, 2),
            Debounce::Window { hits, of } => (hits, of),
        }
    }

    pub(super) fn validate(self, rules: &str) -> Result<()> {
        let (hits, of) = self.window();
        let reason = if of == 0 || of > MAX_WINDOW {
            format!("{of} is not 1 to {MAX_WINDOW} tokens")
        } else if hits == 0 {
            format!("0 of {of} tokens: at least 1 has to count")
        } else if hits > of {
            format!("{hits} of {of} tokens: no more can count than there are")
        } else {
            return Ok(());
        };
        Err(Error::config(format!("{rules}.debounce"), reason))
    }
}

impl std::fmt::Display for Debounce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Debounce::Consecutive(count) => write!(f, "{count} consecutive"),
            Debounce::Eval => write!(f, "eval"),
            Debounce::Window { hits, of } => write!(f, "{hits} of {of}"),
        }
    }
}

/// A verdict that counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Finding {
    pub(crate) action: Action,
    pub(crate) risk: Risk,
    /// Index of the category.
    pub(crate) category: u16,
    /// Probability of the level.
    pub(crate) probability: f32,
    /// Whether a rule of the category's own decided.
    own_rule: bool,
}

/// What rules see in a verdict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Look {
    /// Nothing.
    Clear,
    /// It counts.
    Counts(Finding),
    /// It does not, but a second opinion is worth asking. If that cannot be had, it counts as this.
    Uncertain(Finding),
}

impl Look {
    /// What it counts as, or may count as.
    pub(crate) fn finding(&self) -> Option<&Finding> {
        match self {
            Look::Clear => None,
            Look::Counts(finding) | Look::Uncertain(finding) => Some(finding),
        }
    }
}

/// The part of rules that looks at one verdict.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(super) mode: &'a Mode,
    pub(super) categories: &'a BTreeMap<String, CategoryRule>,
}

/// The most probable level, and the probability of each.
pub(super) struct Levels<'a> {
    pub(super) risk: Risk,
    pub(super) probability: &'a dyn Fn(Risk) -> f32,
}

impl PromptRules {
    pub(super) fn validate(&self) -> Result<()> {
        validate("policy.prompt", &self.mode, &self.categories)?;
        let reason = match self.roles.iter().find(|role| !["user", "tool"].contains(&role.as_str())) {
            Some(role) => format!("{role:?} cannot be judged, only \"user\" and \"tool\" can"),
            None if self.roles.is_empty() => "it must name \"user\", \"tool\" or both".into(),
            None => return Ok(()),
        };
        Err(Error::config("policy.prompt.roles", reason))
    }

    pub(crate) fn judge(&self) -> Judge<'_> {
        Judge { mode: &self.mode, categories: &self.categories }
    }
}

impl Rules {
    pub(crate) fn judge(&self) -> Judge<'_> {
        Judge { mode: &self.mode, categories: &self.categories }
    }

    /// What they see in a verdict.
    pub(crate) fn look(&self, verdict: &Verdict) -> Look {
        if let Some(finding) = self.judge().find(verdict) {
            return Look::Counts(finding);
        }
        let top = verdict.top_category();
        let probability = verdict.probability(Risk::Controversial) + verdict.probability(Risk::Unsafe);
        let name = || verdict.category_probabilities().nth(top).map(|(name, _)| name);
        let ignored = || name().and_then(|name| self.categories.get(name)).is_some_and(CategoryRule::ignores);
        match self.second_opinion.uncertain {
            Some(uncertain) if probability >= uncertain.at && !ignored() => Look::Uncertain(Finding {
                action: Action::Stop,
                risk: Risk::Controversial,
                category: top as u16,
                probability,
                own_rule: false,
            }),
            _ => Look::Clear,
        }
    }
}

impl CategoryRule {
    fn ignores(&self) -> bool {
        self.action == Some(Action::Ignore)
    }
}

impl Judge<'_> {
    /// What the verdict counts as: of all categories that it is of, the one with the gravest action, then the gravest
    /// level, then the highest probability. None if it does not count.
    pub(crate) fn find(&self, verdict: &Verdict) -> Option<Finding> {
        let top = verdict.top_category();
        let categories = verdict.category_probabilities().enumerate();
        let found = categories.filter_map(|(index, (name, probability))| {
            let rule = self.categories.get(name);
            let of_it = index == top || rule.and_then(|rule| rule.at).is_some_and(|at| probability >= at);
            let finding = of_it.then(|| self.find_in(verdict, index, rule)).flatten()?;
            Some((finding, probability))
        });
        let grave = |(finding, probability): &(Finding, f32)| (finding.action, finding.risk, *probability);
        let best = found.reduce(|best, next| if grave(&next) > grave(&best) { next } else { best });
        best.map(|(finding, _)| finding)
    }

    fn find_in(&self, verdict: &Verdict, category: usize, rule: Option<&CategoryRule>) -> Option<Finding> {
        let mode = rule.and_then(|rule| rule.mode.as_ref()).unwrap_or(self.mode);
        let levels = Levels { risk: verdict.risk(), probability: &|risk| verdict.probability(risk) };
        let (risk, action) = mode.level(&levels)?;
        let action = rule.and_then(|rule| rule.action).unwrap_or(action);
        let probability = verdict.probability(risk);
        let finding = Finding { action, risk, category: category as u16, probability, own_rule: rule.is_some() };
        (action > Action::Ignore).then_some(finding)
    }

    /// The rule behind a finding, by the names of its settings: `answer.strict`, `answer.categories.PII.custom`.
    pub(crate) fn name(&self, channel: &str, finding: &Finding, labels: &Labels) -> String {
        let category = &labels.categories()[finding.category as usize];
        let rule = self.categories.get(category).filter(|_| finding.own_rule);
        let mode = rule.and_then(|rule| rule.mode.as_ref()).unwrap_or(self.mode).name();
        match rule {
            Some(_) => format!("{channel}.categories.{category}.{mode}"),
            None => format!("{channel}.{mode}"),
        }
    }
}

impl Mode {
    /// The level that a verdict counts as, and what is then to be done.
    pub(super) fn level(&self, levels: &Levels) -> Option<(Risk, Action)> {
        let ignore = LevelRule { at: None, action: Action::Ignore };
        let Custom { on_unsafe, on_controversial } = match self {
            Mode::Strict => Custom::default(),
            Mode::Loose => Custom { on_controversial: ignore, ..Custom::default() },
            Mode::Custom(custom) => *custom,
        };
        let probability = |level| {
            let worse = [Risk::Controversial, Risk::Unsafe].into_iter().filter(|risk| *risk >= level);
            worse.map(levels.probability).sum::<f32>()
        };
        let counts = |rule: LevelRule, level| match rule.at {
            Some(at) => probability(level) >= at,
            None => levels.risk >= level,
        };
        if counts(on_unsafe, Risk::Unsafe) {
            Some((Risk::Unsafe, on_unsafe.action))
        } else if counts(on_controversial, Risk::Controversial) {
            Some((Risk::Controversial, on_controversial.action))
        } else {
            None
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Mode::Strict => "strict",
            Mode::Loose => "loose",
            Mode::Custom(_) => "custom",
        }
    }

    fn validate(&self, field: &str) -> Result<()> {
        if let Mode::Custom(Custom { on_unsafe, on_controversial }) = self {
            check_probability(&format!("{field}.custom.unsafe.at"), on_unsafe.at)?;
            check_probability(&format!("{field}.custom.controversial.at"), on_controversial.at)?;
        }
        Ok(())
    }
}

pub(super) fn validate(rules: &str, mode: &Mode, categories: &BTreeMap<String, CategoryRule>) -> Result<()> {
    mode.validate(&format!("{rules}.mode"))?;
    for (name, rule) in categories {
        let field = one_line(&format!("{rules}.categories.{name}"));
        check_probability(&format!("{field}.at"), rule.at)?;
        if let Some(mode) = &rule.mode {
            mode.validate(&format!("{field}.mode"))?;
        }
    }
    Ok(())
}

pub(super) fn check_probability(field: &str, at: Option<f32>) -> Result<()> {
    match at {
        // Zero would make every token count.
        Some(at) if !(at > 0.0 && at <= 1.0) => {
            Err(Error::config(field, format!("{at} is not a probability over 0 to 1")))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_categories(
    rules: &str,
    categories: &BTreeMap<String, CategoryRule>,
    labels: &Labels,
) -> Result<()> {
    match categories.keys().find(|name| !labels.categories().contains(name)) {
        Some(name) => Err(Error::config(
            one_line(&format!("{rules}.categories.{name}")),
            format!("the model has no such category, it has {}", labels.categories().join(", ")),
        )),
        None => Ok(()),
    }
}
