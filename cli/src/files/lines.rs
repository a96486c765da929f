//! Data sets as JSON lines.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::{Compression as Level, read::MultiGzDecoder, write::GzEncoder};
use serde_json::{Map, Value};

use super::{
    columns::{self, Reading, Said},
    kind::Packed,
    named,
    verdict::{Cell, Layout, Verdict},
};
use crate::{Failure, json, lines, look};

/// A line of the input that is not blank.
#[derive(Debug)]
pub(super) struct Row {
    /// Where it stands, for messages.
    pub(super) place: String,
    pub(super) text: Result<Vec<u8>, String>,
}

/// One file, read line by line.
pub(super) struct Lines {
    path: PathBuf,
    lines: lines::Lines<Box<dyn BufRead>>,
    /// Bytes of the file that were read so far.
    read: Arc<AtomicU64>,
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Lines {
    pub(super) fn open(path: &Path, packed: Packed) -> Result<Self, Failure> {
        let read = Arc::new(AtomicU64::new(0));
        let file = File::open(path).map_err(|error| named(path, error))?;
        let file = Counted { inner: file, read: read.clone() };
        let text: Box<dyn BufRead> = match packed {
            Packed::Not => Box::new(BufReader::with_capacity(1 << 18, file)),
            Packed::Gzip => Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(BufReader::new(file)))),
            Packed::Zstd => {
                let decoder = zstd::Decoder::new(file).map_err(|error| named(path, error))?;
                Box::new(BufReader::with_capacity(1 << 18, decoder))
            }
        };
        Ok(Lines { path: path.to_owned(), lines: lines::Lines::new(text, lines::MAX_LINE), read })
    }

    /// The next line. A file that cannot be read to its end is an error: the rest would be missing without a word.
    pub(super) fn next(&mut self) -> Result<Option<Row>, Failure> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        if let (true, Err(reason)) = (self.lines.failed(), &line.text) {
            return Err(named(&self.path, reason));
        }
        Ok(Some(Row { place: format!("{}, line {}", look::file_name(&self.path), line.number), text: line.text }))
    }

    /// Refuses a first row without the columns that are read, or with those that are written.
    pub(super) fn check(&mut self, reading: &Reading, layout: &Layout) -> Result<(), Failure> {
        let Some(row) = self.next()? else { return Ok(()) };
        let Ok(object) = row.text.and_then(|text| json::read_object(&text, &mut Value::Null)) else { return Ok(()) };
        let found: Vec<&str> = object.keys().map(|name| &**name).collect();
        columns::check(&self.path, &found, reading, layout)
    }

    /// Bytes of the file that were read.
    pub(super) fn done(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

impl Row {
    /// The conversation of the row.
    pub(super) fn said(&self, reading: &Reading, layout: &[String]) -> Result<Said, String> {
        let said = || {
            let text = self.text.as_ref().map_err(Clone::clone)?;
            let object = json::read_object(text, &mut Value::Null)?;
            if let Some(name) = layout.iter().find(|name| object.contains_key(*name)) {
                return Err(format!("there is a column {name} already: name another --prefix"));
            }
            let column = |name: &str| object.get(name).cloned().ok_or_else(|| format!("{name} is missing"));
            reading.said(column)
        };
        said().map_err(|reason| format!("{}: {reason}", self.place))
    }
}

/// A file that is being written.
pub(super) enum Text {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

impl Text {
    pub(super) fn new(file: File, packed: Packed) -> io::Result<Self> {
        let file = BufWriter::new(file);
        Ok(match packed {
            Packed::Not => Text::Plain(file),
            Packed::Gzip => Text::Gzip(GzEncoder::new(file, Level::default())),
            Packed::Zstd => Text::Zstd(zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        })
    }

    /// Writes the rows that are kept.
    pub(super) fn write(
        &mut self,
        rows: &[Row],
        verdicts: &[Result<Verdict, String>],
        kept: &[bool],
        layout: &Layout,
    ) -> io::Result<()> {
        let names = layout.names();
        for ((row, verdict), _) in rows.iter().zip(verdicts).zip(kept).filter(|(_, kept)| **kept) {
            self.write_all(&joined(row, &names, layout, verdict))?;
        }
        Ok(())
    }

    /// Writes what is left, and gives the file.
    pub(super) fn finish(self) -> io::Result<File> {
        let buffer = match self {
            Text::Plain(buffer) => buffer,
            Text::Gzip(encoder) => encoder.finish()?,
            Text::Zstd(encoder) => encoder.finish()?,
        };
        buffer.into_inner().map_err(io::IntoInnerError::into_error)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Text::Plain(buffer) => buffer.write_all(bytes),
            Text::Gzip(encoder) => encoder.write_all(bytes),
            Text::Zstd(encoder) => encoder.write_all(bytes),
        }
    }
}

/// A row as it was, byte by byte, with the new columns before its end. What cannot take them is the text of a column `input`.
fn joined(row: &Row, names: &[String], layout: &Layout, verdict: &Result<Verdict, String>) -> Vec<u8> {
    let cells = layout.cells(verdict);
    let mut columns: Map<String, Value> = names.iter().cloned().zip(cells.iter().map(Cell::json)).collect();
    let text = row.text.as_deref().unwrap_or_default();
    let takes = |object: Map<String, Value>| !names.iter().any(|name| object.contains_key(name));
    let takes = json::read_object(text, &mut Value::Null).is_ok_and(takes);
    let mut line = Vec::with_capacity(text.len() + 512);
    if let (true, Some(old)) = (takes, text.trim_ascii().strip_suffix(b"}")) {
        line.extend_from_slice(old.trim_ascii_end());
        if !line.ends_with(b"{") {
            line.push(b',');
        }
        line.extend_from_slice(&Value::Object(columns).to_string().as_bytes()[1..]);
    } else {
        columns.insert(format!("{}input", layout.prefix), String::from_utf8_lossy(text).into());
        line.extend_from_slice(Value::Object(columns).to_string().as_bytes());
    }
    line.push(b'\n');
    line
}
