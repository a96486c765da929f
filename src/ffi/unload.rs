//! Staying in memory. ONNX Runtime is never unloaded and knows functions of ours, so that a host's `dlclose` must not
//! unload the module that this code is in: our own shared library, or the host's that it was linked into.

/// Keeps this code in memory for good. Where that cannot be had the host must not unload it, as the header says.
#[cfg(unix)]
pub(super) fn keep_loaded() {
    use std::{
        ffi::CString,
        os::unix::ffi::OsStrExt,
        sync::atomic::{AtomicBool, Ordering},
    };

    // Not a `Once`, which would wait in a forked child for a thread of its parent. Twice does no harm.
    static KEPT: AtomicBool = AtomicBool::new(false);
    if KEPT.load(Ordering::Relaxed) {
        return;
    }
    let module = process_path::get_dylib_path();
    let Some(path) = module.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok()) else { return };
    // SAFETY: a path that ends with a NUL. The module is loaded already, so nothing of it is run.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE) };
    if handle.is_null() {
        tracing::debug!(module = ?path, "cannot be kept in memory");
    }
    KEPT.store(true, Ordering::Relaxed);
}

/// As above: a pinned module stays until the process ends, whoever calls `FreeLibrary`.
#[cfg(windows)]
pub(super) fn keep_loaded() {
    use std::{ptr, sync::Once};

    use windows_sys::Win32::System::LibraryLoader::{
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW,
    };

    static KEPT: Once = Once::new();
    KEPT.call_once(|| {
        let here: fn() = keep_loaded;
        let flags = GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS;
        let mut module = ptr::null_mut();
        // SAFETY: an address in this module instead of a name, as the flag says, and a place for a handle, which a pinned
        // module does not count.
        if unsafe { GetModuleHandleExW(flags, here as *const u16, &mut module) } == 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "cannot be kept in memory");
        }
    });
}

#[cfg(not(any(unix, windows)))]
pub(super) fn keep_loaded() {}
