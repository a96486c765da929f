//! What a run would do, and how long it would take.

use std::{fmt::Write, io, time::Instant};

use super::{
    Task,
    columns::Columns,
    job::{Folder, Job},
    kind::Kind,
    output::{self, Target},
    source::Source,
};
use crate::{Failure, Outcome, look::Look};

/// Rows that are judged to see how fast it goes.
const SAMPLE: usize = 64;

/// Writes it to standard output.
pub(super) fn show(task: &Task, source: &mut Source, job: &Job, target: &Target) -> Result<Outcome, Failure> {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<9}{value}");
    };
    let files: Vec<_> = source.files().map(|path| path.display().to_string()).collect();
    line("input", files.first().cloned().unwrap_or_default());
    if files.len() > 1 {
        line("", format!("and {} more, to {}", files.len() - 1, files[files.len() - 1]));
    }
    line("columns", columns(&task.reading.columns));
    line("bundle", task.guard.info().bundle.clone());
    let done = match target {
        Target::Folder { path, .. } => {
            let (parts, rows) = Folder::look(path, job.clone())?;
            let there = if parts > 0 { format!(", of which {parts} are there, of {rows} rows") } else { String::new() };
            line("output", format!("{}: parts of {} rows{there}", path.display(), task.part_rows));
            rows
        }
        Target::File { path, .. } => {
            output::must_be_new(path)?;
            line("output", format!("{}, when all is done", path.display()));
            0
        }
    };
    source.skip(done)?;
    let begun = Instant::now();
    let sample = match source.read(SAMPLE)? {
        Some(rows) => task.judge(&source.said(&rows, &task.reading), |_| ())?,
        None => Vec::new(),
    };
    let seconds = begun.elapsed().as_secs_f64();
    let left = sample.len() as u64 + rest(source)?;
    line("rows", format!("{left}{}", if done > 0 { " left" } else { "" }));
    let errors = sample.iter().filter(|verdict| verdict.is_err()).count();
    line("sample", format!("{} rows in {seconds:.1} s, of which {errors} cannot be judged", sample.len()));
    if let Some(error) = sample.iter().find_map(|verdict| verdict.as_ref().err()) {
        line("", error.clone());
    }
    if !sample.is_empty() {
        line("time", format!("about {}", duration(left as f64 * seconds / sample.len() as f64)));
    }
    let look = Look::of_output();
    io::Write::write_all(&mut io::stdout(), look.text(&text).as_bytes())?;
    Ok(Outcome { stopped: false, failed: left + done == 0 })
}

/// Counts the rows that are left.
fn rest(source: &mut Source) -> Result<u64, Failure> {
    match source.kind() {
        Kind::Parquet => Ok(source.units() - source.done()),
        Kind::Lines(_) => {
            let mut rows = 0;
            while let Some(read) = source.read(SAMPLE)? {
                rows += read.len() as u64;
            }
            Ok(rows)
        }
    }
}

fn columns(columns: &Columns) -> String {
    match columns {
        Columns::Messages(name) => format!("{name} (messages)"),
        Columns::Texts { prompt, response: None } => format!("{prompt} (prompt)"),
        Columns::Texts { prompt, response: Some(response) } => format!("{prompt} (prompt), {response} (response)"),
    }
}

fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
