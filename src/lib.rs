//! Streaming moderation with Qwen3Guard-Stream, on ONNX Runtime.
//!
//! Open a [`Guard`] once; open a [`Stream`] for each conversation. Give it the prompt ([`Stream::prompt`]), then the
//! answer as it is produced ([`Stream::push_text`]), and get back what the model says about it and what the
//! [`Policy`] makes of that.
//!
//! Whole conversations that are there already are judged by [`Guard::annotate`], with bundles of Qwen3Guard-Gen, too.
//!
//! A guard may be used from any number of threads; their streams are computed together. A stream has one owner at a
//! time. Every handle keeps what it needs alive, so the order of dropping does not matter.
//!
//! Features: `nano` embeds two small demonstration guards (`Guard::nano`, `Guard::nano_gen`); `capi` exports the C ABI.

// Of tests that tell a whole story, length is not asked.
#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod annotate;
mod annotation;
mod bundle;
mod config;
mod engine;
mod error;
#[cfg(feature = "capi")]
mod ffi;
mod future;
mod generative;
mod guard;
#[cfg(feature = "_internals")]
#[doc(hidden)]
pub mod internals;
mod limits;
mod machine;
mod model;
mod opened;
pub mod policy;
mod process;
mod providers;
mod queue;
mod runtime;
mod second;
mod self_test;
mod stats;
mod stream;
mod tally;
mod text;
mod unsupported;
mod verdict;

pub use annotation::{AnnotateOptions, Annotation, AnnotationMode, Decoding, RewardForm, RewardRule, TextOverflow};
pub use config::{
    Activations, BuiltIn, CacheConfig, CachePrecision, ComputeUnits, Config, CoreMlConfig, CudaConfig, DirectMlConfig,
    EngineConfig, Overflow, Provider, RuntimeConfig, SecondOpinionConfig, WebGpuConfig,
};
pub use error::{Error, ErrorSource, Result};
pub use future::{AnnotateFuture, CallFuture};
pub use guard::Guard;
pub use opened::Info;
pub use policy::{Decision, Policy};
pub use providers::{ProviderDevice, ProviderStatus, providers};
pub use queue::{Completion, CompletionQueue};
pub use stats::{Histogram, Stats, VerdictChannel, VerdictCount};
pub use stream::{
    Call, Opinion, OpinionOutcome, OpinionTrigger, PromptCheck, PromptFinding, Reply, Stream, TokenVerdict, Update,
    Violation,
};
pub use text::{Channel, Message, TextToken, TokenId};
pub use verdict::{Labels, Risk, Verdict};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
struct RustPage;
