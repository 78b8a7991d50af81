//! The ways up: probes above what is known, and the way back after a cut.

use std::time::Duration;

use crate::limiter::budget::Budget;
use crate::limiter::budget::Paced;
use crate::limiter::budget::Run;
use crate::limiter::budget::Step;
use crate::limiter::budget::Wall;
use crate::limiter::budget::learn::SAME;
use crate::limiter::budget::period;
use crate::limiter::machine::count;

/// Seconds of pause that probing may cost: at first, earned per second, and at most.
pub(super) const PURSE_AT_START: f64 = 3.0;
const EARNED_PER_SECOND: f64 = 0.02;
/// Before the first refusal nothing but the documentation speaks for the limit: finding out is worth more.
const EARNED_UNREFUSED: f64 = 0.05;
const FULL_PURSE: f64 = 90.0;

/// A neighbour who left is noticed after so long, the steps of the way back up included.
pub(super) const HOLD: Duration = Duration::from_secs(600);
/// Or so many lockouts, where these are short: finding out costs one.
const HOLD_LOCKOUTS: u32 = 10;
const HOLD_WITHOUT_LOCKOUT: Duration = Duration::from_secs(60);

/// Windows that the way back up takes, and how much more each of the first steps dares; the last is all the rest.
const STEPS: u32 = 3;
const STEP: [f64; 2] = [1.3, 1.6];

/// After this part of a window a bucket may have one more.
const BEYOND: u32 = 30;

/// So many are in flight at most where a refusal is likely, for they are refused as well, and some lockouts get longer by
/// each: above what held so far, and among neighbours when this much of the budget is used.
const FEW_ABOVE: f64 = 6.0;
const FEW_AMONG_OTHERS: f64 = 8.0;
const LATE: f64 = 0.5;

const LONGEST_CALM: Duration = Duration::from_secs(24 * 3600);

impl Budget {
    /// Whether enough are in flight, where a refusal is likely: late in a burst among neighbours, in a probe, and beyond what
    /// held before a probe found more. There one goes ahead, and each that lands lets one more go.
    pub(super) fn has_enough_in_flight(&self, used: f64, now: Duration) -> bool {
        let in_flight = count(self.in_flight);
        if let Some(before) = self.before_find
            && used > before
            && !self.gate.is_closed()
        {
            let landed = (used - before - in_flight).max(0.0);
            if in_flight >= FEW_ABOVE.min(1.0 + landed) {
                return true;
            }
        }
        if let Some(Run { step: Step::Chunk { size, out, landed }, .. }) = self.run
            && used + 1.0 > self.n
            && out < size
            && out - landed >= FEW_ABOVE
        {
            return true;
        }
        now < self.crowded_until && used >= LATE * self.n && in_flight >= FEW_AMONG_OTHERS
    }

    pub(super) fn may_probe(&mut self, now: Duration) -> bool {
        match &mut self.run {
            Some(Run { step: Step::Chunk { size, out, .. }, .. }) if *out < *size => {
                *out += 1.0;
                true
            }
            Some(_) => false,
            None => {
                self.earn(now);
                // What a refusal would cost beyond waiting anyway.
                let cost = (self.gate.pause().as_secs_f64() + 1.0 - self.would_wait(now)).max(1.0);
                let due = if self.n < self.prior {
                    now >= self.recover_at && !self.even_way_up
                } else {
                    now >= self.next_probe && self.purse >= cost
                };
                if self.in_flight > 0 || !due {
                    return false;
                }
                self.run = Some(Run { from: self.n, step: Step::Chunk { size: 1.0, out: 1.0, landed: 0.0 } });
                true
            }
        }
    }

    /// When the next request goes that finds out whether the limit is a rate.
    pub(super) fn beyond(&self) -> Option<Duration> {
        match self.run {
            Some(Run { step: Step::Beyond { gap, .. }, .. }) => Some(self.last_answer + gap),
            None if self.wall == Wall::InDoubt && !self.gate.is_closed() => {
                Some(self.last_answer + self.window / BEYOND)
            }
            _ => None,
        }
    }

    pub(super) fn goes_beyond(&mut self) {
        if self.run.is_none() {
            let step = Step::Beyond { since: self.last_answer, landed: 0.0, gap: self.window / BEYOND };
            self.run = Some(Run { from: self.n, step });
        }
    }

    /// The way up where there is no burst to probe at the end of: while pacing, or while little is asked for.
    pub(super) fn grow(&mut self, now: Duration) {
        if let Some(Paced::Guessed(since)) = self.paced
            && self.n >= self.prior
            && now >= self.event_at.unwrap_or(since).max(since) + self.calm
        {
            self.calm = (self.calm * 2).min(LONGEST_CALM);
            self.set_paced(None);
            self.why = "no refusal for long: bursts are tried again";
        }
        let below = self.n < self.prior;
        if now >= self.recover_at + self.window * STEPS {
            // Too little was asked for to tell.
            self.suspect = None;
        }
        if self.suspect.is_some() || self.n >= self.ceiling || !(below || self.paced.is_some()) {
            return;
        }
        self.earn(now);
        let number = match self.run {
            Some(Run { step: Step::Window { since, number }, .. }) if now >= since + self.window => number + 1,
            None if below && now >= self.recover_at && (self.paced.is_some() || self.even_way_up) => {
                if self.paced.is_none() {
                    self.set_paced(Some(Paced::Guessed(now)));
                }
                0
            }
            None if below && now >= self.recover_at + self.window * STEPS => STEP.len(),
            None if !below && now >= self.next_probe && self.purse > self.gate.pause().as_secs_f64() + 1.0 => 0,
            Some(_) | None => return,
        };
        if !below && self.admitted() < SAME * self.n {
            return; // nobody asks for more
        }
        let from = self.run.map_or(self.n, |run| run.from);
        let factor = if below { STEP.get(number).copied().unwrap_or(f64::INFINITY) } else { 1.1 };
        let bound = if below { self.prior } else { self.ceiling };
        if below {
            self.held = Some(from);
        }
        self.n = (self.n * factor).min(bound);
        self.run = (!below || self.n < bound).then_some(Run { from, step: Step::Window { since: now, number } });
        self.pace.set_period(period(self.window, self.n));
        self.why = "nothing was refused for long";
    }

    /// When the way back up after a cut is over at the latest, and what may be used then, unless something is refused again; `None`
    /// where nothing was cut.
    pub(crate) fn way_back(&self) -> Option<(Duration, f64)> {
        if self.n >= self.prior || self.prior.is_infinite() {
            return None;
        }
        let over = match self.run {
            Some(Run { step: Step::Window { since, number }, .. }) => {
                since + self.window * u32::try_from(STEP.len().saturating_sub(number)).unwrap_or(STEPS)
            }
            Some(_) | None => self.recover_at + self.window * STEPS,
        };
        Some((over, self.prior))
    }

    fn earn(&mut self, now: Duration) {
        let per_second = if self.event_at.is_none() { EARNED_UNREFUSED } else { EARNED_PER_SECOND };
        self.purse = (self.purse + per_second * now.saturating_sub(self.purse_at).as_secs_f64()).min(FULL_PURSE);
        self.purse_at = now;
    }

    /// When the way back up begins after a cut. Where neighbours were met again and a lockout is short, the sooner the more was lost
    /// to them.
    pub(super) fn holds(&self, met_again: bool, now: Duration) -> Duration {
        let mut hold = if self.backoff.is_zero() { HOLD_WITHOUT_LOCKOUT } else { self.backoff * HOLD_LOCKOUTS };
        if met_again && !self.backoff.is_zero() && hold < HOLD {
            let left_to_lost = self.n / (self.prior - self.n).max(1.0);
            hold = hold.mul_f64(left_to_lost.clamp(0.1, 10.0));
        }
        now + hold.mul_f64(self.patience).min(HOLD).saturating_sub(self.window * STEPS).max(self.window * 2)
    }
}

/// Between two probes at least.
pub(super) fn shortest_gap(window: Duration, backoff: Duration) -> Duration {
    if backoff.is_zero() { window } else { window.max(backoff) * 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::Outcome;
    use crate::limiter::Settings;
    use crate::limiter::machine::Decision;
    use crate::limiter::machine::Slot;
    use crate::limiter::machine::SlotKind;
    use std::collections::VecDeque;

    /// Many send all they can for three minutes, and everything is admitted. The most in flight of what counts, and the most
    /// that was used of the budget.
    fn most_in_flight(budget: &mut Budget, counts: impl Fn(&Slot, f64) -> bool) -> (usize, f64) {
        let (mut out, mut most, mut highest) = (VecDeque::new(), 0, 0.0_f64);
        let mut now = Duration::from_secs(1000);
        while now < Duration::from_secs(1180) {
            while out.len() < 64
                && let Decision::Send(slot) = budget.acquire(now)
            {
                let used = count(budget.used(now));
                highest = highest.max(used);
                out.push_back((slot, used));
                most = most.max(out.iter().filter(|(slot, used)| counts(slot, *used)).count());
            }
            now += Duration::from_millis(20);
            if let Some((slot, _)) = out.pop_front() {
                budget.reply(&slot, Outcome::Answered, now);
            }
        }
        (most, highest)
    }

    fn limit(n: f64) -> Settings {
        Settings { limit: Some((n, Duration::from_secs(60))), probe: true, ..Settings::default() }
    }

    #[test]
    fn few_probes_are_in_flight() {
        let is_probe = |slot: &Slot, _| slot.kind == SlotKind::Probe;

        let (most, highest) = most_in_flight(&mut Budget::new(&limit(100.0)), is_probe);

        assert!(highest > 300.0 && (2..=6).contains(&most), "{highest} {most}");
    }

    #[test]
    fn few_are_in_flight_above_what_held_before_a_probe_found_more() {
        let mut budget = Budget::new(&limit(300.0));
        budget.before_find = Some(100.0);
        assert_eq!(most_in_flight(&mut budget, |_, used| used <= 100.0).0, 64);

        let mut budget = Budget::new(&Settings { probe: false, ..limit(300.0) });
        budget.before_find = Some(100.0);
        let (most, highest) = most_in_flight(&mut budget, |_, used| used > 101.0);

        assert!(highest > 250.0 && (2..=6).contains(&most), "{highest} {most}");
    }

    #[test]
    fn among_neighbours_few_are_in_flight_late_in_a_burst_and_many_before() {
        let budget = || Budget::new(&Settings { probe: false, ..limit(200.0) });
        let (mut early, mut late) = (budget(), budget());
        (early.crowded_until, late.crowded_until) = (Duration::MAX, Duration::MAX);

        assert_eq!(most_in_flight(&mut early, |_, used| used <= 100.0).0, 64);
        let (most, highest) = most_in_flight(&mut late, |_, used| used > 101.0);

        assert!(highest > 150.0 && (2..=8).contains(&most), "{highest} {most}");
        assert_eq!(most_in_flight(&mut budget(), |_, used| used > 101.0).0, 64, "alone");
    }

    /// The answer to a request that was sent before `now` and refused for a minute, after `admitted` others.
    fn refused_after(budget: &mut Budget, admitted: usize, now: Duration) {
        budget.done = std::iter::repeat_n(now, admitted).collect();
        budget.old = 0;
        budget.in_flight = 1;
        let slot = Slot { sent: now + Duration::from_secs(1), kind: SlotKind::Plain };
        let retry_after = Some(Duration::from_secs(60));
        budget.reply(&slot, Outcome::Throttled { retry_after }, now + Duration::from_secs(1));
    }

    #[test]
    fn when_neighbours_are_back_so_is_what_held_before_the_way_back_up() {
        let now = Duration::from_secs(1000);
        for (held, lockout, admitted, left) in [
            (Some(50.0), 60, 80, 50.0),
            (Some(20.0), 60, 80, 40.0),
            (Some(75.0), 60, 80, 68.0),
            (None, 60, 80, 68.0),
            (Some(50.0), 0, 80, 77.6),
        ] {
            let lockout = Duration::from_secs(lockout);
            let mut budget = Budget::new(&Settings { probe: false, lockout, ..limit(100.0) });
            (budget.held, budget.crowded_until) = (held, Duration::MAX);

            refused_after(&mut budget, admitted, now);

            assert!((budget.n - left).abs() < 1e-9, "{held:?} {lockout:?}: {}", budget.n);
            assert_eq!(budget.held, None, "once");
        }
    }

    #[test]
    fn where_nothing_locks_hardly_any_room_is_made() {
        let left = |lockout| {
            let lockout = Duration::from_secs(lockout);
            let mut budget = Budget::new(&Settings { probe: false, lockout, ..limit(100.0) });
            budget.crowded_until = Duration::MAX;
            refused_after(&mut budget, 100, Duration::from_secs(1000));
            budget.n
        };

        assert_eq!((left(60), left(0)), (85.0, 97.0));
    }

    #[test]
    fn in_the_first_burst_of_all_a_refusal_before_the_budget_is_spent_is_about_its_size() {
        for (burst_at, suspects) in [(0, true), (900, false)] {
            let mut budget = Budget::new(&Settings { probe: false, ..limit(100.0) });
            budget.burst_at = Duration::from_secs(burst_at);

            refused_after(&mut budget, 88, Duration::from_secs(1000));

            assert_eq!((budget.suspect.is_some(), budget.paced.is_none()), (suspects, suspects), "{burst_at}");
        }
    }

    #[test]
    fn of_a_burst_no_more_is_admitted_than_there_is_though_an_even_pace_met_two_windows() {
        for (at_once, n) in [(100, 100.0), (60, 180.0), (0, 180.0)] {
            let mut budget = Budget::new(&Settings { probe: false, ..limit(400.0) });
            let burst = Duration::from_secs(1000);
            (budget.burst_at, budget.reopened) = (burst, burst + Duration::from_secs(60));
            let since = burst + Duration::from_secs(70);
            budget.set_paced(Some(Paced::Guessed(budget.reopened)));
            budget.done = std::iter::repeat_n(burst, at_once).chain(std::iter::repeat_n(since, 180)).collect();
            budget.in_flight = 1;
            let slot = Slot { sent: since + Duration::from_secs(1), kind: SlotKind::Plain };

            let retry_after = Some(Duration::from_secs(60));
            budget.reply(&slot, Outcome::Throttled { retry_after }, since + Duration::from_secs(1));

            assert!((budget.n - n).abs() < 1e-9, "{at_once}: {}", budget.n);
        }
    }

    /// Whoever said how long a drain takes went by the cut budget to its end.
    #[test]
    fn the_way_back_up_is_over_by_the_time_that_is_told_whatever_it_is_walked_by() {
        for (at_once, paced, even) in [(1, false, false), (30, false, false), (30, true, false), (30, false, true)] {
            let mut budget = Budget::new(&Settings { probe: false, ..limit(100.0) });
            assert_eq!(budget.way_back(), None);
            budget.crowded_until = Duration::MAX;
            let mut now = Duration::from_secs(1000);
            refused_after(&mut budget, at_once, now);
            if paced {
                budget.set_paced(Some(Paced::Guessed(now)));
            }
            budget.even_way_up = even;
            let (told, n) = budget.way_back().unwrap();
            assert!((n - 100.0).abs() < 1e-9 && told > now && told <= now + HOLD + Duration::from_secs(60), "{told:?}");

            while budget.way_back().is_some() {
                let (newest, _) = budget.way_back().unwrap();
                assert!(
                    newest <= told + Duration::from_secs(1) && now <= told + Duration::from_secs(1),
                    "{newest:?} {now:?}"
                );
                now += Duration::from_millis(100);
                if let Decision::Send(slot) = budget.acquire(now) {
                    budget.reply(&slot, Outcome::Answered, now);
                }
            }
        }
    }

    /// When the last of so many goes is told as it then comes, whatever is in use, cut, or closed.
    #[test]
    fn when_the_last_of_many_goes_is_told_as_it_comes() {
        let mut rng = fastrand::Rng::with_seed(7);
        for case in 0..200 {
            let settings = Settings { probe: false, ..limit(f64::from(rng.u32(2..120))) };
            let mut budget = Budget::new(&settings);
            let mut now = Duration::from_secs(1000);
            for _ in 0..rng.usize(0..200) {
                if let Decision::Send(slot) = budget.acquire(now) {
                    budget.reply(&slot, Outcome::Answered, now);
                }
                now += Duration::from_millis(rng.u64(0..700));
            }
            let is_cut = rng.u8(..3) == 0;
            if is_cut {
                (budget.n, budget.recover_at) =
                    ((budget.n / 4.0).floor().max(1.0), now + Duration::from_secs(rng.u64(1..400)));
            }
            let left = rng.usize(1..400);
            let told = budget.due(left, now).unwrap();

            let mut sent = 0;
            while sent < left {
                now += Duration::from_millis(100);
                while sent < left
                    && let Decision::Send(slot) = budget.acquire(now)
                {
                    budget.reply(&slot, Outcome::Answered, now);
                    sent += 1;
                }
            }
            let (told, came) = (told.as_secs_f64(), now.as_secs_f64());
            // Where it was cut it is told as of the latest that the way back may end.
            let earlier = if is_cut { 3.0 * 60.0 } else { 1.0 + 0.1 * came / 60.0 };
            assert!(came <= told + earlier.min(61.0) && told <= came + earlier, "{case}: {told} {came} {is_cut}");
        }
    }

    #[test]
    fn the_way_back_up_leaves_behind_what_held_before_it() {
        let mut budget = Budget::new(&Settings { probe: false, ..limit(100.0) });
        (budget.n, budget.recover_at) = (40.0, Duration::from_secs(1060));

        let (_, highest) = most_in_flight(&mut budget, |_, _| true);

        assert!(highest > 90.0, "{highest}");
        // It may begin with a single one more.
        assert!(budget.held.is_some_and(|held| (40.0..=41.0).contains(&held)), "{:?}", budget.held);
    }

    #[test]
    fn the_more_is_lost_to_neighbours_the_sooner_the_way_back_up_begins_and_after_ten_minutes_in_any_case() {
        let start = |n: f64, lockout: u64| {
            let settings = Settings { limit: Some((100.0, Duration::from_secs(20))), ..limit(100.0) };
            let mut budget = Budget::new(&Settings { probe: false, lockout: Duration::from_secs(lockout), ..settings });
            (budget.n, budget.crowded_until) = (n, Duration::MAX);
            refused_after(&mut budget, whole(n), Duration::from_secs(1000));
            budget.recover_at.as_secs() - 1001
        };

        assert!(start(30.0, 30) < start(50.0, 30) && start(50.0, 30) < start(70.0, 30));
        assert_eq!((start(30.0, 60), start(95.0, 30)), (540, 540), "three windows before ten minutes are over");
        assert_eq!((start(30.0, 0), start(90.0, 0)), (40, 40), "without a lockout nothing is risked");
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of requests")]
    fn whole(n: f64) -> usize {
        n as usize
    }
}
