//! Even spacing, which is what `governor` is for. Its clock is the time we hand in, so it runs in virtual time too.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use governor::Quota;
use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::InMemoryState;
use governor::state::NotKeyed;
use serde::Deserialize;
use serde::Serialize;
use serde::Serializer;

type Governor = RateLimiter<NotKeyed, InMemoryState, Given, NoOpMiddleware<Nanos>>;

/// One request per period, of which `burst` may come together.
#[derive(Debug, Deserialize)]
#[serde(from = "Kept")]
pub(crate) struct Pace {
    clock: Given,
    burst: NonZeroU32,
    governor: Governor,
    period: Duration,
    last: Option<Duration>,
    /// When the turns taken so far would have been due one by one.
    due: Duration,
}

impl Pace {
    pub fn new(period: Duration, burst: NonZeroU32) -> Self {
        let clock = Given::default();
        let governor = governor(period, burst, &clock);
        Self { clock, burst, governor, period, last: None, due: Duration::ZERO }
    }

    /// Takes a turn, or says when the next one is due.
    pub fn turn(&mut self, now: Duration) -> Result<(), Duration> {
        self.clock.set(now);
        match self.governor.check() {
            Ok(()) => {
                self.last = Some(now);
                self.due = self.due.max(now) + self.period;
                Ok(())
            }
            // Never `now` itself, or the caller would spin.
            Err(not_until) => {
                Err((now + not_until.wait_time_from(self.clock.now())).max(now + Duration::from_nanos(1)))
            }
        }
    }

    /// From now on one per `period`. The last turn counts as the start of one, or every change would grant a turn.
    pub fn set_period(&mut self, period: Duration) {
        if period == self.period {
            return;
        }
        self.period = period;
        self.spend_from(self.last);
    }

    /// As after a whole burst at that time, or as new.
    fn spend_from(&mut self, start: Option<Duration>) {
        self.clock.set(start.unwrap_or(Duration::ZERO));
        self.governor = governor(self.period, self.burst, &self.clock);
        self.due = Duration::ZERO;
        if let Some(start) = start {
            for _ in 0..self.burst.get() {
                // A fresh quota holds exactly its burst.
                drop(self.governor.check());
            }
            self.due = start + self.period * self.burst.get();
        }
    }
}

/// A pace as it is written down.
#[derive(Serialize, Deserialize)]
struct Kept {
    period: Duration,
    burst: NonZeroU32,
    last: Option<Duration>,
    due: Duration,
}

impl Serialize for Pace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { period, burst, last, due, .. } = *self;
        Kept { period, burst, last, due }.serialize(serializer)
    }
}

impl From<Kept> for Pace {
    fn from(kept: Kept) -> Self {
        let Kept { period, burst, last, due } = kept;
        let mut pace = Self::new(period, burst);
        pace.spend_from(last.map(|_| due.saturating_sub(period * burst.get())));
        pace.last = last;
        pace
    }
}

fn governor(period: Duration, burst: NonZeroU32, clock: &Given) -> Governor {
    let quota = Quota::with_period(period.max(Duration::from_nanos(1)))
        .unwrap_or_else(|| unreachable!("a period of at least a nanosecond"))
        .allow_burst(burst);
    RateLimiter::direct_with_clock(quota, clock.clone())
}

/// A clock that stands where it was put.
#[derive(Debug, Clone, Default)]
struct Given(Arc<AtomicU64>);

impl Given {
    fn set(&self, now: Duration) {
        self.0.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for Given {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;
    const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn turns_come_one_period_apart() {
        let mut pace = Pace::new(ms(100), ONE);

        assert_eq!(pace.turn(ms(1000)), Ok(()));
        assert_eq!(pace.turn(ms(1000)), Err(ms(1100)));
        assert_eq!(pace.turn(ms(1100)), Ok(()));
    }

    #[test]
    fn a_late_turn_is_made_up_for_once_with_a_burst_of_two() {
        let mut pace = Pace::new(ms(100), TWO);
        assert_eq!((pace.turn(ms(0)), pace.turn(ms(0))), (Ok(()), Ok(())));

        assert_eq!(pace.turn(ms(150)), Ok(()));
        assert_eq!(pace.turn(ms(150)), Err(ms(200)));
    }

    #[test]
    fn a_change_of_pace_grants_no_extra_turn() {
        for burst in [ONE, TWO] {
            let mut pace = Pace::new(ms(100), burst);
            assert_eq!(pace.turn(ms(1000)), Ok(()));

            pace.set_period(ms(200));

            assert_eq!(pace.turn(ms(1001)), Err(ms(1200)));
        }
    }

    #[test]
    fn before_the_first_turn_a_change_of_pace_takes_nothing_away() {
        let mut pace = Pace::new(ms(100), ONE);

        pace.set_period(ms(200));

        assert_eq!(pace.turn(ms(1)), Ok(()));
    }
}
