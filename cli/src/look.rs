//! How output looks: what a terminal gets, and what a pipe.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

use anstyle::Style;

use crate::visible;

/// What is done to text on its way out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    color: bool,
    /// Whether control characters are made visible: on a terminal. A pipe gets bytes as they are.
    visible: bool,
}

impl Look {
    /// That of standard output.
    pub(crate) fn of_output() -> Self {
        let out = io::stdout();
        let color = anstream::AutoStream::choice(&out) != anstream::ColorChoice::Never;
        Look { color, visible: out.is_terminal() }
    }

    /// That of standard error.
    fn of_errors() -> Self {
        Look { color: false, visible: io::stderr().is_terminal() }
    }

    #[cfg(test)]
    pub(crate) fn terminal() -> Self {
        Look { color: true, visible: true }
    }

    pub(crate) fn style(self, style: Style) -> Style {
        if self.color { style } else { Style::new() }
    }

    /// Text of several lines.
    pub(crate) fn text(self, text: &str) -> Cow<'_, str> {
        if self.visible { visible::visible(text) } else { text.into() }
    }

    /// Text that is one line or part of one.
    pub(crate) fn line(self, text: &str) -> Cow<'_, str> {
        if self.visible { visible::visible_line(text) } else { text.into() }
    }

    pub(crate) fn json(self, event: &impl serde::Serialize) -> String {
        let text = serde_json::to_string(event).expect("what is written has texts for keys");
        if self.visible { visible::visible_json(&text).into_owned() } else { text }
    }

    /// The text of an answer: on a terminal its lines are set in, so that none can pass for one of ours. `fresh` says
    /// that the first line starts here.
    pub(crate) fn answer(self, text: &str, fresh: bool) -> Cow<'_, str> {
        if !self.visible {
            return text.into();
        }
        let start = if fresh { INDENT } else { "" };
        format!("{start}{}", visible::visible(text).replace('\n', &format!("\n{INDENT}"))).into()
    }
}

const INDENT: &str = "  ";

/// Standard output, with colours where the system needs help with them.
pub(crate) fn output(look: Look) -> Box<dyn Write> {
    let out = io::BufWriter::new(io::stdout());
    if look.color { Box::new(anstream::AutoStream::always(io::stdout())) } else { Box::new(out) }
}

/// Tells people on standard error what went wrong.
pub(crate) fn complain(text: &str) {
    tell(&format!("qwenguard: {text}"));
}

/// Writes a line to standard error. There is nobody to tell if that fails.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{}", Look::of_errors().text(text));
}

/// How a file is called in messages.
pub(crate) fn file_name(path: &std::path::Path) -> String {
    if path == std::path::Path::new("-") {
        return "standard input".into();
    }
    error_line(&path.display().to_string()).into_owned()
}

/// A part of a message on standard error that stays on its line.
pub(crate) fn error_line(text: &str) -> Cow<'_, str> {
    Look::of_errors().line(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_gets_other_text() {
        let text = "a\u{1b}[2J\r\nclear: 9 tokens judged";
        let pipe = Look::default();
        assert_eq!(
            (pipe.text(text), pipe.line(text), pipe.answer(text, true)),
            (text.into(), text.into(), text.into())
        );
        let terminal = Look::terminal();
        assert_eq!(terminal.answer(text, true), "  a<U+001B>[2J<U+000D>\n  clear: 9 tokens judged");
        assert_eq!(terminal.answer("b\n", false), "b\n  ");
        assert_eq!(terminal.line("a\nb"), "a<U+000A>b");
        let event = serde_json::json!({ "text": "\u{9b}1m" });
        assert_eq!(pipe.json(&event), "{\"text\":\"\u{9b}1m\"}");
        assert_eq!(terminal.json(&event), "{\"text\":\"\\u009b1m\"}");
    }
}
