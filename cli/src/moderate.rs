//! `qwenguard moderate`: conversations in, verdicts out.

use std::{
    fs::File,
    io::Read,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use qwenguard::{Config, Guard, Policy};

use crate::{
    Failure, Outcome, follow,
    judging::Manner,
    lines,
    look::{self, Look, complain},
    message::ToolCalls,
    provider::Choice,
    read_named,
    run::Run,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The bundle's folder; without it the built-in demonstration guard.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    /// Write one JSON object per event.
    #[arg(long)]
    json: bool,
    /// Judge the whole answer even where it would be stopped.
    #[arg(long)]
    no_stop: bool,
    /// Judge so many conversations at once; the output is the same for any number. Default: as many as fill the
    /// engine's steps.
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    jobs: Option<NonZeroUsize>,
    /// Count levels and categories, and write that at the end: to standard error, or as the last event of `--json`.
    #[arg(long, conflicts_with = "follow")]
    summary: bool,
    /// Tool calls of the assistant: judge them as part of what it says, or refuse messages that have any.
    #[arg(long, value_enum, default_value_t = ToolCalls::Judge, value_name = "WHAT")]
    tool_calls: ToolCalls,
    /// Judge one answer while it is being written to standard input, and write what is cleared of it, as it came.
    #[arg(long, requires = "prompt")]
    follow: bool,
    /// What the user asked, for `--follow`.
    #[arg(long, value_name = "TEXT", requires = "follow")]
    prompt: Option<String>,
    /// The rules, in TOML, in place of those of the configuration.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) policy: Option<PathBuf>,
    /// Conversations, one JSON object a line, or with `--follow` the answer; `-` is standard input.
    #[arg(default_value = "-", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

/// Where conversations, or an answer, come from.
pub(crate) type Input = Box<dyn Read + Send>;

pub(crate) fn open_input(path: &Path) -> Result<Input, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = File::open(path).map_err(|error| Failure::Message(format!("{}: {error}", look::file_name(path))))?;
    Ok(Box::new(file))
}

/// The rules that the command line names, or else those of the configuration.
pub(crate) fn read_policy(path: Option<&Path>, configured: &Policy) -> Result<Policy, Failure> {
    path.map_or_else(|| Ok(configured.clone()), |path| read_named(path, Policy::from_toml))
}

impl Arguments {
    /// The configuration for this command. Streams wait for those before them, so none may expire.
    pub(crate) fn config(&self, mut config: Config) -> Config {
        self.choice.apply(&mut config);
        if !self.follow {
            config.engine.idle_seconds = 0;
        }
        config
    }
}

pub(crate) fn run(
    guard: &Guard,
    policy: Policy,
    input: Input,
    config: &Config,
    arguments: &Arguments,
) -> Result<Outcome, Failure> {
    let manner = Manner { json: arguments.json, look: Look::of_output(), no_stop: arguments.no_stop };
    if let Some(prompt) = &arguments.prompt {
        return follow::run(guard, policy, prompt, input, manner);
    }
    // A policy that does not fit the guard is one error, not one for each line.
    drop(guard.stream_with(policy.clone())?);
    let jobs = arguments.jobs.map_or_else(|| default_jobs(config), NonZeroUsize::get).min(config.engine.max_streams);
    let lines = lines::read(input).map_err(|error| Failure::Message(format!("starting a thread: {error}")))?;
    let mut run = Run::new(guard, policy, manner, arguments.tool_calls, look::file_name(&arguments.file), jobs);
    let written = run.all(&lines).and_then(|()| run.end(arguments.summary));
    let mut outcome = run.outcome();
    if let Err(error) = written {
        outcome.failed = true;
        complain(&Failure::Output(error).to_string());
    }
    Ok(outcome)
}

/// Four times as many as fill a step with the pieces that answers are judged in: while a step runs, others make ready.
fn default_jobs(config: &Config) -> usize {
    (config.engine.step_tokens / 4).clamp(4, 256)
}
