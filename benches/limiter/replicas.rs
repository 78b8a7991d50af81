//! Several replicas behind one address, in virtual time: desks of the product around a row in memory, with a store that takes its
//! time, fails, and has a clock of its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use descope_gitops::limiter::Algorithm;
use descope_gitops::limiter::Outcome;
use descope_gitops::limiter::Settings;
use descope_gitops::limiter::machine::Decision;
use descope_gitops::limiter::machine::Machine;
use descope_gitops::limiter::machine::Slot;
use descope_gitops::limiter::shared::desk::Desk;
use descope_gitops::limiter::shared::desk::FRESH;
use descope_gitops::limiter::shared::desk::Todo;
use descope_gitops::limiter::shared::row::Row;
use descope_gitops::limiter::shared::row::Want;
use descope_gitops::limiter::shared::store::InMemory;
use descope_gitops::limiter::shared::store::Read;
use descope_gitops::limiter::shared::store::Written;
use descope_gitops::simulator::rate_limit::Header;
use descope_gitops::simulator::rate_limit::RateLimit;
use descope_gitops::simulator::rate_limit::Ruling;
use descope_gitops::simulator::rate_limit::rng;
use serde::Serialize;

use crate::scenario::Load;
use crate::scenario::Scenario;
use crate::scenario::ServerKind;
use crate::scenario::seconds;
use crate::world;
use crate::world::Who;
use crate::world::count;

/// The store's clock is so much ahead of ours, whatever that is.
const STORE_CLOCK: Duration = Duration::from_secs(1_750_000_000);

/// A call to a store that is away fails after this.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// How the load is shared out.
#[derive(Clone, Copy)]
enum Skew {
    Even,
    /// Each has half of what the one before has.
    Halves,
    /// All of it is one replica's.
    OneBusy,
}

impl Skew {
    fn share_out(self, tasks: usize, replicas: usize) -> Vec<usize> {
        let weights: Vec<f64> = (0..replicas)
            .map(|replica| match (self, replica) {
                (Self::Even, _) | (Self::OneBusy, 0) => 1.0,
                (Self::OneBusy, _) => 0.0,
                (Self::Halves, _) => 0.5_f64.powi(i32::try_from(replica).unwrap_or(i32::MAX)),
            })
            .collect();
        let sum: f64 = weights.iter().sum();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of tasks")]
        let mut shares: Vec<usize> = weights.iter().map(|weight| (count(tasks) * weight / sum) as usize).collect();
        shares[0] += tasks - shares.iter().sum::<usize>();
        shares
    }
}

/// What goes on beside the load.
#[derive(Clone, Default)]
struct Fault {
    /// That replica dies then; the first takes over its tasks.
    dies: Option<(usize, f64)>,
    /// Nobody reaches the store from then to then.
    away: Option<(f64, f64)>,
    /// One of so many calls to the store is not answered, though half of them were carried out.
    unanswered: Option<u32>,
}

struct Case {
    name: String,
    scenario: Scenario,
    skew: Skew,
    replicas: usize,
    /// A call to the store takes so long.
    store: Duration,
    fault: Fault,
}

/// What came of it.
#[derive(Serialize, Default)]
struct Line {
    name: String,
    ideal_s: f64,
    took_s: f64,
    share: f64,
    throttled: f64,
    lockouts: f64,
    /// Sent though the gate had closed longer ago than a glance may be old.
    into_closed: usize,
    turns_per_s: f64,
    /// What one process with all the workers makes of it: its share, and its 429s.
    alone_share: f64,
    alone_throttled: f64,
    /// The same with a fixed part of the limit for each replica.
    fixed_share: f64,
}

/// The table.
pub fn run(replicas: usize, shared: &[Scenario], draws: u64, seed: u64, json: bool) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for case in cases(replicas, shared) {
        lines.push(case.line(draws, seed));
    }
    let mut out = std::io::stdout().lock();
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&lines)?)?);
    }
    writeln!(
        out,
        "| {replicas} replicas | ideal | took | share | 429s | lockouts | sent while closed | turns/s | one process, its 429s | n / replicas |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for line in lines {
        writeln!(
            out,
            "| {} | {:.1} s | {:.1} s | {:.3} | {:.1} | {:.1} | {} | {:.1} | {:.3}, {:.1} | {:.2} |",
            line.name,
            line.ideal_s,
            line.took_s,
            line.share,
            line.throttled,
            line.lockouts,
            line.into_closed,
            line.turns_per_s,
            line.alone_share,
            line.alone_throttled,
            line.fixed_share
        )?;
    }
    Ok(())
}

fn cases(replicas: usize, shared: &[Scenario]) -> Vec<Case> {
    let base = |tasks: usize| {
        let mut scenario = shared[0].clone();
        (scenario.background, scenario.steps, scenario.oracle) = (None, Vec::new(), None);
        (scenario.err_5xx, scenario.timeout, scenario.outage, scenario.warm_used) = (0.0, 0.0, None, 0);
        scenario.server.kind = ServerKind::SlidingLog;
        (scenario.server.n, scenario.server.window_s, scenario.server.lockout_s) = (100.0, 60.0, 60.0);
        scenario.documented.n = 100.0;
        (scenario.documented.window_s, scenario.documented.lockout_s) = (60.0, 60.0);
        (scenario.workers, scenario.probe) = (16, false);
        (scenario.latency.median_s, scenario.latency.sigma) = (0.2, 0.3);
        scenario.load = Load::Batch { tasks };
        scenario
    };
    let case = |name: &str, skew: Skew| Case {
        name: name.to_owned(),
        scenario: base(700),
        skew,
        replicas,
        store: Duration::from_millis(5),
        fault: Fault::default(),
    };
    let mut cases = vec![
        case("even", Skew::Even),
        case("each half of the one before", Skew::Halves),
        case("one busy", Skew::OneBusy),
        Case { store: Duration::from_millis(50), ..case("even, store 50 ms", Skew::Even) },
        Case { store: Duration::from_millis(50), ..case("one busy, store 50 ms", Skew::OneBusy) },
    ];
    let fault = |name: &str, fault: Fault| Case { fault, ..case(name, Skew::Even) };
    let mut dies = fault("one dies in mid-burst", Fault { dies: Some((replicas - 1, 120.8)), ..Fault::default() });
    // One slot more than the rest of the last window costs all of the next.
    dies.scenario.load = Load::Batch { tasks: 675 };
    cases.extend([
        dies,
        fault("the store is away for 20 s", Fault { away: Some((59.0, 79.0)), ..Fault::default() }),
        fault("1 of 10 calls to the store unanswered", Fault { unanswered: Some(10), ..Fault::default() }),
    ]);
    let short = |name: &str, skew: Skew| {
        let mut case = case(name, skew);
        for (n, window_s, lockout_s) in [
            (&mut case.scenario.server.n, &mut case.scenario.server.window_s, &mut case.scenario.server.lockout_s),
            (
                &mut case.scenario.documented.n,
                &mut case.scenario.documented.window_s,
                &mut case.scenario.documented.lockout_s,
            ),
        ] {
            (*n, *window_s, *lockout_s) = (40.0, 4.0, 4.0);
        }
        case.scenario.latency.median_s = 0.02;
        case.scenario.load = Load::Batch { tasks: 400 };
        case
    };
    cases.extend([short("40/4s, even", Skew::Even), short("40/4s, skewed", Skew::Halves)]);
    let mut lower = case("the limit is 60 though 100 is documented", Skew::Even);
    lower.scenario.server.n = 60.0;
    let mut bucket = case("a bucket of 20", Skew::Even);
    (bucket.scenario.server.kind, bucket.scenario.server.burst) = (ServerKind::TokenBucket, Some(20.0));
    let mut null = case("limit: null", Skew::Even);
    null.scenario.limit_null = true;
    cases.extend([lower, bucket, null]);
    cases
}

impl Case {
    fn line(&self, draws: u64, seed: u64) -> Line {
        let mut line = Line { name: self.name.clone(), ..Line::default() };
        for draw in 0..draws {
            let seed = crate::seed(seed, draw);
            let mut alone = self.scenario.clone();
            alone.workers *= self.replicas;
            let ideal = world::World::new(&alone, Who::Oracle, seed).run(seconds(1e6)).makespan;
            let one = world::World::new(&alone, Who::Budget, seed).run(seconds(1e6));
            let ran = World::new(self, seed, false).run();
            let fixed = World::new(self, seed, true).run();
            let part = 1.0 / world::count(usize::try_from(draws).unwrap_or(1));
            line.ideal_s += part * ideal;
            line.took_s += part * ran.took;
            line.share += part * ideal / ran.took;
            line.alone_share += part * ideal / one.makespan;
            line.alone_throttled += part * count(one.throttled);
            line.fixed_share += part * ideal / fixed.took;
            line.throttled += part * count(ran.throttled);
            line.lockouts += part * count(ran.lockouts);
            line.into_closed += ran.into_closed;
            line.turns_per_s += part * count(ran.turns) / ran.took;
        }
        line
    }
}

#[derive(Default)]
struct Outcomes {
    took: f64,
    throttled: usize,
    lockouts: usize,
    into_closed: usize,
    turns: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake(usize),
    Reach(usize),
    Reply(usize),
    /// A call to the store arrives there.
    Store(usize),
    /// Its answer arrives.
    Back(usize),
    Dies(usize),
}

enum Client {
    Desk(Box<Desk>),
    Alone(Box<Machine>),
}

struct Replica {
    client: Client,
    /// Its clock minus ours.
    clock: Duration,
    dead: bool,
    /// Tasks that no worker has yet.
    queue: usize,
    idle: usize,
    /// Since when each of the workers that ask has asked.
    waiting: VecDeque<Duration>,
    wake_at: Option<Duration>,
    call: Option<Call>,
}

/// One call to the store, under way.
struct Call {
    what: What,
    began: Duration,
    /// `None`: not answered.
    answer: Option<Answer>,
}

enum What {
    Read,
    Glance,
    Write(Option<Written>),
}

enum Answer {
    Row(Read),
    Closed(Option<Duration>),
    Written(bool),
}

struct Request {
    replica: usize,
    slot: Option<Slot>,
    latency: Duration,
    outcome: Option<Outcome>,
}

struct World<'a> {
    case: &'a Case,
    limit: RateLimit,
    store: InMemory,
    replicas: Vec<Replica>,
    requests: Vec<Request>,
    rng: fastrand::Rng,
    now: Duration,
    sequence: u64,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    tasks: usize,
    done: usize,
    /// Since when the gate is closed, as the row has it.
    closed_since: Option<Duration>,
    out: Outcomes,
}

impl<'a> World<'a> {
    fn new(case: &'a Case, seed: u64, fixed: bool) -> Self {
        let mut rng = rng(seed);
        let limit = RateLimit::new(case.scenario.spec(), rng.u64(..));
        let mut settings: Settings = world::settings(&case.scenario, Algorithm::Budget);
        let replicas = case.skew.share_out(case.scenario.load.tasks(), case.replicas);
        if let (true, Some((n, _))) = (fixed, &mut settings.limit) {
            *n = (*n / count(case.replicas)).max(1.0);
        }
        let replica = |(number, queue): (usize, usize)| Replica {
            client: if fixed {
                Client::Alone(Box::new(Machine::new(&settings)))
            } else {
                Client::Desk(Box::new(Desk::new(format!("replica-{number}"), settings.clone())))
            },
            // Minutes apart.
            clock: Duration::from_secs(200_000 + 120 * u64::try_from(number).unwrap_or(0)),
            dead: false,
            queue,
            idle: case.scenario.workers,
            waiting: VecDeque::new(),
            wake_at: None,
            call: None,
        };
        let mut world = Self {
            case,
            limit,
            store: InMemory::default(),
            tasks: replicas.iter().sum(),
            replicas: replicas.into_iter().enumerate().map(replica).collect(),
            requests: Vec::new(),
            rng,
            now: Duration::ZERO,
            sequence: 0,
            events: BinaryHeap::new(),
            done: 0,
            closed_since: None,
            out: Outcomes::default(),
        };
        for replica in 0..world.replicas.len() {
            world.at(Duration::from_millis(1), Event::Wake(replica));
        }
        if let Some((replica, at)) = case.fault.dies {
            world.at(seconds(at), Event::Dies(replica));
        }
        world
    }

    fn run(mut self) -> Outcomes {
        let patience = Duration::from_secs(6 * 3600);
        while self.done < self.tasks
            && let Some(Reverse((at, _, event))) = self.events.pop()
            && at < patience
        {
            self.now = at;
            match event {
                Event::Wake(replica) => {
                    self.replicas[replica].wake_at = None;
                    self.pump(replica);
                }
                Event::Reach(request) => self.reach(request),
                Event::Reply(request) => self.reply(request),
                Event::Store(replica) => self.reach_store(replica),
                Event::Back(replica) => self.answered(replica),
                Event::Dies(replica) => self.dies(replica),
            }
        }
        self.out.took = self.now.as_secs_f64();
        self.out
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    /// Lets a replica do what it can do now.
    fn pump(&mut self, number: usize) {
        if self.replicas[number].dead {
            return;
        }
        let now = self.now;
        let replica = &mut self.replicas[number];
        while replica.idle > 0 && replica.queue > 0 {
            (replica.idle, replica.queue) = (replica.idle - 1, replica.queue - 1);
            replica.waiting.push_back(now);
        }
        let mut wake = Duration::MAX;
        while !self.replicas[number].waiting.is_empty() {
            let replica = &mut self.replicas[number];
            let local = now + replica.clock;
            let decision = match &mut replica.client {
                Client::Desk(desk) => desk.acquire(local),
                Client::Alone(machine) => machine.acquire(local),
            };
            match decision {
                Decision::Send(slot) => self.send(number, slot),
                Decision::WaitUntil(due) => {
                    wake = wake.min(due);
                    break;
                }
                Decision::WaitForReply => break,
            }
        }
        let replica = &mut self.replicas[number];
        let local = now + replica.clock;
        let wants = replica.wants(now);
        if let Client::Desk(desk) = &mut replica.client {
            let what = match desk.todo(wants, local) {
                Todo::Read => Some(What::Read),
                Todo::Glance => Some(What::Glance),
                Todo::Rest(until) => {
                    wake = wake.min(until);
                    None
                }
            };
            if let Some(what) = what {
                self.call(number, what);
            }
        }
        self.wake(number, wake);
    }

    fn wake(&mut self, number: usize, local: Duration) {
        if local == Duration::MAX {
            return;
        }
        let replica = &mut self.replicas[number];
        let at = local.saturating_sub(replica.clock).max(self.now);
        assert!(at > self.now, "the desk asked to wait until a time that has passed");
        if replica.wake_at.is_none_or(|wake| at < wake) {
            replica.wake_at = Some(at);
            self.at(at, Event::Wake(number));
        }
    }

    fn send(&mut self, number: usize, slot: Slot) {
        let replica = &mut self.replicas[number];
        replica.waiting.pop_front();
        if let Client::Desk(desk) = &mut replica.client {
            desk.sending();
            let is_late = self.closed_since.is_some_and(|closed| self.now > closed + FRESH);
            self.out.into_closed += usize::from(is_late && !slot.is_trial());
        }
        let latency = &self.case.scenario.latency;
        let (u, v) = (1.0 - self.rng.f64(), self.rng.f64());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let latency = seconds(latency.median_s * (latency.sigma * normal).exp().min(20.0));
        let request = self.requests.len();
        self.requests.push(Request { replica: number, slot: Some(slot), latency, outcome: None });
        self.at(self.now + latency / 2, Event::Reach(request));
    }

    fn reach(&mut self, index: usize) {
        let before = self.limit.locked_out(self.now);
        let verdict = self.limit.request(self.now);
        self.out.lockouts += usize::from(!before && self.limit.locked_out(self.now));
        let request = &mut self.requests[index];
        request.outcome = Some(match verdict {
            Ruling::Admitted => Outcome::Answered,
            Ruling::Refused { header } => Outcome::Throttled {
                retry_after: header.map(|header| match header {
                    Header::Seconds(value) => Duration::from_secs(value),
                    Header::Date { retry_at, date } => seconds(retry_at - date),
                }),
            },
        });
        let back = self.now + request.latency / 2;
        self.at(back, Event::Reply(index));
    }

    fn reply(&mut self, index: usize) {
        let request = &mut self.requests[index];
        let (number, Some(slot), Some(outcome)) = (request.replica, request.slot.take(), request.outcome) else {
            return;
        };
        let replica = &mut self.replicas[number];
        if replica.dead {
            return;
        }
        let local = self.now + replica.clock;
        match &mut replica.client {
            Client::Desk(desk) => desk.reply(slot, outcome, local),
            Client::Alone(machine) => machine.reply(slot, outcome, local),
        }
        if matches!(outcome, Outcome::Throttled { .. }) {
            self.out.throttled += 1;
            replica.waiting.push_back(self.now);
        } else {
            self.done += 1;
            replica.idle += 1;
        }
        self.pump(number);
    }

    /// The first replica takes over what was not done.
    fn dies(&mut self, number: usize) {
        self.replicas[number].dead = true;
        let under_way = self.requests.iter().filter(|request| request.replica == number && request.slot.is_some());
        let orphans = under_way.count() + self.replicas[number].queue + self.replicas[number].waiting.len();
        self.replicas[0].queue += orphans;
        self.pump(0);
    }

    fn call(&mut self, number: usize, what: What) {
        let began = self.now;
        self.replicas[number].call = Some(Call { what, began, answer: None });
        let way = self.case.store.mul_f64(0.5 + 0.5 * self.rng.f64()) / 2;
        self.at(began + way, Event::Store(number));
    }

    fn reach_store(&mut self, number: usize) {
        let is_away = self.case.fault.away.is_some_and(|(from, to)| (from..to).contains(&self.now.as_secs_f64()));
        let is_lost = self.case.fault.unanswered.is_some_and(|of| self.rng.u32(..of) == 0);
        let is_carried_out = !is_away && (!is_lost || self.rng.bool());
        let Some(call) = &mut self.replicas[number].call else { return };
        let answer = is_carried_out.then(|| match &mut call.what {
            What::Read => Answer::Row(self.store.read_at(STORE_CLOCK + self.now)),
            What::Glance => Answer::Closed(self.store.closed_at()),
            What::Write(written) => Answer::Written(written.take().is_some_and(|row| self.store.write_now(row))),
        });
        if matches!(answer, Some(Answer::Written(true))) {
            self.out.turns += 1;
            let read = self.store.read_at(STORE_CLOCK + self.now);
            let row = Row::from_text(read.text.as_deref().unwrap_or_default(), &Settings::default(), read.now);
            let is_closed = row.into_machine().0.gate().is_closed();
            self.closed_since = is_closed.then(|| self.closed_since.unwrap_or(self.now));
        }
        call.answer = answer.filter(|_| !is_lost);
        let way = if call.answer.is_some() { self.now.saturating_sub(call.began) } else { STORE_TIMEOUT };
        self.at(self.now + way, Event::Back(number));
    }

    fn answered(&mut self, number: usize) {
        let replica = &mut self.replicas[number];
        let Some(Call { answer, began, .. }) = replica.call.take() else { return };
        if replica.dead {
            return;
        }
        let (local, began) = (self.now + replica.clock, began + replica.clock);
        let wants = replica.wants(self.now);
        let Client::Desk(desk) = &mut replica.client else { return };
        let write = match answer {
            None => {
                desk.unreachable(local);
                None
            }
            Some(Answer::Row(row)) => desk.read(&row, wants, began, local),
            Some(Answer::Closed(closed_at)) => {
                desk.glanced(closed_at, began, local);
                None
            }
            Some(Answer::Written(is_written)) => {
                desk.wrote(is_written, local);
                None
            }
        };
        if let Some(row) = write {
            self.call(number, What::Write(Some(row)));
        }
        self.pump(number);
    }
}

impl Replica {
    fn wants(&self, now: Duration) -> Option<Want> {
        let first = self.waiting.front()?;
        Some(Want { count: self.waiting.len(), age: now.saturating_sub(*first), last: false })
    }
}
