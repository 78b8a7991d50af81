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
use crate::telemetry::status::ProjectStatus;
use crate::telemetry::status::Status;
use crate::telemetry::status::rfc3339;
use delivery::Failure;
use ledger::Ledger;
use ledger::Letter;
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
    /// Messages name no secret.
    pub redactor: Redactor,
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
        let mut ledger = Ledger::new(&self.receiver.on, self.backoff, self.recalled());
        let (mut failures, mut not_before) = (0, Instant::now());
        let mut held = BTreeSet::new();
        loop {
            // What it was told by the replica that wrote the project before.
            let now_held = held_by_others(&status.borrow());
            if std::mem::replace(&mut held, now_held) != held {
                ledger.recall(self.recalled());
            }
            let sight = Sight::of(&status.borrow_and_update(), self.state.is_failing());
            ledger.take_in(&sight, Instant::now());
            for over in ledger.take_unmentioned(Instant::now()) {
                self.noted(self.state.forget_told(&self.receiver.name, &[over]));
            }
            let due = ledger.due().map(|due| due.max(not_before));
            if due.is_some_and(|due| due <= Instant::now())
                && let Some(letter) = ledger.letter(Instant::now())
            {
                self.noted(self.state.note_told(&self.receiver.name, &ledger.begin(&letter)));
                let told = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    told = self.tell(&letter) => told,
                };
                match told {
                    Ok(()) => {
                        failures = 0;
                        self.note_end(&mut ledger, &letter);
                    }
                    Err(failure) => {
                        failures += 1;
                        self.log_failure(&failure, failures);
                        let wait = self.backoff.delay(failures, fastrand::f64()).max(failure.wait.unwrap_or_default());
                        not_before = Instant::now() + wait;
                    }
                }
                continue;
            }
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

    fn recalled(&self) -> Vec<crate::state::Told> {
        self.state.told(&self.receiver.name).unwrap_or_else(|error| {
            tracing::error!(%error, receiver = self.receiver.name, "cannot read what a receiver was told; it is told anew");
            Vec::new()
        })
    }

    async fn tell(&self, letter: &Letter) -> Result<(), Failure> {
        let now = clock::now();
        let body = message::body(self.receiver.form, letter, &rfc3339(now), &self.redactor);
        let told = delivery::deliver(&self.receiver, body, now, &self.redactor).await;
        let result = if told.is_ok() { "sent" } else { "failed" };
        self.metrics.notifications_total.with_label_values(&[self.receiver.form.as_str(), result]).inc();
        told
    }

    fn note_end(&self, ledger: &mut Ledger, letter: &Letter) {
        let told = ledger.sent(letter, Instant::now());
        let noted = if letter.event == Notice::Recovered {
            self.state.forget_told(&self.receiver.name, &told)
        } else {
            self.state.note_told(&self.receiver.name, &told)
        };
        self.noted(noted);
        let (receiver, project) = (&*self.receiver.name, &*letter.project);
        tracing::info!(
            receiver,
            project,
            event = letter.event.as_str(),
            things = told.len(),
            "a receiver was notified"
        );
    }

    fn log_failure(&self, failure: &Failure, times: u32) {
        if is_worth_a_line(u64::from(times), false) {
            let (receiver, reason) = (&*self.receiver.name, &*failure.reason);
            tracing::warn!(receiver, reason, times, "a notification could not be delivered; it is tried again");
        }
    }

    fn noted(&self, written: Result<(), crate::state::Error>) {
        if let Err(error) = written {
            let receiver = &*self.receiver.name;
            tracing::error!(%error, receiver, "cannot note what a receiver was told; a restart may tell it again");
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
