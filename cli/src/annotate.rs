//! `qwenguard annotate`: conversations in, a verdict on each of them out, in the order of the input.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::mpsc::Receiver,
    time::Duration,
};

use qwenguard::{
    AnnotateOptions, Annotation, AnnotationMode, Config, Decision, Decoding, Guard, Message, Policy, Risk,
    TextOverflow, policy::AnnotationFinding,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Failure, Outcome,
    conversation::{Refused, read_whole},
    files,
    lines::{self, Line},
    look::{self, Look, complain},
    message::ToolCalls,
    moderate::{self, Input},
    progress::Progress,
    provider::Choice,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The bundle's folder; without it the built-in demonstration guard that writes its verdicts.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    /// Write one JSON object per conversation.
    #[arg(long, conflicts_with = "out")]
    json: bool,
    /// How a model that writes its verdict comes to it.
    #[arg(long, value_enum, default_value_t = How::Constrained, value_name = "HOW")]
    decoding: How,
    /// What is judged of a conversation that is longer than the model's context.
    #[arg(long, value_enum, default_value_t = Overflow::Refuse, value_name = "WHAT")]
    overflow: Overflow,
    /// Rules in TOML, in place of those of the configuration. With either, every line has what they decide, and the exit code is 3
    /// where they stop something.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    policy: Option<PathBuf>,
    /// Tool calls of the assistant: judge them as part of what it says, or refuse messages that have any.
    #[arg(long, value_enum, default_value_t = ToolCalls::Judge, value_name = "WHAT")]
    tool_calls: ToolCalls,
    #[command(flatten)]
    files: files::Options,
    /// Conversations, one JSON object a line; `-` is standard input. With --out a data set: a file, or a folder of files.
    #[arg(default_value = "-", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum How {
    /// Held to the answer's grammar: always a verdict, with all probabilities.
    Constrained,
    /// The same, but the level only.
    LabelOnly,
    /// The likeliest token each time, and what can be read in them.
    Free,
}

impl From<How> for Decoding {
    fn from(how: How) -> Self {
        match how {
            How::Constrained => Decoding::Constrained,
            How::LabelOnly => Decoding::LabelOnly,
            How::Free => Decoding::Free,
        }
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Overflow {
    /// Nothing: it is an error.
    Refuse,
    /// The beginning of its last message.
    Head,
    /// The end of its last message.
    Tail,
    /// All of its last message, in windows; the gravest counts.
    Windows,
}

impl From<Overflow> for TextOverflow {
    fn from(overflow: Overflow) -> Self {
        match overflow {
            Overflow::Refuse => TextOverflow::Refuse,
            Overflow::Head => TextOverflow::Head,
            Overflow::Tail => TextOverflow::Tail,
            Overflow::Windows => TextOverflow::Windows,
        }
    }
}

/// The most lines that are judged together.
const TOGETHER: usize = 256;

/// The most bytes of them: more wait for the next ones.
const TOGETHER_BYTES: usize = 16 << 20;

/// How long lines that are there wait for more.
const PATIENCE: Duration = Duration::from_millis(5);

/// A line as JSON.
#[derive(Serialize)]
struct Judged<'a> {
    id: &'a Value,
    #[serde(flatten)]
    annotation: &'a Annotation,
    #[serde(flatten)]
    decided: Option<Decided<'a>>,
}

/// What a policy decides.
#[derive(Serialize)]
struct Decided<'a> {
    decision: Decision,
    finding: &'a Option<AnnotationFinding>,
}

/// A line that could not be judged, as JSON.
#[derive(Serialize)]
struct Failed<'a> {
    id: &'a Value,
    line: usize,
    error: &'a str,
}

/// A line of the input.
struct Job {
    line: usize,
    bytes: usize,
    id: Value,
    messages: Result<Vec<Message>, String>,
}

impl Arguments {
    /// The configuration for this command.
    pub(crate) fn config(&self, mut config: Config) -> Result<Config, Failure> {
        self.choice.apply(&mut config);
        config.policy = moderate::read_policy(self.policy.as_deref(), &config.policy)?;
        Ok(config)
    }

    /// The input, unless it is a data set.
    pub(crate) fn input(&self) -> Result<Option<Input>, Failure> {
        self.files.out().is_none().then(|| moderate::open_input(&self.file)).transpose()
    }
}

pub(crate) fn run(
    guard: &Guard,
    policy: Option<&Policy>,
    input: Option<Input>,
    arguments: &Arguments,
) -> Result<Outcome, Failure> {
    let options = AnnotateOptions { decoding: arguments.decoding.into(), overflow: arguments.overflow.into() };
    match (input, arguments.files.out()) {
        (Some(input), _) => of_lines(guard, policy.is_some(), input, options, arguments),
        (None, Some(out)) => arguments.files.run(guard, policy, &arguments.file, out, options, arguments.tool_calls),
        (None, None) => unreachable!("without --out there is an input"),
    }
}

fn of_lines(
    guard: &Guard,
    by_policy: bool,
    input: Input,
    options: AnnotateOptions,
    arguments: &Arguments,
) -> Result<Outcome, Failure> {
    let progress = Progress::of_file(&arguments.file);
    let lines = lines::read(input).map_err(|error| Failure::Message(format!("starting a thread: {error}")))?;
    let look = Look::of_output();
    let name = look::file_name(&arguments.file);
    let mut writing = Writing {
        out: look::output(look),
        look,
        json: arguments.json,
        by_policy,
        name,
        progress,
        outcome: Outcome::default(),
    };
    let mut any = false;
    loop {
        let some = take(&lines, arguments.tool_calls);
        if some.is_empty() {
            break;
        }
        any = true;
        if let Err(error) = writing.annotate(guard, &options, some) {
            writing.outcome.failed = true;
            complain(&Failure::Output(error).to_string());
            break;
        }
    }
    if !any {
        writing.outcome.failed = true;
        complain(&format!("{}: there is no conversation in the input", writing.name));
    }
    Ok(writing.outcome)
}

/// The next lines: as many as are there, up to a limit, and at least one before the input ends.
fn take(lines: &Receiver<Line>, tool_calls: ToolCalls) -> Vec<Job> {
    let (mut jobs, mut bytes) = (Vec::new(), 0);
    let mut next = lines.recv().ok();
    while let Some(line) = next {
        bytes += line.text.as_ref().map_or(0, Vec::len);
        jobs.push(Job::read(line, tool_calls));
        let more = jobs.len() < TOGETHER && bytes < TOGETHER_BYTES;
        next = if more { lines.recv_timeout(PATIENCE).ok() } else { None };
    }
    jobs
}

impl Job {
    fn read(Line { number, text }: Line, tool_calls: ToolCalls) -> Self {
        let bytes = text.as_ref().map_or(0, Vec::len) + 1;
        let refused = |reason| Refused { id: Value::Null, reason };
        let (id, messages) = match text.map_err(refused).and_then(|line| read_whole(&line, tool_calls)) {
            Ok((id, messages)) => (id, Ok(messages)),
            Err(Refused { id, reason }) => (id, Err(reason)),
        };
        Job { line: number, bytes, id, messages }
    }
}

/// The output.
struct Writing {
    out: Box<dyn Write>,
    look: Look,
    json: bool,
    /// Whether a policy was given for it.
    by_policy: bool,
    /// What the input is called.
    name: String,
    progress: Progress,
    outcome: Outcome,
}

impl Writing {
    /// Judges some lines together and writes what is said of them.
    fn annotate(&mut self, guard: &Guard, options: &AnnotateOptions, jobs: Vec<Job>) -> io::Result<()> {
        let conversations = jobs.iter().filter_map(|job| job.messages.as_deref().ok());
        let mut annotations = guard.annotate_all(conversations, options).into_iter();
        for Job { line, bytes, id, messages } in jobs {
            self.progress.add(bytes);
            let said = match messages {
                Ok(_) => annotations.next().unwrap_or(Err(qwenguard::Error::EngineStopped)),
                Err(reason) => {
                    self.fail(line, &id, &reason)?;
                    continue;
                }
            };
            match said {
                Ok(annotation) => self.write(&id, &annotation)?,
                Err(error) => self.fail(line, &id, &error.to_string())?,
            }
        }
        self.out.flush()
    }

    fn write(&mut self, id: &Value, annotation: &Annotation) -> io::Result<()> {
        let decided = Decided { decision: annotation.decision, finding: &annotation.finding };
        let decided = Some(decided).filter(|_| self.by_policy);
        self.outcome.stopped |= match &decided {
            Some(decided) => decided.decision == Decision::Stop,
            None => annotation.risk != Risk::Safe,
        };
        if self.json {
            return writeln!(self.out, "{}", self.look.json(&Judged { id, annotation, decided }));
        }
        writeln!(self.out, "{}", self.look.line(&words(id, annotation, decided.as_ref())))
    }

    fn fail(&mut self, line: usize, id: &Value, reason: &str) -> io::Result<()> {
        self.outcome.failed = true;
        let text = format!("{}, line {line}: {}", self.name, look::error_line(reason));
        self.progress.aside(|| complain(&text));
        match self.json {
            true => writeln!(self.out, "{}", self.look.json(&Failed { id, line, error: reason })),
            false => Ok(()),
        }
    }
}

/// An annotation for people, in a line.
fn words(id: &Value, annotation: &Annotation, decided: Option<&Decided>) -> String {
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    let judged = match annotation.mode {
        AnnotationMode::Prompt => "prompt",
        AnnotationMode::Response => "response",
    };
    let probability = annotation.risk_probabilities.iter().find(|(risk, _)| *risk == annotation.risk);
    let probability = probability.map_or(String::new(), |(_, probability)| format!(" {probability:.2}"));
    let mut words = vec![format!("{id}: {judged}: {}{probability}", annotation.risk)];
    words.extend(annotation.categories.iter().cloned());
    words.extend(annotation.refusal.map(|refuses| if refuses { "refuses" } else { "does not refuse" }.to_owned()));
    words.extend(
        annotation
            .is_cut
            .then(|| format!("bytes {} to {} of the last message", annotation.judged.start, annotation.judged.end)),
    );
    words.extend((annotation.windows > 1).then(|| format!("the gravest of {} windows", annotation.windows)));
    words.extend((!annotation.parsed).then(|| "not all of the verdict could be read".to_owned()));
    words.extend(decided.map(|decided| match decided.finding {
        Some(finding) if decided.decision == Decision::Stop => format!("stop ({})", finding.rule),
        Some(finding) => format!("flag ({})", finding.rule),
        None => "continue".to_owned(),
    }));
    words.join(", ")
}
