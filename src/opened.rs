//! An opened bundle: its tokenizer, template, labels and running engine, as a guard and its streams share them.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    bundle::{Bundle, Dimensions, Precision},
    config::{CachePrecision, Config, Overflow},
    engine::{Engine, Limits},
    error::{Error, Result},
    limits,
    model::{CacheFormat, PagedModel, PagedOptions, cache_size},
    policy::Policy,
    process::{Opening, Owned},
    runtime::Runtime,
    self_test,
    text::{ControlTokens, Renderer, Tokenizer, size},
    verdict::Labels,
};

const TOKENIZER: &str = "tokenizer.json";
const TEMPLATE: &str = "chat_template.jinja";

/// What a guard and its streams share.
pub(crate) struct Opened {
    pub(crate) engine: Arc<Engine>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) renderer: Renderer,
    pub(crate) response_labels: Arc<Labels>,
    pub(crate) query_labels: Arc<Labels>,
    pub(crate) vocab_size: usize,
    pub(crate) overflow: Overflow,
    pub(crate) info: Info,
    /// Of streams that are given none of their own.
    pub(crate) policy: Policy,
}

/// What a guard is made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Info {
    /// The bundle's folder, or `(built in)`.
    pub bundle: String,
    /// The checkpoint that the bundle was exported from.
    pub source: String,
    /// Digest of each file of that checkpoint, by name.
    pub source_sha256: Vec<(String, String)>,
    /// The program that exported it.
    pub exporter: String,
    /// Architecture of the checkpoint.
    pub architecture: String,
    /// `fp32`, `int8` or `int4`, with how many weights share a scale.
    pub weights: String,
    /// `fp32` or `int8`.
    pub cache: String,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Token ids that the model knows: `0..vocab_size`.
    pub vocab_size: usize,
    /// The most tokens in one stream: the model's context, or what the KV cache holds if that is less.
    pub context: usize,
    /// Bytes of the cache that one token takes.
    pub cache_bytes_per_token: usize,
    /// The ONNX Runtime library in use.
    pub runtime: String,
    /// The execution provider in use.
    pub provider: String,
}

impl Opened {
    /// Opens a bundle's folder, and checks its files meanwhile.
    pub(crate) fn folder(folder: &Path, config: &Config) -> Result<Arc<Owned<Self>>> {
        config.validate()?;
        let bundle = Bundle::open(folder)?;
        bundle.checked(config.verify_files, || Self::start(&bundle, config))
    }

    /// Opens the demonstration guard that is compiled in.
    #[cfg(feature = "nano")]
    pub(crate) fn nano(config: &Config) -> Result<Arc<Owned<Self>>> {
        config.validate()?;
        Self::start(&Bundle::embedded(crate::bundle::NANO)?, config)
    }

    fn start(bundle: &Bundle, config: &Config) -> Result<Arc<Owned<Self>>> {
        let span = tracing::info_span!("open", bundle = bundle.name());
        let _entered = span.enter();
        let opening = Opening::begin()?;
        let opened = Arc::new(Owned::new(Self::assemble(bundle, config)?));
        if let Err(error) = opening.check() {
            std::mem::forget(opened);
            return Err(error);
        }
        Ok(opened)
    }

    /// Reads the bundle's parts, tests the model, and starts the engine.
    fn assemble(bundle: &Bundle, config: &Config) -> Result<Self> {
        let manifest = &bundle.manifest;
        let tokenizer = open_tokenizer(bundle)?;
        let renderer = open_renderer(bundle)?;
        let runtime = Runtime::load(&config.runtime)?;
        let options = paged_options(bundle, config);
        check_views(config.engine.overflow, &options, &manifest.model)?;
        let mut model = PagedModel::open(bundle, &runtime, &options)?;
        if config.self_test {
            self_test::run(bundle, &tokenizer, &mut model, options.format)?;
        }
        let cache_bytes_per_token = model.cache_bytes_per_token();
        let engine = start_engine(model, &manifest.model, config)?;
        let (response_labels, query_labels) =
            (manifest.response_labels(&bundle.name())?, manifest.query_labels(&bundle.name())?);
        config.policy.check_categories(&query_labels, &response_labels)?;
        let info = Info {
            context: engine.context(),
            cache_bytes_per_token,
            runtime: runtime.library().display().to_string(),
            ..Info::of_bundle(bundle, options.format)
        };
        Ok(Opened {
            engine: Arc::new(engine),
            tokenizer,
            renderer,
            response_labels,
            query_labels,
            vocab_size: manifest.model.vocab_size,
            overflow: config.engine.overflow,
            info,
            policy: config.policy.clone(),
        })
    }

    /// Refuses messages that are too many or too long for the context, by their number and bytes alone.
    pub(crate) fn check_lengths(&self, count: usize, bytes: usize) -> Result<()> {
        size::check_lengths(&self.tokenizer, self.info.context, count, bytes)
    }

    /// The bytes of a token that the model and the tokenizer both know.
    pub(crate) fn token_bytes(&self, id: u32) -> Result<&[u8]> {
        let known = self.tokenizer.token_bytes(id).filter(|_| (id as usize) < self.vocab_size);
        known.ok_or_else(|| Error::Argument { argument: "token id", reason: format!("there is no token {id}") })
    }
}

impl Info {
    /// What is known before the engine runs.
    fn of_bundle(bundle: &Bundle, format: CacheFormat) -> Self {
        let manifest = &bundle.manifest;
        let dims = &manifest.model;
        Info {
            bundle: bundle.name(),
            source: manifest.source.name.clone(),
            source_sha256: manifest.source.sha256.clone().into_iter().collect(),
            exporter: manifest.exporter.clone(),
            architecture: dims.architecture.clone(),
            weights: match manifest.block {
                Some(block) => format!("{}, blocks of {block}", manifest.precision.name()),
                None => manifest.precision.name().to_owned(),
            },
            cache: match format {
                CacheFormat::Fp32 => "fp32".to_owned(),
                CacheFormat::Int8 => "int8".to_owned(),
            },
            layers: dims.num_layers,
            hidden_size: dims.hidden_size,
            heads: dims.num_heads,
            kv_heads: dims.num_kv_heads,
            head_dim: dims.head_dim,
            vocab_size: dims.vocab_size,
            context: dims.context,
            cache_bytes_per_token: 0,
            runtime: String::new(),
            provider: "CPU".to_owned(),
        }
    }
}

fn open_tokenizer(bundle: &Bundle) -> Result<Tokenizer> {
    let json = bundle.place.read(TOKENIZER, limits::TOKENIZER_BYTES)?;
    let tokenizer = Tokenizer::new(&json, bundle.manifest.model.vocab_size);
    let tokenizer = tokenizer.map_err(|reason| bundle.file_error(TOKENIZER, reason))?;
    check_control_tokens(bundle, &tokenizer)?;
    Ok(tokenizer)
}

fn open_renderer(bundle: &Bundle) -> Result<Renderer> {
    let template = bundle.read_text(TEMPLATE, limits::TEMPLATE_BYTES)?;
    let tokens = &bundle.manifest.tokens;
    let tokens = ControlTokens { turn_start: tokens.turn_start, turn_end: tokens.turn_end, user: tokens.user.clone() };
    let renderer = Renderer::new(&template, tokens, bundle.manifest.model.context);
    renderer.map_err(|reason| bundle.file_error(TEMPLATE, reason))
}

fn paged_options(bundle: &Bundle, config: &Config) -> PagedOptions {
    let format = match (config.cache.precision, bundle.manifest.precision) {
        (CachePrecision::Fp32, _) | (CachePrecision::Auto, Precision::Fp32) => CacheFormat::Fp32,
        (CachePrecision::Int8 | CachePrecision::Auto, _) => CacheFormat::Int8,
    };
    PagedOptions {
        format,
        cache_bytes: match config.cache.mib {
            0 => cache_size::default_bytes(&bundle.manifest.model, format, config.engine.max_streams),
            mib => mib.saturating_mul(1 << 20),
        },
        threads: match config.runtime.threads {
            0 => std::thread::available_parallelism().map_or(1, |threads| threads.get()),
            threads => threads,
        },
    }
}

fn start_engine(model: PagedModel, dims: &Dimensions, config: &Config) -> Result<Engine> {
    let limits = Limits {
        context: dims.context,
        step_tokens: config.engine.step_tokens,
        max_sequences: config.engine.max_streams,
        max_queued_tokens: config.engine.max_queued_tokens,
        idle: Some(config.engine.idle_seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs),
    };
    let engine = Engine::start(Box::new(model), limits)?;
    if engine.context() < dims.context {
        tracing::warn!(tokens = engine.context(), context = dims.context, "cache.mib holds less than the context");
    }
    Ok(engine)
}

/// Answers that go on in views need a cache that holds a view, which is as long as the context.
fn check_views(overflow: Overflow, options: &PagedOptions, dims: &Dimensions) -> Result<()> {
    let needed = PagedModel::cache_bytes(dims, options.format, dims.context);
    if overflow == Overflow::Error || options.cache_bytes >= needed {
        return Ok(());
    }
    let reason = format!(
        "{} MiB are too few for engine.overflow = \"restart\": the model's context of {} tokens takes {} MiB, set at \
         least as many",
        options.cache_bytes >> 20,
        dims.context,
        needed.div_ceil(1 << 20)
    );
    Err(Error::Config { field: "cache.mib".into(), reason })
}

/// The control tokens of `guard.toml` must be special tokens of the tokenizer: text must not be able to spell them.
fn check_control_tokens(bundle: &Bundle, tokenizer: &Tokenizer) -> Result<()> {
    let tokens = &bundle.manifest.tokens;
    for (id, spelling) in [(tokens.turn_start, "<|im_start|>"), (tokens.turn_end, "<|im_end|>")] {
        if tokenizer.find_special(spelling) != Some((0..spelling.len(), id)) {
            let reason = format!("{spelling} is not the special token {id} that guard.toml names");
            return Err(bundle.file_error(TOKENIZER, reason));
        }
    }
    Ok(())
}
