//! The table "Where things are" of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

/// What the cell of a module says that may use all that users see.
const PUBLIC: &str = "the public API";

/// Which module may use which others.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// By module, such as `text` or `model::cpu_ops`.
    pub(crate) rows: BTreeMap<String, Row>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) may_use: BTreeSet<String>,
    /// Whether it may use what the crate's root gives to everybody.
    pub(crate) public: bool,
}

impl Table {
    /// Reads the rows whose place is in `src/`. What may use everything is not part of the library.
    pub(crate) fn parse(document: &str) -> Result<Self, String> {
        let section = document.split("## Where things are").nth(1).ok_or("no section \"Where things are\"")?;
        let section = section.split("\n## ").next().unwrap_or_default();
        let mut rows = BTreeMap::new();
        let held = |line: &&str| line.starts_with("| `src/") && !line.trim_end().ends_with("| everything |");
        for line in section.lines().filter(held) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            let [places, _, may_use] = cells[..] else { return Err(format!("not three cells: {line}")) };
            let row = Row { may_use: quoted(may_use).collect(), public: may_use.contains(PUBLIC) };
            for place in quoted(places) {
                let module = module(&place).ok_or(format!("{place} is no module of src/"))?;
                if rows.insert(module, row.clone()).is_some() {
                    return Err(format!("{place} has two rows"));
                }
            }
        }
        let table = Table { rows };
        table.check()?;
        Ok(table)
    }

    /// Names stand for a row, by all or the last part of its module, and no arrows form a circle.
    fn check(&self) -> Result<(), String> {
        for (module, row) in &self.rows {
            for name in &row.may_use {
                self.named(name).ok_or(format!("{module} may use {name}, which has no row"))?;
            }
            if let Some(used) =
                row.may_use.iter().filter_map(|name| self.named(name)).find(|used| self.reaches(used, module))
            {
                return Err(format!("{module} may use {used}, which leads back to it"));
            }
        }
        Ok(())
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(module) = next.pop() {
            if module == to {
                return true;
            }
            if seen.insert(module) {
                next.extend(self.rows[module].may_use.iter().filter_map(|name| self.named(name)));
            }
        }
        false
    }

    /// The module of the row that a name stands for.
    fn named(&self, name: &str) -> Option<&str> {
        let last = |module: &String| module == name || module.rsplit("::").next() == Some(name);
        self.rows.keys().find(|module| last(module)).map(String::as_str)
    }

    /// The row that a module belongs to: its own or that of the closest one around it.
    pub(crate) fn row_of(&self, module: &str) -> Option<(&str, &Row)> {
        let around = |row: &&String| module == *row || module.starts_with(&format!("{row}::"));
        let closest = self.rows.keys().filter(around).max_by_key(|row| row.len())?;
        Some((closest, &self.rows[closest]))
    }

    pub(crate) fn allows(&self, row: &Row, used: &str) -> bool {
        row.may_use.iter().any(|name| self.named(name) == Some(used))
    }
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// `src/model/cpu_ops/` -> `model::cpu_ops`, `src/guard.rs` -> `guard`
fn module(place: &str) -> Option<String> {
    let path = place.strip_prefix("src/")?;
    let path = path.strip_suffix('/').or(path.strip_suffix(".rs"))?;
    Some(path.replace('/', "::"))
}
