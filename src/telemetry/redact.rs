//! Keeps loaded secrets out of text that leaves the process: logs, errors, status.
//!
//! Whoever quotes a secret writes it in its own way, so it is not looked for as it is written but as it reads: in the text as
//! it stands, and with up to three layers of quoting taken off. It takes time in proportion to the text.

mod known;
#[cfg(test)]
mod tests;
mod view;

use known::Hits;
use known::Known;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::watch;
use view::Quoting;
use view::View;

/// What stands where a secret stood.
const MASK: &str = "(secret)";

/// A message that quotes a message that quotes a request is a line of a log in JSON.
const LAYERS: u32 = 3;

/// Knows every secret that was loaded. Clones share what they know.
#[derive(Clone)]
pub struct Redactor {
    known: Arc<watch::Sender<Known>>,
}

impl Redactor {
    /// Knows no secret yet.
    pub fn new() -> Self {
        Self { known: Arc::new(watch::Sender::new(Known::default())) }
    }

    /// Remembers a secret from now on; again is harmless.
    pub fn add(&self, secret: &SecretString) {
        let plain = secret.expose_secret();
        self.known.send_if_modified(|known| {
            let is_news = !plain.is_empty() && !known.has(plain);
            if is_news {
                known.add(plain);
            }
            is_news
        });
    }

    /// The text with every known secret of at least four characters replaced by `(secret)`: whole, in whatever case and with
    /// whatever blanks, cut to its first or last twelve bytes or more, or a line of it; as it stands, or written as JSON, as
    /// what languages print, percent-encoded, in HTML, in base64 or in hex.
    pub fn redact(&self, text: &str) -> String {
        self.masked(text, false)
    }

    /// The same for what was answered to a call that may have carried a secret: shorter ones too, where they stand as a word.
    pub fn redact_answer(&self, text: &str) -> String {
        self.masked(text, true)
    }

    fn masked(&self, text: &str, words: bool) -> String {
        let known = self.known.borrow();
        if known.is_empty() {
            return text.to_owned();
        }
        let whole = View::of(text);
        let mut hits = Hits::within(text.len());
        view::each(&whole, LAYERS, &mut |view| known.find(view, words, &mut hits));
        match hits.merged() {
            Some(hits) if hits.is_empty() => text.to_owned(),
            Some(hits) => mask(text, &whole, hits),
            None => MASK.to_owned(),
        }
    }
}

/// Nothing is cut in the middle of a character, nor of what is written for one: a line of JSON stays one.
fn mask(text: &str, whole: &View, hits: Vec<Range<usize>>) -> String {
    let mut is_start = vec![false; text.len() + 1];
    let unquoted = whole.without(Quoting::Backslash);
    for start in unquoted.as_ref().unwrap_or(whole).starts() {
        is_start[start] = text.is_char_boundary(start);
    }
    is_start[text.len()] = true;
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for hit in hits {
        let start = (done..=hit.start).rev().find(|at| is_start[*at]).unwrap_or(done);
        let end = (hit.end..=text.len()).find(|at| is_start[*at]).unwrap_or(text.len());
        if end <= done {
            continue;
        }
        masked += &text[done..start];
        masked += MASK;
        done = end;
    }
    masked + &text[done..]
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

/// Says how much it knows, not what.
impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.known.borrow().len())
    }
}
