//! What a policy makes of verdicts that were given before, without the model.

use super::{
    answer::{Answer, Change, End, InputChange},
    prompt,
    settling::{Scene, Settling},
    update::{PromptCheck, TokenVerdict, Update},
};
use crate::{
    Error, Result,
    policy::{Debounce, Policy},
    text::{AnswerToken, Channel, TokenEdit},
    verdict::{Labels, Verdict},
};

/// The most tokens that are not judged between two that are: tags around thinking have fewer.
const MAX_GAP: usize = 64;

impl Policy {
    /// What this policy makes of an answer that was judged under another one: the model does not run. `tokens` are all of its
    /// verdicts, kept as [`Update::void_from`] says, and the answer is taken as complete.
    ///
    /// It is what a stream of this policy would have said at the end of the answer, with three exceptions. Second opinions
    /// are not asked: as where one cannot be had, violations stand, and uncertain tokens count as one. The horizon may be
    /// inside a character, as the text is not known here. And [`Debounce::Eval`] sees the tokens that close the turn only if
    /// they were judged, which only streams of that debounce do; other debounces leave out tokens without bytes at the end.
    ///
    /// # Errors
    /// [`Error::Config`] if the policy has numbers out of range or names a category that the verdicts do not have;
    /// [`Error::Argument`] if the tokens are not those of one answer: out of order, of different labels, or too far apart.
    ///
    /// ```
    /// # use qwenguard::{Policy, TokenVerdict};
    /// # fn with(tokens: &[TokenVerdict]) -> Result<(), qwenguard::Error> {
    /// let strict = Policy::strict().replay(tokens)?;
    /// let loose = Policy::loose().replay(tokens)?;
    /// println!("{} bytes may be shown, or {}", strict.horizon, loose.horizon);
    /// # Ok(())
    /// # }
    /// ```
    pub fn replay(&self, tokens: &[TokenVerdict]) -> Result<Update> {
        self.validate()?;
        let tokens = if self.answer.debounce == Debounce::Eval { tokens } else { without_closing(tokens) };
        let none = Labels { risks: Vec::new(), categories: Vec::new() };
        let labels = tokens.first().map_or(&none, |first| first.verdict.labels());
        if !tokens.is_empty() {
            self.check_response_categories(labels)?;
        }
        let mut all = Vec::new();
        let mut verdicts = Vec::new();
        for token in tokens {
            check(token, labels, all.last(), all.len())?;
            fill(&mut all, token);
            verdicts.resize(all.len() - 1, None);
            verdicts.push(Some(token.verdict.clone()));
        }
        let edit = TokenEdit { keep: 0, stable: all.len(), append: all };
        let change = Change { tokens: edit, input: InputChange::Tokens, end: Some(End { closing: 0 }) };
        let mut answer = Answer::new();
        let settled = {
            let scene = Scene { labels, policy: self, answer: &answer, change: &change, verdicts: &verdicts };
            let mut settling = Settling::new(&scene);
            while settling.next_dispute(&scene).is_some() {
                // Nobody is asked.
                settling.rule(&scene, Err(Error::EngineStopped));
            }
            settling.settled()
        };
        let mut update =
            answer.apply(None, self, change, verdicts, settled, || unreachable!("the answer comes as tokens"));
        update.opinions.clear();
        Ok(update)
    }

    /// What this policy makes of the verdict on a prompt.
    ///
    /// # Errors
    /// [`Error::Config`] if the policy has numbers out of range or names a category that the verdict does not have.
    pub fn replay_prompt(&self, verdict: &Verdict) -> Result<PromptCheck> {
        self.validate()?;
        self.check_query_categories(verdict.labels())?;
        Ok(prompt::check(self, verdict.clone()))
    }
}

/// Tokens that close a turn stand for nothing that was said.
fn without_closing(tokens: &[TokenVerdict]) -> &[TokenVerdict] {
    let said = tokens.iter().rposition(|token| !token.bytes.is_empty()).map_or(0, |last| last + 1);
    &tokens[..said]
}

/// Whether a token can come after those before it.
fn check(token: &TokenVerdict, labels: &Labels, last: Option<&AnswerToken>, next: usize) -> Result<()> {
    let TokenVerdict { index, bytes, verdict, .. } = token;
    // Tokens of a text that is normalized may share bytes.
    let before = last.map_or(0..0, |last| last.bytes.clone());
    let reason = if *index < next || *index - next > MAX_GAP {
        format!("token {index} comes where token {next} is wanted")
    } else if bytes.start < before.start || bytes.end < before.end.max(bytes.start) {
        let (start, end) = (before.start, before.end);
        format!("token {index} has bytes {} to {} after bytes {start} to {end}", bytes.start, bytes.end)
    } else if verdict.labels() != labels {
        format!("token {index} has other labels than the first")
    } else {
        return Ok(());
    };
    Err(Error::argument("tokens", reason))
}

/// Adds a token, after those before it that are not judged.
fn fill(all: &mut Vec<AnswerToken>, token: &TokenVerdict) {
    let TokenVerdict { index, token_id, bytes, channel, .. } = token;
    let gap = AnswerToken { id: 0, bytes: bytes.start..bytes.start, channel: Channel::Answer, judged: false };
    // What is between thinking and the answer belongs to neither.
    let channel_before = all.last().map_or(*channel, |last| last.channel);
    all.resize(*index, AnswerToken { channel: channel_before, ..gap });
    all.push(AnswerToken { id: *token_id, bytes: bytes.clone(), channel: *channel, judged: true });
}
