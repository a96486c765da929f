//! Structs that the caller fills and that may grow: they begin with their size.

use super::failure::Failure;

/// # Safety
/// The struct is `repr(C)` without padding, begins with its size as a `u32`, and is valid whatever bytes are in it.
pub(super) unsafe trait Grows: Default {
    /// The size of the struct in the first version of this ABI.
    const FIRST: usize;
}

/// A size that is larger than this version's struct is not believed: it may be no size at all, and what a newer version
/// puts there must not be passed over.
pub(super) fn check_size<T: Grows>(size: u32) -> Result<(), Failure> {
    let (first, known) = (T::FIRST, size_of::<T>());
    match size as usize {
        size if size < first => {
            Err(Failure::argument("struct_size", format!("{size} is less than the {first} bytes of the options")))
        }
        size if size > known => Err(Failure::argument(
            "struct_size",
            format!("{size} is more than the {known} bytes of the options; is the header newer than the library?"),
        )),
        _ => Ok(()),
    }
}

/// The options as this version knows them. NULL means the defaults.
pub(super) unsafe fn read<T: Grows>(options: *const T) -> Result<T, Failure> {
    let mut known = T::default();
    if options.is_null() {
        return Ok(known);
    }
    // SAFETY: the struct has begun with its size in every version.
    let size = unsafe { options.cast::<u32>().read() };
    check_size::<T>(size)?;
    // SAFETY: the header wants as many bytes there as the size says, and `known` has at least as many.
    unsafe { options.cast::<u8>().copy_to_nonoverlapping((&raw mut known).cast::<u8>(), size as usize) };
    Ok(known)
}
