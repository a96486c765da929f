//! Which file a name stands for, and whether somebody wrote to it.

use std::{fs::File, io, time::SystemTime};

/// What is different once a file was replaced or written to, as far as the system shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) bytes: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64),
}

impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        let metadata = file.metadata()?;
        Ok(Identity {
            bytes: metadata.len(),
            // Not every system knows it.
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: (metadata.dev(), metadata.ino()),
        })
    }
}
