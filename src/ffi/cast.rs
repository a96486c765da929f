//! From pointers to references and back. The functions are unsafe because they believe what the header demands: a
//! pointer that is not NULL points to what its type says, for as long as the call lasts.

use std::{ffi::c_char, ptr::NonNull};

use super::{failure::Failure, memory::free};
use crate::process::Process;

/// What a pointer of the caller's points to.
pub(super) unsafe fn borrow<'a, T>(pointer: *const T, argument: &'static str) -> Result<&'a T, Failure> {
    // SAFETY: see the module.
    unsafe { pointer.as_ref() }.ok_or(Failure::Null { argument })
}

/// What has threads or locks, and can be used in the process that made it only.
pub(super) trait Object {
    fn process(&self) -> Process;
}

/// As [`borrow`]; in a process that was forked from the object's, an error before any of its locks is touched.
pub(super) unsafe fn object<'a, T: Object>(pointer: *const T, argument: &'static str) -> Result<&'a T, Failure> {
    // SAFETY: see the module.
    let object = unsafe { borrow(pointer, argument) }?;
    object.process().check()?;
    Ok(object)
}

/// What a pointer and a length mean. NULL is fine if the length is 0.
pub(super) unsafe fn slice<'a, T>(data: *const T, length: usize, argument: &'static str) -> Result<&'a [T], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Failure::Null { argument });
    }
    if length > isize::MAX as usize / size_of::<T>() {
        return Err(Failure::argument(argument, format!("a length of {length} is more than there can be")));
    }
    // SAFETY: see the module.
    Ok(unsafe { std::slice::from_raw_parts(data, length) })
}

pub(super) unsafe fn text<'a>(data: *const c_char, length: usize, argument: &'static str) -> Result<&'a str, Failure> {
    // SAFETY: see the module.
    let bytes = unsafe { slice(data.cast::<u8>(), length, argument) }?;
    std::str::from_utf8(bytes)
        .map_err(|error| Failure::argument(argument, format!("not UTF-8 at byte {}", error.valid_up_to())))
}

/// A place for a result. It need not hold anything yet.
pub(super) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    pub(super) unsafe fn new(pointer: *mut T, argument: &'static str) -> Result<Self, Failure> {
        NonNull::new(pointer).map(Out).ok_or(Failure::Null { argument })
    }

    pub(super) fn write(self, value: T) {
        // SAFETY: see the module; `new` is unsafe for it.
        unsafe { self.0.write(value) };
    }
}

/// An array for results. NULL is fine if there is room for none.
pub(super) struct OutArray<T> {
    first: *mut T,
    capacity: usize,
}

impl<T> OutArray<T> {
    pub(super) unsafe fn new(first: *mut T, capacity: usize, argument: &'static str) -> Result<Self, Failure> {
        match first.is_null() && capacity > 0 {
            true => Err(Failure::Null { argument }),
            false => Ok(OutArray { first, capacity }),
        }
    }

    /// As [`OutArray::new`], but NULL means that the values are not wanted.
    pub(super) unsafe fn optional(first: *mut T, capacity: usize) -> Self {
        OutArray { first, capacity: if first.is_null() { 0 } else { capacity } }
    }

    /// Writes as many values as there is room for.
    pub(super) fn write(self, values: impl Iterator<Item = T>) {
        for (index, value) in values.take(self.capacity).enumerate() {
            // SAFETY: see the module; the constructors are unsafe for it. The index is below the capacity.
            unsafe { self.first.add(index).write(value) };
        }
    }
}

/// Takes an object back and drops it, as [`free`] does. NULL is fine. In a process that was forked from the object's it stays as it is, perhaps in the middle of a change.
pub(super) unsafe fn free_object<T: Object>(pointer: *mut T) {
    // SAFETY: see the module.
    if unsafe { pointer.as_ref() }.is_some_and(|object| object.process().is_current()) {
        // SAFETY: as above.
        unsafe { free(pointer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_slices_may_be_null() {
        // SAFETY: nothing is read.
        unsafe {
            assert!(slice::<u32>(std::ptr::null(), 0, "ids").unwrap().is_empty());
            assert!(matches!(slice::<u32>(std::ptr::null(), 1, "ids"), Err(Failure::Null { argument: "ids" })));
            let one = 1u32;
            assert!(matches!(slice(&one, usize::MAX / 2, "ids"), Err(Failure::Library(_))));
        }
    }

    #[test]
    fn texts_are_utf_8() {
        let bytes = b"ab\xff";
        // SAFETY: three bytes.
        let error = unsafe { text(bytes.as_ptr().cast(), 3, "role") }.unwrap_err();
        assert_eq!(error.to_string(), "argument role: not UTF-8 at byte 2");
    }

    #[test]
    fn arrays_take_what_they_have_room_for() {
        let mut values = [0u32; 3];
        // SAFETY: room for three.
        unsafe { OutArray::new(values.as_mut_ptr(), 2, "out") }.unwrap().write([7, 8, 9].into_iter());
        assert_eq!(values, [7, 8, 0]);
    }
}
