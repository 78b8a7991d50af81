//! Logs: to stderr, as JSON or for people, each line through the redactor. Panics go the same way.
//!
//! A reader that stalls stops nothing: lines that find no room are dropped and counted.

use crate::telemetry::lossy::Lossy;
use crate::telemetry::lossy::News;
use crate::telemetry::redact::Redactor;
use crate::telemetry::traces;
use prometheus::IntCounter;
use std::fs::File;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::registry::LookupSpan;

/// The end of the process waits no longer than this for a reader that stalls.
const LONGEST_FLUSH: Duration = Duration::from_millis(500);

static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let name = "descope_gitops_log_lines_dropped_total";
    let help = "Log lines lost because the reader of standard error was too slow, or gone";
    IntCounter::new(name, help).unwrap_or_else(|error| unreachable!("{error}"))
});

static STDERR: LazyLock<Option<Lossy>> = LazyLock::new(|| {
    // A descriptor of its own: whoever waits for the lock of std's would wait for the reader as well.
    let stream = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?);
    let tell = |news| match news {
        News::Recovered(lines) => {
            tracing::warn!(lines, "log lines were dropped: the reader of standard error was too slow");
        }
        News::Gone => {}
    };
    Some(Lossy::new(stream, DROPPED.clone(), tell))
});

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For programs.
    Json,
    /// For people who watch a daemon.
    Pretty,
    /// For people who wait for a command: what it has to say, without time and origin.
    Words,
}

/// The daemon logs for programs.
static SAYS_JSON: AtomicBool = AtomicBool::new(false);

/// Turns logging on for the whole process. A second call changes nothing. `level` is one level, or directives as
/// `RUST_LOG` takes them; directives that cannot be read mean `info`.
pub fn init(format: Format, level: &str, redactor: &Redactor) {
    let ansi = format != Format::Json && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    install(subscriber(format, ansi, level, Redacted { redactor: redactor.clone(), to: say }));
}

/// The same for the daemon, which also sends traces where the environment asks for them. Must be called within the runtime.
pub fn init_with_traces(format: Format, level: &str, redactor: &Redactor) {
    SAYS_JSON.store(format == Format::Json, Ordering::Relaxed);
    let ansi = format != Format::Json && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let writer = Redacted { redactor: redactor.clone(), to: say };
    match traces::layer(&|name| std::env::var(name).ok()) {
        Ok(Some(traces)) => {
            install(registry().with(lines(format, ansi, writer).with_filter(filter(level))).with(traces));
        }
        Ok(None) => init(format, level, redactor),
        Err(reason) => {
            init(format, level, redactor);
            tracing::error!("{reason}");
        }
    }
}

/// One text to stderr, after the log lines so far. It waits for no reader, and is not redacted.
pub fn say(text: String) {
    match &*STDERR {
        Some(stderr) => stderr.write(text),
        None => DROPPED.inc(),
    }
}

/// Why the daemon does not start, or ends: a line of the log, like all that it says, where that is for programs. False where it
/// is not: then it is to be said otherwise.
pub fn last_words(message: &str, reason: &str) -> bool {
    let is_logged = SAYS_JSON.load(Ordering::Relaxed) && tracing::enabled!(tracing::Level::ERROR);
    if is_logged {
        tracing::error!(reason, "{message}");
    }
    is_logged
}

/// Gives what was logged a moment to be written: before the process ends, or another writes to stderr.
pub fn flush() {
    if let Some(stderr) = &*STDERR {
        stderr.flush(LONGEST_FLUSH);
    }
}

/// Lines lost so far.
pub fn dropped() -> IntCounter {
    DROPPED.clone()
}

/// For the whole process, once; panics are events from then on.
pub(super) fn install(subscriber: impl Subscriber + Send + Sync) {
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// The default hook would print to stderr unredacted, and as text in the middle of JSON.
fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let text = info.payload().downcast_ref::<&str>().copied();
    let panic = text.or_else(|| info.payload().downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    tracing::error!(place, panic, "a part of the daemon panicked; this is a defect");
}

fn subscriber<F>(format: Format, ansi: bool, level: &str, writer: Redacted<F>) -> impl Subscriber + Send + Sync
where
    F: Fn(String) + Send + Sync + 'static,
{
    registry().with(filter(level)).with(lines(format, ansi, writer))
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn lines<S, F>(format: Format, ansi: bool, writer: Redacted<F>) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: Fn(String) + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        Format::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed(),
        Format::Pretty => lines.compact().with_ansi(ansi).boxed(),
        Format::Words => lines.compact().with_ansi(ansi).without_time().with_target(false).boxed(),
    }
}

/// Hands over whole lines with the secrets taken out.
#[derive(Debug)]
struct Redacted<F> {
    redactor: Redactor,
    to: F,
}

impl<'w, F> MakeWriter<'w> for Redacted<F>
where
    F: Fn(String) + 'w,
{
    type Writer = Line<'w, F>;

    fn make_writer(&'w self) -> Line<'w, F> {
        Line { redactor: &self.redactor, to: &self.to, text: Vec::new() }
    }
}

/// One line in the making: a secret may arrive in pieces, so nothing leaves before the line is whole.
struct Line<'w, F: Fn(String)> {
    redactor: &'w Redactor,
    to: &'w F,
    text: Vec<u8>,
}

impl<F: Fn(String)> Write for Line<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<F: Fn(String)> Drop for Line<'_, F> {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            (self.to)(self.redactor.redact(&String::from_utf8_lossy(&self.text)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::sync::PoisonError;

    fn logged(format: Format, level: &str, log: impl FnOnce()) -> String {
        let redactor = Redactor::new();
        redactor.add(&"K2verysecretkey".into());
        let sink = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&sink);
        let to = move |line: String| lines.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
        tracing::subscriber::with_default(subscriber(format, false, level, Redacted { redactor, to }), log);
        Arc::into_inner(sink).unwrap().into_inner().unwrap()
    }

    #[test]
    fn a_secret_is_taken_out_of_messages_fields_and_spans_in_both_formats() {
        for format in [Format::Json, Format::Pretty, Format::Words] {
            let text = logged(format, "trace", || {
                let span = tracing::info_span!("call", header = "Bearer P2abc:K2verysecretkey");
                let _entered = span.enter();
                tracing::trace!(key = "K2verysecretkey", "sent {}", "K2verysecretkey");
            });

            assert!(!text.contains("K2verysecretkey"), "{text}");
            assert_eq!(text.matches("(secret)").count(), 3, "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn json_lines_are_flat() {
        let text = logged(Format::Json, "info", || tracing::info!(address = "127.0.0.1:8080", "listening"));

        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "listening");
        assert_eq!(line["address"], "127.0.0.1:8080");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_command_says_it_in_words() {
        let text = logged(Format::Words, "info", || tracing::warn!(directory = "state", "no state here"));

        assert_eq!(text.trim_start(), "WARN no state here directory=\"state\"\n");
    }

    #[test]
    fn the_level_is_a_level_or_directives() {
        let log = || {
            tracing::debug!(target: "descope_gitops::queue", "ours");
            tracing::debug!(target: "hyper", "theirs");
        };

        assert_eq!(logged(Format::Json, "info", log), "");
        assert_eq!(logged(Format::Json, "debug", log).lines().count(), 2);
        assert_eq!(logged(Format::Json, "warn,descope_gitops=debug", log).lines().count(), 1);
    }

    #[test]
    fn a_panic_is_one_redacted_line() {
        let text = logged(Format::Json, "info", || {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(log_panic));
            let result = std::panic::catch_unwind(|| panic!("cannot use K2verysecretkey"));
            std::panic::set_hook(before);
            assert!(result.is_err());
        });

        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["panic"], "cannot use (secret)");
        assert_eq!(line["message"], "a part of the daemon panicked; this is a defect");
        assert_eq!(line["level"], "ERROR");
    }
}
