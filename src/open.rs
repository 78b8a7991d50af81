//! Opening files that somebody else names: only regular files, never blocking, never without a bound.

use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::io::Read;
use std::path::Path;

/// Opens a regular file whose path was resolved before. A link or a FIFO that took its place meanwhile is an error,
/// not a redirection and not a wait.
pub fn regular(real: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(real, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
    }
    Ok((file, metadata))
}

/// Everything in the file, or an error where it holds more than `limit` bytes.
pub fn read(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("holds more than {limit} bytes")));
    }
    Ok(bytes)
}
