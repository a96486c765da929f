//! A guard: a bundle opened on an execution provider.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    Config, Error, Overflow, Policy, Result, Stats, Stream, TextToken,
    bundle::{Bundle, QUERY_HEADS, RESPONSE_HEADS, limits},
    engine::{Engine, Limits},
    model::{
        CacheFormat, HeadId,
        open::{self, Opened},
    },
    process::{Opening, Owned, Process},
    runtime::Runtime,
    self_test,
    text::{Renderer, Tokenizer, size},
    verdict::Labels,
};

const TOKENIZER: &str = "tokenizer.json";
const TEMPLATE: &str = "chat_template.jinja";

/// An opened bundle: heavy, shared, thread-safe. Cloning it is cheap and gives the same guard; streams keep it alive.
///
/// A process that is forked from the one that opened it does not have its threads: there every call of it and its streams
/// fails with [`Error::EngineStopped`], and dropping them frees nothing. Such a process opens a guard of its own.
///
/// See the crate documentation for an example.
#[derive(Clone)]
pub struct Guard {
    pub(crate) shared: Arc<Owned<Shared>>,
}

/// What the streams of a guard share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) renderer: Renderer,
    pub(crate) response_labels: Arc<Labels>,
    pub(crate) query_labels: Arc<Labels>,
    /// The heads of level and category that judge answers.
    pub(crate) response_heads: [HeadId; 2],
    /// And those that judge prompts.
    pub(crate) query_heads: [HeadId; 2],
    pub(crate) vocab_size: usize,
    pub(crate) overflow: Overflow,
    pub(crate) info: Info,
    policy: Policy,
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
    /// `fp32`, `int8` or `int4`, with the quantisation block.
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

impl Guard {
    /// Opens a bundle with the default configuration.
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`] or [`Error::RuntimeUnusable`] if there is no ONNX Runtime to run it;
    /// [`Error::BundleFile`], [`Error::BundleField`] or [`Error::BundleFormat`] if the bundle is damaged, newer than
    /// this library or of an unknown kind, changes meanwhile, or fails its self-test: then it is damaged in a way that
    /// its digests do not show, or this machine computes wrong.
    pub fn open(bundle: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(bundle, &Config::default())
    }

    /// Opens a bundle.
    ///
    /// # Errors
    /// As [`Guard::open`], and [`Error::Config`] for a setting that is out of range.
    pub fn open_with(bundle: impl AsRef<Path>, config: &Config) -> Result<Self> {
        config.validate()?;
        let bundle = Bundle::open(bundle.as_ref())?;
        bundle.checked(config.verify_files, || Self::start(&bundle, config))
    }

    /// Opens the demonstration guard that is compiled in. It is small and only tells the obvious apart.
    ///
    /// # Errors
    /// As [`Guard::open_with`].
    #[cfg(feature = "nano")]
    pub fn nano(config: &Config) -> Result<Self> {
        Self::start(&Bundle::embedded(crate::bundle::NANO)?, config)
    }

    fn start(bundle: &Bundle, config: &Config) -> Result<Self> {
        let span = tracing::info_span!("open", bundle = bundle.name());
        let _entered = span.enter();
        config.validate()?;
        let opening = Opening::begin()?;
        let manifest = &bundle.manifest;
        let json = bundle.place.read(TOKENIZER, limits::TOKENIZER_BYTES)?;
        let tokenizer = Tokenizer::new(&json, manifest.model.vocab_size);
        let tokenizer = tokenizer.map_err(|reason| bundle.file_error(TOKENIZER, reason))?;
        drop(json);
        check_control_tokens(bundle, &tokenizer)?;
        let template = bundle.read_text(TEMPLATE, limits::TEMPLATE_BYTES)?;
        let renderer = Renderer::new(&template, manifest.tokens.clone(), manifest.model.context)
            .map_err(|reason| bundle.file_error(TEMPLATE, reason))?;

        let runtime = Runtime::load(&config.runtime)?;
        let mut opened = open::open(bundle, &runtime, config)?;
        if config.self_test {
            self_test::run(bundle, &tokenizer, &mut *opened.model, opened.format)?;
        }
        let Opened { model, format, provider } = opened;
        let (dims, layout) = (&manifest.model, model.layout());
        let limits = Limits {
            context: dims.context,
            step_tokens: config.engine.step_tokens,
            max_sequences: config.engine.max_streams,
            max_queued_tokens: config.engine.max_queued_tokens,
            idle: Some(config.engine.idle_seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs),
        };
        let engine = Engine::start(model, limits)?;
        if engine.context() < dims.context {
            tracing::warn!(tokens = engine.context(), context = dims.context, "cache.mib holds less than the context");
        }
        let info = Info {
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
            context: engine.context(),
            cache_bytes_per_token: layout.block_bytes / layout.block_tokens,
            runtime: runtime.library().display().to_string(),
            provider: provider.to_owned(),
        };
        let shared = Shared {
            engine: Arc::new(engine),
            tokenizer,
            renderer,
            response_labels: manifest.response_labels(&bundle.name())?,
            query_labels: manifest.query_labels(&bundle.name())?,
            response_heads: head_ids(bundle, RESPONSE_HEADS)?,
            query_heads: head_ids(bundle, QUERY_HEADS)?,
            vocab_size: dims.vocab_size,
            overflow: config.engine.overflow,
            info,
            policy: config.policy.clone(),
        };
        shared.policy.check_categories(&shared.query_labels, &shared.response_labels)?;
        let shared = Arc::new(Owned::new(shared));
        if let Err(error) = opening.check() {
            std::mem::forget(shared);
            return Err(error);
        }
        Ok(Guard { shared })
    }

    /// Opens a stream with the configuration's policy.
    ///
    /// # Errors
    /// [`Error::Busy`] if as many streams are open as the configuration allows.
    pub fn stream(&self) -> Result<Stream> {
        self.stream_with(self.shared.policy.clone())
    }

    /// Opens a stream with a policy of its own.
    ///
    /// # Errors
    /// As [`Guard::stream`], and [`Error::Config`] if the policy is out of range.
    pub fn stream_with(&self, policy: Policy) -> Result<Stream> {
        self.process().check()?;
        policy.validate()?;
        policy.check_categories(&self.shared.query_labels, &self.shared.response_labels)?;
        Stream::new(self.shared.clone(), policy)
    }

    /// The tokens of a text, as [`Stream::push_tokens`] wants them. Special tokens that the text spells are text.
    ///
    /// # Errors
    /// [`Error::Argument`] if the tokenizer cannot encode the text, or takes texts only whole and this has more than
    /// 1 MiB; [`Error::OutOfMemory`] if there is no room for the tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<TextToken>> {
        self.process().check()?;
        self.shared.tokenizer.encode(text)
    }

    /// The bytes that a token stands for: often not whole characters.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such token.
    pub fn token_bytes(&self, id: u32) -> Result<&[u8]> {
        self.process().check()?;
        self.shared.token_bytes(id)
    }

    /// The labels of the heads that judge prompts.
    pub fn query_labels(&self) -> &Labels {
        &self.shared.query_labels
    }

    /// The labels of the heads that judge answers.
    pub fn response_labels(&self) -> &Labels {
        &self.shared.response_labels
    }

    /// What the guard has done so far and how it is. Never waits for a step; callers may poll it. In a forked process all
    /// zeros: see [`Guard`].
    pub fn stats(&self) -> Stats {
        self.shared.engine.stats()
    }

    /// What the guard is made of.
    pub fn info(&self) -> &Info {
        &self.shared.info
    }

    /// The process that it can be used in.
    pub(crate) fn process(&self) -> Process {
        self.shared.process()
    }
}

impl Shared {
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

/// Which of the bundle's heads have these names.
fn head_ids(bundle: &Bundle, names: [&str; 2]) -> Result<[HeadId; 2]> {
    let missing = |name| bundle.field_error("heads", format!("there is no head {name:?}"));
    let [first, second] = names.map(|name| bundle.manifest.head(name).map(HeadId::new).ok_or_else(|| missing(name)));
    Ok([first?, second?])
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
