use super::desk::Desk;
use super::row::Fate;
use super::row::Row;
use super::row::Told;
use super::row::Turn;
use super::row::Want;
use super::store::InMemory;
use super::store::Written;
use crate::limiter::Algorithm;
use crate::limiter::Outcome;
use crate::limiter::Settings;
use crate::limiter::machine::Decision;
use crate::limiter::machine::Machine;
use crate::limiter::machine::Slot;
use std::time::Duration;

mod laboratory;
mod properties;
mod served;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settings(n: f64) -> Settings {
    Settings { limit: Some((n, Duration::from_secs(60))), ..Settings::default() }
}

/// A replica with a store that answers at once.
struct Replica<'a> {
    desk: Desk,
    store: &'a InMemory,
    wants: usize,
}

impl<'a> Replica<'a> {
    fn new(name: &str, n: f64, store: &'a InMemory) -> Self {
        Self { desk: Desk::new(name.to_owned(), settings(n)), store, wants: 0 }
    }

    fn turn(&mut self, now: Duration) {
        let want = || (self.wants > 0).then_some(super::row::Want { count: self.wants, age: ms(0), last: false });
        while self.desk.todo(want(), now) == super::desk::Todo::Read {
            if let Some(written) = self.desk.read(&self.store.read_at(now), want(), now, now) {
                let is_written = self.store.write_now(written);
                self.desk.wrote(is_written, now);
            }
        }
    }

    fn glance(&mut self, now: Duration) {
        self.desk.glanced(self.store.closed_at(), now, now);
    }

    fn take(&mut self, wants: usize, now: Duration) -> Vec<Slot> {
        self.wants = wants;
        let mut slots = Vec::new();
        loop {
            self.turn(now);
            match self.desk.acquire(now) {
                Decision::Send(slot) => {
                    slots.push(slot);
                    self.wants -= 1;
                    if self.wants == 0 {
                        return slots;
                    }
                }
                Decision::WaitUntil(_) | Decision::WaitForReply => return slots,
            }
        }
    }

    fn send(&mut self, wants: usize, now: Duration) -> Vec<Slot> {
        let slots = self.take(wants, now);
        for _ in &slots {
            self.desk.sending();
        }
        slots
    }

    fn reply(&mut self, slot: Slot, outcome: Outcome, now: Duration) {
        self.desk.reply(slot, outcome, now);
        self.wants = 0;
        self.turn(now);
    }
}

fn refused(seconds: u64) -> Outcome {
    Outcome::Throttled { retry_after: Some(Duration::from_secs(seconds)) }
}

/// A time of the store.
const START: Duration = Duration::from_secs(1_000_000);

#[test]
fn a_block_is_a_tenth_of_the_limit_and_near_its_end_no_more_than_is_waited_for() {
    let store = InMemory::default();
    let (mut first, mut second) = (Replica::new("first", 100.0, &store), Replica::new("second", 100.0, &store));

    let one = first.take(1, START);
    let rest = second.take(99, START);

    // Nine wait at the first replica's desk until it gives them back.
    assert_eq!((one.len(), rest.len()), (1, 90));
    first.wants = 0;
    first.turn(START + ms(1000));
    assert_eq!(second.take(9, START + ms(1001)).len(), 9);
}

/// One turn of a replica, in which it says what became of slots, and how many it gets.
fn turn(row: &mut Row, replica: &str, told: &[Told], want: impl Into<Option<Want>>, now: Duration) -> Vec<Slot> {
    let want = want.into();
    let turn = Turn { replica, number: 1, started: Duration::ZERO, told, holds: usize::MAX, want };
    row.turn(&turn, &settings(30.0), now).slots.into_iter().map(|(slot, _)| slot).collect()
}

fn want(count: usize, seconds: u64) -> Want {
    Want { count, age: Duration::from_secs(seconds), last: false }
}

#[test]
fn what_is_left_is_shared_among_those_that_wait_and_the_last_is_for_whoever_waits_longest() {
    let mut row = Row::new(&settings(30.0));
    let first: usize = (0..9).map(|_| turn(&mut row, "first", &[], want(100, 0), START).len()).sum();
    assert_eq!(first, 27, "a tenth at a time");
    assert!(row.knows("first") && !row.knows("longest"));

    // Of three that are left, half.
    let later = START + ms(1000);
    assert_eq!(turn(&mut row, "longest", &[], want(3, 5), later).len(), 2);
    assert_eq!(turn(&mut row, "first", &[], want(73, 1), later).len(), 0);
    assert_eq!(turn(&mut row, "longest", &[], want(1, 5), later).len(), 1);

    assert!(turn(&mut row, "none", &[], None::<Want>, later).is_empty() && !row.knows("none"));
}

#[test]
fn a_slot_that_is_given_back_twice_comes_back_once() {
    let mut row = Row::new(&settings(30.0));
    let slots: Vec<Slot> = (0..10).flat_map(|_| turn(&mut row, "one", &[], want(100, 0), START)).collect();
    assert_eq!(slots.len(), 30);
    let unused =
        |at: usize| Told { slot: Slot { sent: slots[at].sent, kind: slots[at].kind }, fate: Fate::Unused, age: ms(0) };
    let now = START + ms(10);

    assert_eq!(turn(&mut row, "one", &[unused(0)], want(9, 0), now).len(), 1);
    // One is as good as another that was given at the same time, so all of them go back before one goes back twice.
    let all: Vec<Told> = (0..30).chain([0, 0]).map(unused).collect();
    assert!(turn(&mut row, "one", &all, None, now).is_empty());
    assert_eq!(row.held(), 1);

    let again: usize = (0..20).map(|_| turn(&mut row, "one", &[], want(100, 0), now).len()).sum();
    assert_eq!(again, 29);
}

#[test]
fn all_replicas_together_send_no_more_than_the_limit_until_slots_come_back_a_window_after_their_answers() {
    let store = InMemory::default();
    let (mut first, mut second) = (Replica::new("first", 20.0, &store), Replica::new("second", 20.0, &store));
    let sent = first.send(12, START);
    assert_eq!((sent.len(), second.send(12, START + ms(10)).len()), (12, 8));

    for slot in sent {
        first.reply(slot, Outcome::Answered, START + ms(500));
    }
    first.turn(START + ms(800));
    second.wants = 0;
    // Whoever has requests under way says now and then that it lives.
    for second_passed in 1..=60 {
        second.turn(START + ms(1000 * second_passed));
    }

    assert_eq!(second.send(4, START + ms(60_400)).len(), 0);
    assert_eq!(second.send(4, START + ms(60_600)).len(), 4);
}

#[test]
fn the_slots_of_a_dead_replica_come_back_one_window_after_its_end() {
    let store = InMemory::default();
    let (mut dead, mut alive) = (Replica::new("dead", 10.0, &store), Replica::new("alive", 10.0, &store));
    assert_eq!(dead.send(10, START).len(), 10);

    let sent_at: Vec<u64> = (1..120).filter(|&second| !alive.send(10, START + ms(1000 * second)).is_empty()).collect();

    assert_eq!(sent_at.first(), Some(&70));
}

#[test]
fn one_refusal_voids_what_others_were_given_and_one_replica_gets_the_trial() {
    let store = InMemory::default();
    let (mut first, mut second) = (Replica::new("first", 100.0, &store), Replica::new("second", 100.0, &store));
    for slot in first.send(20, START) {
        first.reply(slot, Outcome::Answered, START);
    }
    let mut out = first.send(2, START);
    let (was_out, late) = (second.send(1, START).remove(0), second.take(1, START).remove(0));
    assert!(second.desk.is_current(&late, START));

    first.reply(out.remove(0), refused(60), START + ms(100));
    second.glance(START + ms(200));

    assert!(!second.desk.is_current(&late, START + ms(200)));
    second.desk.cancel(late, START + ms(200));
    assert_eq!(second.take(5, START + ms(300)).len(), 0);
    // They belong to the same event, though one of them is refused after the trial.
    let slow = out.remove(0);
    second.reply(was_out, refused(60), START + ms(400));
    let opens = START + ms(400) + ms(61_000);
    first.wants = 0;
    for moment in 1..=61 {
        first.turn(START + ms(1000 * moment));
    }
    let trials = (first.send(5, opens), second.send(5, opens));
    assert_eq!((trials.0.len(), trials.1.len()), (1, 0));
    first.reply(trials.0.into_iter().next().unwrap(), Outcome::Answered, opens + ms(50));
    let limit = Row::from_text(&store.read_at(opens).text.unwrap(), &settings(100.0), opens).into_machine().0.budget();
    first.reply(slow, refused(30), opens + ms(60));
    let after = Row::from_text(&store.read_at(opens).text.unwrap(), &settings(100.0), opens).into_machine().0;
    assert_eq!((after.budget(), after.gate().is_closed()), (limit, false));
}

#[test]
fn without_the_store_nothing_is_sent() {
    let store = InMemory::default();
    let mut replica = Replica::new("only", 100.0, &store);
    assert_eq!(replica.take(1, START).len(), 1);

    assert!(matches!(replica.desk.acquire(START + ms(250)), Decision::Send(_)));
    assert_eq!(replica.desk.acquire(START + ms(251)), Decision::WaitForReply);

    replica.glance(START + ms(5000));
    assert!(matches!(replica.desk.acquire(START + ms(5000)), Decision::Send(_)));
    // It may be taken for dead soon.
    replica.glance(START + ms(8000));
    assert_eq!(replica.desk.acquire(START + ms(8000)), Decision::WaitForReply);
}

#[test]
fn a_turn_whose_writing_was_not_answered_is_neither_lost_nor_done_twice() {
    for was_written in [false, true] {
        let store = InMemory::default();
        let mut desk = Desk::new("only".to_owned(), settings(10.0));
        let want = Some(super::row::Want { count: 10, age: ms(0), last: false });
        let write = |desk: &mut Desk, now| desk.read(&store.read_at(now), want, now, now);

        let lost: Written = write(&mut desk, START).unwrap();
        if was_written {
            assert!(store.write_now(lost.clone()));
        }
        desk.unreachable(START);
        let second = write(&mut desk, START + ms(600));
        if let Some(second) = second {
            let is_written = store.write_now(second);
            desk.wrote(is_written, START + ms(600));
        }
        // What was on its way all that time is not written any more.
        assert!(!store.write_now(lost));

        let sent = std::iter::from_fn(|| match desk.acquire(START + ms(600)) {
            Decision::Send(slot) => Some(slot),
            Decision::WaitUntil(_) | Decision::WaitForReply => None,
        });
        let sent: Vec<Slot> = sent.collect();
        let row = Row::from_text(&store.read_at(START).text.unwrap(), &settings(10.0), START);
        assert_eq!((sent.len(), row.held()), (1, 1), "written: {was_written}");
    }
}

#[test]
fn a_replica_that_was_told_another_limit_keeps_what_is_in_use() {
    let store = InMemory::default();
    let (mut before, mut after) = (Replica::new("before", 10.0, &store), Replica::new("after", 12.0, &store));
    assert_eq!(before.send(10, START).len(), 10);

    assert_eq!(after.send(12, START + ms(100)).len(), 2);
}

/// Each turn of either made the machine anew, and what was learned between two of them was lost.
#[test]
fn of_settings_that_differ_those_of_the_replica_that_was_started_last_are_in_force_for_all() {
    let store = InMemory::default();
    let (mut old, mut new) = (Replica::new("old", 10.0, &store), Replica::new("new", 20.0, &store));
    let limit = |now| Row::from_text(&store.read_at(now).text.unwrap(), &settings(1.0), now).into_machine().0.budget();
    let once = |replica: &mut Replica<'_>, now| {
        let sent = replica.send(1, now);
        let count = sent.len();
        for slot in sent {
            replica.reply(slot, Outcome::Answered, now);
        }
        count
    };
    assert_eq!((once(&mut old, START), limit(START)), (1, Some(10.0)));

    let mut spent = 1;
    for moment in 1..20 {
        let now = START + ms(moment * 1000);
        spent += once(&mut new, now) + once(&mut old, now);
        assert_eq!(limit(now), Some(20.0), "after {moment} s");
    }
    assert_eq!(spent, 20);
    // Started again, it is the last one, whatever it was told.
    let later = START + ms(90_000);
    let mut again = Replica::new("again", 10.0, &store);
    assert_eq!((once(&mut again, later), limit(later)), (1, Some(10.0)));
    assert_eq!((once(&mut new, later + ms(500)), limit(later + ms(500))), (1, Some(10.0)));
}

#[test]
fn a_store_whose_clock_was_set_back_keeps_what_is_in_use_and_gives_it_back() {
    let store = InMemory::default();
    let (mut first, mut second) = (Replica::new("first", 10.0, &store), Replica::new("second", 10.0, &store));
    let out = first.send(10, START);
    for slot in out {
        first.reply(slot, Outcome::Answered, START + ms(10));
    }
    first.turn(START + ms(300));

    let earlier = START.saturating_sub(Duration::from_secs(600));
    assert_eq!(second.send(10, earlier).len(), 0);
    let sent_at: Vec<u64> =
        (1..80).filter(|&passed| !second.send(10, earlier + ms(1000 * passed)).is_empty()).collect();

    assert_eq!(sent_at.first(), Some(&60));
}

#[test]
fn a_damaged_row_costs_a_window_and_no_more() {
    let store = InMemory::default();
    assert!(store.write_now(Written { version: 0, text: "{".to_owned(), closed_at: None }));
    let mut replica = Replica::new("only", 10.0, &store);

    let sent_at: Vec<u64> = (0..80).filter(|&passed| !replica.send(10, START + ms(1000 * passed)).is_empty()).collect();

    assert_eq!(sent_at.first(), Some(&60));
}

/// Slots of which nobody would ever tell what became of them: everybody waited for them for as long as their holder lived.
#[test]
fn what_somebody_changed_of_the_slots_in_a_row_blocks_nobody_for_longer_than_a_window() {
    for (what, place, value) in [
        ("another time", "/replicas/first/held/0/granted/secs", 900_000_u64),
        ("a time to come", "/replicas/first/held/0/granted/secs", 9_000_000),
        ("more of them", "/replicas/first/held/0/count", 9),
        ("none of them", "/replicas/first/held/0/count", 0),
        ("more under way", "/machine/Budget/in_flight", 9),
        ("one that never dies", "/replicas/dead/lease/secs", 9_000_000),
        ("more that are back than were sent", "/machine/Budget/old", 9),
    ] {
        let store = InMemory::default();
        let mut dead = Replica::new("dead", 10.0, &store);
        let mut first = Replica::new("first", 10.0, &store);
        let mut second = Replica::new("second", 10.0, &store);
        assert_eq!((dead.send(1, START).len(), first.wants), (1, 0));
        let slots = first.send(3, START);
        let read = store.read_at(START);
        let mut row: serde_json::Value = serde_json::from_str(read.text.as_deref().unwrap()).unwrap();
        let (within, field) = place.rsplit_once('/').unwrap();
        row.pointer_mut(within).unwrap()[field] = value.into();
        assert!(store.write_now(Written { version: read.version, text: row.to_string(), closed_at: None }), "{what}");

        for slot in slots {
            first.reply(slot, refused(5), START + ms(100));
        }

        let later = |passed: u64| START + ms(1000 * passed);
        let sent_at = (1..200).find(|&passed| {
            first.turn(later(passed));
            let sent = second.send(1, later(passed));
            sent.into_iter().any(|slot| {
                second.reply(slot, Outcome::Answered, later(passed));
                true
            })
        });
        assert!(sent_at.is_some_and(|at| at <= 75), "{what}: {sent_at:?}");
    }
}

/// A machine that is written down and read back between any two events behaves as one that is not.
#[test]
fn a_machine_outlives_its_being_written_down() {
    for (case, algorithm) in [Algorithm::Budget, Algorithm::Adaptive].into_iter().enumerate() {
        for limit in [Some((20.0, Duration::from_secs(10))), None] {
            let settings = Settings { algorithm, limit, probe: true, ..Settings::default() };
            let (mut kept, mut written) = (Machine::new(&settings), Machine::new(&settings));
            let mut rng = fastrand::Rng::with_seed(case as u64);
            let mut out: Vec<(Slot, Slot)> = Vec::new();
            let mut now = START;
            for event in 0..3000 {
                now += ms(rng.u64(0..400));
                let text = serde_json::to_string(&written).unwrap();
                written = serde_json::from_str(&text).unwrap();
                // Which slots are back is not written down: their times tell it.
                assert_eq!(kept.used(now), written.used(now), "event {event} of {algorithm:?} with {limit:?}");
                if rng.bool() || out.is_empty() {
                    let decisions = (kept.acquire(now), written.acquire(now));
                    assert_eq!(decisions.0, decisions.1, "event {event} of {algorithm:?} with {limit:?}");
                    if let (Decision::Send(one), Decision::Send(other)) = decisions {
                        out.push((one, other));
                    }
                } else {
                    let (one, other) = out.swap_remove(rng.usize(..out.len()));
                    let outcome = match rng.u32(..40) {
                        0 => refused(rng.u64(1..12)),
                        1 => Outcome::Failed,
                        _ => Outcome::Answered,
                    };
                    kept.reply(one, outcome, now);
                    written.reply(other, outcome, now);
                }
                assert_eq!(kept.budget(), written.budget());
                assert_eq!(kept.used(now), written.used(now));
            }
        }
    }
}

#[test]
fn who_was_refused_sends_nothing_more_of_what_it_had_before_the_others_know() {
    let store = InMemory::default();
    let mut replica = Replica::new("only", 100.0, &store);
    for slot in replica.send(20, START) {
        replica.reply(slot, Outcome::Answered, START);
    }
    let mut out = replica.send(2, START);
    let late = replica.take(1, START).remove(0);
    assert!(replica.desk.is_current(&late, START));

    // Nothing is told to the row yet.
    replica.desk.reply(out.remove(0), refused(60), START + ms(20));

    assert!(!replica.desk.is_current(&late, START + ms(21)));
    assert_eq!(replica.desk.acquire(START + ms(21)), Decision::WaitForReply);
    replica.desk.cancel(late, START + ms(22));
    // The rest of the burst is the same event; then it goes on as ever.
    replica.reply(out.remove(0), refused(60), START + ms(30));
    let opens = START + ms(61_100);
    for moment in 1..=61 {
        replica.turn(START + ms(1000 * moment));
    }
    let trial = replica.send(5, opens);
    assert_eq!(trial.len(), 1);
    replica.reply(trial.into_iter().next().unwrap(), Outcome::Answered, opens + ms(50));
    assert!(!replica.send(5, opens + ms(100)).is_empty());
}
