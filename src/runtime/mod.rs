//! ONNX Runtime: finding the library, the one environment of the process, and sessions.

mod library;
pub(crate) mod memory;
mod threads;

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
    Error, Result, RuntimeConfig,
    bundle::{Bundle, Place, WEIGHTS},
};
use threads::Threads;

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

    /// The library in use.
    pub(crate) fn library(&self) -> &Path {
        &self.library
    }

    /// A session on the CPU for a graph, with this crate's operators. `model` is the file `graph` of the bundle, checked,
    /// and `folder` where its weights are: the runtime reads nothing else.
    pub(crate) fn cpu_session(
        &self,
        bundle: &Bundle,
        graph: &str,
        (model, folder): (&[u8], &str),
        operators: OperatorDomain,
        threads: usize,
    ) -> Result<Session> {
        let _turn = one_session_at_a_time();
        // The session computes on the caller's thread too.
        let others = Threads::start(threads.saturating_sub(1))?;
        let failed = |error: ort::Error| bundle.file_error(graph, error.message());
        let builder = self.cpu_session_builder(operators, threads).map_err(failed)?;
        let builder = builder.with_thread_manager(others).map_err(|error| failed(error.into()))?;
        match &bundle.place {
            Place::Folder(_) => {
                let builder = builder.with_config_entry("session.model_external_initializers_file_folder_path", folder);
                let mut builder = builder.map_err(|error| bundle.file_error(graph, error.message()))?;
                builder.commit_from_memory(model).map_err(failed)
            }
            Place::Embedded(_) => {
                let weights = bundle.place.read(WEIGHTS, u64::MAX)?.into_owned().into();
                let mut builder = builder
                    .with_external_initializer_file_in_memory(WEIGHTS, weights)
                    .map_err(|error| bundle.file_error(WEIGHTS, error.to_string()))?;
                builder.commit_from_memory(model).map_err(failed)
            }
        }
    }

    pub(crate) fn cpu_session_builder(&self, operators: OperatorDomain, threads: usize) -> ort::Result<SessionBuilder> {
        Ok(Session::builder(&self.environment)?
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
            .with_operators(operators)?)
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

impl From<ort::Error<SessionBuilder>> for Error {
    fn from(error: ort::Error<SessionBuilder>) -> Self {
        Error::Inference(crate::error::one_line(error.message()))
    }
}
