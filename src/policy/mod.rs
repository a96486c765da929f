//! From verdicts to decisions. Pure: nothing here runs a model or knows a text.

mod debounce;
mod rules;
mod second_opinion;
#[cfg(test)]
mod tests;
mod whole;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, error::settings_from_toml, verdict::Labels};

pub(crate) use debounce::{Watch, What};
pub use rules::{Action, CategoryRule, Custom, Debounce, LevelRule, Mode, PromptRules, Rules};
pub(crate) use rules::{Finding, Look};
pub use second_opinion::{OnUncertain, OnViolation, SecondOpinion, Uncertain};
pub use whole::AnnotationFinding;
pub(crate) use whole::Whole;

/// What the host should do with the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Go on.
    Continue,
    /// Stop writing and show nothing past the horizon.
    Stop,
}

/// Data that turns verdicts into decisions, separately for prompts, answers and the thinking before them.
///
/// The default is strict: Controversial counts as unsafe, and an answer stops at the second of two neighbouring tokens
/// that count. In TOML:
///
/// ```
/// let policy = qwenguard::Policy::from_toml(
///     r#"
///     [prompt]
///     mode = "loose"                                  # Controversial prompts pass
///     roles = ["user", "tool"]                        # the last message of the user or a tool is judged
///
///     [answer]
///     mode = { custom = { unsafe = { at = 0.4 }, controversial = { at = 0.8, action = "flag" } } }
///     debounce = { window = { hits = 3, of = 5 } }
///
///     [answer.categories."Copyright Violation"]
///     action = "ignore"
///
///     [answer.categories.PII]
///     at = 0.3                                        # PII from 30 % on, even if another category is likelier
///
///     [answer.second_opinion]                         # of a guard that has one behind it
///     violation = "lift"                              # what it finds nothing in is no violation
///     uncertain = { at = 0.3, word = "confirm" }      # from 30 % of Controversial or Unsafe on, it decides
///     interval_tokens = 32                            # the least distance between two opinions, in tokens
///
///     [thinking]
///     mode = { custom = { unsafe = { action = "flag" }, controversial = { action = "ignore" } } }
///     "#,
/// )?;
/// # Ok::<(), qwenguard::Error>(())
/// ```
///
/// The same in Rust, from [`Policy::strict`] or [`Policy::loose`]:
///
/// ```
/// use qwenguard::policy::{Action, CategoryRule, Debounce, Policy};
///
/// let mut policy = Policy::loose();
/// policy.answer.debounce = Debounce::Window { hits: 3, of: 5 };
/// policy.answer.categories.insert("PII".into(), CategoryRule { action: Some(Action::Flag), ..Default::default() });
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Rules for what users say, and tool results.
    pub prompt: PromptRules,
    /// Rules for what an answer says.
    pub answer: Rules,
    /// Rules for the thinking before it. The default is as strict as for the answer, so that an answer which never
    /// leaves its thinking is stopped too. The model is less exact there (Qwen3Guard's report, arXiv:2510.14276:
    /// it hits the first unsafe sentence in 22 % of thinking answers, in 86 % of others): a host that does not show
    /// thinking may rather have it flagged.
    pub thinking: Rules,
    /// Decide and report, but never stop: the decision is always [`Decision::Continue`], and what is final may be shown.
    pub shadow: bool,
}

impl Policy {
    /// Controversial counts as unsafe. The default.
    pub fn strict() -> Self {
        Policy::default()
    }

    /// Controversial counts as safe.
    pub fn loose() -> Self {
        let rules = Rules { mode: Mode::Loose, ..Rules::default() };
        Policy {
            prompt: PromptRules { mode: Mode::Loose, ..PromptRules::default() },
            answer: rules.clone(),
            thinking: rules,
            shadow: false,
        }
    }

    /// Reads a TOML document of at most 1 MiB. Unknown settings are errors.
    ///
    /// # Errors
    /// [`Error::Config`] with the setting and what is wrong with it.
    pub fn from_toml(text: &str) -> Result<Self> {
        let policy: Policy = settings_from_toml("policy document", text)?;
        policy.validate()?;
        Ok(policy)
    }

    /// The numbers must be in range.
    pub(crate) fn validate(&self) -> Result<()> {
        self.prompt.validate()?;
        for (name, rules) in [("policy.answer", &self.answer), ("policy.thinking", &self.thinking)] {
            rules::validate(name, &rules.mode, &rules.categories)?;
            rules.debounce.validate(name)?;
            let at = rules.second_opinion.uncertain.map(|uncertain| uncertain.at);
            rules::check_probability(&format!("{name}.second_opinion.uncertain.at"), at)?;
            if rules.second_opinion.interval_tokens == 0 {
                return Err(Error::config(format!("{name}.second_opinion.interval_tokens"), "must be at least 1"));
            }
        }
        Ok(())
    }

    /// The categories must be those of the model.
    pub(crate) fn check_categories(&self, query: &Labels, response: &Labels) -> Result<()> {
        self.check_query_categories(query)?;
        self.check_response_categories(response)
    }

    /// Those of the rules for prompts.
    pub(crate) fn check_query_categories(&self, query: &Labels) -> Result<()> {
        rules::check_categories("policy.prompt", &self.prompt.categories, query)
    }

    /// Those of the rules for answers and their thinking.
    pub(crate) fn check_response_categories(&self, response: &Labels) -> Result<()> {
        rules::check_categories("policy.answer", &self.answer.categories, response)?;
        rules::check_categories("policy.thinking", &self.thinking.categories, response)
    }

    /// The setting by which a second guard is asked, if one is.
    pub(crate) fn asks(&self) -> Option<&'static str> {
        let settings =
            [("policy.answer.second_opinion", &self.answer), ("policy.thinking.second_opinion", &self.thinking)];
        settings.into_iter().find(|(_, rules)| rules.second_opinion.asks()).map(|(name, _)| name)
    }

    /// What a finding means to the host.
    pub(crate) fn decide(&self, action: Option<Action>) -> Decision {
        if action == Some(Action::Stop) && !self.shadow { Decision::Stop } else { Decision::Continue }
    }
}
