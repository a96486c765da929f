//! The one list of failures. Every fallible call of the crate returns [`Result`].

use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by what the caller can do about it.
///
/// A call that fails changes nothing: a stream stays as it was before the call, an open leaves nothing behind.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ONNX Runtime library was found nowhere. Set `ORT_DYLIB_PATH`, or `runtime.library` in the configuration,
    /// or put the library beside the program.
    #[error("ONNX Runtime was not found; tried, in order:{}", list(.tried))]
    RuntimeNotFound {
        /// Every place that was looked at, with what was wrong there.
        tried: Vec<String>,
    },

    /// An ONNX Runtime library was found but cannot be used.
    #[error("ONNX Runtime at {path}: {reason}", path = .path.display())]
    RuntimeUnusable {
        /// The library.
        path: PathBuf,
        /// Why: too old, not loadable, by the words of the system's loader, another one is loaded already, or it would
        /// report about its use (see [`RuntimeConfig::allow_telemetry`](crate::RuntimeConfig::allow_telemetry)).
        reason: String,
    },

    /// The execution provider that was asked for cannot be had here.
    #[error("execution provider {provider}: {reason}")]
    Provider {
        /// Name of the provider.
        provider: String,
        /// Why it cannot be had.
        reason: String,
    },

    /// A setting of the configuration is wrong.
    #[error("configuration: {field}: {reason}")]
    Config {
        /// Dotted name of the setting.
        field: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A file of the bundle is missing, unreadable or damaged.
    #[error("bundle {bundle}: {file}: {reason}")]
    BundleFile {
        /// The bundle's folder or name.
        bundle: String,
        /// The file within it.
        file: String,
        /// What is wrong with it.
        reason: String,
    },

    /// `guard.toml` says something that this library cannot accept.
    #[error("bundle {bundle}: guard.toml: {field}: {reason}")]
    BundleField {
        /// The bundle's folder or name.
        bundle: String,
        /// Dotted name of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The bundle was made in a format that this version does not read.
    #[error("bundle {bundle}: guard.toml: format {found} is not supported, this library reads format {supported}")]
    BundleFormat {
        /// The bundle's folder or name.
        bundle: String,
        /// The bundle's format.
        found: i64,
        /// The format that this library reads.
        supported: i64,
    },

    /// The conversation cannot be rendered or has nothing to judge.
    #[error("conversation: {0}")]
    Conversation(String),

    /// An argument is out of its documented range.
    #[error("argument {argument}: {reason}")]
    Argument {
        /// Name of the argument.
        argument: &'static str,
        /// What is wrong with it.
        reason: String,
    },

    /// A call came at a moment when it has no meaning, such as an answer before its prompt.
    #[error("{call} called {state}")]
    WrongState {
        /// The call.
        call: &'static str,
        /// What the stream was doing instead.
        state: &'static str,
    },

    /// The conversation does not fit the model's context. Nothing was added; end the stream.
    #[error(
        "context full: {used} tokens used and {wanted} more wanted, the limit is {limit}; nothing was added: end the \
         stream here, or open a new one with less of the conversation"
    )]
    ContextFull {
        /// Tokens in the stream.
        used: usize,
        /// Tokens that were to be added.
        wanted: usize,
        /// The model's context.
        limit: usize,
    },

    /// A limit is reached. What can be done about it is said.
    #[error("busy: {what}, the limit is {limit}: {advice}")]
    Busy {
        /// What there is too much of.
        what: &'static str,
        /// Its limit.
        limit: usize,
        /// What to do.
        advice: &'static str,
    },

    /// The stream was idle for too long and has lost its conversation.
    #[error(
        "the stream expired, it was idle for {idle_seconds} s or more (engine.idle_seconds): open a new stream and \
         give it the conversation again"
    )]
    Expired {
        /// How long a stream may be idle, in seconds.
        idle_seconds: u64,
    },

    /// The deadline of a call passed before its tokens were computed.
    #[error("the deadline passed before the tokens were computed; nothing was added, try again with more time")]
    DeadlineExceeded,

    /// The call was given up by [`CompletionQueue::cancel`](crate::CompletionQueue::cancel).
    #[error("the call was cancelled; nothing was added")]
    Cancelled,

    /// Memory could not be had.
    #[error("out of memory: {bytes} bytes for {purpose}")]
    OutOfMemory {
        /// How much was asked for.
        bytes: usize,
        /// What for.
        purpose: &'static str,
    },

    /// ONNX Runtime failed to load or run the graph.
    #[error("inference: {0}")]
    Inference(String),

    /// The guard's engine has stopped after a failure it could not contain; or it is the one of the process that this
    /// one was forked from, and does not run here. Open the guard again.
    #[error("the engine has stopped, or runs in the process that this one was forked from; open the guard again")]
    EngineStopped,
}

impl Error {
    /// The system gives no more threads.
    pub(crate) fn threads(wanted: usize, started: usize, error: &std::io::Error) -> Self {
        let reason = format!(
            "the system gave {started} of {wanted} threads: {error}; use fewer, or raise its limit of threads or processes"
        );
        Error::Config { field: "runtime.threads".into(), reason }
    }
}

fn list(places: &[String]) -> String {
    places.iter().map(|place| format!("\n  {place}")).collect()
}

impl From<ort::Error> for Error {
    fn from(error: ort::Error) -> Self {
        Error::Inference(error.message().to_owned())
    }
}
