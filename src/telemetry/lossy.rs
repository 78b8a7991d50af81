//! Text to a stream whose reader may stall: handing it over never waits. What finds no room is dropped, and counted.

use prometheus::IntCounter;
use std::fs::File;
use std::io;
use std::io::ErrorKind;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

/// Of what waits to be written, in bytes: seconds of a large drain, and little beside the memory of a daemon.
const LARGEST_BACKLOG: usize = 1 << 20;
/// Where somebody else made the stream non-blocking, a full pipe is asked again after this.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// Waking the writer costs more than writing a line: it looks once more after this before it waits to be woken.
const GATHER: Duration = Duration::from_millis(1);

/// One stream; clones write to the same.
#[derive(Debug, Clone)]
pub struct Lossy {
    to: Sender<Item>,
    /// Bytes that were handed over and are not written yet.
    backlog: Arc<AtomicUsize>,
    dropped: IntCounter,
}

/// What became of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It takes text again; so many were lost meanwhile.
    Recovered(u64),
    /// Nobody reads it any more. Told once.
    Gone,
}

#[derive(Debug)]
enum Item {
    Text(String),
    /// Everything before it is written.
    Flush(SyncSender<()>),
}

impl Lossy {
    /// Writes on a thread of its own, which ends with the last clone or with the process, and tells the news there.
    /// `dropped` counts the texts that were lost.
    pub fn new(stream: File, dropped: IntCounter, tell: impl Fn(News) + Send + 'static) -> Self {
        let (to, items) = mpsc::channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let writer = Writer { stream, items, backlog: Arc::clone(&backlog), dropped: dropped.clone(), tell };
        // Without the thread nobody takes the items, and each counts as dropped.
        drop(thread::Builder::new().name("output".to_owned()).spawn(move || writer.run()));
        Self { to, backlog, dropped }
    }

    /// Hands the text over, whole or not at all.
    pub fn write(&self, text: String) {
        let size = text.len();
        let before = self.backlog.fetch_add(size, Ordering::Relaxed);
        // A text of any size may stand alone: a bound that it can never meet would hide it for good.
        let has_room = before == 0 || before.saturating_add(size) <= LARGEST_BACKLOG;
        if !has_room || self.to.send(Item::Text(text)).is_err() {
            self.backlog.fetch_sub(size, Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    /// Waits until everything so far is written, at most so long.
    pub fn flush(&self, longest: Duration) {
        let (done, is_done) = mpsc::sync_channel(1);
        if self.to.send(Item::Flush(done)).is_ok() {
            // Whatever came of it, the time is over.
            is_done.recv_timeout(longest).unwrap_or_default();
        }
    }
}

struct Writer<F> {
    stream: File,
    items: Receiver<Item>,
    backlog: Arc<AtomicUsize>,
    dropped: IntCounter,
    tell: F,
}

impl<F: Fn(News)> Writer<F> {
    /// `None` once nobody is left to hand anything over.
    fn next(&self) -> Option<Item> {
        let item = self.items.try_recv().or_else(|_| {
            thread::park_timeout(GATHER);
            self.items.try_recv()
        });
        item.or_else(|_| self.items.recv()).ok()
    }

    fn run(mut self) {
        let mut told = self.dropped.get();
        let mut is_gone = false;
        while let Some(item) = self.next() {
            match item {
                Item::Text(text) => {
                    let result = write_all(&mut self.stream, text.as_bytes());
                    let left = self.backlog.fetch_sub(text.len(), Ordering::Relaxed) - text.len();
                    if let Err(error) = result {
                        self.dropped.inc();
                        if error.kind() == ErrorKind::BrokenPipe && !std::mem::replace(&mut is_gone, true) {
                            (self.tell)(News::Gone);
                        }
                    } else if left <= LARGEST_BACKLOG / 2 && self.dropped.get() > told {
                        let lost = self.dropped.get() - told;
                        told += lost;
                        (self.tell)(News::Recovered(lost));
                    }
                }
                // Nobody may be waiting any more.
                Item::Flush(done) => drop(done.try_send(())),
            }
        }
    }
}

fn write_all(stream: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;
    use std::io::Read;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn pipe() -> (File, File) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (reader.into(), writer.into())
    }

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    fn line(text: &str) -> String {
        format!("{text:.<1023}\n")
    }

    #[test]
    fn what_a_stalled_reader_does_not_take_is_bounded_and_counted_and_the_rest_arrives_in_order() {
        let (mut reader, stream) = pipe();
        let dropped = counter();
        let lossy = Lossy::new(stream, dropped.clone(), |_| {});
        let sent = 3 * LARGEST_BACKLOG as u64 / 1024;

        for n in 0..sent {
            lossy.write(line(&n.to_string()));
        }
        lossy.flush(Duration::from_millis(1));
        let lost = dropped.get();
        drop(lossy);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();

        assert!(lost > sent / 2, "{lost} of {sent}");
        assert_eq!(text.lines().count() as u64, sent - lost);
        let numbers: Vec<u64> = text.lines().map(|line| line.trim_end_matches('.').parse().unwrap()).collect();
        assert!(numbers.is_sorted() && numbers[0] == 0);
    }

    #[test]
    fn a_stream_that_is_gone_counts_every_text_and_one_that_is_full_and_non_blocking_loses_none() {
        let (reader, stream) = pipe();
        drop(reader);
        let dropped = counter();
        let gone = Lossy::new(stream, dropped.clone(), |news| assert_eq!(news, News::Gone));
        (0..3).for_each(|n| gone.write(line(&n.to_string())));
        gone.flush(PATIENCE);
        assert_eq!(dropped.get(), 3);

        let (mut reader, stream) = pipe();
        rustix::fs::fcntl_setfl(&stream, OFlags::NONBLOCK).unwrap();
        let dropped = counter();
        let full = Lossy::new(stream, dropped.clone(), |_| {});
        (0..200).for_each(|n| full.write(line(&n.to_string())));
        drop(full);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.lines().count(), dropped.get()), (200, 0));
    }
}
