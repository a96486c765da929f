//! The command line: moderate conversations, look into bundles.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod annotate;
mod conversation;
mod events;
mod files;
mod follow;
mod generate;
mod inspect;
mod joined;
mod json;
mod judging;
mod lines;
mod look;
mod message;
mod moderate;
mod progress;
mod provider;
mod report;
mod run;
#[cfg(feature = "serve")]
mod serve;
mod summary;
mod visible;

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{
    CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue},
};
use qwenguard::{Config, Guard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
#[cfg(feature = "serve")]
use tracing_subscriber::{Layer, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt};

use look::complain;

/// What follows the options in help and manual pages.
const EXIT_CODES: &str = "Exit codes:
  0  all was judged to its end and written, and nothing was stopped
  1  something could not be judged or written, nothing was stopped
  2  the command line is wrong
  3  something was stopped, all was judged and written
  4  something was stopped, and something could not be judged or written";

/// The same where nothing is stopped.
const ANNOTATE_EXIT_CODES: &str = "Exit codes:
  0  all was judged and is Safe
  1  something could not be judged or written, all else is Safe
  2  the command line is wrong
  3  something is not Safe, all was judged and written
  4  something is not Safe, and something could not be judged or written";

/// Streaming moderation with Qwen3Guard-Stream.
#[derive(Parser)]
#[command(name = "qwenguard", version, after_help = EXIT_CODES)]
struct Arguments {
    /// Settings of ONNX Runtime, cache, engine and policy, in TOML.
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Judge conversations: JSON lines {"id": ..., "messages": [{"role", "content"}, ...]}. A last message of the
    /// assistant is the answer to judge.
    #[command(after_help = EXIT_CODES)]
    Moderate(Box<moderate::Arguments>),
    /// Judge whole conversations, as they are: JSON lines as for `moderate`. The last message decides what is judged: the
    /// user's as a prompt, any other as a response. With --out a data set, in files.
    #[command(after_help = ANNOTATE_EXIT_CODES)]
    Annotate(Box<annotate::Arguments>),
    /// Serve the guard over HTTP: moderations in OpenAI's form, verdicts in the guard's own, and a proxy that guards the answers of
    /// another server.
    #[cfg(feature = "serve")]
    Serve(Box<serve::Arguments>),
    /// Show what a bundle is.
    Inspect {
        /// The bundle's folder; without it the built-in demonstration guard.
        #[arg(value_hint = clap::ValueHint::DirPath)]
        bundle: Option<PathBuf>,
        #[command(flatten)]
        choice: provider::Choice,
    },
    /// List what execution providers this machine has, with their devices, and why it has not the others.
    Providers {
        /// Write one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Write completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write a manual page, in roff.
    Man {
        /// The command that it is about; without it the program.
        command: Option<String>,
    },
}

impl Command {
    fn serves(&self) -> bool {
        #[cfg(feature = "serve")]
        if matches!(self, Command::Serve(_)) {
            return true;
        }
        false
    }
}

/// What ended the program early.
#[derive(Debug)]
enum Failure {
    /// A message for the user.
    Message(String),
    /// Writing the output failed.
    Output(io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Failure::Message(message) => f.write_str(message),
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                f.write_str("the reader of the output left before its end")
            }
            Failure::Output(error) => write!(f, "writing the output: {error}"),
        }
    }
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Outcome {
    /// Something was stopped.
    stopped: bool,
    /// Something was not judged to its end, or not written.
    failed: bool,
}

impl From<Outcome> for ExitCode {
    /// A violation must not hide an error, nor an error a violation: both together have a code of their own.
    fn from(outcome: Outcome) -> Self {
        ExitCode::from(match (outcome.stopped, outcome.failed) {
            (false, false) => 0,
            (false, true) => 1,
            (true, false) => 3,
            (true, true) => 4,
        })
    }
}

fn main() -> ExitCode {
    // Newer versions of ONNX Runtime report about their use unless this is set.
    // SAFETY: there is no other thread yet.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&hinted(error)),
    };
    // A server starts its own once it knows its settings.
    if !arguments.command.serves() {
        start_log();
    }
    let outcome = run(&arguments).unwrap_or_else(|failure| {
        complain(&failure.to_string());
        Outcome { failed: true, ..Outcome::default() }
    });
    outcome.into()
}

/// The log, on standard error: nothing unless `RUST_LOG` asks for it.
fn start_log() {
    tracing_subscriber::fmt().with_env_filter(filter(LevelFilter::OFF)).with_writer(io::stderr).init();
}

fn filter(level: LevelFilter) -> EnvFilter {
    EnvFilter::builder().with_default_directive(level.into()).from_env_lossy()
}

/// The log of a server, on standard error: what it served, as JSON. `RUST_LOG` may ask for more, or less.
#[cfg(feature = "serve")]
fn server_log<S: tracing::Subscriber + for<'span> LookupSpan<'span>>() -> impl Layer<S> {
    let log = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    log.with_writer(io::stderr).with_filter(filter(LevelFilter::INFO))
}

/// Starts it, and traces if a collector is named.
#[cfg(all(feature = "serve", not(feature = "otlp")))]
fn start_server_log(_: &serve::Settings) -> Result<Option<std::convert::Infallible>, Failure> {
    tracing_subscriber::registry().with(server_log()).init();
    Ok(None)
}

#[cfg(feature = "otlp")]
fn start_server_log(settings: &serve::Settings) -> Result<Option<serve::Traces>, Failure> {
    let traces = settings.otlp_endpoint.as_deref().map(serve::Traces::to).transpose()?;
    let layer = traces.as_ref().map(serve::Traces::layer);
    tracing_subscriber::registry().with(layer).with(server_log()).init();
    Ok(traces)
}

/// `eval` is a command of this name, too, but of the Python package.
fn hinted(mut error: clap::Error) -> clap::Error {
    if error.get(ContextKind::InvalidSubcommand) == Some(&ContextValue::String("eval".to_owned())) {
        let hint = "`qwenguard eval` is in the Python package: install the wheel of qwenguard, and run the command that comes with it";
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

/// Says what is wrong with the command line, or gives the help that it asks for.
fn refuse(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        // Arguments may be names of files that somebody else has chosen.
        look::tell(error.render().to_string().trim_end());
        return ExitCode::from(2);
    }
    match error.print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    }
}

fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    #[cfg(feature = "serve")]
    if let Command::Serve(of_server) = &arguments.command {
        return serve_with(arguments.config.as_deref(), of_server);
    }
    let mut config = match &arguments.config {
        Some(path) => read_named(path, read_config)?,
        None => Config::default(),
    };
    let open = |bundle: Option<&Path>, config: &Config| match bundle {
        Some(bundle) => Guard::open_with(bundle, config),
        None => Guard::nano(config),
    };
    let open_gen = |bundle: Option<&Path>, config: &Config| match bundle {
        Some(bundle) => Guard::open_with(bundle, config),
        None => Guard::nano_gen(config),
    };
    match &arguments.command {
        Command::Moderate(arguments) => {
            let config = arguments.config(config);
            let input = moderate::open_input(&arguments.file)?;
            let policy = moderate::read_policy(arguments.policy.as_deref(), &config.policy)?;
            return moderate::run(&open(arguments.bundle.as_deref(), &config)?, policy, input, &config, arguments);
        }
        Command::Annotate(arguments) => {
            let input = arguments.input()?;
            let config = arguments.config(config)?;
            // Rules that nobody wrote decide nothing.
            let policy = Some(&config.policy).filter(|policy| **policy != qwenguard::Policy::default());
            return annotate::run(&open_gen(arguments.bundle.as_deref(), &config)?, policy, input, arguments);
        }
        #[cfg(feature = "serve")]
        Command::Serve(_) => unreachable!("it has begun"),
        Command::Inspect { bundle, choice } => {
            choice.apply(&mut config);
            inspect::run(&open(bundle.as_deref(), &config)?)?;
        }
        Command::Providers { json } => provider::list(&config, *json)?,
        Command::Completions { shell } => print(&generate::completions(Arguments::command(), *shell))?,
        Command::Man { command } => print(&generate::man(Arguments::command(), command.as_deref())?)?,
    }
    Ok(Outcome::default())
}

/// The settings of the library. Those of the server may stand in the same file.
#[cfg(feature = "serve")]
fn read_config(text: &str) -> Result<Config, String> {
    let (_, rest) = serve::split(text)?;
    Config::from_toml(&rest).map_err(|error| error.to_string())
}

#[cfg(not(feature = "serve"))]
fn read_config(text: &str) -> Result<Config, qwenguard::Error> {
    Config::from_toml(text)
}

#[cfg(feature = "serve")]
fn serve_with(config: Option<&Path>, arguments: &serve::Arguments) -> Result<Outcome, Failure> {
    let read = |text: &str| {
        let (settings, rest) = serve::split(text)?;
        Config::from_toml(&rest).map(|config| (config, settings)).map_err(|error| error.to_string())
    };
    let (config, settings) = config.map_or_else(|| Ok(Default::default()), |path| read_named(path, read))?;
    let config = arguments.config(config);
    let (policy, settings) = arguments.settings(settings, &config)?;
    let _traces = start_server_log(&settings)?;
    let guard = match &arguments.bundle {
        Some(bundle) => Guard::open_with(bundle, &config)?,
        None if arguments.gen_model => Guard::nano_gen(&config)?,
        None => Guard::nano(&config)?,
    };
    serve::run(guard, policy, settings)
}

fn print(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()
}

/// Reads a file; errors name it.
fn read_named<T, E: std::fmt::Display>(path: &Path, read: impl FnOnce(&str) -> Result<T, E>) -> Result<T, Failure> {
    let named = |error: &dyn std::fmt::Display| Failure::Message(format!("{}: {error}", look::file_name(path)));
    // One byte more than a document may have: the library says that it is too long, whatever else comes.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| named(&error))?;
    file.take((1 << 20) + 1).read_to_end(&mut bytes).map_err(|error| named(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| named(&error))?;
    read(&text).map_err(|error| named(&error))
}
