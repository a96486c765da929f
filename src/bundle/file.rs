//! Files that are read as a whole or hashed: only regular ones, and none that is larger than it may be.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    path::Path,
};

use crate::error::Reason;

/// Opens a regular file, or what a link to one leads to. Others are refused: a FIFO would wait for a writer, a device
/// may never end. What was opened is looked at, not the path, so that nothing can be exchanged in between.
pub(crate) fn open(path: &Path) -> Result<File, Reason> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Without it opening a FIFO waits already, and a terminal could become that of this process.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path).map_err(Reason::of)?;
    let metadata = file.metadata().map_err(Reason::of)?;
    if !metadata.is_file() {
        return Err(format!("{}, not a regular file", kind(&metadata)).into());
    }
    Ok(file)
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Reason> {
    let file = open(path)?;
    let size = file.metadata().map_err(Reason::of)?.len();
    check_size(size, limit)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size as usize + 1).map_err(|_| format!("no memory for its {size} bytes"))?;
    // It may grow while it is read.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Reason::of)?;
    check_size(bytes.len() as u64, limit)?;
    Ok(bytes)
}

/// Reads what lies at an offset of a file.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Reads what lies at an offset of a file.
#[cfg(windows)]
pub(crate) fn read_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> std::io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

pub(crate) fn check_size(size: u64, limit: u64) -> Result<(), String> {
    if size > limit { Err(format!("{size} bytes, the limit is {limit}")) } else { Ok(()) }
}

fn kind(metadata: &std::fs::Metadata) -> &'static str {
    if metadata.is_dir() {
        return "a directory";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    "something else"
}
