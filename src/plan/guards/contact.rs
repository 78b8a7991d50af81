//! What is seen for the first time: the whole project, or a kind or a part of one that is known.
//!
//! A field counts as known once a plan let go ahead, or found in sync, everything of its part. So what a new release
//! begins to compare is a first contact as well, of that field alone.

use super::Hold;
use crate::desired::Declared;
use crate::plan::Change;
use crate::plan::FieldChange;
use crate::plan::Inputs;
use crate::plan::Live;
use crate::plan::Plan;
use crate::plan::Refusal;
use crate::plan::Sent;
use crate::plan::write;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::MAIN;
use crate::resource::Part;
use crate::resource::fold;
use crate::resource::spec::Back;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;

/// What is declared and observed and was never let go ahead before, by kind and part: its fields.
pub type Unknown = BTreeMap<(&'static str, &'static str), BTreeSet<&'static str>>;

/// Does the project hold anything that Descope did not put there? A kind that did not answer may hold anything, one that
/// is refused for good as well: somebody has to say once that this is fine.
pub(super) fn may_be_filled(inputs: &Inputs<'_>, live: &Live<'_>, plan: &Plan) -> bool {
    let is_builtin = |(key, document): (&Key, Cow<'_, Document>)| {
        resource::kind(key.kind)
            .is_none_or(|kind| kind.is_builtin(&document, inputs.builtin_roles) || is_empty(kind, &document))
    };
    !plan.unobserved.is_empty() || !live.documents(|_| true).all(is_builtin)
}

/// What this look sees for the first time. A kind that did not answer is not seen yet, nor is a part that no file writes.
pub(super) fn unknown(inputs: &Inputs<'_>, live: &Live<'_>) -> Unknown {
    let mut unknown = Unknown::new();
    let is_seen = |kind: &&&dyn Kind| inputs.desired.kinds.contains(kind.name()) && live.is_observed(kind.name());
    for kind in resource::ALL.iter().filter(is_seen) {
        let name = kind.name();
        let is_new = |field: &resource::Field| field.is_declarable() && !(inputs.is_contacted)(name, field.name);
        for (part, field) in kind.spec().fields().filter(|(_, field)| is_new(field)) {
            let is_written = || {
                let mut declared = inputs.desired.resources.values().filter(|declared| declared.key.kind == name);
                declared.any(|declared| declared.fields.contains_key(field.name))
            };
            if part.is_more_of_main() || is_written() {
                unknown.entry((name, part.name)).or_default().insert(field.name);
            }
        }
    }
    unknown
}

/// Is the kind as such unknown, and not a field of it alone?
fn is_whole(kind: &str, fields: &BTreeSet<&'static str>) -> bool {
    let identity = resource::kind(kind).and_then(|kind| kind.spec().identity.field);
    identity.is_none_or(|field| fields.contains(field))
}

/// Marks what would change or clear something live that is seen for the first time. Of a change that does more than that,
/// the rest becomes a change of its own.
pub(super) fn mark(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) {
    if !inputs.holds_contact {
        return;
    }
    let mut known = Vec::new();
    let mut changes = std::mem::take(&mut plan.changes);
    for (at, change) in changes.iter_mut().enumerate().filter(|(_, change)| !change.tasks.is_empty()) {
        let parts = change.tasks.iter().map(|task| task.slot.part);
        let new: Vec<&str> = parts.filter(|part| is_first(inputs, live, plan, change, part)).collect();
        known.extend(super::take_rest(change, |task| new.contains(&task.slot.part)).map(|rest| (at, rest)));
        change.is_first_contact = !new.is_empty();
    }
    super::put_before(known, &mut changes);
    plan.changes = changes;
}

/// A field that only a create can set, of which we never sent anything, and that is another one. Before its first contact
/// somebody looks at it, and the rest of the resource goes ahead; then it is as wrong as any other.
pub fn look_at_once(inputs: &Inputs<'_>, declared: &Declared, field: FieldChange, message: String, plan: &mut Plan) {
    let (key, place) = (declared.key.clone(), Some(declared.place.clone()));
    if !inputs.holds_contact || (inputs.is_contacted)(key.kind, &field.path) {
        plan.refused.push(Refusal { key, message, place });
        return;
    }
    plan.changes.push(Change {
        is_first_contact: true,
        why: Some(message),
        fields: vec![field].into(),
        place,
        ..Change::new(key, Action::Update)
    });
}

/// Somebody looked: what no call can do is refused.
pub fn refuse_looked_at(plan: &mut Plan) {
    let is_over = |change: &Change| change.tasks.is_empty() && change.held.is_none();
    if !plan.changes.iter().any(is_over) {
        return;
    }
    for change in std::mem::take(&mut plan.changes) {
        if is_over(&change) {
            plan.refused.push(Refusal {
                key: change.key,
                message: change.why.unwrap_or_default(),
                place: change.place,
            });
        } else {
            plan.changes.push(change);
        }
    }
}

fn is_first(inputs: &Inputs<'_>, live: &Live<'_>, plan: &Plan, change: &Change, part: &'static str) -> bool {
    let key = &change.key;
    let fields = plan.unknown_parts.get(&(key.kind, part));
    match change.action {
        Action::Create => false,
        Action::Rename | Action::Delete => fields.is_some_and(|fields| is_whole(key.kind, fields)),
        // Nobody else can have set what is missing of a create of ours.
        Action::Update if plan.unlisted.contains(key) || is_unset(live, key) => false,
        Action::Update if change.completes && is_of_create(inputs, key, part) => false,
        Action::Update => change.fields.list().iter().any(|field| {
            let Some((of, described)) = described(key, field) else { return false };
            // A big document is seen for the first time by itself, however well its kind is known.
            let is_ours = inputs.owned.get(key).is_some_and(|ownership| ownership.created);
            let is_document = described.opaque().is_some() && of.name == part && !is_ours;
            let is_new = is_document || fields.is_some_and(|fields| fields.contains(described.name));
            let is_missing_of_ours = is_ours && of.name != MAIN && fold::is_zero(&field.from);
            let was_sent = || (inputs.sent)(key, described.name, &fold::folded(described.shape, &field.to));
            is_new && !is_missing_of_ours && was_sent() == Sent::Unknown
        }),
    }
}

/// Did this part come with our create, as it is declared now?
fn is_of_create(inputs: &Inputs<'_>, key: &Key, part: &str) -> bool {
    let part = resource::kind(key.kind).and_then(|kind| kind.spec().part(part));
    let came_along = part.zip(inputs.desired.resources.get(key));
    came_along.is_some_and(|(part, declared)| write::came_along(part, declared, inputs.sent) == Sent::Same)
}

/// The only one of a kind, which holds nothing that could be lost.
fn is_unset(live: &Live<'_>, key: &Key) -> bool {
    let kind = resource::kind(key.kind).zip(live.get(key));
    kind.is_some_and(|(kind, document)| is_empty(kind, &document))
}

/// Of one of which an answer may keep everything to itself, an answer that shows nothing says nothing.
fn is_empty(kind: &dyn Kind, document: &Document) -> bool {
    let is_kept = |field: &resource::Field| field.back == Back::Maybe && !document.contains_key(field.name);
    kind.is_unset(document) && !kind.spec().fields().all(|(_, field)| is_kept(field))
}

fn described(key: &Key, change: &FieldChange) -> Option<(&'static Part, &'static resource::Field)> {
    let name = change.path.split(['.', '[']).next()?;
    resource::kind(key.kind)?.spec().field(name)
}

/// The fields that are known from now on: something of their part that is live was let go ahead, or nothing had to be.
/// What the policy or a guard holds back is no word on it.
pub fn contacted(plan: &Plan) -> Vec<(&'static str, &'static str)> {
    let is_settled = |kind: &str, part: &str| {
        let is_of = |change: &&Change| {
            let is_whole = matches!(change.action, Action::Rename | Action::Delete) && part == MAIN;
            change.key.kind == kind
                && change.action != Action::Create
                && (is_whole || change.tasks.iter().any(|task| task.slot.part == part) || looks_at(change, part))
        };
        let is_let_go = |change: &Change| change.held.is_none() || change.is_approved;
        let mut of = plan.changes.iter().filter(is_of).peekable();
        let is_nothing = of.peek().is_none();
        let is_unread = plan.unread.iter().any(|(key, parts)| key.kind == kind && parts.contains(part));
        let is_seen = !plan.waiting.contains(kind) && !plan.shrunk.contains(kind) && !is_unread;
        is_seen && (is_nothing || of.clone().any(is_let_go) && !of.any(waits_for_a_look))
    };
    let settled = plan.unknown_parts.iter().filter(|((kind, part), _)| is_settled(kind, part));
    settled.flat_map(|((kind, _), fields)| fields.iter().map(|field| (*kind, *field))).collect()
}

/// Was it never looked at? A guard that holds it as well, and is told first, is no word on that.
fn waits_for_a_look(change: &Change) -> bool {
    let is_first = change.is_first_contact || matches!(change.held, Some(Hold::FirstContact(_)));
    is_first && change.can_be_approved()
}

/// Is it about a field of that part that no call can write?
fn looks_at(change: &Change, part: &str) -> bool {
    let spec = resource::kind(change.key.kind).map(Kind::spec);
    let is_of =
        |field: &FieldChange| spec.and_then(|spec| spec.field_at(&field.path)).is_some_and(|(of, _)| of.name == part);
    change.tasks.is_empty() && change.fields.list().iter().any(is_of)
}

/// Kinds whose first contact is held: nothing of them is ours before somebody lets it go ahead.
pub fn unknown_kinds(plan: &Plan) -> HashSet<&'static str> {
    let held = plan.changes.iter().filter(|change| waits_for_a_look(change));
    let is_whole = |kind: &str| {
        plan.unknown_parts.iter().any(|((of, part), fields)| *of == kind && *part == MAIN && is_whole(kind, fields))
    };
    held.map(|change| change.key.kind).filter(|kind| is_whole(kind)).collect()
}
