//! Events that wait until the guard has cleared their text.

use std::collections::VecDeque;

use serde_json::Value;

use super::{guarded::Guarded, unjudged};
use crate::serve::fault::Fault;

/// Bytes of events that may wait.
const HELD_BYTES: usize = 32 << 20;

/// An event of a stream: the lines before its data, and the data.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) head: String,
    pub(super) body: Value,
}

impl Sent {
    /// An event with a name of its own, as Anthropic's and the Responses interface have them.
    pub(super) fn named(body: Value) -> Self {
        let name = body["type"].as_str().unwrap_or_default();
        Sent { head: format!("event: {name}\n"), body }
    }

    pub(super) fn text(&self) -> String {
        format!("{}data: {}\n\n", self.head, self.body)
    }
}

/// Text of an event that can be cut.
#[derive(Debug)]
pub(super) struct Part {
    /// Where in the event it stands.
    pub(super) pointer: String,
    /// Where in the answer it starts.
    pub(super) start: usize,
    pub(super) length: usize,
}

/// An event whose text is not all cleared.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) event: Sent,
    pub(super) parts: Vec<Part>,
    /// It may be sent when so much of the answer may be shown.
    pub(super) end: usize,
    /// It says how the answer ended, which is not true of one that is stopped.
    pub(super) is_end: bool,
}

/// The events of one answer, in order.
#[derive(Default)]
pub(super) struct Queue {
    /// With the bytes that each came in.
    held: VecDeque<(Held, usize)>,
    bytes: usize,
}

impl Queue {
    /// Takes the next one, which came in so many bytes.
    pub(super) fn push(&mut self, held: Held, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes;
        if self.bytes > HELD_BYTES {
            return Err(unjudged(format!("more than {HELD_BYTES} bytes wait for what clears them")));
        }
        self.held.push_back((held, bytes));
        Ok(())
    }

    /// The events that may be sent now.
    pub(super) fn cleared(&mut self, guarded: &Guarded) -> Vec<Sent> {
        let is_cleared = |held: &Held| held.end <= guarded.horizon() && !(guarded.is_stopped() && held.is_end);
        let count = self.held.iter().take_while(|(held, _)| is_cleared(held)).count();
        let cleared: Vec<(Held, usize)> = self.held.drain(..count).collect();
        self.bytes -= cleared.iter().map(|(_, bytes)| bytes).sum::<usize>();
        cleared.into_iter().map(|(held, _)| held.event).collect()
    }

    /// Of an answer that is stopped: the event in which it is. All others are dropped.
    pub(super) fn stopped(&mut self) -> Option<Held> {
        let first = self.held.pop_front().map(|(held, _)| held);
        *self = Queue::default();
        first
    }
}

/// Cuts texts at the horizon. Tells whether any is left.
pub(super) fn cut(body: &mut Value, parts: &[Part], horizon: usize) -> bool {
    let mut is_left = false;
    for Part { pointer, start, length } in parts {
        let end = horizon.saturating_sub(*start).min(*length);
        if let Some(Value::String(text)) = body.pointer_mut(pointer) {
            // The horizon is between characters; what is not is the guard's error, and is not shown.
            let end = (0..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
            text.truncate(end);
            is_left |= end > 0;
        }
    }
    is_left
}

/// Of a list of blocks or items that came whole: cuts their texts, and keeps those of which something is cleared. `at` is where
/// the list stands, and `ends` says where in the answer each ends; one without texts of its own is kept whole or not at all.
pub(super) fn cut_list(body: &mut Value, at: &str, parts: &[Part], ends: &[usize], horizon: usize) {
    cut(body, parts, horizon);
    let begins = |index: usize| {
        let within = format!("{at}/{index}/");
        parts.iter().find(|part| part.pointer.starts_with(&within)).map(|part| part.start)
    };
    let Some(Value::Array(list)) = body.pointer_mut(at) else { return };
    let mut index = 0;
    list.retain(|_| {
        let is_left = ends[index] <= horizon || begins(index).is_some_and(|start| start < horizon);
        index += 1;
        is_left
    });
}
