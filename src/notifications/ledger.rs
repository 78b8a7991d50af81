//! What a receiver was told and what there is to tell it, over time. Time is a parameter.

use super::sight::Facts;
use super::sight::Identity;
use super::sight::MANY;
use super::sight::Presence;
use super::sight::Sight;
use crate::backoff::Backoff;
use crate::config::Notice;
use crate::state::Told;
use crate::telemetry::clock;
use crate::telemetry::status::rfc3339;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// What comes together is told together, and what is over at once is not told at all.
const SETTLE: Duration = Duration::from_secs(2);

/// Messages of one sort about one project come no closer together: what comes one by one is gathered.
const APART: Duration = Duration::from_secs(15);

/// No failure is waited for longer.
const LONGEST_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Who fights is asked for twice, since Descope's audit trail knows of an edit about a minute after it happened.
const ANSWER: Duration = Duration::from_secs(90);

/// What is held changes step by step: an approval that was told and fits no more is told anew once nothing moved for so long, and
/// only where no other message has it by then.
const MOVES: Duration = Duration::from_secs(30);

/// What the receiver knows of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing.
    Untold,
    /// A try was begun, and nobody knows what became of it.
    Begun,
    /// It said that it got it.
    Told,
}

#[derive(Debug)]
struct Entry {
    /// `None` after a restart, until it is seen again.
    facts: Option<Facts>,
    since: String,
    stage: Stage,
    /// Does the state say the same?
    is_noted: bool,
    is_there: bool,
    /// When it came, or went.
    turned: Instant,
    /// RFC 3339: when it went.
    until: Option<String>,
    is_transient: bool,
    /// What exactly it was told of.
    what: String,
    /// What it was told that an approval names; empty where none ends it, or it is not known.
    fingerprint: String,
    /// What an approval names instead by now, and since when.
    void: Option<(String, Instant)>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// What it tells.
    pub event: Notice,
    /// Whom it concerns; empty for all.
    pub project: String,
    /// All that it tells of; of what has recovered the event that it was told as is in the identity.
    pub things: Vec<Thing>,
}

/// One thing in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// Which.
    pub identity: Identity,
    /// What there is to say; `None` where only the identity is known any more.
    pub facts: Option<Facts>,
    /// RFC 3339.
    pub since: String,
    /// RFC 3339: when it was seen to be over; `None` while it is there.
    pub until: Option<String>,
}

/// What messages are gathered and kept apart by.
type Group = (String, Notice);

/// Of one receiver.
#[derive(Debug)]
pub struct Ledger {
    on: BTreeSet<Notice>,
    /// For how long a failure that may end by itself is none.
    patience: Duration,
    entries: BTreeMap<Identity, Entry>,
    /// What was told the end of, and the state does not know yet.
    ended: BTreeMap<Identity, Told>,
    sent_at: BTreeMap<Group, Instant>,
}

/// What the state does not say yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// Told, or begun.
    pub told: Vec<Told>,
    /// Told the end of.
    pub ended: Vec<Told>,
}

impl Ledger {
    /// For a receiver that wants these, and was told those.
    pub fn new(on: &BTreeSet<Notice>, backoff: Backoff, told: Vec<Told>) -> Self {
        let waits = (1..backoff.max_attempts).map(|failure| backoff.delay(failure, 0.0));
        let patience = waits.sum::<Duration>().clamp(SETTLE, LONGEST_PATIENCE);
        let (entries, ended, sent_at) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut ledger = Self { on: on.clone(), patience, entries, ended, sent_at };
        ledger.recall(told);
        ledger
    }

    /// A project is written by another replica than before: what was not told is that one's to tell, and of what was told
    /// nothing is known before it is seen again. What concerns this replica alone stays as it is.
    pub fn hand_over(&mut self) {
        self.entries.retain(|identity, entry| identity.is_of_this_replica() || entry.stage != Stage::Untold);
        for (_, entry) in self.entries.iter_mut().filter(|(identity, _)| !identity.is_of_this_replica()) {
            (entry.facts, entry.is_there, entry.turned, entry.is_transient) = (None, true, Instant::now(), false);
            entry.until = None;
        }
    }

    /// Takes over what the state says that a receiver was told: what was noted there and is not any more, another replica told
    /// the end of. What the state could not be told yet stays, and so does what no other replica can tell: that this one lost a
    /// lease. Safe to repeat.
    pub fn recall(&mut self, told: Vec<Told>) {
        let read = |told: Told| {
            let event = Notice::ALL.into_iter().find(|event| event.as_str() == told.event)?;
            let identity = Identity { project: told.project.clone(), event, subject: told.subject.clone() };
            Some((identity, told))
        };
        let rows: BTreeMap<Identity, Told> =
            told.into_iter().filter_map(read).filter(|(identity, _)| !self.ended.contains_key(identity)).collect();
        self.entries.retain(|identity, entry| {
            identity.event == Notice::LeaseLost || !entry.is_noted || rows.contains_key(identity)
        });
        for (identity, told) in rows {
            let entry = self.entries.entry(identity).or_insert_with(|| Entry {
                facts: None,
                since: told.since.clone(),
                stage: Stage::Untold,
                is_noted: false,
                is_there: true,
                turned: Instant::now(),
                until: None,
                is_transient: false,
                what: String::new(),
                fingerprint: String::new(),
                void: None,
            });
            if entry.is_noted || entry.stage == Stage::Untold {
                entry.stage = if told.is_sure { Stage::Told } else { Stage::Begun };
                (entry.since, entry.what, entry.is_noted) = (told.since, told.what, true);
                entry.fingerprint = told.fingerprint;
            }
        }
    }

    /// The same while nothing changed hands: what other replicas told of themselves is theirs to end.
    pub fn refresh(&mut self, mut told: Vec<Told>) {
        told.retain(|one| {
            let is_of_one = one.project.is_empty() || one.event == Notice::LeaseLost.as_str();
            !is_of_one || self.entries.keys().any(|identity| is_row_of(one, identity))
        });
        self.recall(told);
    }

    /// What has to be written down: a restart, or another replica, goes on with it.
    pub fn unwritten(&self) -> Unwritten {
        // What is over before it could be written down is told the end of in a moment.
        let is_wanted = |entry: &Entry| !entry.is_noted && entry.is_there && entry.stage != Stage::Untold;
        let entries = self.entries.iter().filter(|(_, entry)| is_wanted(entry));
        Unwritten {
            told: entries.map(|(identity, entry)| row(identity, entry)).collect(),
            ended: self.ended.values().cloned().collect(),
        }
    }

    /// All of it is.
    pub fn written(&mut self) {
        self.ended.clear();
        for entry in self.entries.values_mut() {
            entry.is_noted |= entry.is_there && entry.stage != Stage::Untold;
        }
    }

    /// Takes note of what there is and what is over.
    pub fn take_in(&mut self, sight: &Sight, now: Instant) {
        for (identity, facts) in &sight.there {
            if !self.on.contains(&identity.event) {
                continue;
            }
            let entry = self.entries.entry(identity.clone()).or_insert_with(|| Entry {
                facts: None,
                since: facts.since.clone().unwrap_or_else(|| rfc3339(clock::now())),
                stage: Stage::Untold,
                is_noted: false,
                is_there: true,
                turned: now,
                until: None,
                is_transient: facts.is_transient,
                what: String::new(),
                fingerprint: String::new(),
                void: None,
            });
            if entry.stage == Stage::Told {
                if is_news(&entry.what, &facts.what) {
                    // It is told again, and its end as well.
                    (entry.stage, entry.turned) = (Stage::Begun, now);
                } else if entry.what.is_empty() && !facts.what.is_empty() {
                    // Of an older release: what it was is not known.
                    (entry.what, entry.is_noted) = (facts.what.clone(), false);
                }
                entry.note_approval(facts.fingerprint.as_deref().unwrap_or_default(), now);
            }
            // One that will not end by itself any more is told at once.
            if !entry.is_there || entry.is_transient && !facts.is_transient {
                entry.turned = now;
            }
            (entry.is_there, entry.until) = (true, None);
            entry.is_transient = facts.is_transient;
            if entry.facts.as_ref() != Some(facts) {
                entry.facts = Some(facts.clone());
            }
        }
        self.entries.retain(|identity, entry| {
            if sight.presence(identity) == Presence::Over && entry.is_there {
                entry.is_there = false;
                entry.turned = now;
                entry.until = Some(rfc3339(clock::now()));
            }
            // What it is told with tells of it, where it was not told by itself.
            let is_of_one = entry.stage == Stage::Untold && sight.is_told_as_one(identity);
            (entry.is_there || entry.stage != Stage::Untold) && !is_of_one
        });
    }

    /// Takes out what is over and whose end this receiver does not want to hear.
    pub fn drop_unmentioned(&mut self, now: Instant) {
        if self.on.contains(&Notice::Recovered) {
            return;
        }
        let is_over = |entry: &Entry| !entry.is_there && now >= entry.turned + SETTLE;
        let over = self.entries.iter().filter(|(_, entry)| is_over(entry));
        self.ended.extend(over.map(|(identity, entry)| (identity.clone(), row(identity, entry))));
        self.entries.retain(|_, entry| !is_over(entry));
    }

    /// When there is something to tell next.
    pub fn due(&self) -> Option<Instant> {
        let due = |(identity, entry): (&Identity, &Entry)| {
            let group = group(identity, entry);
            let moves = entry.void.as_ref().filter(|_| entry.stage == Stage::Told).map(|(_, since)| *since + MOVES);
            let at = moves.or_else(|| self.ready_at(identity, entry))?;
            Some(self.sent_at.get(&group).map_or(at, |sent| at.max(*sent + APART)))
        };
        self.entries.iter().filter_map(due).min()
    }

    /// What is to be told now, with all that belongs to it.
    pub fn letter(&self, now: Instant) -> Option<Letter> {
        let is_ready = |identity: &Identity, entry: &Entry| self.ready_at(identity, entry).is_some_and(|at| at <= now);
        let is_apart = |group: &Group| self.sent_at.get(group).is_none_or(|sent| now >= *sent + APART);
        let is_chosen =
            |(identity, entry): &(&Identity, &Entry)| is_ready(identity, entry) && is_apart(&group(identity, entry));
        let first = self.entries.iter().find(is_chosen);
        let chosen = first.map(|(identity, entry)| group(identity, entry))?;
        let belongs = |(identity, entry): &(&Identity, &Entry)| {
            group(identity, entry) == chosen
                && self.ready_at(identity, entry).is_some_and(|at| at <= now || entry.is_there && !entry.is_transient)
        };
        let thing = |(identity, entry): (&Identity, &Entry)| Thing {
            identity: identity.clone(),
            facts: entry.facts.clone(),
            since: entry.since.clone(),
            until: entry.until.clone(),
        };
        let things = self.entries.iter().filter(belongs).map(thing).collect();
        Some(Letter { event: chosen.1, project: chosen.0, things })
    }

    /// From now on the receiver may know, which has to be written down before it is sent.
    pub fn begin(&mut self, letter: &Letter) {
        for thing in letter.things.iter().filter(|_| letter.event != Notice::Recovered) {
            if let Some(entry) = self.entries.get_mut(&thing.identity).filter(|entry| entry.stage == Stage::Untold) {
                (entry.stage, entry.is_noted) = (Stage::Begun, false);
                entry.tell(thing);
            }
        }
    }

    /// The receiver has it.
    pub fn sent(&mut self, letter: &Letter, now: Instant) {
        self.sent_at.insert((letter.project.clone(), letter.event), now);
        for thing in &letter.things {
            if letter.event == Notice::Recovered {
                if let Some(entry) = self.entries.remove(&thing.identity) {
                    self.ended.insert(thing.identity.clone(), row(&thing.identity, &entry));
                }
            } else if let Some(entry) = self.entries.get_mut(&thing.identity) {
                (entry.stage, entry.is_noted) = (Stage::Told, false);
                entry.tell(thing);
            }
        }
        // One approval counts for all that is held in a project: whoever has it needs no other message.
        let told: BTreeSet<&str> = letter.things.iter().filter_map(fingerprint).collect();
        let of_project = self.entries.iter_mut().filter(|(identity, _)| identity.project == letter.project);
        for entry in of_project.map(|(_, entry)| entry).filter(|entry| entry.stage == Stage::Told) {
            if let Some((now, _)) = entry.void.take_if(|(now, _)| told.contains(now.as_str())) {
                (entry.fingerprint, entry.is_noted) = (now, false);
            }
        }
    }

    fn ready_at(&self, identity: &Identity, entry: &Entry) -> Option<Instant> {
        let wait = match (entry.is_transient, identity.event) {
            (false, _) => SETTLE,
            (true, Notice::Contested) => ANSWER,
            (true, _) => self.patience,
        };
        match (entry.is_there, entry.stage) {
            // What was begun before a restart is not known to be there before it is seen.
            (true, Stage::Untold | Stage::Begun) => entry.facts.as_ref().map(|_| entry.turned + wait),
            (false, Stage::Begun | Stage::Told) if self.on.contains(&Notice::Recovered) => Some(entry.turned + wait),
            (true, Stage::Told) | (false, _) => None,
        }
    }
}

fn group(identity: &Identity, entry: &Entry) -> Group {
    (identity.project.clone(), if entry.is_there { identity.event } else { Notice::Recovered })
}

fn is_row_of(told: &Told, identity: &Identity) -> bool {
    (&*told.project, &*told.event, &*told.subject) == (&*identity.project, identity.event.as_str(), &*identity.subject)
}

fn row(identity: &Identity, entry: &Entry) -> Told {
    Told {
        project: identity.project.clone(),
        event: identity.event.as_str().to_owned(),
        subject: identity.subject.clone(),
        since: entry.since.clone(),
        is_sure: entry.stage == Stage::Told,
        what: entry.what.clone(),
        fingerprint: entry.fingerprint.clone(),
    }
}

impl Entry {
    /// Takes note of what exactly a letter tells of it.
    fn tell(&mut self, thing: &Thing) {
        self.what = thing.facts.as_ref().map(|facts| facts.what.clone()).unwrap_or_default();
        fingerprint(thing).unwrap_or_default().clone_into(&mut self.fingerprint);
        self.void = None;
    }

    /// Does what was told still name what is held now?
    fn note_approval(&mut self, now: &str, at: Instant) {
        if self.fingerprint.is_empty() && !now.is_empty() {
            // Of an older release: what was told is not known.
            (self.fingerprint, self.is_noted) = (now.to_owned(), false);
        }
        // While none ends it, as for the moment after one was given, there is none to tell.
        if now.is_empty() || now == self.fingerprint {
            self.void = None;
            return;
        }
        match &self.void {
            Some((known, since)) if known == now => {
                if at >= *since + MOVES {
                    (self.stage, self.turned, self.void) = (Stage::Begun, at, None);
                }
            }
            _ => self.void = Some((now.to_owned(), at)),
        }
    }
}

fn fingerprint(thing: &Thing) -> Option<&str> {
    thing.facts.as_ref()?.fingerprint.as_deref()
}

/// Is the same thing about something else now than what was told? Of a number of things, is it more?
fn is_news(told: &str, now: &str) -> bool {
    let number = |what: &str| what.strip_prefix(MANY)?.parse::<usize>().ok();
    match (number(told), number(now)) {
        (Some(told), Some(now)) => now > told,
        _ => !told.is_empty() && !now.is_empty() && told != now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { max_attempts: 5, initial: Duration::from_secs(1), max: Duration::from_secs(60) };

    fn identity(subject: &str) -> Identity {
        Identity { project: "p".to_owned(), event: Notice::Failing, subject: subject.to_owned() }
    }

    fn sight(subjects: &[(&str, bool)]) -> Sight {
        let facts = |is_transient| Facts {
            reason: "parked".to_owned(),
            text: "no".to_owned(),
            since: None,
            fingerprint: None,
            is_transient,
            what: String::new(),
        };
        Sight::knowing(
            "p",
            subjects.iter().map(|(subject, is_transient)| (identity(subject), facts(*is_transient))).collect(),
        )
    }

    struct Desk {
        ledger: Ledger,
        now: Instant,
    }

    impl Desk {
        fn new(on: &[Notice], told: Vec<Told>) -> Self {
            Self { ledger: Ledger::new(&on.iter().copied().collect(), BACKOFF, told), now: Instant::now() }
        }

        /// What is told in so many seconds, after this came to be seen.
        fn told_within(&mut self, seconds: u64, sight: &Sight) -> Vec<String> {
            let mut told = Vec::new();
            for _ in 0..seconds * 2 {
                self.ledger.take_in(sight, self.now);
                self.ledger.drop_unmentioned(self.now);
                if self.ledger.due().is_some_and(|due| due <= self.now) {
                    let letter = self.ledger.letter(self.now).expect("something is due");
                    self.ledger.begin(&letter);
                    self.ledger.sent(&letter, self.now);
                    let subjects: Vec<&str> = letter.things.iter().map(|thing| &*thing.identity.subject).collect();
                    told.push(format!("{}: {}", letter.event.as_str(), subjects.join(" ")));
                }
                self.now += Duration::from_millis(500);
            }
            told
        }
    }

    #[test]
    fn what_comes_together_is_told_once_and_so_is_its_end() {
        let mut desk = Desk::new(&Notice::ALL, vec![]);

        assert_eq!(desk.told_within(60, &sight(&[("t/a", false), ("t/b", false)])), ["failing: t/a t/b"]);
        assert_eq!(desk.told_within(60, &sight(&[("t/b", false)])), ["recovered: t/a"]);
        assert_eq!(desk.told_within(60, &sight(&[])), ["recovered: t/b"]);
        assert_eq!(desk.told_within(60, &sight(&[("t/a", false)])), ["failing: t/a"]);
    }

    /// Those that waited to be told came with the crowd that counted them.
    #[test]
    fn what_became_part_of_a_crowd_before_it_was_told_is_told_as_that_alone() {
        let mut desk = Desk::new(&Notice::ALL, vec![]);
        assert_eq!(desk.told_within(4, &sight(&[("t/a", false)])), ["failing: t/a"]);
        assert!(desk.told_within(4, &sight(&[("t/a", false), ("t/b", false)])).is_empty(), "too soon after the first");

        assert_eq!(desk.told_within(60, &Sight::crowd("p", Notice::Failing)), ["failing: resources"]);
        assert_eq!(desk.told_within(60, &sight(&[])), ["recovered: resources t/a"]);
    }

    /// A receiver that could not be reached for an hour was told that it ended an hour later.
    #[test]
    fn an_end_is_when_it_was_seen_however_late_it_is_told() {
        let mut desk = Desk::new(&Notice::ALL, vec![]);
        assert_eq!(desk.told_within(4, &sight(&[("t/a", false)])), ["failing: t/a"]);

        desk.ledger.take_in(&sight(&[]), desk.now);

        let seen = rfc3339(clock::now());
        desk.now += Duration::from_secs(3600);
        let letter = desk.ledger.letter(desk.now).unwrap();
        let until = letter.things[0].until.clone().unwrap();
        assert!(letter.event == Notice::Recovered && until <= seen, "{until} {seen}");
        // It is there again.
        desk.ledger.take_in(&sight(&[("t/a", false)]), desk.now);
        assert_eq!(desk.ledger.letter(desk.now), None);
    }

    #[test]
    fn what_passes_at_once_is_not_told_nor_what_ends_by_itself_in_time() {
        let mut desk = Desk::new(&Notice::ALL, vec![]);

        assert!(desk.told_within(1, &sight(&[("t/a", false)])).is_empty());
        assert!(desk.told_within(14, &sight(&[("t/b", true)])).is_empty());
        assert!(desk.told_within(60, &sight(&[])).is_empty());
        assert_eq!(desk.told_within(60, &sight(&[("t/b", true)])), ["failing: t/b"]);
        assert!(desk.told_within(14, &sight(&[])).is_empty(), "it may come back");
        assert!(desk.told_within(60, &sight(&[("t/b", true)])).is_empty());
        assert_eq!(desk.told_within(60, &sight(&[])), ["recovered: t/b"]);
    }

    /// It was told without who, or with who did it before.
    #[test]
    fn a_fight_waits_for_who_it_is_for_as_long_as_that_may_take_and_its_end_does_not() {
        let contested = |actor: &str, is_transient| {
            let mut sight = sight(&[("t/a", is_transient)]);
            let facts = sight.there.remove(&identity("t/a")).unwrap();
            let identity = Identity { event: Notice::Contested, ..identity("t/a") };
            sight.there.insert(identity, Facts { text: format!("{actor} sets it"), ..facts });
            sight
        };
        let mut desk = Desk::new(&Notice::ALL, vec![]);

        assert!(desk.told_within(70, &contested("somebody", true)).is_empty());
        assert_eq!(desk.told_within(3, &contested("jane", false)), ["contested: t/a"]);
        assert_eq!(desk.told_within(20, &sight(&[])), ["recovered: t/a"]);
        assert!(desk.told_within(85, &contested("somebody", true)).is_empty());
        assert_eq!(desk.told_within(10, &contested("somebody", true)), ["contested: t/a"], "nobody can tell");
        // Another edit of it is asked about, and is no news of the fight.
        assert!(desk.told_within(200, &contested("joe", false)).is_empty());
    }

    #[test]
    fn what_comes_one_by_one_is_gathered() {
        let mut desk = Desk::new(&Notice::ALL, vec![]);
        let all = ["t/a", "t/b", "t/c", "t/d", "t/e"].map(|subject| (subject, false));
        let mut told = Vec::new();
        for n in 1..=5 {
            told.extend(desk.told_within(3, &sight(&all[..n])));
        }
        told.extend(desk.told_within(60, &sight(&all)));

        assert_eq!(told, ["failing: t/a", "failing: t/b t/c t/d t/e"]);
    }

    /// A second weakening of a part that was held for a first one was not told.
    #[test]
    fn what_becomes_another_is_told_again_once_after_a_restart_too() {
        let of = |what: &str| {
            let mut sight = sight(&[("t/a", false)]);
            sight.there.values_mut().for_each(|facts| what.clone_into(&mut facts.what));
            sight
        };
        let mut desk = Desk::new(&Notice::ALL, vec![]);

        assert_eq!(desk.told_within(60, &of("one")), ["failing: t/a"]);
        assert!(desk.told_within(60, &of("one")).is_empty());
        assert_eq!(desk.told_within(60, &of("two")), ["failing: t/a"]);
        assert!(desk.told_within(60, &of("two")).is_empty(), "once");
        let told = desk.ledger.unwritten().told;
        let mut desk = Desk::new(&Notice::ALL, told);
        assert!(desk.told_within(60, &of("two")).is_empty());
        assert_eq!(desk.told_within(60, &of("three")), ["failing: t/a"]);
        assert_eq!(desk.told_within(60, &sight(&[])), ["recovered: t/a"], "one end");
        // What an older release told is taken for what is there.
        let mut told = desk.ledger.unwritten().ended;
        for told in &mut told {
            told.what.clear();
        }
        let mut desk = Desk::new(&Notice::ALL, told);
        assert!(desk.told_within(60, &of("two")).is_empty());
        assert_eq!(desk.told_within(60, &of("three")), ["failing: t/a"]);
    }

    /// The approval that the only message offered was void, and no other came.
    #[test]
    fn an_approval_that_fits_no_more_is_told_anew_unless_another_message_has_it() {
        let of = |things: &[(&str, &str)]| {
            let subjects: Vec<(&str, bool)> = things.iter().map(|(subject, _)| (*subject, false)).collect();
            let mut sight = sight(&subjects);
            for (facts, (_, fingerprint)) in sight.there.values_mut().zip(things) {
                facts.fingerprint = Some((*fingerprint).to_owned()).filter(|text| !text.is_empty());
            }
            sight
        };
        let mut desk = Desk::new(&Notice::ALL, vec![]);

        assert_eq!(desk.told_within(60, &of(&[("t/a", "1")])), ["failing: t/a"]);
        assert!(desk.told_within(20, &of(&[("t/a", "2")])).is_empty(), "it may go on to change");
        assert!(desk.told_within(20, &of(&[("t/a", "3")])).is_empty());
        assert_eq!(desk.told_within(30, &of(&[("t/a", "3")])), ["failing: t/a"]);
        assert!(desk.told_within(90, &of(&[("t/a", "3")])).is_empty(), "once");
        // What comes beside has the new one, for both.
        assert_eq!(desk.told_within(90, &of(&[("t/a", "4"), ("t/b", "4")])), ["failing: t/b"]);
        // Back to what was told before is news as well, since the last message said something else.
        assert!(desk.told_within(20, &of(&[("t/a", "")])).contains(&"recovered: t/b".to_owned()));
        let told = desk.ledger.unwritten().told;
        assert_eq!(told.iter().map(|told| told.fingerprint.as_str()).collect::<Vec<_>>(), ["4"]);
        let mut desk = Desk::new(&Notice::ALL, told);
        assert!(desk.told_within(90, &of(&[("t/a", "4")])).is_empty(), "after a restart, too");
        assert_eq!(desk.told_within(90, &of(&[("t/a", "5")])), ["failing: t/a"]);
        // Of an older release nothing is known.
        let mut told = desk.ledger.unwritten().told;
        told[0].fingerprint.clear();
        let mut desk = Desk::new(&Notice::ALL, told);
        assert!(desk.told_within(90, &of(&[("t/a", "6")])).is_empty());
        assert_eq!(desk.told_within(90, &of(&[("t/a", "7")])), ["failing: t/a"]);
    }

    #[test]
    fn of_many_things_more_are_news_and_fewer_are_not() {
        for (told, now, expected) in [
            ("", "a", false),
            ("a", "", false),
            ("a", "a", false),
            ("a", "b", true),
            ("many 21", "many 22", true),
            ("many 22", "many 9", false),
            ("many 22", "a", true),
        ] {
            assert_eq!(is_news(told, now), expected, "{told} {now}");
        }
    }

    #[test]
    fn a_restart_tells_nothing_twice_and_every_end() {
        let row = |subject: &str, is_sure| Told {
            project: "p".to_owned(),
            event: "failing".to_owned(),
            subject: subject.to_owned(),
            since: "2026-01-01T00:00:00Z".to_owned(),
            is_sure,
            what: String::new(),
            fingerprint: String::new(),
        };
        let mut desk = Desk::new(&Notice::ALL, vec![row("t/a", true), row("t/b", true), row("t/c", false)]);

        assert!(desk.told_within(60, &Sight::knowing_nothing("p")).is_empty());
        let told = desk.told_within(60, &sight(&[("t/a", false), ("t/c", false)]));
        assert_eq!(told, ["failing: t/c", "recovered: t/b"]);
        assert_eq!(desk.told_within(60, &sight(&[])), ["recovered: t/a t/c"]);
    }

    /// What was told while the state could not be written was forgotten when another replica became the holder.
    #[test]
    fn what_could_not_be_written_down_outlives_a_change_of_holders_and_is_written_later() {
        let mut desk = Desk::new(&Notice::ALL, vec![]);
        let state = Identity { project: String::new(), event: Notice::Failing, subject: "state".to_owned() };
        let mut outage = sight(&[("t/a", false)]);
        let facts = outage.there.values().next().unwrap().clone();
        outage.there.insert(state, facts);

        assert_eq!(desk.told_within(60, &outage), ["failing: state", "failing: t/a"]);
        let unwritten = desk.ledger.unwritten();
        assert_eq!((unwritten.told.len(), unwritten.ended.len()), (2, 0));
        desk.ledger.hand_over();
        assert_eq!(desk.ledger.unwritten(), unwritten);
        desk.ledger.recall(vec![]);
        // The database is there again, and another replica writes the project.
        let other = Sight::knowing_nothing("p");
        assert_eq!(desk.told_within(60, &other), ["recovered: state"]);
        let unwritten = desk.ledger.unwritten();
        let subjects = |rows: &[Told]| rows.iter().map(|row| row.subject.clone()).collect::<Vec<_>>();
        assert_eq!(
            (subjects(&unwritten.told), subjects(&unwritten.ended)),
            (vec!["t/a".to_owned()], vec!["state".to_owned()])
        );
        desk.ledger.written();
        assert_eq!(desk.ledger.unwritten(), Unwritten::default());
        // What that one wrote down late is known to the new holder, who tells its end.
        let mut holder = Desk::new(&Notice::ALL, vec![]);
        holder.ledger.hand_over();
        holder.ledger.recall(vec![]);
        assert!(holder.told_within(8, &other).is_empty());
        holder.ledger.refresh(unwritten.told.clone());
        assert_eq!(holder.told_within(60, &sight(&[])), ["recovered: t/a"]);
        // Until that could be written down, it is not told again for being still in the state.
        holder.ledger.refresh(unwritten.told);
        assert!(holder.told_within(60, &sight(&[])).is_empty());
        holder.ledger.written();
        // And the one that told it hears of the end from the state.
        desk.ledger.refresh(vec![]);
        assert!(desk.told_within(60, &sight(&[])).is_empty());
    }

    #[test]
    fn a_replica_leaves_what_others_tell_of_themselves_to_them() {
        let mut desk = Desk::new(&Notice::ALL, vec![]);
        let row = Told {
            project: "p".to_owned(),
            event: "lease_lost".to_owned(),
            subject: "lease".to_owned(),
            since: "2026-01-01T00:00:00Z".to_owned(),
            is_sure: true,
            what: String::new(),
            fingerprint: String::new(),
        };

        desk.ledger.refresh(vec![row.clone()]);
        assert!(desk.told_within(60, &sight(&[])).is_empty());
        // One that may be gone does not.
        desk.ledger.recall(vec![row]);
        assert_eq!(desk.told_within(60, &sight(&[])), ["recovered: lease"]);
    }

    #[test]
    fn a_receiver_that_does_not_want_ends_is_told_none_and_the_next_time_again() {
        let mut desk = Desk::new(&[Notice::Failing], vec![]);

        assert_eq!(desk.told_within(60, &sight(&[("t/a", false)])), ["failing: t/a"]);
        assert!(desk.told_within(60, &sight(&[])).is_empty());
        assert_eq!(desk.told_within(60, &sight(&[("t/a", false)])), ["failing: t/a"]);
        assert!(Desk::new(&[Notice::Held], vec![]).told_within(60, &sight(&[("t/a", false)])).is_empty());
    }
}
