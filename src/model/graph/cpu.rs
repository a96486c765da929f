//! The paged graph for the CPU: this library's own operators, all values between nodes in f32.

use super::{
    Rules,
    node::{Attributes, inputs_of},
    paged::{Check, Expected, Of, Target, Value},
};
use crate::{
    bundle::Dimensions,
    model::{
        cpu_ops::matmul::{Bits, Shape},
        onnx::{NodeProto, TensorProto, ValueInfoProto},
    },
};

/// Checks a graph and writes anew what was checked.
pub(in crate::model) fn checked(bytes: &[u8], expected: &Expected) -> Result<Vec<u8>, String> {
    super::paged::checked(bytes, expected, &Cpu)
}

struct Cpu;

impl Target for Cpu {
    const RULES: Rules =
        Rules { opsets: &[("", 21..=21), ("com.microsoft", 1..=1), ("ai.qwenguard", 1..=1)], layer_nodes: 16 };
    const INPUTS: &'static [(&'static str, i32)] = &[];

    /// The operator knows what is in them.
    fn cache(&self) -> i32 {
        TensorProto::UINT8
    }

    fn computes(&self, kind: i32) -> bool {
        kind == TensorProto::FLOAT
    }

    fn embeds(&self, kind: i32) -> bool {
        [TensorProto::FLOAT, TensorProto::FLOAT16, TensorProto::BFLOAT16].contains(&kind)
    }

    /// The operator looks at their shape itself.
    fn check_cache(&self, _: &ValueInfoProto, _: &Dimensions) -> Result<(), String> {
        Ok(())
    }

    fn node<'g>(check: &mut Check<'g, Self>, node: &'g NodeProto) -> Result<Option<Value>, String> {
        match (node.domain(), node.op_type()) {
            ("ai.qwenguard", "MatMulInt8") => check.matmul_int(Bits::Eight, node).map(Some),
            ("ai.qwenguard", "MatMulInt4") => check.matmul_int(Bits::Four, node).map(Some),
            ("ai.qwenguard", "GatherInt8") => check.embedding_int8(node).map(Some),
            ("ai.qwenguard", "SwiGlu") => check.swiglu(node).map(Some),
            ("ai.qwenguard", "PagedAttention") => check.attention(node).map(|()| None),
            (domain, _) => Err(format!("the operator, of domain {domain:?}, is not supported")),
        }
    }
}

fn rows(of: Of, width: usize) -> Value {
    Value::Rows { of, kind: TensorProto::FLOAT, width }
}

impl<'g> Check<'g, Cpu> {
    fn matmul_int(&self, bits: Bits, node: &NodeProto) -> Result<Value, String> {
        let ([source, packed, scales], zero_points) = match (bits, &node.input[..]) {
            (Bits::Four, [source, packed, scales, zero_points]) => {
                ([source, packed, scales].map(String::as_str), Some(zero_points))
            }
            _ => (inputs_of(node)?, None),
        };
        let attributes = Attributes::of(node, &["K", "N", "group"])?;
        let (of, _, [inputs, outputs, group]) = self.quantized(source, &attributes, "group")?;
        let shape = Shape::new(bits, inputs, outputs, group)?;
        self.packed(packed, scales, shape)?;
        if let Some(zero_points) = zero_points {
            self.tensor(zero_points, TensorProto::UINT8, &shape.zero_points_dims())?;
        }
        Ok(rows(of, outputs))
    }

    /// Rows of a table that a head is multiplied by, too.
    fn embedding_int8(&self, node: &NodeProto) -> Result<Value, String> {
        let [packed, scales, ids] = inputs_of(node)?;
        let attributes = Attributes::of(node, &["K", "N", "group"])?;
        let (width, count, group) = (attributes.size("K")?, attributes.size("N")?, attributes.size("group")?);
        let Dimensions { hidden_size, vocab_size, .. } = *self.dims();
        if ids != "input_ids" || (count, width) != (vocab_size, hidden_size) {
            return Err(format!("its ids are not input_ids, or it has not {vocab_size} rows of {hidden_size}"));
        }
        self.packed(packed, scales, Shape::new(Bits::Eight, width, count, group)?)?;
        Ok(rows(Of::Tokens, width))
    }

    /// A matrix of quantised weights.
    fn packed(&self, values: &str, scales: &str, shape: Shape) -> Result<(), String> {
        self.tensor(values, TensorProto::UINT8, &shape.values_dims())?;
        if self.tensors.get(scales)?.kind == TensorProto::FLOAT {
            return Err(format!(
                "tensor {scales:?} has scales in float32, as an older exporter wrote them: export it again"
            ));
        }
        self.tensor(scales, TensorProto::BFLOAT16, &shape.scales_dims())
    }

    fn swiglu(&self, node: &NodeProto) -> Result<Value, String> {
        let [source] = inputs_of(node)?;
        Attributes::of(node, &[])?;
        match self.rows(source)? {
            (of, _, width) if width.is_multiple_of(2) => Ok(rows(of, width / 2)),
            (_, _, width) => Err(format!("rows of {width} have no two halves")),
        }
    }

    fn attention(&mut self, node: &'g NodeProto) -> Result<(), String> {
        let Dimensions { num_heads, num_kv_heads, head_dim, context, .. } = *self.dims();
        let [qkv, keys, values, cu_seqlens, past_lens, block_table, cos, sin, q_norm, k_norm] = inputs_of(node)?;
        let names = ["layer", "num_heads", "kv_num_heads", "head_dim", "scale", "epsilon"];
        let attributes = Attributes::of(node, &names)?;
        attributes.is("layer", self.layers as i64)?;
        attributes.is("num_heads", num_heads as i64)?;
        attributes.is("kv_num_heads", num_kv_heads as i64)?;
        attributes.is("head_dim", head_dim as i64)?;
        attributes.epsilon()?;
        attributes.scale()?;
        self.is_layer([keys, values], [cu_seqlens, past_lens, block_table])?;
        let (_, width) = self.tokens(qkv)?;
        if width != (num_heads + 2 * num_kv_heads) * head_dim {
            return Err(format!("rows of {width} are not queries, keys and values of the heads"));
        }
        for table in [cos, sin] {
            self.tensor(table, TensorProto::FLOAT, &[context, head_dim / 2])?;
        }
        for norm in [q_norm, k_norm] {
            self.tensor(norm, TensorProto::FLOAT, &[head_dim])?;
        }
        self.attended(node, TensorProto::FLOAT)
    }
}

#[cfg(test)]
#[path = "cpu_tests.rs"]
mod tests;
