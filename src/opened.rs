//! An opened bundle: its tokenizer, template, labels and running engine, as a guard and its streams share them.

use std::{path::Path, sync::Arc, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    bundle::{Answer, Bundle, CANDIDATES, Classes, Dimensions, NEXT_TOKEN, QUERY_HEADS, RESPONSE_HEADS},
    config::{Config, Overflow},
    engine::{Engine, Limits},
    error::{Error, Result},
    limits,
    model::{CacheFormat, HeadId, Model, Numbers, open, request::Backed},
    policy::Policy,
    process::{Opening, Owned},
    runtime::Runtime,
    self_test::{self, Held},
    tally::Tally,
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
    /// What answers are judged by.
    pub(crate) response_labels: Arc<Labels>,
    /// And prompts.
    pub(crate) query_labels: Arc<Labels>,
    pub(crate) heads: Heads,
    pub(crate) vocab_size: usize,
    /// Tokens that the KV cache holds.
    pub(crate) cache_tokens: usize,
    /// And tokens of one of its blocks.
    pub(crate) block_tokens: usize,
    pub(crate) overflow: Overflow,
    pub(crate) info: Info,
    /// Of streams that are given none of their own.
    pub(crate) policy: Policy,
    pub(crate) name: Option<String>,
    /// What all streams, and annotations, came to.
    pub(crate) tally: Tally,
}

/// The heads of a bundle that the library judges by, by its variant.
pub(crate) enum Heads {
    /// Those of levels and of categories, which judge token by token.
    Stream {
        /// Of answers.
        response: [HeadId; 2],
        /// Of prompts.
        query: [HeadId; 2],
    },
    /// Those of a model that writes its verdict.
    Gen(Arc<Gen>),
}

/// A model that writes its verdict on a whole conversation.
pub(crate) struct Gen {
    /// What it may write.
    pub(crate) answer: Answer,
    /// Compares the tokens that answers are decided by: these.
    pub(crate) candidates: HeadId,
    pub(crate) tokens: Arc<[u32]>,
    /// Compares all tokens.
    pub(crate) next_token: HeadId,
}

/// What a guard is made of.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Info {
    /// The bundle's folder, or `(built in)`.
    pub bundle: String,
    /// SHA-256 of the bundle's guard.toml, which has the digests of the other files: equal for equal bundles.
    pub bundle_sha256: String,
    /// What kind of model it is: `stream` judges token by token, `gen` whole conversations.
    pub variant: String,
    /// The checkpoint that the bundle was exported from.
    pub source: String,
    /// Digest of each file of that checkpoint, by name.
    #[serde(serialize_with = "as_object")]
    pub source_sha256: Vec<(String, String)>,
    /// The program that exported it.
    pub exporter: String,
    /// Architecture of the checkpoint.
    pub architecture: String,
    /// `fp32`, `fp16`, `bf16`, `int8` or `int4`, with how many weights share a scale, and whether they have zero points.
    pub weights: String,
    /// `fp32`, `fp16`, `bf16` or `int8`.
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
    /// The execution provider in use, as the configuration names it.
    pub provider: String,
    /// Nodes of the model's graph by the provider that runs them, as ONNX Runtime names it and placed them. Empty if the
    /// runtime is before 1.24, which cannot tell: then all are on the CPU.
    #[serde(serialize_with = "as_object")]
    pub nodes: Vec<(String, usize)>,
    /// The bundle behind this one that is asked for second opinions, if there is one.
    pub second_opinion: Option<String>,
}

impl Opened {
    /// Opens a bundle's folder, and checks its files meanwhile.
    pub(crate) fn folder(folder: &Path, config: &Config) -> Result<Arc<Owned<Self>>> {
        config.validate()?;
        let bundle = Bundle::open(folder)?;
        let graph = open::graph_for(&bundle, config)?;
        bundle.checked(config.verify_files, graph, || Self::start(&bundle, config))
    }

    /// Opens the demonstration guard that is compiled in.
    #[cfg(feature = "nano")]
    pub(crate) fn nano(config: &Config) -> Result<Arc<Owned<Self>>> {
        config.validate()?;
        Self::start(&Bundle::embedded(&crate::bundle::NANO)?, config)
    }

    /// Opens the demonstration guard of the variant gen, which is compiled in too.
    #[cfg(feature = "nano")]
    pub(crate) fn nano_gen(config: &Config) -> Result<Arc<Owned<Self>>> {
        config.validate()?;
        Self::start(&Bundle::embedded(&crate::bundle::NANO_GEN)?, config)
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
        check_pieces(bundle, &tokenizer)?;
        let renderer = open_renderer(bundle)?;
        let runtime = Runtime::load(&config.runtime)?;
        let Backed { mut model, numbers, assigned } = open::open(bundle, &runtime, config)?;
        if config.self_test {
            let held = Held { graph: open::graph_for(bundle, config)?, numbers };
            self_test::run(bundle, &tokenizer, &mut *model, held)?;
        }
        let layout = model.layout();
        let engine = start_engine(model, &manifest.model, config)?;
        let (response_labels, query_labels) =
            (manifest.response_labels(&bundle.name())?, manifest.query_labels(&bundle.name())?);
        config.policy.check_categories(&query_labels, &response_labels)?;
        let tally = Tally::new(&query_labels, &response_labels);
        let info = Info {
            context: engine.context(),
            cache_bytes_per_token: layout.block_bytes / layout.block_tokens,
            runtime: runtime.library().display().to_string(),
            provider: config.runtime.provider.name().to_owned(),
            nodes: assigned.into_iter().map(|own| (own.provider, own.operators.len())).collect(),
            ..Info::of_bundle(bundle, numbers)
        };
        Ok(Opened {
            engine: Arc::new(engine),
            tokenizer,
            renderer,
            response_labels,
            query_labels,
            heads: heads(bundle)?,
            vocab_size: manifest.model.vocab_size,
            cache_tokens: layout.blocks.saturating_mul(layout.block_tokens),
            block_tokens: layout.block_tokens,
            overflow: config.engine.overflow,
            info,
            policy: config.policy.clone(),
            name: config.name.clone(),
            tally,
        })
    }

    /// Refuses messages that are too many or too long for the context, by their number and bytes alone.
    pub(crate) fn check_lengths(&self, count: usize, bytes: usize) -> Result<()> {
        size::check_lengths(&self.tokenizer, self.info.context, count, bytes)
    }

    /// The heads that judge answers token by token.
    pub(crate) fn response_heads(&self) -> Result<[HeadId; 2]> {
        match &self.heads {
            Heads::Stream { response, .. } => Ok(*response),
            Heads::Gen(_) => Err(NO_STREAM),
        }
    }

    /// The heads that judge prompts where they end.
    pub(crate) fn query_heads(&self) -> Result<[HeadId; 2]> {
        match &self.heads {
            Heads::Stream { query, .. } => Ok(*query),
            Heads::Gen(_) => Err(NO_STREAM),
        }
    }

    /// The bytes of a token that the model and the tokenizer both know.
    pub(crate) fn token_bytes(&self, id: u32) -> Result<&[u8]> {
        let known = self.tokenizer.token_bytes(id).filter(|_| (id as usize) < self.vocab_size);
        known.ok_or_else(|| Error::argument("token id", format!("there is no token {id}")))
    }
}

const NO_STREAM: Error = Error::WrongState {
    call: "stream",
    state: "of a guard of the variant gen, which judges whole conversations: annotate them",
};

fn as_object<S: Serializer, T: Serialize>(pairs: &[(String, T)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

impl Info {
    /// What is known before the engine runs.
    fn of_bundle(bundle: &Bundle, numbers: Numbers) -> Self {
        let manifest = &bundle.manifest;
        let dims = &manifest.model;
        Info {
            bundle: bundle.name(),
            bundle_sha256: bundle.sha256.clone(),
            variant: manifest.variant.clone(),
            source: manifest.source.name.clone(),
            source_sha256: manifest.source.sha256.clone().into_iter().collect(),
            exporter: manifest.exporter.clone(),
            architecture: dims.architecture.clone(),
            weights: match (numbers, manifest.group) {
                (Numbers::Own { weight_bits: bits @ ..16, .. }, _) => format!("int{bits}"),
                (Numbers::Own { float, .. }, _) => float.name().to_owned(),
                (_, Some(group)) => {
                    let zero_points = if manifest.zero_points { " with zero points" } else { "" };
                    format!("{}, groups of {group}{zero_points}", manifest.precision.name())
                }
                (_, None) => manifest.precision.name().to_owned(),
            },
            cache: match numbers {
                Numbers::Bundle(CacheFormat::Fp32, _) => "fp32".to_owned(),
                Numbers::Bundle(CacheFormat::Int8, _) => "int8".to_owned(),
                Numbers::Own { float, .. } => float.name().to_owned(),
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
            provider: String::new(),
            nodes: Vec::new(),
            second_opinion: None,
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

fn start_engine(model: Box<dyn Model>, dims: &Dimensions, config: &Config) -> Result<Engine> {
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
    Ok(engine)
}

/// The heads that the bundle's variant is judged by.
fn heads(bundle: &Bundle) -> Result<Heads> {
    let manifest = &bundle.manifest;
    let Some(answer) = &manifest.answer else {
        return Ok(Heads::Stream {
            response: head_ids(bundle, RESPONSE_HEADS)?,
            query: head_ids(bundle, QUERY_HEADS)?,
        });
    };
    let [candidates, next_token] = head_ids(bundle, [CANDIDATES, NEXT_TOKEN])?;
    let tokens = match manifest.heads[candidates.index()].classes() {
        Classes::Candidates(tokens) => tokens.to_vec(),
        _ => Vec::new(),
    };
    Ok(Heads::Gen(Arc::new(Gen { answer: answer.clone(), candidates, tokens: tokens.into(), next_token })))
}

/// The tokenizer makes the ids of guard.toml of every piece of an answer.
fn check_pieces(bundle: &Bundle, tokenizer: &Tokenizer) -> Result<()> {
    for (field, piece) in bundle.manifest.answer.iter().flat_map(Answer::pieces) {
        let found = tokenizer.ids(&piece.text)?;
        if found != piece.ids {
            let reason = format!("the tokens of {:?} are {found:?}, not {:?}", piece.text, piece.ids);
            return Err(bundle.field_error(&format!("{field}.ids"), reason));
        }
    }
    Ok(())
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
