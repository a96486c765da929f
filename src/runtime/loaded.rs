//! An ONNX Runtime that the process has loaded already: the host's own, or that of the package its ecosystem has for it. Taking
//! that one spares a second copy in memory.

use std::path::{Path, PathBuf};

/// The libraries of ONNX Runtime that are loaded in this process, as the system names them.
pub(super) fn loaded() -> Vec<PathBuf> {
    system::modules().into_iter().filter(|path| is_runtime(path)).collect()
}

/// Names of files carry versions in places that differ between systems and packages.
fn is_runtime(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if cfg!(windows) {
        name == "onnxruntime.dll"
    } else if cfg!(target_vendor = "apple") {
        name == "onnxruntime"
            || name == "libonnxruntime.dylib"
            || name.starts_with("libonnxruntime.") && name.ends_with(".dylib")
    } else {
        name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so.")
    }
}

#[cfg(all(unix, not(target_vendor = "apple")))]
mod system {
    use std::{
        ffi::{CStr, OsStr, c_int, c_void},
        os::unix::ffi::OsStrExt,
        path::PathBuf,
    };

    pub(super) fn modules() -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        // SAFETY: `add` has the signature that is asked for, and is called only until this returns, with `paths`.
        unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut paths).cast()) };
        paths
    }

    unsafe extern "C" fn add(module: *mut libc::dl_phdr_info, _size: usize, paths: *mut c_void) -> c_int {
        // SAFETY: the pointer that `modules` gave, which nobody else uses meanwhile.
        let paths = unsafe { &mut *paths.cast::<Vec<PathBuf>>() };
        // SAFETY: the system gives a struct that is valid during this call; the name is NULL or ends with a NUL.
        let name = unsafe { (*module).dlpi_name };
        if !name.is_null() {
            // SAFETY: as above.
            let name = unsafe { CStr::from_ptr(name) };
            paths.push(PathBuf::from(OsStr::from_bytes(name.to_bytes())));
        }
        0
    }
}

#[cfg(target_vendor = "apple")]
mod system {
    use std::{
        ffi::{CStr, OsStr, c_char},
        os::unix::ffi::OsStrExt,
        path::PathBuf,
    };

    unsafe extern "C" {
        fn _dyld_image_count() -> u32;
        fn _dyld_get_image_name(index: u32) -> *const c_char;
    }

    pub(super) fn modules() -> Vec<PathBuf> {
        // SAFETY: a function without preconditions.
        let count = unsafe { _dyld_image_count() };
        let mut paths = Vec::new();
        for index in 0..count {
            // SAFETY: NULL for an image that is not there any more.
            let name = unsafe { _dyld_get_image_name(index) };
            if !name.is_null() {
                // SAFETY: a path that ends with a NUL. ONNX Runtime is not unloaded by those who use it, so the name of its
                // image stays; that of another one may go at any time, but then it goes with its host's code.
                let name = unsafe { CStr::from_ptr(name) };
                paths.push(PathBuf::from(OsStr::from_bytes(name.to_bytes())));
            }
        }
        paths
    }
}

#[cfg(windows)]
mod system {
    use std::{ffi::OsString, os::windows::ffi::OsStringExt, path::PathBuf, ptr};

    /// The longest path that Windows has.
    const LONGEST: usize = 32_768;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GetModuleHandleW(name: *const u16) -> *mut std::ffi::c_void;
        fn GetModuleFileNameW(module: *mut std::ffi::c_void, path: *mut u16, length: u32) -> u32;
    }

    pub(super) fn modules() -> Vec<PathBuf> {
        let name: Vec<u16> = "onnxruntime.dll\0".encode_utf16().collect();
        // SAFETY: a name that ends with a NUL.
        let module = unsafe { GetModuleHandleW(name.as_ptr()) };
        if ptr::eq(module, ptr::null()) {
            return Vec::new();
        }
        let mut path = vec![0; LONGEST];
        // SAFETY: the buffer has the length that is given.
        let length = unsafe { GetModuleFileNameW(module, path.as_mut_ptr(), LONGEST as u32) } as usize;
        if length == 0 || length >= LONGEST {
            return Vec::new();
        }
        vec![PathBuf::from(OsString::from_wide(&path[..length]))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_runtime_itself_counts() {
        let names: &[(&str, bool)] = if cfg!(windows) {
            &[("onnxruntime.dll", true), ("OnnxRuntime.dll", true), ("onnxruntime_providers_shared.dll", false)]
        } else if cfg!(target_vendor = "apple") {
            &[
                ("libonnxruntime.1.28.0.dylib", true),
                ("libonnxruntime.dylib", true),
                ("libonnxruntime4j_jni.dylib", false),
            ]
        } else {
            &[
                ("libonnxruntime.so", true),
                ("libonnxruntime.so.1.28.0", true),
                ("libonnxruntime4j_jni.so", false),
                ("libonnxruntime_providers_shared.so", false),
            ]
        };
        for (name, is) in names {
            assert_eq!(is_runtime(&Path::new("/some/folder").join(name)), *is, "{name}");
        }
        assert!(!is_runtime(Path::new("")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_loaded_is_known() {
        let modules = system::modules();
        assert!(modules.iter().any(|path| path.to_string_lossy().contains("libc.so")), "{modules:?}");
    }
}
