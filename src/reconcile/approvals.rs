//! How long what an operator approved may go ahead.

use super::Reconciler;
use super::listed;
use crate::plan::Change;
use crate::plan::Plan;
use crate::queue::Standing;
use std::collections::BTreeSet;

impl Reconciler {
    /// What is approved and waits for its turn goes ahead when that comes, however long it takes until then. Before a look is
    /// weighed, which holds what is approved no more.
    pub(super) fn renew_approvals(&self) {
        let project = &self.assessor.project;
        let changes = self.memory.plan.iter().flat_map(|plan| &plan.changes);
        let free: Vec<&Change> = changes.filter(|change| change.is_approved && change.held.is_none()).collect();
        // What stops all of the project is not its turn.
        if free.is_empty() || !self.queue.paused_by(project).is_empty() {
            return;
        }
        let standings = self.queue.standings(project);
        let waits = |change: &&&Change| standings.get(&change.key) == Some(&Standing::Changing);
        let digests: BTreeSet<&str> = free.iter().filter(waits).map(|change| &*change.digest).collect();
        let renewed = self.state.renew_approvals(&digests);
        self.state.or_error(renewed, "cannot write the state; an approval may end before its turn comes");
    }

    /// Forgets those that ended, and says so of what did not go ahead meanwhile.
    pub(super) fn end_approvals(&self, plan: &Plan) {
        let digests = plan.held_digests.iter().chain(&plan.released_digests).cloned().collect();
        let is_it = |change: &Change, resource: &str| change.key.named() == resource && change.held.is_none();
        let goes_ahead = |resource: &str| plan.changes.iter().any(|change| is_it(change, resource));
        let kept = self.state.keep_approvals(&digests, &plan.unknown(), &goes_ahead);
        let unused =
            self.state.or_error(kept, "cannot write the state; an approval may stand for longer than it should");
        for one in unused.iter().flatten() {
            let resources = listed(&one.resources.iter().map(String::as_str).collect::<Vec<_>>());
            tracing::warn!(reason = one.told(), resources, "an approval is over, and what it was for is not done");
        }
    }
}
