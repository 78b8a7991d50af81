//! The row: the machine that all replicas share, and who holds which of its slots. Pure; times are the store's.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;

use crate::limiter::Algorithm;
use crate::limiter::Outcome;
use crate::limiter::Settings;
use crate::limiter::machine::Decision;
use crate::limiter::machine::Machine;
use crate::limiter::machine::Slot;
use crate::limiter::machine::SlotKind;
use crate::limiter::machine::count;
use crate::limiter::memory::Memory;
use crate::limiter::quota::Quota;

/// A replica that takes no turn for so long is taken for dead: what it holds counts as sent by then.
pub const LIFE: Duration = Duration::from_secs(10);

/// A block is about this part of the limit.
pub const BLOCKS: f64 = 10.0;

/// A block where no limit is known.
const FREE_BLOCK: f64 = 32.0;

/// Whoever waits asks again sooner than this, or waits no more.
const WAITS: Duration = Duration::from_millis(1500);

/// Evenly spaced slots are given so far ahead, so that they can be nearer to each other than two turns are.
const AHEAD: Duration = Duration::from_millis(250);

/// A store whose clock is behind the row by more than this was replaced by one with another clock.
const CLOCK_STEP: Duration = Duration::from_secs(5);

/// What all replicas know.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// What the machine was made for: the settings of the replica that was started last.
    settings: Settings,
    /// When it was.
    #[serde(default)]
    settled: Duration,
    machine: Machine,
    /// The machine's time: it never goes back.
    at: Duration,
    /// Before then nothing is free, unless a slot is given back unused or the gate moves.
    due: Option<Duration>,
    replicas: BTreeMap<String, Replica>,
}

/// What one replica holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Replica {
    turn: u64,
    lease: Duration,
    /// When it was last given something.
    served: Duration,
    held: Vec<Held>,
    waits: Option<Waits>,
}

/// Slots of which one is as good as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    granted: Duration,
    kind: SlotKind,
    count: usize,
}

/// It needs more than it was given.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Waits {
    want: Want,
    since: Duration,
    until: Duration,
}

/// What a replica would send if it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// So many requests.
    pub count: usize,
    /// The first in line has waited for so long.
    pub age: Duration,
    /// It goes only when nothing else waits.
    pub last: bool,
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    /// It was not used.
    Unused,
    /// A request was sent.
    Sent {
        /// What became of it.
        outcome: Outcome,
        /// What the answer said of the limit.
        told: Option<Quota>,
    },
}

impl Fate {
    /// Whether it was answered 429.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Sent { outcome: Outcome::Throttled { .. }, .. })
    }
}

/// What became of a slot, and how long ago.
#[derive(Debug, PartialEq)]
pub struct Told {
    /// The slot as it was given.
    pub slot: Slot,
    /// What became of it.
    pub fate: Fate,
    /// So long before the row was read.
    pub age: Duration,
}

/// One turn of a replica.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Whose.
    pub replica: &'a str,
    /// One more than the number of its last turn.
    pub number: u64,
    /// When it was started.
    pub started: Duration,
    /// What became of its slots, the oldest first.
    pub told: &'a [Told],
    /// How many it has beside those.
    pub holds: usize,
    /// What it needs.
    pub want: Option<Want>,
}

/// When it is worth to ask again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// When what was given is spent.
    #[default]
    Spent,
    /// As soon as something happens.
    Soon,
    /// Then.
    At(Duration),
}

/// What a turn gave.
#[derive(Debug, Default)]
pub struct Given {
    /// Slots, and when each may be used.
    pub slots: Vec<(Slot, Duration)>,
    /// Whether it was all.
    pub again: Again,
}

impl Row {
    /// A row that has learned nothing.
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            settled: Duration::ZERO,
            machine: Machine::new(settings),
            at: Duration::ZERO,
            due: None,
            replicas: BTreeMap::new(),
        }
    }

    /// A row for replicas to begin with what one process had learned.
    pub fn of_memory(memory: Memory, now: Duration) -> Self {
        let algorithm = if memory.rate.is_some() { Algorithm::Adaptive } else { Algorithm::Budget };
        let window = |(n, window)| Some((n, Duration::try_from_secs_f64(window).ok()?));
        // Whatever was learned is taken up; the settings of the replicas say later what of it may be used.
        let limit = memory.limit.and_then(window);
        let settings = Settings { algorithm, limit, probe: true, ..Settings::default() };
        let mut row = Self::new(&settings);
        memory.restore(&mut row.machine, &settings, SystemTime::UNIX_EPOCH + now, now);
        row.at = now;
        row
    }

    /// What a row has learned, for one process to begin with; `None` for a text that is no row.
    pub fn memory_of(text: &str) -> Option<Memory> {
        let row: Self = serde_json::from_str(text).ok()?;
        Some(Memory::of(&row.machine, &row.settings, row.held() > 0, row.at, SystemTime::UNIX_EPOCH + row.at))
    }

    /// Reads what `to_text` wrote. What cannot be read is said and learned again, and the whole limit counts as spent just now.
    pub fn from_text(text: &str, settings: &Settings, now: Duration) -> Self {
        let row: Result<Self, _> = serde_json::from_str(text);
        let mut row = row.unwrap_or_else(|error| {
            tracing::warn!(
                %error,
                "what the replicas know of the rate limit cannot be read: it is learned again, and one window is waited for"
            );
            let mut row = Self::new(settings);
            if let Machine::Budget(budget) = &mut row.machine {
                budget.assume_spent(now);
            }
            row
        });
        row.machine.set_in_flight(row.held());
        row.machine.used(row.at);
        row
    }

    /// As JSON.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| unreachable!("no map has keys that are no text: {error}"))
    }

    /// The machine as of the last turn, and its time.
    pub fn into_machine(self) -> (Machine, Duration) {
        (self.machine, self.at)
    }

    /// When the gate last closed: leave that was given until then is void.
    pub fn closed_at(&self) -> Option<Duration> {
        self.machine.gate().closed_at()
    }

    /// The number of that replica's last turn.
    pub fn last_turn(&self, replica: &str) -> Option<u64> {
        self.replicas.get(replica).map(|replica| replica.turn)
    }

    /// Slots that replicas hold, sent or not.
    pub fn held(&self) -> usize {
        self.replicas.values().map(Replica::holds).sum()
    }

    /// What is in force: what the replica that was started last was told. Replicas that were told different things do not
    /// make the machine anew in turns.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether that replica waits, or holds a slot.
    pub fn knows(&self, replica: &str) -> bool {
        self.replicas.get(replica).is_some_and(|replica| replica.waits.is_some() || !replica.held.is_empty())
    }

    /// One turn: what became of slots, who died, and a block for whom it is due.
    pub fn turn(&mut self, turn: &Turn<'_>, settings: &Settings, now: Duration) -> Given {
        let is_younger = turn.started > self.settled;
        if is_younger && *settings != self.settings {
            self.begin_anew(settings, now);
        } else if now + CLOCK_STEP < self.at {
            self.begin_anew(&self.settings.clone(), now);
        }
        // A store whose clock was set back has nobody who was started later.
        self.settled = self.settled.min(now).max(turn.started);
        self.bury(turn.replica, now);
        for told in turn.told {
            self.at = self.at.max(now.saturating_sub(told.age));
            self.settle(turn.replica, told);
        }
        self.lose(turn.replica, turn.holds);
        self.at = self.at.max(now);
        let replica = self.replicas.entry(turn.replica.to_owned()).or_default();
        (replica.turn, replica.lease, replica.waits) = (turn.number, now + LIFE, None);
        let Some(want) = turn.want else { return Given::default() };
        let given = self.give(turn.replica, want, now);
        let replica = self.replicas.entry(turn.replica.to_owned()).or_default();
        if !given.slots.is_empty() {
            replica.served = self.at;
        }
        let count = want.count.saturating_sub(given.slots.len());
        replica.waits = (count > 0).then(|| Waits {
            want: Want { count, ..want },
            since: now.saturating_sub(want.age),
            until: now + WAITS,
        });
        given
    }

    /// Keeps what a restart would: what is in use, the gate, and what was learned under the same limit.
    fn begin_anew(&mut self, settings: &Settings, now: Duration) {
        let clock = |at: Duration| SystemTime::UNIX_EPOCH + at;
        let memory = Memory::of(&self.machine, &self.settings, false, self.at, clock(self.at));
        let mut machine = Machine::new(settings);
        memory.restore(&mut machine, settings, clock(now), now);
        for _ in 0..self.held() {
            machine.found();
        }
        for replica in self.replicas.values_mut() {
            (replica.lease, replica.waits) = (now + LIFE, None);
        }
        (self.settings, self.machine, self.at) = (settings.clone(), machine, now);
    }

    fn settle(&mut self, replica: &str, told: &Told) {
        let slot = Slot { sent: told.slot.sent, kind: told.slot.kind };
        if told.fate == Fate::Unused || slot.kind != SlotKind::Plain || told.fate.is_refusal() {
            self.due = None;
        }
        let is_held = self.replicas.get_mut(replica).is_some_and(|replica| replica.gives_back(&slot));
        match told.fate {
            Fate::Unused if is_held => self.machine.cancel(slot),
            Fate::Sent { outcome, told: quota } => {
                if !is_held {
                    // It was given up for dead and counted then; but a refusal is news.
                    if !told.fate.is_refusal() {
                        return;
                    }
                    self.machine.found();
                }
                if let Some(quota) = quota {
                    self.machine.told(&slot, quota, self.at);
                }
                self.machine.reply(slot, outcome, self.at);
            }
            Fate::Unused => {}
        }
    }

    /// What the dead held may have been sent.
    fn bury(&mut self, alive: &str, now: Duration) {
        let mut dead = Vec::new();
        self.replicas.retain(|name, replica| {
            replica.waits = replica.waits.filter(|waits| waits.until > now);
            replica.lease = replica.lease.min(now + LIFE);
            let is_dead = name != alive && replica.lease <= now;
            if is_dead {
                dead.push(std::mem::take(replica));
            }
            !is_dead
        });
        dead.sort_by_key(|replica| replica.lease);
        for Replica { lease, held, .. } in dead {
            self.at = self.at.max(lease);
            for held in held {
                self.fail(held);
            }
        }
    }

    /// What a replica is said to hold and knows nothing of: somebody else changed the row, and nobody would ever tell what
    /// became of it. Like what the dead held it may have been sent.
    fn lose(&mut self, replica: &str, holds: usize) {
        let Some(replica) = self.replicas.get_mut(replica) else { return };
        let mut surplus = replica.holds().saturating_sub(holds);
        let mut lost = Vec::new();
        replica.held.retain_mut(|held| {
            let count = held.count.min(surplus);
            surplus -= count;
            held.count -= count;
            lost.push(Held { count, ..*held });
            held.count > 0
        });
        for lost in lost {
            self.fail(lost);
        }
    }

    fn fail(&mut self, held: Held) {
        let Held { granted, kind, count } = held;
        for _ in 0..count {
            self.machine.reply(Slot { sent: granted, kind }, Outcome::Failed, self.at);
        }
    }

    fn give(&mut self, name: &str, want: Want, now: Duration) -> Given {
        let Some(most) = self.share(name, want, now) else {
            return Given {
                slots: Vec::new(),
                again: self.due.filter(|&due| due > now).map_or(Again::Soon, Again::At),
            };
        };
        let mut given = Given::default();
        while given.slots.len() < most {
            match self.machine.acquire(self.at) {
                Decision::Send(slot) => {
                    self.replicas.entry(name.to_owned()).or_default().takes(&slot);
                    given.slots.push((slot, self.at));
                }
                Decision::WaitUntil(due) if self.is_paced() && due > self.at && due <= now + AHEAD => self.at = due,
                Decision::WaitUntil(due) => {
                    self.due = Some(due);
                    given.again = Again::At(due);
                    break;
                }
                Decision::WaitForReply => {
                    given.again = Again::Soon;
                    break;
                }
            }
        }
        given
    }

    /// How many slots that replica may be given; `None`: all that is free is for those who wait longer.
    fn share(&mut self, name: &str, want: Want, now: Duration) -> Option<usize> {
        if self.machine.gate().is_closed() {
            return Some(1);
        }
        let (at, paced) = (self.at, self.is_paced());
        let used = count(self.machine.used(at));
        let limit = self.machine.budget();
        let block = limit.map_or(FREE_BLOCK, |n| (n / BLOCKS).ceil().max(1.0));
        let mut free = limit.map_or(f64::INFINITY, |n| (n.floor() - used).max(0.0));
        if paced {
            let turns = 1.0 + (AHEAD.as_secs_f64() * self.machine.rate().unwrap_or(f64::INFINITY)).floor();
            free = free.min(turns);
        }
        let is_plenty = !paced && limit.is_none_or(|n| used < n / 2.0);
        let served = self.replicas.get(name).map_or(Duration::ZERO, |replica| replica.served);
        let mine = (want.last, now.saturating_sub(want.age), served, name);
        let others = self.replicas.iter().filter_map(|(other, replica)| {
            let waits = replica.waits.filter(|_| other != name)?;
            Some(((waits.want.last, waits.since, replica.served, other.as_str()), count(waits.want.count)))
        });
        let (mut before, mut waiting) = (0.0, 1.0);
        for (other, wants) in others {
            before += if other < mine { wants } else { 0.0 };
            waiting += 1.0;
        }
        if before > 0.0 && free <= before {
            return None;
        }
        let share = ((free - before) / waiting).ceil();
        let wants = if is_plenty { block } else { count(want.count) };
        Some(whole(block.min(share).min(wants).max(1.0)))
    }

    fn is_paced(&self) -> bool {
        self.machine.is_paced() && !self.machine.gate().is_closed()
    }
}

impl Replica {
    fn holds(&self) -> usize {
        self.held.iter().map(|held| held.count).sum()
    }

    fn takes(&mut self, slot: &Slot) {
        match self.held.iter_mut().find(|held| held.granted == slot.sent && held.kind == slot.kind) {
            Some(held) => held.count += 1,
            None => self.held.push(Held { granted: slot.sent, kind: slot.kind, count: 1 }),
        }
    }

    /// False where it does not hold that slot.
    fn gives_back(&mut self, slot: &Slot) -> bool {
        let is_it = |held: &Held| held.granted == slot.sent && held.kind == slot.kind && held.count > 0;
        let Some(place) = self.held.iter().position(is_it) else { return false };
        self.held[place].count -= 1;
        if self.held[place].count == 0 {
            self.held.remove(place);
        }
        true
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of slots, and the cast saturates")]
fn whole(slots: f64) -> usize {
    slots as usize
}
