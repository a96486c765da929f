//! A message of a conversation.

use serde::{Deserialize, Serialize};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system` or `developer`, which is the same, `user`, `assistant`, `tool`, or what else the model's template knows:
    /// exactly so, and at most 64 bytes.
    pub role: String,
    /// The text. Special tokens in it, such as `<|im_end|>`, are text: nobody can close their own turn.
    pub content: String,
}

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new("user", content)
    }

    /// What the host tells the model beforehand.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new("system", content)
    }

    /// An earlier answer of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new("assistant", content)
    }
}
