//! How much memory this process may use.

#[cfg(target_vendor = "apple")]
mod apple;
#[cfg(any(test, not(any(windows, target_vendor = "apple"))))]
mod linux;
#[cfg(windows)]
mod windows;

/// Bytes of the machine, or of the smallest limit that the system has set for this process: on Linux for its control
/// groups, on Windows for its job. Nothing if the system does not say.
pub(crate) fn memory() -> Option<usize> {
    #[cfg(windows)]
    return windows::memory();
    #[cfg(target_vendor = "apple")]
    return apple::memory();
    #[cfg(not(any(windows, target_vendor = "apple")))]
    linux::memory()
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(any(target_os = "linux", windows, target_vendor = "apple"))]
    fn this_machine_has_memory() {
        let memory = super::memory().unwrap();
        assert!(memory > 1 << 20 && memory < 1 << 50, "{memory}");
    }
}
