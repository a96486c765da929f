//! Text: the chat template, the tokenizer, and how a conversation becomes token ids.

mod answer;
mod audit;
mod conversation;
mod definition;
mod delta;
mod markup;
mod pipeline;
#[cfg(test)]
#[path = "../../tests/common/random_text.rs"]
mod random_text;
pub(crate) mod size;
mod template;
mod tokenizer;

#[cfg(feature = "_internals")]
pub(crate) use answer::check_answer;
pub(crate) use answer::{AnswerText, AnswerToken, MAX_PUSH, TextEdit};
pub use conversation::Message;
#[cfg(any(test, feature = "_internals"))]
pub(crate) use conversation::ThinkFrame;
pub(crate) use conversation::{Frame, Renderer};
#[cfg(feature = "_internals")]
pub(crate) use delta::check_deltas;
pub(crate) use delta::{DeltaTokenizer, Edit};
pub use markup::Channel;
pub use tokenizer::TextToken;
pub(crate) use tokenizer::Tokenizer;
