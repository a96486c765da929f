//! A bundle's graph before the runtime sees it: only the operators that the exporter writes, with tensors and attributes
//! that fit each other and guard.toml. What every check of a graph does is here; `paged` and `portable::check` know what
//! their nodes compute.
//!
//! The runtime's kernels and our own trust shapes that they were told when the session was made. So every value's shape is
//! worked out before. Weights lie in the graph or in the file that guard.toml names, and nowhere else.

pub(super) mod cpu;
pub(super) mod gpu;
pub(super) mod node;
pub(super) mod paged;
pub(super) mod tensors;

use std::ops::RangeInclusive;

use prost::Message;

use super::onnx::{GraphProto, ModelProto, NodeProto};
use crate::limits;

/// What all graphs of a kind are held to.
pub(super) struct Rules {
    /// Opsets that this library knows, by the domain of their operators.
    pub(super) opsets: &'static [(&'static str, RangeInclusive<i64>)],
    /// Nodes of a layer, and of what is around the layers, at most.
    pub(super) layer_nodes: usize,
}

/// Checks a graph of so many layers and writes anew what was checked, with the runtime's name of its weights: `location`.
pub(super) fn checked(
    bytes: &[u8],
    rules: &Rules,
    layers: usize,
    location: &str,
    check: impl FnOnce(&GraphProto) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let model = ModelProto::decode(bytes).map_err(|error| format!("not a model of ONNX: {error}"))?;
    check_opsets(&model, rules)?;
    let graph = model.graph.as_ref().ok_or("it has no graph")?;
    let nodes = rules.layer_nodes * (layers + 2);
    let items = graph.initializer.len().max(graph.input.len()).max(graph.output.len());
    if graph.node.len() > nodes || items > limits::GRAPH_ITEMS {
        let count = graph.node.len();
        return Err(format!("{count} nodes and {items} tensors, the limits are {nodes} and {}", limits::GRAPH_ITEMS));
    }
    check(graph)?;
    Ok(relocated(model, location))
}

/// Checks the nodes in their order. What is wrong with one names it.
pub(super) fn check_nodes<'g>(
    graph: &'g GraphProto,
    mut check: impl FnMut(&'g NodeProto) -> Result<(), String>,
) -> Result<(), String> {
    graph.node.iter().try_for_each(|node| {
        check(node).map_err(|reason| format!("node {} {:?}: {reason}", node.op_type(), node.name()))
    })
}

/// A model with the runtime's name of its weights.
fn relocated(mut model: ModelProto, location: &str) -> Vec<u8> {
    let tensors = model.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
    for entry in tensors.flat_map(|tensor| &mut tensor.external_data).filter(|entry| entry.key() == "location") {
        entry.value = Some(location.to_owned());
    }
    model.encode_to_vec()
}

/// Each opset is known and there once, that of ONNX among them.
fn check_opsets(model: &ModelProto, rules: &Rules) -> Result<(), String> {
    // Whose numbers the runtime knows; what they change does not concern these operators.
    if !(8..=10).contains(&model.ir_version()) {
        return Err(format!("ir_version {} is not 8 to 10", model.ir_version()));
    }
    let found: Vec<(&str, i64)> = model.opset_import.iter().map(|opset| (opset.domain(), opset.version())).collect();
    let is_known = |&(domain, version): &(&str, i64)| {
        rules.opsets.iter().any(|(known, versions)| *known == domain && versions.contains(&version))
    };
    let is_once = |&(domain, _): &(&str, i64)| found.iter().filter(|(other, _)| *other == domain).count() == 1;
    match found.iter().all(|opset| is_known(opset) && is_once(opset)) && found.iter().any(|opset| opset.0.is_empty()) {
        true => Ok(()),
        false => Err(format!("the opsets {found:?} are not supported, only {:?}", rules.opsets)),
    }
}
