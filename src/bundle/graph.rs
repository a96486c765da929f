//! A graph of a bundle, as `guard.toml` describes it.

use serde::Deserialize;

pub(crate) const WEIGHTS: &str = "weights.bin";

/// A graph, or several variants of one that share their weights. Which fields it has depends on the backend that it is made
/// for, which asks for those that it needs.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Graph {
    pub(crate) file: Option<String>,
    /// The file with its weights.
    #[serde(default = "default_weights")]
    pub(crate) weights: String,
    /// What its KV cache stores.
    pub(crate) cache: Option<Float>,
    /// Token slots of a block of a paged cache.
    pub(crate) block_tokens: Option<usize>,
    /// Bits of a weight of its matrices.
    pub(crate) weight_bits: Option<u32>,
    /// The table that the host reads rows of, where the graph has none.
    pub(crate) embedding: Option<Embedding>,
    #[serde(default)]
    pub(crate) variants: Vec<Variant>,
    /// Heads that are graphs of their own.
    #[serde(default)]
    pub(crate) heads: Vec<HeadGraph>,
}

/// A type of floating point numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Float {
    Fp32,
    Fp16,
    Bf16,
}

impl Float {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Float::Fp32 => "fp32",
            Float::Fp16 => "fp16",
            Float::Bf16 => "bf16",
        }
    }
}

impl Float {
    /// Bytes of a number.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Float::Fp32 => 4,
            Float::Fp16 | Float::Bf16 => 2,
        }
    }
}

/// Rows `[vocab, hidden]` in a file of weights.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Embedding {
    pub(crate) offset: u64,
    #[serde(rename = "type")]
    pub(crate) kind: Float,
}

/// A graph of static shapes.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Variant {
    pub(crate) file: String,
    pub(crate) append: Append,
    /// The new tokens of a stream that it takes at a time.
    pub(crate) new_tokens: usize,
    /// The tokens that a stream's cache holds.
    pub(crate) context: usize,
    /// The streams that it takes at a time.
    pub(crate) slots: usize,
}

impl Variant {
    /// What it differs in from others of the same graph.
    pub(crate) fn shape(&self) -> (Append, usize, usize, usize) {
        (self.append, self.new_tokens, self.context, self.slots)
    }
}

/// How new keys and values come into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Append {
    /// They come out, and the host writes them.
    Rows,
    /// A whole new cache comes out.
    Scatter,
}

/// A head that is a graph of its own.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct HeadGraph {
    pub(crate) name: String,
    pub(crate) file: String,
}

impl Graph {
    /// The files that are graphs.
    pub(crate) fn graph_files(&self) -> impl Iterator<Item = &str> {
        let variants = self.variants.iter().map(|variant| &*variant.file);
        self.file.as_deref().into_iter().chain(variants).chain(self.heads.iter().map(|head| &*head.file))
    }

    /// And that of their weights.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.graph_files().chain([&*self.weights])
    }
}

fn default_weights() -> String {
    WEIGHTS.to_owned()
}
