//! What an operator is told about what is held and deleted.

use super::Hold;
use super::Referrer;
use crate::plan::Change;
use crate::plan::Ownership;
use crate::plan::Plan;
use crate::plan::Slot;
use crate::plan::differs;
use crate::plan::drift;
use crate::plan::drift::Left;
use crate::plan::ties;
use crate::plan::who;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::MAIN;
use crate::resource::legible::legible;
use crate::telemetry::status::rfc3339;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::SystemTime;

/// Of a value in a sentence.
const LONGEST_VALUE: usize = 120;

/// Names in one sentence; the rest is a number.
const NAMED: usize = 5;

/// Each once: two calls of one resource may stand in the way.
fn named(names: impl Iterator<Item = String>) -> String {
    let mut seen = BTreeSet::new();
    let names: Vec<String> = names.filter(|name| seen.insert(name.clone())).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names[..names.len().min(NAMED)].join(", ") + &more
}

/// Says of each change that something else holds back what that is.
pub(super) fn explain(changes: &mut [Change]) {
    let holds: HashMap<Slot, Hold> = changes
        .iter()
        .filter_map(|change| Some((change, change.held?)))
        .flat_map(|(change, hold)| change.tasks.iter().map(move |task| (task.slot.clone(), hold)))
        .collect();
    // Nobody else asks for them, and they are the whole plan.
    let is_asked = changes.iter().any(|change| change.held == Some(Hold::Blocked));
    let planned: BTreeSet<Slot> = changes
        .iter()
        .filter(|change| is_asked && change.held.is_none())
        .flat_map(|change| change.tasks.iter().map(|task| task.slot.clone()))
        .collect();
    for change in changes {
        // What has no call says itself why, but drift that is left.
        if !change.tasks.is_empty() || change.drift.is_some() {
            change.why = with_dangers(change, why(change, &holds, &planned));
        }
    }
}

/// An approval lets the whole change go: whoever gives it for another reason reads of its dangers, too.
fn with_dangers(change: &Change, why: Option<String>) -> Option<String> {
    let hold = change.held.filter(|hold| hold.can_be_approved() && !matches!(hold, Hold::Weakening | Hold::Lockout));
    if hold.is_none() || change.dangers.is_empty() {
        return why;
    }
    let also = format!("it also {}", dangers(change));
    Some(why.map_or_else(|| also.clone(), |why| format!("{why}; {also}")))
}

fn dangers(change: &Change) -> String {
    let of = |wanted: Hold, consequence: &str| {
        let what = change.dangers.iter().filter(|(hold, _)| *hold == wanted).map(|(_, what)| what.as_str());
        let what = what.collect::<Vec<_>>().join("; ");
        (!what.is_empty()).then(|| format!("{consequence}: {what}"))
    };
    let each = [of(Hold::Weakening, "lowers protection"), of(Hold::Lockout, "may lock people out")];
    each.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn why(change: &Change, holds: &HashMap<Slot, Hold>, planned: &BTreeSet<Slot>) -> Option<String> {
    let ties = change.ties();
    let main = |key: &Key| Slot { key: key.clone(), part: MAIN };
    let along = || {
        let held = ties.together.iter().filter_map(|key| Some((key, holds.get(&main(key))?)));
        let held = named(held.map(|(key, hold)| format!("{key} ({})", hold.as_str())));
        (!held.is_empty()).then(|| format!("stays while the delete of what refers to it is held: {held}"))
    };
    match change.held? {
        Hold::StillDeclared if !ties.declared.is_empty() => {
            let by = named(ties.declared.iter().map(|(key, place)| format!("{key} ({place})")));
            Some(format!(
                "left the YAML, but is still referred to by {by}; take it out there first, or declare it again"
            ))
        }
        Hold::StillReferenced(Referrer::Undeclared) if !ties.undeclared.is_empty() => {
            let by = named(ties.undeclared.iter().map(ToString::to_string));
            Some(format!("is still referred to by {by}, which would lose it"))
        }
        Hold::StillReferenced(Referrer::Unseen) if !ties.unseen.is_empty() => {
            let kinds = named(ties.unseen.iter().map(|kind| (*kind).to_owned()));
            Some(format!("may still be referred to: {kinds} cannot be seen"))
        }
        Hold::StillReferenced(Referrer::Unseen) if !ties.hidden.is_empty() => {
            let slots = named(ties.hidden.iter().map(|slot| format!("{} of {}", slot.part, slot.key)));
            let part = ties.hidden.first().map_or("", |slot| slot.part);
            Some(format!(
                "may still be referred to: {slots} cannot be seen; make sure in Descope that nothing there names it, or \
                 declare `{part}` there, so that it is looked at"
            ))
        }
        Hold::Blocked if change.action != Action::Delete => {
            let needs = change.tasks.iter().flat_map(|task| &task.needs);
            let held = needs.filter_map(|need| Some((need, holds.get(&need.slot)?)));
            let named_as = |slot: &Slot| {
                if slot.key == change.key { format!("its {}", slot.part) } else { slot.key.to_string() }
            };
            let each: BTreeSet<String> =
                held.map(|(need, hold)| format!("{} {} ({})", need.why, named_as(&need.slot), hold.as_str())).collect();
            (!each.is_empty()).then(|| format!("waits: {}", named(each.into_iter())))
        }
        Hold::Blocked => {
            let plight = |slot: &Slot| match holds.get(slot) {
                None if slot.part == ties::LEFT => Some(format!("{} (drift_reported)", slot.key)),
                Some(hold) => Some(format!("{} ({})", slot.key, hold.as_str())),
                None if planned.contains(slot) => None,
                None => Some(format!("{} (cannot be changed now)", slot.key)),
            };
            let slow = ties.letting_go.iter().filter_map(plight);
            let new = ties.unlisted.iter().map(|key| format!("{key} (ours, and not in the list for now)"));
            let by = named(slow.chain(new));
            if by.is_empty() { along() } else { Some(format!("waits until it is let go by {by}")) }
        }
        Hold::ObservationShrank if !ties.doubted.is_empty() => {
            let kinds = named(ties.doubted.iter().map(|kind| (*kind).to_owned()));
            Some(format!("may still be referred to by what the list lacks of {kinds}"))
        }
        Hold::MaxDeletes | Hold::MaxDeletePercent if !change.losses.is_empty() => {
            let limit = change.limit.as_ref().map_or_else(String::new, |limit| format!("; {limit}"));
            Some(format!("would take along what it leaves out: {}{limit}", named(change.losses.iter().cloned())))
        }
        Hold::Weakening | Hold::Lockout if !change.dangers.is_empty() => {
            Some(change.dangers.iter().map(|(_, what)| what.as_str()).collect::<Vec<_>>().join("; "))
        }
        Hold::Contested if change.contest.is_some() => contested(change),
        Hold::DriftReported(left) => {
            let who = drifted(change, holds).map(|who| who + &put_back(left, change.until));
            who.or_else(along)
        }
        Hold::Policy
        | Hold::ObservationShrank
        | Hold::StillDeclared
        | Hold::StillReferenced(_)
        | Hold::KindEmptied
        | Hold::MaybeRename(_)
        | Hold::MaxDeletes
        | Hold::MaxDeletePercent
        | Hold::MaxChangePercent
        | Hold::Weakening
        | Hold::Lockout
        | Hold::Contested
        | Hold::FirstContact(_)
        | Hold::DeleteAfter
        | Hold::Suspended => {
            let both: Vec<String> = change.limit.iter().cloned().chain(along()).collect();
            (!both.is_empty()).then(|| both.join("; "))
        }
        Hold::WouldReset => {
            let fields = named(change.would_reset.iter().map(|loss| loss.field.to_owned()));
            Some(format!(
                "needs a call that would reset {fields}, which nobody declared and nobody can read; declare it to keep it"
            ))
        }
    }
}

/// When drift is put back, where time alone says that.
fn put_back(left: Left, until: Option<SystemTime>) -> String {
    let when = match left {
        Left::Reported => None,
        Left::Young => Some(""),
        Left::Suspended => Some(", when the suspension ends"),
    };
    let then = |(until, when)| format!("; it is left as it is until {}{when}, and then put back", rfc3339(until));
    until.zip(when).map(then).unwrap_or_default()
}

/// What it says of what others did. Who that was may come to be known later.
pub fn of_others(change: &Change) -> Vec<String> {
    [changed(change), contested(change)].into_iter().flatten().collect()
}

fn changed(change: &Change) -> Option<String> {
    let drift = change.drift.as_ref()?;
    let what = if drift.fields.contains(drift::WHOLE) { "deleted it" } else { "changed it" };
    Some(differs(drift.actor.as_deref(), what, &rfc3339(drift.since)))
}

fn drifted(change: &Change, holds: &HashMap<Slot, Hold>) -> Option<String> {
    if change.drift.is_some() {
        return changed(change);
    }
    let missing = change.tasks.iter().flat_map(|task| &task.after);
    let missing = missing.filter(|slot| matches!(holds.get(slot), Some(Hold::DriftReported(_))));
    let missing = named(missing.map(|slot| slot.key.to_string()).collect::<BTreeSet<_>>().into_iter());
    (!missing.is_empty()).then(|| format!("needs {missing}, which somebody else deleted"))
}

fn contested(change: &Change) -> Option<String> {
    let contest = change.contest.as_ref()?;
    let fields = change.fields.list();
    let field = fields.iter().find(|field| field.path == contest.path)?;
    let brief = |value: &serde_json::Value| {
        let text = value.to_string();
        text.char_indices().nth(LONGEST_VALUE).map_or_else(|| text.clone(), |(cut, _)| format!("{}…", &text[..cut]))
    };
    let find_out = if contest.actor.is_some() { "" } else { "find out who, and " };
    Some(format!(
        "{} was turned back {} times since {}: the files say {}, {} sets {}; {find_out}settle it in the files or with them",
        contest.path,
        contest.times,
        rfc3339(contest.since),
        brief(&field.to),
        who(contest.actor.as_deref(), contest.former.as_deref()),
        brief(&field.from)
    ))
}

/// What holds these changes, as warnings, where nobody would look for the reason elsewhere. A fight is told with its change
/// alone: who fights may come to be known later.
pub fn explanations(changes: &[Change]) -> Vec<String> {
    let is_told = |hold: Hold| {
        let others = matches!(hold, Hold::Blocked | Hold::WouldReset | Hold::Weakening | Hold::Lockout);
        others || matches!(hold, Hold::StillDeclared | Hold::StillReferenced(_))
    };
    let told = changes.iter().filter(|change| change.held.is_some_and(is_told) || !change.losses.is_empty());
    let sentence = |change: &Change| {
        let place = change.place.as_ref().map_or_else(String::new, |place| format!("{place}: "));
        Some(format!("{place}{} {}", change.key, change.why.as_ref()?))
    };
    told.filter_map(sentence).collect()
}

/// What hangs on the resources that are deleted, as far as what was observed can tell.
pub(super) fn consequences(changes: &[Change]) -> Vec<String> {
    let mut hanging: BTreeMap<(&Key, bool), Vec<String>> = BTreeMap::new();
    for change in changes.iter().filter(|change| change.action == Action::Delete) {
        for referrer in &change.ties().undeclared {
            let lives_in_it = referrer.home().as_ref() == Some(&change.key);
            hanging.entry((&change.key, lives_in_it)).or_default().push(referrer.to_string());
        }
    }
    let sentence = |((key, lives_in_it), by): ((&Key, bool), Vec<String>)| {
        let by = named(by.into_iter());
        if lives_in_it {
            format!("deleting {key} takes {by} along, which no file declares and this daemon does not own")
        } else {
            format!("deleting {key} takes it away from {by}")
        }
    };
    hanging.into_iter().map(sentence).collect()
}

/// Who was created since something left the files: `new was`.
pub(super) fn newer(owned: &BTreeMap<Key, Ownership>, kind: &str) -> String {
    let new = owned.iter().filter(|(key, ownership)| key.kind == kind && ownership.replaces);
    let new: Vec<String> = new.map(|(key, _)| legible(&key.id()).into_owned()).collect();
    match new.len() {
        0 => format!("another one of {kind} was"),
        1 => format!("{} was", named(new.into_iter())),
        _ => format!("{} were", named(new.into_iter())),
    }
}

/// What to do where something of these kinds may be one resource under a new name.
pub(super) fn rename_remedies(plan: &Plan, owned: &BTreeMap<Key, Ownership>, kinds: BTreeSet<&str>) -> Vec<String> {
    let changes = &plan.changes;
    let names = |kind: &str, action: Action| {
        let of = changes.iter().filter(|change| change.key.kind == kind && change.action == action);
        of.map(|change| legible(&change.key.id()).into_owned()).take(NAMED).collect::<Vec<_>>().join(", ")
    };
    let sentence = |kind: &str| {
        let (deleted, created) = (names(kind, Action::Delete), names(kind, Action::Create));
        if plan.refused_renames.contains(kind) {
            return format!(
                "{kind}: {deleted} would be deleted beside a rename that cannot be carried out; settle that first, or \
                 approve the deletes"
            );
        }
        if created.is_empty() {
            return format!(
                "{kind}: {deleted} left the YAML and would be deleted, and {} created since; if that is a rename, delete \
                 the new one in Descope and write `renamedFrom: OLD` on it, which keeps ids and assignments; if not, approve \
                 the deletes",
                newer(owned, kind)
            );
        }
        format!(
            "{kind}: {deleted} would be deleted and {created} created; if that is a rename, write `renamedFrom: OLD` \
             on the new one before it is made (once it is, delete it in Descope first), which keeps ids and assignments; \
             if not, approve the deletes"
        )
    };
    kinds.into_iter().map(sentence).collect()
}
