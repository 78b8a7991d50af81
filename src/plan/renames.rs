//! Which declared resource is which live one under another name, and where nobody can tell.

use crate::desired::Declared;
use crate::plan::Inputs;
use crate::plan::Live;
use crate::plan::Ownership;
use crate::plan::Plan;
use crate::plan::Refusal;
use crate::resource;
use crate::resource::Key;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Renames to do: new key to old key. A rename that cannot be told from two resources is refused.
pub fn find(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) -> BTreeMap<Key, Key> {
    let mut renames = BTreeMap::new();
    refuse_ambiguous(inputs, live, plan);
    for declared in inputs.desired.resources.values() {
        let Some(old_name) = &declared.renamed_from else { continue };
        let new = &declared.key;
        let old = Key { name: old_name.clone(), ..new.clone() };
        let Some(document) = live.get(&old).filter(|_| !is_over(inputs.owned, inputs.renamed, &old, new)) else {
            continue;
        };
        let is_builtin = resource::kind(old.kind).is_some_and(|kind| kind.is_builtin(&document, inputs.builtin_roles));
        let mut refuse = |message: String| {
            plan.refused.push(Refusal { key: new.clone(), message, place: Some(declared.place.clone()) });
            plan.refused_renames.insert(new.kind);
        };
        if is_builtin {
            refuse(format!(
                "renamedFrom: {old} is built into Descope and never renamed; remove the line to have {new} beside it"
            ));
        } else if !live.has(new) {
            renames.insert(new.clone(), old);
        } else if !(inputs.renamed)(&old, new) {
            refuse(format!(
                "renamedFrom: both {old} and {new} exist in Descope; delete {new} there to have {old} renamed, or declare \
                 both without the line to keep them"
            ));
            plan.rivals.push((old, new.clone()));
        }
    }
    find_renamed_elsewhere(inputs, live, &mut renames);
    renames
}

/// We did this rename, and the old name did not become ours again: whoever bears it now is somebody else.
pub fn is_over(owned: &BTreeMap<Key, Ownership>, renamed: &dyn Fn(&Key, &Key) -> bool, old: &Key, new: &Key) -> bool {
    !owned.contains_key(old) && renamed(old, new)
}

/// Declared, observed, and known to Descope by ids of its own.
fn of_server_ids<'a>(inputs: &Inputs<'a>, live: &'a Live<'_>) -> impl Iterator<Item = &'a Arc<Declared>> {
    inputs.desired.resources.values().filter(|declared| live.bearers.contains_key(declared.key.kind))
}

/// Whichever of two resources of one name were changed, it might be the wrong one; and so might be whatever bears the name
/// with another id than the YAML says.
fn refuse_ambiguous(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) {
    for declared in of_server_ids(inputs, live) {
        let key = &declared.key;
        let Some(kind) = resource::kind(key.kind) else { continue };
        let Some(field) = kind.spec().identity.server_id else { continue };
        let declared_id = declared.id(kind.spec());
        let message = if let Some(ids) = live.ambiguous.get(key) {
            let ours = inputs.ids.get(key).filter(|id| ids.contains(&***id));
            let ours = ours.map(|id| format!("; this daemon made or adopted `{id}`")).unwrap_or_default();
            let ids = ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
            format!(
                "more than one has this name in Descope ({ids}{ours}); write `{field}: ID` of the one that is meant"
            )
        } else if let Some(id) = declared_id {
            let bearer = live.get(key);
            match bearer.as_ref().and_then(|live| kind.server_id(live)) {
                Some(found) if found == id => continue,
                Some(other) => format!(
                    "{field}: the one of this name has the id `{other}` in Descope, and not `{id}`; write that one, or take \
                     the line out"
                ),
                None if live.bearer(key.kind, id).is_some() => continue,
                None => format!(
                    "{field}: none in Descope has the id `{id}`, and nobody can choose one; take the line out to have \
                     {key} created"
                ),
            }
        } else {
            continue;
        };
        plan.refused.push(Refusal { key: key.clone(), message, place: Some(declared.place.clone()) });
    }
}

/// What is ours by its id and bears another name by now, which nobody declares: somebody else renamed it. Made anew, there
/// would be two of it.
fn find_renamed_elsewhere(inputs: &Inputs<'_>, live: &Live<'_>, renames: &mut BTreeMap<Key, Key>) {
    for declared in of_server_ids(inputs, live) {
        let key = &declared.key;
        let Some(kind) = resource::kind(key.kind).filter(|kind| kind.has_rename()) else { continue };
        let id = declared.id(kind.spec()).or(inputs.ids.get(key).map(|id| &**id));
        let bearer = id.and_then(|id| live.bearer(key.kind, id)).filter(|_| !live.has(key));
        let is_free = |old: &&Key| {
            !inputs.desired.resources.contains_key(old)
                && !live.ambiguous.contains_key(*old)
                && !renames.values().any(|other| other == *old)
        };
        if let Some(old) = bearer.filter(is_free).filter(|_| !renames.contains_key(key)) {
            renames.insert(key.clone(), old.clone());
        }
    }
}
