//! The command line: moderate conversations, look into bundles.

mod events;
mod follow;
mod inspect;
mod moderate;
mod report;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use qwenguard::{Config, Guard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// Streaming moderation with Qwen3Guard-Stream.
///
/// Exit codes: 0 all clear, 1 an error, 2 a wrong command line, 3 something was stopped.
#[derive(Parser)]
#[command(name = "qwenguard", version)]
struct Arguments {
    /// Settings of ONNX Runtime, cache, engine and policy, in TOML.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Judge conversations: JSON lines {"id": ..., "messages": [{"role", "content"}, ...]}. A last message of the
    /// assistant is the answer to judge.
    Moderate(moderate::Arguments),
    /// Show what a bundle is.
    Inspect {
        /// The bundle's folder; without it the built-in demonstration guard.
        bundle: Option<PathBuf>,
    },
}

/// What ended the program early.
#[derive(Debug)]
enum Failure {
    /// A message for the user.
    Message(String),
    /// Writing the output failed.
    Output(io::Error),
}

impl From<qwenguard::Error> for Failure {
    fn from(error: qwenguard::Error) -> Self {
        Failure::Message(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// What was found, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Clear,
    Stopped,
}

fn main() -> ExitCode {
    // Newer versions of ONNX Runtime report about their use unless this is set.
    // SAFETY: there is no other thread yet.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    let arguments = Arguments::parse();
    // Silent unless RUST_LOG asks for it.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().with_default_directive(LevelFilter::OFF.into()).from_env_lossy())
        .with_writer(io::stderr)
        .init();
    match run(&arguments) {
        Ok(Outcome::Clear) => ExitCode::SUCCESS,
        Ok(Outcome::Stopped) => ExitCode::from(3),
        // The reader has seen enough, as in `qwenguard ... | head`.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Output(error)) => fail(&format!("writing the output: {error}")),
        Err(Failure::Message(message)) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("qwenguard: {message}");
    ExitCode::from(1)
}

fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let config = match &arguments.config {
        Some(path) => read_named(path, Config::from_toml)?,
        None => Config::default(),
    };
    let open = |bundle: Option<&Path>| match bundle {
        Some(bundle) => Guard::open_with(bundle, &config),
        None => Guard::nano(&config),
    };
    match &arguments.command {
        Command::Moderate(arguments) => {
            let input = moderate::open_input(&arguments.file)?;
            let policy = moderate::read_policy(arguments.policy.as_deref(), &config.policy)?;
            moderate::run(&open(arguments.bundle.as_deref())?, &policy, input, arguments)
        }
        Command::Inspect { bundle } => {
            inspect::run(&open(bundle.as_deref())?)?;
            Ok(Outcome::Clear)
        }
    }
}

/// Reads a file; errors name it.
fn read_named<T>(path: &Path, read: impl FnOnce(&str) -> Result<T, qwenguard::Error>) -> Result<T, Failure> {
    let named = |error: &dyn std::fmt::Display| Failure::Message(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    read(&text).map_err(|error| named(&error))
}
