//! `qwenguard moderate`: conversations in, verdicts out.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use qwenguard::{Decision, Guard, Message, Policy, PromptCheck, TokenVerdict, Update, Violation};
use serde::Deserialize;
use serde_json::Value;

use crate::{Failure, Outcome, events, follow, read_named, report::Report};

/// Bytes that are judged together: enough to be fast, few enough to watch.
const PIECE: usize = 64;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The bundle's folder; without it the built-in demonstration guard.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Write one JSON object per event.
    #[arg(long)]
    json: bool,
    /// Judge the whole answer even where it would be stopped.
    #[arg(long)]
    no_stop: bool,
    /// Judge one answer while it is being written to standard input, and write what is cleared of it, as it came.
    #[arg(long, requires = "prompt")]
    follow: bool,
    /// What the user asked, for `--follow`.
    #[arg(long, value_name = "TEXT", requires = "follow")]
    prompt: Option<String>,
    /// The rules, in TOML, in place of those of the configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Conversations, one JSON object a line, or with `--follow` the answer; `-` is standard input.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
}

/// One line of the input.
#[derive(Deserialize)]
struct Conversation {
    #[serde(default)]
    id: Value,
    messages: Vec<Message>,
}

pub(crate) fn run(
    guard: &Guard,
    policy: &Policy,
    input: Box<dyn BufRead>,
    arguments: &Arguments,
) -> Result<Outcome, Failure> {
    if let Some(prompt) = &arguments.prompt {
        return follow::run(guard, policy.clone(), prompt, input, arguments.json, arguments.no_stop);
    }
    let mut outcome = Outcome::Clear;
    for (index, line) in input.lines().enumerate() {
        let at = format!("{}, line {}", arguments.file.display(), index + 1);
        let in_line = |error: &dyn std::fmt::Display| Failure::Message(format!("{at}: {error}"));
        let line = line.map_err(|error| in_line(&error))?;
        if line.trim().is_empty() {
            continue;
        }
        let conversation: Conversation = serde_json::from_str(&line).map_err(|error| in_line(&error))?;
        let decision = moderate(guard, policy, &conversation, arguments).map_err(|failure| match failure {
            Failure::Message(message) => in_line(&message),
            output => output,
        })?;
        if decision == Decision::Stop {
            outcome = Outcome::Stopped;
        }
    }
    Ok(outcome)
}

/// The rules that the command line names, or else those of the configuration.
pub(crate) fn read_policy(path: Option<&Path>, configured: &Policy) -> Result<Policy, Failure> {
    path.map_or_else(|| Ok(configured.clone()), |path| read_named(path, Policy::from_toml))
}

pub(crate) fn open_input(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| Failure::Message(format!("{}: {error}", path.display())))?;
    Ok(Box::new(BufReader::new(file)))
}

fn moderate(
    guard: &Guard,
    policy: &Policy,
    conversation: &Conversation,
    arguments: &Arguments,
) -> Result<Decision, Failure> {
    let (history, answer) = match conversation.messages.split_last() {
        Some((last, history)) if last.role == "assistant" => (history, last.content.as_bytes()),
        _ => (conversation.messages.as_slice(), [].as_slice()),
    };
    let mut stream = guard.stream_with(policy.clone())?;
    let check = stream.prompt(history)?;
    let mut output = Output::start(arguments.json, &conversation.id)?;
    output.prompt(&check)?;
    let mut judged = Judged::default();
    let mut decision = check.decision;
    if decision == Decision::Continue || arguments.no_stop {
        for piece in answer.chunks(PIECE).map(Some).chain([None]) {
            let update = match piece {
                Some(piece) => stream.push_text(piece)?,
                None => stream.finish()?,
            };
            judged.take(update, &mut output, answer, arguments.no_stop)?;
            if judged.stops && !arguments.no_stop {
                break;
            }
        }
        if judged.stops {
            decision = Decision::Stop;
        }
    }
    output.end(decision, judged.violation.as_ref(), judged.shown)?;
    Ok(decision)
}

/// The tokens of an answer, of which the final ones are shown.
#[derive(Default)]
struct Judged {
    /// Tokens that are not shown yet.
    tokens: Vec<TokenVerdict>,
    /// How many are shown.
    shown: usize,
    stops: bool,
    violation: Option<Violation>,
}

impl Judged {
    /// Shows the tokens that an update makes final, up to the violation unless `all`.
    fn take(&mut self, update: Update, output: &mut Output, answer: &[u8], all: bool) -> Result<(), Failure> {
        self.tokens.retain(|token| token.index < update.void_from);
        self.tokens.extend(update.tokens);
        let mut end = update.final_tokens;
        if let Some(violation) = update.violation.as_ref().filter(|_| !all && update.decision == Decision::Stop) {
            end = end.min(violation.confirming_token + 1);
        }
        let known = self.tokens.partition_point(|token| token.index < end);
        for mut token in self.tokens.drain(..known) {
            token.is_final = true;
            output.token(&token, answer)?;
            self.shown += 1;
        }
        for flag in update.flags.iter().filter(|flag| flag.confirming_token < end) {
            output.flag(flag)?;
        }
        output.flush()?;
        self.stops |= update.decision == Decision::Stop;
        self.violation = update.violation;
        Ok(())
    }
}

/// Where the verdicts of a conversation go.
enum Output<'c> {
    Json(std::io::BufWriter<std::io::StdoutLock<'static>>, &'c Value),
    People(Report<anstream::AutoStream<std::io::StdoutLock<'static>>>),
}

impl<'c> Output<'c> {
    fn start(json: bool, id: &'c Value) -> std::io::Result<Self> {
        Ok(if json {
            Output::Json(std::io::BufWriter::new(std::io::stdout().lock()), id)
        } else {
            Output::People(Report::start(anstream::stdout().lock(), id)?)
        })
    }

    fn prompt(&mut self, check: &PromptCheck) -> std::io::Result<()> {
        match self {
            Output::Json(out, id) => writeln!(out, "{}", events::prompt(id, check)),
            Output::People(report) => report.prompt(check),
        }
    }

    fn token(&mut self, token: &TokenVerdict, answer: &[u8]) -> std::io::Result<()> {
        match self {
            Output::Json(out, id) => writeln!(out, "{}", events::token(id, token, answer)),
            Output::People(report) => report.token(token, answer),
        }
    }

    fn flag(&mut self, flag: &Violation) -> std::io::Result<()> {
        match self {
            Output::Json(out, id) => writeln!(out, "{}", events::flag(id, flag)),
            Output::People(report) => report.flag(flag),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Output::Json(out, _) => out.flush(),
            Output::People(report) => report.flush(),
        }
    }

    fn end(&mut self, decision: Decision, violation: Option<&Violation>, tokens: usize) -> std::io::Result<()> {
        match self {
            Output::Json(out, id) => writeln!(out, "{}", events::end(id, decision, violation, tokens)),
            Output::People(report) => report.end(decision, violation, tokens),
        }?;
        self.flush()
    }
}
