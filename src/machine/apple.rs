//! macOS and its relatives. They have no limits for a group of processes.

use std::ptr;

pub(super) fn memory() -> Option<usize> {
    let (mut bytes, mut size) = (0u64, size_of::<u64>());
    // SAFETY: a name that ends with a NUL; its value has 64 bits and goes where there is room for them; nothing is set.
    let status =
        unsafe { libc::sysctlbyname(c"hw.memsize".as_ptr(), (&raw mut bytes).cast(), &mut size, ptr::null_mut(), 0) };
    (status == 0).then(|| usize::try_from(bytes).ok()).flatten()
}
