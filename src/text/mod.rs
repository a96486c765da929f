//! Text: the chat template, the tokenizer, and how a conversation becomes token ids.

mod answer;
mod conversation;
mod delta;
mod markup;
mod pipeline;
mod template;
mod tokenizer;

pub(crate) use answer::{AnswerText, AnswerToken, TextEdit};
pub use conversation::Message;
pub(crate) use conversation::{Frame, Renderer};
#[cfg(fuzzing)]
pub use delta::fuzz as fuzz_deltas;
pub(crate) use delta::{DeltaTokenizer, Edit};
pub use markup::Channel;
pub use tokenizer::TextToken;
pub(crate) use tokenizer::Tokenizer;
