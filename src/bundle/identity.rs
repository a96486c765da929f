//! Which file a name stands for, and whether somebody wrote to it.

use std::{fs::File, io, time::SystemTime};

/// What is different once a file was replaced or written to, as far as the system shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) bytes: u64,
    modified: Option<SystemTime>,
    number: (u64, u64),
}

impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Identity {
            bytes: metadata.len(),
            // Not every system knows it.
            modified: metadata.modified().ok(),
            number: number(file)?,
        })
    }
}

/// The volume of a file, and its number there.
#[cfg(unix)]
fn number(file: &File) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The volume of a file, and its number there.
#[cfg(windows)]
fn number(file: &File) -> io::Result<(u64, u64)> {
    use std::os::windows::io::AsRawHandle;

    use windows_sys::Win32::Storage::FileSystem::{BY_HANDLE_FILE_INFORMATION, GetFileInformationByHandle};

    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle of an open file, and the struct that is filled.
    if unsafe { GetFileInformationByHandle(file.as_raw_handle(), &mut information) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let index = u64::from(information.nFileIndexHigh) << 32 | u64::from(information.nFileIndexLow);
    Ok((u64::from(information.dwVolumeSerialNumber), index))
}
