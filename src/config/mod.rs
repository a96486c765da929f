//! Configuration: a TOML document or a plain struct, every setting with its unit and default.

mod provider;

use std::path::PathBuf;

use serde::Deserialize;

use crate::{Error, Result, error::settings_from_toml, limits::SETTINGS_BYTES, policy::Policy};
pub use provider::{ComputeUnits, CoreMlConfig, CudaConfig, DirectMlConfig, Provider, WebGpuConfig};

/// How a guard is opened. `Config::default()` is right for most programs.
///
/// ```
/// let config = qwenguard::Config::from_toml(
///     r#"
///     [runtime]
///     threads = 2
///
///     [cache]
///     precision = "int8"
///     mib = 512
///     "#,
/// )?;
/// assert_eq!(config.runtime.threads, 2);
/// # Ok::<(), qwenguard::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the guard is called in its statistics and metrics, for hosts that have several: up to 128 bytes without control
    /// characters. Default: nothing. A second guard behind it is called `NAME second opinion`.
    pub name: Option<String>,
    /// ONNX Runtime: where it is and how it runs.
    pub runtime: RuntimeConfig,
    /// The KV cache.
    pub cache: CacheConfig,
    /// The engine that batches streams.
    pub engine: EngineConfig,
    /// What streams decide from verdicts, unless they are given a policy of their own.
    pub policy: Policy,
    /// A second guard behind this one, for [`policy::SecondOpinion`](crate::policy::SecondOpinion). Default: none. Runtime,
    /// precision of the cache and checks are as this guard's.
    pub second_opinion: Option<SecondOpinionConfig>,
    /// Check the digests of a bundle's files when it is opened. Default true: all files are read once, the weights while
    /// ONNX Runtime loads the graph (docs/benchmarks.md says how long it takes). If false, only the sizes of the files
    /// are compared with `guard.toml`. Without meaning for the built-in guard.
    pub verify_files: bool,
    /// Run the bundle's self-test when it is opened: a few short texts whose tokens and logits must be those that the
    /// exporter found. It shows damaged weights and wrong arithmetic before the first verdict. Default true: it takes as
    /// long as a prompt of some 100 tokens.
    pub self_test: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: None,
            runtime: RuntimeConfig::default(),
            cache: CacheConfig::default(),
            engine: EngineConfig::default(),
            policy: Policy::default(),
            second_opinion: None,
            verify_files: true,
            self_test: true,
        }
    }
}

/// Settings of ONNX Runtime.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// The execution provider that computes the model. Default [`Provider::Cpu`]. One that cannot be had fails with
    /// [`Error::Provider`] when the guard is opened: no other takes its place.
    pub provider: Provider,
    /// The graph of the bundle that is run, by its name in `guard.toml`, where the provider runs several kinds of graphs:
    /// on the CPU `"paged_cpu"` or `"portable"`. Default: the first of its kinds that the bundle has. Another one fails
    /// with [`Error::Config`] when the guard is opened.
    pub graph: Option<String>,
    /// Settings of [`Provider::Cuda`]; without meaning for another one, as those below.
    pub cuda: CudaConfig,
    /// Settings of [`Provider::WebGpu`].
    pub webgpu: WebGpuConfig,
    /// Settings of [`Provider::DirectMl`].
    pub directml: DirectMlConfig,
    /// Settings of [`Provider::CoreMl`].
    pub coreml: CoreMlConfig,
    /// The ONNX Runtime library, or the folder it is in. Default: the variable `ORT_DYLIB_PATH`, then one that is
    /// loaded in the process already, then beside this library, then where the system keeps its libraries.
    pub library: Option<PathBuf>,
    /// Threads that compute one step, the calling one included, 1024 at most. Default 0: one per core. All are started
    /// when the guard is opened; if the system refuses one, that fails with [`Error::Config`].
    pub threads: usize,
    /// Whether [`Provider::Cpu`] multiplies with AMX, on Linux and processors that have it for 8-bit integers. Default false: the
    /// instructions were only ever run in a model of them, never on a processor, and how fast they are is not known.
    /// Where it cannot be had, opening fails with [`Error::Config`].
    ///
    /// Results have the same bits as without, which the self-test holds to the bundle in any case. The right to use AMX is the
    /// process's from then on: the system saves 8 KiB more for threads that use it, and refuses stacks for signals that are too
    /// small for that.
    pub amx: bool,
    /// How finely [`Provider::Cpu`] rounds what it multiplies with int8 and int4 weights. Default [`Activations::Exact`].
    pub activations: Activations,
    /// Whether an ONNX Runtime that reports about its use is accepted. Default false.
    ///
    /// From 1.29 on, the builds of its maker for Linux and macOS write a device identifier and a database below the home
    /// folder and send reports over the network, as soon as they are initialised and whatever their interface is told.
    /// Only the environment variable `ORT_DISABLE_TELEMETRY=1` stops that, and setting a variable is not safe in a process
    /// that has threads. So such a build is refused with [`Error::RuntimeUnusable`] unless the variable is set.
    pub allow_telemetry: bool,
}

impl RuntimeConfig {
    /// Whether steps are recorded and played again.
    pub(crate) fn records_steps(&self) -> bool {
        self.provider == Provider::Cuda && self.cuda.graphs
    }
}

/// More only wait for each other, and processors have no more.
const MAX_THREADS: usize = 1024;

/// More would make no step faster, and the memory of a step grows with them.
const MAX_STEP_TOKENS: usize = 1 << 16;

/// No machine has more processors of one kind.
const MAX_DEVICE: usize = 1023;

/// Of a guard's name, in bytes.
const MAX_NAME: usize = 128;

/// 16 TiB.
pub(crate) const MAX_CACHE_MIB: usize = 1 << 24;

/// Settings of the KV cache.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Default [`CachePrecision::Auto`].
    pub precision: CachePrecision,
    /// Memory for keys and values of all streams together, in MiB. Pages are taken from the system as they are first
    /// used.
    ///
    /// Default 0: a quarter of the memory that this process may use, which on Linux is the machine's or a limit of its
    /// control groups; or as much as one stream of full context needs, if that is more but not more than half. 1024
    /// where it is not known how much memory there is. 16777216 (16 TiB) at most.
    ///
    /// With [`Provider::Cuda`] and [`Provider::WebGpu`] it is memory of the device, taken and filled with zeros when the guard
    /// is opened. Default 0 is then 1024, or less if all streams cannot fill that: ONNX Runtime does not tell how much a
    /// device has.
    pub mib: usize,
}

/// How finely activations are rounded before they are multiplied with int8 and int4 weights on the CPU. With either a verdict
/// is the same alone and in company.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// To 15 bits, with one scale for each group of a row: what is lost is the rounding of weights only.
    #[default]
    Exact,
    /// To 8 bits: processors with 8-bit dot products multiply half as much, and verdicts differ a little more from those of
    /// unrounded numbers.
    Fast,
}

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePrecision {
    /// On the CPU, fp32 for a bundle of fp32 weights and int8 for all others; on any other provider what the bundle's
    /// graph for it stores, fp16 or bf16. There nothing else can be chosen.
    #[default]
    Auto,
    /// 32-bit floating point.
    Fp32,
    /// 8-bit integers with one scale per token and head: just over a quarter of the memory of fp32.
    Int8,
}

/// Settings of the engine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// The most new tokens in one step, over all streams. Longer work is cut into slices. Default 64: with more, long
    /// prompts are read no faster (measured, see docs/benchmarks.md), and short pushes wait longer for them. 65536 at
    /// most.
    pub step_tokens: usize,
    /// The most open streams. Default 4096. Beyond it opening fails with [`Error::Busy`].
    pub max_streams: usize,
    /// The most tokens that wait to be computed, over all streams. Default 262144. Beyond it calls fail with
    /// [`Error::Busy`] at once. If nothing waits one call may give more, so that trying again helps with any of them.
    pub max_queued_tokens: usize,
    /// Streams that are not used for so many seconds expire: they lose their conversation. Default 0: never.
    ///
    /// A stream is in use during each of its calls, up to the moment that the caller has the result, also out of a
    /// [`CompletionQueue`](crate::CompletionQueue). Calls are those of [`Stream`](crate::Stream) that judge or change the
    /// conversation: `prompt`, `next_turn`, all that push, `finish`, both that truncate, and `fork`, which uses the
    /// stream that is forked. It makes no difference whether there was something to compute or the call failed. Calls
    /// that only tell something, such as [`Stream::context_used`](crate::Stream::context_used), are no use.
    ///
    /// Every such call of an expired stream fails with [`Error::Expired`], whatever else may be wrong with it; calls that
    /// only tell something go on telling what they did.
    pub idle_seconds: u64,
    /// What happens when an answer is longer than the model's context. Default [`Overflow::Error`].
    pub overflow: Overflow,
}

/// What happens when an answer is longer than the model's context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// The push fails with [`Error::ContextFull`].
    #[default]
    Error,
    /// Judging goes on with less of the answer: whenever the context is full, the model starts anew with the prompt and
    /// the last tokens of the answer, half as many as fit. Which of them depends on the answer alone, not on how it is
    /// pushed. A prompt that does not fit is still an error.
    ///
    /// The KV cache must hold as many tokens as the context has; else opening fails with [`Error::Config`], which says how
    /// large [`CacheConfig::mib`] has to be at least.
    Restart,
}

/// A guard that is asked for second opinions: either a bundle or a built-in guard.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecondOpinionConfig {
    /// The folder of a bundle of the variant gen.
    pub bundle: Option<PathBuf>,
    /// A guard that is compiled in, in place of a bundle: for trying things and for tests.
    pub built_in: Option<BuiltIn>,
    /// Memory for its keys and values, in MiB, as [`CacheConfig::mib`] has it. Default 0: as there.
    pub cache_mib: usize,
}

/// A guard of the variant gen that is compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuiltIn {
    /// The demonstration guard of `Guard::nano_gen`. It needs the feature `nano`; without it, opening fails with
    /// [`Error::Config`].
    NanoGen,
}

impl SecondOpinionConfig {
    /// It names one guard.
    fn validate(&self) -> Result<()> {
        let reason = match (&self.bundle, self.built_in) {
            (Some(_), None) | (None, Some(_)) => return Ok(()),
            (None, None) => "it names no guard: set bundle or built_in",
            (Some(_), Some(_)) => "it names two guards: set either bundle or built_in",
        };
        Err(Error::config("second_opinion", reason))
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            step_tokens: 64,
            max_streams: 4096,
            max_queued_tokens: 1 << 18,
            idle_seconds: 0,
            overflow: Overflow::Error,
        }
    }
}

/// Whether a document chooses the provider where the first versions had it.
fn has_old_provider(text: &str) -> bool {
    text.len() <= SETTINGS_BYTES && text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("provider"))
}

impl Config {
    /// Reads a TOML document of at most 1 MiB. Unknown settings are errors.
    ///
    /// # Errors
    /// [`Error::Config`] with the setting, or "document" where it cannot be read, and what is wrong with it.
    pub fn from_toml(text: &str) -> Result<Self> {
        let config = settings_from_toml::<Config>("document", text).map_err(|error| match has_old_provider(text) {
            true => Error::config("provider", "there is no such setting: it is runtime.provider"),
            false => error,
        })?;
        config.validate()?;
        Ok(config)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let limited = [
            ("runtime.threads", self.runtime.threads, MAX_THREADS),
            ("cache.mib", self.cache.mib, MAX_CACHE_MIB),
            ("engine.step_tokens", self.engine.step_tokens, MAX_STEP_TOKENS),
            ("runtime.cuda.device", self.runtime.cuda.device, MAX_DEVICE),
            ("runtime.webgpu.device", self.runtime.webgpu.device, MAX_DEVICE),
            ("runtime.directml.device", self.runtime.directml.device, MAX_DEVICE),
            ("second_opinion.cache_mib", self.second_opinion.as_ref().map_or(0, |own| own.cache_mib), MAX_CACHE_MIB),
        ];
        for (field, value, limit) in limited {
            if value > limit {
                return Err(Error::config(field, format!("{value} is more than {limit}")));
            }
        }
        let positive = [
            ("engine.step_tokens", self.engine.step_tokens),
            ("engine.max_streams", self.engine.max_streams),
            ("engine.max_queued_tokens", self.engine.max_queued_tokens),
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err(Error::config(field, "must be at least 1"));
            }
        }
        let paths = [
            ("runtime.cuda.library", &self.runtime.cuda.library),
            ("runtime.webgpu.library", &self.runtime.webgpu.library),
            ("runtime.coreml.cache", &self.runtime.coreml.cache),
        ];
        if let Some((field, _)) =
            paths.iter().find(|(_, path)| path.as_ref().is_some_and(|path| path.as_os_str().is_empty()))
        {
            return Err(Error::config(*field, "it is empty"));
        }
        if let Some(name) = &self.name
            && (name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control))
        {
            return Err(Error::config("name", format!("it must have 1 to {MAX_NAME} bytes and no control characters")));
        }
        if let Some(second) = &self.second_opinion {
            second.validate()?;
        }
        self.policy.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_have_tables_of_their_own() {
        let config = Config::from_toml(
            r#"
            [runtime]
            provider = "webgpu"
            [runtime.cuda]
            device = 3
            library = "/x/cuda.so"
            graphs = false
            [runtime.webgpu]
            library = "/x/webgpu.so"
            device = 1
            [runtime.directml]
            device = 2
            [runtime.coreml]
            compute_units = "cpu_and_neural_engine"
            cache = "/x/cache"
            "#,
        )
        .unwrap();
        let runtime = config.runtime;
        assert_eq!(runtime.provider, Provider::WebGpu);
        assert_eq!((runtime.cuda.device, runtime.webgpu.device, runtime.directml.device), (3, 1, 2));
        assert_eq!(runtime.webgpu.library.as_deref(), Some("/x/webgpu.so".as_ref()));
        assert_eq!(runtime.coreml.compute_units, ComputeUnits::CpuAndNeuralEngine);
        for provider in Provider::ALL {
            let toml = format!("runtime.provider = \"{provider}\"");
            assert_eq!(Config::from_toml(&toml).unwrap().runtime.provider, provider);
            assert_eq!(Provider::from_name(provider.name()), Some(provider));
        }
    }

    #[test]
    fn activations_are_exact_unless_they_are_to_be_fast() {
        let parsed = |toml| Config::from_toml(toml).map(|config| config.runtime.activations);
        assert_eq!(parsed("").unwrap(), Activations::Exact);
        assert_eq!(parsed("runtime.activations = \"exact\"").unwrap(), Activations::Exact);
        assert_eq!(parsed("runtime.activations = \"fast\"").unwrap(), Activations::Fast);
        let error = parsed("runtime.activations = \"faster\"").unwrap_err().to_string();
        assert!(error.contains("expected `exact` or `fast`"), "{error}");
    }

    #[test]
    fn what_is_no_setting_of_a_provider_is_an_error_that_names_it() {
        for (toml, expected) in [
            ("provider = \"cpu\"", "provider: there is no such setting: it is runtime.provider"),
            ("runtime.provider = \"CPU\"", "unknown variant `CPU`, expected one of `cpu`, `cuda`"),
            ("runtime.provider = 1", "wanted string or table"),
            ("runtime.cuda.divice = 1", "divice"),
            ("runtime.webgpu.compute_units = \"all\"", "compute_units"),
            ("runtime.coreml.compute_units = \"gpu\"", "gpu"),
            ("runtime.cuda.device = -1", "-1"),
            ("name = ''", "name: it must have 1 to 128 bytes and no control characters"),
            ("name = \"a\\nb\"", "name: it must have"),
            ("runtime.webgpu.device = 1024", "runtime.webgpu.device: 1024 is more than 1023"),
            ("runtime.cuda.library = \"\"", "runtime.cuda.library: it is empty"),
            ("runtime.webgpu.library = \"\"", "runtime.webgpu.library: it is empty"),
            ("runtime.coreml.cache = \"\"", "runtime.coreml.cache: it is empty"),
        ] {
            let error = Config::from_toml(toml).unwrap_err().to_string();
            assert!(error.starts_with("configuration: ") && error.contains(expected), "{toml}: {error}");
        }
    }
}
