//! The graphs of a bundle, as `guard.toml` lists them by the backend that they are made for.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{dimensions::Dimensions, head::FieldError, limits, manifest::FileDigest};

/// The weights of a graph that names none of its own.
pub(crate) const WEIGHTS: &str = "weights.bin";

/// A graph, or several that are one model in different shapes.
#[derive(Debug, Clone)]
pub(crate) enum Graph {
    /// One graph for batches of any size, over a cache of blocks.
    Paged(PagedGraph),
    /// Standard operators in fixed shapes.
    Portable(PortableGraph),
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PagedGraph {
    pub(crate) file: String,
    /// The file with its weights.
    #[serde(default = "weights")]
    pub(crate) weights: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PortableGraph {
    /// The file with the weights of all variants, and the embedding.
    pub(crate) weights: String,
    pub(crate) cache: Element,
    pub(crate) embedding: Embedding,
    pub(crate) variants: Vec<Variant>,
}

/// The embedding, whose rows `[vocab_size, hidden_size]` the library reads.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Embedding {
    /// In the file of weights, in bytes.
    pub(crate) offset: u64,
    #[serde(rename = "type")]
    pub(crate) element: Element,
}

/// A type of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Element {
    Fp16,
    Fp32,
}

impl Element {
    /// Bytes of a number.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Element::Fp16 => 2,
            Element::Fp32 => 4,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Element::Fp16 => "fp16",
            Element::Fp32 => "fp32",
        }
    }
}

/// One graph of fixed shapes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Variant {
    pub(crate) file: String,
    pub(crate) append: Append,
    /// The new tokens of a stream that it takes at a time.
    pub(crate) new_tokens: usize,
    /// The tokens that a stream's cache holds.
    pub(crate) context: usize,
    /// The streams that it takes at a time.
    #[serde(default = "one")]
    pub(crate) slots: usize,
}

/// How a graph of fixed shapes adds keys and values to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Append {
    /// It gives the new rows, and the host writes them.
    Rows,
    /// It writes them into a copy of the cache.
    Scatter,
}

fn weights() -> String {
    WEIGHTS.to_owned()
}

fn one() -> usize {
    1
}

impl Graph {
    fn parse(table: toml::Table) -> Result<Self, toml::de::Error> {
        match table.contains_key("variants") {
            true => table.try_into().map(Graph::Portable),
            false => table.try_into().map(Graph::Paged),
        }
    }

    /// Its files of nodes.
    fn files(&self) -> Vec<&str> {
        match self {
            Graph::Paged(graph) => vec![&graph.file],
            Graph::Portable(graph) => graph.variants.iter().map(|variant| &*variant.file).collect(),
        }
    }

    /// Its file of weights.
    pub(crate) fn weights(&self) -> &str {
        match self {
            Graph::Paged(graph) => &graph.weights,
            Graph::Portable(graph) => &graph.weights,
        }
    }
}

/// The table `graphs`. Errors name the graph.
pub(super) fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Graph>, D::Error> {
    let tables = BTreeMap::<String, toml::Table>::deserialize(deserializer)?;
    let graphs = tables.into_iter().map(|(name, table)| match Graph::parse(table) {
        Ok(graph) => Ok((name, graph)),
        Err(error) => Err(D::Error::custom(format!("graphs.{name}: {}", error.message()))),
    });
    graphs.collect()
}

/// Checks all graphs of a bundle. `taken` are files that are something else.
pub(super) fn check(
    graphs: &BTreeMap<String, Graph>,
    model: &Dimensions,
    files: &BTreeMap<String, FileDigest>,
    taken: &[&str],
) -> Result<(), FieldError> {
    let listed = |file: &str| match files.contains_key(file) {
        true => Ok(()),
        false => Err(("files".to_owned(), format!("{file} is not listed"))),
    };
    let weights: Vec<&str> = graphs.values().map(Graph::weights).collect();
    for (name, graph) in graphs {
        listed(graph.weights())?;
        if graph.weights() != WEIGHTS && taken.contains(&graph.weights()) {
            return Err((format!("graphs.{name}.weights"), format!("{:?} is something else", graph.weights())));
        }
        for file in graph.files() {
            if file == "guard.toml" || taken.contains(&file) || weights.contains(&file) {
                return Err((format!("graphs.{name}"), format!("{file:?} is not a graph")));
            }
            listed(file)?;
        }
        if let Graph::Portable(graph) = graph {
            let named = |(field, reason): FieldError| (format!("graphs.{name}.{field}"), reason);
            check_portable(graph, model).map_err(named)?;
            let bytes = files.get(&graph.weights).map_or(0, |file| file.bytes);
            check_embedding(graph.embedding, model, bytes).map_err(named)?;
        }
    }
    Ok(())
}

fn check_portable(graph: &PortableGraph, model: &Dimensions) -> Result<(), FieldError> {
    match model.rope_theta {
        Some(theta) if theta.is_finite() && theta > 1.0 => {}
        _ => return Err(("variants".to_owned(), "model.rope_theta is missing or not a number above 1".to_owned())),
    }
    let count = graph.variants.len();
    if !(1..=limits::VARIANTS).contains(&count) {
        return Err(("variants".to_owned(), format!("{count} variants, 1 to {} can be", limits::VARIANTS)));
    }
    for (index, variant) in graph.variants.iter().enumerate() {
        let named = |(field, reason): (&str, String)| (format!("variants[{index}].{field}"), reason);
        check_variant(variant, &graph.variants[..index]).map_err(named)?;
    }
    // Streams that a variant takes together lie beside each other in the cache.
    for append in [Append::Rows, Append::Scatter] {
        let slots = || graph.variants.iter().enumerate().filter(|(_, variant)| variant.append == append);
        let most = slots().map(|(_, variant)| variant.slots).max().unwrap_or(1);
        if let Some((index, variant)) = slots().find(|(_, variant)| !most.is_multiple_of(variant.slots)) {
            let reason = format!("{} does not divide {most}, the most of these variants", variant.slots);
            return Err((format!("variants[{index}].slots"), reason));
        }
    }
    Ok(())
}

fn check_variant(variant: &Variant, before: &[Variant]) -> Result<(), (&'static str, String)> {
    let sizes = [
        ("new_tokens", variant.new_tokens, variant.context.min(limits::VARIANT_TOKENS)),
        ("context", variant.context, limits::CONTEXT),
        ("slots", variant.slots, limits::VARIANT_SLOTS),
    ];
    for (field, size, limit) in sizes {
        if !(1..=limit).contains(&size) {
            return Err((field, format!("{size} is not 1 to {limit}")));
        }
    }
    if before.iter().any(|other| other.file == variant.file) {
        return Err(("file", format!("{:?} appears twice", variant.file)));
    }
    if before.iter().any(|other| Variant { file: variant.file.clone(), ..other.clone() } == *variant) {
        return Err(("file", format!("{:?} has the shapes of another variant", variant.file)));
    }
    Ok(())
}

fn check_embedding(embedding: Embedding, model: &Dimensions, weights: u64) -> Result<(), FieldError> {
    let bytes = (model.vocab_size * model.hidden_size * embedding.element.bytes()) as u64;
    match embedding.offset.checked_add(bytes).is_some_and(|end| end <= weights) {
        true => Ok(()),
        false => {
            let offset = embedding.offset;
            Err(("embedding.offset".to_owned(), format!("{bytes} bytes at {offset} are not within the weights")))
        }
    }
}
