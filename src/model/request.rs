//! What a backend is asked to open, and what it gives.

use super::{Model, Numbers};
use crate::{
    Error, Result,
    bundle::{Bundle, Graph},
    config::Config,
    runtime::{Assigned, Runtime},
};

/// What a backend opens.
pub(in crate::model) struct Request<'a> {
    pub(in crate::model) bundle: &'a Bundle,
    /// The graph's name in guard.toml, and what that says of it.
    pub(in crate::model) name: &'static str,
    pub(in crate::model) graph: &'a Graph,
    pub(in crate::model) runtime: &'a Runtime,
    pub(in crate::model) config: &'a Config,
}

/// A model that is ready to run.
pub(crate) struct Backed {
    pub(crate) model: Box<dyn Model>,
    pub(crate) numbers: Numbers,
    /// Where the nodes of its graph run.
    pub(crate) assigned: Vec<Assigned>,
}

impl Request<'_> {
    /// Threads that compute on the CPU.
    pub(in crate::model) fn threads(&self) -> usize {
        match self.config.runtime.threads {
            0 => std::thread::available_parallelism().map_or(1, |threads| threads.get()),
            threads => threads,
        }
    }

    /// A field of the graph that its backend needs.
    pub(in crate::model) fn field<T: Clone>(&self, field: &str, value: &Option<T>) -> Result<T> {
        value.clone().ok_or_else(|| self.field_error(field, "missing".to_owned()))
    }

    pub(in crate::model) fn field_error(&self, field: &str, reason: String) -> Error {
        self.bundle.field_error(&format!("graphs.{}.{field}", self.name), reason)
    }
}
