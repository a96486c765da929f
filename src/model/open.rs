//! Which backend runs a bundle: a table of the execution providers that this build has, and the graph that each needs.

use super::{
    CacheFormat, Model, PagedOptions,
    cache_size::{self, Block},
    paged::cpu,
};
use crate::{
    Error, Result,
    bundle::{Bundle, Dimensions},
    config::Config,
    runtime::Runtime,
};

/// A way to run a model.
#[derive(Debug, Clone, Copy)]
struct Backend {
    /// As the configuration names it.
    provider: &'static str,
    /// As people read it.
    name: &'static str,
    /// The graph of the bundle, by its name in guard.toml.
    graph: &'static str,
    block: fn(&Dimensions, CacheFormat) -> Block,
    open: fn(&Bundle, &Runtime, &PagedOptions) -> Result<Box<dyn Model>>,
}

/// Of a provider's rows the first counts whose graph the bundle has.
const BACKENDS: &[Backend] =
    &[Backend { provider: "cpu", name: "CPU", graph: cpu::GRAPH, block: cpu::block, open: cpu::open }];

/// A model that is ready to run.
pub(crate) struct Backed {
    pub(crate) model: Box<dyn Model>,
    /// How its cache stores keys and values.
    pub(crate) format: CacheFormat,
    /// The name of the execution provider, for people.
    pub(crate) provider: &'static str,
}

/// Opens a bundle's model on the configuration's execution provider, and on no other.
pub(crate) fn open(bundle: &Bundle, runtime: &Runtime, config: &Config) -> Result<Backed> {
    let backend = find(bundle, &config.provider)?;
    let dims = &bundle.manifest.model;
    let format = cache_size::format(config, bundle.manifest.precision);
    let options = PagedOptions {
        format,
        cache_bytes: cache_size::bytes(config, dims.context, (backend.block)(dims, format))?,
        threads: match config.runtime.threads {
            0 => std::thread::available_parallelism().map_or(1, |threads| threads.get()),
            threads => threads,
        },
    };
    let model = (backend.open)(bundle, runtime, &options)?;
    Ok(Backed { model, format, provider: backend.name })
}

fn find(bundle: &Bundle, provider: &str) -> Result<Backend> {
    let rows = BACKENDS.iter().filter(|backend| backend.provider == provider);
    let graphs: Vec<&str> = rows.clone().map(|backend| backend.graph).collect();
    if graphs.is_empty() {
        let known: Vec<&str> = BACKENDS.iter().map(|backend| backend.provider).collect();
        let reason = format!("this build has no such provider, it has {}", known.join(", "));
        return Err(Error::Provider { provider: provider.to_owned(), reason });
    }
    rows.copied().find(|backend| bundle.manifest.graphs.contains_key(backend.graph)).ok_or_else(|| {
        let reason = format!("there is none for the execution provider {provider}: {}", graphs.join(" or "));
        bundle.field_error("graphs", reason)
    })
}
