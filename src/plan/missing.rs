//! What left the files and is in no list: it stays ours until that is sure. Forgotten for one list that lacks it, it would
//! never be deleted.

use crate::desired::Desired;
use crate::plan::Inputs;
use crate::plan::Live;
use crate::plan::Ownership;
use crate::plan::Plan;
use crate::plan::Policy;
use crate::resource;
use crate::resource::Key;
use crate::resource::spec::Read;
use std::collections::BTreeMap;
use std::time::Duration;
use std::time::SystemTime;

/// For so long every look has to lack it: lists may lag behind writes, as with what was just created.
pub const PROVEN_AFTER: Duration = Duration::from_secs(120);

/// The same where a list lacks more than `guards.maxMissing`, and nobody approved that.
pub const MANY_PROVEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// So many are named of a kind.
const NAMED: usize = 5;

/// Owned, declared nowhere, and not in the list of its kind, which is no proof yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// When it will be, if no look shows it until then.
    pub until: SystemTime,
    /// Would it be deleted if one did?
    pub is_leaving: bool,
}

/// Would this be deleted if it were there?
pub fn is_leaving(policy: Policy, desired: &Desired, key: &Key, ownership: Ownership) -> bool {
    policy == Policy::Sync && !ownership.protected && !desired.resources.contains_key(key)
}

/// Is it still to be proven that it is gone, where nothing else is missing?
pub fn is_doubtful(ownership: Ownership) -> bool {
    ownership.missing_for.unwrap_or_default() < PROVEN_AFTER
}

/// Finds it, once it is known which lists are not believed.
pub fn find(inputs: &Inputs<'_>, live: &Live<'_>, plan: &mut Plan) {
    let is_asked_by_name =
        |kind: &str| resource::kind(kind).is_some_and(|kind| kind.spec().main().read == Read::ByName);
    for (key, ownership) in inputs.owned {
        let is_there = inputs.desired.resources.contains_key(key) || live.has(key) || !live.is_observed(key.kind);
        if is_there || is_asked_by_name(key.kind) {
            continue;
        }
        let wait = if plan.shrunk.contains(key.kind) { MANY_PROVEN_AFTER } else { PROVEN_AFTER };
        let left = wait.saturating_sub(ownership.missing_for.unwrap_or_default());
        if !left.is_zero() {
            let is_leaving = is_leaving(inputs.policy, inputs.desired, key, *ownership);
            plan.missing.insert(key.clone(), Missing { until: inputs.now + left, is_leaving });
        }
    }
    tell(plan);
}

fn tell(plan: &mut Plan) {
    let mut kinds: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
    for (key, _) in plan.missing.iter().filter(|(_, missing)| missing.is_leaving) {
        kinds.entry(key.kind).or_default().push(key);
    }
    for (kind, keys) in kinds {
        let named: Vec<String> = keys.iter().take(NAMED).map(|key| key.id()).collect();
        let more = if keys.len() > NAMED { ", ..." } else { "" };
        let wait = if plan.shrunk.contains(kind) { "an hour" } else { "two minutes" };
        plan.warnings.push(format!(
            "Descope's list of {kind} lacks {} that left the YAML ({}{more}): forgotten once no look has shown it for \
             {wait}, and deleted if one shows it before",
            keys.len(),
            named.join(", ")
        ));
    }
}
