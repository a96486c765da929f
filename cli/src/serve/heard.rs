//! Texts in the log, where the settings ask for them (`log_texts`): of what the policy finds, the words in which it is.

use qwenguard::{Call, Reply, Violation};

/// Bytes before a violation that are told with it: it is the end of what it is about.
const BEFORE: usize = 200;

/// What was said of an answer, for the log.
#[derive(Clone, Default)]
pub(super) struct Heard {
    answer: Vec<u8>,
    /// What is in the log already: each update of a policy in shadow mode tells it again.
    told: Vec<Violation>,
}

impl Heard {
    /// Takes a call and its answer, and puts the text of what was found into the log.
    pub(super) fn take(&mut self, call: Call<'_>, reply: &Reply) {
        match call {
            Call::Prompt(_) | Call::NextTurn(_) => *self = Heard::default(),
            Call::Text(bytes) | Call::Thinking(bytes) => self.answer.extend_from_slice(bytes),
            Call::Truncate(length) => self.answer.truncate(length),
            _ => {}
        }
        match (call, reply) {
            (Call::Prompt(messages) | Call::NextTurn(messages), Reply::Prompt(check)) if check.finding.is_some() => {
                let text = messages.last().map(|message| message.content.as_str()).unwrap_or_default();
                tracing::info!(text, "text of a prompt");
            }
            (_, Reply::Update(update)) => {
                update.flags.iter().chain(&update.violation).for_each(|violation| self.tell(violation))
            }
            _ => {}
        }
    }

    fn tell(&mut self, violation: &Violation) {
        if self.told.contains(violation) {
            return;
        }
        self.told.push(violation.clone());
        let (start, end) = (violation.bytes.start, violation.bytes.end.min(self.answer.len()));
        let text = self.answer.get(start.saturating_sub(BEFORE)..end).unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        tracing::info!(text = &*text, start, end, "text of a violation");
    }
}
