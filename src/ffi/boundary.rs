//! What every exported function goes through: no panic gets out, and errors become statuses.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    failure::{Failure, qg_error},
    status::qg_status,
};

/// Runs the body of a fallible function. `*error` becomes NULL, or an error object that is the caller's to free.
///
/// What a panic may leave half done is a stream, whose lock is then poisoned: it is not used again.
pub(super) fn status(error: *mut *mut qg_error, body: impl FnOnce() -> Result<(), Failure>) -> qg_status {
    let failed = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => Some(Failure::Panic(reason(panic))),
    };
    let status = failed.as_ref().map_or(qg_status::OK, Failure::status);
    if !error.is_null() {
        let object =
            catch_unwind(AssertUnwindSafe(|| failed.as_ref().map_or(std::ptr::null_mut(), qg_error::allocate)));
        // SAFETY: the header wants a pointer to a place for a pointer, which need not hold anything yet.
        unsafe { error.write(object.unwrap_or(std::ptr::null_mut())) };
    }
    status
}

/// Runs the body of a function that cannot fail; after a panic it gives `otherwise`.
pub(super) fn value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        reason(panic);
        otherwise
    })
}

/// What a panic said.
pub(super) fn reason(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast::<String>().map(|text| *text);
    let text = text.or_else(|panic| panic.downcast::<&'static str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|panic| {
        // Dropping what is unknown may panic again.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
        "unknown".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::{super::status::QG_ERROR_PANIC, *};

    #[test]
    fn panics_become_statuses() {
        let mut error = std::ptr::null_mut();
        assert_eq!(status(&mut error, || panic!("what {}", 1)).code(), QG_ERROR_PANIC);
        // SAFETY: just made, and freed once.
        let error = unsafe { Box::from_raw(error) };
        assert_eq!(error.message().to_str(), Ok("a bug of libqwenguard: what 1"));
        assert_eq!(status(std::ptr::null_mut(), || std::panic::panic_any(7)).code(), QG_ERROR_PANIC);
        assert_eq!(value(3, || panic!("what")), 3);
    }
}
