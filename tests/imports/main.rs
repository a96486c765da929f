//! Imports run one way: the table of ARCHITECTURE.md says which module may use which, and no files form a circle.

mod rules;
mod sources;
mod table;
mod tests;

use std::{fs, path::Path};

use rules::Rules;
use sources::Crate;
use table::Table;

/// Imports that close a circle and still wait for somebody to turn them round, as (file, file that it uses). One that is
/// no longer needed fails the test.
const EXCEPTIONS: &[(&str, &str)] = &[];

#[test]
fn imports_follow_the_table_of_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let table = Table::parse(&read("ARCHITECTURE.md")).unwrap_or_else(|error| panic!("ARCHITECTURE.md: {error}"));
    let sources = Crate::read("src/lib.rs", &|file| fs::read_to_string(root.join(file)).ok())
        .unwrap_or_else(|error| panic!("{error}"));
    let rules = Rules { table: &table, exceptions: EXCEPTIONS };
    let broken = rules.broken(&sources);
    assert!(broken.is_empty(), "{} imports to turn round:\n{}", broken.len(), broken.join("\n"));
}
