//! Where thinking begins and ends in an answer's bytes, as they come.
//!
//! As in Qwen's chat template: thinking is what stands between a `<think>` at the start of the answer and the next
//! `</think>`, without the newlines at its edges; newlines before the answer proper do not count either.

/// The parts of an answer that are judged by rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// What the model says to itself first, in its thinking.
    Thinking,
    /// What it says.
    Answer,
}

const OPEN: &[u8] = b"<think>";
const CLOSE: &[u8] = b"</think>";

/// Bytes that a tag may have.
pub(super) const LONGEST_TAG: usize = CLOSE.len();

/// How far the markup is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start, or after newlines there.
    Start,
    /// In thinking.
    Thinking {
        /// Whether there was more than newlines.
        begun: bool,
        /// Whether the caller says which text is thinking, so that no text ends it.
        declared: bool,
    },
    /// In the answer proper.
    Answer {
        /// Whether there was more than newlines.
        begun: bool,
    },
}

/// Splits an answer into its channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Markup {
    state: State,
    /// The end of what came: newlines or the start of a tag, of which the next bytes say what they are.
    held: Vec<u8>,
    /// Bytes before `held`.
    decided: usize,
}

/// What the beginning of an answer says about the rest.
pub(super) struct Beginning {
    /// Thinking that goes on.
    pub(super) thought: Option<String>,
    pub(super) markup: Markup,
}

/// Text of the channels that some bytes add.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) thinking: Part,
    /// Whether thinking ends here.
    pub(super) thinking_ends: bool,
    pub(super) answer: Part,
}

/// Text of one channel and where it stands in the answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) at: usize,
    pub(super) text: Vec<u8>,
}

impl Markup {
    /// The start of an answer in which thinking may come.
    pub(super) fn start() -> Self {
        Markup { state: State::Start, held: Vec::new(), decided: 0 }
    }

    /// Where an answer goes on that begins like this.
    pub(super) fn after(beginning: &str) -> Beginning {
        let mut markup = Self::start();
        let parts = markup.push(beginning.as_bytes());
        let state = match markup.state {
            State::Start if markup.held.is_empty() => State::Start,
            State::Start => State::Answer { begun: true },
            state => state,
        };
        let thought = matches!(state, State::Thinking { .. }).then(|| {
            let thought = [parts.thinking.text, markup.held].concat();
            String::from_utf8(thought).expect("it is the end of a text after an ASCII tag")
        });
        let state = match &thought {
            Some(thought) => State::Thinking { begun: !thought.is_empty(), declared: false },
            None => state,
        };
        Beginning { thought, markup: Markup { state, ..Self::start() } }
    }

    /// In an answer without thinking.
    pub(super) fn answer() -> Self {
        Markup { state: State::Answer { begun: false }, ..Self::start() }
    }

    /// Bytes of which it is known what they are.
    pub(super) fn decided(&self) -> usize {
        self.decided
    }

    pub(super) fn in_answer(&self) -> bool {
        matches!(self.state, State::Answer { .. })
    }

    pub(super) fn in_thinking(&self) -> bool {
        matches!(self.state, State::Thinking { .. })
    }

    /// Takes the next bytes of an answer that holds its own tags.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Parts {
        let mut parts = Parts::default();
        if bytes.is_empty() {
            return parts;
        }
        if let State::Thinking { declared: true, .. } = self.state {
            // What comes now is not thinking, so that ended.
            self.end_thinking(&mut parts);
        }
        let bytes = self.take_held(bytes);
        self.parse(&bytes, &mut parts);
        parts
    }

    /// Takes the next bytes of what the caller says is thinking. None if the answer has begun.
    pub(super) fn push_thinking(&mut self, bytes: &[u8]) -> Option<Parts> {
        match self.state {
            State::Answer { .. } => return None,
            // Nothing is said to be thinking yet.
            _ if bytes.is_empty() => return Some(Parts::default()),
            State::Start => self.state = State::Thinking { begun: false, declared: true },
            State::Thinking { begun, .. } => self.state = State::Thinking { begun, declared: true },
        }
        let mut parts = Parts::default();
        let bytes = self.take_held(bytes);
        self.parse(&bytes, &mut parts);
        Some(parts)
    }

    /// The answer ends: what was held is text.
    pub(super) fn finish(&mut self) -> Parts {
        let mut parts = Parts::default();
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Thinking { .. } => self.give(&mut parts.thinking, &held),
            State::Start | State::Answer { .. } => {
                self.state = State::Answer { begun: true };
                self.give(&mut parts.answer, &held);
            }
        }
        parts
    }

    /// The answer proper is cut back to so many bytes.
    pub(super) fn cut(&mut self, decided: usize) {
        self.decided = decided;
    }

    fn take_held(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(bytes);
        joined
    }

    fn parse(&mut self, mut bytes: &[u8], parts: &mut Parts) {
        loop {
            match self.state {
                State::Start => {
                    bytes = self.skip_newlines(bytes);
                    if let Some(rest) = bytes.strip_prefix(OPEN) {
                        self.decided += OPEN.len();
                        self.state = State::Thinking { begun: false, declared: false };
                        bytes = rest;
                    } else if OPEN.starts_with(bytes) {
                        return self.hold(bytes);
                    } else {
                        self.state = State::Answer { begun: true };
                    }
                }
                State::Thinking { begun, declared } => {
                    if !begun {
                        bytes = self.skip_newlines(bytes);
                    }
                    let tag = if declared { None } else { memchr::memmem::find(bytes, CLOSE) };
                    let text = match tag {
                        Some(at) => trim_newlines(&bytes[..at]),
                        None => undecided(bytes, declared),
                    };
                    self.state = State::Thinking { begun: begun || !text.is_empty(), declared };
                    self.give(&mut parts.thinking, text);
                    let Some(at) = tag else { return self.hold(&bytes[text.len()..]) };
                    self.decided += at + CLOSE.len() - text.len();
                    bytes = &bytes[at + CLOSE.len()..];
                    self.end_thinking(parts);
                }
                State::Answer { begun } => {
                    if !begun {
                        bytes = self.skip_newlines(bytes);
                    }
                    self.state = State::Answer { begun: begun || !bytes.is_empty() };
                    return self.give(&mut parts.answer, bytes);
                }
            }
        }
    }

    fn end_thinking(&mut self, parts: &mut Parts) {
        // Held bytes are newlines: the tag that could have been begun there did not come.
        self.decided += std::mem::take(&mut self.held).len();
        parts.thinking_ends = true;
        self.state = State::Answer { begun: false };
    }

    fn skip_newlines<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let rest = &bytes[bytes.iter().take_while(|byte| **byte == b'\n').count()..];
        self.decided += bytes.len() - rest.len();
        rest
    }

    fn give(&mut self, part: &mut Part, text: &[u8]) {
        if part.text.is_empty() {
            part.at = self.decided;
        }
        part.text.extend_from_slice(text);
        self.decided += text.len();
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.held = bytes.to_vec();
    }
}

/// The bytes before newlines, and before the start of a closing tag, at the end: these may be the edge of the think
/// block.
fn undecided(bytes: &[u8], declared: bool) -> &[u8] {
    let tag =
        if declared { 0 } else { (1..CLOSE.len()).rev().find(|len| bytes.ends_with(&CLOSE[..*len])).unwrap_or(0) };
    trim_newlines(&bytes[..bytes.len() - tag])
}

fn trim_newlines(bytes: &[u8]) -> &[u8] {
    let newlines = bytes.iter().rev().take_while(|byte| **byte == b'\n').count();
    &bytes[..bytes.len() - newlines]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The channels of an answer that comes in pieces of so many bytes.
    fn split(answer: &str, piece: usize) -> (String, usize, String, usize) {
        let mut markup = Markup::start();
        let (mut thinking, mut said) = (Part::default(), Part::default());
        let mut take = |parts: Parts| {
            for (whole, part) in [(&mut thinking, parts.thinking), (&mut said, parts.answer)] {
                if !part.text.is_empty() {
                    if whole.text.is_empty() {
                        whole.at = part.at;
                    }
                    assert_eq!(part.at, whole.at + whole.text.len(), "text of a channel is in one piece");
                    whole.text.extend(part.text);
                }
            }
        };
        for bytes in answer.as_bytes().chunks(piece) {
            take(markup.push(bytes));
        }
        take(markup.finish());
        assert_eq!(markup.decided(), answer.len());
        let text = |part: &Part| String::from_utf8(part.text.clone()).unwrap();
        (text(&thinking), thinking.at, text(&said), said.at)
    }

    #[test]
    fn channels_of_an_answer() {
        let table = [
            // answer                                thinking     at  said          at
            ("hello", "", 0, "hello", 0),
            ("\n\nhello\n", "", 0, "hello\n", 2),
            ("<think>\na\n</think>\n\nhello", "a", 8, "hello", 20),
            ("\n<think>\n\n</think>\n\nhello", "", 0, "hello", 20),
            ("<think>a\n\nb</think>c\n", "a\n\nb", 7, "c\n", 19),
            ("<think>\na</thin</think>k>", "a</thin", 8, "k>", 23),
            ("<think>\na\n</think>\n</think>b", "a", 8, "</think>b", 19),
            ("<think>never\n\n", "never\n\n", 7, "", 0),
            ("<think>never</thi", "never</thi", 7, "", 0),
            ("<thin", "", 0, "<thin", 0),
            ("<thing>", "", 0, "<thing>", 0),
            ("a <think>b</think>", "", 0, "a <think>b</think>", 0),
            ("\n\n", "", 0, "", 0),
            ("", "", 0, "", 0),
        ];
        for (answer, thinking, thinking_at, said, said_at) in table {
            for piece in [1, 2, 3, 7, 100] {
                let expected = (thinking.to_owned(), thinking_at, said.to_owned(), said_at);
                assert_eq!(split(answer, piece), expected, "{answer:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn thinking_that_the_caller_names() {
        let mut markup = Markup::start();
        let parts = markup.push_thinking(b"\n<think>a</think>\n").unwrap();
        assert_eq!(parts.thinking.text, b"<think>a</think>");
        assert_eq!(markup.push_thinking(b"\nb\n\n").unwrap().thinking.text, b"\n\nb");
        let parts = markup.push(b"\n<think>c");
        assert!(parts.thinking_ends && parts.thinking.text.is_empty());
        assert_eq!((parts.answer.text.as_slice(), parts.answer.at), (b"<think>c".as_slice(), 23));
        assert_eq!(markup.push_thinking(b"d"), None);
    }
}
