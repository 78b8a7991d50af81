//! What is held because something else is: nothing goes out before what it depends on.

use super::Hold;
use crate::plan::Change;
use crate::plan::Slot;
use crate::plan::Task;
use crate::resource::Action;
use crate::resource::Key;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

/// Holds what may not go ahead of something that is held, whatever was approved: what refers to a resource that is not
/// made yet, and what is referred to by something that has not let go.
pub(super) fn hold(changes: &mut Vec<Change>) {
    for change in changes.iter_mut().filter(|change| !change.ties().declared.is_empty()) {
        hold_by(change, Hold::StillDeclared);
    }
    for change in changes.iter_mut().filter(|change| !change.ties().unlisted.is_empty()) {
        hold_by(change, Hold::Blocked);
    }
    loop {
        hold_dependents(changes);
        hold_doubted(changes);
        hold_deletes(changes);
        if !hold_needy(changes) {
            return;
        }
    }
}

/// What may not go without a task that is held waits for that: a name that is not given up yet, a log-in that is not there.
/// Of an update, what other calls write goes ahead.
fn hold_needy(changes: &mut Vec<Change>) -> bool {
    if changes.iter().flat_map(|change| &change.tasks).all(|task| task.needs.is_empty()) {
        return false;
    }
    let mut is_any = false;
    loop {
        let held = changes.iter().filter(|change| change.held.is_some()).flat_map(|change| &change.tasks);
        let held: HashSet<Slot> = held.map(|task| task.slot.clone()).collect();
        let is_needy = |task: &Task| task.needs.iter().any(|need| held.contains(&need.slot));
        let (mut rest, mut moved) = (Vec::new(), false);
        for (at, change) in changes.iter_mut().enumerate().filter(|(_, change)| change.tasks.iter().any(is_needy)) {
            if change.held.is_none() && change.action == Action::Update {
                rest.extend(super::take_rest(change, is_needy).map(|rest| (at, rest)));
            }
            moved |= hold_by(change, Hold::Blocked);
        }
        super::put_before(rest, changes);
        if !moved {
            return is_any;
        }
        is_any = true;
    }
}

/// Looks anew at what waits for something that was let go just now.
pub(super) fn follow(changes: &mut [Change], mut gone: HashSet<Slot>) {
    loop {
        let mut moved = false;
        for change in changes.iter_mut().filter(|change| change.held == Some(Hold::Blocked)) {
            let needs = change.tasks.iter().flat_map(|task| &task.needs).map(|need| &need.slot);
            if needs.chain(&change.ties().letting_go).any(|slot| gone.contains(slot)) {
                change.held = change.is_early.then_some(Hold::DeleteAfter);
                gone.extend(change.tasks.iter().map(|task| task.slot.clone()));
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

/// What a list lacks may refer to it: who accepts the loss accepts that. Whatever else holds what was not approved of that
/// kind, its list is not believed.
fn hold_doubted(changes: &mut [Change]) {
    let open = changes.iter().filter(|change| change.held.is_some() && !change.is_approved);
    let kinds: BTreeSet<&str> = open.map(|change| change.key.kind).collect();
    for change in changes.iter_mut().filter(|change| change.ties().doubted.iter().any(|kind| kinds.contains(kind))) {
        hold_by(change, Hold::ObservationShrank);
    }
}

/// The earlier reason wins.
fn hold_by(change: &mut Change, hold: Hold) -> bool {
    let before = change.held;
    change.held = before.into_iter().chain([hold]).min();
    if change.held == before {
        return false;
    }
    // Nothing that held it is lost by what holds it now.
    change.held_beside.extend(before.filter(|_| hold.can_be_approved()));
    true
}

/// What refers to a resource that is not created or renamed yet waits with it. Changes are in dependency order, but for
/// parts with calls of their own, so this repeats until nothing moves.
fn hold_dependents(changes: &mut [Change]) {
    loop {
        let absent: HashMap<Key, Hold> = changes
            .iter()
            .filter(|change| matches!(change.action, Action::Create | Action::Rename))
            .filter_map(|change| Some((change.key.clone(), change.held?)))
            .collect();
        let waits = |change: &Change| {
            let after = |slot: &Slot| absent.get(&slot.key).copied();
            change.tasks.iter().flat_map(|task| &task.after).find_map(after)
        };
        let mut moved = false;
        for change in changes.iter_mut().filter(|change| change.held.is_none() && change.action != Action::Delete) {
            change.held = waits(change);
            moved |= change.held.is_some();
        }
        if !moved {
            return;
        }
    }
}

/// What is referred to stays until what refers to it let go: for as long as that change is held or cannot be planned, and,
/// where both are to be deleted, for the reason that holds the other. A tenant and what lives in it refer to one another,
/// so this repeats until nothing moves.
fn hold_deletes(changes: &mut [Change]) {
    if changes.iter().all(|change| change.action != Action::Delete) {
        return;
    }
    let mut letting_go: HashMap<Slot, bool> = HashMap::new();
    for change in changes.iter().filter(|change| change.action != Action::Delete) {
        for task in &change.tasks {
            letting_go.insert(task.slot.clone(), change.held.is_none());
        }
    }
    let is_deletes = |change: &&mut Change| change.action == Action::Delete;
    for change in changes.iter_mut().filter(is_deletes) {
        let lets_go = |slot: &Slot| letting_go.get(slot).copied().unwrap_or_default();
        if !change.ties().letting_go.iter().all(lets_go) {
            hold_by(change, Hold::Blocked);
        }
    }
    loop {
        let held: HashMap<Key, Hold> = changes
            .iter()
            .filter(|change| change.action == Action::Delete)
            .filter_map(|change| Some((change.key.clone(), change.held?)))
            .collect();
        let mut moved = false;
        for change in changes.iter_mut().filter(is_deletes) {
            let along = change.ties().together.iter().filter_map(|key| held.get(key).copied()).min();
            if let Some(hold) = along {
                moved |= hold_by(change, hold);
            }
        }
        if !moved {
            return;
        }
    }
}
