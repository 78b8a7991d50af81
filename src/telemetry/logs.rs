//! Logs: to stderr, as JSON or for people, each line through the redactor. Panics go the same way.

use crate::telemetry::redact::Redactor;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::panic::PanicHookInfo;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

/// Turns logging on for the whole process. A second call changes nothing. `level` is one level, or directives as
/// `RUST_LOG` takes them; directives that cannot be read mean `info`.
pub fn init(json: bool, level: &str, redactor: &Redactor) {
    let ansi = !json && io::stderr().is_terminal();
    install(subscriber(json, ansi, level, Redacted { redactor: redactor.clone(), to: io::stderr }));
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

fn subscriber<W>(json: bool, ansi: bool, level: &str, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed()
    } else {
        lines.compact().with_ansi(ansi).boxed()
    };
    registry().with(filter).with(lines)
}

/// Writes whole lines with the secrets taken out.
#[derive(Debug)]
struct Redacted<F> {
    redactor: Redactor,
    to: F,
}

impl<'w, F, W> MakeWriter<'w> for Redacted<F>
where
    F: Fn() -> W,
    W: Write,
{
    type Writer = Line<'w, W>;

    fn make_writer(&'w self) -> Line<'w, W> {
        Line { redactor: &self.redactor, to: (self.to)(), text: Vec::new() }
    }
}

/// One line in the making: a secret may arrive in pieces, so nothing leaves before the line is whole.
struct Line<'w, W: Write> {
    redactor: &'w Redactor,
    to: W,
    text: Vec<u8>,
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        self.to.write_all(self.redactor.redact(&String::from_utf8_lossy(&text)).as_bytes())?;
        self.to.flush()
    }
}

impl<W: Write> Drop for Line<'_, W> {
    fn drop(&mut self) {
        // Nobody is left to tell that stderr is gone.
        self.flush().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::sync::PoisonError;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, level: &str, log: impl FnOnce()) -> String {
        let redactor = Redactor::new();
        redactor.add(&"K2verysecretkey".into());
        let sink = Sink::default();
        let to = sink.clone();
        let writer = Redacted { redactor, to: move || to.clone() };
        tracing::subscriber::with_default(subscriber(json, false, level, writer), log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_secret_is_taken_out_of_messages_fields_and_spans_in_both_formats() {
        for json in [true, false] {
            let text = logged(json, "trace", || {
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
        let text = logged(true, "info", || tracing::info!(address = "127.0.0.1:8080", "listening"));

        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "listening");
        assert_eq!(line["address"], "127.0.0.1:8080");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn the_level_is_a_level_or_directives() {
        let log = || {
            tracing::debug!(target: "descope_gitops::queue", "ours");
            tracing::debug!(target: "hyper", "theirs");
        };

        assert_eq!(logged(true, "info", log), "");
        assert_eq!(logged(true, "debug", log).lines().count(), 2);
        assert_eq!(logged(true, "warn,descope_gitops=debug", log).lines().count(), 1);
    }

    #[test]
    fn a_panic_is_one_redacted_line() {
        let text = logged(true, "info", || {
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
