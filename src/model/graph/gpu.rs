//! A paged graph for GPUs before the runtime sees it. Attention is ONNX Runtime's own operator, values between nodes are of
//! 16 or 32 bits, and all else is held against `guard.toml` as for the CPU.

use std::collections::HashMap;

use prost::Message;

use super::{
    Expected, Of, cache_names, check_opsets, element,
    node::{Attributes, inputs_of},
    relocated, row_inputs,
    tensors::{External, Tensors, is_input},
};
use crate::{
    bundle::{Dimensions, Float},
    limits,
    model::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto},
};

/// Nodes of a layer, and of what is around the layers.
const LAYER_NODES: usize = 24;

/// The input that tells the attention how long streams are; it stays in the host's memory.
pub(in crate::model) const METADATA: &str = "metadata";

/// What a graph for a GPU must fit beside [`Expected`].
pub(in crate::model) struct Gpu {
    /// What the cache stores.
    pub(in crate::model) float: Float,
    pub(in crate::model) block_tokens: usize,
}

impl Gpu {
    /// The type of 16-bit values in the graph.
    fn kind(&self) -> i32 {
        match self.float {
            Float::Bf16 => TensorProto::BFLOAT16,
            _ => TensorProto::FLOAT16,
        }
    }
}

/// Checks a graph and writes anew what was checked.
pub(in crate::model) fn checked(bytes: &[u8], expected: &Expected, gpu: &Gpu) -> Result<Vec<u8>, String> {
    let model = ModelProto::decode(bytes).map_err(|error| format!("not a model of ONNX: {error}"))?;
    check_opsets(&model)?;
    let graph = model.graph.as_ref().ok_or("it has no graph")?;
    let nodes = LAYER_NODES * (expected.dims.num_layers + 2);
    let items = graph.initializer.len().max(graph.input.len()).max(graph.output.len());
    if graph.node.len() > nodes || items > limits::GRAPH_ITEMS {
        let count = graph.node.len();
        return Err(format!("{count} nodes and {items} tensors, the limits are {nodes} and {}", limits::GRAPH_ITEMS));
    }
    let mut rows = row_inputs(expected.heads);
    let heads = rows.len();
    // No tensor and no value may have its name.
    rows.push(METADATA);
    let tensors = Tensors::new(&graph.initializer, expected.external(), &rows)?;
    rows.truncate(heads);
    let mut check = Check { expected, gpu, rows, tensors, values: HashMap::new(), hidden: None, layers: 0 };
    check.inputs(graph)?;
    for node in &graph.node {
        let name = || format!("node {} {:?}", node.op_type(), node.name());
        check.node(node).map_err(|reason| format!("{}: {reason}", name()))?;
    }
    check.outputs(graph)?;
    drop(check);
    Ok(relocated(model, expected.location))
}

impl<'a> Expected<'a> {
    fn external(&self) -> External<'a> {
        External { name: self.file, bytes: self.weights }
    }
}

/// A value that a node computes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// Numbers of a type, so many in a row.
    Rows { of: Of, kind: i32, width: usize },
    /// The rows of the tokens, each cut into so many of a head's width.
    Heads { kind: i32, count: usize },
    /// A cache, after its layer.
    Cache,
    /// A float for each token.
    Check,
}

/// What the nodes so far have computed.
struct Check<'g> {
    expected: &'g Expected<'g>,
    gpu: &'g Gpu,
    /// The inputs that name rows.
    rows: Vec<&'g str>,
    tensors: Tensors<'g>,
    values: HashMap<&'g str, Value>,
    /// The hidden states that heads and the row check read.
    hidden: Option<&'g str>,
    /// Layers whose attention was seen.
    layers: usize,
}

impl<'g> Check<'g> {
    fn dims(&self) -> &'g Dimensions {
        self.expected.dims
    }

    fn inputs(&self, graph: &GraphProto) -> Result<(), String> {
        let fixed = [
            ("input_ids", TensorProto::INT64),
            ("cu_seqlens", TensorProto::INT32),
            ("past_lens", TensorProto::INT32),
            ("block_table", TensorProto::INT32),
        ];
        let rows = self.rows.iter().map(|name| (*name, TensorProto::INT64));
        let all = fixed.into_iter().chain(rows).chain([(METADATA, TensorProto::INT32)]);
        let mut wanted: Vec<(String, i32)> = all.map(|(name, kind)| (name.to_owned(), kind)).collect();
        let first_cache = wanted.len();
        wanted.extend(cache_names(self.dims(), "").into_iter().map(|name| (name, self.gpu.kind())));
        if graph.input.len() != wanted.len() {
            return Err(format!("{} inputs, {} are expected", graph.input.len(), wanted.len()));
        }
        for (index, (input, (name, kind))) in graph.input.iter().zip(&wanted).enumerate() {
            if input.name() != name || element(input) != Some(*kind) {
                return Err(format!("input {:?} is not {name:?}, or of another type", input.name()));
            }
            if index >= first_cache {
                self.is_cache(input)?;
            }
        }
        Ok(())
    }

    /// The shape of a cache: the runtime would not look at it.
    fn is_cache(&self, value: &ValueInfoProto) -> Result<(), String> {
        let Dimensions { num_kv_heads, head_dim, .. } = *self.dims();
        let shape = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()?.shape.as_ref());
        let sizes: Vec<Option<i64>> =
            shape.map_or(Vec::new(), |shape| shape.dim.iter().map(|dim| dim.dim_value).collect());
        let wanted = [self.gpu.block_tokens, num_kv_heads, head_dim].map(|size| Some(size as i64));
        match sizes.split_first() {
            Some((None, sizes)) if sizes == wanted => Ok(()),
            _ => Err(format!("{} is not of any number of blocks, by {wanted:?}", value.name())),
        }
    }

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
            ("", "Mul") => self.mul(node)?,
            ("", "Reshape") => self.reshape(node)?,
            ("", "Split") => return self.split(node),
            ("", "SimplifiedLayerNormalization") => self.norm(node)?,
            ("com.microsoft", "QuickGelu") => self.quick_gelu(node)?,
            ("com.microsoft", "SkipSimplifiedLayerNormalization") => return self.skip_norm(node),
            ("com.microsoft", "MatMulNBits") => self.matmul_n_bits(node)?,
            ("com.microsoft", "PagedAttention") => return self.attention(node),
            (domain, _) => return Err(format!("the operator, of domain {domain:?}, is not supported")),
        };
        match &node.output[..] {
            [output] => self.define(output, value),
            outputs => Err(format!("{} outputs instead of one", outputs.len())),
        }
    }

    fn define(&mut self, name: &'g str, value: Value) -> Result<(), String> {
        let taken = name.is_empty() || name == METADATA || self.tensors.get(name).is_ok() || is_input(name, &self.rows);
        if taken || self.values.insert(name, value).is_some() {
            return Err(format!("output {name:?} has no name of its own"));
        }
        match value {
            Value::Rows { width, .. } if !(1..=limits::GRAPH_WIDTH).contains(&width) => {
                Err(format!("rows of {width} values, the limit is {}", limits::GRAPH_WIDTH))
            }
            _ => Ok(()),
        }
    }

    /// An input that is rows of numbers: of what, their type and their width.
    fn rows(&self, name: &str) -> Result<(Of, i32, usize), String> {
        match self.values.get(name) {
            Some(Value::Rows { of, kind, width }) => Ok((*of, *kind, *width)),
            _ => Err(format!("input {name:?} is not computed before as rows of numbers")),
        }
    }

    /// The type and width of an input that is a row for each token.
    fn tokens(&self, name: &str) -> Result<(i32, usize), String> {
        match self.rows(name)? {
            (Of::Tokens, kind, width) => Ok((kind, width)),
            _ => Err(format!("input {name:?} has no row for each token")),
        }
    }

    /// A tensor of this type and these dimensions.
    fn tensor(&self, name: &str, kind: i32, dims: &[usize]) -> Result<(), String> {
        let tensor = self.tensors.get(name)?;
        tensor.has(dims)?;
        if tensor.kind == kind {
            Ok(())
        } else {
            Err(format!("tensor {name:?} is of type {}, not {kind}", tensor.kind))
        }
    }

    /// Hidden states that heads or the row check read: all read the same floats, of the model's width.
    fn hidden(&mut self, name: &'g str) -> Result<usize, String> {
        let ((kind, width), hidden) = (self.tokens(name)?, *self.hidden.get_or_insert(name));
        match width == self.dims().hidden_size && name == hidden && kind == TensorProto::FLOAT {
            true => Ok(width),
            false => Err(format!("input {name:?} is not the hidden states {hidden:?}, of {}", self.dims().hidden_size)),
        }
    }

    /// The rows of hidden states that are wanted.
    fn wanted(&mut self, node: &'g NodeProto) -> Result<Value, String> {
        let [hidden, rows] = inputs_of(node)?;
        Attributes::of(node, &["axis"])?.is("axis", 0)?;
        let input = self.rows.iter().position(|name| *name == rows);
        let input = input.ok_or_else(|| format!("input {rows:?} is not the rows of a head"))?;
        Ok(Value::Rows { of: Of::Wanted(input), kind: TensorProto::FLOAT, width: self.hidden(hidden)? })
    }

    fn row_check(&mut self, node: &'g NodeProto) -> Result<Value, String> {
        let [hidden, axes] = inputs_of(node)?;
        Attributes::of(node, &["keepdims"])?.is("keepdims", 0)?;
        if self.tensors.integers(axes)? != [-1] {
            return Err(format!("the axis {axes:?} is not -1"));
        }
        self.hidden(hidden).map(|_| Value::Check)
    }

    fn embedding(&self, node: &NodeProto) -> Result<Value, String> {
        let [table, ids] = inputs_of(node)?;
        Attributes::of(node, &["axis"])?.is("axis", 0)?;
        let (rows, width) = (self.dims().vocab_size, self.dims().hidden_size);
        self.tensor(table, self.gpu.kind(), &[rows, width])?;
        match ids {
            "input_ids" => Ok(Value::Rows { of: Of::Tokens, kind: self.gpu.kind(), width }),
            _ => Err(format!("its ids {ids:?} are not input_ids")),
        }
    }

    fn cast(&self, node: &NodeProto) -> Result<Value, String> {
        let [source] = inputs_of(node)?;
        let to = Attributes::of(node, &["to"])?.int("to")?;
        let kind = [TensorProto::FLOAT, self.gpu.kind()].into_iter().find(|kind| i64::from(*kind) == to);
        let kind = kind.ok_or_else(|| format!("attribute to is {to}"))?;
        let (of, _, width) = self.rows(source)?;
        Ok(Value::Rows { of, kind, width })
    }

    fn matmul(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, weights] = inputs_of(node)?;
        Attributes::of(node, &[])?;
        let (of, kind, width) = self.rows(source)?;
        match self.tensors.get(weights)?.dims[..] {
            [inputs, outputs] if inputs == width => {
                self.tensor(weights, kind, &[inputs, outputs])?;
                Ok(Value::Rows { of, kind, width: outputs })
            }
            ref dims => Err(format!("weights {dims:?} do not fit rows of {width}")),
        }
    }

    /// A multiplication by a table whose rows are the outputs.
    fn gemm(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, table] = inputs_of(node)?;
        Attributes::of(node, &["transB"])?.is("transB", 1)?;
        let (of, kind, width) = self.rows(source)?;
        match self.tensors.get(table)?.dims[..] {
            [outputs, inputs] if inputs == width => {
                self.tensor(table, kind, &[outputs, inputs])?;
                Ok(Value::Rows { of, kind, width: outputs })
            }
            ref dims => Err(format!("a table {dims:?} does not fit rows of {width}")),
        }
    }

    fn mul(&self, node: &NodeProto) -> Result<Value, String> {
        let [left, right] = inputs_of(node)?;
        Attributes::of(node, &[])?;
        let (left, right) = (self.rows(left)?, self.rows(right)?);
        let (of, kind, width) = left;
        match left == right {
            true => Ok(Value::Rows { of, kind, width }),
            false => Err("its two inputs differ in type or shape".to_owned()),
        }
    }

    /// Rows of tokens into rows of heads, or back.
    fn reshape(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, shape] = inputs_of(node)?;
        Attributes::of(node, &[])?;
        let &[-1, size] = self.tensors.integers(shape)? else { return Err(format!("{shape:?} is not [-1, size]")) };
        let (size, head) = (usize::try_from(size).unwrap_or(0), self.dims().head_dim);
        match self.values.get(source) {
            Some(Value::Rows { of: Of::Tokens, kind, width }) if size == head && width.is_multiple_of(head) => {
                Ok(Value::Heads { kind: *kind, count: width / head })
            }
            Some(Value::Heads { kind, count }) if size == count * head => {
                Ok(Value::Rows { of: Of::Tokens, kind: *kind, width: size })
            }
            _ => Err(format!("input {source:?} cannot be rows of {size}")),
        }
    }

    fn split(&mut self, node: &'g NodeProto) -> Result<(), String> {
        let (source, widths): (&str, Vec<usize>) = match node.input.len() {
            1 => {
                let attributes = Attributes::of(node, &["axis", "num_outputs"])?;
                attributes.is("axis", -1)?;
                attributes.is("num_outputs", 2)?;
                let [source] = inputs_of(node)?;
                let width = self.tokens(source)?.1;
                if width % 2 == 1 {
                    return Err(format!("rows of {width} have no two halves"));
                }
                (source, vec![width / 2; 2])
            }
            _ => {
                Attributes::of(node, &["axis"])?.is("axis", -1)?;
                let [source, sizes] = inputs_of(node)?;
                let sizes = self.tensors.integers(sizes)?.iter();
                (source, sizes.map(|size| usize::try_from(*size).unwrap_or(0)).collect())
            }
        };
        let (kind, width) = self.tokens(source)?;
        let sum = widths.iter().try_fold(0usize, |sum, width| sum.checked_add(*width));
        if sum != Some(width) || widths.len() != node.output.len() {
            return Err(format!("rows of {width} are not {} of {widths:?}", node.output.len()));
        }
        for (output, width) in node.output.iter().zip(widths) {
            self.define(output, Value::Rows { of: Of::Tokens, kind, width })?;
        }
        Ok(())
    }

    fn norm(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, weight] = inputs_of(node)?;
        let attributes = Attributes::of(node, &["axis", "epsilon"])?;
        attributes.is("axis", -1)?;
        attributes.epsilon()?;
        let value = self.values.get(source).copied();
        let (kind, width) = match value {
            Some(Value::Rows { kind, width, .. }) => (kind, width),
            Some(Value::Heads { kind, .. }) => (kind, self.dims().head_dim),
            _ => return Err(format!("input {source:?} is not computed before as rows of numbers")),
        };
        self.tensor(weight, kind, &[width])?;
        value.ok_or_else(String::new)
    }

    fn quick_gelu(&self, node: &NodeProto) -> Result<Value, String> {
        let [source] = inputs_of(node)?;
        match Attributes::of(node, &["alpha"])?.float("alpha")? {
            1.0 => self.rows(source).map(|(of, kind, width)| Value::Rows { of, kind, width }),
            alpha => Err(format!("alpha is {alpha}, not 1")),
        }
    }

    fn skip_norm(&mut self, node: &'g NodeProto) -> Result<(), String> {
        let [branch, stream, weight] = inputs_of(node)?;
        Attributes::of(node, &["epsilon"])?.epsilon()?;
        let (kind, width) = self.tokens(branch)?;
        if self.tokens(stream)? != (kind, width) {
            return Err("rows of different types or widths are added".to_owned());
        }
        self.tensor(weight, kind, &[width])?;
        let rows = Value::Rows { of: Of::Tokens, kind, width };
        match &node.output[..] {
            [normed] => self.define(normed, rows),
            [normed, mean, deviation, sum] if mean.is_empty() && deviation.is_empty() => {
                self.define(normed, rows)?;
                self.define(sum, rows)
            }
            outputs => Err(format!("outputs {outputs:?} are not expected")),
        }
    }

    fn matmul_n_bits(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, packed, scales] = inputs_of(node)?;
        let attributes = Attributes::of(node, &["K", "N", "bits", "block_size"])?;
        let (inputs, outputs, block) = (attributes.size("K")?, attributes.size("N")?, attributes.size("block_size")?);
        let (of, kind, width) = self.rows(source)?;
        let bits = attributes.size("bits")?;
        if inputs != width || ![4, 8].contains(&bits) {
            return Err(format!("K is {inputs} and bits are {bits}, the rows have {width}"));
        }
        if !(1..=limits::GRAPH_WIDTH).contains(&outputs) || ![32, 64, 128].contains(&block) {
            return Err(format!("N {outputs} or the block {block} is out of range"));
        }
        let blocks = inputs.div_ceil(block);
        self.tensor(packed, TensorProto::UINT8, &[outputs, blocks, block * bits / 8])?;
        self.tensor(scales, kind, &[outputs * blocks]).or_else(|_| self.tensor(scales, kind, &[outputs, blocks]))?;
        Ok(Value::Rows { of, kind, width: outputs })
    }

    fn attention(&mut self, node: &'g NodeProto) -> Result<(), String> {
        let Dimensions { num_heads, num_kv_heads, head_dim, context, num_layers, .. } = *self.dims();
        let [query, key, value, batch @ .., q_norm, k_norm, scale, other, metadata] = inputs_of::<17>(node)?;
        let layer = self.layers;
        let caches = ["key", "value"].map(|part| format!("{part}_cache.{layer}"));
        let [keys, values, cu_seqlens, past_lens, block_table, cos, sin, slots, sink] = batch;
        let names = [cu_seqlens, past_lens, block_table, metadata];
        let absent = [slots, sink, scale, other].iter().all(|name| name.is_empty());
        if [keys, values] != caches
            || names != ["cu_seqlens", "past_lens", "block_table", METADATA]
            || !absent
            || layer == num_layers
        {
            return Err("the inputs of the batch or the caches are not those of the layer".to_owned());
        }
        let normed = !q_norm.is_empty() || !k_norm.is_empty();
        let mut known = vec!["num_heads", "kv_num_heads", "scale", "do_rotary"];
        known.extend(normed.then_some("qk_norm_epsilon"));
        self.attention_attributes(&Attributes::of(node, &known)?, normed)?;
        let kind = self.gpu.kind();
        let widths = [num_heads, num_kv_heads, num_kv_heads].map(|heads| heads * head_dim);
        let found = match (key, value) {
            ("", "") => vec![(self.tokens(query)?, widths.iter().sum())],
            _ => [query, key, value]
                .iter()
                .map(|name| self.tokens(name))
                .zip(widths)
                .map(|(found, width)| found.map(|found| (found, width)))
                .collect::<Result<_, _>>()?,
        };
        if let Some((found, width)) = found.iter().find(|(found, width)| *found != (kind, *width)) {
            return Err(format!("rows of {found:?} are not queries, keys or values, of {width}"));
        }
        for table in [cos, sin] {
            self.tensor(table, kind, &[context, head_dim / 2])?;
        }
        for norm in [q_norm, k_norm].iter().filter(|_| normed) {
            self.tensor(norm, kind, &[head_dim])?;
        }
        let [attended, keys, values] = &node.output[..] else { return Err("it has not three outputs".to_owned()) };
        if [keys, values].map(String::as_str) != ["key", "value"].map(|part| format!("{part}_cache_out.{layer}")) {
            return Err(format!("outputs {keys:?} and {values:?} are not the layer's caches"));
        }
        self.layers += 1;
        self.define(keys, Value::Cache)?;
        self.define(values, Value::Cache)?;
        self.define(attended, Value::Rows { of: Of::Tokens, kind, width: num_heads * head_dim })
    }

    fn attention_attributes(&self, attributes: &Attributes, normed: bool) -> Result<(), String> {
        attributes.is("num_heads", self.dims().num_heads as i64)?;
        attributes.is("kv_num_heads", self.dims().num_kv_heads as i64)?;
        attributes.is("do_rotary", 1)?;
        let scale = attributes.float("scale")?;
        let epsilon = if normed { attributes.float("qk_norm_epsilon")? } else { 0.0 };
        match scale.is_finite() && scale > 0.0 && epsilon.is_finite() && epsilon >= 0.0 {
            true => Ok(()),
            false => Err(format!("scale is {scale}, the epsilon of norms {epsilon}")),
        }
    }

    /// The graph's outputs are the heads, with the classes that guard.toml lists and for their own rows, the row check,
    /// and every layer's caches.
    fn outputs(&self, graph: &GraphProto) -> Result<(), String> {
        let dims = self.dims();
        if self.layers != dims.num_layers {
            return Err(format!("{} layers, guard.toml says {}", self.layers, dims.num_layers));
        }
        let heads = self.expected.heads.iter().map(|head| {
            let rows = self.rows.iter().position(|rows| *rows == head.rows).unwrap_or(usize::MAX);
            let (of, width) = (Of::Wanted(rows), head.class_count(dims));
            let says = format!(", {width} classes for each of {}", head.rows);
            (head.name.clone(), Value::Rows { of, kind: TensorProto::FLOAT, width }, TensorProto::FLOAT, says)
        });
        let check = ("row_check".to_owned(), Value::Check, TensorProto::FLOAT, String::new());
        let caches = cache_names(dims, "_out").into_iter();
        let caches = caches.map(|name| (name, Value::Cache, self.gpu.kind(), String::new()));
        let wanted: Vec<_> = heads.chain([check]).chain(caches).collect();
        for (name, value, kind, says) in &wanted {
            let output = graph.output.iter().find(|output| output.name() == name);
            let fits = output.and_then(element) == Some(*kind) && self.values.get(name.as_str()) == Some(value);
            if !fits {
                return Err(format!("output {name} is missing or not what guard.toml says{says}"));
            }
            if *value == Value::Cache {
                output.map_or(Ok(()), |output| self.is_cache(output))?;
            }
        }
        match graph.output.len() == wanted.len() {
            true => Ok(()),
            false => Err(format!("{} outputs, {} are expected", graph.output.len(), wanted.len())),
        }
    }
}

#[cfg(test)]
#[path = "gpu_tests.rs"]
mod tests;
