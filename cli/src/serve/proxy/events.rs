//! Server-sent events, taken apart as they arrive: bytes in any pieces in, whole events out.

use std::mem;

/// One event, or a comment between events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A line that keeps connections open, and says nothing.
    Comment,
    Message(Message),
}

/// What an event says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The lines of data, with line feeds between them.
    pub(crate) data: String,
}

/// Why events cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    NotUtf8,
    TooLong,
}

/// Finds events in bytes.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// Bytes of a line that has not ended.
    line: Vec<u8>,
    event: Message,
    has_data: bool,
    /// A carriage return ended the last line: a line feed right after it belongs to it.
    after_return: bool,
    begun: bool,
    /// The most bytes of an event.
    most: usize,
}

impl Splitter {
    pub(crate) fn new(most: usize) -> Self {
        Splitter {
            line: Vec::new(),
            event: Message::default(),
            has_data: false,
            after_return: false,
            begun: false,
            most,
        }
    }

    /// Takes the next bytes, and gives the events that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Unreadable> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            if mem::take(&mut self.after_return) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let line = &rest[..end.unwrap_or(rest.len())];
            if self.line.len() + line.len() + self.event.data.len() > self.most {
                return Err(Unreadable::TooLong);
            }
            self.line.extend_from_slice(line);
            let Some(end) = end else { break };
            self.after_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
            let line = mem::take(&mut self.line);
            events.extend(self.end_line(&line)?);
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &[u8]) -> Result<Option<Event>, Unreadable> {
        let line = std::str::from_utf8(line).map_err(|_| Unreadable::NotUtf8)?;
        let line =
            if mem::replace(&mut self.begun, true) { line } else { line.strip_prefix('\u{feff}').unwrap_or(line) };
        if line.is_empty() {
            let event = mem::take(&mut self.event);
            // Without data an event is not dispatched.
            return Ok(mem::take(&mut self.has_data).then_some(Event::Message(event)));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => return Ok(Some(Event::Comment)),
            "data" => {
                if mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data += value;
            }
            // The names of events stand in the data, too.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<Event> {
        let mut splitter = Splitter::new(1000);
        pieces.iter().flat_map(|piece| splitter.push(piece).unwrap()).collect()
    }

    fn message(data: &str) -> Event {
        Event::Message(Message { data: data.into() })
    }

    #[test]
    fn events_come_whole_whatever_the_pieces() {
        let text = "\u{feff}: hello\n\ndata: {\"a\":\"\u{e9}\u{1f35e}\"}\r\n\r\nevent: x\rid:7\rdata: 1\rdata:2\r\rdata\n\ndata: [DONE]\n\n";
        let expected =
            [Event::Comment, message("{\"a\":\"\u{e9}\u{1f35e}\"}"), message("1\n2"), message(""), message("[DONE]")];
        assert_eq!(split(&[text.as_bytes()]), expected);
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(split(&pieces), expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_event_that_has_not_ended_is_none() {
        assert_eq!(split(&[b"data: a\n"]), []);
        assert_eq!(split(&[b"event: a\n\n"]), []);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert_eq!(Splitter::new(1000).push(b"data: \xff\n"), Err(Unreadable::NotUtf8));
        let mut splitter = Splitter::new(10);
        assert!(splitter.push(b"data: a\n\n").is_ok());
        assert_eq!(splitter.push(&[b'a'; 11]), Err(Unreadable::TooLong));
        let mut lines = Splitter::new(10);
        assert!(lines.push(b"data: abc\n").is_ok() && lines.push(b"data: abcdefg\n").is_err());
    }
}
