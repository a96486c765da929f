//! What imports must not do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    sources::{Arrow, Crate},
    table::Table,
};

/// What all modules may take from the root: every other name has a home, and comes from there.
const FROM_ROOT: [&str; 2] = ["crate::Error", "crate::Result"];

pub(crate) struct Rules<'a> {
    pub(crate) table: &'a Table,
    /// Arrows that are left out of the search for circles.
    pub(crate) exceptions: &'a [(&'a str, &'a str)],
}

impl Rules<'_> {
    /// What is wrong, a line each.
    pub(crate) fn broken(&self, sources: &Crate) -> Vec<String> {
        let arrows = sources.arrows();
        let mut broken: Vec<String> = self.modules(sources);
        broken.extend(arrows.iter().filter_map(|arrow| self.direction(sources, arrow)));
        let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for arrow in &arrows {
            graph.entry(&arrow.from).or_default().insert(&arrow.to);
        }
        for (from, to) in self.exceptions {
            if !graph.get(from).is_some_and(|used| used.contains(to)) || path(&graph, to, from).is_none() {
                broken.push(format!("the exception {from} -> {to} is not needed any more"));
            }
        }
        for (from, to) in self.exceptions {
            graph.entry(from).or_default().remove(to);
        }
        broken.extend(circles(&graph));
        broken
    }

    /// Every module has a row, and every row a module.
    fn modules(&self, sources: &Crate) -> Vec<String> {
        let missing = |module: &&String| !module.is_empty() && self.table.row_of(module).is_none();
        let modules = sources.modules.keys().filter(missing).map(|module| format!("{module} has no row in the table"));
        let rows = self.table.rows.keys().filter(|row| !sources.modules.contains_key(*row));
        modules.chain(rows.map(|row| format!("{row} has a row in the table but is no module"))).collect()
    }

    fn direction(&self, sources: &Crate, arrow: &Arrow) -> Option<String> {
        let (from, row) = self.table.row_of(sources.module_of(&arrow.from))?;
        let (to, _) = self.table.row_of(&arrow.named)?;
        let Arrow { from: file, path, through_root, .. } = arrow;
        if *through_root {
            if row.public {
                return None;
            }
            if !FROM_ROOT.contains(&path.as_str()) {
                return Some(format!("{file}: {path} comes through the crate's root, its home is {to}"));
            }
        }
        let allowed = from == to || self.table.allows(row, to);
        (!allowed).then(|| format!("{file}: {path}: {from} may not use {to}"))
    }
}

/// One circle through each arrow that is part of one and starts at the first of its files.
fn circles(graph: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (from, used) in graph {
        for to in used {
            if let Some(mut circle) = path(graph, to, from) {
                let first = (0..circle.len()).min_by_key(|index| circle[*index]).unwrap_or(0);
                circle.rotate_left(first);
                circle.push(circle[0]);
                found.insert(format!("a circle: {}", circle.join(" -> ")));
            }
        }
    }
    found.into_iter().collect()
}

/// The shortest way from a file to another, both included.
fn path<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![from]]);
    let mut seen = BTreeSet::from([from]);
    while let Some(way) = ways.pop_front() {
        let last = *way.last()?;
        if last == to {
            return Some(way);
        }
        for next in graph.get(last).into_iter().flatten() {
            if seen.insert(next) {
                ways.push_back([&way[..], &[*next]].concat());
            }
        }
    }
    None
}
