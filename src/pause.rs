//! Why nothing of a project is sent: a set of reasons. It goes on when the last of them is over, whatever order they end
//! in.

use crate::descope;
use crate::plan::Plan;
use crate::plan::ProjectName;
use crate::queue::PausedBy;
use crate::queue::Queue;
use crate::state;
use crate::state::ProjectState;
use crate::state::Suspended;
use crate::state::Suspension;
use crate::telemetry::repeats::Spell;
use crate::telemetry::status::rfc3339;
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
    /// When a suspension ends that could not be written down, and on whose behalf it is.
    unwritten: watch::Sender<Option<(Instant, String)>>,
    /// When one ends, as the state said last.
    known: watch::Sender<Option<Instant>>,
    /// What cannot be read, and what cannot be written: told ever more seldom.
    unread: Spell,
    parts_unread: Spell,
    unended: Spell,
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
            unread: Spell::default(),
            parts_unread: Spell::default(),
            unended: Spell::default(),
        }
    }

    /// Descope refuses the management key, or whatever it is asked for. Whoever finds it first tells it.
    pub fn refused(&self, reason: descope::Error) {
        let told = reason.to_string();
        if self.refusal.send_replace(Some(reason)).is_none_or(|before| before.to_string() != told) {
            tracing::error!(reason = told, "the project is paused; one request per interval asks again");
        }
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

    /// The queue has this plan, of the files in force. False where a part was suspended after it was made: nothing goes out until
    /// there is one that knows of that.
    pub fn planned(&self, plan: &Plan) -> bool {
        self.queue.resume(&self.project, PausedBy::Files);
        let is_known = self.is_known_to(plan);
        if is_known {
            self.queue.resume(&self.project, PausedBy::Parts);
        }
        is_known
    }

    /// An order: sends nothing for so long, restarts included. It counts also where it cannot be written down, which is
    /// what the error says; but not where another replica writes the project. When it ends.
    pub fn suspend(&self, wait: Duration, by: &str) -> (SystemTime, Result<(), state::Error>) {
        self.end();
        let (until, written) = match self.state.suspend(wait, by) {
            Ok(until) => (until, Ok(())),
            Err(error) => (self.state.now() + wait, Err(error)),
        };
        if matches!(written, Err(state::Error::NotHeld)) {
            return (until, written);
        }
        self.unwritten.send_replace(written.is_err().then(|| (Instant::now() + wait, by.to_owned())));
        self.queue.pause(&self.project, PausedBy::Operator);
        (until, written)
    }

    /// The order that ends a suspension: what waits goes on after the next pass. Errs where one stands written that
    /// cannot be taken back.
    pub fn resume(&self) -> Result<(), state::Error> {
        if let Err(error) = self.state.resume()
            && self.state.suspension()?.is_some()
        {
            return Err(error);
        }
        self.unwritten.send_replace(None);
        Ok(())
    }

    /// Until when the project only observes.
    pub fn suspended_until(&self) -> Option<SystemTime> {
        self.suspension().map(|suspension| suspension.until)
    }

    fn suspension(&self) -> Option<Suspension> {
        let by_timer = |end: Instant| {
            let left = end.saturating_duration_since(Instant::now());
            (!left.is_zero()).then(|| Suspension { until: self.state.now() + left, left })
        };
        let read = self.state.suspension().inspect(|_| self.unread.over());
        let written = read.unwrap_or_else(|error| {
            if let Some(times) = self.unread.met() {
                tracing::error!(project = &*self.project, %error, times, "cannot tell whether the project is suspended; what was known last counts");
            }
            let known = *self.known.borrow();
            known.and_then(by_timer)
        });
        let unwritten = self.unwritten.borrow().as_ref().map(|(end, _)| *end);
        written.into_iter().chain(unwritten.and_then(by_timer)).max_by_key(|suspension| suspension.left)
    }

    /// On whose behalf that is; `None` where it is not, or nobody knows.
    pub fn suspended_by(&self) -> Option<String> {
        let unwritten = self.unwritten.borrow().as_ref().map(|(_, by)| by.clone());
        unwritten.or_else(|| self.state.suspended_by().ok()).filter(|by| !by.is_empty())
    }

    /// An order: sends nothing of this kind, or of one resource of it, for so long, restarts included. When it ends.
    pub fn suspend_part(
        &self,
        kind: &str,
        id: Option<&str>,
        wait: Duration,
        by: &str,
    ) -> Result<SystemTime, state::Error> {
        self.end();
        let until = self.state.suspend_part(kind, id, wait, by)?;
        // What depends on it must not go out for want of it, nor what a pass planned that knows nothing of this.
        self.queue.pause(&self.project, PausedBy::Parts);
        self.queue.withdraw(&self.project, |key| key.kind == kind && id.is_none_or(|id| key.id() == id));
        Ok(until)
    }

    /// The order that ends that. Was there one?
    pub fn resume_part(&self, kind: &str, id: Option<&str>) -> Result<bool, state::Error> {
        self.end();
        self.state.resume_part(kind, id)
    }

    /// Kinds and resources that are only observed.
    pub fn parts(&self) -> Vec<Suspended> {
        let read = self.state.suspensions().inspect(|_| self.parts_unread.over());
        read.unwrap_or_else(|error| {
            if let Some(times) = self.parts_unread.met() {
                tracing::error!(project = &*self.project, %error, times, "cannot tell what is suspended");
            }
            Vec::new()
        })
    }

    /// Before the queue gets this plan: takes in what was suspended after it was made.
    pub fn take_in_parts(&self, plan: &Plan) {
        if !self.is_known_to(plan) {
            self.queue.pause(&self.project, PausedBy::Parts);
        }
    }

    /// Does it hold every part that is suspended? Not as far as anybody can tell, where that cannot be read.
    fn is_known_to(&self, plan: &Plan) -> bool {
        let is_held = |one: &Suspended| plan.suspended.iter().any(|part| part.kind == one.kind && part.id == one.id);
        self.state.suspensions().is_ok_and(|all| all.iter().all(is_held))
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
        let left = self.suspension().map(|suspension| suspension.left);
        self.known.send_replace(left.map(|left| Instant::now() + left));
        if left.is_none() {
            self.queue.resume(&self.project, PausedBy::Operator);
        }
        // An order that came in between has the last word.
        self.take_in();
        let first = self.parts().into_iter().map(|part| part.left).chain(left).min();
        let first = first.map(|left| Instant::now() + left);
        // After that look: what is not over by then was in it.
        self.end();
        first
    }

    /// What is over by its time is told, by whoever writes the project.
    fn end(&self) {
        let project = &*self.project;
        match self.state.end_suspensions() {
            Ok(ended) => {
                self.unended.over();
                for one in ended {
                    let (kind, id, until, by) = (one.kind, one.id, rfc3339(one.at), one.by);
                    tracing::info!(project, kind, id, until, by, "resumed by itself: the suspension is over");
                }
            }
            Err(state::Error::NotHeld) => {}
            Err(error) => {
                if let Some(times) = self.unended.met() {
                    tracing::error!(project, %error, times, "cannot write down that a suspension is over");
                }
            }
        }
    }

    /// A suspension that could not be written down is, once it can be: from then on it survives a restart.
    fn write_down(&self) {
        let Some((until, by)) = self.unwritten.borrow().clone() else { return };
        let written = match self.suspension() {
            Some(suspension) => self.state.suspend(suspension.left, &by).map(drop),
            None => self.state.resume(),
        };
        if written.is_ok() {
            tracing::info!(project = &*self.project, "the suspension is written down now: it survives a restart");
            // Unless there is another order by now.
            self.unwritten.send_if_modified(|unwritten| unwritten.take_if(|(newest, _)| *newest == until).is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Backoff;
    use crate::plan::SuspendedPart;
    use crate::state::State;
    use crate::telemetry::metrics::Metrics;
    use std::sync::Arc;

    const HOUR: Duration = Duration::from_secs(3600);

    /// It was withdrawn from the plan before, and sent by the one that was made already.
    #[test]
    fn nothing_goes_out_by_a_plan_that_does_not_know_what_was_suspended_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let name = ProjectName::from("default");
        let queue = Queue::new(
            Backoff { max_attempts: 1, initial: Duration::ZERO, max: Duration::ZERO },
            Arc::new(Metrics::new()),
        );
        let pause = Pause::new(&name, &state.project("api.example.com", "P1", "default"), &queue);
        let is_held = || queue.paused_by(&name).contains(&PausedBy::Parts);
        let part = |kind: &str| SuspendedPart {
            kind: kind.to_owned(),
            id: None,
            until: SystemTime::now() + HOUR,
            by: String::new(),
        };
        let plan = |suspended| Plan { suspended, ..Plan::default() };
        let (older, newer) = (plan(vec![part("tenants")]), plan(vec![part("roles"), part("tenants")]));
        pause.suspend_part("tenants", None, HOUR, "").unwrap();
        assert!(is_held() && pause.planned(&older) && !is_held());

        // The order comes before the plan, or right after it.
        for comes_before in [true, false] {
            if comes_before {
                pause.suspend_part("roles", None, HOUR, "").unwrap();
                queue.resume(&name, PausedBy::Parts);
                pause.take_in_parts(&older);
                assert!(is_held());
            } else {
                pause.take_in_parts(&older);
                pause.suspend_part("roles", None, HOUR, "").unwrap();
            }
            assert!(!pause.planned(&older) && is_held());
            pause.take_in_parts(&newer);
            assert!(pause.planned(&newer) && !is_held());
            assert!(pause.resume_part("roles", None).unwrap());
        }
    }
}
