//! Where a session wants its inputs.

use std::{
    ffi::{CStr, c_char},
    ptr,
};

use ort::{
    AsPointer,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    ortsys,
    session::Session,
};

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
