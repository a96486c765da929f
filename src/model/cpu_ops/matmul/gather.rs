//! `ai.qwenguard::GatherInt8`: rows of a table of 8-bit weights that another node multiplies by.
//!
//! | input | type | shape |
//! |---|---|---|
//! | 0 weights | uint8 | as of `MatMulInt8`, whose outputs are the rows |
//! | 1 scales | bfloat16 | as of `MatMulInt8` |
//! | 2 ids | int64 | `[T]` |
//!
//! Output: float32 `[T, K]`. Attributes: K, N, group, as of `MatMulInt8`.

use ort::{
    operator::{ComputeContext, Kernel as OrtKernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use super::{Bits, Shape, operator};
use crate::model::cpu_ops::operator::{guarded, input, output_pointer, tensor};

pub(crate) struct GatherInt8;

impl Operator for GatherInt8 {
    type Kernel<'attr> = GatherInt8Node;

    fn name(&self) -> &str {
        "GatherInt8"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        use TensorElementType::{Bfloat16, Int64, Uint8};
        [Uint8, Bfloat16, Int64].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<GatherInt8Node> {
        let name = context.node_name().unwrap_or_default();
        match operator::shape(Bits::Eight, context) {
            Ok(shape) => Ok(GatherInt8Node { name, shape }),
            Err(reason) => Err(ort::Error::new(format!("GatherInt8 {name}: {reason}"))),
        }
    }
}

/// One node of the graph.
pub(crate) struct GatherInt8Node {
    name: String,
    shape: Shape,
}

impl OrtKernel for GatherInt8Node {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        guarded(|| format!("GatherInt8 {}", self.name), || self.run(context))
    }
}

impl GatherInt8Node {
    fn run(&self, context: &ComputeContext) -> Result<(), String> {
        let Shape { inputs: width, outputs: rows, .. } = self.shape;
        let inputs = [input(context, 0)?, input(context, 1)?, input(context, 2)?];
        let weights = operator::packed(self.shape, [&inputs[0], &inputs[1]], 0)?;
        let (dims, ids) = tensor::<i64>(&inputs[2], 2)?;
        if dims.len() != 1 {
            return Err(format!("ids have the shape {dims:?}, expected [T]"));
        }
        if let Some(id) = ids.iter().find(|id| !(0..rows as i64).contains(id)) {
            return Err(format!("there is no row {id} of {rows}"));
        }
        let output = output_pointer::<f32>(context, 0, &[ids.len() as i64, width as i64])?;
        for (index, id) in ids.iter().enumerate() {
            for (at, weight) in weights.output(*id as usize).enumerate() {
                // SAFETY: ONNX Runtime allocated the output for as many rows of this width, and nobody else has it.
                unsafe { output.add(index * width + at).write(weight) }
            }
        }
        Ok(())
    }
}
