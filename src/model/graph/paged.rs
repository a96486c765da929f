//! What paged graphs have in common, whatever processor they are made for: a value is a row of numbers for each token, or
//! for each that is wanted of a head, or a cache; and most operators do the same everywhere.

use std::collections::{HashMap, HashSet};

use super::{
    Rules, check_nodes,
    node::{Attributes, inputs_of},
    tensors::{External, Tensors},
};
use crate::{
    bundle::{Dimensions, Head},
    limits,
    model::onnx::{GraphProto, NodeProto, TensorProto, ValueInfoProto},
};

/// The output that shows rows which are not finite.
pub(in crate::model) const ROW_CHECK: &str = "row_check";

/// What a graph must fit.
pub(in crate::model) struct Expected<'a> {
    pub(in crate::model) dims: &'a Dimensions,
    pub(in crate::model) heads: &'a [Head],
    /// The file with the weights, and its bytes.
    pub(in crate::model) file: &'a str,
    pub(in crate::model) weights: u64,
    /// The name of that file for the runtime, which follows no links to other folders.
    pub(in crate::model) location: &'a str,
}

/// What differs between the processors that graphs are made for.
pub(super) trait Target: Sized {
    const RULES: Rules;

    /// Inputs beside those that all graphs have.
    const INPUTS: &'static [(&'static str, i32)];

    /// The type of what caches hold, for the runtime.
    fn cache(&self) -> i32;

    /// Whether nodes compute with numbers of this type.
    fn computes(&self, kind: i32) -> bool;

    /// Whether the table of embeddings may be of this type.
    fn embeds(&self, kind: i32) -> bool;

    /// Whether an input or an output of the graph is a cache, as far as its declared shape matters.
    fn check_cache(&self, value: &ValueInfoProto, dims: &Dimensions) -> Result<(), String>;

    /// A node of an operator that others do not have. None if it defined its outputs itself.
    fn node<'g>(check: &mut Check<'g, Self>, node: &'g NodeProto) -> Result<Option<Value>, String>;
}

/// Checks a graph and writes anew what was checked.
pub(super) fn checked<T: Target>(bytes: &[u8], expected: &Expected, target: &T) -> Result<Vec<u8>, String> {
    super::checked(bytes, &T::RULES, expected.dims.num_layers, expected.location, |graph| {
        let mut check = Check::new(graph, expected, target)?;
        check_nodes(graph, |node| check.node(node))?;
        check.outputs(graph)
    })
}

/// The inputs that name the rows of heads, each once.
pub(in crate::model) fn row_inputs(heads: &[Head]) -> Vec<&str> {
    let mut rows: Vec<&str> = Vec::new();
    for head in heads {
        if !rows.contains(&&*head.rows) {
            rows.push(&head.rows);
        }
    }
    rows
}

/// The names of the caches, with a suffix for the outputs.
pub(in crate::model) fn cache_names(dims: &Dimensions, suffix: &str) -> Vec<String> {
    let layers = 0..dims.num_layers;
    layers.flat_map(|layer| ["key", "value"].map(|part| format!("{part}_cache{suffix}.{layer}"))).collect()
}

fn element(value: &ValueInfoProto) -> Option<i32> {
    Some(value.r#type.as_ref()?.tensor_type.as_ref()?.elem_type())
}

/// A value that a node computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Numbers of a type, so many in a row.
    Rows { of: Of, kind: i32, width: usize },
    /// The rows of the tokens, each cut into so many of a head's width.
    Heads { kind: i32, count: usize },
    /// A cache, after its layer.
    Cache,
    /// A float for each token.
    Check,
}

/// What there are rows of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Tokens,
    /// The rows that this input names: its place among the inputs of rows.
    Wanted(usize),
}

/// What the nodes so far have computed.
pub(super) struct Check<'g, T> {
    expected: &'g Expected<'g>,
    pub(super) target: &'g T,
    /// The inputs that name rows.
    rows: Vec<&'g str>,
    /// The names of all inputs, which nothing else may have.
    inputs: HashSet<String>,
    pub(super) tensors: Tensors<'g>,
    pub(super) values: HashMap<&'g str, Value>,
    /// The hidden states that heads and the row check read.
    hidden: Option<&'g str>,
    /// Layers whose attention was seen.
    pub(super) layers: usize,
}

impl<'g, T: Target> Check<'g, T> {
    /// Checks inputs and tensors.
    fn new(graph: &'g GraphProto, expected: &'g Expected, target: &'g T) -> Result<Self, String> {
        let rows = row_inputs(expected.heads);
        let wanted = inputs::<T>(&rows);
        let caches = cache_names(expected.dims, "");
        let count = wanted.len() + caches.len();
        if graph.input.len() != count {
            return Err(format!("{} inputs, {count} are expected", graph.input.len()));
        }
        let is = |input: &ValueInfoProto, name: &str, kind: i32| match input.name() == name
            && element(input) == Some(kind)
        {
            true => Ok(()),
            false => Err(format!("input {:?} is not {name:?}, or of another type", input.name())),
        };
        let (fixed, found) = graph.input.split_at(wanted.len());
        fixed.iter().zip(&wanted).try_for_each(|(input, (name, kind))| is(input, name, *kind))?;
        for (input, name) in found.iter().zip(&caches) {
            is(input, name, target.cache())?;
            target.check_cache(input, expected.dims)?;
        }
        let inputs: HashSet<String> = wanted.into_iter().map(|(name, _)| name.to_owned()).chain(caches).collect();
        let weights = External { name: expected.file, bytes: expected.weights };
        let tensors = Tensors::new(&graph.initializer, weights, &inputs)?;
        let values = HashMap::new();
        Ok(Check { expected, target, rows, inputs, tensors, values, hidden: None, layers: 0 })
    }

    pub(super) fn dims(&self) -> &'g Dimensions {
        self.expected.dims
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
            ("", "SimplifiedLayerNormalization") => self.norm(node)?,
            ("com.microsoft", "SkipSimplifiedLayerNormalization") => return self.skip_norm(node),
            _ => match T::node(self, node)? {
                Some(value) => value,
                None => return Ok(()),
            },
        };
        match &node.output[..] {
            [output] => self.define(output, value),
            outputs => Err(format!("{} outputs instead of one", outputs.len())),
        }
    }

    pub(super) fn define(&mut self, name: &'g str, value: Value) -> Result<(), String> {
        let taken = name.is_empty() || self.tensors.get(name).is_ok() || self.inputs.contains(name);
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

    /// An input that is rows of numbers which nodes compute with: of what, their type and their width.
    pub(super) fn rows(&self, name: &str) -> Result<(Of, i32, usize), String> {
        match self.values.get(name) {
            Some(Value::Rows { of, kind, width }) if self.target.computes(*kind) => Ok((*of, *kind, *width)),
            _ => Err(format!("input {name:?} is not computed before as rows of numbers")),
        }
    }

    /// The type and width of an input that is a row for each token.
    pub(super) fn tokens(&self, name: &str) -> Result<(i32, usize), String> {
        match self.rows(name)? {
            (Of::Tokens, kind, width) => Ok((kind, width)),
            _ => Err(format!("input {name:?} has no row for each token")),
        }
    }

    /// A tensor of this type and these dimensions.
    pub(super) fn tensor(&self, name: &str, kind: i32, dims: &[usize]) -> Result<(), String> {
        let tensor = self.tensors.get(name)?;
        tensor.has(name, dims)?;
        match tensor.kind == kind {
            true => Ok(()),
            false => Err(format!("tensor {name:?} is of type {}, not {kind}", tensor.kind)),
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
        let (name, table) = (table, self.tensors.get(table)?);
        let (rows, width) = (self.dims().vocab_size, self.dims().hidden_size);
        table.has(name, &[rows, width])?;
        match ids == "input_ids" && self.target.embeds(table.kind) {
            true => Ok(Value::Rows { of: Of::Tokens, kind: table.kind, width }),
            false => Err(format!("its ids {ids:?} are not input_ids, or its table is of type {}", table.kind)),
        }
    }

    /// To numbers that nodes compute with, of another type.
    fn cast(&self, node: &NodeProto) -> Result<Value, String> {
        let [source] = inputs_of(node)?;
        let to = Attributes::of(node, &["to"])?.int("to")?;
        let kind = i32::try_from(to).ok().filter(|kind| self.target.computes(*kind));
        let kind = kind.ok_or_else(|| format!("attribute to is {to}"))?;
        match self.values.get(source) {
            Some(Value::Rows { of, kind: from, width }) if *from != kind => {
                Ok(Value::Rows { of: *of, kind, width: *width })
            }
            _ => Err(format!("input {source:?} is not rows of numbers of another type")),
        }
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

    fn norm(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, weight] = inputs_of(node)?;
        let attributes = Attributes::of(node, &["axis", "epsilon"])?;
        attributes.is("axis", -1)?;
        attributes.epsilon()?;
        let (value, kind, width) = match self.values.get(source) {
            Some(heads @ Value::Heads { kind, .. }) => (*heads, *kind, self.dims().head_dim),
            _ => {
                let (of, kind, width) = self.rows(source)?;
                (Value::Rows { of, kind, width }, kind, width)
            }
        };
        self.tensor(weight, kind, &[width])?;
        Ok(value)
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

    /// What is multiplied by a matrix of quantised weights: of what, and its type; and the matrix' sizes: inputs, outputs,
    /// and inputs that share a scale.
    pub(super) fn quantized(
        &self,
        source: &str,
        attributes: &Attributes,
        group: &str,
    ) -> Result<(Of, i32, [usize; 3]), String> {
        let (inputs, outputs, group) = (attributes.size("K")?, attributes.size("N")?, attributes.size(group)?);
        let (of, kind, width) = self.rows(source)?;
        if inputs != width {
            return Err(format!("K is {inputs}, the rows have {width}"));
        }
        if !(1..=limits::GRAPH_WIDTH).contains(&outputs) || ![32, 64, 128].contains(&group) {
            return Err(format!("N {outputs} or the group {group} is out of range"));
        }
        Ok((of, kind, [inputs, outputs, group]))
    }

    /// Attention reads the caches of its layer, and the batch. Layers come in order, so each cache is written once.
    pub(super) fn is_layer(&self, caches: [&str; 2], batch: [&str; 3]) -> Result<(), String> {
        let own = ["key", "value"].map(|part| format!("{part}_cache.{}", self.layers));
        let is_batch = batch == ["cu_seqlens", "past_lens", "block_table"];
        match caches == own && is_batch && self.layers < self.dims().num_layers {
            true => Ok(()),
            false => Err("the inputs of the batch or the caches are not those of the layer".to_owned()),
        }
    }

    /// Attention gives rows of all heads, of this type, and the caches of its layer.
    pub(super) fn attended(&mut self, node: &'g NodeProto, kind: i32) -> Result<(), String> {
        let [attended, keys, values] = &node.output[..] else { return Err("it has not three outputs".to_owned()) };
        let own = ["key", "value"].map(|part| format!("{part}_cache_out.{}", self.layers));
        if [keys, values] != [&own[0], &own[1]] {
            return Err(format!("outputs {keys:?} and {values:?} are not the layer's caches"));
        }
        self.layers += 1;
        self.define(keys, Value::Cache)?;
        self.define(values, Value::Cache)?;
        let Dimensions { num_heads, head_dim, .. } = *self.dims();
        self.define(attended, Value::Rows { of: Of::Tokens, kind, width: num_heads * head_dim })
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
        let check = (ROW_CHECK.to_owned(), Value::Check, TensorProto::FLOAT, String::new());
        let caches = cache_names(dims, "_out").into_iter();
        let caches = caches.map(|name| (name, Value::Cache, self.target.cache(), String::new()));
        let wanted: Vec<_> = heads.chain([check]).chain(caches).collect();
        for (name, value, kind, says) in &wanted {
            let output = graph.output.iter().find(|output| output.name() == name);
            let fits = output.and_then(element) == Some(*kind) && self.values.get(name.as_str()) == Some(value);
            let Some(output) = output.filter(|_| fits) else {
                return Err(format!("output {name} is missing or not what guard.toml says{says}"));
            };
            if *value == Value::Cache {
                self.target.check_cache(output, dims)?;
            }
        }
        match graph.output.len() == wanted.len() {
            true => Ok(()),
            false => Err(format!("{} outputs, {} are expected", graph.output.len(), wanted.len())),
        }
    }
}

/// The graph's inputs before the caches, in order, with their types.
fn inputs<'a, T: Target>(rows: &[&'a str]) -> Vec<(&'a str, i32)> {
    let fixed = [
        ("input_ids", TensorProto::INT64),
        ("cu_seqlens", TensorProto::INT32),
        ("past_lens", TensorProto::INT32),
        ("block_table", TensorProto::INT32),
    ];
    let rows = rows.iter().map(|name| (*name, TensorProto::INT64));
    fixed.into_iter().chain(rows).chain(T::INPUTS.iter().copied()).collect()
}
