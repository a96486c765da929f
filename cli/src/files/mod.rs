//! `qwenguard annotate INPUT --out PATH`: a data set in, its rows with columns of the verdict out.

mod columns;
mod job;
mod judge;
mod keep;
mod kind;
mod lines;
mod output;
mod plan;
mod source;
#[cfg(feature = "parquet")]
mod table;
mod verdict;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use qwenguard::{AnnotateOptions, Guard, Policy, RewardForm, RewardRule, Risk};

use crate::{Failure, Outcome, look, message::ToolCalls, progress::Progress, read_named};
use columns::{Columns, Reading};
use job::{Folder, Job, Part, Totals};
use keep::Keep;
use kind::Kind;
use output::{Target, Writer};
use source::Source;
use verdict::{Layout, Verdict};

/// A data set in files.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Data sets")]
pub(crate) struct Options {
    /// Annotate a data set: JSON lines (.jsonl, .jsonl.gz, .jsonl.zst) or Parquet, one file or a folder of them. Every row is written as
    /// it is, with columns of the verdict: to a file of this name, which is there when all is done, or to a folder, in parts. A run
    /// that was ended goes on in its folder where it was.
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    out: Option<PathBuf>,
    /// The column with the conversation: a list of messages, or that as JSON in a text.
    #[arg(long, value_name = "NAME", default_value = "messages", requires = "out")]
    messages_column: String,
    /// A column with what the user asks, in place of whole conversations.
    #[arg(long, value_name = "NAME", requires = "out")]
    prompt_column: Option<String>,
    /// A column with the answer to it: responses are judged, not prompts.
    #[arg(long, value_name = "NAME", requires = "prompt_column")]
    response_column: Option<String>,
    /// A column with what the model thought before this answer, for --reward: the answer and the thinking are judged, each as a
    /// response to the prompt, and what is rewarded as safe is safe in both. Null and empty are no thinking.
    #[arg(long, value_name = "NAME", requires_all = ["response_column", "reward"])]
    thinking_column: Option<String>,
    /// What the names of the new columns begin with.
    #[arg(long, value_name = "TEXT", default_value = "guard_", requires = "out")]
    prefix: String,
    /// In which format parts are written: that of the input, compressed as it is or otherwise.
    #[arg(long, value_name = "NAME", requires = "out")]
    format: Option<String>,
    /// Rows of the input in a part. They are in memory together.
    #[arg(long, value_name = "N", default_value = "1000", requires = "out")]
    part_rows: NonZeroUsize,
    /// Judge so many rows at once. What is said of a row does not depend on it.
    #[arg(long, value_name = "N", default_value = "128", requires = "out")]
    jobs: NonZeroUsize,
    #[command(flatten)]
    keep: keep::Filters,
    /// A reward for each response, by the rule in this TOML file.
    #[arg(long, value_name = "FILE", requires = "out", value_hint = clap::ValueHint::FilePath)]
    reward: Option<PathBuf>,
    /// The column with the score of helpfulness that a rule of the form "hybrid" needs.
    #[arg(long, value_name = "NAME", requires = "reward")]
    helpfulness_column: Option<String>,
    /// Write what would be done, judge a few rows for how long it will take, and write no data.
    #[arg(long, requires = "out")]
    dry_run: bool,
}

/// The most rows of a part of which standard error is told why they could not be judged. All are in the output.
const MOST_COMPLAINTS: usize = 10;

/// What the run is to do, in full.
pub(super) struct Task<'a> {
    guard: &'a Guard,
    options: AnnotateOptions,
    reading: Reading,
    keep: Keep,
    reward: Option<RewardRule>,
    layout: Layout,
    part_rows: usize,
    jobs: usize,
}

impl Options {
    pub(crate) fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    /// Annotates the files.
    pub(crate) fn run(
        &self,
        guard: &Guard,
        policy: Option<&Policy>,
        input: &Path,
        out: &Path,
        options: AnnotateOptions,
        tool_calls: ToolCalls,
    ) -> Result<Outcome, Failure> {
        let reward = self.reward.as_deref().map(|path| read_named(path, RewardRule::from_toml)).transpose()?;
        let helpfulness = self.helpfulness_column.clone();
        if reward.is_some_and(|rule| rule.form == RewardForm::Hybrid) && helpfulness.is_none() {
            return Err(message("--reward: the form \"hybrid\" needs --helpfulness-column"));
        }
        let columns = match &self.prompt_column {
            Some(prompt) => Columns::Texts { prompt: prompt.clone(), response: self.response_column.clone() },
            None => Columns::Messages(self.messages_column.clone()),
        };
        let thinking = self.thinking_column.clone();
        let layout =
            Layout::new(&self.prefix, policy.is_some(), reward.is_some(), thinking.is_some(), options.overflow);
        let reading = Reading { columns, helpfulness, thinking, tool_calls };
        let mut source = Source::open(input, &reading, &layout)?;
        let target = Target::of(out, self.format.as_deref(), source.kind())?;
        let task = Task {
            guard,
            options,
            reading,
            keep: self.keep.read(guard)?,
            reward,
            layout,
            part_rows: self.part_rows.get(),
            jobs: self.jobs.get(),
        };
        let job = Job::of(&task, &source, policy, &target);
        match (self.dry_run, &target) {
            (true, _) => plan::show(&task, &mut source, &job, &target),
            (false, Target::Folder { path, kind }) => task.in_parts(&mut source, path, *kind, job),
            (false, Target::File { path, kind }) => task.in_one(&mut source, path, *kind),
        }
    }
}

impl Task<'_> {
    /// Writes a folder: part after part, each there as a whole or not at all.
    fn in_parts(&self, source: &mut Source, path: &Path, kind: Kind, job: Job) -> Result<Outcome, Failure> {
        let mut folder = Folder::open(path, job)?;
        source.skip(folder.rows())?;
        let mut progress = Progress::of_rows(source.units(), source.done());
        while let Some(part) = self.part(source, &mut progress)? {
            let name = folder.next_part(kind);
            let mut writer = Writer::create(&path.join(format!("_{name}")), kind, source, &self.layout)?;
            writer.write(&part.rows, &part.verdicts, &part.kept)?;
            writer.publish(&path.join(&name))?;
            folder.add(Part { name, rows: part.verdicts.len() as u64, totals: part.totals() })?;
        }
        let totals = folder.finish()?;
        drop(progress);
        totals.tell();
        Ok(totals.outcome())
    }

    /// Writes one file, which has its name when all is in it.
    fn in_one(&self, source: &mut Source, path: &Path, kind: Kind) -> Result<Outcome, Failure> {
        output::must_be_new(path)?;
        let mut progress = Progress::of_rows(source.units(), 0);
        let mut writer = Writer::create(&output::beside(path), kind, source, &self.layout)?;
        let mut totals = Totals::default();
        while let Some(part) = self.part(source, &mut progress)? {
            writer.write(&part.rows, &part.verdicts, &part.kept)?;
            totals.add(&part.totals());
        }
        output::must_be_new(path)?;
        writer.publish(path)?;
        drop(progress);
        totals.tell();
        Ok(totals.outcome())
    }

    /// Reads and judges the next rows.
    fn part(&self, source: &mut Source, progress: &mut Progress) -> Result<Option<Judged>, Failure> {
        let Some(rows) = source.read(self.part_rows)? else { return Ok(None) };
        let said = source.said(&rows, &self.reading);
        let verdicts = self.judge(&said, |rows| progress.add_rows(rows))?;
        progress.at(source.done());
        for error in verdicts.iter().filter_map(|verdict| verdict.as_ref().err()).take(MOST_COMPLAINTS) {
            progress.aside(|| look::complain(&look::error_line(error)));
        }
        let kept = verdicts.iter().map(|verdict| self.keep.keeps(verdict)).collect();
        Ok(Some(Judged { rows, verdicts, kept, by_policy: self.layout.by_policy }))
    }
}

/// Rows with what is said of each.
struct Judged {
    rows: source::Rows,
    verdicts: Vec<Result<Verdict, String>>,
    kept: Vec<bool>,
    by_policy: bool,
}

impl Judged {
    fn totals(&self) -> Totals {
        let mut totals = Totals { rows: self.verdicts.len() as u64, ..Totals::default() };
        totals.written = self.kept.iter().filter(|kept| **kept).count() as u64;
        for verdict in &self.verdicts {
            match verdict {
                Err(_) => totals.errors += 1,
                Ok(verdict) => {
                    *match verdict.annotation.risk {
                        Risk::Safe => &mut totals.safe,
                        Risk::Controversial => &mut totals.controversial,
                        Risk::Unsafe => &mut totals.not_safe,
                    } += 1;
                    totals.stopped += u64::from(verdict.stops(self.by_policy));
                }
            }
        }
        totals
    }
}

/// A failure in words.
fn message(text: impl Into<String>) -> Failure {
    Failure::Message(text.into())
}

/// A failure with a file.
fn named(path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::Message(format!("{}: {reason}", look::file_name(path)))
}
