//! When a second guard is asked about an answer, and what its word counts.

use serde::{Deserialize, Serialize};

/// When the guard behind this one, which judges whole conversations, is asked about an answer, and what its word counts. See
/// [`Config::second_opinion`](crate::Config::second_opinion). The default: never.
///
/// It gets the messages of the prompt and the answer up to the token in dispute, and what it says is judged by the same
/// rules. Nothing in dispute is within the horizon meanwhile. If it cannot say anything, the violation stands, and what is
/// uncertain counts as a violation. Once an answer has a violation that stops, nothing more is asked about it.
///
/// An opinion costs the second guard the new tokens of the answer and some 130 of its own prompt, so
/// [`interval_tokens`](Self::interval_tokens) bounds how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecondOpinion {
    /// It is asked where a violation is confirmed, be it one that stops or one that is flagged. Default: it is not.
    pub violation: Option<OnViolation>,
    /// It is asked where tokens are uncertain. Default: it is not.
    pub uncertain: Option<Uncertain>,
    /// The least distance between two opinions on an answer, in tokens: 1 at least, which is no limit. Default 32.
    ///
    /// What gets into dispute before waits until then, together with what else does, and is judged as one: the opinion is
    /// about the answer up to the token at which it is asked for. The horizon waits too, and so does
    /// [`Decision::Stop`](crate::Decision::Stop). The end of the thinking or of the answer does not wait, nor does a report
    /// on a violation that stops. The first opinion on an answer never waits. Violations that are only reported count at once.
    pub interval_tokens: usize,
}

impl Default for SecondOpinion {
    fn default() -> Self {
        SecondOpinion { violation: None, uncertain: None, interval_tokens: 32 }
    }
}

/// What a second opinion on a violation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnViolation {
    /// If it finds nothing, the violation is lifted: its tokens do not count any more, and the answer goes on.
    Lift,
    /// It is reported. The violation stands.
    Report,
}

/// Which tokens are uncertain, and what a second opinion on them counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uncertain {
    /// Tokens that do not count by the rules are uncertain from this probability of Controversial or Unsafe on, over 0 to 1;
    /// not those of a category that the rules ignore. It takes as many of them as the debounce says, together with tokens
    /// that count; levels are not told apart.
    pub at: f32,
    /// Default [`OnUncertain::Confirm`].
    #[serde(default)]
    pub word: OnUncertain,
}

/// What a second opinion on uncertain tokens counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUncertain {
    /// If it finds something, they are a violation; else they do not count any more. The horizon does not pass what may yet
    /// be asked about.
    #[default]
    Confirm,
    /// It is reported. They hold nothing back.
    Report,
}

impl SecondOpinion {
    /// Whether it is ever asked.
    pub(crate) fn asks(&self) -> bool {
        self.violation.is_some() || self.uncertain.is_some()
    }

    /// Whether uncertain tokens hold the horizon.
    pub(crate) fn holds(&self) -> bool {
        self.uncertain.is_some_and(|uncertain| uncertain.word == OnUncertain::Confirm)
    }
}
