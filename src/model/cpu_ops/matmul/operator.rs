//! `ai.qwenguard::MatMulInt8` and `MatMulInt4`: the operators as ONNX Runtime sees them.
//!
//! | input | type | shape |
//! |---|---|---|
//! | 0 activations | float32 | `[T, K]`, T at least 1 |
//! | 1 weights | uint8 | `[ceil(N / 32), P / 4, 32, 4]`, of 4 bits `P / 8`; P is K rounded up to whole groups |
//! | 2 scales | bfloat16 | `[ceil(N / 32), P / group, 32]` |
//! | 3 zero points, optional, of `MatMulInt4` only | uint8 | `[ceil(N / 32), P / group, 16]` |
//!
//! Output: float32 `[T, N]`. Attributes: K, N, group (32, 64 or 128), int. What the weights' elements are is in
//! [`super`].

use std::cell::RefCell;

use half::bf16;
use ort::{
    operator::{ComputeContext, Kernel as OrtKernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::{TensorElementType, ValueRef},
};

use super::{
    Bits, PackedWeights, Shape,
    activations::{Activations, Rounding},
    contract::{Kernel, Output},
};
use crate::model::cpu_ops::operator::{guarded, input, output_pointer, run_tasks, tensor};

/// From how many activations on they are rounded by several threads. Starting those costs what rounding a few thousand
/// values does.
const ROUND_IN_PARALLEL: usize = 16 * 1024;

/// The number of that input.
const ZERO_POINTS: usize = 3;

pub(crate) struct MatMul {
    pub(crate) kernel: Kernel,
    pub(crate) bits: Bits,
    pub(crate) rounding: Rounding,
}

impl Operator for MatMul {
    type Kernel<'attr> = MatMulNode;

    fn name(&self) -> &str {
        name_of(self.bits)
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        use TensorElementType::{Bfloat16, Float32, Uint8};
        let zero_points = (self.bits == Bits::Four).then(|| OperatorInput::optional(Uint8));
        [Float32, Uint8, Bfloat16].map(OperatorInput::required).into_iter().chain(zero_points)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<MatMulNode> {
        let name = format!("{} {}", self.name(), context.node_name().unwrap_or_default());
        match shape(self.bits, context) {
            Ok(shape) => Ok(MatMulNode { kernel: self.kernel, rounding: self.rounding, name, shape }),
            Err(reason) => Err(ort::Error::new(format!("{name}: {reason}"))),
        }
    }
}

/// The operator's name.
pub(super) fn name_of(bits: Bits) -> &'static str {
    match bits {
        Bits::Four => "MatMulInt4",
        Bits::Eight => "MatMulInt8",
    }
}

/// One node of the graph.
pub(crate) struct MatMulNode {
    kernel: Kernel,
    rounding: Rounding,
    name: String,
    shape: Shape,
}

thread_local! {
    /// Rounded activations of the running node; a thread runs one at a time.
    static ACTIVATIONS: RefCell<Activations> = RefCell::default();
}

impl OrtKernel for MatMulNode {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        guarded(|| self.name.clone(), || self.run(context))
    }
}

impl MatMulNode {
    fn run(&self, context: &ComputeContext) -> Result<(), String> {
        let Shape { inputs: columns, outputs, .. } = self.shape;
        let inputs = [input(context, 0)?, input(context, 1)?, input(context, 2)?];
        let (dims, activations) = tensor::<f32>(&inputs[0], 0)?;
        let rows = match *dims {
            [rows, found] if rows >= 0 && found == columns as i64 => rows as usize,
            _ => return Err(format!("activations have the shape {dims:?}, expected [rows, {columns}]")),
        };
        let zero_points = self.zero_points(context)?;
        let mut weights = packed(self.shape, [&inputs[1], &inputs[2]], 1)?;
        if let Some(input) = &zero_points {
            weights = with_zero_points(weights, self.shape, input)?;
        }
        let output = Output(output_pointer(context, 0, &[rows as i64, outputs as i64])?);
        if rows == 0 {
            // A head that nobody wants in this step.
            return Ok(());
        }
        ACTIVATIONS.with_borrow_mut(|rounded| {
            rounded.reset(rows, self.shape, self.rounding)?;
            self.round(context, activations, rounded)?;
            let rounded = &*rounded;
            run_tasks(context, Kernel::tasks(self.shape, rounded), |task| {
                // SAFETY: ONNX Runtime allocated the output for this shape; each task runs once.
                unsafe { self.kernel.multiply(&weights, rounded, output, task) }
            })
        })
    }

    fn zero_points<'c>(&self, context: &'c ComputeContext) -> Result<Option<ValueRef<'c>>, String> {
        match self.shape.bits {
            Bits::Four => context.input(ZERO_POINTS).map_err(|error| error.message().to_owned()),
            Bits::Eight => Ok(None),
        }
    }

    fn round(&self, context: &ComputeContext, activations: &[f32], rounded: &mut Activations) -> Result<(), String> {
        let rows = rounded.rows();
        let writer = rounded.writer();
        let round = |row| {
            let values = &activations[row * self.shape.inputs..][..self.shape.inputs];
            // SAFETY: `rounded` is ours and nobody reads it before all tasks are done; each row is one task.
            unsafe { self.kernel.round(writer, row, values) }
        };
        if rows * self.shape.inputs < ROUND_IN_PARALLEL {
            (0..rows).for_each(round);
            return Ok(());
        }
        run_tasks(context, rows, round)
    }
}

/// The sizes of a node's weights, by its attributes.
pub(super) fn shape(bits: Bits, context: &KernelContext) -> Result<Shape, String> {
    let size = |attribute: &str| {
        let value = context.get::<i64>(attribute).and_then(|value| usize::try_from(value).ok());
        value.ok_or_else(|| format!("attribute {attribute} is missing or not a size"))
    };
    Shape::new(bits, size("K")?, size("N")?, size("group")?)
}

/// The weights that two inputs hold, which are number `first` and the next.
pub(super) fn packed<'a>(
    shape: Shape,
    [values, scales]: [&'a ValueRef<'_>; 2],
    first: usize,
) -> Result<PackedWeights<'a>, String> {
    let (values_dims, values) = tensor::<u8>(values, first)?;
    let (scales_dims, scales) = tensor::<bf16>(scales, first + 1)?;
    if !(same(values_dims, &shape.values_dims()) && same(scales_dims, &shape.scales_dims())) {
        return Err(format!("weights {values_dims:?} and scales {scales_dims:?} do not fit {shape:?}"));
    }
    PackedWeights::new(shape, values, scales)
}

/// The same weights with the zero points of an input.
fn with_zero_points<'a>(
    weights: PackedWeights<'a>,
    shape: Shape,
    input: &'a ValueRef<'_>,
) -> Result<PackedWeights<'a>, String> {
    let (dims, zero_points) = tensor::<u8>(input, ZERO_POINTS)?;
    if !same(dims, &shape.zero_points_dims()) {
        return Err(format!("zero points {dims:?} do not fit {shape:?}"));
    }
    weights.with_zero_points(zero_points)
}

fn same(found: &[i64], wanted: &[usize]) -> bool {
    found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| *found == *wanted as i64)
}
