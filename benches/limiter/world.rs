//! One run in virtual time: workers, latencies, failures, neighbours and the server, around one client.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::time::Duration;

use descope_gitops::backoff::Backoff;
use descope_gitops::limiter::AdaptiveSettings;
use descope_gitops::limiter::Algorithm;
use descope_gitops::limiter::Outcome;
use descope_gitops::limiter::Pacing;
use descope_gitops::limiter::Settings;
use descope_gitops::limiter::machine::Decision;
use descope_gitops::limiter::machine::Machine;
use descope_gitops::limiter::machine::Slot;
use descope_gitops::limiter::quota::Quota;
use descope_gitops::simulator::rate_headers::Teller;
use descope_gitops::simulator::rate_headers::Told;
use descope_gitops::simulator::rate_limit::Background;
use descope_gitops::simulator::rate_limit::Header;
use descope_gitops::simulator::rate_limit::RateLimit;
use descope_gitops::simulator::rate_limit::Ruling;
use descope_gitops::simulator::rate_limit::rng;

use crate::oracle;
use crate::rivals;
use crate::rivals::Rival;
use crate::scenario::Scenario;
use crate::scenario::seconds;

/// The client gives up on an answer after this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What comes before is learning; steady state is measured from here.
pub const START_UP: Duration = Duration::from_secs(600);

/// A task that keeps failing for other reasons than the limit is given up after this.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Between tries of a task.
const BETWEEN_TRIES: Backoff =
    Backoff { max_attempts: u32::MAX, initial: Duration::from_secs(1), max: Duration::from_secs(30) };

/// The original retry: five attempts, a 429 counts as one.
const ORIGINAL_RETRY: Backoff =
    Backoff { max_attempts: 5, initial: Duration::from_secs(1), max: Duration::from_secs(60) };

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// The default algorithm of the product.
    Budget,
    /// The product's `adaptive`, with the original retry.
    Adaptive,
    /// `adaptive` without a shared gate, as it was first designed.
    Original,
    /// Client-side throttling by the share of requests that were accepted.
    Share,
    /// A token bucket whose rate rises by a constant and falls by a factor.
    Aimd,
    /// Knows everything.
    Oracle,
    /// Knows nothing until the first refusal, and everything from then on.
    Blind,
}

/// What is asked before a request is sent.
pub enum Client {
    Machine(Machine),
    Rival(Box<dyn Rival>),
    Oracle,
}

/// Where a request of ours stands with the client.
enum Ticket {
    Slot(Slot),
    None,
}

/// What came of a run.
#[derive(Clone, Default)]
pub struct Outcomes {
    pub succeeded: usize,
    pub lost: usize,
    pub unfinished: usize,
    pub makespan: f64,
    pub p95: f64,
    pub first_1000: Option<f64>,
    pub throttled: usize,
    pub others: f64,
    /// Requests of others that found the limit used up or everybody locked out, as a share of all of theirs.
    pub others_turned_away: f64,
    pub locked: f64,
    pub duration: f64,
    pub into_closed_gate: usize,
    /// From ten minutes on: refusals, and seconds locked out.
    pub steady_throttled: usize,
    pub steady_locked: f64,
    pub settled: Option<f64>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Submit(usize),
    Step(usize),
    Reach(usize),
    Reply(usize),
    Retry(usize),
    Wake,
}

struct Task {
    submitted: Duration,
    failures: u32,
    failing_since: Option<Duration>,
}

struct Request {
    task: usize,
    ticket: Ticket,
    timed_out: bool,
    latency: Duration,
    outcome: Option<Outcome>,
    told: Option<Told>,
    failed: bool,
}

pub struct World<'a> {
    scenario: &'a Scenario,
    who: Who,
    seed: u64,
    client: Client,
    pub limit: RateLimit,
    pub background: Option<Background>,
    teller: Option<Teller>,
    /// Time 0 of the scenario on the server's clock.
    base: Duration,
    rng: fastrand::Rng,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    sequence: u64,
    wake_at: Option<Duration>,
    tasks: Vec<Task>,
    queue: VecDeque<usize>,
    waiting: VecDeque<usize>,
    idle: usize,
    requests: Vec<Request>,
    /// When ours reached the server, and whether they were admitted.
    reached: Vec<(Duration, bool)>,
    latencies: Vec<Duration>,
    out: Outcomes,
}

impl<'a> World<'a> {
    pub fn new(scenario: &'a Scenario, who: Who, seed: u64) -> Self {
        let mut rng = rng(seed);
        let base = if scenario.warm_used > 0 { seconds(scenario.server.window_s / 2.0) } else { Duration::ZERO };
        let (limit, background) = server(scenario, base, &mut rng);
        let client = match who {
            Who::Budget => Client::Machine(Machine::new(&settings(scenario, Algorithm::Budget))),
            Who::Adaptive => Client::Machine(Machine::new(&settings(scenario, Algorithm::Adaptive))),
            Who::Original => Client::Rival(Box::new(rivals::Original::default())),
            Who::Share => Client::Rival(Box::new(rivals::Share::default())),
            Who::Aimd => Client::Rival(Box::new(rivals::Aimd::new(&scenario.documented))),
            Who::Oracle | Who::Blind => Client::Oracle,
        };
        let mut world = Self {
            scenario,
            who,
            seed,
            client,
            limit,
            background,
            teller: scenario.rate_headers.map(Teller::new),
            base,
            rng,
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            sequence: 0,
            wake_at: None,
            tasks: Vec::new(),
            queue: VecDeque::new(),
            waiting: VecDeque::new(),
            idle: scenario.workers,
            requests: Vec::new(),
            reached: Vec::new(),
            latencies: Vec::new(),
            out: Outcomes::default(),
        };
        world.warm();
        for (task, at) in scenario.load.times(&mut world.rng).into_iter().enumerate() {
            world.tasks.push(Task { submitted: at + base, failures: 0, failing_since: None });
            world.at(at + base, Event::Submit(task));
        }
        for (step, &(at, _)) in scenario.steps.iter().enumerate() {
            world.at(seconds(at) + base, Event::Step(step));
        }
        world
    }

    /// What the same client sent before time 0, known to it from its memory.
    fn warm(&mut self) {
        let mut done = Vec::new();
        for sent in 0..self.scenario.warm_used {
            let at = Duration::from_millis(10) * u32::try_from(sent).unwrap_or(u32::MAX);
            let latency = self.latency();
            self.limit.request(at + latency / 2);
            done.push((at + latency).min(self.base));
        }
        done.sort_unstable();
        if let Client::Machine(Machine::Budget(budget)) = &mut self.client {
            budget.restore(None, false, done, self.base);
        }
    }

    /// Runs until every task is done or given up, or until the scenario's patience ends.
    pub fn run(mut self, until: Duration) -> Outcomes {
        let end = self.base + until;
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > end || self.out.succeeded + self.out.lost == self.tasks.len() {
                break;
            }
            if self.now <= self.base + START_UP && at > self.base + START_UP {
                self.out.steady_locked = -self.limit.locked_time(at).as_secs_f64();
            }
            self.now = at;
            match event {
                Event::Submit(task) => self.submit(task),
                Event::Step(step) => {
                    self.advance_background();
                    self.limit.set_limit(self.now, self.scenario.steps[step].1);
                }
                Event::Reach(request) => self.reach(request),
                Event::Reply(request) => self.reply(request),
                Event::Retry(task) => self.waiting.push_back(task),
                Event::Wake => self.wake_at = self.wake_at.filter(|&wake| wake > at),
            }
            self.pump();
        }
        self.finish(end)
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn submit(&mut self, task: usize) {
        self.queue.push_back(task);
        self.hire();
    }

    fn hire(&mut self) {
        while self.idle > 0
            && let Some(task) = self.queue.pop_front()
        {
            self.idle -= 1;
            self.waiting.push_back(task);
        }
    }

    /// Lets the client send what it wants to send now.
    fn pump(&mut self) {
        while let Some(&task) = self.waiting.front() {
            let decision = match &mut self.client {
                Client::Machine(machine) => {
                    let closed = machine.gate().paused_until().is_some_and(|until| self.now < until);
                    let decision = machine.acquire(self.now);
                    self.out.into_closed_gate += usize::from(closed && matches!(decision, Decision::Send(_)));
                    decision
                }
                Client::Rival(rival) => match rival.acquire(self.now) {
                    Ok(()) => {
                        self.send(task, Ticket::None);
                        continue;
                    }
                    Err(due) => Decision::WaitUntil(due),
                },
                Client::Oracle => {
                    self.send(task, Ticket::None);
                    continue;
                }
            };
            match decision {
                Decision::Send(slot) => self.send(task, Ticket::Slot(slot)),
                Decision::WaitUntil(due) => {
                    assert!(due > self.now, "the client asked to wait until a time that has passed");
                    if self.wake_at.is_none_or(|wake| due < wake) {
                        self.wake_at = Some(due);
                        self.at(due, Event::Wake);
                    }
                    return;
                }
                Decision::WaitForReply => return,
            }
        }
    }

    fn send(&mut self, task: usize, ticket: Ticket) {
        self.waiting.pop_front();
        let latency = self.latency();
        let timed_out = self.rng.f64() < self.scenario.timeout;
        let request = self.requests.len();
        self.requests.push(Request { task, ticket, timed_out, latency, outcome: None, told: None, failed: false });
        self.at(self.now + latency / 2, Event::Reach(request));
        if timed_out {
            self.at(self.now + REQUEST_TIMEOUT, Event::Reply(request));
        }
    }

    fn reach(&mut self, index: usize) {
        self.advance_background();
        if let Client::Oracle = self.client
            && (self.who == Who::Oracle || self.out.throttled > 0)
            && let Some(later) = oracle::postpone(self.now, &mut self.limit, self.background.as_ref(), self.scenario)
        {
            // It knew when it sent, and would have sent later.
            self.at(self.now + later, Event::Reach(index));
            return;
        }
        let verdict = self.limit.request(self.now);
        self.reached.push((self.now, verdict == Ruling::Admitted));
        let outage = self.scenario.outage.is_some_and(|outage| outage.holds(self.now.saturating_sub(self.base)));
        let broken = outage || self.rng.f64() < self.scenario.err_5xx;
        let told = self.teller.as_mut().map(|teller| teller.tell(self.now, &mut self.limit));
        let request = &mut self.requests[index];
        request.told = told;
        request.outcome = Some(match verdict {
            Ruling::Admitted => {
                request.failed = broken;
                Outcome::Answered
            }
            Ruling::Refused { header } => Outcome::Throttled {
                retry_after: header.map(|header| match header {
                    Header::Seconds(value) => Duration::from_secs(value),
                    Header::Date { retry_at, date } => seconds(retry_at - date),
                }),
            },
        });
        if !request.timed_out {
            let back = self.now + request.latency / 2;
            self.at(back, Event::Reply(index));
        }
    }

    fn reply(&mut self, index: usize) {
        let request = &mut self.requests[index];
        let task = request.task;
        let outcome = match request.outcome {
            Some(outcome) if !request.timed_out => outcome,
            _ => Outcome::Failed,
        };
        let failed = request.failed;
        let told = request.told.filter(|_| outcome == Outcome::Answered);
        let throttled = matches!(outcome, Outcome::Throttled { .. });
        self.out.throttled += usize::from(throttled);
        self.out.steady_throttled += usize::from(throttled && self.now > self.base + START_UP);
        match (std::mem::replace(&mut request.ticket, Ticket::None), &mut self.client) {
            (Ticket::Slot(slot), Client::Machine(machine)) => {
                if let Some(told) = told {
                    machine.told(&slot, quota(told), self.now);
                }
                machine.reply(slot, outcome, self.now);
            }
            (_, Client::Rival(rival)) => rival.reply(outcome, self.now),
            _ => {}
        }
        if outcome == Outcome::Answered && !failed {
            self.succeed(task);
        } else if throttled && !matches!(self.who, Who::Adaptive | Who::Original) {
            self.waiting.push_back(task);
        } else {
            self.fail(task);
        }
    }

    fn succeed(&mut self, task: usize) {
        self.out.succeeded += 1;
        self.out.makespan = self.now.saturating_sub(self.base).as_secs_f64();
        if self.out.succeeded == 1000 {
            self.out.first_1000 = Some(self.out.makespan);
        }
        self.latencies.push(self.now.saturating_sub(self.tasks[task].submitted));
        self.idle += 1;
        self.hire();
    }

    fn fail(&mut self, task: usize) {
        let random = self.rng.f64();
        let it = &mut self.tasks[task];
        it.failures += 1;
        let since = *it.failing_since.get_or_insert(self.now);
        let (given_up, wait) = match self.who {
            Who::Budget | Who::Share | Who::Aimd => {
                (self.now > since + PATIENCE, BETWEEN_TRIES.delay(it.failures, random))
            }
            Who::Adaptive | Who::Original => {
                (it.failures >= ORIGINAL_RETRY.max_attempts, ORIGINAL_RETRY.delay(it.failures, random))
            }
            Who::Oracle | Who::Blind => (false, Duration::ZERO),
        };
        if given_up {
            self.out.lost += 1;
            self.idle += 1;
            self.hire();
        } else {
            self.at(self.now + wait, Event::Retry(task));
        }
    }

    fn advance_background(&mut self) {
        if let Some(background) = &mut self.background {
            background.advance(self.now, &mut self.limit);
        }
    }

    /// Log-normal, capped.
    fn latency(&mut self) -> Duration {
        let (u, v) = (1.0 - self.rng.f64(), self.rng.f64());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let latency = &self.scenario.latency;
        seconds(latency.median_s * (latency.sigma * normal).exp().min(20.0))
    }

    fn finish(mut self, end: Duration) -> Outcomes {
        let all_done = self.out.succeeded + self.out.lost == self.tasks.len();
        let finished = if all_done { self.now } else { end };
        let mut out = std::mem::take(&mut self.out);
        out.unfinished = self.tasks.len() - out.succeeded - out.lost;
        out.duration = finished.saturating_sub(self.base).as_secs_f64();
        out.locked = self.limit.locked_time(finished).as_secs_f64();
        out.steady_locked += out.locked;
        out.others =
            self.background.as_ref().map_or(1.0, |b| if b.arrived == 0 { 1.0 } else { ratio(b.served, b.arrived) });
        if let Some(background) = self.background.as_ref().filter(|others| others.arrived > 0) {
            let alone = self.turned_away_without_us(finished);
            out.others_turned_away = ratio(background.turned_away.saturating_sub(alone), background.arrived);
        }
        self.latencies.sort_unstable();
        let last = self.latencies.len().saturating_sub(1);
        out.p95 = self
            .latencies
            .get(self.latencies.len() * 95 / 100)
            .or(self.latencies.get(last))
            .map_or(0.0, Duration::as_secs_f64);
        out.settled = self.settled();
        out
    }

    /// How many requests of the others would have found the limit used up if we had sent nothing.
    fn turned_away_without_us(&self, finished: Duration) -> u64 {
        let (limit, background) = server(self.scenario, self.base, &mut rng(self.seed));
        let (mut limit, Some(mut background)) = (limit, background) else { return 0 };
        for &(at, n) in &self.scenario.steps {
            let at = seconds(at) + self.base;
            if at < finished {
                background.advance(at, &mut limit);
                limit.set_limit(at, n);
            }
        }
        background.advance(finished, &mut limit);
        background.turned_away
    }

    /// Time after the last step until two windows on end carry 80 % of the new limit with 1 % refused at most.
    fn settled(&self) -> Option<f64> {
        let &(step, limit) = self.scenario.steps.last()?;
        let step = seconds(step) + self.base;
        let window = seconds(self.scenario.server.window_s);
        let carried = |from: Duration| {
            let start = self.reached.partition_point(|&(at, _)| at < from);
            let end = self.reached.partition_point(|&(at, _)| at < from + window);
            let sent = &self.reached[start..end];
            let admitted = sent.iter().filter(|(_, admitted)| *admitted).count();
            (count(admitted), count(sent.len() - admitted))
        };
        let is_settled = |from: Duration| {
            let (first, second) = (carried(from), carried(from + window));
            let refused = first.1 + second.1;
            first.0.min(second.0) >= 0.8 * limit && refused <= 0.01 * (first.0 + second.0 + refused)
        };
        let last = self.reached.last()?.0;
        (0..=last.as_secs())
            .map(|second| step + Duration::from_secs(second))
            .take_while(|&from| from + window * 2 <= last)
            .find(|&from| is_settled(from))
            .map(|from| from.saturating_sub(step).as_secs_f64())
    }
}

/// The limit and its neighbours at time 0.
fn server(scenario: &Scenario, base: Duration, rng: &mut fastrand::Rng) -> (RateLimit, Option<Background>) {
    let limit = RateLimit::new(scenario.spec(), rng.u64(..));
    let background = scenario.background.as_ref().map(|neighbours| {
        let on_off = neighbours.on_s.map(|on| (seconds(on), seconds(neighbours.off_s.unwrap_or(0.0))));
        Background::new(neighbours.rate_per_s, on_off, rng.u64(..)).starting(base)
    });
    (limit, background)
}

/// As the headers have it: whole numbers.
fn quota(told: Told) -> Quota {
    Quota {
        limit: Some(told.limit.floor()),
        window: Some(told.window),
        remaining: told.remaining,
        reset: seconds(told.reset.as_secs_f64().ceil()),
    }
}

/// What the client is told.
pub fn settings(scenario: &Scenario, algorithm: Algorithm) -> Settings {
    let documented = &scenario.documented;
    Settings {
        algorithm,
        limit: (!scenario.limit_null).then(|| (documented.n, seconds(documented.window_s))),
        lockout: seconds(documented.lockout_s),
        reserve: 0.0,
        probe: scenario.probe,
        shape: Pacing::Auto,
        adaptive: AdaptiveSettings::default(),
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts")]
pub fn count(value: usize) -> f64 {
    value as f64
}

#[allow(clippy::cast_precision_loss, reason = "counts")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}
