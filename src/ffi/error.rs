//! The functions of `qg_error` and of statuses.

use std::ffi::{CStr, c_char};

use super::{
    boundary,
    failure::qg_error,
    memory::free,
    status::{QG_OK, qg_status},
};

/// The status that the failed call returned; `QG_OK` for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_error_status(error: *const qg_error) -> i32 {
    // SAFETY: the header wants an error or NULL.
    boundary::value(QG_OK, || unsafe { error.as_ref() }.map_or(QG_OK, |error| error.status().code()))
}

/// What went wrong, for people: UTF-8 that ends with a NUL, never NULL, and empty for a NULL error. It lives as long as the
/// error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_error_message(error: *const qg_error) -> *const c_char {
    // SAFETY: the header wants an error or NULL.
    boundary::value(c"".as_ptr(), || unsafe { error.as_ref() }.map_or(c"", qg_error::message).as_ptr())
}

/// Frees an error. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_error_free(error: *mut qg_error) {
    // SAFETY: the header wants an error or NULL.
    boundary::value((), || unsafe { free(error) })
}

/// The name of a status, such as "QG_ERROR_BUSY": a constant text that ends with a NUL. NULL if there is no such status.
#[unsafe(no_mangle)]
pub extern "C" fn qg_status_name(status: i32) -> *const c_char {
    boundary::value(std::ptr::null(), || qg_status::name(status).map_or(std::ptr::null(), CStr::as_ptr))
}
