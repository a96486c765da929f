//! Text: the chat template, the tokenizer, and how a conversation becomes token ids.

mod answer;
mod audit;
mod conversation;
mod definition;
mod delta;
mod encode;
mod fit;
mod markup;
mod message;
mod pipeline;
#[cfg(test)]
#[path = "../../tests/common/random_text.rs"]
mod random_text;
pub(crate) mod size;
mod template;
mod tokenizer;

#[cfg(feature = "_internals")]
pub(crate) use answer::check_answer;
pub(crate) use answer::{AnswerText, AnswerToken, MAX_PUSH, TextChange, TokenEdit};
#[cfg(any(test, feature = "_internals"))]
pub(crate) use conversation::ThinkFrame;
pub(crate) use conversation::{ControlTokens, Frame, Renderer};
#[cfg(feature = "_internals")]
pub(crate) use delta::{DeltaTokenizer, check_deltas};
pub(crate) use encode::encode;
pub(crate) use fit::Fit;
pub use markup::Channel;
pub use message::Message;
pub(crate) use pipeline::least_bytes;
pub(crate) use tokenizer::Tokenizer;
pub use tokenizer::{TextToken, TokenId};
