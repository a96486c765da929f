//! The files of a data set.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[cfg(feature = "parquet")]
use super::table::{self, Table};
use super::{
    columns::{Reading, Said},
    kind::Kind,
    lines::{Lines, Row},
    message, named,
    verdict::Layout,
};
use crate::Failure;

/// How much of a file's beginning and of its end is looked at to tell it from others.
const ENDS: u64 = 1 << 20;

/// A file, as far as it must not change while a run goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    name: String,
    bytes: u64,
    /// SHA-256 of its first and its last MiB.
    ends_sha256: String,
}

/// Rows that were read together.
pub(super) enum Rows {
    Lines(Vec<Row>),
    #[cfg(feature = "parquet")]
    Table(table::Rows),
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        match self {
            Rows::Lines(rows) => rows.len(),
            #[cfg(feature = "parquet")]
            Rows::Table(rows) => rows.len(),
        }
    }
}

/// The data set, as far as it is read.
pub(super) struct Source {
    kind: Kind,
    files: Vec<(PathBuf, u64)>,
    identities: Vec<Identity>,
    names: Vec<String>,
    /// The file that is next.
    next: usize,
    open: Option<Open>,
    /// Units of the files before it.
    before: u64,
    #[cfg(feature = "parquet")]
    pub(super) schema: Option<table::Schema>,
}

/// The file that is read.
enum Open {
    Lines(Lines),
    #[cfg(feature = "parquet")]
    Table(Table),
}

impl Source {
    /// Looks at the files: all are of one kind and have the columns.
    pub(super) fn open(input: &Path, reading: &Reading, layout: &Layout) -> Result<Self, Failure> {
        let paths = files(input)?;
        let kind = Kind::of(&paths[0]).ok_or_else(|| unknown(&paths[0]))?;
        let mut source = Source {
            kind,
            files: Vec::new(),
            identities: Vec::new(),
            names: layout.names(),
            next: 0,
            open: None,
            before: 0,
            #[cfg(feature = "parquet")]
            schema: None,
        };
        for path in paths {
            let other = Kind::of(&path).ok_or_else(|| unknown(&path))?;
            if !kind.takes(other) {
                return Err(named(&path, format!("it is not of the kind of the files before it, .{}", kind.end())));
            }
            source.identities.push(Identity::of(&path).map_err(|error| named(&path, error))?);
            let units = source.look(&path, other, reading, layout)?;
            source.files.push((path, units));
        }
        Ok(source)
    }

    /// Checks a file, and gives its units: bytes of JSON lines, rows of a table.
    fn look(&mut self, path: &Path, kind: Kind, reading: &Reading, layout: &Layout) -> Result<u64, Failure> {
        match kind {
            Kind::Lines(packed) => {
                Lines::open(path, packed)?.check(reading, layout)?;
                fs::metadata(path).map(|data| data.len()).map_err(|error| named(path, error))
            }
            #[cfg(feature = "parquet")]
            Kind::Parquet => {
                let (schema, rows) = table::look(path, reading, layout)?;
                if self.schema.as_ref().is_some_and(|first| *first != schema) {
                    return Err(named(path, "its columns are not those of the first file"));
                }
                self.schema = Some(schema);
                Ok(rows)
            }
            #[cfg(not(feature = "parquet"))]
            Kind::Parquet => Err(named(path, "this program was built without the feature parquet")),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| &**path)
    }

    pub(super) fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// How much there is, in units of progress.
    pub(super) fn units(&self) -> u64 {
        self.files.iter().map(|(_, units)| units).sum()
    }

    /// How much of it was read.
    pub(super) fn done(&self) -> u64 {
        self.before
            + match &self.open {
                None => 0,
                Some(Open::Lines(lines)) => lines.done(),
                #[cfg(feature = "parquet")]
                Some(Open::Table(table)) => table.done(),
            }
    }

    /// The next rows, or none at the end.
    pub(super) fn read(&mut self, most: usize) -> Result<Option<Rows>, Failure> {
        match self.kind {
            Kind::Lines(_) => {
                let mut rows = Vec::new();
                while rows.len() < most {
                    match self.next_line()? {
                        Some(row) => rows.push(row),
                        None => break,
                    }
                }
                Ok(Some(rows).filter(|rows| !rows.is_empty()).map(Rows::Lines))
            }
            #[cfg(feature = "parquet")]
            Kind::Parquet => self.read_table(most),
            #[cfg(not(feature = "parquet"))]
            Kind::Parquet => Ok(None),
        }
    }

    /// Passes over rows that were judged before.
    pub(super) fn skip(&mut self, rows: u64) -> Result<(), Failure> {
        let gone = |left| message(format!("the input has {left} rows less than were judged before"));
        let mut left = rows;
        while left > 0 {
            match self.kind {
                Kind::Lines(_) => {
                    self.next_line()?.ok_or_else(|| gone(left))?;
                    left -= 1;
                }
                #[cfg(feature = "parquet")]
                Kind::Parquet => {
                    let Some(table) = self.table()? else { return Err(gone(left)) };
                    left -= table.skip(left)?;
                }
                #[cfg(not(feature = "parquet"))]
                Kind::Parquet => return Ok(()),
            }
        }
        Ok(())
    }

    /// What rows say.
    pub(super) fn said(&self, rows: &Rows, reading: &Reading) -> Vec<Result<Said, String>> {
        match rows {
            Rows::Lines(rows) => rows.iter().map(|row| row.said(reading, &self.names)).collect(),
            #[cfg(feature = "parquet")]
            Rows::Table(rows) => rows.said(reading),
        }
    }

    fn next_line(&mut self) -> Result<Option<Row>, Failure> {
        loop {
            if let Some(Open::Lines(lines)) = &mut self.open
                && let Some(row) = lines.next()?
            {
                return Ok(Some(row));
            }
            if !self.go_on()? {
                return Ok(None);
            }
        }
    }

    #[cfg(feature = "parquet")]
    fn read_table(&mut self, most: usize) -> Result<Option<Rows>, Failure> {
        let mut rows = table::Rows::default();
        while rows.len() < most {
            let wanted = most - rows.len();
            match self.table()? {
                Some(table) => table.read(wanted, &mut rows)?,
                None => break,
            }
        }
        Ok(Some(rows).filter(|rows| rows.len() > 0).map(Rows::Table))
    }

    /// The table that has rows still.
    #[cfg(feature = "parquet")]
    fn table(&mut self) -> Result<Option<&mut Table>, Failure> {
        while !matches!(&self.open, Some(Open::Table(table)) if !table.is_read()) {
            if !self.go_on()? {
                return Ok(None);
            }
        }
        Ok(self.open.as_mut().and_then(|open| if let Open::Table(table) = open { Some(table) } else { None }))
    }

    /// Opens the next file.
    fn go_on(&mut self) -> Result<bool, Failure> {
        self.open = None;
        self.before = self.files[..self.next].iter().map(|(_, units)| units).sum();
        let Some((path, _)) = self.files.get(self.next) else { return Ok(false) };
        self.next += 1;
        self.open = match Kind::of(path) {
            Some(Kind::Lines(packed)) => Some(Open::Lines(Lines::open(path, packed)?)),
            #[cfg(feature = "parquet")]
            Some(Kind::Parquet) => Some(Open::Table(Table::open(path)?)),
            _ => None,
        };
        Ok(true)
    }
}

impl Identity {
    fn of(path: &Path) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut ends = Vec::new();
        Read::by_ref(&mut file).take(ENDS).read_to_end(&mut ends)?;
        file.seek(SeekFrom::Start(bytes.saturating_sub(ENDS).max(ends.len() as u64)))?;
        file.take(ENDS).read_to_end(&mut ends)?;
        let digest = Sha256::digest(&ends).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Identity { name, bytes, ends_sha256: digest })
    }
}

/// The files of a data set: one, or those of a folder in the order of their names. As other programs do, it leaves out what
/// begins with `_` or `.`.
fn files(input: &Path) -> Result<Vec<PathBuf>, Failure> {
    if input == Path::new("-") {
        return Err(message("--out wants a file or a folder to read, not standard input"));
    }
    if !fs::metadata(input).map_err(|error| named(input, error))?.is_dir() {
        return Ok(vec![input.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(input).map_err(|error| named(input, error))? {
        let path = entry.map_err(|error| named(input, error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['_', '.']));
        if !hidden {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(named(input, "there is no file in it"));
    }
    files.sort();
    Ok(files)
}

fn unknown(path: &Path) -> Failure {
    named(path, format!("its name does not say what it is: it ends in none of {}", Kind::ends()))
}
