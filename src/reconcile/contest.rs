//! Who has the last word: a field that somebody else turns back again and again is not set again and again.

use super::Reconciler;
use super::drift;
use crate::desired::Desired;
use crate::plan::Change;
use crate::plan::Contest;
use crate::plan::FieldChange;
use crate::plan::Hold;
use crate::plan::Plan;
use crate::resource::Action;
use crate::resource::Key;
use crate::state::ProjectState;
use crate::state::Reversion;
use crate::telemetry::status::ContestedStatus;
use crate::telemetry::status::rfc3339;
use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;
use std::time::SystemTime;

/// So often within the window.
const TIMES: usize = 5;

/// Nobody fights for what stood for so long.
const TRUCE: Duration = Duration::from_secs(60 * 60);

/// Each of [`TIMES`] takes a look that shows ours and one that shows theirs.
const LOOKS: u32 = 10;

/// The status names so many; the plan has all of them.
const SHOWN: usize = 50;

/// For how long a reversion counts where looks are so far apart.
pub fn window(interval: Duration) -> Duration {
    TRUCE.max(interval.saturating_mul(LOOKS))
}

/// What is known of fights when a plan is made.
pub(super) struct Fights {
    reversions: HashMap<Key, Vec<(Reversion, SystemTime)>>,
    now: SystemTime,
}

impl Fights {
    pub fn new(reversions: Vec<(Reversion, SystemTime)>, now: SystemTime, window: Duration) -> Self {
        let mut by_key: HashMap<Key, Vec<(Reversion, SystemTime)>> = HashMap::new();
        let counts = |(_, at): &(Reversion, SystemTime)| now.duration_since(*at).is_ok_and(|age| age <= window);
        for (reversion, at) in reversions.into_iter().filter(counts) {
            by_key.entry(reversion.key.clone()).or_default().push((reversion, at));
        }
        Self { reversions: by_key, now }
    }

    /// Is the resource contested? `is_reverted`: this very look shows it turned back once more.
    pub fn on(&self, change: &Change, is_reverted: impl Fn(&Key) -> bool, state: &ProjectState) -> Option<Contest> {
        let known = self.reversions.get(&change.key).filter(|known| known.len() + 1 >= TIMES)?;
        if change.action != Action::Update {
            return None;
        }
        let is_new = is_reverted(&change.key);
        let of = |field: &FieldChange| {
            let (declared, live) = (state.fingerprint(&field.to), state.fingerprint(&field.from));
            let of_it: Vec<&(Reversion, SystemTime)> =
                known.iter().filter(|(one, _)| one.path == field.path && one.declared == declared).collect();
            let times = of_it.len() + usize::from(is_new);
            let (first, last) = (of_it.first()?, of_it.last()?);
            let is_moved = !is_new && last.0.live != live;
            // Whatever else stands there now stands there since now.
            let stands_since = if is_new || is_moved { self.now } else { last.1 };
            let until = stands_since + TRUCE;
            (times >= TIMES && until > self.now).then(|| Contest {
                path: field.path.to_string(),
                times,
                since: first.1,
                until,
                is_moved,
                actor: None,
                former: None,
            })
        };
        change.fields.list().iter().filter_map(of).max_by_key(|contest| contest.until)
    }
}

impl Reconciler {
    /// Does this look show it turned back after one that showed it as declared?
    pub(super) fn is_reverted(&self, desired: &Desired, key: &Key) -> bool {
        let declared = desired.resources.get(key).map(|declared| drift::digest(declared));
        declared.is_some() && self.memory.in_sync.get(key).copied() == declared && !self.memory.differing.contains(key)
    }

    /// Takes note of what was turned back, before [`Reconciler::note_drift`] does of what differs.
    pub(super) fn note_reversions(&mut self, desired: &Desired, plan: &Plan) {
        let updates = || plan.changes.iter().filter(|change| change.action == Action::Update);
        let (mut reversions, mut moved) = (Vec::new(), Vec::new());
        for change in updates() {
            // A third value begins anew what stands there, and turns nothing back: ours was not there.
            let is_moved = |field: &FieldChange| {
                change.contest.as_ref().is_some_and(|contest| contest.is_moved && contest.path == field.path)
            };
            let is_reverted = self.is_reverted(desired, &change.key);
            let fields = change.fields.list();
            let noted = fields.iter().filter(|field| is_reverted || is_moved(field));
            let all = if is_reverted { &mut reversions } else { &mut moved };
            all.extend(noted.map(|field| Reversion {
                key: change.key.clone(),
                path: field.path.to_string(),
                declared: self.state.fingerprint(&field.to),
                live: self.state.fingerprint(&field.from),
            }));
        }
        let note = || {
            if !reversions.is_empty() {
                self.state.note_reversions(&reversions, self.assessor.rules.contest_window)?;
            }
            if moved.is_empty() { Ok(()) } else { self.state.move_reversions(&moved) }
        };
        self.state.or_error(note(), "cannot write the state; who turns back what is not noted");
        let released: Vec<&Key> = updates()
            .filter(|change| change.contest.is_some() && change.is_approved)
            .map(|change| &change.key)
            .collect();
        if !released.is_empty() {
            let forgotten = self.state.forget_reversions(&released);
            let what = "cannot write the state; what was contested may be held again though it was approved";
            self.state.or_error(forgotten, what);
        }
        for change in updates().filter(|change| change.held == Some(Hold::Contested)) {
            let (kind, id, why) = (change.key.kind, change.key.id(), change.why.as_deref().unwrap_or_default());
            if let Some(times) = self.memory.repeats.met(("contested", kind, &id), self.memory.is_asked) {
                tracing::warn!(kind, id, why, times, "contested: somebody else turns it back again and again");
            }
        }
        self.memory.differing = updates().map(|change| change.key.clone()).collect::<HashSet<Key>>();
    }

    /// What is contested, for the status.
    pub(super) fn contested(&self) -> Vec<ContestedStatus> {
        let plan = self.memory.plan.iter().flat_map(|plan| &plan.changes);
        let contested = plan.filter_map(|change| {
            Some((change, change.contest.as_deref().filter(|_| change.held == Some(Hold::Contested))?))
        });
        let status = |(change, contest): (&Change, &Contest)| {
            let fields = change.fields.list();
            let field = fields.iter().find(|field| field.path == contest.path);
            ContestedStatus {
                kind: change.key.kind.to_owned(),
                id: change.key.id(),
                path: contest.path.clone(),
                declared: field.map(|field| brief(&field.to)).unwrap_or_default(),
                live: field.map(|field| brief(&field.from)).unwrap_or_default(),
                times: contest.times as u64,
                since: rfc3339(contest.since),
                until: rfc3339(contest.until),
                actor: contest.actor.clone(),
                former_actor: contest.former.clone(),
                is_asked: self.is_asked_about(&change.key),
            }
        };
        contested.take(SHOWN).map(status).collect()
    }
}

/// Of a value in the status.
fn brief(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use serde_json::Value;
    use serde_json::json;

    #[test]
    fn the_fifth_time_within_the_window_is_a_contest_until_it_stood_for_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap().project("h", "p", "o");
        let minutes = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + n * 60);
        let key = Key::new("roles", "r");
        let change = |from: &Value, to: &Value| {
            Change::update_of(
                key.clone(),
                vec![FieldChange { path: "description".into(), from: from.clone(), to: to.clone() }],
            )
        };
        let (ours, theirs) = (json!("ours"), json!("theirs"));
        let reversion = Reversion {
            key: key.clone(),
            path: "description".to_owned(),
            declared: state.fingerprint(&ours),
            live: state.fingerprint(&theirs),
        };
        let on = |ats: &[u64], now: u64, is_new: bool, from: &Value, to: &Value| {
            let fights = Fights::new(
                ats.iter().map(|at| (reversion.clone(), minutes(*at))).collect(),
                minutes(now),
                window(Duration::from_secs(300)),
            );
            let contest = fights.on(&change(from, to), |_| is_new, &state)?;
            assert_eq!(contest.is_moved, *from == json!("third"), "a third value alone begins anew what stands there");
            Some((contest.times, contest.until.duration_since(minutes(0)).unwrap().as_secs() / 60))
        };

        assert_eq!(on(&[1, 2, 3], 4, true, &theirs, &ours), None, "the fourth time");
        assert_eq!(on(&[1, 2, 3, 4], 5, true, &theirs, &ours), Some((5, 65)));
        assert_eq!(on(&[1, 2, 3, 4], 5, false, &theirs, &ours), None, "it is the same difference as before");
        assert_eq!(on(&[1, 2, 3, 4, 5], 30, false, &theirs, &ours), Some((5, 65)), "it stands since the last time");
        assert_eq!(
            on(&[1, 2, 3, 4, 5], 30, false, &json!("third"), &ours),
            Some((5, 90)),
            "another value has stood for no time"
        );
        assert_eq!(on(&[1, 2, 3, 4, 5], 65, false, &theirs, &ours), None, "it stood for an hour");
        assert_eq!(on(&[1, 2, 3, 4, 5], 62, true, &theirs, &ours), Some((5, 122)), "the first is too old to count");
        assert_eq!(on(&[1, 2, 3, 4, 5], 30, true, &theirs, &json!("a commit")), None);
        assert_eq!(window(Duration::from_secs(3600)), Duration::from_secs(36_000));
    }
}
