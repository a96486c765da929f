//! The checker finds what it is there for, in small made-up crates.

use super::{rules::Rules, sources::Crate, table::Table};

const TABLE: &str = "
## Where things are

| place | what it does | may use |
|---|---|---|
| `src/top.rs` | | `middle`, `error` |
| `src/middle/` | | `deep`, `error` |
| `src/middle/deep/` | | `error` |
| `src/error.rs` | | |
| `src/outer.rs` | | the public API, `middle` |
| `src/bench/` | not of the library | everything |
| `include/` | not of the crate | |

## Another section
";

const ROOT: &str = "mod top; mod middle; mod error; mod outer; pub use top::Top; pub use error::{Error, Result};";

/// What is broken in a crate of these files, beside such that break nothing.
fn broken_with(files: &[(&str, &str)], exceptions: &[(&str, &str)]) -> Vec<String> {
    let plain = [
        ("src/lib.rs", ROOT),
        ("src/top.rs", ""),
        ("src/middle/mod.rs", "mod deep;"),
        ("src/middle/deep.rs", ""),
        ("src/error.rs", ""),
        ("src/outer.rs", ""),
    ];
    let read = |file: &str| {
        let found = files.iter().chain(&plain).find(|(name, _)| *name == file);
        found.map(|(_, text)| (*text).to_owned())
    };
    let sources = Crate::read("src/lib.rs", &read).unwrap();
    Rules { table: &Table::parse(TABLE).unwrap(), exceptions }.broken(&sources)
}

fn broken(files: &[(&str, &str)]) -> Vec<String> {
    broken_with(files, &[])
}

#[test]
fn arrows_down_are_allowed() {
    let none: [&str; 0] = [];
    assert_eq!(broken(&[]), none);
    let down = [
        ("src/top.rs", "use crate::{Error, Result, middle::Middle}; fn top() { crate::error::one_line() }"),
        ("src/middle/mod.rs", "mod deep; pub use deep::Deep; use crate::error::Error; pub struct Middle(Deep);"),
        ("src/outer.rs", "use crate::{Top, middle}; use std::fmt;"),
    ];
    assert_eq!(broken(&down), none);
}

#[test]
fn arrows_up_are_found_however_they_are_written() {
    for up in [
        "use crate::top::Top;",
        "use crate::{top::{Top as T}};",
        "use super::top;",
        "use super::top::*;",
        "fn f() { let x = crate::top::Top::new(); }",
        "impl A { fn f() -> crate::top::Top {} }",
        "fn f() { assert!(g(crate::top::Top)); }",
        "mod inner { use super::super::top::Top; }",
        "#[cfg(not(test))] use crate::top::Top;",
        "#[cfg(any(test, feature = \"x\"))] use crate::top::Top;",
    ] {
        let found = broken(&[("src/error.rs", up)]);
        assert_eq!(found.len(), 1, "{up}: {found:?}");
        assert!(found[0].starts_with("src/error.rs: ") && found[0].ends_with("error may not use top"), "{found:?}");
    }
}

#[test]
fn an_inner_module_with_a_row_is_a_module_of_its_own() {
    let found = broken(&[("src/middle/deep.rs", "use super::Middle;")]);
    assert_eq!(found, ["src/middle/deep.rs: super::Middle: middle::deep may not use middle"]);
}

#[test]
fn what_a_module_hands_on_is_its_own() {
    let none: [&str; 0] = [];
    let handed = [("src/middle/mod.rs", "mod deep; pub use deep::Deep;"), ("src/top.rs", "use crate::middle::Deep;")];
    assert_eq!(broken(&handed), none);
    let past = [handed[0], ("src/top.rs", "use crate::middle::deep::Deep;")];
    assert_eq!(broken(&past), ["src/top.rs: crate::middle::deep::Deep: top may not use middle::deep"]);
}

#[test]
fn names_come_from_their_home() {
    let found = broken(&[("src/middle/mod.rs", "mod deep; use crate::Top;")]);
    assert_eq!(found, ["src/middle/mod.rs: crate::Top comes through the crate's root, its home is top"]);
}

#[test]
fn what_only_tests_see_is_left_out() {
    for test in [
        "#[cfg(test)] mod tests { use crate::top::Top; }",
        "#[cfg(any(test, feature = \"_internals\"))] mod checked;",
        "#[cfg(all(test, feature = \"x\"))] use crate::top::Top;",
        "impl A { #[cfg(test)] fn f() { crate::top::f() } }",
        "/// See [`crate::top::Top`].\nfn f() {}",
    ] {
        assert!(broken(&[("src/error.rs", test)]).is_empty(), "{test}");
    }
}

/// Three files of `middle`, of which each uses the next.
const CIRCLE: [(&str, &str); 4] = [
    ("src/middle/mod.rs", "mod deep; mod a; mod b; pub use b::B; pub struct M;"),
    ("src/middle/a.rs", "use super::B; pub struct A;"),
    ("src/middle/b.rs", "use super::a::A; pub struct B(A, super::M);"),
    ("src/middle/deep.rs", ""),
];

#[test]
fn circles_of_files_are_found_behind_what_hands_names_on() {
    assert_eq!(broken(&CIRCLE), ["a circle: src/middle/a.rs -> src/middle/b.rs -> src/middle/a.rs"]);
    let mut own = CIRCLE;
    own[0].1 = "mod deep; mod a; mod b; pub use b::B; pub struct M(B);";
    assert_eq!(broken(&own).len(), 2, "a module that uses what it hands on is part of a circle too");
    own[1].1 = "pub struct A;";
    assert_eq!(broken(&own), ["a circle: src/middle/b.rs -> src/middle/mod.rs -> src/middle/b.rs"]);
}

#[test]
fn exceptions_hide_their_circle_and_nothing_else() {
    let none: [&str; 0] = [];
    assert_eq!(broken_with(&CIRCLE, &[("src/middle/a.rs", "src/middle/b.rs")]), none);
    let stale = [("src/top.rs", "src/error.rs")];
    assert_eq!(broken_with(&[], &stale), ["the exception src/top.rs -> src/error.rs is not needed any more"]);
}

#[test]
fn modules_and_rows_belong_together() {
    let found = broken(&[("src/lib.rs", "mod top; mod middle; mod error; mod other;"), ("src/other.rs", "")]);
    assert_eq!(found, ["other has no row in the table", "outer has a row in the table but is no module"]);
}

#[test]
fn tables_that_say_nothing_clear_are_refused() {
    let with = |from: &str, to: &str| Table::parse(&TABLE.replace(from, to)).map(|_| ()).unwrap_err();
    assert_eq!(with("## Where", "## Here"), "no section \"Where things are\"");
    assert_eq!(
        with("| `src/error.rs` | | |", "| `src/error.rs` | | `top` |"),
        "error may use top, which leads back to it"
    );
    assert_eq!(with("| `middle`, `error` |", "| `middel` |"), "top may use middel, which has no row");
    assert_eq!(with("`src/outer.rs`", "`src/top.rs`"), "src/top.rs has two rows");
    assert!(with("| `src/top.rs` | |", "| `src/top.rs` |").starts_with("not three cells"));
}
