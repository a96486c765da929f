//! What `moderate` shows to people: the answer as it is judged, coloured by level, and a line of summary.

use std::io::Write;

use anstyle::{AnsiColor, Color, Style};
use qwenguard::{Action, Decision, PromptCheck, Risk, TokenVerdict, Violation};
use serde_json::Value;

/// Writes the report of one conversation. Colours are for the terminal; the stream underneath drops them elsewhere.
pub(crate) struct Report<W: Write> {
    out: W,
    /// Bytes that are not shown yet, all of one level: the end may be half a character.
    pending: Vec<u8>,
    level: Risk,
    /// Bytes of the answer that came so far.
    taken: usize,
    flags: Vec<String>,
}

impl<W: Write> Report<W> {
    pub(crate) fn start(mut out: W, id: &Value) -> std::io::Result<Self> {
        let bold = Style::new().bold();
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        writeln!(out, "{bold}{id}{bold:#}")?;
        Ok(Report { out, pending: Vec::new(), level: Risk::Safe, taken: 0, flags: Vec::new() })
    }

    pub(crate) fn prompt(&mut self, check: &PromptCheck) -> std::io::Result<()> {
        let risk = check.verdict.risk();
        let style = style(risk);
        write!(self.out, "prompt: {style}{risk}{style:#} {:.2}", check.verdict.probability(risk))?;
        if let Some(category) = check.verdict.category() {
            write!(self.out, ", {category}")?;
        }
        if let Some(finding) = check.finding.as_ref().filter(|finding| finding.action == Action::Flag) {
            write!(self.out, ", flagged by {}", finding.rule)?;
        }
        writeln!(self.out)
    }

    /// Shows a token in the colour of its level, and tags before it without one.
    pub(crate) fn token(&mut self, token: &TokenVerdict, answer: &[u8]) -> std::io::Result<()> {
        if token.bytes.start > self.taken {
            self.set_level(Risk::Safe)?;
            self.pending.extend_from_slice(&answer[self.taken..token.bytes.start]);
        }
        self.set_level(token.verdict.risk())?;
        self.pending.extend_from_slice(&answer[token.bytes.clone()]);
        self.taken = token.bytes.end;
        Ok(())
    }

    /// Remembers a flag for the end.
    pub(crate) fn flag(&mut self, flag: &Violation) -> std::io::Result<()> {
        let Violation { bytes, risk, category, rule, .. } = flag;
        self.flags.push(format!("bytes {} to {}: {risk}, {category} ({rule})", bytes.start, bytes.end));
        Ok(())
    }

    fn set_level(&mut self, level: Risk) -> std::io::Result<()> {
        if level != self.level {
            self.show_whole_characters()?;
            self.level = level;
        }
        Ok(())
    }

    /// Shows what has been judged so far.
    pub(crate) fn flush(&mut self) -> std::io::Result<()> {
        self.show_whole_characters()?;
        self.out.flush()
    }

    pub(crate) fn end(
        &mut self,
        decision: Decision,
        violation: Option<&Violation>,
        tokens: usize,
    ) -> std::io::Result<()> {
        self.show_whole_characters()?;
        if !self.pending.is_empty() {
            let rest = std::mem::take(&mut self.pending);
            write!(self.out, "{}", String::from_utf8_lossy(&rest))?;
        }
        let bad = style(Risk::Unsafe);
        match (decision, violation) {
            (Decision::Continue, _) => {
                let good = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green)));
                writeln!(self.out, "\n{good}clear{good:#}: {tokens} tokens judged")?;
                for flag in &self.flags {
                    writeln!(self.out, "flagged {flag}")?;
                }
                writeln!(self.out)
            }
            (Decision::Stop, None) => writeln!(self.out, "{bad}stopped{bad:#} at the prompt\n"),
            (Decision::Stop, Some(violation)) => writeln!(
                self.out,
                "{bad}|\nstopped{bad:#} after {tokens} tokens: {}, {}, {:.2}; clear up to byte {}\n",
                violation.risk, violation.category, violation.probability, violation.bytes.start
            ),
        }
    }

    fn show_whole_characters(&mut self) -> std::io::Result<()> {
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(text) => text.len(),
            // A token that is no text at all is shown as replacement characters, half a character waits.
            Err(error) if error.error_len().is_some() => self.pending.len(),
            Err(error) => error.valid_up_to(),
        };
        if whole > 0 {
            let style = style(self.level);
            let text = String::from_utf8_lossy(&self.pending[..whole]);
            write!(self.out, "{style}{text}{style:#}")?;
            self.pending.drain(..whole);
        }
        Ok(())
    }
}

fn style(risk: Risk) -> Style {
    match risk {
        Risk::Safe => Style::new(),
        Risk::Controversial => Style::new().fg_color(Some(Color::Ansi(AnsiColor::Yellow))),
        Risk::Unsafe => Style::new().fg_color(Some(Color::Ansi(AnsiColor::Red))),
    }
}
