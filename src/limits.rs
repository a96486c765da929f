//! The limits of what is opened. A file that is beyond one is refused before it costs memory or time; the error names it
//! and the limit. Real checkpoints stay far below all of them.

/// Bytes of `guard.toml`.
pub(crate) const MANIFEST_BYTES: u64 = 4 << 20;

/// Bytes of a configuration or a policy in TOML.
pub(crate) const SETTINGS_BYTES: usize = 1 << 20;

/// Bytes of a graph, which holds no tensors but small ones.
pub(crate) const GRAPH_BYTES: u64 = 64 << 20;

/// Bytes of `tokenizer.json`. Qwen3's has 11 million.
pub(crate) const TOKENIZER_BYTES: u64 = 64 << 20;

/// Bytes of `chat_template.jinja`. Qwen3's has 4,116.
pub(crate) const TEMPLATE_BYTES: u64 = 256 << 10;

/// Bytes of all files of a bundle together.
pub(crate) const BUNDLE_BYTES: u64 = 1 << 42;

/// Files of a bundle.
pub(crate) const FILES: usize = 64;

/// Bytes of a file's name.
pub(crate) const FILE_NAME_BYTES: usize = 255;

/// Heads of a model, that is outputs of its graph.
pub(crate) const MODEL_HEADS: usize = 16;

/// Bytes of the name of such a head, or of the input with its rows.
pub(crate) const HEAD_NAME_BYTES: usize = 64;

/// Token ids that such a head compares.
pub(crate) const CANDIDATES: usize = 1024;

/// Tokens that end an answer which a model writes.
pub(crate) const END_TOKENS: usize = 16;

/// Tokens of a piece of such an answer.
pub(crate) const PIECE_TOKENS: usize = 64;

/// Bytes of a piece of such an answer.
pub(crate) const PIECE_BYTES: usize = 256;

/// Categories of a head: as many as a verdict of the C interface carries.
pub(crate) const CATEGORIES: usize = 16;

/// Bytes of a category's name.
pub(crate) const LABEL_BYTES: usize = 256;

/// Bytes of the exporter's name, the checkpoint's, and those of its files.
pub(crate) const TEXT_BYTES: usize = 1024;

/// Tokens of the word that starts a user turn.
pub(crate) const USER_TOKENS: usize = 16;

/// Decoder layers.
pub(crate) const LAYERS: usize = 256;

/// Token ids of the model, and so of its tokenizer.
pub(crate) const VOCABULARY: usize = 1 << 20;

/// Width of the hidden state.
pub(crate) const HIDDEN_SIZE: usize = 1 << 16;

/// Query heads, and heads of keys and values.
pub(crate) const HEADS: usize = 1024;

/// Values of a head.
pub(crate) const HEAD_DIM: usize = 1024;

/// Tokens of a stream.
pub(crate) const CONTEXT: usize = 1 << 20;

/// Nodes of a graph, and tensors that it holds or names. A layer has 8 nodes and 13 tensors.
pub(crate) const GRAPH_ITEMS: usize = 1 << 14;

/// Graphs of fixed shapes of a bundle.
pub(crate) const VARIANTS: usize = 96;

/// New tokens of a stream that such a graph takes at a time.
pub(crate) const VARIANT_TOKENS: usize = 4096;

/// Streams that such a graph takes at a time.
pub(crate) const VARIANT_SLOTS: usize = 64;

/// Values in a row between two nodes of a graph.
pub(crate) const GRAPH_WIDTH: usize = 1 << 22;

/// Merges of a byte-level BPE vocabulary.
pub(crate) const MERGES: usize = 1 << 21;

/// Bytes of a token as `tokenizer.json` spells it.
pub(crate) const TOKEN_BYTES: usize = 4096;

/// Tokens that are added to the vocabulary.
pub(crate) const ADDED_TOKENS: usize = 4096;

/// Bytes of a description of the normalizer or the pre-tokenizer, and their nesting as JSON.
pub(crate) const TOKENIZER_STEP_BYTES: usize = 64 << 10;

/// Lines of a template, and bytes of a line. minijinja counts both in 16 bits.
pub(crate) const TEMPLATE_LINES: usize = 1 << 15;

/// Words and signs within one tag of a template. A tag's expression is nested no deeper than it has them.
pub(crate) const TEMPLATE_TAG_TOKENS: usize = 256;

/// How deep statements of a template are nested; each `elif` counts as one level.
pub(crate) const TEMPLATE_DEPTH: usize = 48;

/// How deep brackets are nested within a tag of a template.
pub(crate) const TEMPLATE_BRACKETS: usize = 16;

/// Items of a list that a template assigns, and how deep lists are nested in it.
pub(crate) const TEMPLATE_ITEMS: usize = 100_000;

/// See [`TEMPLATE_ITEMS`].
pub(crate) const TEMPLATE_NESTING: usize = 8;

/// What rendering a conversation may cost: this, so much more for each message, and as much as its texts have bytes. An
/// instruction of the template costs one, and so do 64 bytes that it makes or writes.
pub(crate) const TEMPLATE_FUEL: u64 = 100_000;

/// See [`TEMPLATE_FUEL`].
pub(crate) const TEMPLATE_FUEL_A_MESSAGE: u64 = 2_000;

/// Blocks of the KV cache.
pub(crate) const CACHE_BLOCKS: usize = 1 << 24;
