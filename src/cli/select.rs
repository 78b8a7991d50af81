//! `--kind` and `--target`: which resources a command is about.

use crate::cli::UsageError;
use crate::desired::Desired;
use crate::plan::Plan;
use crate::resource;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::legible::legible;

/// Which resources; without any, all.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Selection {
    /// Only this kind (roles, tenants, ...); may be given more than once
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// Only this resource, as plan shows it: roles/Editor, roles/acme/Owner; may be given more than once
    #[arg(long, value_name = "KIND/ID")]
    pub target: Vec<String>,
}

impl Selection {
    /// Is anything left out?
    pub fn is_narrow(&self) -> bool {
        !self.kind.is_empty() || !self.target.is_empty()
    }

    /// The kinds that it is about. Errs where it names one that there is not.
    pub fn kinds(&self) -> Result<Vec<&'static dyn Kind>, UsageError> {
        for name in self.kind.iter().chain(&self.target) {
            let kind = name.split('/').next().unwrap_or_default();
            if resource::kind(kind).is_none() {
                return Err(unknown(kind));
            }
        }
        if let Some(target) = self.target.iter().find(|target| !is_one(target)) {
            return Err(UsageError(format!(
                "--target: {target} names no resource; write KIND/ID, such as roles/Editor"
            )));
        }
        let is_asked = |kind: &&&'static dyn Kind| {
            let name = kind.name();
            !self.is_narrow()
                || self.kind.iter().any(|asked| asked == name)
                || self.target.iter().any(|target| target.split('/').next() == Some(name))
        };
        Ok(resource::ALL.iter().filter(is_asked).copied().collect())
    }

    /// Does `--target` name this very resource?
    pub fn names(&self, key: &Key) -> bool {
        self.target.iter().any(|target| *target == key.to_string())
    }

    /// The same as [`Selection::wants`], of a kind and an identity as they are shown.
    pub fn wants_id(&self, kind: &str, id: &str) -> bool {
        !self.is_narrow()
            || self.kind.iter().any(|asked| asked == kind)
            || self.target.iter().any(|target| *target == format!("{kind}/{id}") || target == kind && id == kind)
    }

    /// Is this resource one of them?
    pub fn wants(&self, key: &Key) -> bool {
        !self.is_narrow() || self.kind.iter().any(|kind| *kind == *key.kind) || self.names(key)
    }
}

/// `KIND/ID`, or the kind alone where there is one in every project.
fn is_one(target: &str) -> bool {
    match target.split_once('/') {
        Some((_, id)) => !id.is_empty(),
        None => resource::kind(target).is_some_and(|kind| kind.spec().is_only()),
    }
}

/// Is what `--target` names declared in this project, live among what its files manage, or about to be deleted? A kind
/// that did not answer may hold it.
pub fn knows(target: &str, desired: &Desired, plan: &Plan) -> bool {
    let is_it = |key: &Key| key.to_string() == target;
    let kind = target.split('/').next().unwrap_or_default();
    resource::kind(target).is_some_and(|kind| kind.spec().is_only())
        || plan.unobserved.contains_key(kind)
        || desired.resources.keys().any(is_it)
        || plan.changes.iter().any(|change| is_it(&change.key) || is_it(&change.old_key()))
        || plan.undeclared.iter().any(is_it)
        || plan.refused.iter().any(|refusal| is_it(&refusal.key))
        || plan.waits.iter().any(|(key, ..)| is_it(key))
}

/// No project knows it. It selects nothing, which would look like success.
pub fn nowhere(target: &str) -> UsageError {
    UsageError(format!(
        "--target: {} is neither declared nor live among what the files manage; `plan` without it shows what there is",
        legible(target)
    ))
}

/// There is no such kind.
pub fn unknown(kind: &str) -> UsageError {
    let known: Vec<&str> = resource::ALL.iter().map(|kind| kind.name()).collect();
    let distance = |known: &&&str| strsim::osa_distance(known, kind);
    let near = known.iter().min_by_key(distance).filter(|near| distance(near) <= 2);
    let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    UsageError(format!("{kind} is no kind of resource{hint} (kinds: {})", known.join(", ")))
}
