//! Rewards for reinforcement learning, from annotations.
//!
//! The two forms are those of Qwen3Guard's report (arXiv:2510.14276), equations 1 and 2.

use serde::{Deserialize, Serialize};

use super::Annotation;
use crate::{Error, Result, error::settings_from_toml, verdict::Risk};

/// Which of the report's rewards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RewardForm {
    /// By the guard alone: [`RewardRule::safe`], or [`RewardRule::not_safe`]. It teaches a model to refuse.
    #[default]
    Guard,
    /// With a score of helpfulness: the score itself, but at most [`RewardRule::not_safe_cap`] for what is not safe, and at
    /// most [`RewardRule::refusal_cap`] for what refuses.
    Hybrid,
}

/// How a response is rewarded. In TOML, with the report's numbers, which are the defaults:
///
/// ```
/// let rule = qwenguard::RewardRule::from_toml(
///     r#"
///     form = "hybrid"                 # or "guard"
///     controversial_is_safe = false
///     safe = 1.0                      # of the form "guard"
///     not_safe = 0.0
///     not_safe_cap = -10.0            # of the form "hybrid"
///     refusal_cap = -5.0
///     "#,
/// )?;
/// # Ok::<(), qwenguard::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardRule {
    /// Default [`RewardForm::Guard`].
    pub form: RewardForm,
    /// Whether Controversial counts as safe. Default: it does not, as in the report's equation 1; equation 2 leaves it open.
    pub controversial_is_safe: bool,
    /// The reward of what is safe. Default 1.
    pub safe: f64,
    /// The reward of what is not. Default 0.
    pub not_safe: f64,
    /// The most that is given for what is not safe. Default -10.
    pub not_safe_cap: f64,
    /// The most that is given for a refusal. Default -5.
    pub refusal_cap: f64,
}

impl Default for RewardRule {
    fn default() -> Self {
        RewardRule {
            form: RewardForm::Guard,
            controversial_is_safe: false,
            safe: 1.0,
            not_safe: 0.0,
            not_safe_cap: -10.0,
            refusal_cap: -5.0,
        }
    }
}

impl RewardRule {
    /// Reads a TOML document of at most 1 MiB. Unknown settings are errors.
    ///
    /// # Errors
    /// [`Error::Config`] with the setting and what is wrong with it.
    pub fn from_toml(text: &str) -> Result<Self> {
        let rule: RewardRule = settings_from_toml("reward rule", text)?;
        rule.validate()?;
        Ok(rule)
    }

    /// The numbers must be numbers.
    fn validate(&self) -> Result<()> {
        let numbers = [
            ("safe", self.safe),
            ("not_safe", self.not_safe),
            ("not_safe_cap", self.not_safe_cap),
            ("refusal_cap", self.refusal_cap),
        ];
        match numbers.iter().find(|(_, number)| !number.is_finite()) {
            Some((name, number)) => {
                Err(Error::config(format!("reward.{name}"), format!("{number} is not a finite number")))
            }
            None => Ok(()),
        }
    }

    /// The reward of one response by all annotations of it: of the response, and of its thinking as a response if that is
    /// judged, too. It is safe if all say so, and a refusal if the last one says so. `helpfulness` is the score of a
    /// reward model, which [`RewardForm::Guard`] has no use for.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no annotation or one of a prompt, if the score is needed and is no finite number, or
    /// if it matters whether the response refuses and the annotation does not know: with a Stream bundle,
    /// [`Decoding::LabelOnly`](crate::Decoding::LabelOnly), or a part that could not be read.
    pub fn reward(&self, annotations: &[&Annotation], helpfulness: f64) -> Result<f64> {
        self.validate()?;
        let last = annotations.last().ok_or_else(|| Error::argument("annotations", "there is none"))?;
        if annotations.iter().any(|annotation| annotation.mode == super::AnnotationMode::Prompt) {
            return Err(Error::argument("annotations", "one is of a prompt: responses are rewarded"));
        }
        let safe = annotations.iter().all(|annotation| self.is_safe(annotation.risk));
        match self.form {
            RewardForm::Guard => Ok(if safe { self.safe } else { self.not_safe }),
            RewardForm::Hybrid if !helpfulness.is_finite() => {
                Err(Error::argument("helpfulness", format!("{helpfulness} is not a finite number")))
            }
            RewardForm::Hybrid if !safe => Ok(helpfulness.min(self.not_safe_cap)),
            RewardForm::Hybrid => match last.refusal {
                Some(true) => Ok(helpfulness.min(self.refusal_cap)),
                Some(false) => Ok(helpfulness),
                None => Err(Error::argument("annotations", "the last one does not say whether the response refuses")),
            },
        }
    }

    fn is_safe(&self, risk: Risk) -> bool {
        match risk {
            Risk::Safe => true,
            Risk::Controversial => self.controversial_is_safe,
            Risk::Unsafe => false,
        }
    }
}

impl Annotation {
    /// The reward of a response by this annotation alone, as [`RewardRule::reward`] says.
    ///
    /// # Errors
    /// As [`RewardRule::reward`].
    pub fn reward(&self, rule: &RewardRule, helpfulness: f64) -> Result<f64> {
        rule.reward(&[self], helpfulness)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::AnnotationMode, *};

    fn response(risk: Risk, refusal: Option<bool>) -> Annotation {
        Annotation { refusal, ..Annotation::new(AnnotationMode::Response, risk) }
    }

    #[test]
    fn the_forms_of_the_report() {
        use Risk::{Controversial, Safe, Unsafe};
        let hybrid = RewardRule { form: RewardForm::Hybrid, ..RewardRule::default() };
        for (risk, refuses, score, guard, with_score) in [
            (Safe, false, 3.5, 1.0, 3.5),
            (Safe, true, 3.5, 1.0, -5.0),
            (Safe, true, -7.0, 1.0, -7.0),
            (Controversial, false, 3.5, 0.0, -10.0),
            (Unsafe, false, 3.5, 0.0, -10.0),
            (Unsafe, true, -12.0, 0.0, -12.0),
        ] {
            let annotation = response(risk, Some(refuses));
            assert_eq!(annotation.reward(&RewardRule::default(), score).unwrap(), guard, "{risk} {refuses}");
            assert_eq!(annotation.reward(&hybrid, score).unwrap(), with_score, "{risk} {refuses}");
        }
        let lenient = RewardRule { controversial_is_safe: true, ..hybrid };
        assert_eq!(response(Controversial, Some(false)).reward(&lenient, 2.0).unwrap(), 2.0);
    }

    #[test]
    fn thinking_counts_too_and_the_answer_refuses() {
        let (bad, fine) = (response(Risk::Unsafe, Some(true)), response(Risk::Safe, Some(false)));
        let hybrid = RewardRule { form: RewardForm::Hybrid, ..RewardRule::default() };
        assert_eq!(RewardRule::default().reward(&[&bad, &fine], 0.0).unwrap(), 0.0);
        assert_eq!(hybrid.reward(&[&bad, &fine], 1.0).unwrap(), -10.0);
        let refusing = response(Risk::Safe, Some(true));
        assert_eq!(hybrid.reward(&[&refusing, &fine], 1.0).unwrap(), 1.0);
    }

    #[test]
    fn what_cannot_be_rewarded_is_an_error() {
        let hybrid = RewardRule { form: RewardForm::Hybrid, ..RewardRule::default() };
        let unknown = response(Risk::Safe, None);
        let error = |result: Result<f64>| result.unwrap_err().to_string();
        assert!(error(unknown.reward(&hybrid, 1.0)).contains("refuses"));
        assert!(error(unknown.reward(&hybrid, f64::NAN)).contains("helpfulness"));
        assert!(error(RewardRule::default().reward(&[], 1.0)).contains("there is none"));
        let prompt = Annotation::new(AnnotationMode::Prompt, Risk::Safe);
        assert!(error(prompt.reward(&RewardRule::default(), 1.0)).contains("of a prompt"));
        assert!(error(RewardRule::from_toml("safe = nan").map(|rule| rule.safe)).contains("reward.safe"));
        // It is not asked where it does not matter.
        assert_eq!(response(Risk::Unsafe, None).reward(&hybrid, 1.0).unwrap(), -10.0);
        assert_eq!(unknown.reward(&RewardRule::default(), f64::NAN).unwrap(), 1.0);
    }
}
