//! Versions: of the library, and of its binary interface.

use std::ffi::{CStr, c_char};

use super::boundary;

/// The version of this header: major part.
pub const QG_VERSION_MAJOR: u32 = 0;
/// The version of this header: minor part.
pub const QG_VERSION_MINOR: u32 = 1;
/// The version of this header: patch part.
pub const QG_VERSION_PATCH: u32 = 0;
/// The version of this header as one number: major * 1000000 + minor * 1000 + patch.
pub const QG_VERSION_NUMBER: u32 = QG_VERSION_MAJOR * 1000000 + QG_VERSION_MINOR * 1000 + QG_VERSION_PATCH;
/// The binary interface of this header. It changes when a program that was built with an older header would no longer work.
pub const QG_ABI_VERSION: u32 = 1;

const fn number(part: &str) -> u32 {
    match u32::from_str_radix(part, 10) {
        Ok(number) => number,
        Err(_) => panic!("not a number"),
    }
}

const _: () = assert!(
    QG_VERSION_MAJOR == number(env!("CARGO_PKG_VERSION_MAJOR"))
        && QG_VERSION_MINOR == number(env!("CARGO_PKG_VERSION_MINOR"))
        && QG_VERSION_PATCH == number(env!("CARGO_PKG_VERSION_PATCH")),
    "the header's version is the package's"
);

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version without NUL"),
};

/// The version of the library that is loaded, such as "0.1.0": a constant text that ends with a NUL.
#[unsafe(no_mangle)]
pub extern "C" fn qg_version() -> *const c_char {
    boundary::value(VERSION.as_ptr(), || VERSION.as_ptr())
}

/// The version of the library that is loaded, counted as `QG_VERSION_NUMBER`.
#[unsafe(no_mangle)]
pub extern "C" fn qg_version_number() -> u32 {
    boundary::value(0, || QG_VERSION_NUMBER)
}

/// The binary interface of the library that is loaded. A program that finds the library at run time compares it with
/// `QG_ABI_VERSION` before any other call.
#[unsafe(no_mangle)]
pub extern "C" fn qg_abi_version() -> u32 {
    boundary::value(0, || QG_ABI_VERSION)
}
