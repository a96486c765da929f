//! Checks of graphs of fixed shapes, as `guard.toml` lists them.

use std::collections::BTreeMap;

use super::{
    dimensions::Dimensions,
    graph::{Append, Embedding, Float, Graph, HeadGraph, Variant},
    head::{Classes, FieldError, Head},
    limits,
};

/// Checks the graphs of a bundle that have variants. `bytes` says how large a file is.
pub(super) fn check(
    graphs: &BTreeMap<String, Graph>,
    (model, heads): (&Dimensions, &[Head]),
    bytes: impl Fn(&str) -> u64,
) -> Result<(), FieldError> {
    for (name, graph) in graphs.iter().filter(|(_, graph)| !graph.variants.is_empty()) {
        let named = |(field, reason): FieldError| (format!("graphs.{name}.{field}"), reason);
        check_graph(graph, model, heads).map_err(named)?;
        check_embedding(graph.embedding.as_ref(), model, bytes(&graph.weights)).map_err(named)?;
    }
    Ok(())
}

fn check_graph(graph: &Graph, model: &Dimensions, heads: &[Head]) -> Result<(), FieldError> {
    let whole = |field: &str, reason: &str| Err((field.to_owned(), reason.to_owned()));
    if graph.file.is_some() {
        return whole("file", "a graph with variants has none of its own");
    }
    if !matches!(graph.cache, Some(Float::Fp16 | Float::Fp32)) {
        return whole("cache", "missing, or not fp16 or fp32");
    }
    if !model.rope_theta.is_some_and(|theta| theta.is_finite() && theta > 1.0) {
        return whole("variants", "model.rope_theta is missing or not a number above 1");
    }
    let variants = &graph.variants;
    if variants.len() > limits::VARIANTS {
        return whole("variants", &format!("{} variants, the limit is {}", variants.len(), limits::VARIANTS));
    }
    for (index, variant) in variants.iter().enumerate() {
        let named = |(field, reason): (&str, String)| (format!("variants[{index}].{field}"), reason);
        check_variant(variant, &variants[..index]).map_err(named)?;
        // Streams that a graph takes together lie beside each other in the cache.
        let alike = variants.iter().filter(|other| other.append == variant.append);
        let most = alike.map(|other| other.slots).max().unwrap_or(1);
        if !most.is_multiple_of(variant.slots) {
            let reason = format!("{} does not divide {most}, the most of such variants", variant.slots);
            return Err((format!("variants[{index}].slots"), reason));
        }
    }
    check_heads(&graph.heads, heads)
}

fn check_variant(variant: &Variant, before: &[Variant]) -> Result<(), (&'static str, String)> {
    // A graph that writes the cache itself has a place for padding.
    let padding = usize::from(variant.append == Append::Scatter);
    let sizes = [
        ("context", variant.context, 1 + padding, limits::CONTEXT),
        ("new_tokens", variant.new_tokens, 1, variant.context.min(limits::VARIANT_TOKENS)),
        ("slots", variant.slots, 1, limits::VARIANT_SLOTS),
    ];
    for (field, size, least, limit) in sizes {
        if !(least..=limit).contains(&size) {
            return Err((field, format!("{size} is not {least} to {limit}")));
        }
    }
    if before.iter().any(|other| other.file == variant.file) {
        return Err(("file", format!("{:?} appears twice", variant.file)));
    }
    if before.iter().any(|other| other.shape() == variant.shape()) {
        return Err(("file", format!("{:?} has the shapes of another variant", variant.file)));
    }
    Ok(())
}

/// Heads of a whole vocabulary may be graphs of their own, no others.
fn check_heads(graphs: &[HeadGraph], heads: &[Head]) -> Result<(), FieldError> {
    for (index, graph) in graphs.iter().enumerate() {
        let known = heads.iter().any(|head| head.name == graph.name && head.classes() == Classes::Vocabulary);
        if !known || graphs[..index].iter().any(|other| other.name == graph.name) {
            let reason = format!("{:?} is no head of kind \"vocabulary\", or appears twice", graph.name);
            return Err((format!("heads[{index}].name"), reason));
        }
    }
    Ok(())
}

fn check_embedding(embedding: Option<&Embedding>, model: &Dimensions, weights: u64) -> Result<(), FieldError> {
    let fail = |field: &str, reason: String| Err((format!("embedding{field}"), reason));
    let Some(Embedding { offset, kind }) = embedding else { return fail("", "missing".to_owned()) };
    if *kind == Float::Bf16 {
        return fail(".type", "it is not fp16 or fp32".to_owned());
    }
    let bytes = (model.vocab_size * model.hidden_size * kind.bytes()) as u64;
    match offset.checked_add(bytes).is_some_and(|end| end <= weights) {
        true => Ok(()),
        false => fail(".offset", format!("{bytes} bytes at {offset} are not within the weights, which have {weights}")),
    }
}
