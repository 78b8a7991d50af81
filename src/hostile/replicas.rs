//! What happens to replicas that share a limit, and to the row they share: three bytes an event, after four of settings.

use crate::limiter::Outcome;
use crate::limiter::Settings;
use crate::limiter::machine::Decision;
use crate::limiter::machine::Slot;
use crate::limiter::quota::Quota;
use crate::limiter::shared::desk::Desk;
use crate::limiter::shared::desk::Todo;
use crate::limiter::shared::row::LIFE;
use crate::limiter::shared::row::Row;
use crate::limiter::shared::row::Want;
use crate::limiter::shared::store::InMemory;
use crate::limiter::shared::store::Written;
use std::collections::VecDeque;
use std::time::Duration;

const ORIGIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// As long as this somebody may wait when nobody refuses and nobody dies any more: a day's pause, doubled, and windows of a day.
const PATIENCE: Duration = Duration::from_secs(8 * 24 * 3600);

pub fn attempt(bytes: &[u8]) {
    let Some((head, events)) = bytes.split_first_chunk::<4>() else { return };
    let mut run = Run::new(settings(*head));
    for event in events.chunks_exact(3).take(1000) {
        run.event(event[0], event[1], event[2]);
    }
    run.ends_well();
}

fn settings(head: [u8; 4]) -> Settings {
    let [flags, n, window, lockout] = head;
    let window = Duration::from_secs_f64(f64::from(window).powi(2) / 4.0 + 0.5);
    Settings {
        limit: (flags & 1 == 0).then(|| (f64::from(n) + 1.0, window)),
        lockout: Duration::from_secs(lockout.into()),
        probe: flags & 2 != 0,
        ..Settings::default()
    }
}

struct Replica {
    desk: Desk,
    wants: usize,
    sent: VecDeque<Slot>,
}

struct Run {
    settings: Settings,
    store: InMemory,
    replicas: Vec<Replica>,
    /// One more than the number of the last that was started.
    next: usize,
    now: Duration,
}

impl Run {
    fn new(settings: Settings) -> Self {
        let mut run = Self { settings, store: InMemory::default(), replicas: Vec::new(), next: 0, now: ORIGIN };
        run.replicas = (0..3).map(|_| run.started()).collect();
        run
    }

    fn started(&mut self) -> Replica {
        self.next += 1;
        let desk = Desk::new(self.next.to_string(), self.settings.clone());
        Replica { desk, wants: 0, sent: VecDeque::new() }
    }

    fn event(&mut self, what: u8, who: u8, much: u8) {
        let at = usize::from(who) % self.replicas.len();
        let number = Duration::from_millis(u64::from(much));
        match what % 16 {
            0 | 1 => {
                self.replicas[at].wants += usize::from(much % 32);
                self.serve(at);
            }
            2 => self.serve(at),
            3 => self.reply(at, Outcome::Answered),
            4 => self.reply(at, Outcome::Throttled { retry_after: None }),
            5 => self.reply(at, Outcome::Throttled { retry_after: Some(number * 1000) }),
            6 => self.reply(at, Outcome::Failed),
            7 => {
                if let Decision::Send(slot) = self.replicas[at].desk.acquire(self.now) {
                    self.replicas[at].desk.cancel(slot, self.now);
                }
            }
            8 => self.now += number,
            9 => self.now += number * 100,
            10 => self.look(at, usize::from(much)),
            11 => self.replicas[at] = self.started(),
            12 => self.spoil(usize::from(much), who),
            13 => self.replicas[at].desk.notified(self.now),
            14 => {
                let quota = Quota {
                    limit: (much & 1 == 0).then(|| f64::from(much)),
                    window: (much & 2 == 0).then_some(number * 100),
                    remaining: f64::from(much >> 3),
                    reset: number * 100,
                };
                self.replicas[at].desk.told(quota);
                self.reply(at, Outcome::Answered);
            }
            _ => self.replicas[at].wants = 0,
        }
        let machine = self.replicas[at].desk.machine();
        assert!(machine.budget().is_none_or(|n| n.is_finite() && n > 0.0));
        assert!(machine.rate().is_none_or(|rate| rate.is_finite() && rate >= 0.0));
    }

    fn want(&self, at: usize) -> Option<Want> {
        let count = self.replicas[at].wants;
        (count > 0).then_some(Want { count, age: Duration::ZERO, last: false })
    }

    /// Whatever the desk has to do with the store, until it rests; then what may go, goes.
    fn serve(&mut self, at: usize) {
        for _ in 0..100 {
            let want = self.want(at);
            match self.replicas[at].desk.todo(want, self.now) {
                Todo::Read => self.turn(at, 0),
                Todo::Glance => self.replicas[at].desk.glanced(self.store.closed_at(), self.now, self.now),
                Todo::Rest(until) => {
                    assert!(until > self.now, "it rests until {until:?}, which is over");
                    break;
                }
            }
        }
        let replica = &mut self.replicas[at];
        while replica.wants > 0 {
            let Decision::Send(slot) = replica.desk.acquire(self.now) else { return };
            if !replica.desk.is_current(&slot, self.now) {
                replica.desk.cancel(slot, self.now);
                return;
            }
            replica.desk.sending();
            replica.sent.push_back(slot);
            replica.wants -= 1;
        }
    }

    /// A turn as the desk asked for it. `fault`: nothing, the store was not reached, the row was not written, or it was and nobody
    /// heard of it.
    fn turn(&mut self, at: usize, fault: usize) {
        let want = self.want(at);
        let (store, now) = (&self.store, self.now);
        let desk = &mut self.replicas[at].desk;
        if fault % 4 == 1 {
            return desk.unreachable(now);
        }
        let Some(written) = desk.read(&store.read_at(now), want, now, now) else { return };
        match fault % 4 {
            2 => desk.wrote(false, now),
            3 => {
                store.write_now(written);
                desk.unreachable(now);
            }
            _ => {
                let is_written = store.write_now(written);
                desk.wrote(is_written, now);
            }
        }
    }

    fn look(&mut self, at: usize, fault: usize) {
        let want = self.want(at);
        if self.replicas[at].desk.todo(want, self.now) == Todo::Read {
            self.turn(at, fault);
        } else {
            self.replicas[at].desk.unreachable(self.now);
        }
    }

    fn reply(&mut self, at: usize, outcome: Outcome) {
        let replica = &mut self.replicas[at];
        if let Some(slot) = replica.sent.pop_front() {
            replica.desk.reply(slot, outcome, self.now);
        }
    }

    /// Somebody wrote something else into the row.
    fn spoil(&mut self, place: usize, byte: u8) {
        let read = self.store.read_at(self.now);
        let mut text = read.text.unwrap_or_default().into_bytes();
        let place = place * text.len() / 256;
        if byte.is_multiple_of(2) {
            text.truncate(place);
        } else if let Some(digit) = text[place..].iter_mut().find(|byte| byte.is_ascii_digit()) {
            *digit = b'0' + byte % 10;
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let row = Row::from_text(&text, &self.settings, self.now);
        let closed_at = row.closed_at();
        drop(Row::memory_of(&text));
        self.store.write_now(Written { version: read.version, text: row.to_text(), closed_at });
    }

    /// When nobody refuses and nobody dies any more, requests go out again, of each replica.
    fn ends_well(mut self) {
        for at in 0..self.replicas.len() {
            while !self.replicas[at].sent.is_empty() {
                self.reply(at, Outcome::Answered);
            }
            self.replicas[at].wants = 1;
        }
        let end = self.now + PATIENCE;
        let mut leap = LIFE;
        while self.replicas.iter().any(|replica| replica.wants > 0) {
            // Step by step, as replicas do that live; then a leap, for pauses and windows that are long.
            for _ in 0..12 {
                for at in 0..self.replicas.len() {
                    self.serve(at);
                    self.reply(at, Outcome::Answered);
                }
                self.now += Duration::from_millis(250);
            }
            self.now += leap;
            leap = (leap * 2).min(Duration::from_secs(3600));
            assert!(self.now <= end, "nothing is sent for ever");
        }
    }
}
