//! A conversation on its way through a stream: the calls that judge it, and what is written about it.

use std::io::{Result, Write};

use qwenguard::{Call, Decision, Opinion, PromptCheck, Reply, TokenVerdict, Update, Violation};
use serde_json::Value;

use crate::{conversation::Conversation, events, joined::Joined, look::Look, report::Report, summary::Counts};

/// Bytes that are judged together: enough to be fast, few enough to watch.
const PIECE: usize = 64;

/// How verdicts are written, and how far an answer is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) json: bool,
    pub(crate) look: Look,
    /// Judge all of an answer even where it would be stopped.
    pub(crate) no_stop: bool,
}

/// A conversation that is being judged.
pub(crate) struct Judging {
    conversation: Conversation,
    manner: Manner,
    next: Next,
    output: Output,
    /// Tokens that are not shown yet.
    tokens: Vec<TokenVerdict>,
    /// How many are shown.
    shown: usize,
    decision: Decision,
    violation: Option<Violation>,
    /// How many bytes of the answer may be shown.
    horizon: usize,
    pub(crate) counts: Counts,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Prompt,
    /// The answer from this byte on.
    Text(usize),
    Finish,
    Nothing,
}

impl Judging {
    pub(crate) fn new(conversation: Conversation, manner: Manner) -> Self {
        Judging {
            conversation,
            manner,
            next: Next::Prompt,
            output: Output::new(manner),
            tokens: Vec::new(),
            shown: 0,
            decision: Decision::Continue,
            violation: None,
            horizon: 0,
            counts: Counts::default(),
        }
    }

    /// What is written and not taken yet.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        self.output.bytes()
    }

    /// Whether the policy stops it, as far as it is judged.
    pub(crate) fn is_stopped(&self) -> bool {
        self.decision == Decision::Stop
    }

    /// The next call. None if all is judged that is to be.
    pub(crate) fn call(&self) -> Option<Call<'_>> {
        match (self.next, &self.conversation.answer) {
            (Next::Prompt, _) => Some(Call::Prompt(&self.conversation.history)),
            (Next::Text(at), Some(answer)) => {
                let thinking = at < answer.thinking;
                let end = if thinking { answer.thinking } else { answer.text.len() };
                let piece = &answer.text.as_bytes()[at..end.min(at + PIECE)];
                Some(if thinking { Call::Thinking(piece) } else { Call::Text(piece) })
            }
            (Next::Finish, _) => Some(Call::Finish),
            (Next::Text(_) | Next::Nothing, _) => None,
        }
    }

    /// Takes what the call was answered.
    pub(crate) fn take(&mut self, reply: Reply) -> Result<()> {
        let answered = matches!(reply, Reply::Update(_));
        match reply {
            Reply::Prompt(check) => self.take_prompt(&check)?,
            Reply::Update(update) => self.take_update(update)?,
            Reply::Annotation(_) => {}
        }
        if self.decision == Decision::Stop && !self.manner.no_stop {
            self.next = Next::Nothing;
        }
        if self.next == Next::Nothing { self.end(answered) } else { Ok(()) }
    }

    /// It cannot be judged to its end. What was judged so far stands.
    pub(crate) fn fail(&mut self, line: usize, reason: &str) -> Result<()> {
        let begun = self.next != Next::Prompt;
        self.next = Next::Nothing;
        self.counts.errors += 1;
        // A violation that was found stays one.
        self.counts.stopped += usize::from(self.is_stopped());
        match &mut self.output {
            Output::Json(out, _) => {
                let event = events::error(&self.conversation.id, Some(line), reason);
                writeln!(out, "{}", self.manner.look.json(&event))
            }
            Output::People(report) if begun => report.fail(),
            Output::People(_) => Ok(()),
        }
    }

    fn take_prompt(&mut self, check: &PromptCheck) -> Result<()> {
        self.decision = check.decision;
        self.counts.prompt(check);
        let (id, look) = (&self.conversation.id, self.manner.look);
        match &mut self.output {
            Output::Json(out, _) => writeln!(out, "{}", look.json(&events::prompt(id, check)))?,
            Output::People(report) => report.prompt(id, check)?,
        }
        self.next = match &self.conversation.answer {
            Some(answer) => Next::at(0, &answer.text),
            None => Next::Nothing,
        };
        Ok(())
    }

    /// Shows the tokens that an update makes final, up to the violation unless everything is judged.
    fn take_update(&mut self, update: Update) -> Result<()> {
        let (Some(answer), output) = (&self.conversation.answer, &mut self.output) else { return Ok(()) };
        self.next = match self.next {
            Next::Finish => Next::Nothing,
            _ => Next::at(update.received, &answer.text),
        };
        self.tokens.retain(|token| token.index < update.void_from);
        self.tokens.extend(update.tokens);
        let stops = update.decision == Decision::Stop;
        let mut end = update.final_tokens;
        if let Some(violation) = update.violation.as_ref().filter(|_| stops && !self.manner.no_stop) {
            end = end.min(violation.confirming_token + 1);
        }
        let known = self.tokens.partition_point(|token| token.index < end);
        for mut token in self.tokens.drain(..known) {
            token.is_final = true;
            self.counts.token(&token);
            output.token(&self.conversation.id, self.manner.look, &token, answer.text.as_bytes())?;
            self.shown += 1;
        }
        for opinion in update.opinions.iter().filter(|opinion| opinion.confirming_token < end) {
            output.opinion(&self.conversation.id, self.manner.look, opinion)?;
        }
        for flag in update.flags.iter().filter(|flag| flag.confirming_token < end) {
            self.counts.flag(flag);
            output.flag(&self.conversation.id, self.manner.look, flag)?;
        }
        if let Output::People(report) = output {
            report.show_whole_characters()?;
        }
        if stops {
            self.decision = Decision::Stop;
        }
        (self.violation, self.horizon) = (update.violation, update.horizon);
        Ok(())
    }

    fn end(&mut self, answered: bool) -> Result<()> {
        let answer = self.conversation.answer.as_ref();
        self.counts.end(self.decision, self.violation.as_ref(), answered);
        match &mut self.output {
            Output::Json(out, joined) => {
                let stopped = self.decision == Decision::Stop && !self.manner.no_stop;
                let rest = answer.filter(|_| !stopped).map(|answer| joined.rest(answer.text.as_bytes()));
                let rest = rest.unwrap_or_default();
                let end = events::End {
                    decision: self.decision,
                    violation: self.violation.as_ref(),
                    horizon: self.horizon,
                    tokens: self.shown,
                    rest: &rest,
                };
                let event = events::end(&self.conversation.id, &end);
                writeln!(out, "{}", self.manner.look.json(&event))
            }
            Output::People(report) => {
                let found = self.violation.as_ref().map(|violation| (violation, self.horizon));
                report.end(self.decision, found, answer.map(|_| self.shown))
            }
        }
    }
}

impl Next {
    fn at(byte: usize, text: &str) -> Self {
        if byte < text.len() { Next::Text(byte) } else { Next::Finish }
    }
}

/// What is written about one conversation.
enum Output {
    Json(Vec<u8>, Joined),
    People(Report),
}

impl Output {
    fn new(manner: Manner) -> Self {
        if manner.json { Output::Json(Vec::new(), Joined::default()) } else { Output::People(Report::new(manner.look)) }
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        match self {
            Output::Json(out, _) => out,
            Output::People(report) => &mut report.out,
        }
    }

    fn token(&mut self, id: &Value, look: Look, token: &TokenVerdict, answer: &[u8]) -> Result<()> {
        match self {
            Output::Json(out, joined) => {
                let text = joined.text(token, answer);
                writeln!(out, "{}", look.json(&events::token(id, token, &text)))
            }
            Output::People(report) => report.token(token, answer),
        }
    }

    fn opinion(&mut self, id: &Value, look: Look, opinion: &Opinion) -> Result<()> {
        match self {
            Output::Json(out, _) => writeln!(out, "{}", look.json(&events::opinion(id, opinion))),
            Output::People(report) => {
                report.opinion(opinion);
                Ok(())
            }
        }
    }

    fn flag(&mut self, id: &Value, look: Look, flag: &Violation) -> Result<()> {
        match self {
            Output::Json(out, _) => writeln!(out, "{}", look.json(&events::flag(id, flag))),
            Output::People(report) => {
                report.flag(flag);
                Ok(())
            }
        }
    }
}
