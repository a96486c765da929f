//! What a stream answers.

use std::ops::Range;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

use crate::{
    Result,
    annotation::Annotation,
    policy::{Action, Decision},
    text::Channel,
    verdict::{Risk, Verdict},
};

/// The verdict on a prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PromptCheck {
    /// What the model says about the message that is judged, in the light of all before it.
    pub verdict: Verdict,
    /// What the policy makes of it.
    pub decision: Decision,
    /// What the policy found, if anything.
    pub finding: Option<PromptFinding>,
}

/// What a policy found in a prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PromptFinding {
    /// What is to be done about it: [`Action::Flag`] or [`Action::Stop`].
    pub action: Action,
    /// The level that it counts as.
    pub risk: Risk,
    /// The category.
    pub category: String,
    /// Probability of the level, 0 to 1.
    pub probability: f32,
    /// The rule that fired, by the names of its settings, such as `prompt.strict`.
    pub rule: String,
}

/// One judged token of an answer. Its JSON can be read again, for [`Policy::replay`](crate::Policy::replay).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenToken")]
#[non_exhaustive]
pub struct TokenVerdict {
    /// Which token of the answer, from 0. Tokens around thinking count but are not judged.
    pub index: usize,
    /// Its id.
    pub token_id: u32,
    /// The bytes of the answer that it stands for: of the text as it was pushed, or, for pushed tokens, by adding up
    /// the tokens' own bytes.
    #[serde(flatten, serialize_with = "as_start_and_end")]
    pub bytes: Range<usize>,
    /// Whether it is thinking.
    pub channel: Channel,
    /// Whether no later text can change it. A provisional token moves neither the horizon nor the decision.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// What the model says about the answer up to here.
    pub verdict: Verdict,
}

/// As it stands in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    index: usize,
    token_id: u32,
    byte_start: usize,
    byte_end: usize,
    channel: Channel,
    #[serde(rename = "final")]
    is_final: bool,
    verdict: Verdict,
}

impl From<WrittenToken> for TokenVerdict {
    fn from(written: WrittenToken) -> Self {
        let WrittenToken { index, token_id, byte_start, byte_end, channel, is_final, verdict } = written;
        TokenVerdict { index, token_id, bytes: byte_start..byte_end, channel, is_final, verdict }
    }
}

/// Where an answer turned.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Violation {
    /// What is to be done about it: [`Action::Flag`] or [`Action::Stop`].
    pub action: Action,
    /// Whether it is in the thinking.
    pub channel: Channel,
    /// Bytes of the answer, from the first token that counts to the one that confirmed it.
    #[serde(flatten, serialize_with = "as_start_and_end")]
    pub bytes: Range<usize>,
    /// The first token that counts.
    pub first_token: usize,
    /// The token that confirmed it. Level, category and probability are those of its verdict. Where a second opinion did,
    /// it is the one at which that was asked for, and they are those of the verdict that completed the violation; of
    /// uncertain tokens, those of the opinion's finding.
    pub confirming_token: usize,
    /// The level that it counts as.
    pub risk: Risk,
    /// The category.
    pub category: String,
    /// Probability of the level, 0 to 1.
    pub probability: f32,
    /// The rule that fired, by the names of its settings, such as `answer.strict: 2 consecutive`.
    pub rule: String,
}

/// A second opinion on an answer: see [`policy::SecondOpinion`](crate::policy::SecondOpinion).
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Opinion {
    /// Why it was asked for.
    pub trigger: OpinionTrigger,
    /// What came of it.
    pub outcome: OpinionOutcome,
    /// Whether what is in dispute is in the thinking.
    pub channel: Channel,
    /// Bytes of the answer that are in dispute, from the first token that counts or is uncertain to the one at which it was
    /// asked for. The opinion is about all of the answer up to there, whole characters only.
    #[serde(flatten, serialize_with = "as_start_and_end")]
    pub bytes: Range<usize>,
    /// The first token in dispute.
    pub first_token: usize,
    /// The last one, at which it was asked for.
    pub confirming_token: usize,
    /// What the second guard says, or why it could not say anything. In JSON `annotation` or `error`.
    #[serde(flatten, serialize_with = "as_annotation_or_error")]
    pub annotation: Result<Annotation>,
}

/// Why a second opinion was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OpinionTrigger {
    /// A violation was confirmed.
    Violation,
    /// Tokens were uncertain.
    Uncertain,
}

/// What came of a second opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OpinionOutcome {
    /// It found something: the violation stands, or uncertain tokens are one.
    Confirmed,
    /// It found nothing: the violation is lifted.
    Lifted,
    /// It found nothing: uncertain tokens do not count any more.
    Cleared,
    /// By the policy it changes nothing.
    Reported,
    /// It could not be had: the violation stands, or uncertain tokens count as one, unless by the policy it changes nothing.
    Failed,
}

impl PartialEq for Opinion {
    fn eq(&self, other: &Self) -> bool {
        let what = |opinion: &Self| (opinion.trigger, opinion.outcome, opinion.channel);
        let place = |opinion: &Self| (opinion.bytes.clone(), opinion.first_token, opinion.confirming_token);
        let same_words = match (&self.annotation, &other.annotation) {
            (Ok(annotation), Ok(others)) => annotation == others,
            (Err(error), Err(others)) => error.to_string() == others.to_string(),
            _ => false,
        };
        what(self) == what(other) && place(self) == place(other) && same_words
    }
}

/// The result of a push.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Update {
    /// Whether the answer may go on. Once it is [`Decision::Stop`] it stays so, until the answer is cut back.
    pub decision: Decision,
    /// How many bytes of the answer may be shown: all before the first token that is provisional, or may yet turn out
    /// to be part of a violation that stops, or is; whole characters only. For an answer that grows it never moves
    /// back. In shadow mode only provisional tokens hold it.
    pub horizon: usize,
    /// How many tokens of the answer are within the horizon.
    pub horizon_tokens: usize,
    /// How many bytes of the answer were pushed so far.
    pub received: usize,
    /// Where the answer must stop, found now or in an earlier push.
    pub violation: Option<Violation>,
    /// Places that rules of the policy flag, found now.
    pub flags: Vec<Violation>,
    /// Second opinions that were asked for by this call.
    pub opinions: Vec<Opinion>,
    /// The tokens that were judged now.
    pub tokens: Vec<TokenVerdict>,
    /// From which token on, by [`TokenVerdict::index`], what was said earlier is void: verdicts, and flags and second
    /// opinions that such a token confirmed or brought about. `tokens` take their place, if the answer still has as many. Where nothing is void this is how
    /// many tokens the answer had before the call, those that are not judged included.
    ///
    /// So a host that keeps the verdicts removes those from here on and adds `tokens`, whatever the call was: text that
    /// merges with provisional tokens, the end of thinking, [`Stream::finish`](crate::Stream::finish), which adds the
    /// closing tokens under [`Debounce::Eval`](crate::policy::Debounce::Eval), or a truncation, which takes those away again and
    /// may judge final tokens anew. A prompt starts an answer without tokens. A fork goes on from what its parent has.
    pub void_from: usize,
    /// How many tokens of the answer are final. Those after them are provisional: the next text may merge with them.
    pub final_tokens: usize,
}

/// In JSON a range of bytes is `byte_start` and `byte_end`.
fn as_start_and_end<S: Serializer>(bytes: &Range<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_map(Some(2))?;
    fields.serialize_entry("byte_start", &bytes.start)?;
    fields.serialize_entry("byte_end", &bytes.end)?;
    fields.end()
}

/// In JSON an annotation, or the words of an error.
fn as_annotation_or_error<S: Serializer>(annotation: &Result<Annotation>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_map(Some(1))?;
    match annotation {
        Ok(annotation) => fields.serialize_entry("annotation", annotation)?,
        Err(error) => fields.serialize_entry("error", &error.to_string())?,
    }
    fields.end()
}

impl Update {
    /// For a host that shows text as it comes: how many of the bytes pushed so far it has to take back. 0 while the
    /// answer may go on.
    pub fn excess(&self) -> usize {
        match self.decision {
            Decision::Continue => 0,
            Decision::Stop => self.received - self.horizon,
        }
    }
}
