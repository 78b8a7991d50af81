//! One replica's desk: hands out the slots of its block, and says when the row has to be asked. No clock, no I/O.
//!
//! Whoever drives it asks [`Desk::todo`], does that one thing, and tells what came of it. Times are the replica's own, from an origin that
//! the caller chooses, and never go back.

use std::time::Duration;

use crate::limiter::Outcome;
use crate::limiter::Settings;
use crate::limiter::machine::Decision;
use crate::limiter::machine::Machine;
use crate::limiter::machine::Slot;
use crate::limiter::machine::SlotKind;
use crate::limiter::quota::Quota;
use crate::limiter::shared::row::Again;
use crate::limiter::shared::row::Fate;
use crate::limiter::shared::row::Given;
use crate::limiter::shared::row::LIFE;
use crate::limiter::shared::row::Row;
use crate::limiter::shared::row::Told;
use crate::limiter::shared::row::Turn;
use crate::limiter::shared::row::Want;
use crate::limiter::shared::store::Read;
use crate::limiter::shared::store::Written;

/// When a request goes, the row was read no longer ago.
pub const FRESH: Duration = Duration::from_millis(250);

/// A request that goes so long before the replica is taken for dead has arrived by then.
const MARGIN: Duration = Duration::from_secs(2);

/// What was not needed so long after it was given is given back.
const IDLE: Duration = Duration::from_secs(1);

/// Replies are told in turns that are needed anyway, but no later than this; where windows are short, than this part of one.
const TELLS: Duration = Duration::from_millis(250);
const TELLS_PART: u32 = 50;

/// Who waits asks again after so long, where nothing says when, and where something does.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(1);

/// The store is tried again after so long.
const RETRY: Duration = Duration::from_millis(500);

/// Whoever needs nothing looks now and then, for what it shows.
const LOOKS: Duration = Duration::from_secs(5);

/// What is to be done with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// Read the row, and tell `Desk::read`.
    Read,
    /// Look when the gate last closed, and tell `Desk::glanced`.
    Glance,
    /// Nothing until then.
    Rest(Duration),
}

/// The state.
#[derive(Debug)]
pub struct Desk {
    name: String,
    settings: Settings,
    /// When it looked first, by the store's clock.
    started: Option<Duration>,
    /// Others are in force, and it was said.
    is_overruled: bool,
    rng: fastrand::Rng,
    /// What the row's machine was when it was last read, its time, and ours then.
    view: Machine,
    view_at: Duration,
    looked: Option<Duration>,
    /// When the gate last closed, by all that was read; and since when nothing newer can have been missed.
    closed_at: Option<Duration>,
    seen: Option<Duration>,
    /// The latest slot that was given, and the latest that had been when a request was refused here: the row closes the gate for
    /// all, but only at the next turn.
    newest: Duration,
    refused: Option<Duration>,
    /// Slots to hand out, and when each may go.
    unspent: Vec<(Slot, Duration)>,
    /// Permits out: not sent yet, and under way.
    unsent: usize,
    in_flight: usize,
    /// Nothing is sent later than this.
    until: Duration,
    renewed: Duration,
    /// When the latest of them came.
    given_at: Duration,
    /// What is to be told, and when it happened.
    reports: Vec<(Slot, Fate, Duration)>,
    quota: Option<Quota>,
    asks_at: Duration,
    /// What is under way with the store.
    busy: bool,
    closing: bool,
    retry_at: Duration,
    conflicts: u32,
    turns: u64,
    pending: Option<Pending>,
}

/// A turn that was written, or may have been.
#[derive(Debug)]
struct Pending {
    number: u64,
    told: Vec<(Slot, Fate, Duration)>,
    given: Given,
    machine: Machine,
    at: Duration,
    /// When the row was read: at the earliest, and at the latest with the store's clock.
    began: Duration,
    read: Duration,
    now: Duration,
    wrote: Duration,
}

impl Desk {
    /// A desk that knows nothing yet. No two replicas, and no two lives of one, have the same name.
    pub fn new(name: String, settings: Settings) -> Self {
        let seed = name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let zero = Duration::ZERO;
        Self {
            name,
            rng: fastrand::Rng::with_seed(seed),
            view: Machine::new(&settings),
            settings,
            started: None,
            is_overruled: false,
            view_at: zero,
            looked: None,
            closed_at: None,
            seen: None,
            newest: zero,
            refused: None,
            unspent: Vec::new(),
            unsent: 0,
            in_flight: 0,
            until: zero,
            renewed: zero,
            given_at: zero,
            reports: Vec::new(),
            quota: None,
            asks_at: zero,
            busy: false,
            closing: false,
            retry_at: zero,
            conflicts: 0,
            turns: 0,
            pending: None,
        }
    }

    /// Asks for a slot; where there is none, for as long as nothing comes from the store.
    pub fn acquire(&mut self, now: Duration) -> Decision {
        self.sweep(now);
        if !self.is_fresh(now) {
            return Decision::WaitForReply;
        }
        let first = (0..self.unspent.len()).min_by_key(|&place| self.unspent[place].1);
        match first {
            Some(place) if self.unspent[place].1 <= now => {
                self.unsent += 1;
                Decision::Send(self.unspent.remove(place).0)
            }
            Some(place) => Decision::WaitUntil(self.unspent[place].1),
            None => Decision::WaitForReply,
        }
    }

    /// Whether a request may go with that slot now.
    pub fn is_current(&self, slot: &Slot, now: Duration) -> bool {
        self.is_fresh(now) && now < self.until && self.is_valid(slot)
    }

    /// The request goes out.
    pub fn sending(&mut self) {
        self.unsent = self.unsent.saturating_sub(1);
        self.in_flight += 1;
    }

    /// It did not go after all.
    pub fn cancel(&mut self, slot: Slot, now: Duration) {
        self.unsent = self.unsent.saturating_sub(1);
        if slot.kind == SlotKind::Plain && self.is_valid(&slot) && now < self.until {
            self.unspent.push((slot, now));
        } else {
            self.reports.push((slot, Fate::Unused, now));
        }
    }

    /// What the answer said of the limit, right before its `reply`.
    pub fn told(&mut self, quota: Quota) {
        self.quota = Some(quota);
    }

    /// What became of a request that was sent.
    pub fn reply(&mut self, slot: Slot, outcome: Outcome, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let told = self.quota.take();
        let fate = Fate::Sent { outcome, told };
        // What was refused for what is known already closes nothing anew.
        if fate.is_refusal() && self.is_valid(&slot) {
            // Those that are being given know nothing of it either.
            let given = self.pending.iter().flat_map(|pending| &pending.given.slots);
            self.refused = Some(given.map(|(slot, _)| slot.sent).fold(self.newest, Duration::max));
        }
        self.reports.push((slot, fate, now));
        self.sweep(now);
    }

    /// The machine as this replica last saw it, and its time at `now`.
    pub fn view(&mut self, now: Duration) -> (&mut Machine, Duration) {
        let at = self.view_at + now.saturating_sub(self.looked.unwrap_or(now));
        (&mut self.view, at)
    }

    /// The machine as this replica last saw it.
    pub fn machine(&self) -> &Machine {
        &self.view
    }

    /// Nothing more is asked for: what is not used is given back at once.
    pub fn close(&mut self, now: Duration) {
        self.closing = true;
        self.give_up_unspent(now);
    }

    /// Whether all has been told after it was closed.
    pub fn is_done(&self) -> bool {
        let has_told = self.reports.is_empty() && self.pending.is_none();
        self.closing && has_told && self.unsent + self.in_flight == 0
    }

    /// How long ago the row was last read.
    pub fn age(&self, now: Duration) -> Option<Duration> {
        self.seen.map(|seen| now.saturating_sub(seen))
    }

    /// What to do with the store. `wants`: who waits for a slot, if anybody.
    pub fn todo(&mut self, wants: Option<Want>, now: Duration) -> Todo {
        self.sweep(now);
        if self.busy {
            return Todo::Rest(Duration::MAX);
        }
        if now < self.retry_at {
            return Todo::Rest(self.retry_at);
        }
        if wants.is_none() && now >= self.given_at + IDLE {
            self.give_up_unspent(now);
        }
        let turn_at = self.turn_at(wants.is_some(), now);
        if now >= turn_at {
            self.busy = true;
            return Todo::Read;
        }
        let may_send = self.unsent > 0 || (wants.is_some() && !self.unspent.is_empty());
        let glance_at = match self.seen {
            // Early enough for nothing to wait for it.
            Some(seen) if may_send => seen + FRESH / 2,
            Some(_) | None => Duration::MAX,
        };
        if now >= glance_at {
            self.busy = true;
            return Todo::Glance;
        }
        let idle_at = if self.unspent.is_empty() { Duration::MAX } else { self.given_at + IDLE };
        Todo::Rest(turn_at.min(glance_at).min(idle_at.max(now + Duration::from_millis(1))))
    }

    /// The gate last closed then, by what was asked at `began`.
    pub fn glanced(&mut self, closed_at: Option<Duration>, began: Duration, now: Duration) {
        self.busy = false;
        self.conflicts = 0;
        self.saw(closed_at, began);
        self.sweep(now);
    }

    /// The row, asked for at `began`. What is to be written, if anything: then tell `Desk::wrote`.
    pub fn read(&mut self, read: &Read, wants: Option<Want>, began: Duration, now: Duration) -> Option<Written> {
        let started = *self.started.get_or_insert(read.now);
        let mut row = match &read.text {
            Some(text) => Row::from_text(text, &self.settings, read.now),
            None => Row::new(&self.settings),
        };
        self.resolve(&row, now);
        self.saw(row.closed_at(), began);
        self.sweep(now);
        let wants = wants.filter(|_| self.unspent.is_empty());
        let holds = self.unspent.len() + self.unsent + self.in_flight;
        if self.reports.is_empty() && wants.is_none() && holds == 0 && !row.knows(&self.name) {
            self.busy = false;
            self.looked(row, now);
            return None;
        }
        let reports = std::mem::take(&mut self.reports);
        let tell = |(slot, fate, at): &(Slot, Fate, Duration)| Told {
            slot: Slot { sent: slot.sent, kind: slot.kind },
            fate: *fate,
            age: now.saturating_sub(*at),
        };
        let told: Vec<Told> = reports.iter().map(tell).collect();
        self.turns += 1;
        let turn = Turn { replica: &self.name, number: self.turns, started, told: &told, holds, want: wants };
        let given = row.turn(&turn, &self.settings, read.now);
        self.follow(row.settings());
        let written = Written { version: read.version, text: row.to_text(), closed_at: row.closed_at() };
        let (machine, at) = row.into_machine();
        let number = self.turns;
        let pending =
            Pending { number, told: reports, given, machine, at, began, read: now, now: read.now, wrote: now };
        self.pending = Some(pending);
        Some(written)
    }

    fn follow(&mut self, in_force: &Settings) {
        let is_overruled = *in_force != self.settings;
        if is_overruled && !self.is_overruled {
            tracing::warn!(
                "another replica with this rateLimit.egress was started later, with other settings of rateLimit: those are in \
                 force for all; give every replica the same, or those that leave through another address another egress"
            );
        }
        self.is_overruled = is_overruled;
    }

    /// Whether the row was written; `false`: somebody else was quicker.
    pub fn wrote(&mut self, is_written: bool, now: Duration) {
        self.busy = false;
        if is_written {
            self.conflicts = 0;
            self.accept(now);
            return;
        }
        self.refuse();
        self.conflicts += 1;
        let took = self.pending.take().map_or(Duration::ZERO, |pending| now.saturating_sub(pending.began));
        // Those who met do not meet again.
        self.retry_at = now + took.mul_f64(self.rng.f64() * f64::from(self.conflicts.min(4)));
    }

    /// The store gave no answer to what was asked. A row that was to be written may have been.
    pub fn unreachable(&mut self, now: Duration) {
        self.busy = false;
        self.retry_at = now + RETRY.mul_f64(0.5 + self.rng.f64());
    }

    /// The store may have changed: whoever waits asks again.
    pub fn notified(&mut self, now: Duration) {
        self.asks_at = self.asks_at.min(now);
    }

    fn turn_at(&self, wants: bool, now: Duration) -> Duration {
        let mut at = self.looked.map_or(now, |looked| looked + LOOKS);
        if wants && self.unspent.is_empty() {
            at = at.min(self.asks_at);
        }
        if let Some(&(_, _, first)) = self.reports.first() {
            let is_news = |fate: &Fate| self.closing || *fate == Fate::Unused || fate.is_refusal();
            let is_urgent = self.reports.iter().any(|(slot, fate, _)| slot.kind != SlotKind::Plain || is_news(fate));
            let window = self.settings.limit.map_or(Duration::MAX, |(_, window)| window);
            at = at.min(if is_urgent { now } else { first + TELLS.min(window / TELLS_PART) });
        }
        if !self.unspent.is_empty() || self.unsent + self.in_flight > 0 {
            at = at.min(self.renewed + LIFE / 3);
        }
        if self.closed_at > self.view.gate().closed_at() {
            // It closed since: what is shown is out of date.
            at = at.min(self.looked.map_or(now, |looked| looked + SOON));
        }
        // Whether it was written is soon known.
        if self.pending.is_some() { now } else { at }
    }

    fn is_fresh(&self, now: Duration) -> bool {
        self.seen.is_some_and(|seen| now <= seen + FRESH)
    }

    fn closed_at(&self) -> Option<Duration> {
        self.closed_at.max(self.refused)
    }

    fn is_valid(&self, slot: &Slot) -> bool {
        self.closed_at().is_none_or(|closed_at| slot.sent > closed_at)
    }

    /// What was given before the gate closed, or too long ago, is not used any more.
    fn sweep(&mut self, now: Duration) {
        if now >= self.until {
            self.give_up_unspent(now);
        }
        let closed_at = self.closed_at();
        let is_void = |(slot, _): &mut (Slot, Duration)| closed_at.is_some_and(|closed_at| slot.sent <= closed_at);
        let void = self.unspent.extract_if(.., is_void);
        self.reports.extend(void.map(|(slot, _)| (slot, Fate::Unused, now)));
    }

    fn give_up_unspent(&mut self, now: Duration) {
        self.reports.extend(self.unspent.drain(..).map(|(slot, _)| (slot, Fate::Unused, now)));
    }

    fn saw(&mut self, closed_at: Option<Duration>, began: Duration) {
        self.closed_at = self.closed_at.max(closed_at);
        self.seen = self.seen.max(Some(began));
    }

    fn looked(&mut self, row: Row, now: Duration) {
        (self.view, self.view_at) = row.into_machine();
        self.looked = Some(now);
    }

    /// What became of a turn whose writing was not answered.
    fn resolve(&mut self, row: &Row, now: Duration) {
        let Some(pending) = &self.pending else { return };
        if row.last_turn(&self.name) >= Some(pending.number) {
            self.accept(now);
        } else {
            self.refuse();
            self.pending = None;
        }
    }

    fn accept(&mut self, now: Duration) {
        let Some(pending) = self.pending.take() else { return };
        let Pending { given, machine, at, began, read, now: store, wrote, .. } = pending;
        self.until = began + LIFE.saturating_sub(MARGIN);
        self.renewed = began;
        self.asks_at = match given.again {
            Again::Spent => now,
            Again::Soon => now + SOON,
            Again::At(due) => (read + due.saturating_sub(store)).min(now + LATER),
        };
        if !given.slots.is_empty() {
            self.given_at = now;
        }
        self.newest = given.slots.iter().map(|(slot, _)| slot.sent).fold(self.newest, Duration::max);
        let slots = given.slots.into_iter().map(|(slot, due)| (slot, read + due.saturating_sub(store)));
        self.unspent.extend(slots);
        // Nobody wrote the row in between, so it still was as it was read.
        self.saw(machine.gate().closed_at(), wrote);
        (self.view, self.view_at, self.looked) = (machine, at, Some(read));
        self.sweep(now);
    }

    /// It was not written: what it was to tell is told again.
    fn refuse(&mut self) {
        if let Some(pending) = &mut self.pending {
            let later = std::mem::take(&mut self.reports);
            self.reports = std::mem::take(&mut pending.told);
            self.reports.extend(later);
        }
    }
}
