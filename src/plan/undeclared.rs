//! What is live and no file declares: what goes, and what is only told.

use crate::plan::Change;
use crate::plan::Inputs;
use crate::plan::Live;
use crate::plan::Ownership;
use crate::plan::Plan;
use crate::plan::Policy;
use crate::plan::order;
use crate::resource;
use crate::resource::Action;
use crate::resource::Key;
use crate::telemetry::status::Why;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use thin_vec::thin_vec;

/// What is live and not declared: pruned where we own it and may, listed otherwise.
pub fn prune(inputs: &Inputs<'_>, live: &Live<'_>, renames: &BTreeMap<Key, Key>, plan: &mut Plan) {
    let mut being_renamed: BTreeSet<Key> = renames.values().cloned().collect();
    // A rename that is refused still speaks of the old name: whether it goes is not decided.
    being_renamed.extend(inputs.desired.resources.values().filter_map(|declared| {
        let name = declared.renamed_from.clone()?;
        let is_open = plan.refused.iter().any(|refusal| refusal.key == declared.key);
        is_open.then(|| Key { name, ..declared.key.clone() })
    }));
    let inhabited = inhabited(inputs, live);
    for key in live.keys_but(inputs.desired.resources.keys()) {
        if being_renamed.contains(key) {
            continue;
        }
        let (Some(kind), Some(document)) = (resource::kind(key.kind), live.get(key)) else { continue };
        // The only one of its kind is nothing that could be left over.
        if kind.spec().is_only() {
            continue;
        }
        if kind.is_builtin(&document, inputs.builtin_roles) {
            continue;
        }
        let is_stock = kind.spec().stock.contains(&&*key.name);
        // What bears its name with another id is not what we own.
        let is_it = inputs.ids.get(key).is_none_or(|id| kind.server_id(&document) == Some(id));
        let can_be_told = kind.spec().verbs.delete && is_it && !is_stock && !live.ambiguous.contains_key(key);
        let prunes = |ownership: &&Ownership| inputs.policy == Policy::Sync && !ownership.protected && can_be_told;
        let Some(ownership) = inputs.owned.get(key).filter(prunes) else {
            plan.undeclared.push(key.clone());
            continue;
        };
        let inhabitants = inhabited.get(key).copied().unwrap_or_default();
        if let Some(role) = inhabitants.staying {
            plan.warnings.push(format!("{key} left the YAML and stays: {role}, which would go with it, is protected"));
            plan.undeclared.push(key.clone());
            continue;
        }
        if let Some(role) = inhabitants.unseen {
            let why = format!("{role}, which goes with it, could not be observed this time");
            plan.warnings.push(format!("{key} waits: {why}"));
            plan.waits.push((key.clone(), Why::Unobserved, why));
            plan.waiting.insert(key.kind);
            continue;
        }
        plan.changes.push(Change {
            is_early: inhabitants.is_early || !(inputs.may_delete)(key),
            tasks: thin_vec![order::deletion(key, &document, ownership.cascade_delete)],
            ..Change::new(key.clone(), Action::Delete)
        });
    }
    // What goes with its tenant is not left alone; a warning names it.
    let deleted: HashSet<&Key> = plan.changes.iter().filter(|c| c.action == Action::Delete).map(|c| &c.key).collect();
    plan.undeclared.retain(|key| !key.home().is_some_and(|tenant| deleted.contains(&tenant)));
}

/// What is known of the roles in a tenant, all of which Descope deletes with it.
#[derive(Debug, Clone, Copy, Default)]
struct Inhabitants<'a> {
    /// One that must not go: it was declared as protected, and by now nowhere.
    staying: Option<&'a Key>,
    /// One of ours of which nobody knows whether it is there.
    unseen: Option<&'a Key>,
    /// The time of one has not come.
    is_early: bool,
}

fn inhabited<'a>(inputs: &Inputs<'a>, live: &Live<'_>) -> HashMap<Key, Inhabitants<'a>> {
    let mut inhabited: HashMap<Key, Inhabitants<'a>> = HashMap::new();
    // What is declared speaks for itself: it refers to its tenant.
    for (key, ownership) in inputs.owned.iter().filter(|(key, _)| !inputs.desired.resources.contains_key(key)) {
        let Some(tenant) = key.home() else { continue };
        let inhabitants = inhabited.entry(tenant).or_default();
        if ownership.protected {
            inhabitants.staying = Some(key);
        }
        if !live.is_observed(key.kind) {
            inhabitants.unseen = Some(key);
        }
        inhabitants.is_early |= live.has(key) && !(inputs.may_delete)(key);
    }
    inhabited
}
