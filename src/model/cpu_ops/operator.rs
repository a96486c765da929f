//! What the operators of this crate share.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use ort::{
    operator::ComputeContext,
    value::{PrimitiveTensorElementType, ValueRef},
};

/// Input `index`, which must be there.
pub(super) fn input(context: &ComputeContext, index: usize) -> Result<ValueRef<'_>, String> {
    match context.input(index) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(format!("input {index} is absent")),
        Err(error) => Err(error.message().to_owned()),
    }
}

/// Shape and elements of input `index`.
pub(super) fn tensor<'a, T: PrimitiveTensorElementType>(
    input: &'a ValueRef<'_>,
    index: usize,
) -> Result<(&'a [i64], &'a [T]), String> {
    let tensor = input.try_extract_tensor::<T>();
    let (shape, elements) = tensor.map_err(|error| format!("input {index}: {}", error.message()))?;
    Ok((shape, elements))
}

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

/// Runs the work of a node of this name; a panic, which must not unwind into ONNX Runtime's frames, is an error too.
pub(super) fn guarded(name: impl FnOnce() -> String, work: impl FnOnce() -> Result<(), String>) -> ort::Result<()> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(panic_message(&*panic)))
        .map_err(|reason| ort::Error::new(format!("{}: {reason}", name())))
}

/// Runs the tasks `0..count`, each once, on the session's threads.
pub(super) fn run_tasks(
    context: &ComputeContext,
    count: usize,
    task: impl Fn(usize) + Sync + Send,
) -> Result<(), String> {
    let failure = Mutex::new(None);
    context
        .par_for(count, 0, |index| {
            // Nor must a panic unwind into the frames of ONNX Runtime's threads.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(index))) {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic_message(&*panic));
            }
        })
        .map_err(|error| error.message().to_owned())?;
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(reason) => Err(reason),
    }
}

/// What a panic said.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a message"))
}
