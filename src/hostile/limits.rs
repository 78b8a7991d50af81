//! What happens to the limiter: three bytes an event, after eight of settings.

use crate::limiter::AdaptiveSettings;
use crate::limiter::Algorithm;
use crate::limiter::Outcome;
use crate::limiter::Pacing;
use crate::limiter::Settings;
use crate::limiter::machine::Decision;
use crate::limiter::machine::Machine;
use crate::limiter::machine::Slot;
use crate::limiter::memory::Memory;
use crate::limiter::quota::Quota;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::SystemTime;

const ORIGIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// As long as this a request may wait when nobody refuses any more: a day's pause, doubled, and windows of a day.
const PATIENCE: Duration = Duration::from_secs(8 * 24 * 3600);

pub fn attempt(bytes: &[u8]) {
    let Some((head, events)) = bytes.split_first_chunk::<8>() else { return };
    let settings = settings(*head);
    let mut run = Run { machine: Machine::new(&settings), settings, now: ORIGIN, under_way: VecDeque::new() };
    for event in events.chunks_exact(3).take(2000) {
        run.event(event[0], u16::from_be_bytes([event[1], event[2]]));
    }
    run.ends_well();
}

fn settings(head: [u8; 8]) -> Settings {
    let [sort, n, window, lockout, reserve, initial, factor, threshold] = head.map(f64::from);
    let flags = head[0];
    Settings {
        algorithm: if flags & 1 == 0 { Algorithm::Budget } else { Algorithm::Adaptive },
        limit: (flags & 2 == 0).then(|| (n * n + 1.0, Duration::from_secs_f64(window * window / 4.0 + 0.001))),
        lockout: Duration::from_secs_f64(lockout),
        reserve: reserve / 256.0,
        probe: flags & 4 != 0,
        shape: if flags & 8 == 0 { Pacing::Auto } else { Pacing::Paced },
        adaptive: AdaptiveSettings {
            initial_rate: initial + 0.1,
            min_rate: 0.1,
            max_rate: initial + sort + 1.0,
            decrease_factor: (factor + 1.0) / 258.0,
            increase_factor: 1.0 + factor / 100.0,
            success_threshold: u32::from(head[7]) + u32::from(threshold > 100.0) + 1,
        },
    }
}

struct Run {
    machine: Machine,
    settings: Settings,
    now: Duration,
    under_way: VecDeque<Slot>,
}

impl Run {
    fn event(&mut self, what: u8, much: u16) {
        let millis = Duration::from_millis(u64::from(much));
        match what % 12 {
            0 | 1 => drop(self.ask()),
            2 => self.reply(Outcome::Answered),
            3 => self.reply(Outcome::Throttled { retry_after: None }),
            4 => self.reply(Outcome::Throttled { retry_after: Some(millis * u32::from(what)) }),
            5 => self.reply(Outcome::Failed),
            6 => {
                if let Some(slot) = self.under_way.pop_back() {
                    self.machine.cancel(slot);
                }
            }
            7 => {
                let quota = Quota {
                    limit: (much & 1 == 0).then(|| f64::from(much)),
                    window: (much & 2 == 0).then_some(millis),
                    remaining: f64::from(much >> 4),
                    reset: millis * u32::from(what),
                };
                if let Some(slot) = self.under_way.front() {
                    self.machine.told(slot, quota, self.now);
                }
            }
            8 => self.now += millis,
            9 => self.now += millis * 1000,
            10 => self.restart(u64::from(much)),
            _ => self.found(),
        }
        assert!(self.machine.rate().is_none_or(|rate| rate.is_finite() && rate >= 0.0));
        assert!(self.machine.budget().is_none_or(|n| n.is_finite() && n > 0.0));
        let used = self.machine.used(self.now);
        assert!(used >= self.machine.in_flight().min(1), "used {used}");
    }

    /// When it may be asked again; `None` where it may be sent now, or after the next reply.
    fn ask(&mut self) -> Option<Duration> {
        match self.machine.acquire(self.now) {
            Decision::Send(slot) => {
                self.under_way.push_back(slot);
                None
            }
            Decision::WaitUntil(at) => {
                assert!(at > self.now, "asked again at once, for ever: {at:?}");
                Some(at)
            }
            Decision::WaitForReply => {
                assert!(!self.under_way.is_empty(), "there is no reply to wait for");
                None
            }
        }
    }

    fn reply(&mut self, outcome: Outcome) {
        if let Some(slot) = self.under_way.pop_front() {
            self.machine.reply(slot, outcome, self.now);
        }
    }

    /// A slot that was given up answers after all.
    fn found(&mut self) {
        if let Some(slot) = self.under_way.pop_front() {
            self.machine.reply(slot, Outcome::Failed, self.now);
            self.machine.found();
            self.machine.reply(
                Slot { sent: self.now, kind: crate::limiter::machine::SlotKind::Plain },
                Outcome::Answered,
                self.now,
            );
        }
    }

    /// The daemon is killed, and another one has the record, by a clock that may have been set.
    fn restart(&mut self, clock: u64) {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let memory = Memory::of(&self.machine, &self.settings, !self.under_way.is_empty(), self.now, wall);
        let text = serde_json::to_string(&memory).unwrap();
        let memory: Memory = serde_json::from_str(&text).unwrap();
        self.machine = Machine::new(&self.settings);
        self.under_way.clear();
        memory.restore(&mut self.machine, &self.settings, wall + Duration::from_millis(clock), self.now);
    }

    /// When nobody refuses any more, requests go out again.
    fn ends_well(mut self) {
        while !self.under_way.is_empty() {
            self.reply(Outcome::Answered);
        }
        let end = self.now + PATIENCE;
        let mut steps = 0;
        while self.under_way.is_empty() {
            if let Some(at) = self.ask() {
                self.now = at;
            }
            steps += 1;
            assert!(self.now <= end, "nothing is sent for ever");
            assert!(steps < 100_000, "it looks again and again");
        }
    }
}
