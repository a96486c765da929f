//! ONNX Runtime: finding the library, the one environment of the process, and sessions.

mod assignment;
mod kept;
mod library;
mod loaded;
pub(crate) mod memory;
#[cfg(feature = "_internals")]
mod profile;
mod provider;
mod threads;
mod turn;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ort::{
    environment::Environment,
    logging::LogLevel,
    operator::OperatorDomain,
    session::{
        Session,
        builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder},
    },
};

use crate::{
    Error, Result,
    config::RuntimeConfig,
    error::{Reason, one_line},
};
pub(crate) use assignment::Assigned;
#[cfg(feature = "_internals")]
pub use profile::profile_sessions;
pub(crate) use provider::PluginUser;
use threads::Threads;
pub(crate) use turn::Turn;

/// The library that was loaded and the environment made with it. Never dropped: ONNX Runtime allows one environment
/// per process, and host programs tear down in any order.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// Held while a session is made: ONNX Runtime looks whether an operator domain is known to the process and then adds
/// it, so that of two sessions made at the same time one would fail.
static SESSION: Mutex<()> = Mutex::new(());

/// Waits until no other session is being made.
pub(crate) fn one_session_at_a_time() -> MutexGuard<'static, ()> {
    SESSION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a session is made of.
pub(crate) struct SessionSpec<'a> {
    /// The graph, checked: an ONNX model that names its weights' file.
    pub(crate) graph: &'a [u8],
    pub(crate) weights: Weights<'a>,
    /// Operators beside the runtime's own.
    pub(crate) operators: Option<OperatorDomain>,
    /// Threads that compute on the CPU, the caller's included.
    pub(crate) threads: usize,
    /// Stands for the contents of graph and weights where a provider keeps what it makes of them.
    pub(crate) digest: &'a str,
}

/// A session, and where its nodes run.
pub(crate) struct MadeSession {
    pub(crate) session: Session,
    /// Empty if the runtime is too old to tell; it then runs on the CPU.
    pub(crate) assigned: Vec<Assigned>,
}

/// Where a graph's weights are. The runtime reads nothing else.
pub(crate) enum Weights<'a> {
    /// In this folder, in the one file that the graph names.
    Folder { folder: &'a str, name: &'a str },
    /// In memory, for the one file that the graph names.
    Memory { name: &'a str, bytes: Vec<u8> },
}

/// Why there is no session.
pub(crate) enum SessionError {
    /// The system gives no threads.
    Threads(Error),
    /// There is no such provider here.
    Provider(Error),
    /// The runtime does not take the graph.
    Graph(Reason),
    /// The runtime does not take the weights.
    Weights(Reason),
}

#[derive(Clone)]
pub(crate) struct Runtime {
    environment: Environment,
    library: PathBuf,
}

impl Runtime {
    /// Loads ONNX Runtime if this process has not done so yet.
    pub(crate) fn load(config: &RuntimeConfig) -> Result<Runtime> {
        let explicit = config.library.as_deref();
        let mut slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*slot {
            if let Some(wanted) = explicit {
                library::same_as_loaded(wanted, &runtime.library)?;
            }
            return Ok(runtime.clone());
        }
        let library = library::load(explicit, config.allow_telemetry)?;
        let environment =
            ort::init().with_name("qwenguard").with_telemetry(false).with_logger(Arc::new(log)).build()?;
        tracing::info!(library = %library.display(), build = ort::info(), "loaded ONNX Runtime");
        Ok(slot.insert(Runtime { environment, library }).clone())
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The library in use.
    pub(crate) fn library(&self) -> &Path {
        &self.library
    }

    /// A session on the configuration's provider. Nothing of it runs anywhere else.
    pub(crate) fn session(&self, config: &RuntimeConfig, spec: SessionSpec) -> Result<MadeSession, SessionError> {
        let SessionSpec { graph, weights, operators, threads, digest } = spec;
        let _turn = one_session_at_a_time();
        // The session computes on the caller's thread too.
        let others = Threads::start(threads.saturating_sub(1)).map_err(SessionError::Threads)?;
        let mut builder = self.session_builder(threads)?.with_thread_manager(others)?;
        if let Some(operators) = operators {
            builder = builder.with_operators(operators)?;
        }
        let mut builder = self.with_provider(builder, config, digest).map_err(SessionError::Provider)?;
        let session = match self.kept(config, digest, graph, &weights).map_err(SessionError::Provider)? {
            Some(path) => builder.commit_from_file(path),
            None => with_weights(builder, weights)?.commit_from_memory(graph),
        };
        let session = session.map_err(|error| self.blame(config, error))?;
        let assigned = assignment::of(&session)?.unwrap_or_default();
        self.check_placement(config, &assigned).map_err(SessionError::Provider)?;
        Ok(MadeSession { session, assigned })
    }

    /// What every session has.
    pub(crate) fn session_builder(&self, threads: usize) -> ort::Result<SessionBuilder> {
        let builder = Session::builder(&self.environment)?;
        #[cfg(feature = "_internals")]
        let builder = profile::profiled(builder)?;
        Ok(builder
            // Without it ONNX Runtime may choose another device by itself.
            .with_auto_device(AutoDevicePolicy::PreferCPU)?
            // The graph is already made of fused operators; higher levels only cost load time.
            .with_optimization_level(GraphOptimizationLevel::Level1)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            // Its cache is keyed by all input shapes, and ours differ in every step.
            .with_memory_pattern(false)?
            .with_intra_op_spinning(threads > 1)?
            // Spin inside a step, sleep between steps.
            .with_config_entry("session.force_spinning_stop", "1")?
            .with_config_entry(assignment::RECORD.0, assignment::RECORD.1)?)
    }
}

/// Says where a graph's weights are that is given in memory.
fn with_weights(builder: SessionBuilder, weights: Weights) -> Result<SessionBuilder, SessionError> {
    match weights {
        Weights::Folder { folder, .. } => {
            Ok(builder.with_config_entry("session.model_external_initializers_file_folder_path", folder)?)
        }
        Weights::Memory { name, bytes } => builder
            .with_external_initializer_file_in_memory(name, bytes.into())
            .map_err(|error| SessionError::Weights(reason(error.into()))),
    }
}

/// ONNX Runtime's log goes where the host's `tracing` goes, and nowhere if the host has none.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose => tracing::trace!(category, location, "{message}"),
        LogLevel::Info => tracing::debug!(category, location, "{message}"),
        LogLevel::Warning => tracing::warn!(category, location, "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(category, location, "{message}"),
    }
}

impl From<ort::Error> for SessionError {
    fn from(error: ort::Error) -> Self {
        SessionError::Graph(reason(error))
    }
}

impl From<ort::Error<SessionBuilder>> for SessionError {
    fn from(error: ort::Error<SessionBuilder>) -> Self {
        SessionError::Graph(reason(error.into()))
    }
}

impl From<ort::Error> for Error {
    fn from(error: ort::Error) -> Self {
        Error::inference(reason(error))
    }
}

fn reason(error: ort::Error) -> Reason {
    Reason::from(one_line(error.message())).with(error)
}
