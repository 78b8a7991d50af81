//! Tells receivers outside what a person should know, and that it is over: one loop a receiver, so that one that does not
//! answer keeps no other waiting. They read the status and drive nothing: no pass ever waits for them.

use crate::backoff::Backoff;
use crate::config::Form;
use crate::config::Notice;
use crate::config::Receiver;
use crate::state::State;
use crate::telemetry::clock;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Redactor;
use crate::telemetry::repeats::is_worth_a_line;
use crate::telemetry::status::Board;
use crate::telemetry::status::ProjectStatus;
use crate::telemetry::status::Status;
use crate::telemetry::status::rfc3339;
use delivery::Failure;
use ledger::Ledger;
use ledger::Letter;
use ledger::Unwritten;
use sight::Sight;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub mod delivery;
mod ledger;
pub mod message;
mod sight;

/// The status of a drain changes all the time, and nobody reads faster.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A receiver that fails so often in a row is told of: once may be a restart of it.
const UNDELIVERED: u32 = 3;

/// What could not be written down is written soon after it can be.
const AGAIN: Duration = Duration::from_secs(1);

/// Another replica may write down late what it told while the database was away.
const REFRESH_EVERY: Duration = Duration::from_secs(10);

/// The loop of one receiver.
pub struct Notifier {
    /// Who is told.
    pub receiver: Receiver,
    /// What was told outlives a restart.
    pub state: State,
    /// How long to wait after a failure.
    pub backoff: Backoff,
    /// Counts what is sent.
    pub metrics: Arc<Metrics>,
    /// Where it is said that a receiver is not told.
    pub board: Arc<Board>,
    /// Messages name no secret.
    pub redactor: Redactor,
}

/// How far ledger and state are apart.
struct Desk {
    /// Projects that another replica writes.
    held_by_others: BTreeSet<String>,
    /// One of them changed hands, and what was told of it could not be read since.
    must_recall: bool,
    /// Not before is the state asked again.
    write_at: Instant,
    refresh_at: Instant,
    /// So many times in a row something could not be written down.
    unwritten: u64,
    /// The same of what could not be read.
    unread: u64,
}

/// Starts the series of every type at 0.
pub fn start_series(metrics: &Metrics) {
    for form in Form::ALL {
        for result in ["sent", "failed"] {
            metrics.notifications_total.with_label_values(&[form.as_str(), result]);
        }
    }
}

impl Notifier {
    /// Tells what there is to tell until `stop`, which cuts a try short: it is begun anew at the next start.
    pub async fn run(self, mut status: watch::Receiver<Status>, stop: CancellationToken) {
        let mut desk = Desk::new(Instant::now());
        let told = self.recalled(&mut desk).unwrap_or_default();
        let mut ledger = Ledger::new(&self.receiver.on, self.backoff, told);
        self.board.delivered(&self.receiver.name, true);
        let (mut failures, mut not_before) = (0, Instant::now());
        loop {
            self.catch_up(&mut desk, &mut ledger, held_by_others(&status.borrow()));
            let hears_of_leases = self.receiver.on.contains(&Notice::LeaseLost);
            let sight = Sight::of(&status.borrow_and_update(), self.state.is_failing(), hears_of_leases);
            ledger.take_in(&sight, Instant::now());
            ledger.drop_unmentioned(Instant::now());
            let due = ledger.due().map(|due| due.max(not_before));
            if due.is_some_and(|due| due <= Instant::now())
                && let Some(letter) = ledger.letter(Instant::now())
            {
                ledger.begin(&letter);
                self.write_down(&mut desk, &mut ledger);
                let told = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    told = self.tell(&letter) => told,
                };
                match told {
                    Ok(()) => {
                        failures = 0;
                        self.board.delivered(&self.receiver.name, true);
                        ledger.sent(&letter, Instant::now());
                        self.write_down(&mut desk, &mut ledger);
                        self.log_sent(&letter);
                    }
                    Err(failure) => {
                        failures += 1;
                        if failures >= UNDELIVERED {
                            self.board.delivered(&self.receiver.name, false);
                        }
                        self.log_failure(&failure, failures);
                        let wait = self.backoff.delay(failures, fastrand::f64()).max(failure.wait.unwrap_or_default());
                        not_before = Instant::now() + wait;
                    }
                }
                continue;
            }
            let has_more = desk.must_recall || ledger.unwritten() != Unwritten::default();
            let due = [due, has_more.then_some(desk.write_at), self.state.is_shared().then_some(desk.refresh_at)];
            let due = due.into_iter().flatten().min();
            let looked_at = Instant::now();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = until(due) => {}
                news = status.changed() => {
                    if news.is_err() { return }
                    let soonest = due.map_or(looked_at + LOOK_EVERY, |due| due.min(looked_at + LOOK_EVERY));
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep_until(soonest) => {}
                    }
                }
            }
        }
    }

    /// Brings ledger and state together again, as far as the state can be reached: what other replicas told, and what this one
    /// could not write down.
    fn catch_up(&self, desk: &mut Desk, ledger: &mut Ledger, held: BTreeSet<String>) {
        let now = Instant::now();
        if std::mem::replace(&mut desk.held_by_others, held) != desk.held_by_others {
            ledger.hand_over();
            (desk.must_recall, desk.write_at) = (true, now);
        }
        if self.state.is_failing() {
            desk.write_at = now + AGAIN;
        }
        if now >= desk.write_at {
            if ledger.unwritten() != Unwritten::default() {
                self.write_down(desk, ledger);
            }
            if desk.must_recall {
                desk.write_at = now + AGAIN;
                let told = self.recalled(desk);
                desk.must_recall = told.is_none();
                if let Some(told) = told {
                    ledger.recall(told);
                }
            }
        }
        if now >= desk.refresh_at {
            desk.refresh_at = now + REFRESH_EVERY;
            let can_be_read = self.state.is_shared() && !self.state.is_failing() && !desk.must_recall;
            if can_be_read && let Some(told) = self.recalled(desk) {
                ledger.refresh(told);
            }
        }
    }

    /// `None` while the state cannot be read.
    fn recalled(&self, desk: &mut Desk) -> Option<Vec<crate::state::Told>> {
        match self.state.told(&self.receiver.name) {
            Ok(told) => {
                desk.unread = 0;
                Some(told)
            }
            Err(error) => {
                desk.unread += 1;
                if is_worth_a_line(desk.unread, false) {
                    let (receiver, times) = (&*self.receiver.name, desk.unread);
                    tracing::warn!(%error, receiver, times, "cannot read what a receiver was told");
                }
                None
            }
        }
    }

    async fn tell(&self, letter: &Letter) -> Result<(), Failure> {
        let now = clock::now();
        let body = message::body(self.receiver.form, letter, &rfc3339(now), &self.redactor);
        let told = delivery::deliver(&self.receiver, body, now, &self.redactor).await;
        let result = if told.is_ok() { "sent" } else { "failed" };
        self.metrics.notifications_total.with_label_values(&[self.receiver.form.as_str(), result]).inc();
        told
    }

    fn log_sent(&self, letter: &Letter) {
        let (receiver, project) = (&*self.receiver.name, &*letter.project);
        let (event, things) = (letter.event.as_str(), letter.things.len());
        tracing::info!(receiver, project, event, things, "a receiver was notified");
    }

    fn log_failure(&self, failure: &Failure, times: u32) {
        if is_worth_a_line(u64::from(times), false) {
            let (receiver, reason) = (&*self.receiver.name, &*failure.reason);
            tracing::warn!(receiver, reason, times, "a notification could not be delivered; it is tried again");
        }
    }

    fn write_down(&self, desk: &mut Desk, ledger: &mut Ledger) {
        let unwritten = ledger.unwritten();
        let name = &self.receiver.name;
        let written =
            self.state.forget_told(name, &unwritten.ended).and_then(|()| self.state.note_told(name, &unwritten.told));
        match written {
            Ok(()) => {
                desk.unwritten = 0;
                ledger.written();
            }
            Err(error) => {
                desk.unwritten += 1;
                desk.write_at = Instant::now() + AGAIN;
                if is_worth_a_line(desk.unwritten, false) {
                    let (receiver, times) = (&**name, desk.unwritten);
                    tracing::error!(%error, receiver, times, "cannot note what a receiver was told; a restart before it can may tell it again");
                }
            }
        }
    }
}

impl Desk {
    fn new(now: Instant) -> Self {
        Self {
            held_by_others: BTreeSet::new(),
            must_recall: false,
            write_at: now,
            refresh_at: now + REFRESH_EVERY,
            unwritten: 0,
            unread: 0,
        }
    }
}

/// Projects that another replica writes, and tells of.
fn held_by_others(status: &Status) -> BTreeSet<String> {
    let is_others = |project: &&ProjectStatus| project.lease.as_ref().is_some_and(|lease| !lease.is_mine);
    status.projects.iter().filter(is_others).map(|project| project.name.clone()).collect()
}

/// For ever where there is nothing to wait for.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
