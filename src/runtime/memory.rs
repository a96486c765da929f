//! Where a session wants its inputs, and copies from one memory to another.

use std::{
    ffi::{CStr, c_char},
    ptr,
};

use ort::{
    AsPointer,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    ortsys,
    session::Session,
    value::DynTensor,
};

use super::Runtime;

/// The memory that a session's provider reads an input from.
pub(crate) fn of_input(session: &Session, name: &str) -> ort::Result<MemoryInfo<'static>> {
    let index = session.inputs().iter().position(|input| input.name() == name);
    let index = index.ok_or_else(|| ort::Error::new(format!("the session has no input {name}")))?;
    let mut all = vec![ptr::null(); session.inputs().len()];
    // SAFETY: there is room for as many as the session has inputs.
    ortsys![unsafe SessionGetMemoryInfoForInputs(session.ptr(), all.as_mut_ptr(), all.len())?];
    let info = all[index];
    let (mut device, mut id): (*const c_char, i32) = (ptr::null(), 0);
    // SAFETY: the session owns what it gave.
    ortsys![unsafe MemoryInfoGetName(info, &mut device)?];
    // SAFETY: as above.
    ortsys![unsafe MemoryInfoGetId(info, &mut id)?];
    // SAFETY: a text that ends with a NUL and lives as long as the session.
    let device = unsafe { CStr::from_ptr(device) }.to_string_lossy().into_owned();
    MemoryInfo::new(AllocationDevice::new(&device), id, AllocatorType::Device, MemoryType::Default)
}

/// Copies tensors, each to one of the same shape and type that is elsewhere. All are on the same two sides.
pub(crate) fn copy<'a>(
    runtime: &Runtime,
    pairs: impl IntoIterator<Item = (&'a DynTensor, &'a mut DynTensor)>,
) -> ort::Result<()> {
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    let environment = runtime.environment();
    let copied = || -> ort::Result<()> {
        let (sources, mut targets): (Vec<_>, Vec<_>) = pairs.iter().map(|(from, to)| (from.ptr(), to.ptr())).unzip();
        // SAFETY: as many on each side, and all live until the call returns; it waits for the copies without a stream.
        ortsys![
            unsafe CopyTensors(
                environment.ptr().cast_mut(),
                sources.as_ptr(),
                targets.as_mut_ptr(),
                ptr::null_mut(),
                sources.len()
            )?
        ];
        Ok(())
    };
    // Providers that are no plugins may have their copies in sessions only.
    match copied() {
        Err(error) if pairs.iter_mut().any(|(from, to)| from.copy_into(&mut **to).is_err()) => Err(error),
        _ => Ok(()),
    }
}
