//! The modules of a crate and what they name of each other.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, ImplItem, Item, ItemUse, Meta, UseTree, Visibility, parse::Parser, punctuated::Punctuated};

/// The modules of a crate, by path: `` for the root, `text::delta` for others. What only tests see is not in it.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    pub(crate) modules: BTreeMap<String, Module>,
}

#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) file: String,
    /// Modules that it declares.
    children: BTreeSet<String>,
    /// Names that it imports, with where from.
    imports: Vec<Import>,
    /// Other paths in it, as far as they may be of this crate.
    paths: Vec<Vec<String>>,
    /// All words in it but those of imports.
    words: BTreeSet<String>,
}

#[derive(Debug)]
struct Import {
    name: String,
    path: Vec<String>,
    /// Whether it is there for others.
    exported: bool,
}

/// A file that uses another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    pub(crate) from: String,
    pub(crate) to: String,
    /// The path as it is written.
    pub(crate) path: String,
    /// The module that it names: the one that hands the name on, else the one that defines it.
    pub(crate) named: String,
    /// Whether it is the root that hands it on.
    pub(crate) through_root: bool,
}

impl Crate {
    /// Reads a crate from its root file on.
    pub(crate) fn read(root: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut sources = Crate::default();
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        sources.read_file("", root, folder, read)?;
        Ok(sources)
    }

    fn read_file(
        &mut self,
        module: &str,
        file: &str,
        folder: &str,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), String> {
        let text = read(file).ok_or(format!("{file} cannot be read"))?;
        let parsed = syn::parse_file(&text).map_err(|error| format!("{file}: {error}"))?;
        self.read_items(module, file, folder, &parsed.items, read)
    }

    fn read_items(
        &mut self,
        module: &str,
        file: &str,
        folder: &str,
        items: &[Item],
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), String> {
        let mut found = Module { file: file.to_owned(), ..Module::default() };
        for item in items.iter().filter(|item| !is_for_tests(attributes(item))) {
            match item {
                Item::Use(item) => found.import(item),
                Item::Mod(item) => {
                    let name = item.ident.to_string();
                    let (child, inside) = (join(module, &name, "::"), join(folder, &name, "/"));
                    found.children.insert(name);
                    match &item.content {
                        Some((_, items)) => self.read_items(&child, file, &inside, items, read)?,
                        None => {
                            let files = [format!("{inside}.rs"), format!("{inside}/mod.rs")];
                            let of = files.iter().find(|file| read(file).is_some());
                            let of = of.ok_or(format!("{file}: no file of {child}"))?;
                            self.read_file(&child, of, &inside, read)?;
                        }
                    }
                }
                Item::Impl(item) => {
                    let mut item = item.clone();
                    item.items.retain(|item| !matches!(item, ImplItem::Fn(item) if is_for_tests(&item.attrs)));
                    found.scan(item.to_token_stream());
                }
                other => found.scan(other.to_token_stream()),
            }
        }
        self.modules.insert(module.to_owned(), found);
        Ok(())
    }

    /// Which file uses which, once for each path that says so. That a module hands on what others define is no use of it,
    /// unless it uses it too.
    pub(crate) fn arrows(&self) -> BTreeSet<Arrow> {
        let mut arrows = BTreeSet::new();
        for (name, module) in &self.modules {
            let used = |import: &&Import| !import.exported || module.words.contains(&import.name);
            let imports = module.imports.iter().filter(used).map(|import| &import.path);
            for path in imports.chain(&module.paths) {
                let Some(absolute) = self.absolute(name, path) else { continue };
                let (home, through) = self.resolve(&absolute, 0);
                let to = &self.modules[&home].file;
                if *to != module.file {
                    let through_root = through.as_deref() == Some("");
                    arrows.insert(Arrow {
                        from: module.file.clone(),
                        to: to.clone(),
                        path: path.join("::"),
                        named: through.filter(|module| !module.is_empty()).unwrap_or(home),
                        through_root,
                    });
                }
            }
        }
        arrows
    }

    /// A path from the root on, or none if it is not of this crate.
    fn absolute(&self, module: &str, path: &[String]) -> Option<Vec<String>> {
        let mut base: Vec<String> = module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {}
            first if self.modules[module].children.contains(first) => {}
            _ => return None,
        }
        while rest.first().is_some_and(|part| part == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// The module that defines what a path names, and the first one that hands it on, if any does.
    fn resolve(&self, path: &[String], depth: usize) -> (String, Option<String>) {
        let mut module = String::new();
        for (index, part) in path.iter().enumerate() {
            let child = join(&module, part, "::");
            if self.modules.contains_key(&child) {
                module = child;
                continue;
            }
            let import = self.modules[&module].imports.iter().find(|import| import.name == *part);
            let Some(target) = import.and_then(|import| self.absolute(&module, &import.path)) else { break };
            assert!(depth < 16, "imports of {part} lead nowhere");
            let target = [&target, &path[index + 1..]].concat();
            return (self.resolve(&target, depth + 1).0, Some(module));
        }
        (module, None)
    }

    /// The module of a file, the outermost if there are several.
    pub(crate) fn module_of(&self, file: &str) -> &str {
        let modules = self.modules.iter().filter(|(_, module)| module.file == file);
        modules.map(|(name, _)| name.as_str()).min_by_key(|name| name.len()).unwrap_or_default()
    }
}

impl Module {
    fn import(&mut self, item: &ItemUse) {
        let exported = !matches!(item.vis, Visibility::Inherited);
        let mut stack = vec![(Vec::new(), &item.tree)];
        while let Some((mut path, tree)) = stack.pop() {
            match tree {
                UseTree::Path(part) => {
                    path.push(part.ident.to_string());
                    stack.push((path, &part.tree));
                }
                UseTree::Group(group) => stack.extend(group.items.iter().map(|tree| (path.clone(), tree))),
                UseTree::Glob(_) => self.imports.push(Import { name: "*".to_owned(), path, exported }),
                UseTree::Name(name) => {
                    if name.ident != "self" {
                        path.push(name.ident.to_string());
                    }
                    let name = path.last().cloned().unwrap_or_default();
                    self.imports.push(Import { name, path, exported });
                }
                UseTree::Rename(renamed) => {
                    path.push(renamed.ident.to_string());
                    self.imports.push(Import { name: renamed.rename.to_string(), path, exported });
                }
            }
        }
    }

    /// Finds paths, in macros too. Documentation is text and not looked at.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let colon = |index: usize| matches!(tokens.get(index), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
        let mut index = 0;
        while index < tokens.len() {
            match &tokens[index] {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Ident(first) => {
                    let mut path = vec![first.to_string()];
                    while colon(index + 1) && colon(index + 2) {
                        let Some(TokenTree::Ident(part)) = tokens.get(index + 3) else { break };
                        path.push(part.to_string());
                        index += 3;
                    }
                    self.words.extend(path.iter().cloned());
                    if path.len() > 1 {
                        self.paths.push(path);
                    }
                }
                _ => {}
            }
            index += 1;
        }
    }
}

fn join(outer: &str, inner: &str, between: &str) -> String {
    if outer.is_empty() { inner.to_owned() } else { format!("{outer}{between}{inner}") }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an item is there only for tests, benches or fuzzers.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let condition = attribute.parse_args::<Meta>().ok();
        condition.and_then(|condition| holds(&condition)) == Some(false)
    })
}

/// Whether a condition holds in what users build; none if that depends on their machine or their features.
fn holds(condition: &Meta) -> Option<bool> {
    let Meta::List(list) = condition else {
        let text = condition.to_token_stream().to_string();
        return (text == "test" || text == "feature = \"_internals\"").then_some(false);
    };
    let inner = Punctuated::<Meta, syn::Token![,]>::parse_terminated.parse2(list.tokens.clone()).ok()?;
    let inner: Vec<Option<bool>> = inner.iter().map(holds).collect();
    if list.path.is_ident("not") {
        return inner.first().copied()?.map(|holds| !holds);
    }
    let decided = list.path.is_ident("any");
    match () {
        () if inner.contains(&Some(decided)) => Some(decided),
        () if inner.iter().all(|inner| *inner == Some(!decided)) => Some(!decided),
        () => None,
    }
}
