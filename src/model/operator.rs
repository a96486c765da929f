//! What the operators of this crate share.

use std::any::Any;

use ort::{operator::ComputeContext, value::PrimitiveTensorElementType};

/// Allocates output `index`, or takes the memory that is bound to it.
pub(super) fn output_pointer<T: PrimitiveTensorElementType>(
    context: &ComputeContext,
    index: usize,
    shape: &[i64],
) -> Result<*mut T, String> {
    let output = context.output(index, shape.to_vec()).map_err(|error| error.message().to_owned())?;
    let mut output = output.ok_or_else(|| format!("output {index} is absent"))?;
    let tensor = output.try_extract_tensor_mut::<T>();
    let (_, data) = tensor.map_err(|error| format!("output {index}: {}", error.message()))?;
    Ok(data.as_mut_ptr())
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a message"))
}
