//! A portable graph before the runtime sees it: standard operators only, between values whose fixed shapes are worked out
//! here, from the inputs that the host gives to the outputs that it reads. Weights lie in the graph or in the file that
//! guard.toml names.

use std::collections::HashMap;

use super::{cache::names, element::Element};
use crate::{
    bundle::{Append, Dimensions, Head, Variant},
    model::{
        graph::{
            self, Rules,
            node::{Attributes, inputs_of},
            tensors::{self, External},
        },
        onnx::{GraphProto, NodeProto, TensorProto, ValueInfoProto},
    },
};

/// The output that shows rows which are not finite.
pub(super) const ROW_CHECK: &str = "row_check";

/// The output, of hidden states, that heads which are graphs of their own read.
pub(super) const HIDDEN: &str = "hidden";

/// Operators of ONNX alone.
const RULES: Rules = Rules { opsets: &[("", 13..=17)], layer_nodes: 96 };

/// The most numbers of a value between two nodes.
const NUMBERS: usize = 1 << 32;

/// What a graph must fit.
pub(super) struct Expected<'a> {
    pub(super) dims: &'a Dimensions,
    /// By name.
    pub(super) inputs: Vec<(String, Value)>,
    pub(super) outputs: Vec<(String, Value)>,
    pub(super) weights: External<'a>,
    /// The name of that file for the runtime, which follows no links to other folders.
    pub(super) location: &'a str,
}

/// The type of a value, and its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    kind: i32,
    dims: Vec<usize>,
}

fn kind(element: Element) -> i32 {
    match element {
        Element::Fp16 => TensorProto::FLOAT16,
        Element::Fp32 => TensorProto::FLOAT,
    }
}

fn value(kind: i32, dims: &[usize]) -> Value {
    Value { kind, dims: dims.to_vec() }
}

/// The inputs and outputs of a variant. `hidden` says that it gives the hidden states, for heads that are graphs of
/// their own, which are not among these.
pub(super) fn of_variant(
    variant: &Variant,
    (dims, heads): (&Dimensions, &[&Head]),
    cache: Element,
    hidden: bool,
) -> [Vec<(String, Value)>; 2] {
    let Variant { new_tokens, context, slots, .. } = *variant;
    let Dimensions { hidden_size, num_layers, num_kv_heads, head_dim, .. } = *dims;
    let float = |dims: &[usize]| value(TensorProto::FLOAT, dims);
    let caches = |prefix: &str, tokens: usize| {
        let value = value(kind(cache), &[slots, num_kv_heads, tokens, head_dim]);
        names(num_layers, prefix).into_iter().map(move |name| (name, value.clone()))
    };
    let mut inputs = vec![
        ("embeds".to_owned(), float(&[slots, new_tokens, hidden_size])),
        ("cos".to_owned(), float(&[slots, 1, new_tokens, head_dim])),
        ("sin".to_owned(), float(&[slots, 1, new_tokens, head_dim])),
        ("mask".to_owned(), value(kind(cache), &[slots, 1, 1, context])),
    ];
    if variant.append == Append::Scatter {
        inputs.push(("slots".to_owned(), value(TensorProto::INT64, &[slots, num_kv_heads, new_tokens, 3])));
    }
    inputs.extend(caches("past", context));
    let heads = heads.iter().map(|head| (head.name.clone(), float(&[slots, new_tokens, head.class_count(dims)])));
    let mut outputs: Vec<_> = heads.collect();
    outputs.push((ROW_CHECK.to_owned(), float(&[slots, new_tokens])));
    if hidden {
        outputs.push((HIDDEN.to_owned(), float(&[slots, new_tokens, hidden_size])));
    }
    outputs.extend(match variant.append {
        Append::Rows => caches("new", new_tokens),
        Append::Scatter => caches("present", context),
    });
    [inputs, outputs]
}

/// The input and the output of a head that is a graph of its own.
pub(super) fn of_head(head: &Head, dims: &Dimensions, element: Element) -> [Vec<(String, Value)>; 2] {
    [
        vec![(HIDDEN.to_owned(), value(kind(element), &[1, dims.hidden_size]))],
        vec![(head.name.clone(), value(TensorProto::FLOAT, &[1, head.class_count(dims)]))],
    ]
}

/// Checks a graph and writes anew what was checked.
pub(super) fn checked(bytes: &[u8], expected: &Expected) -> Result<Vec<u8>, String> {
    graph::checked(bytes, &RULES, expected.dims.num_layers, expected.location, |graph| {
        let mut check = Check::new(graph, expected)?;
        graph::check_nodes(graph, |node| check.node(node))?;
        check_ends("output", &graph.output, &expected.outputs)?;
        for (name, value) in &expected.outputs {
            match check.values.get(&**name).filter(|_| check.computed.contains(&&**name)) {
                Some(found) if found == value => {}
                Some(found) => {
                    return Err(format!("output {name} has the shape {:?}, not {:?}", found.dims, value.dims));
                }
                None => return Err(format!("output {name} is not computed")),
            }
        }
        Ok(())
    })
}

/// Inputs or outputs are those that are expected, in any order.
fn check_ends(what: &str, found: &[ValueInfoProto], expected: &[(String, Value)]) -> Result<(), String> {
    for (name, value) in expected {
        let Some(proto) = found.iter().find(|proto| proto.name() == name) else {
            return Err(format!("{what} {name} is missing"));
        };
        if declared(proto).as_ref() != Some(value) {
            return Err(format!(
                "{what} {name} is not of the type and the shape {:?} that guard.toml says",
                value.dims
            ));
        }
    }
    match found.len() == expected.len() {
        true => Ok(()),
        false => Err(format!("{} {what}s, {} are expected", found.len(), expected.len())),
    }
}

fn declared(proto: &ValueInfoProto) -> Option<Value> {
    let tensor = proto.r#type.as_ref()?.tensor_type.as_ref()?;
    let dims = tensor.shape.as_ref()?.dim.iter().map(|dim| usize::try_from(dim.dim_value?).ok());
    Some(Value { kind: tensor.elem_type(), dims: dims.collect::<Option<_>>()? })
}

/// What is known so far.
struct Check<'g> {
    values: HashMap<&'g str, Value>,
    /// What nodes gave, of these.
    computed: Vec<&'g str>,
    /// The whole numbers of tensors that shapes are made of.
    integers: HashMap<&'g str, Vec<i64>>,
}

impl<'g> Check<'g> {
    fn new(graph: &'g GraphProto, expected: &Expected) -> Result<Self, String> {
        check_ends("input", &graph.input, &expected.inputs)?;
        let mut check = Check { values: HashMap::new(), computed: Vec::new(), integers: HashMap::new() };
        for proto in &graph.input {
            let value = declared(proto).ok_or_else(|| format!("input {:?} has no shape", proto.name()))?;
            check.define(proto.name(), value)?;
        }
        for proto in &graph.initializer {
            let name = proto.name();
            let reason = |reason| format!("tensor {name:?}: {reason}");
            let tensor = tensors::check(proto, expected.weights).map_err(reason)?;
            check.define(name, Value { kind: tensor.kind, dims: tensor.dims })?;
            if let (TensorProto::INT64, Some(raw)) = (tensor.kind, &proto.raw_data) {
                let numbers = raw.chunks_exact(8).filter_map(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
                check.integers.insert(name, numbers.collect());
            }
        }
        Ok(check)
    }

    fn define(&mut self, name: &'g str, value: Value) -> Result<(), String> {
        let numbers = value.dims.iter().try_fold(1usize, |numbers, dim| numbers.checked_mul(*dim));
        if numbers.is_none_or(|numbers| numbers > NUMBERS) {
            return Err(format!("{name:?} of the shape {:?} is too large", value.dims));
        }
        match name.is_empty() || self.values.insert(name, value).is_some() {
            true => Err(format!("{name:?} is no name of its own")),
            false => Ok(()),
        }
    }

    fn get(&self, name: &str) -> Result<&Value, String> {
        self.values.get(name).ok_or_else(|| format!("input {name:?} is not computed before"))
    }

    fn integers(&self, name: &str) -> Result<&[i64], String> {
        let found = self.integers.get(name).map(Vec::as_slice);
        found.ok_or_else(|| format!("input {name:?} is not whole numbers in the graph"))
    }

    fn node(&mut self, node: &'g NodeProto) -> Result<(), String> {
        let value = match (node.domain(), node.op_type()) {
            ("", "Add" | "Mul" | "Div" | "Sub") => self.elementwise(node)?,
            ("", "Sqrt" | "Sigmoid") => self.unary(node)?,
            ("", "Cast") => self.cast(node)?,
            ("", "ReduceMean") => self.mean(node)?,
            ("", "MatMul") => self.matmul(node)?,
            ("", "Gemm") => self.gemm(node)?,
            ("", "Reshape") => self.reshape(node)?,
            ("", "Transpose") => self.transpose(node)?,
            ("", "Concat") => self.concat(node)?,
            ("", "Softmax") => self.softmax(node)?,
            ("", "ScatterND") => self.scatter(node)?,
            ("", "Split") => return self.split(node),
            (domain, _) => return Err(format!("the operator, of domain {domain:?}, is not supported")),
        };
        match &node.output[..] {
            [output] => self.give(output, value),
            outputs => Err(format!("{} outputs instead of one", outputs.len())),
        }
    }

    fn give(&mut self, name: &'g str, value: Value) -> Result<(), String> {
        self.define(name, value)?;
        self.computed.push(name);
        Ok(())
    }

    /// An input of floats.
    fn floats(&self, name: &str) -> Result<&Value, String> {
        let value = self.get(name)?;
        match [TensorProto::FLOAT, TensorProto::FLOAT16].contains(&value.kind) {
            true => Ok(value),
            false => Err(format!("input {name:?} is not of floats")),
        }
    }

    /// Two inputs of floats of one type.
    fn pair(&self, [one, other]: [&str; 2]) -> Result<[&Value; 2], String> {
        let [a, b] = [self.floats(one)?, self.floats(other)?];
        if a.kind == b.kind { Ok([a, b]) } else { Err(format!("inputs {one:?} and {other:?} are of two types")) }
    }

    fn elementwise(&self, node: &NodeProto) -> Result<Value, String> {
        Attributes::of(node, &[])?;
        let [a, b] = self.pair(inputs_of(node)?)?;
        Ok(Value { kind: a.kind, dims: broadcast(&a.dims, &b.dims)? })
    }

    fn unary(&self, node: &NodeProto) -> Result<Value, String> {
        Attributes::of(node, &[])?;
        let [source] = inputs_of(node)?;
        self.floats(source).cloned()
    }

    fn cast(&self, node: &NodeProto) -> Result<Value, String> {
        let [source] = inputs_of(node)?;
        let to = Attributes::of(node, &["to"])?.int("to")?;
        match [TensorProto::FLOAT, TensorProto::FLOAT16].into_iter().find(|kind| i64::from(*kind) == to) {
            Some(kind) => Ok(Value { kind, dims: self.floats(source)?.dims.clone() }),
            None => Err(format!("attribute to is {to}, no type of floats")),
        }
    }

    fn mean(&self, node: &NodeProto) -> Result<Value, String> {
        let [source] = inputs_of(node)?;
        let attributes = Attributes::of(node, &["axes", "keepdims"])?;
        let mut value = self.floats(source)?.clone();
        if attributes.ints("axes")? != [-1] {
            return Err("attribute axes is not [-1]".to_owned());
        }
        value.dims.pop().ok_or("its input has no dimensions")?;
        match attributes.int("keepdims")? {
            0 => {}
            1 => value.dims.push(1),
            other => return Err(format!("attribute keepdims is {other}")),
        }
        Ok(value)
    }

    fn matmul(&self, node: &NodeProto) -> Result<Value, String> {
        Attributes::of(node, &[])?;
        let [a, b] = self.pair(inputs_of(node)?)?;
        let ([outer_a @ .., rows, inner], [outer_b @ .., inputs, columns]) = (&a.dims[..], &b.dims[..]) else {
            return Err("its inputs are no matrices".to_owned());
        };
        if inner != inputs {
            return Err(format!("{:?} and {:?} do not fit each other", a.dims, b.dims));
        }
        let mut dims = broadcast(outer_a, outer_b)?;
        dims.extend([*rows, *columns]);
        Ok(Value { kind: a.kind, dims })
    }

    /// A multiplication by a table whose rows are the outputs.
    fn gemm(&self, node: &NodeProto) -> Result<Value, String> {
        Attributes::of(node, &["transB"])?.is("transB", 1)?;
        let [a, b] = self.pair(inputs_of(node)?)?;
        match (&a.dims[..], &b.dims[..]) {
            ([rows, inner], [outputs, inputs]) if inner == inputs => Ok(value(a.kind, &[*rows, *outputs])),
            _ => Err(format!("{:?} and {:?} do not fit each other", a.dims, b.dims)),
        }
    }

    fn reshape(&self, node: &NodeProto) -> Result<Value, String> {
        Attributes::of(node, &[])?;
        let [source, shape] = inputs_of(node)?;
        let source = self.floats(source)?;
        let dims: Option<Vec<usize>> =
            self.integers(shape)?.iter().map(|size| usize::try_from(*size).ok().filter(|size| *size > 0)).collect();
        let product = |dims: &[usize]| dims.iter().try_fold(1usize, |all, dim| all.checked_mul(*dim));
        match dims.filter(|dims| product(dims).is_some_and(|all| Some(all) == product(&source.dims))) {
            Some(dims) => Ok(Value { kind: source.kind, dims }),
            None => Err(format!("{:?} does not become {:?}", source.dims, self.integers(shape)?)),
        }
    }

    fn transpose(&self, node: &NodeProto) -> Result<Value, String> {
        let [source] = inputs_of(node)?;
        let order = Attributes::of(node, &["perm"])?.ints("perm")?;
        let source = self.floats(source)?;
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..source.dims.len() as i64) {
            return Err(format!("attribute perm is {order:?}, for {:?}", source.dims));
        }
        Ok(Value { kind: source.kind, dims: order.iter().map(|axis| source.dims[*axis as usize]).collect() })
    }

    fn concat(&self, node: &NodeProto) -> Result<Value, String> {
        Attributes::of(node, &["axis"])?.is("axis", -1)?;
        let mut parts = node.input.iter().map(|name| self.floats(name));
        let mut joined = parts.next().ok_or("it has no inputs")??.clone();
        for part in parts {
            let part = part?;
            match (&mut joined.dims[..], &part.dims[..]) {
                ([outer @ .., last], [others @ .., more]) if outer == others && joined.kind == part.kind => {
                    *last += more
                }
                (dims, others) => return Err(format!("{dims:?} and {others:?} do not fit each other")),
            }
        }
        Ok(joined)
    }

    fn softmax(&self, node: &NodeProto) -> Result<Value, String> {
        Attributes::of(node, &["axis"])?.is("axis", -1)?;
        let [source] = inputs_of(node)?;
        self.floats(source).cloned()
    }

    fn scatter(&self, node: &NodeProto) -> Result<Value, String> {
        Attributes::of(node, &[])?;
        let [data, indices, rows] = inputs_of(node)?;
        let [data, rows] = self.pair([data, rows])?;
        let indices = self.get(indices)?;
        let [outer @ .., depth] = &indices.dims[..] else { return Err("its indices have no dimensions".to_owned()) };
        let fits = indices.kind == TensorProto::INT64 && *depth <= data.dims.len();
        let wanted: Vec<usize> = outer.iter().chain(data.dims.get(*depth..).unwrap_or_default()).copied().collect();
        match fits && wanted == rows.dims {
            true => Ok(data.clone()),
            false => Err(format!("{:?} are not rows of {:?} by {:?}", rows.dims, data.dims, indices.dims)),
        }
    }

    /// Parts along the last axis: of these sizes, or as many equal ones as there are outputs.
    fn split(&mut self, node: &'g NodeProto) -> Result<(), String> {
        Attributes::of(node, &["axis"])?.is("axis", -1)?;
        let (source, sizes) = match &node.input[..] {
            [source] => (self.floats(source)?, None),
            [source, sizes] => (self.floats(source)?, Some(self.integers(sizes)?)),
            inputs => return Err(format!("{} inputs, 1 or 2 are expected", inputs.len())),
        };
        let Value { kind, dims } = source.clone();
        let [outer @ .., last] = &dims[..] else { return Err("its input has no dimensions".to_owned()) };
        let count = node.output.len();
        let sizes: Vec<usize> = match sizes {
            Some(sizes) => {
                sizes.iter().filter_map(|size| usize::try_from(*size).ok().filter(|size| *size > 0)).collect()
            }
            None => vec![last / count.max(1); count],
        };
        if sizes.len() != count || sizes.iter().sum::<usize>() != *last {
            return Err(format!("{last} numbers are not {count} parts of {sizes:?}"));
        }
        for (name, size) in node.output.iter().zip(sizes) {
            let dims = outer.iter().copied().chain([size]).collect();
            self.give(name, Value { kind, dims })?;
        }
        Ok(())
    }
}

/// The shape of what is made of two, element by element.
fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let size = |dims: &[usize], back: usize| dims.len().checked_sub(back).map_or(1, |place| dims[place]);
    let dims = (1..=a.len().max(b.len())).rev().map(|back| match (size(a, back), size(b, back)) {
        (x, y) if x == y || y == 1 => Some(x),
        (1, y) => Some(y),
        _ => None,
    });
    dims.collect::<Option<_>>().ok_or_else(|| format!("{a:?} and {b:?} do not fit each other"))
}

#[cfg(test)]
mod tests;
