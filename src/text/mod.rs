//! Text: the chat template, the tokenizer, and how a conversation becomes token ids.

mod answer;
mod audit;
mod conversation;
mod definition;
mod delta;
mod encode;
mod markup;
mod message;
mod pipeline;
#[cfg(test)]
#[path = "../../tests/common/random_text.rs"]
mod random_text;
pub(crate) mod size;
mod template;
mod tokenizer;

#[cfg(fuzzing)]
pub use answer::fuzz as fuzz_push_text;
pub(crate) use answer::{AnswerText, AnswerToken, MAX_PUSH, TextEdit};
#[cfg(any(test, fuzzing))]
pub(crate) use conversation::ThinkFrame;
pub(crate) use conversation::{ControlTokens, Frame, Renderer};
pub(crate) use delta::DeltaTokenizer;
#[cfg(fuzzing)]
pub use delta::fuzz as fuzz_deltas;
pub(crate) use encode::encode;
pub use markup::Channel;
pub use message::Message;
pub(crate) use pipeline::least_bytes;
pub use tokenizer::TextToken;
pub(crate) use tokenizer::Tokenizer;
