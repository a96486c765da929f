//! What an event loop of the system can wait for: an eventfd on Linux, a pipe on other Unix systems, an event on Windows. It is
//! ready from `raise` to `clear`, and it does not matter how often each is called.

use std::io;

#[cfg(unix)]
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
#[cfg(windows)]
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use crate::queue::Signal;

/// Closed when it is dropped.
#[cfg(unix)]
pub(super) struct Descriptor {
    ready: OwnedFd,
    /// The end of the pipe that is written to.
    #[cfg(not(target_os = "linux"))]
    writer: OwnedFd,
}

/// Closed when it is dropped.
#[cfg(windows)]
pub(super) struct Descriptor {
    ready: OwnedHandle,
}

impl Signal for Descriptor {
    fn raise(&self) {
        self.set();
    }

    fn clear(&self) {
        self.reset();
    }
}

#[cfg(target_os = "linux")]
impl Descriptor {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: a function of numbers.
        let made = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        Ok(Descriptor { ready: unsafe { OwnedFd::from_raw_fd(made) } })
    }

    fn set(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: a descriptor of ours, and as many bytes as an eventfd takes. It fails only where it is ready already.
        unsafe { libc::write(self.ready.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn reset(&self) {
        let mut count = [0u8; 8];
        // SAFETY: as above. It fails only where it is not ready.
        unsafe { libc::read(self.ready.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
impl Descriptor {
    pub(super) fn new() -> io::Result<Self> {
        let mut ends = [-1; 2];
        // SAFETY: a place for two numbers.
        if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        let [ready, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        for end in [&ready, &writer] {
            // SAFETY: a descriptor of ours, and numbers.
            let done = unsafe {
                libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) >= 0
                    && libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) >= 0
            };
            if !done {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Descriptor { ready, writer })
    }

    fn set(&self) {
        // SAFETY: a descriptor of ours, and one byte. A pipe that is full is ready.
        unsafe { libc::write(self.writer.as_raw_fd(), [1u8].as_ptr().cast(), 1) };
    }

    fn reset(&self) {
        let mut bytes = [0u8; 64];
        // SAFETY: a descriptor of ours, and as many bytes as there is room for. It does not wait for more.
        while unsafe { libc::read(self.ready.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) } > 0 {}
    }
}

#[cfg(unix)]
impl Descriptor {
    /// Its number.
    pub(super) fn number(&self) -> i64 {
        self.ready.as_raw_fd().into()
    }
}

#[cfg(windows)]
mod events {
    use std::ffi::c_void;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        pub(super) fn CreateEventW(security: *const c_void, manual: i32, set: i32, name: *const u16) -> *mut c_void;
        pub(super) fn SetEvent(event: *mut c_void) -> i32;
        pub(super) fn ResetEvent(event: *mut c_void) -> i32;
    }
}

#[cfg(windows)]
impl Descriptor {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the system's function, with its defaults: reset by hand, not set, without a name.
        let made = unsafe { events::CreateEventW(std::ptr::null(), 1, 0, std::ptr::null()) };
        if made.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        Ok(Descriptor { ready: unsafe { OwnedHandle::from_raw_handle(made) } })
    }

    fn set(&self) {
        // SAFETY: a handle of ours.
        unsafe { events::SetEvent(self.ready.as_raw_handle()) };
    }

    fn reset(&self) {
        // SAFETY: a handle of ours.
        unsafe { events::ResetEvent(self.ready.as_raw_handle()) };
    }

    /// The handle as a number.
    pub(super) fn number(&self) -> i64 {
        self.ready.as_raw_handle() as i64
    }
}
