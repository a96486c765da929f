//! The graphs of a portable model: all are checked when it is opened, each gets a session when it is first run.

use ort::session::Session;

use super::check::{self, Expected, Value};
use crate::{
    Error, Result,
    bundle::{Bundle, Pinned, Place},
    config::RuntimeConfig,
    limits,
    model::graph::tensors::External,
    runtime::{Assigned, MadeSession, Runtime, SessionError, SessionSpec, Weights},
};

/// How to open a model.
pub(super) struct PortableOptions {
    /// Bytes for keys and values of all layers together.
    pub(super) cache_bytes: usize,
    pub(super) threads: usize,
    /// With the provider of all sessions.
    pub(super) runtime: RuntimeConfig,
}

/// Sessions by the place of their graph among those that were added.
pub(super) struct Sessions {
    place: Place,
    runtime: Runtime,
    config: RuntimeConfig,
    threads: usize,
    /// The file of all weights, and where it is.
    weights: String,
    folder: String,
    location: String,
    /// Of another file than the one that was checked the weights would be others.
    pinned: Pinned,
    graphs: Vec<Graph>,
}

struct Graph {
    file: String,
    /// Stands for its contents and those of the weights.
    digest: String,
    state: State,
}

enum State {
    /// Checked.
    Bytes(Vec<u8>),
    Open(Box<Session>),
}

impl Sessions {
    pub(super) fn new(bundle: &Bundle, weights: &str, runtime: &Runtime, options: &PortableOptions) -> Result<Self> {
        let (folder, location) = bundle.place.weights(weights)?;
        Ok(Sessions {
            place: bundle.place.clone(),
            runtime: runtime.clone(),
            config: options.runtime.clone(),
            threads: options.threads,
            weights: weights.to_owned(),
            folder,
            location,
            pinned: bundle.pinned(&[weights]),
            graphs: Vec::new(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.graphs.len()
    }

    /// Checks a graph of the bundle that is to have these inputs and outputs.
    pub(super) fn add(
        &mut self,
        bundle: &Bundle,
        file: &str,
        [inputs, outputs]: [Vec<(String, Value)>; 2],
    ) -> Result<()> {
        let external = External { name: &self.weights, bytes: bundle.place.len(&self.weights)? };
        let expected =
            Expected { dims: &bundle.manifest.model, inputs, outputs, weights: external, location: &self.location };
        let bytes = bundle.place.read(file, limits::GRAPH_BYTES)?;
        let bytes = check::checked(&bytes, &expected).map_err(|reason| bundle.file_error(file, reason))?;
        let digests = [file, &self.weights].map(|name| bundle.manifest.files.get(name).map_or("", |file| &file.sha256));
        self.graphs.push(Graph { file: file.to_owned(), digest: digests.join("-"), state: State::Bytes(bytes) });
        Ok(())
    }

    /// The session of a graph.
    pub(super) fn get(&mut self, index: usize) -> Result<&mut Session> {
        self.open_now(index)?;
        match &mut self.graphs[index].state {
            State::Open(session) => Ok(session),
            State::Bytes(_) => Err(Error::inference("a graph has no session")),
        }
    }

    /// Opens the session of a graph if it has none. Where its nodes run is told once.
    pub(super) fn open_now(&mut self, index: usize) -> Result<Vec<Assigned>> {
        let Graph { file, digest, state: State::Bytes(bytes) } = &self.graphs[index] else { return Ok(Vec::new()) };
        let MadeSession { session, assigned } = self.made(file, digest, bytes)?;
        self.graphs[index].state = State::Open(Box::new(session));
        Ok(assigned)
    }

    fn made(&self, file: &str, digest: &str, graph: &[u8]) -> Result<MadeSession> {
        tracing::info!(file, "a session for a graph of fixed shapes");
        self.pinned.check()?;
        let weights = match &self.place {
            Place::Folder(_) => Weights::Folder { folder: &self.folder, name: &self.location },
            Place::Embedded(_) => {
                Weights::Memory { name: &self.location, bytes: self.place.read(&self.weights, u64::MAX)? }
            }
        };
        let spec = SessionSpec { graph, weights, operators: None, threads: self.threads, digest };
        let made = self.runtime.session(&self.config, spec).map_err(|error| match error {
            SessionError::Threads(error) | SessionError::Provider(error) => error,
            SessionError::Graph(reason) => self.place.file_error(file, reason),
            SessionError::Weights(reason) => self.place.file_error(&self.weights, reason),
        })?;
        self.pinned.check()?;
        Ok(made)
    }
}
