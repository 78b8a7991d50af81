//! What commands print. A reader that has seen enough (`plan | head -1`) is no error: the rest is left out, and the exit
//! code tells what it would have told.

use crate::plan::render::Style;
use crate::telemetry::logs;
use std::io;
use std::io::ErrorKind;
use std::io::IsTerminal;
use std::io::StderrLock;
use std::io::StdoutLock;
use std::io::Write;
use std::thread;
use std::time::Duration;

/// Where somebody else made the stream non-blocking, a full pipe is asked again after this.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// A stream and its name.
#[derive(Debug)]
pub struct Stream<W> {
    to: W,
    name: &'static str,
}

/// Standard output, for what was asked for.
pub fn stdout() -> Stream<StdoutLock<'static>> {
    Stream { to: io::stdout().lock(), name: "standard output" }
}

/// How standard output may look.
pub fn style() -> Style {
    Style { color: io::stdout().is_terminal() && wants_color() }
}

/// How standard error may look.
pub fn style_of_stderr() -> Style {
    Style { color: io::stderr().is_terminal() && wants_color() }
}

/// See <https://no-color.org>: set and not empty.
fn wants_color() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Standard error, for what else there is to say; after what was logged.
pub fn stderr() -> Stream<StderrLock<'static>> {
    logs::flush();
    Stream { to: io::stderr().lock(), name: "standard error" }
}

impl<W> Stream<W> {
    fn outcome<T>(&self, result: io::Result<T>, all: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(all),
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                Err(io::Error::new(error.kind(), format!("cannot write to {}: {error}", self.name)))
            }
            result => result,
        }
    }
}

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.to.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(FULL_PAUSE),
                result => return self.outcome(result, bytes.len()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        loop {
            match self.to.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(FULL_PAUSE),
                result => return self.outcome(result, ()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error_and_a_full_disk_is() {
        let mut gone = Stream { to: Failing(ErrorKind::BrokenPipe), name: "standard output" };
        let mut full = Stream { to: Failing(ErrorKind::StorageFull), name: "standard output" };

        assert!(gone.write_all(b"text").is_ok() && gone.flush().is_ok());
        assert_eq!(
            full.write_all(b"text").unwrap_err().to_string(),
            "cannot write to standard output: no storage space"
        );
    }
}
