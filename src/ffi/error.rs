//! `qg_error`: what went wrong, in words.

use std::ffi::{CStr, CString, c_char};

use safer_ffi::derive_ReprC;

use super::{
    boundary,
    cast::{c_string, free, give},
    status::{Failure, QG_OK, qg_status},
};

/// Why a call failed: a status and a message. Yours to free.
#[derive_ReprC]
#[repr(opaque)]
pub struct qg_error {
    status: qg_status,
    message: CString,
}

impl qg_error {
    pub(super) fn allocate(failure: &Failure) -> *mut qg_error {
        give(qg_error { status: failure.status(), message: c_string(failure.to_string()) })
    }

    pub(super) fn message(&self) -> &CStr {
        &self.message
    }
}

/// The status that the failed call returned; `QG_OK` for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_error_status(error: *const qg_error) -> i32 {
    // SAFETY: the header wants an error or NULL.
    boundary::value(QG_OK, || unsafe { error.as_ref() }.map_or(QG_OK, |error| error.status.code()))
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
