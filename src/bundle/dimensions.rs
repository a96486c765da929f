//! The sizes of a model, as `guard.toml` has them.

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dimensions {
    pub(crate) architecture: String,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_layers: usize,
    pub(crate) num_heads: usize,
    pub(crate) num_kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) context: usize,
    /// Needed where the host computes the rotary embedding.
    pub(crate) rope_theta: Option<f64>,
}
