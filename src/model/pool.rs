//! Memory of the KV cache, bound to a graph as an input and as an output.

use std::ffi::CString;

use memmap2::MmapMut;
use ort::{
    AsPointer,
    memory::MemoryInfo,
    ortsys,
    session::IoBinding,
    value::{Shape, TensorRefMut},
};

use crate::{Error, Result};

/// Pools of at least so many bytes are asked to be in huge pages: reading records from all over them is a third faster.
/// Smaller ones are not, so that a small cache takes no more memory than it uses.
#[cfg(target_os = "linux")]
const HUGE: usize = 32 << 20;

/// One layer's keys or values: bytes `[blocks, kv heads, record]`. Must live as long as the binding it is bound to.
///
/// Pages are taken from the system as they are first written. `ort`'s own tensors would be filled with zeros at once,
/// the whole budget in physical memory before the first token.
pub(crate) struct Pool {
    _memory: MmapMut,
}

impl Pool {
    /// Takes memory of the given shape and binds it under both names.
    pub(crate) fn bind(binding: &mut IoBinding, input: String, output: String, shape: [usize; 3]) -> Result<Self> {
        let out_of_memory = |bytes| Error::OutOfMemory { bytes, purpose: "a layer's KV cache" };
        let bytes = shape.iter().try_fold(1usize, |bytes, size| bytes.checked_mul(*size));
        let bytes = bytes.filter(|bytes| *bytes <= isize::MAX as usize).ok_or_else(|| out_of_memory(usize::MAX))?;
        let mut memory = MmapMut::map_anon(bytes).map_err(|_| out_of_memory(bytes))?;
        #[cfg(target_os = "linux")]
        if bytes >= HUGE
            && let Err(error) = memory.advise(memmap2::Advice::HugePage)
        {
            tracing::debug!(%error, "no huge pages for the KV cache");
        }
        let shape = Shape::new(shape.map(|size| size as i64));
        // SAFETY: the mapping has exactly as many bytes as the shape and stays where it is; the caller keeps it alive.
        let tensor = unsafe { TensorRefMut::<u8>::from_raw(MemoryInfo::default(), memory.as_mut_ptr().cast(), shape)? };
        bind_input(binding, input, &tensor)?;
        binding.bind_output(output, tensor)?;
        Ok(Pool { _memory: memory })
    }
}

/// As `IoBinding::bind_input`, which clones borrowed tensors and, in this version of `ort`, deadlocks in doing so.
fn bind_input(binding: &mut IoBinding, name: String, tensor: &TensorRefMut<u8>) -> Result<()> {
    let name = CString::new(name).map_err(|error| Error::inference(error.to_string()))?;
    let (binding, tensor) = (binding.ptr_mut(), tensor.ptr());
    let bind = || -> ort::Result<()> {
        // SAFETY: all three pointers are valid, and ONNX Runtime takes a reference of its own to the value.
        ortsys![unsafe BindInput(binding, name.as_ptr(), tensor)?];
        Ok(())
    };
    Ok(bind()?)
}
