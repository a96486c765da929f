//! Text: the chat template, the tokenizer, and how a conversation becomes token ids.

mod conversation;
mod template;
mod tokenizer;

pub use conversation::Message;
pub(crate) use conversation::Renderer;
pub use tokenizer::TextToken;
pub(crate) use tokenizer::Tokenizer;
