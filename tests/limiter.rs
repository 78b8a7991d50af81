//! The limiter's state machine against simulated servers, in virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use descope_gitops::limiter::Algorithm;
use descope_gitops::limiter::Outcome;
use descope_gitops::limiter::Pacing;
use descope_gitops::limiter::Settings;
use descope_gitops::limiter::machine::Decision;
use descope_gitops::limiter::machine::Machine;
use descope_gitops::limiter::machine::Slot;
use descope_gitops::limiter::quota::Quota;
use descope_gitops::simulator::rate_headers::Honesty;
use descope_gitops::simulator::rate_headers::Teller;
use descope_gitops::simulator::rate_limit::Background;
use descope_gitops::simulator::rate_limit::Header;
use descope_gitops::simulator::rate_limit::Kind;
use descope_gitops::simulator::rate_limit::RateLimit;
use descope_gitops::simulator::rate_limit::RetryAfter;
use descope_gitops::simulator::rate_limit::Ruling;
use descope_gitops::simulator::rate_limit::Spec;
use proptest::prelude::*;

const WINDOW: Duration = Duration::from_secs(60);

fn settings(algorithm: Algorithm, n: f64, lockout: Duration) -> Settings {
    Settings { algorithm, limit: Some((n, WINDOW)), lockout, ..Settings::default() }
}

fn spec(kind: Kind, n: f64, lockout: Duration) -> Spec {
    let retry_after = RetryAfter::Seconds;
    Spec { kind, n, window: WINDOW, lockout, extending: false, retry_after, clock_skew: 0 }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What happens to one request.
#[derive(Debug, Clone)]
enum Fate {
    /// Answered after the latency, by the server.
    Served,
    /// Never sent.
    Cancelled,
    /// Counted, and then no answer.
    Lost,
    /// 429 whatever the server thinks.
    Refused(Option<u64>),
}

/// A client that always wants to send, on `workers` at once, until everything scripted has happened.
struct Client {
    machine: Machine,
    workers: usize,
    now: Duration,
    in_flight: Vec<(Duration, Slot, Fate, Ruling)>,
    sends: Vec<Duration>,
    refusals: usize,
    trials: usize,
}

impl Client {
    fn new(settings: &Settings, workers: usize) -> Self {
        Self {
            machine: Machine::new(settings),
            workers,
            now: ms(0),
            in_flight: Vec::new(),
            sends: Vec::new(),
            refusals: 0,
            trials: 0,
        }
    }

    /// Sends one request as soon as the machine allows. What must always hold is checked on the way.
    fn send(&mut self, server: &mut impl FnMut(Duration) -> Ruling, fate: Fate, latency: Duration) {
        loop {
            if self.in_flight.len() >= self.workers {
                self.next_reply();
                continue;
            }
            let closed = self.machine.gate().paused_until();
            let due = match self.machine.acquire(self.now) {
                Decision::Send(slot) => {
                    if let Some(until) = closed {
                        assert!(self.now >= until, "sent while the gate was closed");
                        assert_eq!(self.trials, 0, "two trials at once");
                        self.trials = 1;
                    }
                    if matches!(fate, Fate::Cancelled) {
                        self.trials = 0;
                        self.machine.cancel(slot);
                        return;
                    }
                    self.sends.push(self.now);
                    // It arrives somewhere between; the models cannot go back in time, so that is now.
                    let verdict = server(self.now);
                    self.in_flight.push((self.now + latency, slot, fate, verdict));
                    return;
                }
                Decision::WaitUntil(due) => {
                    assert!(due > self.now, "asked to wait until a time that has passed");
                    Some(due)
                }
                Decision::WaitForReply => None,
            };
            let reply = self.in_flight.iter().map(|(at, ..)| *at).min();
            match (due, reply) {
                (Some(due), Some(reply)) if due < reply => self.now = due,
                (Some(due), None) => self.now = due,
                (_, Some(_)) => self.next_reply(),
                (None, None) => panic!("waits for a reply though nothing is in flight"),
            }
        }
    }

    /// Sends all the time until then.
    fn send_until(&mut self, end: Duration, server: &mut RateLimit) {
        while self.now < end {
            self.send(&mut |now| server.request(now), Fate::Served, ms(200));
        }
    }

    fn next_reply(&mut self) {
        let next = (0..self.in_flight.len()).min_by_key(|&i| self.in_flight[i].0).unwrap();
        let (at, slot, fate, verdict) = self.in_flight.remove(next);
        self.now = self.now.max(at);
        let outcome = match (fate, verdict) {
            (Fate::Lost, _) => Outcome::Failed,
            (Fate::Refused(after), _) => Outcome::Throttled { retry_after: after.map(Duration::from_secs) },
            (_, Ruling::Admitted) => Outcome::Answered,
            (_, Ruling::Refused { header }) => Outcome::Throttled {
                retry_after: header.map(|header| match header {
                    Header::Seconds(seconds) => Duration::from_secs(seconds),
                    Header::Date { retry_at, date } => Duration::from_secs_f64((retry_at - date).max(0.0)),
                }),
            },
        };
        self.refusals += usize::from(matches!(outcome, Outcome::Throttled { .. }));
        self.trials = 0;
        self.machine.reply(slot, outcome, self.now);
    }

    fn drain(&mut self) {
        while !self.in_flight.is_empty() {
            self.next_reply();
        }
    }

    fn most_in_a_window(&self) -> usize {
        (0..self.sends.len())
            .map(|last| last + 1 - self.sends.partition_point(|&at| at + WINDOW <= self.sends[last]))
            .max()
            .unwrap_or(0)
    }
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    prop_oneof![Just(Algorithm::Budget), Just(Algorithm::Adaptive)]
}

fn fates() -> impl Strategy<Value = Vec<(Fate, u64, u64)>> {
    let fate = prop_oneof![
        12 => Just(Fate::Served),
        1 => Just(Fate::Cancelled),
        1 => Just(Fate::Lost),
        1 => proptest::option::of(0u64..100).prop_map(Fate::Refused),
    ];
    proptest::collection::vec((fate, 1u64..20_000, prop_oneof![9 => Just(0u64), 1 => 0u64..200_000]), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_rule_of_a_server_that_allows_what_we_were_told_is_ever_broken(
        kind in prop_oneof![Just(Kind::FixedWindow), Just(Kind::SlidingLog)],
        told in 1u32..60,
        more in 0u32..20,
        reserve in 0.0f64..0.5,
        workers in 1usize..40,
        seed: u64,
        schedule in fates(),
    ) {
        let settings = Settings { reserve, ..settings(Algorithm::Budget, f64::from(told), WINDOW) };
        let mut server = RateLimit::new(spec(kind, f64::from(told + more), WINDOW), seed);
        let mut client = Client::new(&settings, workers);

        for (fate, latency, pause) in schedule {
            // Refusals out of nowhere are another property's matter.
            let fate = if matches!(fate, Fate::Refused(_)) { Fate::Served } else { fate };
            client.now += ms(pause);
            client.send(&mut |now| server.request(now), fate, ms(latency));
        }
        client.drain();

        prop_assert_eq!(client.refusals, 0);
    }

    #[test]
    fn nothing_is_sent_through_a_closed_gate_and_after_any_trouble_the_queue_drains(
        algorithm in algorithms(),
        limited: bool,
        probe: bool,
        told in 1u32..60,
        workers in 1usize..40,
        schedule in fates(),
    ) {
        let mut settings = settings(algorithm, f64::from(told), WINDOW);
        settings.probe = probe;
        settings.limit = settings.limit.filter(|_| limited);
        let mut client = Client::new(&settings, workers);

        for (fate, latency, pause) in schedule {
            client.now += ms(pause);
            client.send(&mut |_| Ruling::Admitted, fate, ms(latency)); // checks the gate
        }
        client.drain();
        let trouble_ends = client.now;
        for _ in 0..20 {
            client.send(&mut |_| Ruling::Admitted, Fate::Served, ms(100));
        }

        // Ten minutes is the longest guess; a budget of one, cut by every refusal, still sends one a window.
        let guess = Duration::from_secs(600);
        let window = if limited && !probe { WINDOW } else { guess };
        prop_assert!(client.now.saturating_sub(trouble_ends) < guess + window * 22);
    }

    #[test]
    fn slots_are_conserved(told in 1u32..60, workers in 1usize..40, schedule in fates()) {
        let mut client = Client::new(&settings(Algorithm::Budget, f64::from(told), WINDOW), workers);

        for (fate, latency, pause) in schedule {
            client.now += ms(pause);
            client.send(&mut |_| Ruling::Admitted, fate, ms(latency));
            prop_assert!(client.machine.used(client.now) >= client.in_flight.len());
            prop_assert!(client.machine.used(client.now) <= usize::try_from(told).unwrap());
        }
        client.drain();

        prop_assert_eq!(client.machine.used(client.now + WINDOW), 0);
    }

    #[test]
    fn a_limit_is_never_exceeded_whatever_is_refused(
        told in 1u32..60,
        paced: bool,
        workers in 1usize..40,
        schedule in fates(),
    ) {
        let mut settings = settings(Algorithm::Budget, f64::from(told), Duration::ZERO);
        settings.shape = if paced { Pacing::Paced } else { Pacing::Auto };
        let mut client = Client::new(&settings, workers);

        for (fate, latency, pause) in schedule {
            client.now += ms(pause);
            client.send(&mut |_| Ruling::Admitted, fate, ms(latency));
        }

        prop_assert!(client.most_in_a_window() <= usize::try_from(told).unwrap());
    }
}

#[test]
fn with_a_limit_of_100_a_minute_no_trailing_minute_holds_more_than_100_sends() {
    for (kind, n) in [
        (Kind::FixedWindow, 100.0),
        (Kind::SlidingLog, 70.0),
        (Kind::SlidingCounter, 100.0),
        (Kind::TokenBucket { burst: 10.0 }, 100.0),
        (Kind::SlidingLog, 1000.0),
    ] {
        for lockout in [Duration::ZERO, WINDOW] {
            let mut server = RateLimit::new(spec(kind, n, lockout), 5);
            let mut client = Client::new(&settings(Algorithm::Budget, 100.0, lockout), 16);

            client.send_until(Duration::from_secs(4 * 3600), &mut server);

            assert!(client.most_in_a_window() <= 100, "{kind:?} {lockout:?}");
            assert!(client.sends.len() > 12_000, "{kind:?} {lockout:?}: {}", client.sends.len());
        }
    }
}

/// The budget at its lowest, and how long after the neighbour left it was back at 95 %.
fn with_a_neighbour(
    kind: Kind,
    lockout: Duration,
    per_second: f64,
    (comes, stays): (Duration, Duration),
    seed: u64,
) -> (f64, Option<Duration>) {
    let leaves = comes + stays;
    let mut server = RateLimit::new(spec(kind, 100.0, lockout), seed);
    let mut background = Background::new(per_second, None, seed).starting(comes);
    let mut client = Client::new(&settings(Algorithm::Budget, 100.0, lockout), 16);
    let mut lowest = f64::INFINITY;
    while client.now < leaves + Duration::from_secs(900) {
        let (left, lowest_before) = (client.now >= leaves, lowest);
        client.send(
            &mut |now| {
                background.advance(now.min(leaves), &mut server);
                server.request(now)
            },
            Fate::Served,
            ms(200),
        );
        let budget = client.machine.budget().unwrap();
        lowest = lowest_before.min(budget);
        if left && budget >= 95.0 {
            return (lowest, Some(client.now.saturating_sub(leaves)));
        }
    }
    (lowest, None)
}

#[test]
fn after_a_neighbour_left_the_budget_is_back_within_ten_minutes() {
    let zero = Duration::ZERO;
    let later = Duration::from_secs(1500);
    for (kind, comes) in [
        (Kind::FixedWindow, zero),
        (Kind::FixedWindow, later),
        (Kind::SlidingLog, zero),
        (Kind::SlidingLog, later),
        (Kind::SlidingCounter, zero),
        (Kind::SlidingCounter, later),
        (Kind::TokenBucket { burst: 20.0 }, zero),
        (Kind::TokenBucket { burst: 20.0 }, later),
        (Kind::TokenBucket { burst: 100.0 }, zero),
        (Kind::TokenBucket { burst: 100.0 }, later),
    ] {
        for (lockout, per_second) in [(WINDOW, 1.2), (WINDOW, 0.8), (WINDOW, 0.4), (zero, 1.2)] {
            for seed in 0..10 {
                let (lowest, back) =
                    with_a_neighbour(kind, lockout, per_second, (comes, Duration::from_secs(1800)), seed);

                let case = format!("{kind:?} from {comes:?}, lockout {lockout:?}, {per_second}/s, seed {seed}");
                assert!(lowest < 95.0, "{case}: the neighbour was not noticed");
                assert!(back.is_some_and(|back| back <= Duration::from_secs(600)), "{case}: {back:?}");
            }
        }
    }
}

#[test]
fn the_budget_comes_back_though_little_is_asked_for() {
    let mut client = Client::new(&settings(Algorithm::Budget, 100.0, WINDOW), 16);
    for sent in 0..64 {
        let fate = if sent < 32 { Fate::Served } else { Fate::Refused(Some(60)) };
        client.send(&mut |_| Ruling::Admitted, fate, ms(2000));
    }
    client.drain();
    assert!(client.machine.budget().unwrap() < 50.0);
    let cut = client.now;

    while client.now < cut + Duration::from_secs(660) {
        client.send(&mut |_| Ruling::Admitted, Fate::Served, ms(200));
        client.now += Duration::from_secs(20);
    }

    assert!(client.machine.budget().unwrap() >= 95.0);
}

#[test]
fn a_token_bucket_is_recognised_and_then_kept_at_its_rate() {
    let mut server = RateLimit::new(spec(Kind::TokenBucket { burst: 10.0 }, 100.0, WINDOW), 1);
    let mut client = Client::new(&settings(Algorithm::Budget, 100.0, WINDOW), 8);

    client.send_until(Duration::from_secs(3600), &mut server);

    let Machine::Budget(budget) = &client.machine else { panic!("the default algorithm") };
    assert!(budget.is_paced());
    assert!(client.machine.budget().unwrap() > 99.0);
    assert!(client.refusals <= 10, "{}", client.refusals);
    assert_eq!(server.locked_time(client.now), WINDOW);
}

/// A burst of two is refused at once and so is every pair of requests that comes too close: one cut too many left a sixth
/// of the rate for ten minutes.
#[test]
fn a_token_bucket_that_stores_next_to_nothing_keeps_most_of_its_rate() {
    let mut server = RateLimit::new(spec(Kind::TokenBucket { burst: 2.0 }, 100.0, WINDOW), 1);
    let mut client = Client::new(&settings(Algorithm::Budget, 100.0, WINDOW), 8);

    client.send_until(Duration::from_secs(600), &mut server);

    let Machine::Budget(budget) = &client.machine else { panic!("the default algorithm") };
    assert!(budget.is_paced());
    assert!(client.sends.len() > 500, "{} of 1000", client.sends.len());
}

#[test]
fn a_limit_smaller_than_documented_is_measured_to_the_request() {
    let mut server = RateLimit::new(spec(Kind::SlidingLog, 60.0, WINDOW), 1);
    let mut client = Client::new(&settings(Algorithm::Budget, 100.0, WINDOW), 4);

    client.send_until(Duration::from_secs(600), &mut server);

    assert_eq!(client.machine.budget(), Some(60.0));
}

#[test]
fn probing_finds_a_limit_higher_than_documented() {
    let settings = Settings { probe: true, ..settings(Algorithm::Budget, 100.0, WINDOW) };
    let mut server = RateLimit::new(spec(Kind::SlidingLog, 500.0, WINDOW), 1);
    let mut client = Client::new(&settings, 16);

    client.send_until(Duration::from_secs(300), &mut server);

    assert_eq!(client.machine.budget(), Some(500.0));
}

/// A lockout longer than the window costs even right after a burst: half an hour passed before it was dared.
#[test]
fn probing_dares_a_lockout_that_is_longer_than_the_window() {
    let lockout = WINDOW * 3 / 2;
    let settings = Settings { probe: true, ..settings(Algorithm::Budget, 100.0, lockout) };
    let mut server = RateLimit::new(spec(Kind::SlidingLog, 500.0, lockout), 1);
    let mut client = Client::new(&settings, 16);

    client.send_until(Duration::from_secs(700), &mut server);

    assert_eq!(client.machine.budget(), Some(500.0));
}

#[test]
fn without_a_known_limit_requests_are_free_until_the_first_refusal_measures_one() {
    let settings = Settings { limit: None, ..settings(Algorithm::Budget, 1.0, WINDOW) };
    let mut server = RateLimit::new(spec(Kind::SlidingLog, 250.0, WINDOW), 1);
    let mut client = Client::new(&settings, 16);
    assert_eq!(client.machine.rate(), None);

    for _ in 0..300 {
        client.send(&mut |now| server.request(now), Fate::Served, ms(200));
    }

    assert_eq!(client.machine.budget(), Some(250.0));
}

#[test]
fn a_reserve_is_left_to_others() {
    let settings = Settings { reserve: 0.1, ..settings(Algorithm::Budget, 100.0, WINDOW) };
    let mut client = Client::new(&settings, 16);

    for _ in 0..500 {
        client.send(&mut |_| Ruling::Admitted, Fate::Served, ms(200));
    }

    assert_eq!(client.most_in_a_window(), 90);
}

/// An hour beside a neighbour who takes no more than the reserve of any window.
#[test]
fn who_needs_no_more_than_the_reserve_is_never_refused_because_of_us() {
    let settings = Settings { reserve: 0.1, ..settings(Algorithm::Budget, 100.0, WINDOW) };
    for kind in [Kind::FixedWindow, Kind::SlidingLog] {
        for seed in 0..5 {
            let mut server = RateLimit::new(spec(kind, 100.0, WINDOW), seed);
            let mut client = Client::new(&settings, 16);
            let (mut next, mut passed, mut refused) = (ms(137 * seed), 0, 0);
            while client.now < WINDOW * 60 {
                let mut ask = |now: Duration| {
                    while next <= now {
                        let is_passed = server.request(next) == Ruling::Admitted;
                        (passed, refused) = (passed + u32::from(is_passed), refused + u32::from(!is_passed));
                        next += WINDOW / 10;
                    }
                    server.request(now)
                };
                client.send(&mut ask, Fate::Served, ms(200));
            }

            let ours = client.sends.len();
            assert!(ours >= 90 * 58 && passed >= 590, "{kind:?}, seed {seed}: ours {ours}, theirs {passed}");
            assert_eq!((client.refusals, refused), (0, 0), "{kind:?}, seed {seed}");
        }
    }
}

/// Requests sent until then, by a client that may look for more.
fn sent_by(settings: &Settings, server: &mut RateLimit, workers: usize, end: Duration) -> Client {
    let mut client = Client::new(settings, workers);
    client.send_until(end, server);
    client
}

/// The window was taken for a minute: six times as long as this took.
#[test]
fn a_limit_that_nobody_told_is_found_with_its_window() {
    let window = Duration::from_secs(4);
    for kind in [Kind::FixedWindow, Kind::SlidingLog] {
        for lockout in [window, Duration::ZERO] {
            for retry_after in [RetryAfter::Seconds, RetryAfter::Short] {
                for seed in 0..10 {
                    let spec = Spec { window, lockout, retry_after, ..spec(kind, 40.0, lockout) };
                    let mut server = RateLimit::new(spec, seed);
                    // What `lockout` says where nobody sets it.
                    let settings = Settings { limit: None, ..settings(Algorithm::Budget, 1.0, WINDOW) };
                    let mut client = Client::new(&settings, 8);

                    for _ in 0..161 {
                        client.send(&mut |now| server.request(now), Fate::Served, ms(20));
                    }

                    let case = format!("{kind:?}, lockout {lockout:?}, {retry_after:?}, seed {seed}");
                    assert!(client.now < Duration::from_secs(40), "{case}: {:?}", client.now);
                }
            }
        }
    }
}

#[test]
fn a_documented_window_that_is_wrong_by_six_costs_no_more_than_the_time_to_find_out() {
    for (documented, name) in [(WINDOW * 6, "too long"), (WINDOW / 6, "too short")] {
        for kind in [Kind::FixedWindow, Kind::SlidingLog] {
            let limit = Some((100.0, documented));
            let settings = Settings { probe: true, limit, ..settings(Algorithm::Budget, 100.0, WINDOW) };
            let mut server = RateLimit::new(spec(kind, 100.0, WINDOW), 3);

            let client = sent_by(&settings, &mut server, 16, Duration::from_secs(1800));

            // 3000 at the most, less two lockouts to learn.
            let admitted = client.sends.len() - client.refusals;
            assert!(admitted > 2400, "{name}, {kind:?}: {admitted}");
        }
    }
}

/// One 429 after six requests left six requests a minute.
#[test]
fn a_stray_429_is_no_limit() {
    let settings = Settings { limit: None, ..settings(Algorithm::Budget, 1.0, WINDOW) };
    let mut client = Client::new(&settings, 4);
    for _ in 0..6 {
        client.send(&mut |_| Ruling::Admitted, Fate::Served, ms(100));
    }
    client.send(&mut |_| Ruling::Admitted, Fate::Refused(Some(5)), ms(100));
    client.drain();
    let stray = client.now;

    for _ in 0..500 {
        client.send(&mut |_| Ruling::Admitted, Fate::Served, ms(100));
    }

    assert!(client.now < stray + Duration::from_secs(120), "{:?}", client.now.saturating_sub(stray));
}

/// One at a time, among others, with answers that say what is left: what was admitted in an hour, and how long everybody was
/// locked out.
fn among_others(kind: Kind, per_second: f64, seed: u64) -> (f64, Duration) {
    let settings = Settings { probe: true, ..settings(Algorithm::Budget, 100.0, WINDOW) };
    let mut machine = Machine::new(&settings);
    let mut server = RateLimit::new(spec(kind, 100.0, WINDOW), seed);
    let mut others = Background::new(per_second, None, seed);
    let mut teller = Teller::new(Honesty::True);
    // Late enough for everything before it to have a time.
    let start = Duration::from_secs(3600);
    let (mut now, mut admitted) = (start, 0.0);
    while now < start * 2 {
        match machine.acquire(now) {
            Decision::WaitUntil(due) => now = due,
            Decision::WaitForReply => panic!("nothing is under way"),
            Decision::Send(slot) => {
                let arrives = now.saturating_sub(start) + ms(50);
                others.advance(arrives, &mut server);
                let verdict = server.request(arrives);
                let told = teller.tell(arrives, &mut server);
                now += ms(100);
                if verdict == Ruling::Admitted {
                    let reset = Duration::from_secs_f64(told.reset.as_secs_f64().ceil());
                    let (limit, window) = (Some(told.limit), Some(told.window));
                    machine.told(&slot, Quota { limit, window, remaining: told.remaining, reset }, now);
                    machine.reply(slot, Outcome::Answered, now);
                    admitted += 1.0;
                } else {
                    machine.reply(slot, Outcome::Throttled { retry_after: Some(WINDOW) }, now);
                }
            }
        }
    }
    (admitted, server.locked_time(now.saturating_sub(start)))
}

#[test]
fn where_answers_say_what_is_left_others_are_seen_before_they_cost_a_lockout() {
    for kind in [Kind::FixedWindow, Kind::SlidingLog] {
        for per_second in [0.2, 0.5] {
            let runs: Vec<_> = (0..5).map(|seed| among_others(kind, per_second, seed)).collect();

            let case = format!("{kind:?}, {per_second}/s: {runs:?}");
            let locked: Duration = runs.iter().map(|(_, locked)| *locked).sum();
            assert!(locked < Duration::from_secs(5 * 3600 / 8), "{case}");
            let admitted = runs.iter().map(|(admitted, _)| admitted).sum::<f64>() / 5.0;
            assert!(admitted > 0.7 * (6000.0 - 3600.0 * per_second), "{case}");
        }
    }
}

#[test]
fn where_answers_say_what_is_left_nobody_who_is_alone_is_slowed_down() {
    for kind in [Kind::FixedWindow, Kind::SlidingLog] {
        let (admitted, locked) = among_others(kind, 0.0, 1);

        assert!(admitted > 5600.0 && locked <= WINDOW, "{kind:?}: {admitted}, {locked:?}");
    }
}

/// What goes through in an hour of steady work against this server, of what it allows; told another window, or none at all.
fn share(told: Option<Duration>, kind: Kind, lockout: Duration, seed: u64) -> (f64, usize) {
    let settings = Settings {
        limit: told.map(|window| (100.0, window)),
        probe: true,
        reserve: 0.0,
        ..settings(Algorithm::Budget, 100.0, lockout)
    };
    let mut server = RateLimit::new(spec(kind, 100.0, lockout), seed);
    let mut client = Client::new(&settings, 16);
    client.send_until(Duration::from_secs(3600), &mut server);
    let admitted = client.sends.len() - client.refusals;
    (f64::from(u32::try_from(admitted).unwrap()) / 6000.0, client.refusals)
}

/// Ten a minute were taken for the limit, and little more for hours, where it was a bucket of ten that fills ten times as fast.
#[test]
fn a_bucket_behind_a_lockout_is_told_from_a_small_limit_where_none_is_known() {
    for burst in [5.0, 10.0, 30.0] {
        for seed in 0..5 {
            let (share, refusals) = share(None, Kind::TokenBucket { burst }, WINDOW, seed);

            assert!(share > 0.6, "burst {burst}, seed {seed}: {share}, {refusals} refusals");
        }
    }
}

/// Where nothing locks, a window six times too long or none at all cost up to five sixths of the rate.
#[test]
fn where_nothing_locks_the_window_is_measured_from_one_refusal_to_the_next() {
    for told in [None, Some(WINDOW * 6)] {
        for kind in
            [Kind::FixedWindow, Kind::SlidingLog, Kind::TokenBucket { burst: 20.0 }, Kind::TokenBucket { burst: 100.0 }]
        {
            for seed in 0..5 {
                let (share, refusals) = share(told, kind, Duration::ZERO, seed);

                assert!(share > 0.85, "{told:?}, {kind:?}, seed {seed}: {share}, {refusals} refusals");
            }
        }
    }
}

/// Little was asked for meanwhile: that is no measure of what the server allows.
#[test]
fn a_measurement_that_nobody_feeds_is_given_up() {
    let settings = Settings { limit: None, ..settings(Algorithm::Budget, 100.0, Duration::ZERO) };
    let mut server = RateLimit::new(spec(Kind::FixedWindow, 100.0, Duration::ZERO), 1);
    let mut client = Client::new(&settings, 16);
    while client.refusals == 0 {
        client.send(&mut |now| server.request(now), Fate::Served, ms(200));
    }
    client.drain();
    for _ in 0..20 {
        client.now += WINDOW * 10;
        client.send(&mut |now| server.request(now), Fate::Served, ms(200));
    }
    client.drain();
    client.now += WINDOW * 10;

    let (sent, refused, start) = (client.sends.len(), client.refusals, client.now);
    client.send_until(start + Duration::from_secs(1200), &mut server);

    assert!(client.sends.len() - sent - (client.refusals - refused) > 1800, "{}", client.sends.len() - sent);
}

/// A neighbour who comes and goes behind short lockouts: finding out that nobody is there costs one of them.
#[test]
fn where_lockouts_are_short_the_way_back_up_is_taken_sooner() {
    for (lockout, at_most) in [(20, 260), (60, 600)] {
        let lockout = Duration::from_secs(lockout);
        for seed in 0..10 {
            let while_he_is_there = (Duration::ZERO, Duration::from_secs(200));
            let (_, back) = with_a_neighbour(Kind::SlidingLog, lockout, 1.2, while_he_is_there, seed);

            let back = back.unwrap_or(Duration::MAX);
            assert!(back <= Duration::from_secs(at_most), "lockout {lockout:?}, seed {seed}: {back:?}");
        }
    }
}

/// A window began while a probe was out, so that more than a limit went through.
#[test]
fn what_a_probe_found_by_luck_costs_one_refusal() {
    let settings = Settings { probe: true, ..settings(Algorithm::Budget, 100.0, WINDOW) };
    let mut client = Client::new(&settings, 4);
    let is_open = |count: usize, limit: usize| {
        let header = Some(Header::Seconds(60));
        if count <= limit { Ruling::Admitted } else { Ruling::Refused { header } }
    };
    let mut count = 0;
    // The first window of a server that counts in windows ended in the middle of the burst.
    while client.refusals == 0 {
        count += 1;
        client.send(&mut |_| is_open(count, 150), Fate::Served, ms(20));
    }
    client.drain();
    assert!(client.machine.budget().is_some_and(|n| n > 110.0), "{:?}", client.machine.budget());
    let (before, mut count) = (client.sends.len(), 0);
    while client.refusals < 5 && client.sends.len() < before + 1000 {
        count += 1;
        client.send(&mut |_| is_open(count, 100), Fate::Served, ms(20));
        if client.machine.budget() == Some(100.0) {
            break;
        }
    }

    assert_eq!(client.machine.budget(), Some(100.0));
}
