//! Numbers of the cache's type, as bytes and as tensors.

use half::{f16, vec::HalfFloatVecExt};
use ort::{
    session::SessionInputValue,
    value::{DynTensor, DynValue, Tensor, TensorElementType, TensorRef},
};
use zerocopy::{FromBytes, IntoBytes};

use crate::{Error, Result, bundle::Float};

/// The types that portable graphs have caches of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Fp16,
    Fp32,
}

impl Element {
    pub(super) fn of(float: Float) -> Option<Self> {
        match float {
            Float::Fp16 => Some(Element::Fp16),
            Float::Fp32 => Some(Element::Fp32),
            Float::Bf16 => None,
        }
    }

    /// Bytes of a number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Element::Fp16 => 2,
            Element::Fp32 => 4,
        }
    }
}

/// What hides a slot of the cache: far below any score, and a number of either type.
const HIDDEN: f32 = -30000.0;

pub(super) fn kind(element: Element) -> TensorElementType {
    match element {
        Element::Fp16 => TensorElementType::Float16,
        Element::Fp32 => TensorElementType::Float32,
    }
}

/// A tensor over memory.
pub(super) fn view(bytes: &[u8], element: Element, dims: [i64; 4]) -> Result<SessionInputValue<'_>> {
    let misaligned = || Error::inference("the cache's memory is not aligned");
    Ok(match element {
        Element::Fp16 => {
            let numbers = <[f16]>::ref_from_bytes(bytes).map_err(|_| misaligned())?;
            TensorRef::from_array_view((dims, numbers))?.into()
        }
        Element::Fp32 => {
            let numbers = <[f32]>::ref_from_bytes(bytes).map_err(|_| misaligned())?;
            TensorRef::from_array_view((dims, numbers))?.into()
        }
    })
}

/// The memory of a tensor.
pub(super) fn bytes(tensor: &mut DynTensor) -> Result<&mut [u8]> {
    Ok(match *tensor.data_type() {
        TensorElementType::Float16 => tensor.try_extract_tensor_mut::<f16>()?.1.as_mut_bytes(),
        _ => tensor.try_extract_tensor_mut::<f32>()?.1.as_mut_bytes(),
    })
}

/// The numbers of a run's output, if it has these dimensions.
pub(super) fn output<'o>(name: &str, value: &'o DynValue, element: Element, dims: [usize; 4]) -> Result<&'o [u8]> {
    let (shape, bytes) = match element {
        Element::Fp16 => value.try_extract_tensor::<f16>().map(|(shape, numbers)| (shape, numbers.as_bytes()))?,
        Element::Fp32 => value.try_extract_tensor::<f32>().map(|(shape, numbers)| (shape, numbers.as_bytes()))?,
    };
    match shape.iter().map(|size| *size as usize).eq(dims) {
        true => Ok(bytes),
        false => Err(Error::inference(format!("output {name}: its shape is {shape:?}, not {dims:?}"))),
    }
}

/// Whether all numbers are finite.
pub(super) fn is_finite(bytes: &[u8], element: Element) -> bool {
    match element {
        Element::Fp16 => <[f16]>::ref_from_bytes(bytes).is_ok_and(|all| all.iter().all(|number| number.is_finite())),
        Element::Fp32 => <[f32]>::ref_from_bytes(bytes).is_ok_and(|all| all.iter().all(|number| number.is_finite())),
    }
}

/// A row of floats, `[1, width]`.
pub(super) fn row(element: Element, row: Vec<f32>) -> Result<DynTensor> {
    let dims = [1, row.len()];
    Ok(match element {
        Element::Fp16 => Tensor::from_array((dims, Vec::<f16>::from_f32_slice(&row)))?.upcast(),
        Element::Fp32 => Tensor::from_array((dims, row))?.upcast(),
    })
}

/// The mask over the cache of some streams, `[streams, 1, 1, context]`: each sees so many tokens.
pub(super) fn mask(element: Element, lens: &[usize], context: usize) -> Result<DynTensor> {
    fn numbers<T: Copy>(lens: &[usize], context: usize, [seen, hidden]: [T; 2]) -> Vec<T> {
        let row =
            |len: &usize| (0..context).map(move |slot| if slot < *len { seen } else { hidden }).collect::<Vec<_>>();
        lens.iter().flat_map(row).collect()
    }
    let dims = [lens.len(), 1, 1, context];
    Ok(match element {
        Element::Fp16 => {
            let all = numbers(lens, context, [f16::ZERO, f16::from_f32(HIDDEN)]);
            Tensor::from_array((dims, all))?.upcast()
        }
        Element::Fp32 => Tensor::from_array((dims, numbers(lens, context, [0.0, HIDDEN])))?.upcast(),
    })
}
