//! What lowers protection or locks people out, as the tables say of their fields.

use super::Hold;
use crate::desired::Declared;
use crate::plan::Change;
use crate::plan::Inputs;
use crate::plan::Live;
use crate::plan::Plan;
use crate::plan::Sent;
use crate::plan::Slot;
use crate::plan::Task;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Harm;
use crate::resource::Key;
use crate::resource::MAIN;
use crate::resource::Shape;
use crate::resource::fold;
use crate::resource::spec::Read;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a guard does where it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The part waits for an approval.
    Hold,
    /// The plan says so.
    Warn,
    /// Nothing.
    Off,
}

impl Hold {
    fn of(harm: Harm) -> Self {
        match harm {
            Harm::Weakening => Self::Weakening,
            Harm::Lockout => Self::Lockout,
        }
    }
}

/// Marks the parts of changes that lower protection or lock people out. Of a change that does more than that, the rest
/// becomes a change of its own. What a create brings, and what a guard only watches, is a warning.
pub(super) fn mark(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) {
    let mut safe = Vec::new();
    let written = written(plan);
    for (at, change) in plan.changes.iter_mut().enumerate() {
        let found = found(inputs, live, &plan.kept, &written, change);
        if found.is_empty() {
            continue;
        }
        let is_held = |harm: Harm, is_new: bool| !is_new && watch(inputs, harm) == Watch::Hold;
        let told =
            found.iter().filter(|risk| !is_held(risk.harm, risk.is_new) && watch(inputs, risk.harm) != Watch::Off);
        let place = change.place.as_ref().map_or_else(String::new, |place| format!("{place}: "));
        plan.warnings
            .extend(told.map(|risk| format!("{place}{} {}: {}", change.key, consequence(risk.harm), risk.what)));
        let held: Vec<&Risky> = found.iter().filter(|risk| is_held(risk.harm, risk.is_new)).collect();
        let is_risky = |task: &Task| held.iter().any(|risk| risk.part == task.slot.part);
        safe.extend(super::take_rest(change, is_risky).map(|rest| (at, rest)));
        change.dangers = held.iter().map(|risk| (Hold::of(risk.harm), risk.what.clone())).collect();
    }
    super::put_before(safe, &mut plan.changes);
}

/// Makes of each update with a call that would reset something nobody can read two changes: what other calls write of it does
/// not wait for that one.
pub(super) fn part_resets(plan: &mut Plan) {
    let mut safe = Vec::new();
    let updates = plan.changes.iter_mut().enumerate().filter(|(_, change)| change.action == Action::Update);
    for (at, change) in updates.filter(|(_, change)| !change.would_reset.is_empty()) {
        let resetting: Vec<&str> = change.would_reset.iter().map(|loss| loss.part).collect();
        let rest = super::take_rest(change, |task| resetting.contains(&task.slot.part));
        safe.extend(rest.map(|rest| (at, rest)));
    }
    super::put_before(safe, &mut plan.changes);
}

struct Risky {
    part: &'static str,
    harm: Harm,
    what: String,
    /// Nobody relies on what was never there.
    is_new: bool,
}

/// What the plan writes beside main parts.
fn written(plan: &Plan) -> BTreeSet<Slot> {
    let tasks = plan.changes.iter().flat_map(|change| &change.tasks);
    tasks.filter(|task| task.slot.part != MAIN).map(|task| task.slot.clone()).collect()
}

fn found(
    inputs: &Inputs<'_>,
    live: &Live<'_>,
    kept: &BTreeMap<Key, Arc<Declared>>,
    written: &BTreeSet<Slot>,
    change: &Change,
) -> Vec<Risky> {
    let key = &change.key;
    let declared = kept.get(key).or_else(|| inputs.desired.resources.get(key));
    let Some(declared) = declared.filter(|_| change.action != Action::Delete) else {
        return Vec::new();
    };
    let Some(kind) = resource::kind(key.kind) else { return Vec::new() };
    let document = live.get(&change.old_key());
    let document = document.as_deref();
    // A part that its own call has not shown was never looked at by whoever relies on it.
    let is_missing = |part: &resource::Part| {
        let is_there = |document: &Document| {
            part.fields.iter().any(|field| document.get(field.name).is_some_and(|value| !fold::is_zero(value)))
        };
        change.completes && part.read == Read::Each && !document.is_some_and(is_there)
    };
    let mut found = Vec::new();
    for part in change.tasks.iter().filter_map(|task| kind.spec().part(task.slot.part)) {
        let is_new = document.is_none() || is_missing(part);
        let is_planned = |field: &str| {
            let of = kind.spec().field(field);
            of.is_some_and(|(of, _)| written.contains(&Slot { key: key.clone(), part: of.name }))
        };
        let before = |path: &str, field: &resource::Field| sent_before(inputs, key, path, field);
        let risks = resource::risks(&[part], &declared.fields, document, &is_planned, &before);
        found.extend(risks.into_iter().map(|(harm, what)| Risky { part: part.name, harm, what, is_new }));
    }
    found
}

/// What was last sent for a field that no answer tells, as far as its fingerprint gives that away.
fn sent_before(inputs: &Inputs<'_>, key: &Key, path: &str, field: &resource::Field) -> Option<Value> {
    let is_known = |value: &Value| (inputs.sent)(key, path, &fold::folded(field.shape, value));
    let is_it = |value: &Value| is_known(value) == Sent::Same;
    if let Shape::OneOf(words) = field.shape {
        return words.iter().map(|word| Value::from(*word)).find(is_it);
    }
    if matches!(field.shape, Shape::Flag) {
        return Some(Value::Bool(true)).filter(is_it);
    }
    (is_known(&Value::Null) == Sent::Different).then(|| Value::from(SOMETHING))
}

/// Stands for a value of which nothing is known but that there was one.
const SOMETHING: &str = "(what was sent)";

fn watch(inputs: &Inputs<'_>, harm: Harm) -> Watch {
    match harm {
        Harm::Weakening => inputs.guards.weakening,
        Harm::Lockout => inputs.guards.lockout,
    }
}

fn consequence(harm: Harm) -> &'static str {
    match harm {
        Harm::Weakening => "has less protection than it could",
        Harm::Lockout => "may lock people out",
    }
}
