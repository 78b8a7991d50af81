//! A bar of what is done, on a terminal. It is drawn by a thread of its own: a terminal that is stopped (Ctrl-S) holds
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
    news: Sender<News>,
    finished: Receiver<()>,
}

struct News {
    done: usize,
    total: usize,
    note: String,
}

impl Bar {
    /// `what` names what is counted: `changes`.
    pub fn start(what: &'static str) -> Self {
        let (news, shown) = mpsc::channel();
        let (done, finished) = mpsc::channel();
        // Without the thread there is no bar, and all else is the same.
        drop(thread::Builder::new().name("progress".to_owned()).spawn(move || draw(what, &shown, &done)));
        Self { news, finished }
    }

    /// So many of so many are done; `note` says what else there is to know.
    pub fn show(&self, done: usize, total: usize, note: String) {
        self.news.send(News { done, total, note }).unwrap_or_default();
    }

    /// Clears it.
    pub fn finish(self) {
        drop(self.news);
        // Cleared, or not drawn at all: both are an end.
        self.finished.recv_timeout(LONGEST_FINISH).unwrap_or_default();
    }
}

fn draw(what: &str, news: &Receiver<News>, done: &Sender<()>) {
    let bar = ProgressBar::new(0);
    let template =
        format!("{{bar:30}} {{pos}}/{{len}} {what}, {{per_sec}}, {{elapsed}} so far, about {{eta}} to go{{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    while let Ok(first) = news.recv() {
        let News { done, total, note } = news.try_iter().last().unwrap_or(first);
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.set_message(if note.is_empty() { note } else { format!("; {note}") });
    }
    bar.finish_and_clear();
    done.send(()).unwrap_or_default();
}
