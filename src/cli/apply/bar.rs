//! A bar of the changes done, on a terminal. It is drawn by a thread of its own: a terminal that is stopped (Ctrl-S) holds
//! up nothing.

use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

/// At the end, for a terminal that is stopped.
const LONGEST_FINISH: Duration = Duration::from_millis(500);

/// Gone from the screen when it ends.
pub struct Bar {
    positions: Sender<u64>,
    finished: Receiver<()>,
}

impl Bar {
    /// Of so many changes.
    pub fn start(total: u64) -> Self {
        let (positions, shown) = mpsc::channel();
        let (done, finished) = mpsc::channel();
        // Without the thread there is no bar, and all else is the same.
        drop(thread::Builder::new().name("progress".to_owned()).spawn(move || draw(total, &shown, &done)));
        Self { positions, finished }
    }

    /// So many are done.
    pub fn show(&self, position: u64) {
        self.positions.send(position).unwrap_or_default();
    }

    /// Clears it.
    pub fn finish(self) {
        drop(self.positions);
        // Cleared, or not drawn at all: both are an end.
        self.finished.recv_timeout(LONGEST_FINISH).unwrap_or_default();
    }
}

fn draw(total: u64, positions: &Receiver<u64>, done: &Sender<()>) {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} changes, {elapsed} so far, about {eta} to go");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    while let Ok(position) = positions.recv() {
        bar.set_position(positions.try_iter().last().unwrap_or(position));
    }
    bar.finish_and_clear();
    done.send(()).unwrap_or_default();
}
