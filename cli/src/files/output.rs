//! Files that are written: under another name until they are whole.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

#[cfg(feature = "parquet")]
use super::table;
use super::{
    kind::Kind,
    lines::Text,
    message, named,
    source::{Rows, Source},
    verdict::{Layout, Verdict},
};
use crate::Failure;

/// Where the rows go.
#[derive(Debug)]
pub(super) enum Target {
    /// To parts in a folder.
    Folder { path: PathBuf, kind: Kind },
    /// To one file.
    File { path: PathBuf, kind: Kind },
}

impl Target {
    /// A name that ends as one of a data set is a file, any other a folder.
    pub(super) fn of(path: &Path, format: Option<&str>, input: Kind) -> Result<Self, Failure> {
        let asked = format.map(|name| {
            let unknown = || message(format!("--format {name}: there are jsonl, jsonl.gz, jsonl.zst and parquet"));
            Kind::named(name).ok_or_else(unknown)
        });
        let asked = asked.transpose()?;
        let target = match Kind::of(path) {
            Some(kind) if asked.is_some_and(|asked| asked != kind) => {
                return Err(named(path, "--format says otherwise than the name"));
            }
            Some(kind) if !path.is_dir() => Target::File { path: path.to_owned(), kind },
            _ => Target::Folder { path: path.to_owned(), kind: asked.unwrap_or(input) },
        };
        if !target.kind().takes(input) {
            let (input, other) = (input.end(), target.kind().end());
            let reason = format!("rows are written as what they were read as, and the input is {input}");
            return Err(named(path, format!("{reason}: convert the input to {other} first, or the output afterwards")));
        }
        Ok(target)
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Target::Folder { kind, .. } | Target::File { kind, .. } => *kind,
        }
    }
}

/// The name of a file until it is whole.
pub(super) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("_{name}"))
}

pub(super) fn must_be_new(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(named(path, "there is such a file already: remove it, or name another")),
        Err(_) => Ok(()),
    }
}

/// A file that is being written.
pub(super) struct Writer<'l> {
    path: PathBuf,
    layout: &'l Layout,
    to: To,
}

enum To {
    Lines(Box<Text>),
    #[cfg(feature = "parquet")]
    Table(Box<table::Writer>),
}

impl<'l> Writer<'l> {
    pub(super) fn create(path: &Path, kind: Kind, source: &Source, layout: &'l Layout) -> Result<Self, Failure> {
        #[cfg(not(feature = "parquet"))]
        let _ = source;
        let file = alone(path).map_err(|error| named(path, error))?;
        let to = match kind {
            Kind::Lines(packed) => To::Lines(Box::new(Text::new(file, packed).map_err(|error| named(path, error))?)),
            #[cfg(feature = "parquet")]
            Kind::Parquet => To::Table(Box::new(
                table::Writer::new(file, source.schema.as_ref(), layout).map_err(|error| named(path, error))?,
            )),
            #[cfg(not(feature = "parquet"))]
            Kind::Parquet => return Err(named(path, "this program was built without the feature parquet")),
        };
        Ok(Writer { path: path.to_owned(), layout, to })
    }

    /// Writes those of the rows that are kept.
    pub(super) fn write(
        &mut self,
        rows: &Rows,
        verdicts: &[Result<Verdict, String>],
        kept: &[bool],
    ) -> Result<(), Failure> {
        let written = match (&mut self.to, rows) {
            (To::Lines(text), Rows::Lines(rows)) => {
                text.write(rows, verdicts, kept, self.layout).map_err(|error| error.to_string())
            }
            #[cfg(feature = "parquet")]
            (To::Table(table), Rows::Table(rows)) => table.write(rows, verdicts, kept, self.layout),
            #[cfg(feature = "parquet")]
            _ => Err("rows of another kind".to_owned()),
        };
        written.map_err(|error| named(&self.path, error))
    }

    /// Ends the file and gives it its name: it is whole on the disk then, whatever happens.
    pub(super) fn publish(self, path: &Path) -> Result<(), Failure> {
        let file = match self.to {
            To::Lines(text) => text.finish().map_err(|error| error.to_string()),
            #[cfg(feature = "parquet")]
            To::Table(table) => table.finish(),
        };
        let file = file.map_err(|error| named(&self.path, error))?;
        publish(&file, &self.path, path).map_err(|error| named(path, error))
    }
}

/// An empty file that no other run writes to.
fn alone(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    lock(&file)?;
    file.set_len(0)?;
    Ok(file)
}

/// Locks a file until it is closed, at the latest by the end of the process.
pub(super) fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another run writes it"),
        TryLockError::Error(error) => error,
    })
}

/// Gives a file that is written its name.
pub(super) fn publish(file: &File, written: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(written, path)?;
    sync_folder(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Makes names last. Windows has no such call for folders.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
