//! Which backend runs a bundle: a table of the execution providers, and the graphs that each can run.

use super::{
    Model, Numbers,
    paged::{cpu, gpu},
    portable,
};
use crate::{
    Error, Result,
    bundle::{Bundle, Graph},
    config::{Config, Provider},
    runtime::{Assigned, Runtime},
};

/// A way to run a model.
#[derive(Clone, Copy)]
struct Backend {
    provider: Provider,
    /// The graph of the bundle, by its name in guard.toml.
    graph: &'static str,
    /// What the exporter is asked for to get that graph.
    target: &'static str,
    open: fn(&Request) -> Result<Backed>,
}

/// Of a provider's rows the first counts whose graph the bundle has.
const BACKENDS: &[Backend] = &[
    Backend { provider: Provider::Cpu, graph: "paged_cpu", target: "cpu", open: cpu::open },
    Backend { provider: Provider::Cpu, graph: "portable", target: "portable", open: portable::open_rows },
    Backend { provider: Provider::Cuda, graph: "paged_cuda", target: "cuda", open: gpu::open },
    Backend { provider: Provider::WebGpu, graph: "paged_webgpu", target: "webgpu", open: gpu::open },
    Backend { provider: Provider::WebGpu, graph: "portable", target: "portable", open: portable::open_scatter },
    Backend { provider: Provider::DirectMl, graph: "portable", target: "portable", open: portable::open_scatter },
    Backend { provider: Provider::CoreMl, graph: "portable", target: "portable", open: portable::open_rows },
];

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

/// The graph of a bundle that the configuration's provider runs, by its name in guard.toml.
pub(crate) fn graph_for(bundle: &Bundle, config: &Config) -> Result<&'static str> {
    backend_for(bundle, config).map(|backend| backend.graph)
}

/// Opens a bundle's model on the configuration's execution provider, and on no other.
pub(crate) fn open(bundle: &Bundle, runtime: &Runtime, config: &Config) -> Result<Backed> {
    let backend = backend_for(bundle, config)?;
    let graph = bundle.manifest.graphs.get(backend.graph);
    let graph = graph.ok_or_else(|| bundle.field_error("graphs", format!("{} is missing", backend.graph)))?;
    (backend.open)(&Request { bundle, name: backend.graph, graph, runtime, config })
}

fn backend_for(bundle: &Bundle, config: &Config) -> Result<Backend> {
    find(bundle, config).map_err(|error| {
        // That there is no such provider at all says more.
        Runtime::load(&config.runtime).and_then(|runtime| runtime.look_for(&config.runtime)).err().unwrap_or(error)
    })
}

fn find(bundle: &Bundle, config: &Config) -> Result<Backend> {
    let provider = config.runtime.provider;
    let chosen = |backend: &&Backend| config.runtime.graph.as_deref().is_none_or(|graph| graph == backend.graph);
    let of_provider = || BACKENDS.iter().filter(|backend| backend.provider == provider);
    let rows = || of_provider().filter(chosen);
    rows().copied().find(|backend| bundle.manifest.graphs.contains_key(backend.graph)).ok_or_else(|| {
        let targets: Vec<&str> = rows().map(|backend| backend.target).collect();
        let reason = match (&config.runtime.graph, &targets[..]) {
            (Some(graph), []) => {
                let known: Vec<&str> = of_provider().map(|backend| backend.graph).collect();
                return Error::config("runtime.graph", format!("{graph:?} is none that {provider} runs: {known:?}"));
            }
            (None, []) => "this build has no backend for it".to_owned(),
            (_, targets) => format!(
                "bundle {} has no graph for it: export the checkpoint again, with --target {}",
                bundle.name(),
                targets.join(" or ")
            ),
        };
        Error::Provider { provider: provider.name().to_owned(), reason }
    })
}
