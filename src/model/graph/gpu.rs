//! A paged graph for GPUs. Attention is ONNX Runtime's own operator, values between nodes are of 16 or 32 bits.

use super::{
    Rules,
    node::{Attributes, inputs_of},
    paged::{Check, Expected, Of, Target, Value},
};
use crate::{
    bundle::{Dimensions, Float},
    model::onnx::{NodeProto, TensorProto, ValueInfoProto},
};

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
    super::paged::checked(bytes, expected, gpu)
}

impl Target for Gpu {
    const RULES: Rules = Rules { opsets: &[("", 21..=21), ("com.microsoft", 1..=1)], layer_nodes: 24 };
    const INPUTS: &'static [(&'static str, i32)] = &[(METADATA, TensorProto::INT32)];

    fn cache(&self) -> i32 {
        self.kind()
    }

    fn computes(&self, kind: i32) -> bool {
        kind == TensorProto::FLOAT || kind == self.kind()
    }

    fn embeds(&self, kind: i32) -> bool {
        kind == self.kind()
    }

    /// The runtime would not look at the shape.
    fn check_cache(&self, value: &ValueInfoProto, dims: &Dimensions) -> Result<(), String> {
        let Dimensions { num_kv_heads, head_dim, .. } = *dims;
        let shape = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()?.shape.as_ref());
        let sizes: Vec<Option<i64>> =
            shape.map_or(Vec::new(), |shape| shape.dim.iter().map(|dim| dim.dim_value).collect());
        let wanted = [self.block_tokens, num_kv_heads, head_dim].map(|size| Some(size as i64));
        match sizes.split_first() {
            Some((None, sizes)) if sizes == wanted => Ok(()),
            _ => Err(format!("{} is not of any number of blocks, by {wanted:?}", value.name())),
        }
    }

    fn node<'g>(check: &mut Check<'g, Self>, node: &'g NodeProto) -> Result<Option<Value>, String> {
        match (node.domain(), node.op_type()) {
            ("", "Mul") => check.mul(node).map(Some),
            ("", "Reshape") => check.reshape(node).map(Some),
            ("", "Split") => check.split(node).map(|()| None),
            ("com.microsoft", "QuickGelu") => check.quick_gelu(node).map(Some),
            ("com.microsoft", "PagedAttention") => check.attention(node).map(|()| None),
            ("com.microsoft", "MatMulNBits") => check.matmul_n_bits(node).map(Some),
            (domain, _) => Err(format!("the operator, of domain {domain:?}, is not supported")),
        }
    }
}

impl<'g> Check<'g, Gpu> {
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

    fn matmul_n_bits(&self, node: &NodeProto) -> Result<Value, String> {
        let [source, packed, scales] = inputs_of(node)?;
        let attributes = Attributes::of(node, &["K", "N", "bits", "block_size"])?;
        let bits = attributes.size("bits")?;
        if ![4, 8].contains(&bits) {
            return Err(format!("attribute bits is {bits}, not 4 or 8"));
        }
        let (of, kind, [inputs, outputs, group]) = self.quantized(source, &attributes, "block_size")?;
        let groups = inputs.div_ceil(group);
        self.tensor(packed, TensorProto::UINT8, &[outputs, groups, group * bits / 8])?;
        self.tensor(scales, kind, &[outputs * groups]).or_else(|_| self.tensor(scales, kind, &[outputs, groups]))?;
        Ok(Value::Rows { of, kind, width: outputs })
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

    fn quick_gelu(&self, node: &NodeProto) -> Result<Value, String> {
        let [source] = inputs_of(node)?;
        match Attributes::of(node, &["alpha"])?.float("alpha")? {
            1.0 => self.rows(source).map(|(of, kind, width)| Value::Rows { of, kind, width }),
            alpha => Err(format!("alpha is {alpha}, not 1")),
        }
    }

    fn attention(&mut self, node: &'g NodeProto) -> Result<(), String> {
        let Dimensions { num_heads, num_kv_heads, head_dim, context, .. } = *self.dims();
        let [query, key, value, batch @ .., q_norm, k_norm, scale, other, metadata] = inputs_of::<17>(node)?;
        let [keys, values, cu_seqlens, past_lens, block_table, cos, sin, slots, sink] = batch;
        self.is_layer([keys, values], [cu_seqlens, past_lens, block_table])?;
        if metadata != METADATA || [slots, sink, scale, other].iter().any(|name| !name.is_empty()) {
            return Err("it has inputs that are not expected, or none of how long streams are".to_owned());
        }
        let normed = !q_norm.is_empty() || !k_norm.is_empty();
        let mut known = vec!["num_heads", "kv_num_heads", "scale", "do_rotary"];
        known.extend(normed.then_some("qk_norm_epsilon"));
        self.attention_attributes(&Attributes::of(node, &known)?, normed)?;
        let kind = self.target.kind();
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
        self.attended(node, kind)
    }

    fn attention_attributes(&self, attributes: &Attributes, normed: bool) -> Result<(), String> {
        attributes.is("num_heads", self.dims().num_heads as i64)?;
        attributes.is("kv_num_heads", self.dims().num_kv_heads as i64)?;
        attributes.is("do_rotary", 1)?;
        attributes.scale()?;
        if normed { attributes.non_negative("qk_norm_epsilon") } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "gpu_tests.rs"]
mod tests;
