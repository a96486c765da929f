"""What a bundle may hold. What is beyond is not written, because the library would refuse it."""

from __future__ import annotations

# The same names and numbers as in the library's src/limits.rs; a test compares them.
MANIFEST_BYTES = 4 << 20
GRAPH_BYTES = 64 << 20
TOKENIZER_BYTES = 64 << 20
TEMPLATE_BYTES = 256 << 10
BUNDLE_BYTES = 1 << 42
FILE_NAME_BYTES = 255
# Heads of a model, that is outputs of its graph; bytes of their names; token ids that one compares.
MODEL_HEADS = 16
HEAD_NAME_BYTES = 64
CANDIDATES = 1024
# Labels of a head: QG_MAX_CATEGORIES in include/qwenguard.h.
CATEGORIES = 16
LABEL_BYTES = 256
# The name of the checkpoint, and names of its files.
TEXT_BYTES = 1024
USER_TOKENS = 16
# Of a Gen bundle's answer: the ids that end it, ids of one of its pieces, and bytes of one.
END_TOKENS = 16
PIECE_TOKENS = 64
PIECE_BYTES = 256
LAYERS = 256
VOCABULARY = 1 << 20
HIDDEN_SIZE = 1 << 16
HEADS = 1 << 10
HEAD_DIM = 1 << 10
CONTEXT = 1 << 20
VARIANTS = 96
VARIANT_SLOTS = 64
# Values side by side between two nodes of the graph: also of the widest, gate and up.
GRAPH_WIDTH = 1 << 22
MERGES = 1 << 21
TOKEN_BYTES = 4096
ADDED_TOKENS = 4096
TOKENIZER_STEP_BYTES = 64 << 10
# Lines, and bytes of one.
TEMPLATE_LINES = 1 << 15
TEMPLATE_TAG_TOKENS = 256
TEMPLATE_DEPTH = 48
TEMPLATE_BRACKETS = 16
TEMPLATE_FUEL = 100_000
TEMPLATE_FUEL_A_MESSAGE = 2_000

# Steps of a sequence of normalizers or pre-tokenizers, and those that are known: src/text/definition.rs.
STEPS = 8
NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")
PRE_TOKENIZERS = ("ByteLevel", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit")
# Qwen's, in src/text/pipeline.rs: the one regular expression of a tokenizer that the library takes.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT_BYTES = 64

# The library's kernels take whole lanes of a head.
HEAD_DIM_MULTIPLE = 8
# The levels that the library knows; a head has the first and at least one other.
RISKS = ("Safe", "Controversial", "Unsafe")

# Files of a checkpoint, in bytes: far beyond what real ones have, far below what fills the memory.
CONFIG_BYTES = 4 << 20
ANSWER_BYTES = 64 << 10
TOKENIZER_CONFIG_BYTES = 16 << 20
INDEX_BYTES = 16 << 20
HEADER_BYTES = 16 << 20
DIMENSIONS = 8

# What reading the tokenizer and the template may take, which happens in a process of its own.
TEXT_SECONDS = 60
TEXT_MEMORY_BYTES = 2 << 30
# Bytes that the template may make of a short conversation.
RENDERED_BYTES = 1 << 20
