//! Streaming moderation with Qwen3Guard-Stream.
//!
//! Open a [`Guard`] once, a [`Stream`] per conversation; give it the prompt, then the answer as it is produced.

#[doc(hidden)]
pub mod bench_support;
mod bundle;
mod config;
mod engine;
mod error;
mod guard;
mod model;
mod policy;
mod runtime;
mod stream;
mod text;
mod verdict;

pub use config::{CacheConfig, CachePrecision, Config, EngineConfig, RuntimeConfig};
pub use error::{Error, Result};
pub use guard::{Guard, Info};
pub use policy::{Decision, Mode, Policy};
pub use stream::{PromptCheck, Stream, TokenVerdict, Update, Violation};
pub use text::{Message, TextToken};
pub use verdict::{Labels, Risk, Verdict};
