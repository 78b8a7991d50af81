//! Several desks, a store that takes its time and fails, and a server that counts, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::time::Duration;

use super::START;
use super::ms;
use crate::limiter::Outcome;
use crate::limiter::Settings;
use crate::limiter::machine::Decision;
use crate::limiter::machine::Slot;
use crate::limiter::shared::desk::Desk;
use crate::limiter::shared::desk::FRESH;
use crate::limiter::shared::desk::Todo;
use crate::limiter::shared::row::Row;
use crate::limiter::shared::row::Want;
use crate::limiter::shared::store::InMemory;
use crate::limiter::shared::store::Read;
use crate::limiter::shared::store::Written;

/// Whoever has waited for so long is known to the others.
const KNOWN: Duration = Duration::from_secs(1);

/// What is tried.
#[derive(Debug, Clone)]
pub struct Trial {
    pub seed: u64,
    pub replicas: usize,
    pub settings: Settings,
    /// What the server admits in any window; more locks out for one.
    pub truth: usize,
    /// Requests per second and replica, in bursts.
    pub rate: f64,
    /// The slowest call to the store, in milliseconds.
    pub store_ms: u64,
    /// One of so many calls to the store is lost, before or after it was carried out; 0: none.
    pub lost: u32,
    /// Replicas die, and stand still and go on, once in so many seconds; 0: never.
    pub faults_s: u64,
    pub lasts: Duration,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub arrived: Vec<Duration>,
    pub refused: usize,
    /// Sent with the gate closed for longer than a glance may be old, and no trial.
    pub into_closed: usize,
    /// Trials that were under way at once.
    pub trials: usize,
    /// How long one had still to wait after a block had gone to one that asked later.
    pub overtaken: Duration,
    /// How many the last replica sent at once, when all was over.
    pub at_last: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ask(usize),
    Wake(usize),
    Arrive(usize),
    Reply(usize),
    Store(usize),
    Back(usize),
    Fault,
    Resume(usize),
    Last,
}

struct Replica {
    desk: Desk,
    clock: Duration,
    /// It stands still, or is dead.
    still: bool,
    dead: bool,
    missed: Vec<Event>,
    waiting: VecDeque<Duration>,
    /// When what it sent last was given.
    block: Option<Duration>,
    /// Since when one that asked later has been served before.
    overtaken: Option<Duration>,
    wake_at: Option<Duration>,
    call: Option<(Call, Duration)>,
}

/// When the gate last closed.
type Closed = Option<Duration>;

enum Call {
    Read(Option<Read>),
    Glance(Option<Closed>),
    Write(Written, Option<bool>),
}

struct Request {
    replica: usize,
    slot: Option<Slot>,
    is_trial: bool,
    takes: Duration,
    outcome: Outcome,
}

pub struct World {
    trial: Trial,
    rng: fastrand::Rng,
    now: Duration,
    sequence: u64,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    store: InMemory,
    replicas: Vec<Replica>,
    requests: Vec<Request>,
    locked_until: Duration,
    closed_since: Option<Duration>,
    trials: usize,
    over: bool,
    seen: Seen,
}

impl World {
    pub fn new(trial: Trial) -> Self {
        let mut world = Self {
            rng: fastrand::Rng::with_seed(trial.seed),
            now: START,
            sequence: 0,
            events: BinaryHeap::new(),
            store: InMemory::default(),
            replicas: Vec::new(),
            requests: Vec::new(),
            locked_until: Duration::ZERO,
            closed_since: None,
            trials: 0,
            over: false,
            seen: Seen::default(),
            trial,
        };
        for _ in 0..world.trial.replicas {
            let number = world.starts();
            world.at(START + ms(1), Event::Ask(number));
        }
        if world.trial.faults_s > 0 {
            world.at(START + Duration::from_secs(1), Event::Fault);
        }
        world
    }

    fn window(&self) -> Duration {
        self.trial.settings.limit.map_or(Duration::MAX, |(_, window)| window)
    }

    /// Everybody is dead in the end. One more starts long afterwards, and sends what it can.
    pub fn run(mut self) -> Seen {
        let end = START + self.trial.lasts;
        let last = end + self.window() * 3 + Duration::from_secs(30);
        self.at(last, Event::Last);
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > last + self.window() * 3 / 4 {
                break;
            }
            if !self.over && at >= end {
                self.over = true;
                self.replicas.iter_mut().for_each(|replica| replica.dead = true);
            }
            self.now = at;
            self.happens(event);
        }
        self.seen.at_last = self.seen.arrived.iter().filter(|&&at| at > last).count();
        self.seen
    }

    fn starts(&mut self) -> usize {
        let number = self.replicas.len();
        self.replicas.push(Replica {
            desk: Desk::new(format!("replica-{number}-{}", self.trial.seed), self.trial.settings.clone()),
            clock: Duration::from_secs(self.rng.u64(0..1000)),
            still: false,
            dead: false,
            missed: Vec::new(),
            waiting: VecDeque::new(),
            block: None,
            overtaken: None,
            wake_at: None,
            call: None,
        });
        number
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn happens(&mut self, event: Event) {
        let concerned = match event {
            Event::Ask(replica) | Event::Wake(replica) | Event::Back(replica) => Some(replica),
            Event::Reply(request) => Some(self.requests[request].replica),
            Event::Arrive(_) | Event::Store(_) | Event::Fault | Event::Resume(_) | Event::Last => None,
        };
        if let Some(replica) = concerned.map(|number| &mut self.replicas[number]) {
            if replica.dead {
                if let Event::Reply(request) = event {
                    self.trials -= usize::from(self.requests[request].is_trial);
                }
                return;
            }
            if replica.still {
                replica.missed.push(event);
                return;
            }
        }
        match event {
            Event::Ask(number) => {
                let burst = self.rng.u32(1..12);
                let asked = std::iter::repeat_n(self.now, burst as usize);
                self.replicas[number].waiting.extend(asked);
                let pause = f64::from(burst) / self.trial.rate * self.rng.f64() * 2.0;
                self.at(self.now + Duration::from_secs_f64(pause), Event::Ask(number));
                self.pump(number);
            }
            Event::Wake(number) => {
                self.replicas[number].wake_at = None;
                self.pump(number);
            }
            Event::Arrive(request) => self.arrives(request),
            Event::Reply(request) => self.replies(request),
            Event::Store(number) => self.reaches_store(number),
            Event::Back(number) => self.store_answers(number),
            Event::Fault => self.fault(),
            Event::Resume(number) => {
                self.replicas[number].still = false;
                for event in std::mem::take(&mut self.replicas[number].missed) {
                    self.happens(event);
                }
            }
            Event::Last => {
                let number = self.starts();
                self.replicas[number].waiting.extend(std::iter::repeat_n(self.now, 1000));
                self.pump(number);
            }
        }
    }

    /// One dies and another starts in its place, or one stands still for a while.
    fn fault(&mut self) {
        if self.over {
            return;
        }
        let next = self.rng.u64(1..=2 * self.trial.faults_s);
        self.at(self.now + Duration::from_secs(next), Event::Fault);
        let number = self.rng.usize(..self.replicas.len());
        let replica = &mut self.replicas[number];
        if replica.dead || replica.still {
            return;
        }
        if self.rng.u32(..3) == 0 {
            replica.dead = true;
            let number = self.starts();
            self.at(self.now + ms(1), Event::Ask(number));
        } else {
            replica.still = true;
            let stands = ms(self.rng.u64(100..30_000));
            self.at(self.now + stands, Event::Resume(number));
        }
    }

    fn pump(&mut self, number: usize) {
        let mut wake = Duration::MAX;
        while !self.replicas[number].waiting.is_empty() {
            let replica = &mut self.replicas[number];
            match replica.desk.acquire(self.now + replica.clock) {
                Decision::Send(slot) => self.send(number, slot),
                Decision::WaitUntil(due) => {
                    wake = due;
                    break;
                }
                Decision::WaitForReply => break,
            }
        }
        let replica = &mut self.replicas[number];
        let wants = replica.wants(self.now);
        match replica.desk.todo(wants, self.now + replica.clock) {
            Todo::Read => self.call(number, Call::Read(None)),
            Todo::Glance => self.call(number, Call::Glance(None)),
            Todo::Rest(until) => wake = wake.min(until),
        }
        let replica = &mut self.replicas[number];
        if wake < Duration::MAX {
            let at = wake.saturating_sub(replica.clock);
            assert!(at > self.now, "asked to wait until a time that has passed");
            if replica.wake_at.is_none_or(|wake| at < wake) {
                replica.wake_at = Some(at);
                self.at(at, Event::Wake(number));
            }
        }
    }

    fn send(&mut self, number: usize, slot: Slot) {
        let replica = &mut self.replicas[number];
        let asked = replica.waiting.pop_front().unwrap_or_default();
        replica.desk.sending();
        let begins_block = self.replicas[number].block.replace(slot.sent) != Some(slot.sent);
        if let Some(since) = self.replicas[number].overtaken.take() {
            self.seen.overtaken = self.seen.overtaken.max(self.now.saturating_sub(since));
        }
        let now = self.now;
        for other in self.replicas.iter_mut().filter(|_| begins_block) {
            if other.waiting.front().is_some_and(|&waits| waits + KNOWN < asked) {
                other.overtaken.get_or_insert(now);
            }
        }
        let is_trial = slot.is_trial();
        self.trials += usize::from(is_trial);
        self.seen.trials = self.seen.trials.max(self.trials);
        let is_late = self.closed_since.is_some_and(|closed| self.now > closed + FRESH);
        self.seen.into_closed += usize::from(is_late && !is_trial);
        let takes = ms(self.rng.u64(20..800));
        let request = self.requests.len();
        self.requests.push(Request { replica: number, slot: Some(slot), is_trial, takes, outcome: Outcome::Answered });
        self.at(self.now + takes / 2, Event::Arrive(request));
    }

    fn arrives(&mut self, index: usize) {
        let window = self.window();
        let held = self.seen.arrived.len() - self.seen.arrived.partition_point(|&at| at + window <= self.now);
        let request = &mut self.requests[index];
        if self.now < self.locked_until || held >= self.trial.truth {
            if self.now >= self.locked_until {
                self.locked_until = self.now + window;
            }
            self.seen.refused += 1;
            let retry_after = Some(self.locked_until.saturating_sub(self.now));
            request.outcome = Outcome::Throttled { retry_after };
        } else {
            self.seen.arrived.push(self.now);
        }
        let back = self.now + request.takes / 2;
        self.at(back, Event::Reply(index));
    }

    fn replies(&mut self, index: usize) {
        let request = &mut self.requests[index];
        let number = request.replica;
        self.trials -= usize::from(request.is_trial);
        let replica = &mut self.replicas[number];
        if let Some(slot) = request.slot.take() {
            replica.desk.reply(slot, request.outcome, self.now + replica.clock);
        }
        self.pump(number);
    }

    fn call(&mut self, number: usize, call: Call) {
        self.replicas[number].call = Some((call, self.now));
        let way = ms(self.rng.u64(1..=self.trial.store_ms));
        self.at(self.now + way / 2, Event::Store(number));
    }

    fn reaches_store(&mut self, number: usize) {
        let is_lost = self.trial.lost > 0 && !self.over && self.rng.u32(..self.trial.lost) == 0;
        let is_carried_out = !is_lost || self.rng.bool();
        let Some((call, began)) = &mut self.replicas[number].call else { return };
        let mut wrote = false;
        if is_carried_out {
            match call {
                Call::Read(answer) => *answer = Some(self.store.read_at(self.now)).filter(|_| !is_lost),
                Call::Glance(answer) => *answer = Some(self.store.closed_at()).filter(|_| !is_lost),
                Call::Write(row, answer) => {
                    wrote = self.store.write_now(row.clone());
                    *answer = Some(wrote).filter(|_| !is_lost);
                }
            }
        }
        let way = if is_lost { ms(1000) } else { self.now.saturating_sub(*began) };
        self.at(self.now + way, Event::Back(number));
        if let (true, Some(_), Some(text)) = (wrote, self.store.closed_at(), self.store.read_at(self.now).text) {
            let row = Row::from_text(&text, &self.trial.settings, self.now);
            let is_closed = row.into_machine().0.gate().is_closed();
            self.closed_since = is_closed.then(|| self.closed_since.unwrap_or(self.now));
        }
    }

    fn store_answers(&mut self, number: usize) {
        let replica = &mut self.replicas[number];
        let Some((call, began)) = replica.call.take() else { return };
        let (local, began) = (self.now + replica.clock, began + replica.clock);
        let wants = replica.wants(self.now);
        let mut write = None;
        match call {
            Call::Read(Some(row)) => write = replica.desk.read(&row, wants, began, local),
            Call::Glance(Some(closed_at)) => replica.desk.glanced(closed_at, began, local),
            Call::Write(_, Some(is_written)) => replica.desk.wrote(is_written, local),
            Call::Read(None) | Call::Glance(None) | Call::Write(_, None) => replica.desk.unreachable(local),
        }
        if let Some(row) = write {
            self.call(number, Call::Write(row, None));
        }
        self.pump(number);
    }
}

impl Replica {
    fn wants(&self, now: Duration) -> Option<Want> {
        let &first = self.waiting.front()?;
        Some(Want { count: self.waiting.len(), age: now.saturating_sub(first), last: false })
    }
}
