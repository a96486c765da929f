//! `ai.qwenguard::PagedAttention`: the operator as ONNX Runtime sees it.
//!
//! | input | type | shape |
//! |---|---|---|
//! | 0 qkv | float32 | `[T, (H + 2 KV) D]`, query, key and value heads of each token |
//! | 1 key_cache, 2 value_cache | uint8 | `[num_blocks, KV, record_bytes]`, see [`super::cache`] |
//! | 3 cu_seqlens | int32 | `[B + 1]` |
//! | 4 past_lens | int32 | `[B]` |
//! | 5 block_table | int32 | `[B, M]` |
//! | 6 cos, 7 sin | float32 | `[context, D / 2]` |
//! | 8 q_norm, 9 k_norm | float32 | `[D]` |
//!
//! Outputs: 0 attention, float32 `[T, H D]`; 1, 2 the caches, which must be the memory of inputs 1 and 2.
//! Attributes: layer, num_heads, kv_num_heads, head_dim (int), scale, epsilon (float). The record size tells the cache
//! format, so that one graph serves every format.

use ort::{
    operator::{ComputeContext, Kernel as OrtKernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::{DynValue, TensorElementType, ValueRef},
};

use super::{
    Attention, Heads,
    cache::CacheFormat,
    contract::{CachePools, Kernel, OutputRows},
};
use crate::model::cpu_ops::operator::{guarded, input, output_pointer, run_tasks, tensor};

pub(crate) struct PagedAttention {
    pub(crate) kernel: Kernel,
}

impl Operator for PagedAttention {
    type Kernel<'attr> = PagedAttentionNode;

    fn name(&self) -> &str {
        "PagedAttention"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        use TensorElementType::{Float32, Int32, Uint8};
        [Float32, Uint8, Uint8, Int32, Int32, Int32, Float32, Float32, Float32, Float32].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        use TensorElementType::{Float32, Uint8};
        [Float32, Uint8, Uint8].map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<PagedAttentionNode> {
        let int = |name: &str| context.get::<i64>(name).ok_or_else(|| missing(name));
        let float = |name: &str| context.get::<f32>(name).ok_or_else(|| missing(name));
        let size = |name: &str| usize::try_from(int(name)?).map_err(|_| missing(name));
        let heads = Heads { query: size("num_heads")?, kv: size("kv_num_heads")?, dim: size("head_dim")? };
        heads.check().map_err(|reason| ort::Error::new(format!("PagedAttention: {reason}")))?;
        let (scale, epsilon) = (float("scale")?, float("epsilon")?);
        if !(scale.is_finite() && epsilon.is_finite() && epsilon >= 0.0) {
            return Err(ort::Error::new(format!("PagedAttention: scale is {scale} and epsilon {epsilon}")));
        }
        Ok(PagedAttentionNode { kernel: self.kernel, layer: int("layer")?, heads, scale, epsilon })
    }
}

fn missing(attribute: &str) -> ort::Error {
    ort::Error::new(format!("PagedAttention: attribute {attribute} is missing or has the wrong type"))
}

/// One node of the graph: the attention of one layer.
pub(crate) struct PagedAttentionNode {
    kernel: Kernel,
    layer: i64,
    heads: Heads,
    scale: f32,
    epsilon: f32,
}

impl OrtKernel for PagedAttentionNode {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        guarded(|| format!("PagedAttention of layer {}", self.layer), || self.run(context))
    }
}

impl PagedAttentionNode {
    fn run(&self, context: &ComputeContext) -> Result<(), String> {
        let inputs = Inputs::of(context)?;
        let cache_shape = inputs.shape(1)?;
        if inputs.shape(2)? != cache_shape || cache_shape.len() != 3 || cache_shape[1] != self.heads.kv as i64 {
            return Err(format!("cache shapes {cache_shape:?} and {:?} do not fit", inputs.shape(2)?));
        }
        let record_bytes = cache_shape[2] as usize;
        let format = CacheFormat::from_record_bytes(record_bytes, self.heads.dim)
            .ok_or_else(|| format!("records of {record_bytes} bytes fit no cache format"))?;
        let table_shape = inputs.shape(5)?;
        let attention = Attention {
            heads: self.heads,
            scale: self.scale,
            epsilon: self.epsilon,
            qkv: inputs.floats(0)?,
            cu_seqlens: inputs.ints(3)?,
            past_lens: inputs.ints(4)?,
            block_table: inputs.ints(5)?,
            table_width: *table_shape.get(1).ok_or("block_table is not a matrix")? as usize,
            cos: inputs.floats(6)?,
            sin: inputs.floats(7)?,
            q_norm: inputs.floats(8)?,
            k_norm: inputs.floats(9)?,
            num_blocks: cache_shape[0] as usize,
            format,
        };
        attention.validate()?;

        let width = self.heads.query * self.heads.dim;
        let output = OutputRows(output_pointer(context, 0, &[attention.tokens() as i64, width as i64])?);
        let pools = CachePools {
            keys: output_pointer(context, 1, &cache_shape)?,
            values: output_pointer(context, 2, &cache_shape)?,
        };
        // An output that is not bound to its input's tensor gets fresh memory: the cache would be lost.
        if pools.keys.cast_const() != inputs.bytes(1)? || pools.values.cast_const() != inputs.bytes(2)? {
            return Err("the caches are not bound in place".to_owned());
        }

        run_tasks(context, Kernel::tasks(&attention), |task| {
            // SAFETY: the batch is validated; ONNX Runtime allocated the output for its shape; the caches have the
            // documented shape, belong to this run (their owner runs one step at a time) and no reference to their
            // contents is held; `run_tasks` runs each task once.
            unsafe { self.kernel.run_task(&attention, pools, output, task) }
        })
    }
}

/// The operator's inputs.
struct Inputs<'a>(Vec<ValueRef<'a>>);

impl<'a> Inputs<'a> {
    fn of(context: &'a ComputeContext) -> Result<Self, String> {
        (0..10).map(|index| input(context, index)).collect::<Result<_, _>>().map(Inputs)
    }

    fn floats(&self, index: usize) -> Result<&[f32], String> {
        Ok(tensor(&self.0[index], index)?.1)
    }

    fn ints(&self, index: usize) -> Result<&[i32], String> {
        Ok(tensor(&self.0[index], index)?.1)
    }

    fn bytes(&self, index: usize) -> Result<*const u8, String> {
        Ok(tensor::<u8>(&self.0[index], index)?.1.as_ptr())
    }

    fn shape(&self, index: usize) -> Result<Vec<i64>, String> {
        let value: &DynValue = &self.0[index];
        Ok(value.dtype().tensor_shape().ok_or_else(|| format!("input {index} is not a tensor"))?.to_vec())
    }
}
