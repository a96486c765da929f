//! ONNX Runtime's profiler, for the bench that shows where the time of a step goes.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use ort::session::builder::SessionBuilder;

static PATH: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Has sessions that are made from now on write a profile to files whose paths begin so. Each is written when its guard is
/// dropped.
pub fn profile_sessions(path: Option<PathBuf>) {
    *PATH.lock().unwrap_or_else(PoisonError::into_inner) = path;
}

pub(super) fn profiled(builder: SessionBuilder) -> ort::Result<SessionBuilder> {
    match &*PATH.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(path) => Ok(builder.with_profiling(path)?),
        None => Ok(builder),
    }
}
