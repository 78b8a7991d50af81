//! What calls for single resources showed, kept until it is read again: there is no list of it, and asking for all of it in
//! every pass would take the whole budget.

use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Part;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

type Kept = HashMap<(Key, &'static str), (Document, Instant)>;

/// Clones share what they keep.
#[derive(Debug, Clone)]
pub struct Deep {
    kept: Arc<watch::Sender<Kept>>,
    most: Option<usize>,
}

impl Deep {
    /// Reads no more than this many in one look; `None`: all.
    pub fn new(most: Option<usize>) -> Self {
        Self { kept: Arc::new(watch::Sender::new(HashMap::new())), most }
    }

    /// Those to be read now: never read ones, then what was read longest ago.
    pub fn in_turn(&self, mut wanted: Vec<(usize, Key, &'static Part)>) -> Vec<(usize, Key, &'static Part)> {
        let kept = self.kept.borrow();
        wanted.sort_by_cached_key(|(at, key, part)| {
            (kept.get(&(key.clone(), part.name)).map(|(_, read_at)| *read_at), *at)
        });
        wanted.truncate(self.most.unwrap_or(usize::MAX));
        wanted
    }

    /// Remembers what was read.
    pub fn keep(&self, key: &Key, part: &'static str, fields: Document) {
        self.kept.send_modify(|kept| drop(kept.insert((key.clone(), part), (fields, Instant::now()))));
    }

    /// What was read; `None` where nothing was, or where it was written since.
    pub fn kept(&self, key: &Key, part: &'static str) -> Option<Document> {
        self.kept.borrow().get(&(key.clone(), part)).map(|(fields, _)| fields.clone())
    }

    /// It is read again before anything is compared with it: it was changed, or could not be read.
    pub fn forget(&self, key: &Key, part: &'static str) {
        self.kept.send_modify(|kept| drop(kept.remove(&(key.clone(), part))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::MAIN;
    use crate::resource::spec::How;
    use crate::resource::spec::Read;
    use std::time::Duration;

    static PART: Part = Part { name: MAIN, fields: &[], read: Read::Each, how: How::Overwrite };

    #[tokio::test(start_paused = true)]
    async fn what_was_never_read_comes_first_and_then_the_oldest() {
        let deep = Deep::new(Some(2));
        let key = |name: &str| Key::new("tenants", name);
        let wanted = || ["a", "b", "c"].into_iter().enumerate().map(|(at, name)| (at, key(name), &PART)).collect();
        let turn = || deep.in_turn(wanted()).into_iter().map(|(_, key, _)| key.name.to_string()).collect::<Vec<_>>();

        assert_eq!(turn(), ["a", "b"]);
        for name in ["b", "a"] {
            deep.keep(&key(name), MAIN, Document::new());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(turn(), ["c", "b"]);
        deep.keep(&key("c"), MAIN, Document::new());
        assert_eq!(turn(), ["b", "a"]);
        deep.forget(&key("c"), MAIN);
        assert_eq!(turn(), ["c", "b"]);
    }
}
