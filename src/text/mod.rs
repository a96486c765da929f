//! Text: the chat template, the tokenizer, and how a conversation becomes token ids.

mod conversation;
mod delta;
mod pipeline;
mod template;
mod tokenizer;

pub use conversation::Message;
pub(crate) use conversation::Renderer;
#[cfg(fuzzing)]
pub use delta::fuzz as fuzz_deltas;
pub(crate) use delta::{DeltaTokenizer, Edit};
pub use tokenizer::TextToken;
pub(crate) use tokenizer::Tokenizer;
