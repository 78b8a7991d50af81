//! Where slots come from: a machine of our own, or one that we share with other replicas.

use std::time::Duration;

use crate::limiter::Outcome;
use crate::limiter::machine::Decision;
use crate::limiter::machine::Machine;
use crate::limiter::machine::Slot;
use crate::limiter::quota::Quota;
use crate::limiter::shared::desk::Desk;

/// One of both. Times are the limiter's own.
#[derive(Debug)]
pub(crate) enum Source {
    Own(Machine),
    Shared(Box<Desk>),
}

impl Source {
    pub fn acquire(&mut self, now: Duration) -> Decision {
        match self {
            Self::Own(machine) => machine.acquire(now),
            Self::Shared(desk) => desk.acquire(now),
        }
    }

    /// The request goes out.
    pub fn sending(&mut self, slot: &mut Slot, now: Duration) {
        match self {
            Self::Own(_) => slot.sent = now,
            // Its time is the store's.
            Self::Shared(desk) => desk.sending(),
        }
    }

    /// Whether nothing happened since the slot was given that voids it.
    pub fn is_current(&self, slot: &Slot, now: Duration) -> bool {
        match self {
            Self::Own(machine) => slot.is_trial() || !machine.gate().is_closed(),
            Self::Shared(desk) => desk.is_current(slot, now),
        }
    }

    pub fn cancel(&mut self, slot: Slot, now: Duration) {
        match self {
            Self::Own(machine) => machine.cancel(slot),
            Self::Shared(desk) => desk.cancel(slot, now),
        }
    }

    pub fn told(&mut self, slot: &Slot, quota: Quota, now: Duration) {
        match self {
            Self::Own(machine) => machine.told(slot, quota, now),
            Self::Shared(desk) => desk.told(quota),
        }
    }

    pub fn reply(&mut self, slot: Slot, outcome: Outcome, now: Duration) {
        match self {
            Self::Own(machine) => machine.reply(slot, outcome, now),
            Self::Shared(desk) => desk.reply(slot, outcome, now),
        }
    }

    /// The machine, and its time at `now`.
    pub fn view(&mut self, now: Duration) -> (&mut Machine, Duration) {
        match self {
            Self::Own(machine) => (machine, now),
            Self::Shared(desk) => desk.view(now),
        }
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        match self {
            Self::Own(machine) => machine,
            Self::Shared(desk) => desk.machine(),
        }
    }
}
