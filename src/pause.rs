//! Why nothing of a project is sent: a set of reasons. It goes on when the last of them is over, whatever order they end
//! in.

use crate::descope;
use crate::plan::ProjectName;
use crate::queue::PausedBy;
use crate::queue::Queue;
use crate::state;
use crate::state::ProjectState;
use crate::state::Suspended;
use std::time::Duration;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio::time::Instant;

/// The reasons of one project, and what is to be said of them. Clones are one set.
#[derive(Debug, Clone)]
pub struct Pause {
    project: ProjectName,
    state: ProjectState,
    queue: Queue,
    /// What Descope answered.
    refusal: watch::Sender<Option<descope::Error>>,
    /// When a suspension ends that could not be written down.
    unwritten: watch::Sender<Option<Instant>>,
    /// When one ends, as the state said last.
    known: watch::Sender<Option<SystemTime>>,
}

impl Pause {
    /// Without a reason so far; what an earlier run left counts from [`Pause::take_in`] on.
    pub fn new(project: &ProjectName, state: &ProjectState, queue: &Queue) -> Self {
        Self {
            project: project.clone(),
            state: state.clone(),
            queue: queue.clone(),
            refusal: watch::Sender::new(None),
            unwritten: watch::Sender::new(None),
            known: watch::Sender::new(None),
        }
    }

    /// Descope refuses the management key, or whatever it is asked for.
    pub fn refused(&self, reason: descope::Error) {
        self.refusal.send_replace(Some(reason));
        self.queue.pause(&self.project, PausedBy::Refusal);
    }

    /// It answers again.
    pub fn answered(&self) {
        self.refusal.send_replace(None);
        self.queue.resume(&self.project, PausedBy::Refusal);
    }

    /// What it refused, while it does.
    pub fn refusal(&self) -> Option<descope::Error> {
        self.refusal.borrow().clone()
    }

    /// The same, to wait for.
    pub fn refusals(&self) -> watch::Receiver<Option<descope::Error>> {
        self.refusal.subscribe()
    }

    /// What the queue holds is of older files than those in force, or of a look that came too early for them.
    pub fn outdated(&self) {
        self.queue.pause(&self.project, PausedBy::Files);
    }

    /// The queue has the plan of the files in force.
    pub fn planned(&self) {
        self.queue.resume(&self.project, PausedBy::Files);
    }

    /// An order: sends nothing for so long, restarts included. It counts also where it cannot be written down, which is
    /// what the error says; but not where another replica writes the project. When it ends.
    pub fn suspend(&self, wait: Duration) -> (SystemTime, Result<(), state::Error>) {
        let until = self.state.now() + wait;
        let written = self.state.suspend(Some(until));
        if matches!(written, Err(state::Error::NotHeld)) {
            return (until, written);
        }
        self.unwritten.send_replace(written.is_err().then(|| Instant::now() + wait));
        self.queue.pause(&self.project, PausedBy::Operator);
        (until, written)
    }

    /// The order that ends a suspension: what waits goes on after the next pass. Errs where one stands written that
    /// cannot be taken back.
    pub fn resume(&self) -> Result<(), state::Error> {
        if let Err(error) = self.state.suspend(None)
            && self.state.suspended_until(self.state.now())?.is_some()
        {
            return Err(error);
        }
        self.unwritten.send_replace(None);
        Ok(())
    }

    /// Until when the project only observes.
    pub fn suspended_until(&self) -> Option<SystemTime> {
        let now = self.state.now();
        let written = self.state.suspended_until(now).unwrap_or_else(|error| {
            tracing::error!(project = &*self.project, %error, "cannot tell whether the project is suspended; what was known last counts");
            self.known.borrow().filter(|until| *until > now)
        });
        let unwritten = self.unwritten.borrow().map(|until| now + (until - Instant::now()));
        written.max(unwritten.filter(|until| *until > now))
    }

    /// An order: sends nothing of this kind, or of one resource of it, for so long, restarts included. When it ends.
    pub fn suspend_part(&self, kind: &str, id: Option<&str>, wait: Duration) -> Result<SystemTime, state::Error> {
        let until = self.state.now() + wait;
        self.state.suspend_part(kind, id, until)?;
        self.queue.withdraw(&self.project, |key| key.kind == kind && id.is_none_or(|id| key.id() == id));
        Ok(until)
    }

    /// The order that ends that. Was there one?
    pub fn resume_part(&self, kind: &str, id: Option<&str>) -> Result<bool, state::Error> {
        self.state.resume_part(kind, id)
    }

    /// Kinds and resources that are only observed.
    pub fn parts(&self) -> Vec<Suspended> {
        self.state.suspensions(self.state.now()).unwrap_or_else(|error| {
            tracing::error!(project = &*self.project, %error, "cannot tell what is suspended");
            Vec::new()
        })
    }

    /// Takes in a suspension of which the queue knows nothing, like one of an earlier run.
    pub fn take_in(&self) {
        if self.suspended_until().is_some() {
            self.queue.pause(&self.project, PausedBy::Operator);
        }
    }

    /// The same, and takes back one that is over. When the first ends that is not, of the project or of a part of it.
    pub fn settle(&self) -> Option<Instant> {
        self.write_down();
        let until = self.suspended_until();
        self.known.send_replace(until);
        if until.is_none() {
            self.queue.resume(&self.project, PausedBy::Operator);
        }
        // An order that came in between has the last word.
        self.take_in();
        let first = self.parts().into_iter().map(|part| part.until).chain(until).min();
        let wait = first.and_then(|until| until.duration_since(self.state.now()).ok());
        wait.map(|wait| Instant::now() + wait)
    }

    /// A suspension that could not be written down is, once it can be: from then on it survives a restart.
    fn write_down(&self) {
        let Some(until) = *self.unwritten.borrow() else { return };
        if self.state.suspend(self.suspended_until()).is_ok() {
            // Unless there is another order by now.
            self.unwritten.send_if_modified(|unwritten| unwritten.take_if(|newest| *newest == until).is_some());
        }
    }
}
