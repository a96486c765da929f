//! What is given to the caller, and taken back.

use std::ffi::CString;

/// Gives an object to the caller.
pub(super) fn give<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// Takes an object back that [`give`] gave, and drops it. NULL is fine.
pub(super) unsafe fn free<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: the header wants what came from `give`, once.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

/// A text as C wants it. NUL characters, which would end it early, become U+FFFD.
pub(super) fn c_string(text: impl Into<String>) -> CString {
    CString::new(text.into()).unwrap_or_else(|error| {
        let text = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\u{FFFD}");
        CString::new(text).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_where_they_end() {
        assert_eq!(c_string("a\0b").to_str(), Ok("a\u{FFFD}b"));
    }
}
