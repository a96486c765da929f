//! Which backend runs a bundle: a table of the execution providers, and the graphs that each can run.

use super::{
    on_device::OnDevice,
    paged::{cpu, gpu},
    portable,
    request::{Backed, Request},
};
use crate::{
    Error, Result,
    bundle::Bundle,
    config::{Config, Provider},
    runtime::{Runtime, Turn},
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

/// The graph of a bundle that the configuration's provider runs, by its name in guard.toml.
pub(crate) fn graph_for(bundle: &Bundle, config: &Config) -> Result<&'static str> {
    backend_for(bundle, config).map(|backend| backend.graph)
}

/// Opens a bundle's model on the configuration's execution provider, and on no other.
pub(crate) fn open(bundle: &Bundle, runtime: &Runtime, config: &Config) -> Result<Backed> {
    let backend = backend_for(bundle, config)?;
    let graph = bundle.manifest.graphs.get(backend.graph);
    let graph = graph.ok_or_else(|| bundle.field_error("graphs", format!("{} is missing", backend.graph)))?;
    let request = Request { bundle, name: backend.graph, graph, runtime, config };
    if config.runtime.provider == Provider::Cpu {
        return (backend.open)(&request);
    }
    let _turn = Turn::of(&config.runtime);
    runtime.renew(config.runtime.provider)?;
    let backed = (backend.open)(&request);
    let backed = backed.inspect_err(|_| runtime.failed_on_device(config.runtime.provider, false))?;
    Ok(Backed { model: Box::new(OnDevice::new(backed.model, runtime, &config.runtime)), ..backed })
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
