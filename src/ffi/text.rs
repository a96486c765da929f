//! `qg_text`: a text that the library gives away.

use std::ffi::{CString, c_char};

use safer_ffi::derive_ReprC;

use super::{
    boundary,
    memory::{c_string, free, give},
};

/// A text that the library made for you: UTF-8. Yours to free.
#[derive_ReprC]
#[repr(opaque)]
pub struct qg_text {
    text: CString,
}

impl qg_text {
    pub(super) fn allocate(text: impl Into<String>) -> *mut qg_text {
        qg_text::of(c_string(text))
    }

    pub(super) fn of(text: CString) -> *mut qg_text {
        give(qg_text { text })
    }
}

/// The text: UTF-8 that ends with a NUL and has no other, never NULL, and empty for a NULL text. It lives as long as the
/// `qg_text`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_text_data(text: *const qg_text) -> *const c_char {
    // SAFETY: the header wants a text or NULL.
    boundary::value(c"".as_ptr(), || unsafe { text.as_ref() }.map_or(c"", |text| &text.text).as_ptr())
}

/// Its length in bytes, without the NUL at the end; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_text_length(text: *const qg_text) -> usize {
    // SAFETY: the header wants a text or NULL.
    boundary::value(0, || unsafe { text.as_ref() }.map_or(0, |text| text.text.count_bytes()))
}

/// Frees a text. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_text_free(text: *mut qg_text) {
    // SAFETY: the header wants a text or NULL.
    boundary::value((), || unsafe { free(text) })
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn a_text_is_given_away_and_freed() {
        let text = qg_text::allocate("Gr\u{fc}n\0");
        // SAFETY: a text, freed once and not used afterwards.
        unsafe {
            assert_eq!(CStr::from_ptr(qg_text_data(text)).to_str(), Ok("Gr\u{fc}n\u{FFFD}"));
            assert_eq!(qg_text_length(text), 8);
            qg_text_free(text);
            assert_eq!(*qg_text_data(std::ptr::null()), 0);
            qg_text_free(std::ptr::null_mut());
        }
    }
}
