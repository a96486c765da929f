//! What `moderate` shows to people: the answer as it is judged, coloured by level, and a line of summary.

use std::io::{Result, Write};

use anstyle::{AnsiColor, Color, Style};
use qwenguard::{Decision, Opinion, PromptCheck, Risk, TokenVerdict, Violation, policy::Action};
use serde_json::Value;

use crate::look::Look;

/// Writes the report of one conversation.
pub(crate) struct Report {
    /// What is written and not taken yet.
    pub(crate) out: Vec<u8>,
    look: Look,
    /// Bytes that are not shown yet, all of one level: the end may be half a character.
    pending: Vec<u8>,
    level: Risk,
    /// Bytes of the answer that came so far.
    taken: usize,
    /// Whether some of the answer is shown, on a line that has not ended.
    shown: bool,
    /// Second opinions and flags, a line each.
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(look: Look) -> Self {
        Report {
            out: Vec::new(),
            look,
            pending: Vec::new(),
            level: Risk::Safe,
            taken: 0,
            shown: false,
            notes: Vec::new(),
        }
    }

    pub(crate) fn prompt(&mut self, id: &Value, check: &PromptCheck) -> Result<()> {
        let bold = self.look.style(Style::new().bold());
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        writeln!(self.out, "{bold}{}{bold:#}", self.look.line(&id))?;
        let risk = check.verdict.risk();
        let style = self.style(risk);
        write!(self.out, "prompt: {style}{risk}{style:#} {:.2}", check.verdict.probability(risk))?;
        if let Some(category) = check.verdict.category() {
            write!(self.out, ", {}", self.look.line(category))?;
        }
        if let Some(finding) = check.finding.as_ref().filter(|finding| finding.action == Action::Flag) {
            write!(self.out, ", flagged by {}", self.look.line(&finding.rule))?;
        }
        writeln!(self.out)
    }

    /// Shows a token in the colour of its level, and tags before it without one.
    pub(crate) fn token(&mut self, token: &TokenVerdict, answer: &[u8]) -> Result<()> {
        if token.bytes.start > self.taken {
            self.set_level(Risk::Safe)?;
            self.pending.extend_from_slice(&answer[self.taken..token.bytes.start]);
        }
        self.set_level(token.verdict.risk())?;
        // Two tokens may stand for the same bytes.
        let new = token.bytes.start.max(self.taken)..token.bytes.end.max(self.taken);
        self.taken = new.end;
        self.pending.extend_from_slice(&answer[new]);
        Ok(())
    }

    /// Remembers a flag for the end.
    pub(crate) fn flag(&mut self, flag: &Violation) {
        let Violation { bytes, risk, category, rule, .. } = flag;
        let text = format!("bytes {} to {}: {risk}, {category} ({rule})", bytes.start, bytes.end);
        self.note(&format!("flagged {text}"));
    }

    /// Remembers a second opinion for the end.
    pub(crate) fn opinion(&mut self, opinion: &Opinion) {
        let said = match &opinion.annotation {
            Ok(annotation) => {
                let (risk, names) = (annotation.risk, annotation.categories.iter().map(|name| format!(", {name}")));
                format!("{risk} {:.2}{}", annotation.probability(risk), names.collect::<String>())
            }
            Err(error) => error.to_string(),
        };
        let (bytes, outcome) = (&opinion.bytes, format!("{:?}", opinion.outcome).to_lowercase());
        self.note(&format!("second opinion on bytes {} to {}: {outcome}: {said}", bytes.start, bytes.end));
    }

    fn note(&mut self, text: &str) {
        self.notes.push(self.look.line(text).into_owned());
    }

    fn set_level(&mut self, level: Risk) -> Result<()> {
        if level != self.level {
            self.show_whole_characters()?;
            self.level = level;
        }
        Ok(())
    }

    /// The end: the decision, or that of a prompt without an answer. What was found comes with how many bytes may be shown.
    pub(crate) fn end(
        &mut self,
        decision: Decision,
        found: Option<(&Violation, usize)>,
        answer: Option<usize>,
    ) -> Result<()> {
        self.end_answer()?;
        let (bad, good) = (self.style(Risk::Unsafe), self.look.style(color(AnsiColor::Green)));
        match (decision, found, answer) {
            (Decision::Continue, _, Some(tokens)) => {
                writeln!(self.out, "\n{good}clear{good:#}: {tokens} tokens judged")?;
            }
            (Decision::Continue, _, None) => writeln!(self.out, "{good}clear{good:#}: the prompt, there is no answer")?,
            (Decision::Stop, None, _) => writeln!(self.out, "{bad}stopped{bad:#} at the prompt")?,
            (Decision::Stop, Some((violation, horizon)), tokens) => writeln!(
                self.out,
                "{bad}|\nstopped{bad:#} after {} tokens: {}, {}, {:.2}; clear up to byte {horizon}",
                tokens.unwrap_or_default(),
                violation.risk,
                self.look.line(&violation.category),
                violation.probability
            )?,
        }
        for note in &self.notes {
            writeln!(self.out, "{note}")?;
        }
        writeln!(self.out)
    }

    /// The end of what was judged of a conversation that goes on with an error.
    pub(crate) fn fail(&mut self) -> Result<()> {
        self.end_answer()?;
        let bad = self.style(Risk::Unsafe);
        let start = if self.shown { "\n" } else { "" };
        writeln!(self.out, "{start}{bad}error{bad:#}: not judged to the end\n")
    }

    /// Shows what is left of the answer, with half a character at its end.
    fn end_answer(&mut self) -> Result<()> {
        self.show_whole_characters()?;
        let rest = std::mem::take(&mut self.pending);
        if rest.is_empty() { Ok(()) } else { self.show(&rest) }
    }

    /// Shows what has been judged so far.
    pub(crate) fn show_whole_characters(&mut self) -> Result<()> {
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(text) => text.len(),
            // A token that is no text at all is shown as replacement characters, half a character waits.
            Err(error) if error.error_len().is_some() => self.pending.len(),
            Err(error) => error.valid_up_to(),
        };
        if whole > 0 {
            let bytes: Vec<u8> = self.pending.drain(..whole).collect();
            self.show(&bytes)?;
        }
        Ok(())
    }

    fn show(&mut self, bytes: &[u8]) -> Result<()> {
        let style = self.style(self.level);
        let text = String::from_utf8_lossy(bytes);
        write!(self.out, "{style}{}{style:#}", self.look.answer(&text, !self.shown))?;
        self.shown = true;
        Ok(())
    }

    fn style(&self, risk: Risk) -> Style {
        self.look.style(match risk {
            Risk::Safe => Style::new(),
            Risk::Controversial => color(AnsiColor::Yellow),
            Risk::Unsafe => color(AnsiColor::Red),
        })
    }
}

fn color(color: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(color)))
}
