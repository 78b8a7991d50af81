//! What holds a change back: the policy, first contacts, lists that answer too little, and deletes that look like
//! an accident or would take something away from others.
//!
//! A guard never stops the whole: it marks the dangerous changes, and the safe ones go ahead. What it marks can be
//! approved by fingerprint, except what only time, the files or the config can release.

use super::Change;
use super::Contest;
use super::Drift;
use super::Inputs;
use super::Live;
use super::Plan;
use super::Policy;
use super::Sent;
use super::Slot;
use super::Task;
use super::write;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::Kind;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use thin_vec::ThinVec;

mod along;
mod contact;
mod danger;
mod digest;
mod hold;
mod limits;
mod words;

pub use contact::Unknown;
pub use contact::contacted;
pub use contact::look_at_once;
pub use contact::refuse_looked_at;
pub use contact::unknown_kinds;
pub use danger::Watch;
pub use digest::digest_of_former;
pub use digest::fingerprint;
pub use hold::Contact;
pub use hold::Hold;
pub use hold::NewName;
pub use hold::Referrer;
pub use limits::Guards;
pub use limits::Most;
pub use limits::PERCENT_COUNTS_FROM;
pub use limits::Window;
pub use limits::shrunk;
pub use words::explanations;
pub use words::of_others;

/// Marks the kinds whose list lacks too much to be believed.
pub fn doubt(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) {
    let is_live = |key: &Key| live.is_observed(key.kind).then(|| live.has(key));
    for (kind, gone) in shrunk(inputs.owned, inputs.desired, is_live, inputs.renamed, inputs.policy, inputs.guards) {
        plan.warnings.push(format!(
            "Descope's list of {kind} lacks {gone} that this daemon owns; nothing of {kind} is changed until that is \
             approved"
        ));
        plan.shrunk.insert(kind);
    }
}

/// Marks what may not go ahead, and says what deletes drag along.
pub fn hold(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) {
    let is_unbound = plan.awaits_contact();
    let is_held_whole = is_unbound || inputs.first_contact && contact::may_be_filled(inputs, live, plan);
    let verdicts = limits::verdicts(inputs, plan);
    finish_creates(inputs, live, plan);
    plan.unknown_parts = contact::unknown(inputs, live);
    contact::mark(inputs, live, plan);
    danger::part_resets(plan);
    danger::mark(inputs, live, plan);
    contest(inputs, plan);
    let mut newer = HashMap::new();
    for change in &mut plan.changes {
        let is_early = change.is_early && change.action == Action::Delete;
        let is_reset = !change.would_reset.is_empty() && change.action != Action::Create;
        let reasons = [
            (!is_permitted(inputs.policy, change)).then_some(Hold::Policy),
            change.drift.as_deref().and_then(Drift::hold),
            plan.shrunk.contains(change.key.kind).then_some(Hold::ObservationShrank),
            referred(change).map(Hold::StillReferenced),
            verdicts.get(change.key.kind).and_then(|verdict| verdict.on(change, inputs.owned)),
            is_reset.then_some(Hold::WouldReset),
            change.dangers.iter().map(|(hold, _)| *hold).min(),
            change.contest.as_ref().map(|_| Hold::Contested),
            is_held_whole.then_some(Hold::FirstContact(Contact::Project)),
            change.is_first_contact.then_some(Hold::FirstContact(Contact::Part)),
            is_early.then_some(Hold::DeleteAfter),
        ];
        // The earlier reason wins.
        change.held = reasons.into_iter().flatten().min();
        change.held_beside = beside(change, is_reset).into();
        let verdict = change.held.zip(verdicts.get(change.key.kind));
        let kind = change.key.kind;
        // Of all that are owned, and so once.
        let newer = || newer.entry(kind).or_insert_with(|| words::newer(inputs.owned, kind)).clone();
        change.limit = verdict.and_then(|(hold, verdict)| verdict.said(hold, kind, inputs.guards, newer));
        // An approval begins a new count, which may leave nothing to hold the delete that it was for.
        let may_be_approved = match &change.held {
            Some(hold) => hold.can_be_approved() || *hold == Hold::DeleteAfter,
            None => change.action == Action::Delete,
        };
        if may_be_approved {
            change.digest = digest::digest(inputs.scope, change, live, &plan.shrunk).into();
            // Who approved it under the former entry was not asked about this one.
            if !is_unbound && (inputs.is_approved)(&change.digest) {
                change.approve();
            }
        }
    }
    for change in plan.changes.iter_mut().filter(|change| change.held == Some(Hold::Contested)) {
        change.until = change.contest.as_ref().map(|contest| contest.until);
    }
    for change in plan.changes.iter_mut().filter(|change| matches!(change.held, Some(Hold::DriftReported(_)))) {
        change.until = change.drift.as_ref().and_then(|drift| drift.until);
    }
    let may_be_renamed = plan.changes.iter().filter(|change| matches!(change.held, Some(Hold::MaybeRename(_))));
    let may_be_renamed: BTreeSet<&str> = may_be_renamed.map(|change| change.key.kind).collect();
    settle(&mut plan.changes);
    for change in &mut plan.changes {
        if change.can_be_approved() && change.digest.is_empty() {
            change.digest = digest::digest(inputs.scope, change, live, &plan.shrunk).into();
        }
    }
    plan.warnings.extend(words::explanations(&plan.changes));
    if inputs.policy == Policy::Sync {
        plan.warnings.extend(words::consequences(&plan.changes));
        plan.warnings.extend(words::rename_remedies(plan, inputs.owned, may_be_renamed));
    }
}

/// Marks what finishes a create of ours. It has rules of its own: what else is to be changed of the resource becomes a change
/// of its own.
fn finish_creates(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) {
    let mut rest = Vec::new();
    let updates = plan.changes.iter_mut().enumerate().filter(|(_, change)| change.action == Action::Update);
    for (at, change) in updates.filter(|(_, change)| !change.tasks.is_empty()) {
        let is_ours = inputs.owned.get(&change.key).is_some_and(|ownership| ownership.created) && live.has(&change.key);
        let declared = inputs.desired.resources.get(&change.key).filter(|_| is_ours);
        let Some((declared, kind)) = declared.zip(resource::kind(change.key.kind)) else { continue };
        let completes = |task: &Task| {
            let part = kind.spec().part(task.slot.part);
            part.is_some_and(|part| write::came_along(part, declared, inputs.sent) != Sent::Unknown)
        };
        rest.extend(take_rest(change, completes).map(|rest| (at, rest)));
        change.completes = change.tasks.iter().all(completes);
    }
    put_before(rest, &mut plan.changes);
}

/// What an approval that is given for another reason lets go as well.
fn beside(change: &Change, is_reset: bool) -> Vec<Hold> {
    let dangers = change.dangers.iter().map(|(hold, _)| *hold);
    let all = is_reset.then_some(Hold::WouldReset).into_iter().chain(dangers);
    let all = all.chain(change.contest.as_ref().map(|_| Hold::Contested));
    let all: BTreeSet<Hold> = all.filter(|hold| change.held != Some(*hold)).collect();
    all.into_iter().collect()
}

/// Marks every part of what is contested in one.
fn contest(inputs: &Inputs<'_>, plan: &mut Plan) {
    let found = plan.changes.iter().filter_map(|change| Some((change.key.clone(), (inputs.contested)(change)?)));
    let found: HashMap<Key, Contest> = found.collect();
    for change in plan.changes.iter_mut().filter(|change| change.action == Action::Update) {
        change.contest = found.get(&change.key).cloned().map(Box::new);
    }
}

/// Holds what may not go ahead of what is held, and says why.
pub(super) fn settle(changes: &mut Vec<Change>) {
    along::hold(changes);
    words::explain(changes);
}

/// The same, once these were let go.
pub(super) fn settle_after(changes: &mut Vec<Change>, gone: HashSet<Slot>) {
    along::follow(changes, gone);
    settle(changes);
}

fn is_permitted(policy: Policy, change: &Change) -> bool {
    policy.permits(change.action) || change.completes && policy.permits(Action::Create)
}

/// Who refers to what is deleted and has no word in it, as far as an approval can settle that.
fn referred(change: &Change) -> Option<Referrer> {
    if !change.ties().undeclared.is_empty() {
        Some(Referrer::Undeclared)
    } else if change.ties().unseen.is_empty() && change.ties().hidden.is_empty() {
        None
    } else {
        Some(Referrer::Unseen)
    }
}

fn has_rename(key: &Key) -> bool {
    resource::kind(key.kind).is_some_and(Kind::has_rename)
}

/// Takes out of a change, as one of its own, what is not of `is_it`. None where all of it is of one sort: then it stays as it
/// is, and room for more tasks, a hundred thousand times, would be most of a plan.
fn take_rest(change: &mut Change, is_it: impl Fn(&Task) -> bool) -> Option<Change> {
    let count = change.tasks.iter().filter(|task| is_it(task)).count();
    if count == 0 || count == change.tasks.len() {
        return None;
    }
    let (those, others): (ThinVec<Task>, ThinVec<Task>) =
        std::mem::take(&mut change.tasks).into_iter().partition(is_it);
    let mut rest = Change { tasks: others, ..change.clone() };
    change.tasks = those;
    for half in [&mut rest, change] {
        half.fields = half.tasks.iter().flat_map(|task| task.fields.list().into_owned()).collect();
        let Change { tasks, would_reset, .. } = half;
        would_reset.retain(|loss| tasks.iter().any(|task| task.slot.part == loss.part));
    }
    Some(rest)
}

/// Puts each before the change at its place, in order.
fn put_before(new: Vec<(usize, Change)>, changes: &mut Vec<Change>) {
    if new.is_empty() {
        return;
    }
    let mut new = new.into_iter().peekable();
    let old = std::mem::take(changes).into_iter().enumerate();
    let both = old.flat_map(|(at, change)| {
        new.next_if(|(before, _)| *before == at).map(|(_, new)| new).into_iter().chain([change])
    });
    *changes = both.collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_of_a_change_goes_right_before_the_rest_of_it() {
        let update = |name: &str| Change::new(Key::new("tenants", name), Action::Update);
        let mut changes: Vec<Change> = ["a", "b", "c"].map(update).into();

        put_before(vec![(0, update("of a")), (2, update("of c"))], &mut changes);

        let names: Vec<&str> = changes.iter().map(|change| &*change.key.name).collect();
        assert_eq!(names, ["of a", "a", "b", "of c", "c"]);
    }
}
