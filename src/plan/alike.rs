//! Live resources that eyes take for a declared one: what is to be created, or was just created and does not show, may
//! be there already under a name that differs in a blank or a capital letter.

use crate::desired::alike;
use crate::plan::Plan;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::legible::exact;
use std::collections::HashMap;

/// One warning for each.
pub fn warn(plan: &mut Plan) {
    let is_new = |action: Action| matches!(action, Action::Create | Action::Rename);
    let created = plan.changes.iter().filter(|change| is_new(change.action)).map(|change| &change.key);
    let missing: Vec<(&Key, &str)> = created
        .map(|key| (key, "is not there"))
        .chain(plan.unlisted.iter().map(|key| (key, "was created lately and does not show yet")))
        .collect();
    if missing.is_empty() || plan.undeclared.is_empty() {
        return;
    }
    let seen = |key: &Key| (key.kind, alike::seen(&key.id()).into_owned());
    let undeclared: HashMap<_, &Key> = plan.undeclared.iter().map(|key| (seen(key), key)).collect();
    let alike = missing.into_iter().filter_map(|(key, state)| {
        let other = undeclared.get(&seen(key))?.id();
        let what = alike::difference(&key.id(), &other)?;
        Some(format!(
            "{}: {} {state}, but {} is, which no file declares and which differs only in {what}",
            key.kind,
            exact(&key.id()),
            exact(&other)
        ))
    });
    let warnings: Vec<String> = alike.collect();
    plan.warnings.extend(warnings);
}
