//! What the page shows of a project beside the contract's first fields: counts, progress, drift, what was seen when.

use crate::telemetry::status::rfc3339;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;
use std::time::SystemTime;

/// A shorter look is over before anybody reads of it.
const LONG_LOOK: Duration = Duration::from_secs(5);

/// Part of a project's status; its fields stand among the others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The revision that the project last equalled; null until it first does.
    pub applied: Option<AppliedStatus>,
    /// RFC 3339: when the project was last found, or made, equal to the newest files: the end of a pass that found nothing to do,
    /// or of what one set off.
    pub last_success_at: Option<String>,
    /// RFC 3339: the next pass that is scheduled.
    pub next_pass_at: Option<String>,
    /// A look at Descope that takes long; null where none does.
    pub look: Option<LookStatus>,
    /// Every declared resource and every planned change, each once.
    pub counts: CountsStatus,
    /// While changes go out.
    pub progress: Option<ProgressStatus>,
    /// What differs though the files did not change.
    pub drift: DriftStatus,
    /// Every kind there is.
    pub kinds: Vec<KindStatus>,
    /// Since when a look is under way, long or not.
    #[serde(skip)]
    pub look_began: Option<SystemTime>,
    /// Of the timer.
    #[serde(skip)]
    pub timer_at: Option<SystemTime>,
    /// Of the project alone: a retry, a delete that becomes due, the end of a suspension.
    #[serde(skip)]
    pub retry_at: Option<SystemTime>,
}

impl Overview {
    /// Brings `next_pass_at` up to date.
    pub fn schedule(&mut self) {
        let next = [self.timer_at, self.retry_at].into_iter().flatten().min();
        self.next_pass_at = next.map(rfc3339);
    }

    /// Brings `look` up to date: `gate` is when the rate limit opens, while it is closed; `free` when it allows one more request,
    /// while somebody waits for that. Is it another one?
    pub fn tell_look(&mut self, gate: Option<&String>, free: Option<&String>, now: SystemTime) -> bool {
        let is_long =
            |since: &SystemTime| gate.is_some() || now.duration_since(*since).is_ok_and(|lasted| lasted >= LONG_LOOK);
        let look = self.look_began.filter(is_long);
        let look = look.map(|since| LookStatus {
            since: rfc3339(since),
            until: gate.cloned(),
            free_at: free.filter(|_| gate.is_none()).cloned(),
        });
        std::mem::replace(&mut self.look, look.clone()) != look
    }
}

/// A look that waits for the rate limit, or for slow answers: the pass that it is of comes to its end after that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LookStatus {
    /// RFC 3339: when it began.
    pub since: String,
    /// RFC 3339: nothing is sent before, as the rate limit was reached; null where it may go on.
    pub until: Option<String>,
    /// RFC 3339: all requests that the rate limit allows are in use, and one of them may be used again then; null where it is not
    /// for that.
    pub free_at: Option<String>,
}

/// What the project last equalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedStatus {
    /// Digest of the content.
    pub revision: String,
    /// Label from git; null where it is not known.
    pub commit: Option<String>,
    /// RFC 3339: since when.
    pub at: String,
    /// Is it known to be newer than the files here, which are put aside?
    pub is_newer: bool,
}

/// Where resources stand, each counted once: what is stuck in one part is stuck.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CountsStatus {
    /// Declared, and equal to what is live.
    pub in_sync: u64,
    /// On the queue, and on their way.
    pub changing: u64,
    /// The same while the project only observes: neither failed nor on their way.
    pub suspended: u64,
    /// Failed for now; another try is scheduled.
    pub retrying: u64,
    /// What they depend on failed.
    pub blocked: u64,
    /// Refused until something changes.
    pub parked: u64,
    /// Wait for an approval.
    pub held: u64,
    /// Held by something that no approval releases: time, the policy.
    pub waiting: u64,
    /// Written a moment ago, and Descope's lists do not show it yet.
    pub unconfirmed: u64,
    /// Declared, but nobody could look.
    pub unknown: u64,
}

/// A drain under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// RFC 3339: when it began.
    pub since: String,
    /// Tasks at the most.
    pub total: u64,
    /// Of those, not done yet.
    pub left: u64,
    /// About how long the rest took from the last look at the queue on, what is left of a pause included; null where nobody can
    /// tell yet.
    pub seconds_left: Option<u64>,
    /// RFC 3339: about when the rest is done, which is the same and stays right while nothing moves.
    pub ends_at: Option<String>,
}

/// Drift that is not healed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// All of it.
    pub total: u64,
    /// The first of it.
    pub resources: Vec<DriftedStatus>,
}

/// One resource that drifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftedStatus {
    /// The YAML key.
    pub kind: String,
    /// The identity.
    pub id: String,
    /// RFC 3339: the first look that showed it.
    pub since: String,
    /// RFC 3339: when it is put back at the earliest: old enough, and not suspended; `None` where no time says so.
    pub until: Option<String>,
    /// What holds it; `None` where it is put back.
    pub held: Option<String>,
    /// What ends that, for the operator.
    pub ends_with: Option<String>,
    /// The resource itself is gone.
    pub is_deleted: bool,
    /// Else which of its fields.
    pub fields: Vec<String>,
    /// Who did it, where that is known.
    pub actor: Option<String>,
}

/// What is known of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KindStatus {
    /// The YAML key.
    pub kind: String,
    /// Some file mentions it, or the daemon owns some of it.
    pub is_managed: bool,
    /// Declared.
    pub resources: u64,
    /// RFC 3339: the newest look that was answered.
    pub observed_at: Option<String>,
    /// Why the newest was not.
    pub error: Option<String>,
    /// Of what no list shows and is looked at in rotation; null where nothing of it is declared.
    pub details: Option<DetailsStatus>,
}

/// What takes a call for each resource: looked at by itself, and more seldom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetailsStatus {
    /// Calls that one round of looking takes.
    pub parts: u64,
    /// Of those, not looked at yet, or not readable now.
    pub unread: u64,
    /// RFC 3339: the oldest look that counts; of what was never looked at, since when it is to be.
    pub oldest_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Next pass in 6 min", and one was under way, and waited for the rate limit.
    #[test]
    fn a_look_is_told_where_it_waits_for_the_rate_limit_or_takes_long() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut overview = Overview::default();
        let gate = "1970-01-01T00:01:00Z".to_owned();
        let told = |overview: &Overview| overview.look.clone().map(|look| (look.since, look.until));
        let budget = |overview: &Overview| overview.look.clone().and_then(|look| look.free_at);

        assert!(!overview.tell_look(Some(&gate), None, at(9)) && told(&overview).is_none(), "none is under way");
        overview.look_began = Some(at(10));
        assert!(!overview.tell_look(None, Some(&gate), at(14)) && told(&overview).is_none());
        let since = "1970-01-01T00:00:10Z".to_owned();
        assert!(overview.tell_look(Some(&gate), Some(&gate), at(14)) && budget(&overview).is_none());
        assert_eq!(told(&overview), Some((since.clone(), Some(gate.clone()))));
        assert!(!overview.tell_look(Some(&gate), None, at(15)), "no news");
        assert!(overview.tell_look(None, None, at(16)));
        assert_eq!(told(&overview), Some((since.clone(), None)));
        assert!(overview.tell_look(None, Some(&gate), at(16)));
        assert_eq!((told(&overview), budget(&overview)), (Some((since, None)), Some(gate.clone())));
        overview.look_began = None;
        assert!(overview.tell_look(None, None, at(17)) && told(&overview).is_none());
    }

    #[test]
    fn the_next_pass_is_whichever_comes_first() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (timer, retry, expected) in [
            (None, None, None),
            (at(60), None, Some("1970-01-01T00:01:00Z")),
            (at(60), at(5), Some("1970-01-01T00:00:05Z")),
            (None, at(5), Some("1970-01-01T00:00:05Z")),
        ] {
            let mut overview = Overview { timer_at: timer, retry_at: retry, ..Overview::default() };

            overview.schedule();

            assert_eq!(overview.next_pass_at.as_deref(), expected);
        }
    }
}
