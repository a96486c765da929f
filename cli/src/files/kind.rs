//! Kinds of files, by their names.

use std::path::Path;

/// How JSON lines are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    Not,
    Gzip,
    Zstd,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Lines(Packed),
    Parquet,
}

/// The kinds by the ends of their files' names.
const KINDS: [(&str, Kind); 7] = [
    ("jsonl", Kind::Lines(Packed::Not)),
    ("jsonl.gz", Kind::Lines(Packed::Gzip)),
    ("jsonl.zst", Kind::Lines(Packed::Zstd)),
    ("parquet", Kind::Parquet),
    ("ndjson", Kind::Lines(Packed::Not)),
    ("ndjson.gz", Kind::Lines(Packed::Gzip)),
    ("ndjson.zst", Kind::Lines(Packed::Zstd)),
];

impl Kind {
    /// That of a file.
    pub(super) fn of(path: &Path) -> Option<Kind> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        KINDS.iter().find(|(end, _)| name.ends_with(&format!(".{end}"))).map(|(_, kind)| *kind)
    }

    /// That of a name such as `jsonl.zst`.
    pub(super) fn named(name: &str) -> Option<Kind> {
        KINDS.iter().find(|(end, _)| *end == name).map(|(_, kind)| *kind)
    }

    /// How the names of its files end.
    pub(super) fn end(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(end, _)| end)
    }

    /// Whether rows of another kind can be written as this one: JSON lines in whatever compression.
    pub(super) fn takes(self, other: Kind) -> bool {
        matches!((self, other), (Kind::Lines(_), Kind::Lines(_)) | (Kind::Parquet, Kind::Parquet))
    }

    /// The ends of all names.
    pub(super) fn ends() -> String {
        KINDS[..4].iter().map(|(end, _)| format!(".{end}")).collect::<Vec<_>>().join(", ")
    }
}
