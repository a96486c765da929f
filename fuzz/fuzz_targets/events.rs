//! Streams of events in any pieces, beside a reading of the whole: `cargo +nightly fuzz run events`.

#![no_main]

#[allow(dead_code, reason = "the proxy uses all of it")]
#[path = "../../cli/src/serve/proxy/events.rs"]
mod events;

use events::{Event, Message, Splitter};

/// The most bytes of an event here.
const MOST: usize = 200;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (sizes, bytes) = data.split_at(data.len().min(4));
    let whole = Splitter::new(MOST).push(bytes);
    let mut splitter = Splitter::new(MOST);
    let mut events = Vec::new();
    let mut error = None;
    let mut rest = bytes;
    for size in sizes.iter().cycle().map(|size| usize::from(*size) % 17 + 1) {
        if rest.is_empty() || error.is_some() {
            break;
        }
        let (piece, others) = rest.split_at(size.min(rest.len()));
        rest = others;
        match splitter.push(piece) {
            Ok(more) => events.extend(more),
            Err(reason) => error = Some(reason),
        }
    }
    match (whole, error) {
        (Ok(whole), None) => {
            assert_eq!(whole, events);
            assert_eq!(whole, read(bytes));
        }
        (Err(whole), Some(error)) => assert_eq!(whole, error),
        (whole, error) => panic!("{whole:?}, in pieces {error:?}"),
    }
});

/// The events of all the bytes, by the words of the standard: lines first, then fields.
fn read(bytes: &[u8]) -> Vec<Event> {
    // What ends no line is not read.
    let end = bytes.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    let text = std::str::from_utf8(&bytes[..end]).expect("it was read");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let mut data: Option<String> = None;
    for line in text.split_terminator('\n') {
        if line.is_empty() {
            events.extend(data.take().map(|data| Event::Message(Message { data })));
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (field, &mut data) {
            ("", _) => events.push(Event::Comment),
            ("data", Some(data)) => *data = format!("{data}\n{value}"),
            ("data", none) => *none = Some(value.to_owned()),
            _ => {}
        }
    }
    events
}
