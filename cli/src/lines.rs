//! The lines of the input, read ahead by a thread of their own: a few of them, each of bounded length.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::mpsc::{Receiver, sync_channel},
};

/// The most bytes of a line. More than any model's context holds.
pub(crate) const MAX_LINE: usize = 4 << 20;

/// Lines that are read before anybody asks for them.
const AHEAD: usize = 2;

/// A line that is not blank, or why there is none.
#[derive(Debug, PartialEq)]
pub(crate) struct Line {
    /// Counts from 1.
    pub(crate) number: usize,
    pub(crate) text: Result<Vec<u8>, String>,
}

/// Reads lines until the input ends or fails; the last line then says so.
pub(crate) fn read(input: Box<dyn Read + Send>) -> io::Result<Receiver<Line>> {
    let (send, lines) = sync_channel(AHEAD);
    std::thread::Builder::new().name("lines".into()).spawn(move || {
        for line in Lines::new(BufReader::new(input), MAX_LINE) {
            if send.send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(lines)
}

/// Lines that are not blank. After an input that fails there are no more.
pub(crate) struct Lines<R> {
    input: R,
    number: usize,
    limit: usize,
    failed: bool,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R, limit: usize) -> Self {
        Lines { input, number: 0, limit, failed: false }
    }

    /// Whether the input failed: the last line says how.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// The next line without its line break, or an error if it is too long. None at the end.
    fn next_line(&mut self) -> io::Result<Option<Result<Vec<u8>, String>>> {
        let mut line = Vec::new();
        self.input.by_ref().take(self.limit as u64 + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.pop_if(|last| *last == b'\n').is_none() && line.len() > self.limit {
            self.input.skip_until(b'\n')?;
            return Ok(Some(Err(format!("longer than {} bytes", self.limit))));
        }
        if self.number == 0 && line.starts_with("\u{FEFF}".as_bytes()) {
            line.drain(.."\u{FEFF}".len());
        }
        Ok(Some(Ok(line)))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        while !self.failed {
            let text = match self.next_line() {
                Ok(line) => line?,
                Err(error) => {
                    self.failed = true;
                    Err(error.to_string())
                }
            };
            self.number += 1;
            if !text.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()) {
                return Some(Line { number: self.number, text });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<(usize, Option<String>)> {
        let text = |line: Line| line.text.ok().map(|text| String::from_utf8(text).unwrap());
        Lines::new(input, 5).map(|line| (line.number, text(line))).collect()
    }

    #[test]
    fn lines_are_numbered_and_bounded() {
        let some = |number, text: &str| (number, Some(text.to_owned()));
        let table = [
            ("", vec![]),
            ("\n \r\n\t\n", vec![]),
            ("a\n\nb", vec![some(1, "a"), some(3, "b")]),
            ("\u{FEFF}a\r\n", vec![some(1, "a\r")]),
            ("\u{FEFF}\n", vec![]),
            ("12345\n123456\n1\n", vec![some(1, "12345"), (2, None), some(3, "1")]),
            ("12345", vec![some(1, "12345")]),
            ("1234567890", vec![(1, None)]),
            ("123456\n\n1", vec![(1, None), some(3, "1")]),
        ];
        for (input, expected) in table {
            assert_eq!(lines(input.as_bytes()), expected, "{input:?}");
        }
    }

    #[test]
    fn an_input_that_fails_says_so_once() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("torn"))
            }
        }
        let read: Vec<Line> = Lines::new(BufReader::new((&b"a\nb"[..]).chain(Broken)), 5).collect();
        let line = |number, text| Line { number, text };
        assert_eq!(read, [line(1, Ok(b"a".to_vec())), line(2, Err("torn".into()))]);
    }
}
