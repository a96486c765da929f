//! What a run would do, and how long it would take.

use std::{
    fmt::{Display, Write},
    io,
    time::Instant,
};

use qwenguard::{Decoding, RewardForm, RewardRule, TextOverflow};

use super::{
    Task,
    columns::{Columns, Reading},
    job::{Folder, Job},
    kind::Kind,
    output::{self, Target},
    source::Source,
};
use crate::{Failure, Outcome, look::Look};

/// Rows that are judged to see how fast it goes.
const SAMPLE: usize = 64;

/// Lines of a name and a value.
#[derive(Default)]
struct Plan(String);

impl Plan {
    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name:<9}{value}");
    }
}

/// Writes it to standard output.
pub(super) fn show(task: &Task, source: &mut Source, job: &Job, target: &Target) -> Result<Outcome, Failure> {
    let mut plan = Plan::default();
    let files: Vec<_> = source.files().map(|path| path.display().to_string()).collect();
    plan.line("input", files.first().map_or("", |file| file));
    if files.len() > 1 {
        plan.line("", format!("and {} more, to {}", files.len() - 1, files[files.len() - 1]));
    }
    plan.judging(task);
    let done = match target {
        Target::Folder { path, .. } => {
            let (parts, rows) = Folder::look(path, job.clone())?;
            let there = if parts > 0 { format!(", of which {parts} are there, of {rows} rows") } else { String::new() };
            plan.line("output", format!("{}: parts of {} rows{there}", path.display(), task.part_rows));
            rows
        }
        Target::File { path, .. } => {
            output::must_be_new(path)?;
            plan.line("output", format!("{}, when all is done, {} rows at a time", path.display(), task.part_rows));
            0
        }
    };
    source.skip(done)?;
    let left = plan.sample(task, source, done > 0)?;
    io::Write::write_all(&mut io::stdout(), Look::of_output().text(&plan.0).as_bytes())?;
    Ok(Outcome { stopped: false, failed: left + done == 0 })
}

impl Plan {
    /// How rows are judged, and which are written.
    fn judging(&mut self, task: &Task) {
        self.line("columns", columns(&task.reading));
        self.line("bundle", &task.guard.info().bundle);
        self.line("decoding", decoding(task.options.decoding));
        self.line("too long", overflow(task.options.overflow));
        self.line("policy", if task.layout.by_policy { "as given: its decision and rule are written" } else { "none" });
        self.line("reward", task.reward.map_or("none".to_owned(), |rule| reward(&rule, &task.reading)));
        self.line("filters", task.keep.words());
        self.line("jobs", format!("{} rows at once", task.jobs));
    }

    /// Judges some rows, and gives how many there are with those that follow them.
    fn sample(&mut self, task: &Task, source: &mut Source, goes_on: bool) -> Result<u64, Failure> {
        let begun = Instant::now();
        let sample = match source.read(SAMPLE)? {
            Some(rows) => task.judge(&source.said(&rows, &task.reading), |_| ())?,
            None => Vec::new(),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let left = sample.len() as u64 + rest(source)?;
        self.line("rows", format!("{left}{}", if goes_on { " left" } else { "" }));
        let errors = sample.iter().filter(|verdict| verdict.is_err()).count();
        let written = sample.iter().filter(|verdict| task.keep.keeps(verdict)).count();
        let counts = format!("of which {errors} cannot be judged and {written} would be written");
        self.line("sample", format!("{} rows in {seconds:.1} s, {counts}", sample.len()));
        if let Some(error) = sample.iter().find_map(|verdict| verdict.as_ref().err()) {
            self.line("", error);
        }
        if !sample.is_empty() {
            self.line("time", format!("about {}", duration(left as f64 * seconds / sample.len() as f64)));
        }
        Ok(left)
    }
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

fn columns(reading: &Reading) -> String {
    let mut words = match &reading.columns {
        Columns::Messages(name) => vec![format!("{name} (messages)")],
        Columns::Texts { prompt, response } => {
            let response = response.iter().map(|response| format!("{response} (response)"));
            std::iter::once(format!("{prompt} (prompt)")).chain(response).collect()
        }
    };
    words.extend(reading.thinking.iter().map(|name| format!("{name} (thinking)")));
    words.extend(reading.helpfulness.iter().map(|name| format!("{name} (helpfulness)")));
    words.join(", ")
}

fn decoding(decoding: Decoding) -> &'static str {
    match decoding {
        Decoding::Constrained => "constrained",
        Decoding::LabelOnly => "label-only: the level, without categories and refusal",
        Decoding::Free => "free: without probabilities",
    }
}

fn overflow(overflow: TextOverflow) -> &'static str {
    match overflow {
        TextOverflow::Refuse => "is an error",
        TextOverflow::Head => "the beginning is judged",
        TextOverflow::Tail => "the end is judged",
        TextOverflow::Windows => "all is judged, in windows",
    }
}

fn reward(rule: &RewardRule, reading: &Reading) -> String {
    let controversial = if rule.controversial_is_safe { " or Controversial" } else { "" };
    let what = if reading.thinking.is_some() { "answer and thinking are" } else { "the answer is" };
    let RewardRule { safe, not_safe, not_safe_cap, refusal_cap, .. } = rule;
    match rule.form {
        RewardForm::Guard => format!("guard: {safe} if {what} Safe{controversial}, else {not_safe}"),
        RewardForm::Hybrid => format!(
            "hybrid: the score of helpfulness if {what} Safe{controversial}, else at most {not_safe_cap}; \
             for a refusal at most {refusal_cap}"
        ),
    }
}

fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
