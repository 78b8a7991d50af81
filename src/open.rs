//! Opening files that somebody else names: never blocking on what brings nothing, never without a bound.

use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
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

/// Everything in a file that the operator names, or an error where it holds more than `limit` bytes. Links are followed, and
/// it may be a pipe that somebody writes to, as a shell's `<(...)` is; nothing else.
pub fn named(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let sort = file.metadata()?.file_type();
    if !sort.is_file() && !sort.is_fifo() {
        let what = if sort.is_dir() { "it is a directory" } else { "it is not a regular file" };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    // A pipe without a writer ends at once; one that has a writer is worth the wait.
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    let bytes = read(&file, limit)?;
    if bytes.is_empty() && sort.is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "nobody writes to this pipe"));
    }
    Ok(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FileType;
    use std::io::Write;

    fn named_text(path: &Path) -> Result<String, String> {
        named(path, 10).map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_named_is_a_file_or_a_pipe_that_brings_something() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        File::create(path("large")).unwrap().set_len(1 << 40).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();

        assert_eq!(named_text(&path("file")), Ok("text".to_owned()));
        assert_eq!(named_text(&path("link")), Ok("text".to_owned()));
        assert_eq!(named_text(&path("large")), Err("holds more than 10 bytes".to_owned()));
        assert_eq!(named_text(Path::new("/dev/zero")), Err("it is not a regular file".to_owned()));
        assert_eq!(named_text(temp.path()), Err("it is a directory".to_owned()));
        // Nobody writes to it: opened the usual way, this would never come back.
        assert_eq!(named_text(&path("fifo")), Err("nobody writes to this pipe".to_owned()));

        let (reader, mut writer) = std::io::pipe().unwrap();
        let writing = std::thread::spawn(move || writer.write_all(b"late").unwrap());
        let of_shell = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert_eq!(named_text(Path::new(&of_shell)), Ok("late".to_owned()));
        writing.join().unwrap();
    }
}
