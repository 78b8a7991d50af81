//! What operators set off over HTTP: reconcile, approve, suspend, resume.
//!
//! An order takes effect in the state and on the queue at once; the pass that follows shows it.

use super::Project;
use crate::http::Answer;
use crate::http::Order;
use crate::http::Ordered;
use crate::http::Part;
use crate::pause::Pause;
use crate::plan::Change;
use crate::plan::Plan;
use crate::plan::published::Published;
use crate::reconcile::show;
use crate::resource::Key;
use crate::source::Trigger;
use crate::source::TriggerSender;
use crate::state;
use crate::state::Aside;
use crate::state::Claim;
use crate::state::ProjectState;
use crate::state::Suspended;
use crate::telemetry::status::Board;
use crate::telemetry::status::ProjectStatus;
use crate::telemetry::status::project_option;
use crate::telemetry::status::rfc3339;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use tokio::sync::watch;

/// What orders move of one project.
#[derive(Debug)]
pub struct Levers {
    name: Arc<str>,
    state: ProjectState,
    pause: Pause,
    trigger: TriggerSender,
    plan: watch::Sender<Option<Published>>,
    planned_under: watch::Receiver<Option<i64>>,
    approval_expiry: Duration,
    board: Arc<Board>,
}

impl Levers {
    /// Of this project.
    pub fn of(project: &Project) -> Self {
        Self {
            name: project.name.clone(),
            state: project.reconciler.state.clone(),
            pause: project.reconciler.pause.clone(),
            trigger: project.trigger.clone(),
            plan: project.reconciler.plans.clone(),
            planned_under: project.reconciler.planned_under.subscribe(),
            approval_expiry: project.reconciler.assessor.rules.approval_expiry,
            board: Arc::clone(&project.reconciler.board),
        }
    }

    /// Its name in the config.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Who the project is to everybody.
    pub fn claim(&self) -> Claim {
        self.state.claim()
    }

    /// Can it be carried out here and now? Only by whoever may write the project; and what is held is known after a first look.
    pub fn can(&self, order: Order<'_>) -> bool {
        // By a plan of a term before, what another holder used up could be used again.
        let knows = |term| {
            let is_approval = matches!(order, Order::Approve(_));
            // Files that are put aside have no plan, and get none.
            !is_approval || *self.planned_under.borrow() == Some(term) || self.state.has_put_aside()
        };
        self.state.tenure().is_some_and(|tenure| knows(tenure.term) || !self.state.is_shared())
    }

    /// Carries it out; `by` says on whose behalf, for the audit trail. Errs with [`state::Error::NotHeld`] where another replica
    /// is to do it; nothing was done then.
    pub fn carry_out(&self, order: Order<'_>, by: &str) -> Result<Answer, state::Error> {
        if self.state.tenure().is_none() {
            return Err(state::Error::NotHeld);
        }
        let mut about: Vec<String> = order.part().iter().map(Part::to_string).collect();
        let answer = match order {
            Order::Reconcile | Order::Retry => Answer::Done(Ordered::default()),
            Order::Approve(fingerprint) => self.approve(fingerprint, &mut about)?,
            Order::Suspend(wait, None) => self.suspend(wait, by)?,
            Order::Suspend(wait, Some(part)) => self.suspend_part(wait, part, by)?,
            Order::Resume(Some(part)) => self.resume_part(part)?,
            Order::Resume(None) => {
                let was_suspended = self.pause.suspended_until().is_some();
                self.pause.resume()?;
                if was_suspended {
                    tracing::info!(project = &*self.name, "resumed");
                }
                let left = self.pause.parts().iter().map(named).collect();
                let (suspended_until, was_suspended) = (Some(None), Some(was_suspended));
                Answer::Done(Ordered {
                    suspended_until,
                    was_suspended,
                    still_suspended: Some(left),
                    ..Ordered::default()
                })
            }
        };
        match order {
            Order::Reconcile => self.trigger.fire(Trigger::Api),
            Order::Retry => self.trigger.fire_fresh(Trigger::Api),
            Order::Approve(_) | Order::Suspend(..) | Order::Resume(_)
                if !matches!(answer, Answer::Stale | Answer::Aside(_)) =>
            {
                self.show();
                self.trigger.fire(Trigger::Api);
            }
            Order::Approve(_) | Order::Suspend(..) | Order::Resume(_) => {}
        }
        self.note(order, &answer, by, &about);
        Ok(answer)
    }

    /// Whoever reads the status after the answer finds what was ordered; the rest of it follows with the pass.
    fn show(&self) {
        let until = self.pause.suspended_until().map(rfc3339);
        let by = until.as_ref().and_then(|_| self.pause.suspended_by());
        let parts: Vec<_> = self.pause.parts().into_iter().map(show::suspension).collect();
        self.board.project(&self.name, |status| {
            status.suspended_until = until;
            status.suspended_by = by;
            status.suspensions = parts;
        });
    }

    /// Every order leaves a row in the audit trail, unless no plan has its fingerprint. `about`: what of the project.
    fn note(&self, order: Order<'_>, answer: &Answer, by: &str, about: &[String]) {
        let (what, mut message) = match order {
            Order::Reconcile => ("reconcile", String::new()),
            Order::Retry => ("reconcile", "what was refused, too".to_owned()),
            Order::Approve(fingerprint) => ("approve", fingerprint.to_owned()),
            Order::Suspend(wait, part) => {
                let what = part.map(|part| format!("{part} ")).unwrap_or_default();
                ("suspend", format!("{what}for {}", humantime::format_duration(wait)))
            }
            Order::Resume(part) => ("resume", part.map(|part| part.to_string()).unwrap_or_default()),
        };
        let outcome = match answer {
            Answer::Done(said) => {
                if let Some(Some(until)) = &said.suspended_until {
                    message = format!("{message}, until {until}");
                }
                if let Some(changes) = said.approved {
                    let plural = if changes == 1 { "" } else { "s" };
                    message = format!("{message}: {changes} change{plural}");
                    if let Some(until) = &said.waits_until {
                        message = format!("{message}, put off by a suspension until {until}");
                    }
                    if let Some(newer) = &said.newer_files {
                        message = format!("{message}, as far as newer files ({newer}), not compared yet, want it");
                    }
                } else if said.was_suspended == Some(false) {
                    message = match &*message {
                        "" => "was not suspended as a whole".to_owned(),
                        part => format!("{part}, which was not suspended by itself"),
                    };
                } else if said.in_force.is_some() {
                    message = format!("{message}: in force from now on");
                }
                "ok"
            }
            // Of a plan of another project, or of one that is no more.
            Answer::Stale | Answer::Aside(_) => return,
            Answer::Failed(_) | Answer::Nobody(_) => "failed",
        };
        if !by.is_empty() {
            message = if message.is_empty() { format!("asked by {by}") } else { format!("{message}; asked by {by}") };
        }
        if let Err(error) = self.state.note_order(what, outcome, &message, about) {
            tracing::error!(project = &*self.name, %error, order = what, "cannot write the order into the audit trail");
        }
    }

    /// What stops changes works also where it cannot be written down.
    fn suspend(&self, wait: Duration, by: &str) -> Result<Answer, state::Error> {
        let (until, written) = self.pause.suspend(wait, by);
        if let Err(state::Error::NotHeld) = written {
            return Err(state::Error::NotHeld);
        }
        tracing::warn!(project = &*self.name, until = rfc3339(until), by, "suspended: the project only observes");
        let mut answer = Ordered { suspended_until: Some(Some(rfc3339(until))), ..Ordered::default() };
        if let Err(error) = written {
            let warning = format!("it ends with the daemon while it cannot be written down: {error}");
            tracing::error!(project = &*self.name, warning, "the suspension does not survive a restart");
            answer.warning = Some(warning);
        } else {
            answer.warning = self.waits_along(None);
        }
        Ok(Answer::Done(answer))
    }

    /// What was approved before something is suspended, and is not done yet.
    fn waits_along(&self, part: Option<Part<'_>>) -> Option<String> {
        let resource = part.filter(|part| part.id.is_some()).map(|part| part.to_string());
        let approved = self.state.approved_of(part.map(|part| part.kind), resource.as_deref());
        let changes = approved.ok().filter(|changes| *changes > 0)?;
        let (plural, goes) = if changes == 1 { ("", "goes") } else { ("s", "go") };
        Some(format!("{changes} approved change{plural}, not done yet, {goes} ahead when the suspension ends"))
    }

    /// What cannot be written down is refused: it would end with the daemon, and nobody would know.
    fn suspend_part(&self, wait: Duration, part: Part<'_>, by: &str) -> Result<Answer, state::Error> {
        let until = rfc3339(self.pause.suspend_part(part.kind, part.id, wait, by)?);
        tracing::warn!(
            project = &*self.name,
            kind = part.kind,
            id = part.id,
            until,
            by,
            "suspended: this part of the project is only observed"
        );
        let (suspended_until, part_name) = (Some(Some(until)), Some(part.to_string()));
        let mut answer = Ordered { suspended_until, part: part_name, ..Ordered::default() };
        let is_of_part = |key: &Key| key.kind == part.kind && part.id.is_none_or(|id| key.id() == id);
        let is_planned = |published: &Published| published.plan.changes.iter().any(|change| is_of_part(&change.key));
        let is_known =
            self.state.inventory()?.keys().any(is_of_part) || self.plan.borrow().as_ref().is_some_and(is_planned);
        if part.id.is_some() && !is_known {
            answer.warning = Some(format!("nothing called {part} is declared or owned now: is the name right?"));
        } else {
            answer.warning = self.waits_along(Some(part));
        }
        Ok(Answer::Done(answer))
    }

    fn resume_part(&self, part: Part<'_>) -> Result<Answer, state::Error> {
        let was_suspended = self.pause.resume_part(part.kind, part.id)?;
        let (suspended_until, part_name) = (Some(None), Some(part.to_string()));
        let was = Some(was_suspended);
        let mut answer = Ordered { suspended_until, part: part_name, was_suspended: was, ..Ordered::default() };
        if was_suspended {
            tracing::info!(project = &*self.name, kind = part.kind, id = part.id, "resumed");
        } else {
            answer.warning = Some(format!("{part} was not suspended by itself"));
        }
        Ok(Answer::Done(answer))
    }

    /// Nothing is called so that could be approved. What is, where files are put aside.
    fn unknown(&self) -> Result<Answer, state::Error> {
        let aside = self.state.put_aside()?;
        let Some(first) = aside.first() else { return Ok(Answer::Stale) };
        let shown = |one: &Aside| {
            let commit = one.commit.as_deref().and_then(|commit| commit.get(..7));
            let commit = commit.map(|commit| format!(" (commit {commit})")).unwrap_or_default();
            format!("{}{commit} at {}", one.revision, one.replica)
        };
        let all: Vec<String> = aside.iter().map(shown).collect();
        Ok(Answer::Aside(format!(
            "of {name} these files are put aside, by their whole revision: {}; `descope-gitops approve {option} {}` puts them in \
             force",
            all.join(", "),
            first.revision,
            name = self.name,
            option = project_option(&self.name)
        )))
    }

    /// Only what is held now can be approved, and only once: the approval takes the fingerprint away. `about` gets the resources.
    fn approve(&self, fingerprint: &str, about: &mut Vec<String>) -> Result<Answer, state::Error> {
        if self.state.put_in_force(fingerprint)? {
            tracing::warn!(
                project = &*self.name,
                revision = fingerprint,
                "approved: these files, which were put aside, are in force from now on, and what they change is planned anew"
            );
            return Ok(Answer::Done(Ordered { in_force: Some(fingerprint.to_owned()), ..Ordered::default() }));
        }
        // A pass that began before an approval may have shown its fingerprint once more.
        let known = self.state.approved()?;
        let mut approved = None;
        self.plan.send_if_modified(|plan| {
            let held = plan.as_mut().filter(|plan| !plan.fingerprint.is_empty() && plan.fingerprint == fingerprint);
            let Some(plan) = held else { return false };
            plan.fingerprint.clear();
            let approvable = plan.plan.approvable();
            if !approvable.keys().all(|digest| known.contains(digest)) {
                about.extend(released(&plan.plan));
                approved = Some((approvable, plan.held.take()));
            }
            true
        });
        let Some((approvable, held)) = approved else { return self.unknown() };
        if let Err(error) = self.state.approve(&approvable, self.approval_expiry) {
            self.plan.send_if_modified(|plan| {
                // A newer plan has fingerprints of its own.
                let is_same =
                    |plan: &&mut Published| plan.fingerprint.is_empty() && plan.plan.approvable() == approvable;
                let Some(plan) = plan.as_mut().filter(is_same) else { return false };
                fingerprint.clone_into(&mut plan.fingerprint);
                plan.held = held;
                true
            });
            return Err(error);
        }
        // The next plan says so itself, which may be long in coming.
        self.board.project(&self.name, ProjectStatus::show_approved);
        let changes = held.map_or(0, |held| held.changes);
        let newer_files = self.board.look_at(&self.name, ProjectStatus::not_compared).flatten();
        let mut answer = Ordered { approved: Some(changes), newer_files: newer_files.clone(), ..Ordered::default() };
        if let Some((until, warning)) = self.put_off() {
            let until = rfc3339(until);
            tracing::warn!(
                project = &*self.name,
                fingerprint,
                changes,
                until,
                newer_files,
                "approved: the held changes go ahead when the suspension ends"
            );
            answer.warning = warning;
            answer.waits_until = Some(until);
        } else if let Some(newer_files) = newer_files {
            tracing::warn!(
                project = &*self.name,
                fingerprint,
                changes,
                newer_files,
                "approved: the held changes go ahead as far as the newer files want them, which are not compared yet"
            );
        } else {
            tracing::warn!(project = &*self.name, fingerprint, changes, "approved: the held changes go ahead");
        }
        Ok(Answer::Done(answer))
    }

    /// Until when a suspension puts off what is held and approved, or some of it; what there is to say where it is some.
    fn put_off(&self) -> Option<(SystemTime, Option<String>)> {
        if let Some(until) = self.pause.suspended_until() {
            return Some((until, None));
        }
        let mut parts = self.pause.parts();
        let plan = self.plan.borrow();
        let held: Vec<&Change> = plan.as_ref()?.plan.held().collect();
        let covers = |part: &Suspended, change: &Change| {
            let is_it = |key: &Key| key.kind == part.kind && part.id.as_ref().is_none_or(|id| key.id() == *id);
            is_it(&change.key) || is_it(&change.old_key())
        };
        parts.retain(|part| held.iter().any(|change| covers(part, change)));
        let until = parts.iter().map(|part| part.until).max()?;
        let is_all = held.iter().all(|change| parts.iter().any(|part| covers(part, change)));
        let names: Vec<String> = parts.iter().map(named).collect();
        let warning = format!("what is of {} waits until its suspension ends", names.join(", "));
        Some((until, (!is_all).then_some(warning)))
    }
}

/// The resources of which an approval releases something; of what is renamed both names.
fn released(plan: &Plan) -> BTreeSet<String> {
    plan.held().flat_map(|change| [change.old_key(), change.key.clone()]).map(|key| key.named()).collect()
}

fn named(part: &Suspended) -> String {
    part.id.as_ref().map_or_else(|| part.kind.clone(), |id| format!("{}/{id}", part.kind))
}
