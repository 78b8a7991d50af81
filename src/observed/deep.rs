//! What calls for single resources showed, kept until it is read again: there is no list of it, and asking for all of it in
//! every pass would take the whole budget.
//!
//! A pass reads at once what its commit changed, a few; the rest is read in rotation, between the passes and within a share of
//! the limit. What was never read is unknown, and nothing is planned for it.

use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Part;
use crate::resource::Shape;
use crate::resource::fold;
use crate::resource::secret::item_id;
use crate::resource::spec::Back;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// A read that failed for now is repeated after this.
const AGAIN: Duration = Duration::from_secs(30);

/// For so long a list may lack what was just made.
const FRESH: Duration = Duration::from_secs(120);

/// For so long a read may show what was there before our write.
const LAG: Duration = Duration::from_secs(10);

/// How much is read, and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Each is read again after this, as far as `most` allows.
    pub interval: Duration,
    /// One that was refused is asked for again after this, in turn with the others.
    pub refused: Duration,
    /// So many reads within so long; `None`: as many as there are.
    pub most: Option<(usize, Duration)>,
    /// So many a pass reads itself of what its commit changed: it waits for them.
    pub at_once: usize,
}

impl Share {
    /// For one look at everything.
    pub const ALL: Self = Self { interval: Duration::MAX, refused: Duration::MAX, most: None, at_once: usize::MAX };
}

/// A part of one resource that a file declares.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The resource.
    pub key: Key,
    /// Which of its calls.
    pub part: &'static Part,
    /// What Descope knows it by, where that is not its name.
    pub id: Option<Arc<str>>,
    /// Tells declarations apart.
    pub declared: u64,
}

type Place = (Key, &'static str);

/// Clones share what they keep.
#[derive(Debug, Clone)]
pub struct Deep {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    share: Share,
    /// Of the newest files; `None` before there were any.
    wanted: Option<BTreeMap<Place, Wanted>>,
    kept: HashMap<Place, Kept>,
    /// Declared anew while the daemon runs: a commit waits for them.
    urgent: BTreeSet<Place>,
    failed: HashMap<Place, Failed>,
    /// How often one reason was met, as long as something fails for it.
    reasons: HashMap<String, u64>,
    /// When the last reads of the rotation were made.
    spent: VecDeque<Instant>,
    /// Before this nothing that was read counts as young enough.
    asked_at: Option<Instant>,
    since: Instant,
    coverage: BTreeMap<&'static str, Coverage>,
}

/// What is known of the parts of a kind that take a call for each resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// That are declared.
    pub parts: usize,
    /// Of those, never read, or not readable now.
    pub unread: usize,
    /// When the one was read that was not read for longest; of what was never read, since when it is to be.
    pub oldest: Instant,
}

#[derive(Debug)]
struct Kept {
    fields: Document,
    read_at: Instant,
    /// It is what we wrote, and nobody saw it since.
    ours: Option<Ours>,
}

#[derive(Debug)]
struct Ours {
    before: Document,
    until: Instant,
    /// Tells apart what was declared when it was written.
    declared: u64,
}

#[derive(Debug)]
struct Failed {
    reason: String,
    again: Instant,
    is_transient: bool,
}

/// What a read told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It was not known before.
    First,
    /// It is not what was kept.
    Other,
    /// It is as it was.
    None,
}

impl Deep {
    /// Keeps nothing yet.
    pub fn new(share: Share) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(share))) }
    }

    /// Keeps nothing any more: somebody else wrote since.
    pub fn start_over(&self) {
        let mut state = self.state();
        *state = State::new(state.share);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on one look reads everything.
    pub fn read_all(&self) {
        self.state().share = Share::ALL;
    }

    /// Somebody wants to know what is there, however young the last read is.
    pub fn ask(&self) {
        let mut state = self.state();
        let now = Instant::now();
        state.asked_at = Some(now);
        state.failed.values_mut().for_each(|failed| failed.again = failed.again.min(now));
    }

    /// These are declared now, and nothing else; of kinds that are `unseen` this time, what was before.
    pub fn want(&self, wanted: Vec<Wanted>, unseen: &BTreeSet<&str>) {
        let mut state = self.state();
        let mut wanted: BTreeMap<Place, Wanted> =
            wanted.into_iter().map(|one| ((one.key.clone(), one.part.name), one)).collect();
        if let Some(before) = state.wanted.take() {
            let is_new = |(place, one): &(&Place, &Wanted)| match (before.get(*place), state.kept.get(*place)) {
                (Some(was), _) => was.declared != one.declared,
                // We made it and know what is there, but not what Descope made of it, which another declaration is compared with.
                (None, Some(kept)) => kept.ours.as_ref().is_some_and(|ours| ours.declared != one.declared),
                (None, None) => true,
            };
            let news: Vec<Place> = wanted.iter().filter(is_new).map(|(place, _)| place.clone()).collect();
            for place in news {
                state.failed.remove(&place);
                state.urgent.insert(place);
            }
            wanted.extend(before.into_iter().filter(|((key, _), _)| unseen.contains(key.kind)));
        }
        // A list may lack for a while what was just made.
        state.kept.retain(|place, kept| wanted.contains_key(place) || kept.read_at.elapsed() < FRESH);
        state.urgent.retain(|place| wanted.contains_key(place));
        state.failed.retain(|place, _| wanted.contains_key(place));
        state.wanted = Some(wanted);
    }

    /// What a pass reads itself: what its commit changed, a few, and what is due, as far as the share goes.
    pub fn at_once(&self) -> Vec<Wanted> {
        let mut state = self.state();
        let mut turn = Vec::new();
        let now = Instant::now();
        for (due, one) in state.in_turn(now) {
            if due > now || turn.len() >= state.share.at_once || !state.is_urgent(&one) && !state.spend(now) {
                break;
            }
            turn.push(one);
        }
        turn
    }

    /// The next of the rotation, where one is due and the share allows it; and whether a commit waits for it.
    pub fn next(&self) -> Option<(Wanted, bool)> {
        let mut state = self.state();
        let now = Instant::now();
        let (due, one) = state.first(now)?;
        let is_urgent = state.is_urgent(&one);
        (due <= now && (is_urgent || state.spend(now))).then_some((one, is_urgent))
    }

    /// When [`Deep::next`] has one; `None` where nothing is declared.
    pub fn due_at(&self) -> Option<Instant> {
        let mut state = self.state();
        let now = Instant::now();
        let (due, one) = state.first(now)?;
        Some(if state.is_urgent(&one) { due } else { state.free_at(now).map_or(due, |free| due.max(free)) })
    }

    /// Takes in what a read showed.
    pub fn read(&self, one: &Wanted, fields: Document) -> News {
        let place = (one.key.clone(), one.part.name);
        let mut state = self.state();
        let now = Instant::now();
        state.urgent.remove(&place);
        if state.failed.remove(&place).is_some() {
            let State { failed, reasons, .. } = &mut *state;
            reasons.retain(|reason, _| failed.values().any(|failed| failed.reason == *reason));
        }
        let Some(kept) = state.kept.get_mut(&place) else {
            state.kept.insert(place, Kept { fields, read_at: now, ours: None });
            return News::First;
        };
        if kept.ours.as_ref().is_some_and(|ours| ours.until > now && is_same(one.part, &ours.before, &fields)) {
            // It lags behind our write, which proves nothing.
            return News::None;
        }
        let news = if is_as_known(one.part, &kept.fields, &fields) { News::None } else { News::Other };
        *kept = Kept { fields, read_at: now, ours: None };
        news
    }

    /// It could not be read. How often that reason was met, whatever it was that could not be.
    pub fn failed(&self, one: &Wanted, reason: String, is_transient: bool) -> u64 {
        let place = (one.key.clone(), one.part.name);
        let mut state = self.state();
        state.urgent.remove(&place);
        state.kept.remove(&place);
        let wait = if is_transient { AGAIN } else { state.share.refused };
        let again = later(Instant::now(), wait);
        let times = state.reasons.entry(reason.clone()).or_default();
        *times += 1;
        let times = *times;
        state.failed.insert(place, Failed { reason, again, is_transient });
        times
    }

    /// What is there as far as anybody knows; `None` where it was not read yet.
    pub fn kept(&self, key: &Key, part: &'static str) -> Option<Document> {
        self.state().kept.get(&(key.clone(), part)).map(|kept| kept.fields.clone())
    }

    /// When it was read; `None` where it was not.
    pub fn read_at(&self, key: &Key, part: &'static str) -> Option<Instant> {
        self.state().kept.get(&(key.clone(), part)).map(|kept| kept.read_at)
    }

    /// Why it could not be read.
    pub fn reason(&self, key: &Key, part: &'static str) -> Option<String> {
        self.state().failed.get(&(key.clone(), part)).map(|failed| failed.reason.clone())
    }

    /// What counts of a read right before a write: what we wrote a moment ago, where it shows what was there before that.
    pub fn settled(&self, key: &Key, part: &'static Part, read: Document) -> Document {
        let state = self.state();
        let kept = state.kept.get(&(key.clone(), part.name));
        let is_late = |kept: &&Kept| {
            kept.ours.as_ref().is_some_and(|ours| ours.until > Instant::now() && is_same(part, &ours.before, &read))
        };
        kept.filter(is_late).map_or(read, |kept| kept.fields.clone())
    }

    /// This was written onto what was there before, for what is `declared` ([`Wanted::declared`]). It is read again soon, to see
    /// that it was kept.
    pub fn wrote(&self, key: &Key, part: &'static Part, before: Document, body: &Document, declared: u64) {
        let mut fields = before.clone();
        let written = body.iter().filter(|(name, _)| part.fields.iter().any(|field| field.name == **name));
        fields.extend(written.map(|(name, value)| (name.clone(), value.clone())));
        let now = Instant::now();
        let ours = Some(Ours { before, until: now + LAG, declared });
        self.state().kept.insert((key.clone(), part.name), Kept { fields, read_at: now, ours });
    }

    /// It is read again before anything is compared with it: nobody knows what a call made of it.
    pub fn forget(&self, key: &Key, part: &'static str) {
        self.state().kept.remove(&(key.clone(), part));
    }

    /// Was it written, and not seen since?
    pub fn is_unseen(&self, key: &Key) -> bool {
        let state = self.state();
        state.wanted.as_ref().is_some_and(|wanted| {
            let mut of = wanted.range((key.clone(), "")..).take_while(|((other, _), _)| other == key);
            of.any(|(place, _)| state.kept.get(place).is_none_or(|kept| kept.ours.is_some()))
        })
    }

    /// Looks over all of it, for [`Deep::coverage`].
    pub fn survey(&self) {
        let mut state = self.state();
        let mut coverage: BTreeMap<&'static str, Coverage> = BTreeMap::new();
        for (place, one) in state.wanted.iter().flatten() {
            let kept = state.kept.get(place);
            let read_at = kept.map_or(state.since, |kept| kept.read_at);
            let of = coverage.entry(one.key.kind).or_insert(Coverage { parts: 0, unread: 0, oldest: read_at });
            of.parts += 1;
            of.unread += usize::from(kept.is_none());
            of.oldest = read_at.min(of.oldest);
        }
        state.coverage = coverage;
    }

    /// How well each kind was covered when somebody last looked over it all.
    pub fn coverage(&self) -> BTreeMap<&'static str, Coverage> {
        self.state().coverage.clone()
    }

    /// How often it is to be looked at.
    pub fn interval(&self) -> Duration {
        self.state().share.interval
    }

    /// Is something declared that was never read, and may be?
    pub fn has_unread(&self) -> bool {
        let state = self.state();
        let is_open = |place: &Place| !state.kept.contains_key(place) && !state.failed.contains_key(place);
        state.wanted.iter().flatten().any(|(place, _)| is_open(place))
    }
}

fn later(at: Instant, wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(86400 * 365);
    at.checked_add(wait.min(NEVER)).unwrap_or(at)
}

impl State {
    fn new(share: Share) -> Self {
        Self {
            share,
            wanted: None,
            kept: HashMap::new(),
            urgent: BTreeSet::new(),
            failed: HashMap::new(),
            reasons: HashMap::new(),
            spent: VecDeque::new(),
            asked_at: None,
            since: Instant::now(),
            coverage: BTreeMap::new(),
        }
    }

    /// Who is read when: what a commit waits for, what was never read, what we wrote, then what was read longest ago.
    fn in_turn(&self, now: Instant) -> Vec<(Instant, Wanted)> {
        let mut turns: Vec<_> = self.wanted.iter().flatten().map(|(place, one)| (self.turn(place, now), one)).collect();
        turns.sort_by_key(|(turn, _)| *turn);
        turns.into_iter().map(|((_, _, due), one)| (due, one.clone())).collect()
    }

    fn first(&self, now: Instant) -> Option<(Instant, Wanted)> {
        let turns = self.wanted.iter().flatten().map(|(place, one)| (self.turn(place, now), one));
        turns.min_by_key(|(turn, _)| *turn).map(|((_, _, due), one)| (due, one.clone()))
    }

    /// What is due goes before what is not.
    fn turn(&self, place: &Place, now: Instant) -> (bool, u8, Instant) {
        let (rank, due) = self.due(place);
        (due > now, rank, due)
    }

    fn due(&self, place: &Place) -> (u8, Instant) {
        if let Some(failed) = self.failed.get(place) {
            // Many that stay refused keep nobody else waiting.
            return (if failed.is_transient { 1 } else { 3 }, failed.again);
        }
        if self.urgent.contains(place) {
            return (0, self.since);
        }
        let Some(kept) = self.kept.get(place) else { return (1, self.since) };
        if self.asked_at.is_some_and(|asked_at| kept.read_at < asked_at) {
            return (3, kept.read_at);
        }
        match &kept.ours {
            Some(ours) => (2, ours.until),
            None => (3, later(kept.read_at, self.share.interval)),
        }
    }

    fn is_urgent(&self, one: &Wanted) -> bool {
        self.urgent.contains(&(one.key.clone(), one.part.name))
    }

    /// Takes a read of the share, where one is left.
    fn spend(&mut self, now: Instant) -> bool {
        let is_free = self.free_at(now).is_none_or(|free| free <= now);
        if is_free && self.share.most.is_some() {
            self.spent.push_back(now);
        }
        is_free
    }

    /// When the share has a read left; `None` where it has no end.
    fn free_at(&mut self, now: Instant) -> Option<Instant> {
        let (most, window) = self.share.most?;
        while self.spent.front().is_some_and(|at| now.saturating_duration_since(*at) >= window) {
            self.spent.pop_front();
        }
        if self.spent.len() < most { Some(now) } else { self.spent.front().map(|at| *at + window) }
    }
}

/// Does the read show what is kept, as far as it shows it? Of what we wrote, a secret and more comes back in no answer.
fn is_as_known(part: &'static Part, kept: &Document, read: &Document) -> bool {
    let mut shown = kept.clone();
    leave_out_unseen(part.fields, &mut shown, read);
    is_same(part, &shown, read)
}

fn leave_out_unseen(fields: &'static [Field], kept: &mut Document, read: &Document) {
    for field in fields {
        let is_unseen = match field.back {
            Back::Never => true,
            Back::Maybe => !read.contains_key(field.name),
            Back::AsWritten | Back::Computed => false,
        };
        if is_unseen {
            kept.remove(field.name);
        }
        match (field.shape, kept.get_mut(field.name), read.get(field.name)) {
            (Shape::Object(fields), Some(Value::Object(kept)), Some(Value::Object(read))) => {
                leave_out_unseen(fields, kept, read);
            }
            (Shape::Items { key, fields, .. }, Some(Value::Array(kept)), Some(Value::Array(read))) => {
                for kept in kept {
                    let same =
                        read.iter().find(|read| item_id(key, read) == item_id(key, kept)).and_then(Value::as_object);
                    if let (Some(same), Value::Object(kept)) = (same, kept) {
                        leave_out_unseen(fields, kept, same);
                    }
                }
            }
            _ => {}
        }
    }
}

fn is_same(part: &'static Part, one: &Document, other: &Document) -> bool {
    part.fields.iter().all(|field| {
        let folded = |document: &Document| document.get(field.name).map(|value| fold::folded(field.shape, value));
        folded(one).unwrap_or_default() == folded(other).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests;
