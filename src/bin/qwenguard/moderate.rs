//! `qwenguard moderate`: conversations in, verdicts out.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use qwenguard::{Decision, Guard, Message, TextToken, Violation};
use serde::Deserialize;
use serde_json::Value;

use crate::{Failure, Outcome, answer, events, follow, report::Report};

/// Tokens that are judged together: enough to be fast, few enough to watch.
const CHUNK: usize = 16;

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

pub(crate) fn run(guard: &Guard, input: Box<dyn BufRead>, arguments: &Arguments) -> Result<Outcome, Failure> {
    if let Some(prompt) = &arguments.prompt {
        return follow::run(guard, prompt, input, arguments.json, arguments.no_stop);
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
        let decision = moderate(guard, &conversation, arguments).map_err(|failure| match failure {
            Failure::Message(message) => in_line(&message),
            output => output,
        })?;
        if decision == Decision::Stop {
            outcome = Outcome::Stopped;
        }
    }
    Ok(outcome)
}

pub(crate) fn open_input(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| Failure::Message(format!("{}: {error}", path.display())))?;
    Ok(Box::new(BufReader::new(file)))
}

/// Where the verdicts of a conversation go.
enum Output {
    Json(std::io::BufWriter<std::io::StdoutLock<'static>>),
    People(Report<anstream::AutoStream<std::io::StdoutLock<'static>>>),
}

fn moderate(guard: &Guard, conversation: &Conversation, arguments: &Arguments) -> Result<Decision, Failure> {
    let (history, answer) = match conversation.messages.split_last() {
        Some((last, history)) if last.role == "assistant" => (history, Some(last.content.as_str())),
        _ => (conversation.messages.as_slice(), None),
    };
    let (given, judged) = answer::split(answer.unwrap_or_default());
    let mut messages = history.to_vec();
    if !given.is_empty() {
        messages.push(Message::assistant(given));
    }

    let mut stream = guard.stream()?;
    let check = stream.prompt(&messages)?;
    let mut output = if arguments.json {
        Output::Json(std::io::BufWriter::new(std::io::stdout().lock()))
    } else {
        Output::People(Report::start(anstream::stdout().lock(), &conversation.id)?)
    };
    match &mut output {
        Output::Json(out) => writeln!(out, "{}", events::prompt(&conversation.id, &check))?,
        Output::People(report) => report.prompt(&check)?,
    }

    let mut decision = check.decision;
    let mut violation = None;
    let mut count = 0;
    if decision == Decision::Continue || arguments.no_stop {
        let tokens = guard.encode(judged)?;
        for chunk in tokens.chunks(CHUNK) {
            let ids: Vec<u32> = chunk.iter().map(|token| token.id).collect();
            let update = stream.push_tokens(&ids)?;
            let stop = update.violation.as_ref().filter(|_| !arguments.no_stop).map(|found| found.confirming_token);
            for (verdict, token) in update.tokens.iter().zip(chunk) {
                let bytes = given.len() + token.bytes.start..given.len() + token.bytes.end;
                match &mut output {
                    Output::Json(out) => {
                        let text = String::from_utf8_lossy(guard.token_bytes(token.id)?);
                        writeln!(out, "{}", events::token(&conversation.id, verdict, &text, &bytes))?;
                    }
                    Output::People(report) => report.token(verdict, &judged.as_bytes()[token.bytes.clone()])?,
                }
                count += 1;
                if stop == Some(verdict.index) {
                    break;
                }
            }
            if let Output::People(report) = &mut output {
                report.flush()?;
            }
            if update.decision == Decision::Stop {
                decision = Decision::Stop;
            }
            violation = update.violation;
            if stop.is_some() {
                break;
            }
        }
        violation = violation.map(|found| in_message(found, &tokens, given.len()));
    }
    match &mut output {
        Output::Json(out) => {
            writeln!(out, "{}", events::end(&conversation.id, decision, violation.as_ref(), count))?;
            out.flush()?;
        }
        Output::People(report) => report.end(decision, violation.as_ref(), count)?,
    }
    Ok(decision)
}

/// A violation with its bytes counted in the message as it was given.
fn in_message(violation: Violation, tokens: &[TextToken], offset: usize) -> Violation {
    let start = tokens[violation.first_token].bytes.start;
    let end = tokens[violation.confirming_token].bytes.end;
    Violation { bytes: offset + start..offset + end, ..violation }
}
