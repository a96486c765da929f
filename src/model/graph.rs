//! A bundle's graph before the runtime sees it: only the operators that the exporter writes, with tensors and attributes
//! that fit each other and guard.toml.
//!
//! The runtime's kernels and our own trust shapes that they were told when the session was made. So every value's width
//! is worked out here: a row for each token, or for each that is wanted of a head, of so many floats. Weights lie in the graph or in `weights.bin`, and
//! nowhere else.

pub(super) mod gpu;
pub(super) mod node;
pub(super) mod tensors;

use std::collections::HashMap;

use prost::Message;

use super::{
    cpu_ops::matmul::Shape,
    onnx::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto},
};
use crate::{
    bundle::{Dimensions, Head},
    limits,
};
use node::{Attributes, inputs_of};
use tensors::{External, Tensors, is_input};

/// Opsets that this library knows: of ONNX, of ONNX Runtime, and its own.
const OPSETS: [(&str, i64); 3] = [("", 21), ("com.microsoft", 1), ("ai.qwenguard", 1)];

/// Nodes of a layer, and of what is around the layers.
const LAYER_NODES: usize = 16;

/// What a graph must fit.
pub(super) struct Expected<'a> {
    pub(super) dims: &'a Dimensions,
    pub(super) heads: &'a [Head],
    /// The file with the weights, and its bytes.
    pub(super) file: &'a str,
    pub(super) weights: u64,
    /// The name of that file for the runtime, which follows no links to other folders.
    pub(super) location: &'a str,
}

/// Checks a graph and writes anew what was checked.
pub(super) fn checked(bytes: &[u8], expected: &Expected) -> Result<Vec<u8>, String> {
    let model = ModelProto::decode(bytes).map_err(|error| format!("not a model of ONNX: {error}"))?;
    check_opsets(&model)?;
    let graph = model.graph.as_ref().ok_or("it has no graph")?;
    let nodes = LAYER_NODES * (expected.dims.num_layers + 2);
    let items = graph.initializer.len().max(graph.input.len()).max(graph.output.len());
    if graph.node.len() > nodes || items > limits::GRAPH_ITEMS {
        let count = graph.node.len();
        return Err(format!("{count} nodes and {items} tensors, the limits are {nodes} and {}", limits::GRAPH_ITEMS));
    }
    let rows = row_inputs(expected.heads);
    let tensors = Tensors::new(&graph.initializer, External { name: expected.file, bytes: expected.weights }, &rows)?;
    check_inputs(graph, expected.dims, &rows)?;
    let mut check = Check { dims: expected.dims, rows, tensors, values: HashMap::new(), hidden: None, layers: 0 };
    for node in &graph.node {
        let name = || format!("node {} {:?}", node.op_type(), node.name());
        check.node(node).map_err(|reason| format!("{}: {reason}", name()))?;
    }
    check.outputs(graph, expected)?;
    drop(check);
    Ok(relocated(model, expected.location))
}

/// A checked model with the runtime's name of its weights.
pub(super) fn relocated(mut model: ModelProto, location: &str) -> Vec<u8> {
    let tensors = model.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
    for entry in tensors.flat_map(|tensor| &mut tensor.external_data).filter(|entry| entry.key() == "location") {
        entry.value = Some(location.to_owned());
    }
    model.encode_to_vec()
}

fn check_opsets(model: &ModelProto) -> Result<(), String> {
    // Whose numbers the runtime knows; what they change does not concern these operators.
    if !(8..=10).contains(&model.ir_version()) {
        return Err(format!("ir_version {} is not 8 to 10", model.ir_version()));
    }
    for (index, opset) in model.opset_import.iter().enumerate() {
        let known = OPSETS.contains(&(opset.domain(), opset.version()));
        if !known || model.opset_import[..index].contains(opset) {
            return Err(format!("opset {:?} {} is not supported", opset.domain(), opset.version()));
        }
    }
    Ok(())
}

/// The inputs that name the rows of heads, each once.
pub(super) fn row_inputs(heads: &[Head]) -> Vec<&str> {
    let mut rows: Vec<&str> = Vec::new();
    for head in heads {
        if !rows.contains(&&*head.rows) {
            rows.push(&head.rows);
        }
    }
    rows
}

/// The names of the graph's inputs, in order, with their types.
fn inputs(dims: &Dimensions, rows: &[&str]) -> Vec<(String, i32)> {
    let fixed = [
        ("input_ids", TensorProto::INT64),
        ("cu_seqlens", TensorProto::INT32),
        ("past_lens", TensorProto::INT32),
        ("block_table", TensorProto::INT32),
    ];
    let rows = rows.iter().map(|name| (*name, TensorProto::INT64));
    let caches = cache_names(dims, "").into_iter().map(|name| (name, TensorProto::UINT8));
    fixed.into_iter().chain(rows).map(|(name, kind)| (name.to_owned(), kind)).chain(caches).collect()
}

/// The names of the caches, with a suffix for the outputs.
pub(super) fn cache_names(dims: &Dimensions, suffix: &str) -> Vec<String> {
    let layers = 0..dims.num_layers;
    layers.flat_map(|layer| ["key", "value"].map(|part| format!("{part}_cache{suffix}.{layer}"))).collect()
}

fn check_inputs(graph: &GraphProto, dims: &Dimensions, rows: &[&str]) -> Result<(), String> {
    let wanted = inputs(dims, rows);
    if graph.input.len() != wanted.len() {
        return Err(format!("{} inputs, {} are expected", graph.input.len(), wanted.len()));
    }
    for (input, (name, kind)) in graph.input.iter().zip(&wanted) {
        if input.name() != name || element(input) != Some(*kind) {
            return Err(format!("input {:?} is not {name:?}, or of another type", input.name()));
        }
    }
    Ok(())
}

fn element(value: &ValueInfoProto) -> Option<i32> {
    Some(value.r#type.as_ref()?.tensor_type.as_ref()?.elem_type())
}

/// What the nodes so far have computed.
struct Check<'g> {
    dims: &'g Dimensions,
    /// The inputs that name rows.
    rows: Vec<&'g str>,
    tensors: Tensors<'g>,
    values: HashMap<&'g str, Value>,
    /// The hidden states that heads and the row check read.
    hidden: Option<&'g str>,
    /// Layers whose attention was seen.
    layers: usize,
}

/// A value that a node computes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// Floats, so many in a row.
    Rows(Of, usize),
    /// Rows of 16-bit floats, straight from the embedding.
    Half(usize),
    /// A cache, after its layer.
    Cache,
    /// A float for each token.
    Check,
}

/// What there are rows of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Tokens,
    /// The rows that this input names: its place among the inputs of rows.
    Wanted(usize),
}

impl<'g> Check<'g> {
    fn node(&mut self, node: &'g NodeProto) -> Result<(), String> {
        let value = match (node.domain(), node.op_type()) {
            ("", "Gather") if node.input.first().is_some_and(|source| self.values.contains_key(&**source)) => {
                self.wanted(node)?
            }
            ("", "Gather") => self.embedding(node)?,
            ("", "ReduceSum") => self.row_check(node)?,
            ("", "Cast") => self.cast(node)?,
            ("", "MatMul") => self.matmul(node)?,
            ("", "Gemm") => self.gemm(node)?,
            ("", "SimplifiedLayerNormalization") => self.norm(node)?,
            ("com.microsoft", "SkipSimplifiedLayerNormalization") => return self.skip_norm(node),
            ("com.microsoft", "MatMulNBits") => self.matmul_n_bits(node)?,
            ("ai.qwenguard", "MatMulInt8") => self.matmul_int8(node)?,
            ("ai.qwenguard", "GatherInt8") => self.embedding_int8(node)?,
            ("ai.qwenguard", "SwiGlu") => self.swiglu(node)?,
            ("ai.qwenguard", "PagedAttention") => return self.attention(node),
            (domain, _) => return Err(format!("the operator, of domain {domain:?}, is not supported")),
        };
        match &node.output[..] {
            [output] => self.define(output, value),
            outputs => Err(format!("{} outputs instead of one", outputs.len())),
        }
    }

    fn define(&mut self, name: &'g str, value: Value) -> Result<(), String> {
        let taken = name.is_empty() || self.tensors.get(name).is_ok() || is_input(name, &self.rows);
        if taken || self.values.insert(name, value).is_some() {
            return Err(format!("output {name:?} has no name of its own"));
        }
        match value {
            Value::Rows(_, width) | Value::Half(width) if !(1..=limits::GRAPH_WIDTH).contains(&width) => {
                Err(format!("rows of {width} values, the limit is {}", limits::GRAPH_WIDTH))
            }
            _ => Ok(()),
        }
    }

    /// An input that is rows of floats: of what, and their width.
    fn rows(&self, name: &str) -> Result<(Of, usize), String> {
        match self.values.get(name) {
            Some(Value::Rows(of, width)) => Ok((*of, *width)),
            _ => Err(format!("input {name:?} is not computed before as rows of floats")),
        }
    }

    /// The width of an input that is a row of floats for each token.
    fn tokens(&self, name: &str) -> Result<usize, String> {
        match self.rows(name)? {
            (Of::Tokens, width) => Ok(width),
            _ => Err(format!("input {name:?} has no row for each token")),
        }
    }

    /// Hidden states that heads or the row check read: all read the same, of the model's width.
    fn hidden(&mut self, name: &'g str) -> Result<usize, String> {
        let (width, hidden) = (self.tokens(name)?, *self.hidden.get_or_insert(name));
        match width == self.dims.hidden_size && name == hidden {
            true => Ok(width),
            false => Err(format!("input {name:?} is not the hidden states {hidden:?}, of {}", self.dims.hidden_size)),
        }
    }

    /// The rows of hidden states that are wanted.
    fn wanted(&mut self, node: &'g NodeProto) -> Result<Value, String> {
        let [hidden, rows] = inputs_of(node)?;
        Attributes::of(node, &["axis"])?.is("axis", 0)?;
        let input = self.rows.iter().position(|name| *name == rows);
        let input = input.ok_or_else(|| format!("input {rows:?} is not the rows of a head"))?;
        Ok(Value::Rows(Of::Wanted(input), self.hidden(hidden)?))
    }

    fn row_check(&mut self, node: &'g NodeProto) -> Result<Value, String> {
        let [hidden, axes] = inputs_of(node)?;
        Attributes::of(node, &["keepdims"])?.is("keepdims", 0)?;
        if self.tensors.integer(axes)? != -1 {
            return Err(format!("the axis {axes:?} is not -1"));
        }
        self.hidden(hidden).map(|_| Value::Check)
    }

    fn embedding(&self, node: &NodeProto) -> Result<Value, String> {
        let [table, ids] = inputs_of(node)?;
        Attributes::of(node, &["axis"])?.is("axis", 0)?;
        let table = self.tensors.get(table)?;
        let (rows, width) = (self.dims.vocab_size, self.dims.hidden_size);
        table.has(&[rows, width])?;
        match (ids, table.kind) {
            ("input_ids", TensorProto::FLOAT) => Ok(Value::Rows(Of::Tokens, width)),
            ("input_ids", TensorProto::FLOAT16 | TensorProto::BFLOAT16) => Ok(Value::Half(width)),
            _ => Err("it is not of floats, or its ids are not input_ids".to_owned()),
        }
    }

    fn cast(&self, node: &NodeProto) -> Result<Value, String> {
        let [source] = inputs_of(node)?;
        Attributes::of(node, &["to"])?.is("to", TensorProto::FLOAT.into())?;
        match self.values.get(source) {
            Some(Value::Half(width)) => Ok(Value::Rows(Of::Tokens, *width)),
            _ => Err(format!("input {source:?} is not the embedding")),
        }
    }

    fn matmul(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, weights] = inputs_of(node)?;
        Attributes::of(node, &[])?;
        let weights = self.tensors.floats(weights)?;
        let (of, width) = self.rows(source)?;
        match weights.dims[..] {
            [inputs, outputs] if inputs == width => Ok(Value::Rows(of, outputs)),
            _ => Err(format!("weights {:?} do not fit rows of {width}", weights.dims)),
        }
    }

    /// A multiplication by a table whose rows are the outputs.
    fn gemm(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, table] = inputs_of(node)?;
        Attributes::of(node, &["transB"])?.is("transB", 1)?;
        let table = self.tensors.floats(table)?;
        let (of, width) = self.rows(source)?;
        match table.dims[..] {
            [outputs, inputs] if inputs == width => Ok(Value::Rows(of, outputs)),
            _ => Err(format!("a table {:?} does not fit rows of {width}", table.dims)),
        }
    }

    fn norm(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, weight] = inputs_of(node)?;
        let attributes = Attributes::of(node, &["axis", "epsilon"])?;
        attributes.is("axis", -1)?;
        attributes.epsilon()?;
        let (of, width) = self.rows(source)?;
        self.tensors.floats(weight)?.has(&[width])?;
        Ok(Value::Rows(of, width))
    }

    fn skip_norm(&mut self, node: &'g NodeProto) -> Result<(), String> {
        let [branch, stream, weight] = inputs_of(node)?;
        Attributes::of(node, &["epsilon"])?.epsilon()?;
        let width = self.tokens(branch)?;
        if self.tokens(stream)? != width {
            return Err(format!("rows of {width} and of {} are added", self.tokens(stream)?));
        }
        self.tensors.floats(weight)?.has(&[width])?;
        let rows = Value::Rows(Of::Tokens, width);
        match &node.output[..] {
            [normed] => self.define(normed, rows),
            [normed, mean, deviation, sum] if mean.is_empty() && deviation.is_empty() => {
                self.define(normed, rows)?;
                self.define(sum, rows)
            }
            outputs => Err(format!("outputs {outputs:?} are not expected")),
        }
    }

    /// What is multiplied by a matrix of quantised weights, and the matrix' sizes: inputs, outputs, and inputs that share a
    /// scale.
    fn quantized(&self, source: &str, attributes: &Attributes, group: &str) -> Result<(Of, [usize; 3]), String> {
        let (inputs, outputs, group) = (attributes.size("K")?, attributes.size("N")?, attributes.size(group)?);
        let (of, width) = self.rows(source)?;
        if inputs != width {
            return Err(format!("K is {inputs}, the rows have {width}"));
        }
        if !(1..=limits::GRAPH_WIDTH).contains(&outputs) || ![32, 64, 128].contains(&group) {
            return Err(format!("N {outputs} or the group {group} is out of range"));
        }
        Ok((of, [inputs, outputs, group]))
    }

    fn matmul_n_bits(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, packed, scales] = inputs_of(node)?;
        let attributes = Attributes::of(node, &["K", "N", "accuracy_level", "bits", "block_size"])?;
        attributes.is("bits", 4)?;
        if !(0..=4).contains(&attributes.int("accuracy_level")?) {
            return Err("accuracy_level is not 0 to 4".to_owned());
        }
        let (of, [inputs, outputs, group]) = self.quantized(source, &attributes, "block_size")?;
        let groups = inputs.div_ceil(group);
        self.tensors.bytes(packed)?.has(&[outputs, groups, group / 2])?;
        let scales = self.tensors.floats(scales)?;
        scales.has(&[outputs * groups]).or_else(|_| scales.has(&[outputs, groups]))?;
        Ok(Value::Rows(of, outputs))
    }

    fn matmul_int8(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, packed, scales] = inputs_of(node)?;
        let attributes = Attributes::of(node, &["K", "N", "group"])?;
        let (of, [inputs, outputs, group]) = self.quantized(source, &attributes, "group")?;
        self.packed(packed, scales, Shape::new(inputs, outputs, group)?)?;
        Ok(Value::Rows(of, outputs))
    }

    /// Rows of a table that a head is multiplied by, too.
    fn embedding_int8(&self, node: &NodeProto) -> Result<Value, String> {
        let [packed, scales, ids] = inputs_of(node)?;
        let attributes = Attributes::of(node, &["K", "N", "group"])?;
        let (width, rows, group) = (attributes.size("K")?, attributes.size("N")?, attributes.size("group")?);
        let Dimensions { hidden_size, vocab_size, .. } = *self.dims;
        if ids != "input_ids" || (rows, width) != (vocab_size, hidden_size) {
            return Err(format!("its ids are not input_ids, or it has not {vocab_size} rows of {hidden_size}"));
        }
        self.packed(packed, scales, Shape::new(width, rows, group)?)?;
        Ok(Value::Rows(Of::Tokens, width))
    }

    /// A matrix of 8-bit weights.
    fn packed(&self, values: &str, scales: &str, shape: Shape) -> Result<(), String> {
        self.tensors.bytes(values)?.has(&shape.values_dims())?;
        self.tensors.floats(scales)?.has(&shape.scales_dims())
    }

    fn swiglu(&self, node: &NodeProto) -> Result<Value, String> {
        let [source] = inputs_of(node)?;
        Attributes::of(node, &[])?;
        match self.rows(source)? {
            (of, width) if width.is_multiple_of(2) => Ok(Value::Rows(of, width / 2)),
            (_, width) => Err(format!("rows of {width} have no two halves")),
        }
    }

    fn attention(&mut self, node: &'g NodeProto) -> Result<(), String> {
        let Dimensions { num_heads, num_kv_heads, head_dim, context, .. } = *self.dims;
        let [qkv, keys, values, cu_seqlens, past_lens, block_table, cos, sin, q_norm, k_norm] = inputs_of(node)?;
        let names = ["layer", "num_heads", "kv_num_heads", "head_dim", "scale", "epsilon"];
        let attributes = Attributes::of(node, &names)?;
        // Layers come in order, so each cache is written once.
        let layer = self.layers;
        attributes.is("layer", layer as i64)?;
        attributes.is("num_heads", num_heads as i64)?;
        attributes.is("kv_num_heads", num_kv_heads as i64)?;
        attributes.is("head_dim", head_dim as i64)?;
        attributes.epsilon()?;
        let scale = attributes.float("scale")?;
        if !(scale.is_finite() && scale > 0.0) {
            return Err(format!("scale is {scale}"));
        }
        let caches = [format!("key_cache.{layer}"), format!("value_cache.{layer}")];
        let batch = [cu_seqlens, past_lens, block_table] == ["cu_seqlens", "past_lens", "block_table"];
        if [keys, values] != caches || !batch || layer == self.dims.num_layers {
            return Err("the inputs of the batch or the caches are not those of the layer".to_owned());
        }
        if self.tokens(qkv)? != (num_heads + 2 * num_kv_heads) * head_dim {
            return Err(format!("rows of {} are not queries, keys and values of the heads", self.tokens(qkv)?));
        }
        for table in [cos, sin] {
            self.tensors.floats(table)?.has(&[context, head_dim / 2])?;
        }
        for norm in [q_norm, k_norm] {
            self.tensors.floats(norm)?.has(&[head_dim])?;
        }
        let outputs = [format!("key_cache_out.{layer}"), format!("value_cache_out.{layer}")];
        let [attended, keys, values] = &node.output[..] else { return Err("it has not three outputs".to_owned()) };
        if [keys, values] != [&outputs[0], &outputs[1]] {
            return Err(format!("outputs {keys:?} and {values:?} are not the layer's caches"));
        }
        self.layers += 1;
        self.define(keys, Value::Cache)?;
        self.define(values, Value::Cache)?;
        self.define(attended, Value::Rows(Of::Tokens, num_heads * head_dim))
    }

    /// The graph's outputs are the heads, with the classes that guard.toml lists and for their own rows, the row check,
    /// and every layer's caches.
    fn outputs(&self, graph: &GraphProto, expected: &Expected) -> Result<(), String> {
        if self.layers != self.dims.num_layers {
            return Err(format!("{} layers, guard.toml says {}", self.layers, self.dims.num_layers));
        }
        let heads = expected.heads.iter().map(|head| {
            let rows = self.rows.iter().position(|rows| *rows == head.rows).unwrap_or(usize::MAX);
            let classes = head.class_count(self.dims);
            let says = format!(", {classes} classes for each of {}", head.rows);
            (head.name.clone(), Value::Rows(Of::Wanted(rows), classes), TensorProto::FLOAT, says)
        });
        let check = ("row_check".to_owned(), Value::Check, TensorProto::FLOAT, String::new());
        let caches = cache_names(self.dims, "_out").into_iter();
        let caches = caches.map(|name| (name, Value::Cache, TensorProto::UINT8, String::new()));
        let wanted: Vec<_> = heads.chain([check]).chain(caches).collect();
        for (name, value, kind, says) in &wanted {
            let output = graph.output.iter().find(|output| output.name() == name);
            let fits = output.and_then(element) == Some(*kind) && self.values.get(name.as_str()) == Some(value);
            if !fits {
                return Err(format!("output {name} is missing or not what guard.toml says{says}"));
            }
        }
        match graph.output.len() == wanted.len() {
            true => Ok(()),
            false => Err(format!("{} outputs, {} are expected", graph.output.len(), wanted.len())),
        }
    }
}

#[cfg(test)]
mod tests;
