//! A folder of parts: what is being done in it, and how far that is.
//!
//! `_manifest.json` says what the job is and, when all is done, what came of it. `_parts.jsonl` has a line for each part that
//! is done; it is written after the part has its name. A part without a line is made again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use qwenguard::{AnnotateOptions, Policy, RewardRule};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Task,
    columns::Columns,
    keep::Keep,
    kind::Kind,
    named,
    output::{Target, lock, publish},
    source::{Identity, Source},
};
use crate::{Failure, Outcome, look, message::ToolCalls};

/// What the job is.
const MANIFEST: &str = "_manifest.json";

/// The parts that are done.
const PARTS: &str = "_parts.jsonl";

/// What decides every byte of the parts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Job {
    /// Of the program.
    version: &'static str,
    bundle_sha256: String,
    /// Bundles of other weights or caches have other digests; other providers compute other last digits.
    provider: String,
    input: Vec<Identity>,
    columns: Columns,
    helpfulness: Option<String>,
    thinking: Option<String>,
    tool_calls: &'static str,
    options: AnnotateOptions,
    /// If rules were given.
    policy: Option<Policy>,
    reward: Option<RewardRule>,
    keep: Keep,
    prefix: String,
    format: &'static str,
    part_rows: usize,
}

impl Job {
    pub(super) fn of(task: &Task, source: &Source, policy: Option<&Policy>, target: &Target) -> Self {
        let info = task.guard.info();
        Job {
            version: env!("CARGO_PKG_VERSION"),
            bundle_sha256: info.bundle_sha256.clone(),
            provider: info.provider.clone(),
            input: source.identities().to_vec(),
            columns: task.reading.columns.clone(),
            helpfulness: task.reading.helpfulness.clone(),
            thinking: task.reading.thinking.clone(),
            tool_calls: match task.reading.tool_calls {
                ToolCalls::Judge => "judge",
                ToolCalls::Refuse => "refuse",
            },
            options: task.options,
            policy: policy.cloned(),
            reward: task.reward,
            keep: task.keep.clone(),
            prefix: task.layout.prefix.clone(),
            format: target.kind().end(),
            part_rows: task.part_rows,
        }
    }
}

/// What the manifest says.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// The [`Job`].
    job: Value,
    /// What came of all of it, when it is done.
    done: Option<Totals>,
}

/// A part that is done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) name: String,
    /// Rows of the input that were read for it.
    pub(super) rows: u64,
    #[serde(flatten)]
    pub(super) totals: Totals,
}

/// How many rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    /// Were read.
    #[serde(rename = "read")]
    pub(super) rows: u64,
    pub(super) written: u64,
    pub(super) safe: u64,
    pub(super) controversial: u64,
    #[serde(rename = "unsafe")]
    pub(super) not_safe: u64,
    /// Could not be judged.
    pub(super) errors: u64,
    /// Are stopped: by the rules, or without any because they are not Safe.
    pub(super) stopped: u64,
}

impl Totals {
    pub(super) fn add(&mut self, other: &Totals) {
        let Totals { rows, written, safe, controversial, not_safe, errors, stopped } = other;
        self.rows += rows;
        self.written += written;
        self.safe += safe;
        self.controversial += controversial;
        self.not_safe += not_safe;
        self.errors += errors;
        self.stopped += stopped;
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome { stopped: self.stopped > 0, failed: self.errors > 0 || self.rows == 0 }
    }

    /// Tells people.
    pub(super) fn tell(&self) {
        let Totals { rows, written, safe, controversial, not_safe, errors, .. } = self;
        look::tell(&format!(
            "{rows} rows: {safe} safe, {controversial} controversial, {not_safe} unsafe, {errors} not judged; {written} written"
        ));
    }
}

/// The folder of a job.
pub(super) struct Folder {
    path: PathBuf,
    job: Value,
    /// Locked as long as this run goes on.
    parts: File,
    done: Vec<Part>,
    totals: Totals,
}

impl Folder {
    /// Begins a job in a folder that is new or empty, or goes on with it. A folder with another job or without one is
    /// left alone.
    pub(super) fn open(path: &Path, job: Job) -> Result<Self, Failure> {
        let job = serde_json::to_value(job).map_err(|error| named(path, error))?;
        if read_manifest(path)?.is_none() {
            must_be_empty(path)?;
        }
        fs::create_dir_all(path).map_err(|error| named(path, error))?;
        let at = path.join(PARTS);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let mut parts = options.open(&at).map_err(|error| named(&at, error))?;
        lock(&parts).map_err(|error| named(&at, error))?;
        // Another run may have begun, or even ended, meanwhile.
        match read_manifest(path)? {
            Some(manifest) => check_same(path, &manifest.job, &job)?,
            None => write_manifest(path, &Manifest { job: job.clone(), done: None })?,
        }
        let done = read_parts(&mut parts).map_err(|error| named(&at, error))?;
        let mut totals = Totals::default();
        for part in &done {
            if !path.join(&part.name).is_file() {
                return Err(named(&path.join(&part.name), format!("it is gone, and {PARTS} says that it was written")));
            }
            totals.add(&part.totals);
        }
        Ok(Folder { path: path.to_owned(), job, parts, done, totals })
    }

    /// The parts of a job that are done, for people; opens and changes nothing.
    pub(super) fn look(path: &Path, job: Job) -> Result<(usize, u64), Failure> {
        let job = serde_json::to_value(job).map_err(|error| named(path, error))?;
        match read_manifest(path)? {
            Some(manifest) => check_same(path, &manifest.job, &job)?,
            None => {
                must_be_empty(path)?;
                return Ok((0, 0));
            }
        }
        let at = path.join(PARTS);
        let text = fs::read(&at).map_err(|error| named(&at, error))?;
        let parts = whole_lines(&text).map_err(|error| named(&at, error))?.0;
        Ok((parts.len(), parts.iter().map(|part| part.rows).sum()))
    }

    /// Rows of the input that are done.
    pub(super) fn rows(&self) -> u64 {
        self.done.iter().map(|part| part.rows).sum()
    }

    /// The name of the part that is next.
    pub(super) fn next_part(&self, kind: Kind) -> String {
        format!("part-{:06}.{}", self.done.len(), kind.end())
    }

    /// A part has its name.
    pub(super) fn add(&mut self, part: Part) -> Result<(), Failure> {
        let write = |file: &mut File| {
            let mut line = serde_json::to_vec(&part)?;
            line.push(b'\n');
            file.write_all(&line)?;
            file.sync_data()
        };
        write(&mut self.parts).map_err(|error| named(&self.path.join(PARTS), error))?;
        self.totals.add(&part.totals);
        self.done.push(part);
        Ok(())
    }

    /// All rows are judged.
    pub(super) fn finish(self) -> Result<Totals, Failure> {
        write_manifest(&self.path, &Manifest { job: self.job, done: Some(self.totals.clone()) })?;
        Ok(self.totals)
    }
}

fn read_manifest(folder: &Path) -> Result<Option<Manifest>, Failure> {
    let at = folder.join(MANIFEST);
    match fs::read(&at) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| named(&at, error)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(named(&at, error)),
    }
}

fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let at = folder.join(MANIFEST);
    let new = folder.join(format!("{MANIFEST}.new"));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
        publish(&file, &new, &at)
    };
    write().map_err(|error| named(&at, error))
}

/// A folder of somebody else stays as it is. Of a run that ended before it wrote its manifest there may be files.
fn must_be_empty(folder: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(named(folder, error)),
    };
    for entry in entries {
        let name = entry.map_err(|error| named(folder, error))?.file_name();
        if name != PARTS && name != format!("{MANIFEST}.new").as_str() {
            let reason = format!("there is something in it already, and no {MANIFEST}: name a new folder");
            return Err(named(folder, reason));
        }
    }
    Ok(())
}

/// Refuses a job that is not the one in the folder, and says in what they differ.
fn check_same(folder: &Path, there: &Value, here: &Value) -> Result<(), Failure> {
    let (Some(there), Some(here)) = (there.as_object(), here.as_object()) else {
        return Err(named(&folder.join(MANIFEST), "it does not say what the job is"));
    };
    for (field, wanted) in here {
        let found = there.get(field).unwrap_or(&Value::Null);
        if found != wanted {
            let reason =
                format!("another job is in this folder: its {field} is {found}, and now {wanted}; name a new folder");
            return Err(named(folder, reason));
        }
    }
    Ok(())
}

/// The parts that are done; of a line that was not written to its end nothing is left.
fn read_parts(file: &mut File) -> io::Result<Vec<Part>> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let (parts, bytes) = whole_lines(&text)?;
    file.set_len(bytes as u64)?;
    file.seek(SeekFrom::End(0))?;
    Ok(parts)
}

fn whole_lines(text: &[u8]) -> io::Result<(Vec<Part>, usize)> {
    let bytes = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let parts: Result<_, _> = serde_json::Deserializer::from_slice(&text[..bytes]).into_iter().collect();
    Ok((parts?, bytes))
}
