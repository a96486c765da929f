//! The one list of failures. Every fallible call of the crate returns [`Result`].

use std::{path::PathBuf, sync::Arc};

use crate::limits::SETTINGS_BYTES;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the system or of another library, as it was.
#[derive(Debug, Clone)]
pub struct ErrorSource(Arc<dyn std::error::Error + Send + Sync>);

impl std::ops::Deref for ErrorSource {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// Everything that can go wrong, by what the caller can do about it.
///
/// What it says is one line (but for [`Error::RuntimeNotFound`], which lists places), and says all: also the words of the error that is behind it, its
/// [`source`](std::error::Error::source), which is there for programs that look for a type, such as [`std::io::Error`].
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
        /// The error of the system or of another library that is behind it, if there is one; its words are in `reason`.
        source: Option<ErrorSource>,
    },

    /// The execution provider that was asked for cannot be had here; or it was lost while the guard computed with it: open
    /// another guard.
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
        /// Dotted name of the setting, or "document" where that cannot be read; `reason` then has the place.
        field: String,
        /// What is wrong with it.
        reason: String,
        /// The error of the system or of another library that is behind it, if there is one; its words are in `reason`.
        source: Option<ErrorSource>,
    },

    /// A file of the bundle is missing, unreadable or damaged, or was changed while the bundle was opened.
    #[error("bundle {bundle}: {file}: {reason}")]
    BundleFile {
        /// The bundle's folder or name.
        bundle: String,
        /// The file within it.
        file: String,
        /// What is wrong with it.
        reason: String,
        /// The error of the system or of another library that is behind it, if there is one; its words are in `reason`.
        source: Option<ErrorSource>,
    },

    /// `guard.toml` says something that this library cannot accept; or a self-test that is written there failed, which
    /// names the text, the head, and both logits: the bundle is damaged, or this machine computes wrong.
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
    #[error("conversation: {reason}")]
    Conversation {
        /// What is wrong with it.
        reason: String,
        /// The error of the system or of another library that is behind it, if there is one; its words are in `reason`.
        source: Option<ErrorSource>,
    },

    /// An argument is out of its documented range.
    #[error("argument {argument}: {reason}")]
    Argument {
        /// Name of the argument.
        argument: &'static str,
        /// What is wrong with it.
        reason: String,
        /// The error of the system or of another library that is behind it, if there is one; its words are in `reason`.
        source: Option<ErrorSource>,
    },

    /// A call came at a moment when it has no meaning, such as an answer before its prompt.
    #[error("{call} called {state}")]
    WrongState {
        /// The call.
        call: &'static str,
        /// What the stream was doing instead.
        state: &'static str,
    },

    /// The conversation does not fit the model's context, or the KV cache if that is smaller: see
    /// [`CacheConfig::mib`](crate::CacheConfig::mib). Nothing was added; end the stream.
    #[error(
        "context full: {used} tokens used and {wanted} or more wanted, the limit is {limit} (the model's context, or less \
         with a small cache.mib); nothing was added: end the stream here, or open a new one with less of the conversation"
    )]
    ContextFull {
        /// Tokens in the stream.
        used: usize,
        /// Tokens that were to be added, at least: texts are not tokenized, or only in part, if their length or their
        /// first part shows that they do not fit. Or messages, if these are more.
        wanted: usize,
        /// The model's context, or what the KV cache holds if that is less.
        limit: usize,
    },

    /// A limit is reached that passes with time: as other calls end, or streams are closed. What can be done about it is
    /// said.
    #[error("busy: {what}, the limit is {limit}: {advice}")]
    Busy {
        /// What there is too much of.
        what: &'static str,
        /// Its limit.
        limit: usize,
        /// What to do.
        advice: &'static str,
    },

    /// The stream was idle for too long and has lost its conversation: see
    /// [`EngineConfig::idle_seconds`](crate::EngineConfig::idle_seconds).
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

    /// The call was cancelled by [`CompletionQueue::cancel`](crate::CompletionQueue::cancel).
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

    /// ONNX Runtime failed to load or run the graph, or the model's logits for the tokens are not finite: the bundle, which
    /// is then named, is damaged, or this machine computes wrong.
    #[error("inference: {reason}")]
    Inference {
        /// What failed.
        reason: String,
        /// The error of the system or of another library that is behind it, if there is one; its words are in `reason`.
        source: Option<ErrorSource>,
    },

    /// The guard's engine has stopped after a failure it could not contain; or it is the one of the process that this
    /// one was forked from, and does not run here. Open the guard again.
    #[error("the engine has stopped, or runs in the process that this one was forked from; open the guard again")]
    EngineStopped,
}

impl Error {
    pub(crate) fn argument(argument: &'static str, reason: impl Into<Reason>) -> Self {
        let Reason { reason, source } = reason.into();
        Error::Argument { argument, reason, source }
    }

    pub(crate) fn bundle_file(bundle: impl Into<String>, file: &str, reason: impl Into<Reason>) -> Self {
        let Reason { reason, source } = reason.into();
        Error::BundleFile { bundle: bundle.into(), file: file.to_owned(), reason: one_line(&reason), source }
    }

    pub(crate) fn config(field: impl Into<String>, reason: impl Into<Reason>) -> Self {
        let Reason { reason, source } = reason.into();
        Error::Config { field: field.into(), reason, source }
    }

    pub(crate) fn conversation(reason: impl Into<Reason>) -> Self {
        let Reason { reason, source } = reason.into();
        Error::Conversation { reason, source }
    }

    pub(crate) fn inference(reason: impl Into<Reason>) -> Self {
        let Reason { reason, source } = reason.into();
        Error::Inference { reason, source }
    }

    /// The system gives no more threads.
    pub(crate) fn threads(wanted: usize, started: usize, error: std::io::Error) -> Self {
        let reason = format!(
            "the system gave {started} of {wanted} threads: {error}; use fewer, or raise its limit of threads or processes"
        );
        Error::config("runtime.threads", Reason::from(reason).with(error))
    }
}

/// Why something failed, and the error that is behind it.
#[derive(Debug)]
pub(crate) struct Reason {
    pub(crate) reason: String,
    pub(crate) source: Option<ErrorSource>,
}

impl Reason {
    /// The words of an error of the system or of another library, in one line.
    pub(crate) fn of(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Reason { reason: one_line(&error.to_string()), source: Some(ErrorSource(Arc::new(error))) }
    }

    /// As [`Reason::of`], of an error whose type is not known.
    pub(crate) fn of_any(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Reason { reason: one_line(&error.to_string()), source: Some(ErrorSource(error.into())) }
    }

    /// This reason, with the error that is behind it.
    pub(crate) fn with(self, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Reason { source: Some(ErrorSource(Arc::new(error))), ..self }
    }

    /// Says more before it.
    pub(crate) fn after(self, words: impl std::fmt::Display) -> Self {
        Reason { reason: format!("{words}: {}", self.reason), ..self }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl From<String> for Reason {
    fn from(reason: String) -> Self {
        Reason { reason, source: None }
    }
}

impl From<&str> for Reason {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// A reason that a file or a caller had a part in, as one line of at most 500 characters, none of which controls a
/// terminal.
pub(crate) fn one_line(reason: &str) -> String {
    const MOST: usize = 500;
    // The end of it is never looked at: it may be megabytes.
    let mut characters = reason.chars().map(|character| if character.is_control() { ' ' } else { character });
    let line: String = characters.by_ref().take(MOST).collect();
    let line = line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if characters.next().is_some() { line + "..." } else { line }
}

/// What is wrong with a TOML document, in one line.
pub(crate) fn toml_reason(text: &str, error: toml::de::Error) -> Reason {
    Reason::from(toml_words(text, &error)).with(error)
}

fn toml_words(text: &str, error: &toml::de::Error) -> String {
    let message = one_line(error.message());
    let Some(at) = error.span().map(|span| span.start).filter(|at| text.is_char_boundary(*at)) else { return message };
    let start = text[..at].rfind('\n').map_or(0, |before| before + 1);
    let line = text[start..].lines().next().unwrap_or_default().trim();
    let shown: String = one_line(line).chars().take(60).collect();
    format!("line {}, {shown}: {message}", text[..at].matches('\n').count() + 1)
}

/// Reads a configuration or a policy from a TOML document.
pub(crate) fn settings_from_toml<T: serde::de::DeserializeOwned>(field: &str, text: &str) -> Result<T> {
    if text.len() > SETTINGS_BYTES {
        return Err(Error::config(field, format!("{} bytes, the limit is {SETTINGS_BYTES}", text.len())));
    }
    toml::from_str(text).map_err(|error| Error::config(field, toml_reason(text, error)))
}

fn list(places: &[String]) -> String {
    places.iter().map(|place| format!("\n  {place}")).collect()
}
