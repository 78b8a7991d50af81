//! What there is to tell at one moment, read from the status; pure. What nobody knows at that moment is neither there nor
//! over: after a restart, and while Descope does not answer, nothing has recovered.

use crate::config::Notice;
use crate::plan::render::NAMED_HELD;
use crate::plan::who;
use crate::telemetry::status::ContestedStatus;
use crate::telemetry::status::HoldStatus;
use crate::telemetry::status::NO_ORDERS;
use crate::telemetry::status::Problem;
use crate::telemetry::status::ProblemState;
use crate::telemetry::status::ProjectStatus;
use crate::telemetry::status::Status;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Resources of one sort in one project that are told by name. More of them are told as one crowd: nobody reads hundreds,
/// and what is remembered stays small.
const MOST: usize = 100;

/// The subject of a crowd.
const CROWD: &str = "resources";
/// The subject of files that cannot be used.
const FILES: &str = "files";
/// The subject of a management key that is refused, or of a way to Descope that is.
const ACCESS: &str = "access";
/// The subject of a Descope that nothing can be seen of.
const OBSERVATION: &str = "observation";
/// The subject of a state that cannot be written.
const STATE: &str = "state";
/// The subject of a lease that ended before it was given back.
const LEASE: &str = "lease";

/// How [`Facts::what`] begins for many things at once, whose number follows.
pub const MANY: &str = "many ";

/// Names one thing that is told, the same for as long as it lasts, after restarts too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Of the config; empty for what concerns all of them.
    pub project: String,
    /// What sort of thing.
    pub event: Notice,
    /// Which of them: `REASON/KIND/ID` of what is held, the reason alone where that is many, `KIND/ID`, a kind.
    pub subject: String,
}

impl Identity {
    /// As receivers see it.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.project, self.event.as_str(), self.subject)
    }

    /// Does it concern the replica that says it, whoever writes the project?
    pub fn is_of_this_replica(&self) -> bool {
        self.project.is_empty() || self.event == Notice::LeaseLost
    }

    /// Is it one resource, of which there may be many?
    fn is_resource(&self) -> bool {
        self.subject.contains('/')
    }
}

/// What there is to say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// In a word.
    pub reason: String,
    /// In words.
    pub text: String,
    /// RFC 3339, where it is known.
    pub since: Option<String>,
    /// What an approval names.
    pub fingerprint: Option<String>,
    /// It may be over by itself in a moment, or more of it is known.
    pub is_transient: bool,
    /// What exactly it is about, where the same thing can become another: that is told, too. Empty where it cannot.
    pub what: String,
}

/// Is it there?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    There,
    /// It is not.
    Over,
    /// Nobody can tell now.
    Unknown,
}

/// All that there is to tell.
#[derive(Debug, Default)]
pub struct Sight {
    /// By identity.
    pub there: BTreeMap<Identity, Facts>,
    crowded: BTreeSet<(String, Notice)>,
    projects: BTreeMap<String, Known>,
    /// Those that no replica is known to write.
    unwritten: BTreeSet<String>,
    /// What the config does not have is another replica's to tell of.
    others_write: bool,
    /// The state cannot be written, which is told as a lease that was lost.
    is_state_hidden: bool,
}

/// What is known of a project.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// A pass has ended.
    has_passed: bool,
    /// What was asked for of Descope was answered, or refused for good.
    is_observed: bool,
    /// Nothing is on its way, so that what failed would have failed again.
    is_settled: bool,
}

impl Sight {
    /// What this status has to tell whoever hears of leases that are lost, or does not.
    pub fn of(status: &Status, is_state_failing: bool, hears_of_leases: bool) -> Self {
        let leases = || status.projects.iter().filter_map(|project| project.lease.as_ref());
        // One database, one cause.
        let is_lost = leases().any(|lease| lease.lost_at.is_some() && lease.holder.is_none());
        let is_state_hidden = is_state_failing && hears_of_leases && is_lost;
        let mut sight = Self { others_write: status.others_write, is_state_hidden, ..Self::default() };
        // Whoever hears of no lease hears of the database, of the replica that held one: not when it writes next, which may be late.
        let is_ours = || leases().any(|lease| lease.is_mine || lease.lost_at.is_some());
        let is_silent = !hears_of_leases && status.is_database_silent && is_ours();
        if (is_state_failing || is_silent) && !is_state_hidden {
            let is_shared = leases().next().is_some();
            let text = match (is_shared, leases().any(|lease| lease.is_mine)) {
                (false, _) => "the state cannot be written: nothing is created, renamed or deleted until it can be",
                (true, true) => {
                    "the database of `state.url` cannot be written: nothing is created, renamed or deleted until it can be, and \
                     nothing at all once the lease has ended"
                }
                (true, false) => {
                    "the database of `state.url` cannot be written: this replica writes nothing until it can be"
                }
            };
            // A lease that cannot be renewed either is lost in a moment; a database that does not answer once may do so the next time.
            let is_transient = is_shared && (hears_of_leases || !is_state_failing && !is_lost);
            let facts = Facts { is_transient, ..Facts::new("state_not_writable", text.to_owned()) };
            sight.add("", Notice::Failing, STATE, facts);
        }
        for project in &status.projects {
            sight.projects.insert(project.name.clone(), known(project));
            if project.lease.as_ref().is_some_and(|lease| lease.holder.is_none()) {
                sight.unwritten.insert(project.name.clone());
            }
            sight.add_lost(project);
            if project.lease.as_ref().is_some_and(|lease| !lease.is_mine) {
                // The replica that writes it tells.
                continue;
            }
            sight.add_held(project, status.can_order);
            sight.add_failing(project);
            sight.add_contested(project, status.can_order);
        }
        sight.gather_crowds();
        sight
    }

    /// Is that there?
    pub fn presence(&self, identity: &Identity) -> Presence {
        if self.there.contains_key(identity) {
            return Presence::There;
        }
        if identity.project.is_empty() {
            return if self.is_told_as_one(identity) { Presence::Unknown } else { Presence::Over };
        }
        let Some(known) = self.projects.get(&identity.project) else {
            // It left the config; or this one is older than that of another replica.
            return if self.others_write { Presence::Unknown } else { Presence::Over };
        };
        let is_same_sort = |other: &Identity| {
            other.is_resource() && (&other.project, other.event) == (&identity.project, identity.event)
        };
        let is_hidden =
            if identity.subject == CROWD { self.there.keys().any(is_same_sort) } else { self.is_told_as_one(identity) };
        let is_hidden = is_hidden || identity.event == Notice::Held && self.is_told_otherwise(identity);
        let is_known = match (identity.event, identity.subject.as_str()) {
            (Notice::LeaseLost, _) => !self.unwritten.contains(&identity.project),
            (Notice::Failing, FILES | ACCESS) => known.has_passed,
            (Notice::Failing, subject) if subject == CROWD || identity.is_resource() => {
                known.is_observed && known.is_settled
            }
            _ => known.is_observed,
        };
        if is_known && !is_hidden { Presence::Over } else { Presence::Unknown }
    }

    /// Is it told together with something else: one of a crowd, or the state with the lease?
    pub fn is_told_as_one(&self, identity: &Identity) -> bool {
        let is_state = || identity.project.is_empty() && identity.subject == STATE;
        identity.is_resource() && self.crowded.contains(&(identity.project.clone(), identity.event))
            || self.is_state_hidden && is_state()
    }

    /// Is what is held for this reason told by name now and was told as one, or the other way round?
    fn is_told_otherwise(&self, identity: &Identity) -> bool {
        let of = |subject: &str| Identity { subject: subject.to_owned(), ..identity.clone() };
        if let Some((reason, _)) = identity.subject.split_once('/') {
            return self.there.contains_key(&of(reason));
        }
        let first = of(&format!("{}/", identity.subject));
        self.there.range(&first..).next().is_some_and(|(next, _)| {
            (&next.project, next.event) == (&first.project, first.event) && next.subject.starts_with(&first.subject)
        })
    }

    fn add(&mut self, project: &str, event: Notice, subject: &str, facts: Facts) {
        self.there.insert(Identity { project: project.to_owned(), event, subject: subject.to_owned() }, facts);
    }

    fn add_lost(&mut self, project: &ProjectStatus) {
        let Some((lease, since)) = project.lease.as_ref().and_then(|lease| Some((lease, lease.lost_at.clone()?)))
        else {
            return;
        };
        let text = match &lease.holder {
            Some(holder) => format!("this replica did not renew it in time, and {holder} writes the project now"),
            None => {
                "this replica could not renew it, and no other is known to write the project: nothing of it is written until one \
                 does; see to the database of `state.url`"
                    .to_owned()
            }
        };
        let facts = Facts { since: Some(since), ..Facts::new(Notice::LeaseLost.as_str(), text) };
        self.add(&project.name, Notice::LeaseLost, LEASE, facts);
    }

    fn add_held(&mut self, project: &ProjectStatus, can_order: bool) {
        let fingerprint = approvable(project, can_order);
        let is_told = |hold: &&HoldStatus| hold.needs_a_person && hold.reason != Notice::Contested.as_str();
        for hold in project.holds.iter().filter(is_told) {
            let facts = |text: String, since: Option<String>| Facts {
                since,
                fingerprint: fingerprint.clone().filter(|_| hold.approvable),
                ..Facts::new(
                    &hold.reason,
                    format!("{text}; it ends with {}{}", hold.ends_with, but(can_order || !hold.approvable)),
                )
            };
            if !(1..=NAMED_HELD).contains(&hold.things.len()) {
                let changes = if hold.changes == 1 {
                    "1 change waits".to_owned()
                } else {
                    format!("{} changes wait", hold.changes)
                };
                let text = hold.why.clone().unwrap_or(changes);
                let what = if hold.changes == 0 { String::new() } else { format!("{MANY}{}", hold.changes) };
                let facts = Facts { what, ..facts(text, hold.since.clone()) };
                self.add(&project.name, Notice::Held, &hold.reason, facts);
                continue;
            }
            for thing in &hold.things {
                // Since when something is held for this reason says nothing of one that is not the only one.
                let since = hold.since.clone().filter(|_| hold.things.len() == 1);
                let text = thing.why.clone().unwrap_or_else(|| format!("held by {}", hold.reason));
                let subject = format!("{}/{}", hold.reason, thing.name);
                let facts = Facts { what: thing.what.clone(), ..facts(text, since) };
                self.add(&project.name, Notice::Held, &subject, facts);
            }
        }
    }

    fn add_contested(&mut self, project: &ProjectStatus, can_order: bool) {
        let fingerprint = approvable(project, can_order);
        for contested in &project.contested {
            let ContestedStatus { kind, id, path, declared, live, times, .. } = contested;
            let who = who(contested.actor.as_deref(), contested.former_actor.as_deref());
            let text = format!(
                "{path} was turned back {times} times: the files say {declared}, {who} sets {live}{}",
                but(can_order)
            );
            let facts = Facts {
                since: Some(contested.since.clone()),
                fingerprint: fingerprint.clone(),
                // Whoever is asked who it was answers in a moment.
                is_transient: contested.is_asked && contested.actor.is_none(),
                ..Facts::new("contested", text)
            };
            self.add(&project.name, Notice::Contested, &format!("{kind}/{id}"), facts);
        }
    }

    fn add_failing(&mut self, project: &ProjectStatus) {
        let errors = &project.desired.errors;
        if let Some(first) = errors.first() {
            let more = if errors.len() > 1 { format!(", and {} more", errors.len() - 1) } else { String::new() };
            let text =
                format!("the newest files cannot be used: {}:{}: {}{more}", first.file, first.line, first.message);
            self.add(&project.name, Notice::Failing, FILES, Facts::new("desired_invalid", text));
        }
        if project.not_converged_because == Some("paused") {
            let text =
                "Descope refuses the management key, or something on the way does; one request per interval asks again";
            self.add(&project.name, Notice::Failing, ACCESS, Facts::new("paused", text.to_owned()));
            return;
        }
        let is_told_whole = self.add_unreachable(project);
        for problem in project.problems.iter().filter(|problem| !is_told_whole || !problem.id.is_empty()) {
            let Problem { kind, id, state, message, .. } = problem;
            let facts = |reason: &str| Facts {
                is_transient: *state == ProblemState::Retrying,
                ..Facts::new(reason, message.clone())
            };
            match state {
                // A kind as a whole has no identity.
                _ if id.is_empty() => self.add(&project.name, Notice::Failing, kind, facts("unobserved")),
                ProblemState::Parked => {
                    self.add(&project.name, Notice::Failing, &format!("{kind}/{id}"), facts("parked"));
                }
                ProblemState::Retrying => {
                    self.add(&project.name, Notice::Failing, &format!("{kind}/{id}"), facts("retrying"));
                }
                // Its cause is told.
                ProblemState::Blocked => {}
            }
        }
    }

    /// Where nothing at all can be looked at, that is one thing and not one for each kind. False where it is not so.
    fn add_unreachable(&mut self, project: &ProjectStatus) -> bool {
        let lists = || project.problems.iter().filter(|problem| problem.id.is_empty());
        let is_out = project.last_pass.as_ref().is_some_and(|pass| pass.result == "failed")
            && lists().count() > 1
            && lists().all(|problem| problem.state == ProblemState::Retrying);
        if let Some(first) = lists().next().filter(|_| is_out) {
            let text = format!("Descope cannot be observed, and nothing is changed meanwhile: {}", first.message);
            let facts = Facts { is_transient: true, ..Facts::new("unobserved", text) };
            self.add(&project.name, Notice::Failing, OBSERVATION, facts);
        }
        is_out
    }

    fn gather_crowds(&mut self) {
        let mut counts: BTreeMap<(String, Notice), (usize, bool)> = BTreeMap::new();
        for (identity, facts) in self.there.iter().filter(|(identity, _)| identity.is_resource()) {
            let (count, is_transient) = counts.entry((identity.project.clone(), identity.event)).or_insert((0, true));
            *count += 1;
            *is_transient &= facts.is_transient;
        }
        for ((project, event), (count, is_transient)) in counts.into_iter().filter(|(_, (count, _))| *count > MOST) {
            let is_of_it =
                |identity: &Identity| identity.is_resource() && identity.project == project && identity.event == event;
            self.there.retain(|identity, _| !is_of_it(identity));
            let text = format!("{count} resources; `descope-gitops status` and the page list them");
            self.add(&project, event, CROWD, Facts { is_transient, ..Facts::new("many", text) });
            self.crowded.insert((project, event));
        }
    }
}

/// What an approval names; nothing where nobody can give one, as no orders are taken.
fn approvable(project: &ProjectStatus, can_order: bool) -> Option<String> {
    let held = project.held.as_ref().filter(|_| can_order)?;
    Some(held.fingerprint.clone()).filter(|fingerprint| !fingerprint.is_empty())
}

/// What there is to add where an approval is named and nobody can give one.
fn but(can_order: bool) -> String {
    if can_order { String::new() } else { format!("; {NO_ORDERS}") }
}

impl Facts {
    fn new(reason: &str, text: String) -> Self {
        Self {
            reason: reason.to_owned(),
            text,
            since: None,
            fingerprint: None,
            is_transient: false,
            what: String::new(),
        }
    }
}

fn known(project: &ProjectStatus) -> Known {
    let result = project.last_pass.as_ref().map(|pass| pass.result.as_str());
    let is_asked_again = |problem: &Problem| problem.id.is_empty() && problem.state == ProblemState::Retrying;
    let counts = &project.overview.counts;
    // Of another's project, its holder knows.
    let is_mine = project.lease.as_ref().is_none_or(|lease| lease.is_mine);
    Known {
        has_passed: is_mine && result.is_some(),
        is_observed: is_mine
            && result.is_some_and(|result| result != "failed")
            && project.not_converged_because != Some("paused")
            && !project.problems.iter().any(is_asked_again),
        is_settled: counts.changing == 0 && counts.suspended == 0,
    }
}

#[cfg(test)]
impl Sight {
    /// These things of a project of which everything is known.
    pub fn knowing(project: &str, there: BTreeMap<Identity, Facts>) -> Self {
        let known = Known { has_passed: true, is_observed: true, is_settled: true };
        Self { there, projects: [(project.to_owned(), known)].into(), ..Self::default() }
    }

    /// So many things of a project that they are one crowd.
    pub fn crowd(project: &str, event: Notice) -> Self {
        let identity = Identity { project: project.to_owned(), event, subject: CROWD.to_owned() };
        let facts = Facts::new("many", "101 resources".to_owned());
        let mut sight = Self::knowing(project, [(identity, facts)].into());
        sight.crowded.insert((project.to_owned(), event));
        sight
    }

    /// A project of which nothing is known yet.
    pub fn knowing_nothing(project: &str) -> Self {
        let known = Known { has_passed: false, is_observed: false, is_settled: false };
        Self { projects: [(project.to_owned(), known)].into(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::Presence::Over;
    use super::Presence::Unknown;
    use super::*;
    use crate::telemetry::status::Board;
    use crate::telemetry::status::DesiredError;
    use crate::telemetry::status::HeldStatus;
    use crate::telemetry::status::HeldThing;
    use crate::telemetry::status::LeaseStatus;
    use crate::telemetry::status::PassStatus;
    use std::time::Duration;

    fn status(change: impl FnOnce(&mut ProjectStatus)) -> Status {
        let board = Board::new(Duration::from_secs(60), &[("p", "sync")]);
        board.project("p", |project| {
            project.last_pass = Some(PassStatus {
                trigger: "api".to_owned(),
                started_at: String::new(),
                finished_at: String::new(),
                result: "held".to_owned(),
                changes: 0,
            });
            project.not_converged_because = None;
            change(project);
        });
        board.let_order(true);
        board.status()
    }

    fn problem(kind: &str, id: &str, state: ProblemState) -> Problem {
        Problem {
            kind: kind.to_owned(),
            id: id.to_owned(),
            state,
            message: "no".to_owned(),
            attempts: 1,
            next_attempt_at: None,
            file: None,
            line: None,
        }
    }

    fn subjects(sight: &Sight) -> Vec<String> {
        let told = |(identity, facts): (&Identity, &Facts)| {
            format!("{} {}{}", identity.key(), facts.reason, if facts.is_transient { " for now" } else { "" })
        };
        sight.there.iter().map(told).collect()
    }

    fn presence(sight: &Sight, event: Notice, subject: &str) -> Presence {
        sight.presence(&Identity { project: "p".to_owned(), event, subject: subject.to_owned() })
    }

    #[test]
    fn what_needs_a_person_is_told_by_guard_resource_and_kind() {
        let hold = |reason: &'static str, needs_a_person, approvable| HoldStatus {
            reason: reason.into(),
            since: Some("2026-01-01T00:00:00Z".to_owned()),
            approvable,
            until: None,
            changes: 2,
            ends_with: "an approval".into(),
            why: None,
            revision: None,
            stops_project: false,
            needs_a_person,
            things: Vec::new(),
        };
        let status = status(|project| {
            project.holds = vec![
                hold("max_deletes", true, true),
                hold("policy", false, false),
                hold("still_referenced", true, false),
            ];
            project.held = Some(HeldStatus {
                fingerprint: "f00d".to_owned(),
                reason: "max_deletes".to_owned(),
                changes: 2,
                deletes: 2,
            });
            project.desired.errors =
                vec![DesiredError { file: "a.yaml".to_owned(), line: 3, message: "wrong".to_owned() }];
            project.problems = vec![
                problem("roles", "", ProblemState::Retrying),
                problem("tenants", "a", ProblemState::Parked),
                problem("tenants", "b", ProblemState::Blocked),
                problem("tenants", "c", ProblemState::Retrying),
            ];
        });
        let sight = Sight::of(&status, true, true);

        assert_eq!(
            subjects(&sight),
            [
                "/failing/state state_not_writable",
                "p/held/max_deletes max_deletes",
                "p/held/still_referenced still_referenced",
                "p/failing/files desired_invalid",
                "p/failing/roles unobserved for now",
                "p/failing/tenants/a parked",
                "p/failing/tenants/c retrying for now",
            ]
        );
        let fingerprints: Vec<_> = sight.there.values().filter_map(|facts| facts.fingerprint.clone()).collect();
        assert_eq!(fingerprints, ["f00d"], "no approval releases the other");
    }

    /// Whoever followed the message learned from a refused command that the daemon takes no orders.
    #[test]
    fn where_no_orders_are_taken_no_approval_is_told_of_but_that() {
        let hold = |reason: &'static str, approvable| HoldStatus {
            reason: reason.into(),
            since: None,
            approvable,
            until: None,
            changes: 2,
            ends_with: "an approval, or the files".into(),
            why: None,
            revision: None,
            stops_project: false,
            needs_a_person: true,
            things: Vec::new(),
        };
        let mut status = status(|project| {
            project.holds = vec![hold("max_deletes", true), hold("still_referenced", false)];
            let (fingerprint, reason) = ("f00d".to_owned(), "max_deletes".to_owned());
            project.held = Some(HeldStatus { fingerprint, reason, changes: 2, deletes: 2 });
        });
        let told = |status: &Status| -> Vec<(String, Option<String>)> {
            let sight = Sight::of(status, false, true);
            sight.there.into_values().map(|facts| (facts.text, facts.fingerprint)).collect()
        };
        let usual = "2 changes wait; it ends with an approval, or the files".to_owned();

        let with_token = told(&status);
        status.can_order = false;
        let without = told(&status);

        assert_eq!(with_token, [(usual.clone(), Some("f00d".to_owned())), (usual.clone(), None)]);
        assert_eq!(without, [(format!("{usual}; {NO_ORDERS}"), None), (usual, None)]);
    }

    /// One database that was gone was told as two things.
    #[test]
    fn a_lease_that_is_lost_for_want_of_the_database_is_told_and_the_database_is_not() {
        let lease = |is_mine: bool, lost_at: Option<&str>| LeaseStatus {
            is_mine,
            lost_at: lost_at.map(str::to_owned),
            holder: is_mine.then(|| "a/1".to_owned()),
            ..LeaseStatus::default()
        };
        let held = status(|project| project.lease = Some(lease(true, None)));
        let lost = status(|project| project.lease = Some(lease(false, Some("2026-01-01T00:00:00Z"))));
        let state = Identity { project: String::new(), event: Notice::Failing, subject: STATE.to_owned() };
        let of = |status: &Status, hears| {
            let sight = Sight::of(status, true, hears);
            let text = sight.there.get(&state).map_or("", |facts| &facts.text);
            (subjects(&sight), text.rsplit(": ").next().unwrap().to_owned(), sight.presence(&state))
        };

        let nothing_more =
            "nothing is created, renamed or deleted until it can be, and nothing at all once the lease has ended";
        let soon = vec!["/failing/state state_not_writable for now".to_owned()];
        assert_eq!(of(&held, true), (soon, nothing_more.to_owned(), Presence::There));
        assert_eq!(of(&lost, true), (vec!["p/lease_lost/lease lease_lost".to_owned()], String::new(), Unknown));
        // Whoever hears of no lease hears of the database, at once.
        let (told, text, _) = of(&lost, false);
        assert!(told.contains(&"/failing/state state_not_writable".to_owned()), "{told:?}");
        assert_eq!(text, "this replica writes nothing until it can be");
        assert_eq!(Sight::of(&lost, false, true).presence(&state), Over);
    }

    /// It was told when the replica wrote something next, which an idle one does once an interval.
    #[test]
    fn whoever_hears_of_no_lease_hears_soon_that_the_database_does_not_answer() {
        let lease = |is_mine: bool, lost_at: Option<&str>| LeaseStatus {
            is_mine,
            lost_at: lost_at.map(str::to_owned),
            ..LeaseStatus::default()
        };
        let of = |lease: LeaseStatus, is_state_failing, hears| {
            let mut status = status(|project| project.lease = Some(lease));
            status.is_database_silent = true;
            subjects(&Sight::of(&status, is_state_failing, hears))
        };
        let lost = || lease(false, Some("2026-01-01T00:00:00Z"));
        let told = "/failing/state state_not_writable".to_owned();
        let soon = format!("{told} for now");

        assert_eq!(of(lease(true, None), false, false), std::slice::from_ref(&soon), "it may answer the next time");
        assert_eq!(of(lease(true, None), true, false), std::slice::from_ref(&told));
        assert!(of(lost(), false, false).contains(&told));
        assert_eq!(of(lease(false, None), false, false), [""; 0], "whoever held it tells");
        assert_eq!(of(lease(true, None), false, true), [""; 0], "a lease that is lost is told");
        assert_eq!(of(lost(), false, true), ["p/lease_lost/lease lease_lost"]);
    }

    #[test]
    fn nothing_is_over_while_nobody_can_tell() {
        let of = |change: &dyn Fn(&mut ProjectStatus)| {
            let sight = Sight::of(&status(change), false, true);
            let ask = |event, subject| presence(&sight, event, subject);
            [
                ask(Notice::Held, "max_deletes"),
                ask(Notice::Failing, "tenants/a"),
                ask(Notice::Failing, "roles"),
                ask(Notice::Failing, "files"),
                ask(Notice::Failing, "access"),
            ]
        };

        assert_eq!(of(&|_| {}), [Over; 5]);
        assert_eq!(of(&|project| project.last_pass = None), [Unknown; 5], "just started");
        let failed = |project: &mut ProjectStatus| project.last_pass.as_mut().unwrap().result = "failed".to_owned();
        assert_eq!(of(&failed), [Unknown, Unknown, Unknown, Over, Over]);
        assert_eq!(of(&|project| project.overview.counts.changing = 1), [Over, Unknown, Over, Over, Over]);
        assert_eq!(of(&|project| project.overview.counts.suspended = 1), [Over, Unknown, Over, Over, Over]);
        let unseen = |state: ProblemState| {
            move |project: &mut ProjectStatus| project.problems = vec![problem("lists", "", state)]
        };
        assert_eq!(of(&unseen(ProblemState::Retrying)), [Unknown, Unknown, Unknown, Over, Over]);
        assert_eq!(of(&unseen(ProblemState::Parked)), [Over; 5], "a kind that is refused for good hides nothing");
        let elsewhere = Identity { project: "gone".to_owned(), event: Notice::Held, subject: "max_deletes".to_owned() };
        assert_eq!(Sight::of(&status(|_| {}), false, true).presence(&elsewhere), Over, "it left the config");
    }

    /// There was one item for each kind.
    #[test]
    fn descope_that_cannot_be_reached_is_one_thing_and_not_one_of_each_kind() {
        let of = |kinds: &[&str], state: ProblemState, result: &str| {
            let status = status(|project| {
                project.last_pass.as_mut().unwrap().result = result.to_owned();
                project.problems = kinds.iter().map(|kind| problem(kind, "", state)).collect();
                project.problems.push(problem("tenants", "a", ProblemState::Parked));
            });
            Sight::of(&status, false, true)
        };
        let out = of(&["lists", "roles"], ProblemState::Retrying, "failed");

        assert_eq!(subjects(&out), ["p/failing/observation unobserved for now", "p/failing/tenants/a parked"]);
        let told = "Descope cannot be observed, and nothing is changed meanwhile: no";
        assert_eq!(out.there.values().next().unwrap().text, told);
        let each = ["p/failing/lists unobserved for now", "p/failing/roles unobserved for now"];
        assert_eq!(subjects(&of(&["lists", "roles"], ProblemState::Retrying, "partial"))[..2], each);
        let refused = subjects(&of(&["lists", "roles"], ProblemState::Parked, "failed"));
        assert_eq!(refused[..2], ["p/failing/lists unobserved", "p/failing/roles unobserved"]);
        // What was told before one by one is not over, and it is over once something can be seen.
        assert_eq!(presence(&out, Notice::Failing, "roles"), Unknown);
        assert_eq!(presence(&of(&[], ProblemState::Retrying, "failed"), Notice::Failing, "observation"), Unknown);
        assert_eq!(presence(&of(&[], ProblemState::Retrying, "partial"), Notice::Failing, "observation"), Over);
    }

    /// A second weakening while the first was held was not told.
    #[test]
    fn each_thing_that_is_held_is_told_by_itself_and_many_of_one_reason_as_one() {
        let of = |n: usize| {
            let name = |n| HeldThing {
                name: format!("tenants/t{n:02}"),
                why: Some("minLength goes down".to_owned()),
                what: String::new(),
            };
            let hold = HoldStatus {
                reason: "weakening".into(),
                since: Some("2026-01-01T00:00:00Z".to_owned()),
                approvable: true,
                until: None,
                changes: n,
                ends_with: "an approval".into(),
                why: None,
                revision: None,
                stops_project: false,
                needs_a_person: true,
                things: (0..n.min(NAMED_HELD + 1)).map(name).collect(),
            };
            Sight::of(&status(|project| project.holds = if n == 0 { vec![] } else { vec![hold] }), false, true)
        };

        assert_eq!(
            subjects(&of(2)),
            ["p/held/weakening/tenants/t00 weakening", "p/held/weakening/tenants/t01 weakening"]
        );
        assert_eq!(of(2).there.values().next().unwrap().text, "minLength goes down; it ends with an approval");
        assert_eq!(presence(&of(1), Notice::Held, "weakening/tenants/t01"), Over);
        assert_eq!(subjects(&of(21)), ["p/held/weakening weakening"]);
        assert_eq!(presence(&of(21), Notice::Held, "weakening/tenants/t00"), Unknown, "it may be one of them");
        assert_eq!(presence(&of(20), Notice::Held, "weakening"), Unknown, "not the last yet");
        assert_eq!(presence(&of(0), Notice::Held, "weakening"), Over);
        assert_eq!(presence(&of(0), Notice::Held, "weakening/tenants/t00"), Over);
    }

    #[test]
    fn many_resources_are_one_crowd_until_the_last_of_them() {
        let of = |n: usize| {
            let problems = (0..n).map(|n| problem("tenants", &format!("t{n:03}"), ProblemState::Parked)).collect();
            Sight::of(&status(|project| project.problems = problems), false, true)
        };
        let crowd = of(101);

        assert_eq!(subjects(&crowd), ["p/failing/resources many"]);
        assert_eq!(presence(&crowd, Notice::Failing, "tenants/t000"), Presence::Unknown, "it may be one of them");
        assert_eq!(of(100).there.len(), 100);
        assert_eq!(presence(&of(1), Notice::Failing, "resources"), Presence::Unknown, "not the last yet");
        assert_eq!(presence(&of(0), Notice::Failing, "resources"), Presence::Over);
    }
}
