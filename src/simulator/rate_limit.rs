//! How a rate-limited server behaves: pure models in virtual time, the same for the simulator and the limiter's bench.
//!
//! Times are counted from the start of the server. Every random draw comes from the seed.

use std::collections::VecDeque;
use std::time::Duration;

/// Unix time at which every model starts; only differences between its dates matter to a client.
const EPOCH: f64 = 1_750_000_000.0;

/// How admitted requests are counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `n` per aligned window of random phase.
    FixedWindow,
    /// `n` in any trailing window.
    SlidingLog,
    /// The last aligned window, weighted by how much of it still counts, plus this one.
    SlidingCounter,
    /// `n / window` tokens per second.
    TokenBucket {
        /// Tokens stored at most; full at the start.
        burst: f64,
    },
}

/// What a 429 says about when to come back. The truth is the rest of the lockout or, where nothing locks, the time
/// until one request would be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// Whole seconds, rounded up.
    Seconds,
    /// Whole seconds, rounded down.
    Floor,
    /// No header.
    Absent,
    /// A fifth of the truth, at least a second.
    Short,
    /// An HTTP date beside a `Date` of the same clock.
    Date,
}

/// The limit of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// How it counts.
    pub kind: Kind,
    /// Requests per window.
    pub n: f64,
    /// The window.
    pub window: Duration,
    /// Everything is refused for this long after a request over the limit; zero refuses only what is over.
    pub lockout: Duration,
    /// A request refused during the lockout starts it anew.
    pub extending: bool,
    /// The header.
    pub retry_after: RetryAfter,
    /// The server's clock minus the client's, in seconds; seen in dates only.
    pub clock_skew: i64,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ruling {
    /// Served and counted.
    Admitted,
    /// 429.
    Refused {
        /// What the answer says about when to come back.
        header: Option<Header>,
    },
}

/// The value of `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Header {
    /// Delay in seconds.
    Seconds(u64),
    /// Whole Unix seconds.
    Date {
        /// When to come back.
        retry_at: f64,
        /// The answer's own `Date`.
        date: f64,
    },
}

/// One limit, as one server keeps it.
#[derive(Debug, Clone)]
pub struct RateLimit {
    spec: Spec,
    counted: Counted,
    locked_from: Duration,
    locked_until: Duration,
    locked_before: Duration,
}

#[derive(Debug, Clone)]
enum Counted {
    Fixed { phase: Duration, index: u128, count: f64 },
    Log(VecDeque<Duration>),
    Counter { phase: Duration, index: u128, previous: f64, current: f64 },
    Bucket { tokens: f64, at: Duration },
}

impl RateLimit {
    /// A server that has not been asked anything yet.
    pub fn new(spec: Spec, seed: u64) -> Self {
        let phase = spec.window.mul_f64(rng(seed).f64());
        let counted = match spec.kind {
            Kind::FixedWindow => Counted::Fixed { phase, index: 0, count: 0.0 },
            Kind::SlidingLog => Counted::Log(VecDeque::new()),
            Kind::SlidingCounter => Counted::Counter { phase, index: 0, previous: 0.0, current: 0.0 },
            Kind::TokenBucket { burst } => Counted::Bucket { tokens: burst, at: Duration::ZERO },
        };
        let zero = Duration::ZERO;
        Self { spec, counted, locked_from: zero, locked_until: zero, locked_before: zero }
    }

    /// One request arrives. `now` never goes back.
    pub fn request(&mut self, now: Duration) -> Ruling {
        if self.locked_out(now) {
            if self.spec.extending {
                self.locked_until = now + self.spec.lockout;
            }
            return self.refuse(now);
        }
        if self.admit(now) {
            return Ruling::Admitted;
        }
        if !self.spec.lockout.is_zero() {
            self.locked_before += self.locked_until.saturating_sub(self.locked_from);
            self.locked_from = now;
            self.locked_until = now + self.spec.lockout;
        }
        self.refuse(now)
    }

    /// The true limit becomes `n` per window; a bucket keeps its burst.
    pub fn set_limit(&mut self, now: Duration, n: f64) {
        self.roll(now);
        self.spec.n = n;
    }

    /// Whether every request is refused.
    pub fn locked_out(&self, now: Duration) -> bool {
        now < self.locked_until
    }

    /// Time spent locked out so far.
    pub fn locked_time(&self, now: Duration) -> Duration {
        self.locked_before + self.locked_until.min(now).saturating_sub(self.locked_from)
    }

    /// The limit now in force, in requests per window.
    pub fn limit(&self) -> f64 {
        self.spec.n
    }

    /// Requests that would be admitted now, one after the other at once, and the time until there is more room: the end of
    /// the window or of the lockout, or until the oldest request or a token makes room for one more.
    pub fn room(&mut self, now: Duration) -> (f64, Duration) {
        if let Some(rest) = self.locked_until.checked_sub(now).filter(|rest| !rest.is_zero()) {
            return (0.0, rest);
        }
        self.roll(now);
        let (n, window) = (self.spec.n, self.spec.window);
        let (room, more) = match &self.counted {
            Counted::Fixed { phase, count, .. } => (n - count, left(now, *phase, window)),
            Counted::Log(times) => {
                (n - float(times.len()), times.front().map_or(window, |&oldest| (oldest + window).saturating_sub(now)))
            }
            Counted::Counter { phase, previous, current, .. } => {
                (n - weighted(now, *phase, window, *previous, *current), left(now, *phase, window))
            }
            Counted::Bucket { tokens, .. } => {
                (*tokens, window.mul_f64((1.0 - tokens.fract()).clamp(1e-6, 1.0) / n.max(1e-9)))
            }
        };
        (room.max(0.0).floor(), more)
    }

    /// The window.
    pub fn window(&self) -> Duration {
        self.spec.window
    }

    /// Brings the counters to `now`.
    fn roll(&mut self, now: Duration) {
        let window = self.spec.window;
        match &mut self.counted {
            Counted::Fixed { phase, index, count } => {
                let at = (now + *phase).as_nanos() / window.as_nanos();
                if at != *index {
                    (*index, *count) = (at, 0.0);
                }
            }
            Counted::Log(times) => {
                while times.front().is_some_and(|&at| at + window <= now) {
                    times.pop_front();
                }
            }
            Counted::Counter { phase, index, previous, current } => {
                let at = (now + *phase).as_nanos() / window.as_nanos();
                if at != *index {
                    *previous = if at == *index + 1 { *current } else { 0.0 };
                    (*index, *current) = (at, 0.0);
                }
            }
            Counted::Bucket { tokens, at } => {
                let Kind::TokenBucket { burst } = self.spec.kind else { return };
                let earned = now.saturating_sub(*at).as_secs_f64() * self.spec.n / window.as_secs_f64();
                (*tokens, *at) = ((*tokens + earned).min(burst), now);
            }
        }
    }

    fn admit(&mut self, now: Duration) -> bool {
        self.roll(now);
        let (n, window) = (self.spec.n, self.spec.window);
        match &mut self.counted {
            Counted::Fixed { count, .. } if *count + 1.0 <= n => *count += 1.0,
            Counted::Log(times) if float(times.len()) + 1.0 <= n => times.push_back(now),
            Counted::Counter { phase, previous, current, .. }
                if weighted(now, *phase, window, *previous, *current) + 1.0 <= n =>
            {
                *current += 1.0;
            }
            // A wait of exactly the time announced must be enough.
            Counted::Bucket { tokens, .. } if *tokens >= 1.0 - 1e-6 => *tokens -= 1.0,
            Counted::Fixed { .. } | Counted::Log(_) | Counted::Counter { .. } | Counted::Bucket { .. } => return false,
        }
        true
    }

    fn refuse(&self, now: Duration) -> Ruling {
        let truth = self.locked_until.checked_sub(now).unwrap_or_else(|| self.until_room(now)).as_secs_f64();
        let header = match self.spec.retry_after {
            RetryAfter::Seconds => Some(Header::Seconds(whole(truth.ceil()))),
            RetryAfter::Floor => Some(Header::Seconds(whole(truth))),
            RetryAfter::Absent => None,
            RetryAfter::Short => Some(Header::Seconds(whole((truth / 5.0).max(1.0)))),
            RetryAfter::Date => {
                #[allow(clippy::cast_precision_loss, reason = "a skew in seconds")]
                let clock = EPOCH + now.as_secs_f64() + self.spec.clock_skew as f64;
                Some(Header::Date { retry_at: (clock + truth).floor(), date: clock.floor() })
            }
        };
        Ruling::Refused { header }
    }

    /// Time until one request would be admitted if nobody else asks.
    pub fn wait(&mut self, now: Duration) -> Duration {
        if let Some(rest) = self.locked_until.checked_sub(now).filter(|rest| !rest.is_zero()) {
            return rest;
        }
        self.roll(now);
        if self.clone().admit(now) { Duration::ZERO } else { self.until_room(now) }
    }

    /// The same; the counters are at `now`, it is not locked, and there is no room.
    fn until_room(&self, now: Duration) -> Duration {
        let (n, window) = (self.spec.n, self.spec.window);
        match &self.counted {
            Counted::Fixed { phase, .. } => left(now, *phase, window),
            Counted::Log(times) => {
                let over = whole(float(times.len()) + 1.0 - n.floor()).max(1);
                let leaves = usize::try_from(over - 1).ok().and_then(|i| times.get(i));
                leaves.map_or(window, |&at| (at + window).saturating_sub(now))
            }
            Counted::Counter { phase, previous, current, .. } => {
                let left = left(now, *phase, window);
                let (waits, full) = if current + 1.0 <= n { (Duration::ZERO, *previous) } else { (left, *current) };
                let elapsed = if waits.is_zero() { window.saturating_sub(left) } else { Duration::ZERO };
                let share = 1.0 - (n - 1.0 - if waits.is_zero() { *current } else { 0.0 }) / full.max(1.0);
                // A nanosecond more, because the share was rounded.
                waits + window.mul_f64(share.clamp(0.0, 1.0)).saturating_sub(elapsed) + Duration::from_nanos(1)
            }
            Counted::Bucket { tokens, .. } => window.mul_f64((1.0 - tokens).max(0.0) / n.max(1e-9)),
        }
    }
}

fn weighted(now: Duration, phase: Duration, window: Duration, previous: f64, current: f64) -> f64 {
    previous * left(now, phase, window).as_secs_f64() / window.as_secs_f64() + current
}

/// Time left of the aligned window.
fn left(now: Duration, phase: Duration, window: Duration) -> Duration {
    let elapsed = (now + phase).as_nanos() % window.as_nanos();
    window.saturating_sub(Duration::from_nanos(u64::try_from(elapsed).unwrap_or(u64::MAX)))
}

#[allow(clippy::cast_precision_loss, reason = "counts of requests")]
fn float(count: usize) -> f64 {
    count as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

/// A generator whose first draws differ also where seeds are neighbours, which the generator itself does not promise.
pub fn rng(seed: u64) -> fastrand::Rng {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    fastrand::Rng::with_seed(mixed ^ (mixed >> 31))
}

/// The other clients of the same limit: Poisson arrivals, silent during a lockout, afterwards a quarter faster until
/// they have caught up.
#[derive(Debug, Clone)]
pub struct Background {
    rng: fastrand::Rng,
    per_second: f64,
    on_off: Option<(Duration, Duration)>,
    start: Duration,
    /// Counted from the start.
    next: Duration,
    owed: u64,
    /// Requests that somebody wanted to send.
    pub arrived: u64,
    /// Requests that were admitted.
    pub served: u64,
    /// Requests that came while the limit was used up or everybody was locked out; most are served later.
    pub turned_away: u64,
}

impl Background {
    /// `on_off`: they come only during the first part of every such period.
    pub fn new(per_second: f64, on_off: Option<(Duration, Duration)>, seed: u64) -> Self {
        let rng = rng(seed);
        let zero = Duration::ZERO;
        let mut background =
            Self { rng, per_second, on_off, start: zero, next: zero, owed: 0, arrived: 0, served: 0, turned_away: 0 };
        background.draw();
        background
    }

    /// They begin only then.
    #[must_use]
    pub fn starting(mut self, start: Duration) -> Self {
        self.start = start;
        self
    }

    /// Lets everything happen that happens up to `now`. Call it before anything else asks the limit.
    pub fn advance(&mut self, now: Duration, limit: &mut RateLimit) {
        while self.per_second > 0.0 && self.start + self.next <= now {
            let at = self.start + self.next;
            self.arrived += 1;
            if limit.locked_out(at) {
                self.owed += 1;
                self.turned_away += 1;
            } else {
                self.send(at, limit);
                if self.arrived.is_multiple_of(4) && self.owed > 0 && !limit.locked_out(at) {
                    self.owed -= 1;
                    self.send(at, limit);
                }
            }
            self.draw();
        }
    }

    fn send(&mut self, at: Duration, limit: &mut RateLimit) {
        match limit.request(at) {
            Ruling::Admitted => self.served += 1,
            Ruling::Refused { .. } => {
                self.owed += 1;
                self.turned_away += 1;
            }
        }
    }

    fn draw(&mut self) {
        if self.per_second <= 0.0 {
            return;
        }
        // Drawn on the clock that runs only while they come, so a pause does not bend the distribution.
        let mut gap = Duration::from_secs_f64(-(1.0 - self.rng.f64()).ln() / self.per_second);
        if let Some((on, off)) = self.on_off {
            let period = (on + off).as_nanos().max(1);
            loop {
                let into = Duration::from_nanos(u64::try_from(self.next.as_nanos() % period).unwrap_or(u64::MAX));
                let rest = on.saturating_sub(into);
                if gap < rest || on.is_zero() {
                    break;
                }
                gap -= rest;
                self.next += (on + off).saturating_sub(into);
            }
        }
        self.next += gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: Kind) -> Spec {
        Spec {
            kind,
            n: 10.0,
            window: Duration::from_secs(10),
            lockout: Duration::ZERO,
            extending: false,
            retry_after: RetryAfter::Seconds,
            clock_skew: 0,
        }
    }

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn admitted(limit: &mut RateLimit, seconds: f64, asked: usize) -> usize {
        (0..asked).filter(|_| limit.request(at(seconds)) == Ruling::Admitted).count()
    }

    const KINDS: [Kind; 4] =
        [Kind::FixedWindow, Kind::SlidingLog, Kind::SlidingCounter, Kind::TokenBucket { burst: 10.0 }];

    #[test]
    fn every_kind_admits_a_full_window_and_no_more() {
        for kind in KINDS {
            assert_eq!(admitted(&mut RateLimit::new(spec(kind), 7), 0.0, 30), 10, "{kind:?}");
        }
    }

    #[test]
    fn a_fixed_window_turns_over_at_its_own_phase() {
        let mut limit = RateLimit::new(spec(Kind::FixedWindow), 7);
        let Ruling::Refused { header: Some(Header::Seconds(_)) } =
            (0..11).map(|_| limit.request(at(0.0))).last().unwrap()
        else {
            panic!("the eleventh is over the limit");
        };

        let turns = (0..1000).map(|i| f64::from(i) / 100.0).find(|&s| limit.request(at(s)) == Ruling::Admitted);

        assert!(turns.is_some_and(|s| s > 0.0 && s < 10.0));
    }

    #[test]
    fn the_time_announced_is_the_time_after_which_one_request_is_admitted() {
        for kind in KINDS {
            let mut limit = RateLimit::new(spec(kind), 3);
            for step in 0..2000 {
                let now = at(f64::from(step) * 0.37);
                if limit.clone().request(now) == Ruling::Admitted {
                    limit.request(now);
                    continue;
                }
                limit.roll(now);
                let wait = limit.until_room(now);
                assert_eq!(limit.clone().request(now + wait), Ruling::Admitted, "{kind:?} at {now:?} after {wait:?}");
                let early = wait.mul_f64(0.99).saturating_sub(Duration::from_millis(1));
                assert_ne!(limit.clone().request(now + early), Ruling::Admitted, "{kind:?} at {now:?} after {early:?}");
            }
        }
    }

    #[test]
    fn a_sliding_log_never_holds_more_than_its_limit() {
        let mut limit = RateLimit::new(spec(Kind::SlidingLog), 1);
        let times: Vec<f64> =
            (0..500).map(|i| f64::from(i) * 0.3).filter(|&s| limit.request(at(s)) == Ruling::Admitted).collect();

        assert!(times.windows(11).all(|w| w[10] - w[0] >= 10.0 - 1e-6));
        assert!(times.len() > 140);
    }

    #[test]
    fn the_counter_weighs_the_last_window() {
        let mut limit = RateLimit::new(spec(Kind::SlidingCounter), 1);
        let turn = left(at(0.0), at(0.0) + phase_of(&limit), at(10.0)).as_secs_f64();
        assert_eq!(admitted(&mut limit, 0.0, 10), 10);

        assert_eq!(admitted(&mut limit, turn + 5.0, 10), 5);
    }

    fn phase_of(limit: &RateLimit) -> Duration {
        match limit.counted {
            Counted::Fixed { phase, .. } | Counted::Counter { phase, .. } => phase,
            Counted::Log(_) | Counted::Bucket { .. } => Duration::ZERO,
        }
    }

    #[test]
    fn a_bucket_stores_its_burst_and_keeps_it_when_the_limit_changes() {
        let mut limit = RateLimit::new(spec(Kind::TokenBucket { burst: 3.0 }), 1);
        assert_eq!(admitted(&mut limit, 0.0, 10), 3);
        assert_eq!(admitted(&mut limit, 2.0, 10), 2);

        limit.set_limit(at(2.0), 100.0);

        assert_eq!(admitted(&mut limit, 2.1, 10), 1);
        assert_eq!(admitted(&mut limit, 60.0, 10), 3);
    }

    #[test]
    fn a_request_over_the_limit_locks_everybody_out_and_only_extending_servers_start_anew() {
        for extending in [false, true] {
            let lockout = Duration::from_secs(20);
            let mut limit = RateLimit::new(Spec { lockout, extending, ..spec(Kind::SlidingLog) }, 1);
            assert_eq!(admitted(&mut limit, 0.0, 11), 10);
            assert!(limit.locked_out(at(19.9)));

            let refused = limit.request(at(15.0));

            let left = if extending { 20 } else { 5 };
            assert_eq!(refused, Ruling::Refused { header: Some(Header::Seconds(left)) });
            assert_eq!(limit.locked_out(at(21.0)), extending);
            assert_eq!(limit.locked_time(at(100.0)), Duration::from_secs(if extending { 35 } else { 20 }));
            assert_eq!(admitted(&mut limit, 40.0, 1), 1);
        }
    }

    #[test]
    fn each_header_says_what_its_name_promises() {
        let of = |retry_after| {
            let mut limit =
                RateLimit::new(Spec { lockout: at(12.5), retry_after, clock_skew: -90, ..spec(Kind::SlidingLog) }, 1);
            admitted(&mut limit, 0.5, 10);
            let Ruling::Refused { header } = limit.request(at(0.75)) else { panic!("over the limit") };
            header
        };

        assert_eq!(of(RetryAfter::Seconds), Some(Header::Seconds(13)));
        assert_eq!(of(RetryAfter::Floor), Some(Header::Seconds(12)));
        assert_eq!(of(RetryAfter::Short), Some(Header::Seconds(2)));
        assert_eq!(of(RetryAfter::Absent), None);
        assert_eq!(of(RetryAfter::Date), Some(Header::Date { retry_at: EPOCH - 77.0, date: EPOCH - 90.0 }));
    }

    #[test]
    fn neighbours_come_at_their_rate_and_only_while_they_are_on() {
        let mut limit = RateLimit::new(Spec { n: 1e9, ..spec(Kind::FixedWindow) }, 1);
        let mut always = Background::new(2.0, None, 5);
        let mut half = Background::new(2.0, Some((at(50.0), at(150.0))), 5);

        always.advance(at(10_000.0), &mut limit);
        half.advance(at(50.0), &mut limit);
        let first = half.arrived;
        half.advance(at(199.0), &mut limit);

        assert!((19_000..21_000).contains(&always.arrived), "{}", always.arrived);
        assert!((60..140).contains(&first), "{first}");
        assert_eq!(half.arrived, first);
        half.advance(at(10_000.0), &mut limit);
        assert!((4_500..5_500).contains(&half.arrived), "{}", half.arrived);
    }

    #[test]
    fn neighbours_are_silent_in_a_lockout_and_then_catch_up() {
        let lockout = Duration::from_secs(30);
        let mut limit = RateLimit::new(Spec { n: 100.0, lockout, extending: true, ..spec(Kind::SlidingLog) }, 1);
        let mut background = Background::new(1.0, None, 5);
        admitted(&mut limit, 0.0, 101);

        background.advance(at(29.0), &mut limit);
        assert_eq!(background.served, 0);
        background.advance(at(2000.0), &mut limit);

        assert_eq!(background.served, background.arrived);
        assert_eq!(limit.locked_time(at(2000.0)), lockout);
    }
}
