//! Who changed what drifted: asked of Descope's audit trail, at most once a pass and when nothing else waits. What nobody can
//! tell stays untold.

use super::Carryover;
use super::Reconciler;
use crate::descope;
use crate::descope::Event;
use crate::limiter::Priority;
use crate::plan::Change;
use crate::plan::Drift;
use crate::plan::Plan;
use crate::resource;
use crate::resource::Key;
use crate::resource::Kind;
use crate::source::TriggerReceiver;
use crate::telemetry::status::rfc3339;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Descope takes ten such questions a minute of everybody behind an address, and a 429 would stop all calls.
const GAP: Duration = Duration::from_secs(15);

/// What a pass puts back is in our own audit trail by then.
const AFTER: Duration = Duration::from_secs(1);

/// What a slow answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// So often about one drift: an event is searchable about a minute after it happened.
const TRIES: u32 = 3;
const SEARCHABLE: Duration = Duration::from_secs(60);

/// Where the trail is not for us, it is not asked again for so long.
const REFUSED_FOR: Duration = Duration::from_secs(60 * 60);

/// The clocks of Descope and of this machine may be so far apart.
const SKEW: Duration = Duration::from_secs(120);

/// For so long around a write of ours, what a key did is taken for that write.
const OURS: Duration = Duration::from_secs(300);

/// Of what began before anybody looked.
const UNKNOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// One drift of which nobody knows who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The last look that may have shown something else.
    from: SystemTime,
    /// The first that showed what is there.
    since: SystemTime,
    asked: u32,
    /// It was turned back again and again, so that there are earlier events that look like the one.
    is_fight: bool,
}

/// Who did what was put back since.
#[derive(Debug, Clone)]
struct Lately {
    noted: SystemTime,
    /// By the clock of Descope.
    event: SystemTime,
    /// The look that the question was about, by ours.
    since: SystemTime,
    actor: String,
}

/// What is open.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: BTreeMap<Key, Question>,
    /// Who did it before: in a fight it hardly is another one each time.
    lately: BTreeMap<Key, Lately>,
    /// A digest of what is there of what drifted, and the first look that showed it.
    seen: BTreeMap<Key, (u64, SystemTime)>,
    /// What no answer came to, so that it is not asked anew.
    given_up: BTreeMap<Key, SystemTime>,
    /// When the next one is due.
    pub at: Option<Instant>,
    asked_at: Option<Instant>,
    refused_at: Option<Instant>,
}

impl Reconciler {
    /// Takes note of what drifted in this pass, before the time of the look is noted.
    pub(super) fn note_questions(&mut self, plan: &Plan) {
        let drifted = super::drift::drifted(plan);
        let overview = &self.memory.overview;
        let questions = &mut self.memory.questions;
        let now = self.state.now();
        questions.seen.retain(|key, _| drifted.contains_key(key));
        // What was put back is asked about once all the same.
        questions.open.retain(|key, question| drifted.contains_key(key) || question.asked == 0);
        questions.given_up.retain(|key, _| drifted.contains_key(key));
        for (key, drifts) in drifted {
            let Some(first) = drifts.iter().map(|(_, drift)| drift.since).max() else { continue };
            let live = live(&drifts);
            let seen = questions.seen.entry(key.clone()).or_insert((live, first));
            // Another edit of it is another question.
            if seen.0 != live {
                *seen = (live, now);
            }
            let since = first.max(seen.1);
            let is_told = drifts.iter().all(|(_, drift)| drift.actor.is_some());
            if is_told || questions.given_up.get(key) == Some(&since) {
                questions.open.remove(key);
                continue;
            }
            let looked_at = overview.observed_at.get(key.kind).copied().filter(|at| *at < since);
            let from = looked_at.unwrap_or(since - UNKNOWN);
            let is_fight = drifts.iter().any(|(change, _)| change.contest.is_some());
            let question = Question { from, since, asked: 0, is_fight };
            match questions.open.entry(key.clone()) {
                Entry::Occupied(open) if open.get().since == since => {}
                Entry::Occupied(mut open) => drop(open.insert(question)),
                Entry::Vacant(vacant) => drop(vacant.insert(question)),
            }
        }
        let window = self.assessor.rules.contest_window;
        questions.lately.retain(|_, it| now.duration_since(it.noted).is_ok_and(|age| age <= window));
        questions.ask_after(AFTER);
    }

    /// Is the trail still to be asked who did it this time?
    pub(super) fn is_asked_about(&self, key: &Key) -> bool {
        let questions = &self.memory.questions;
        let is_refused = questions.refused_at.is_some_and(|at| at.elapsed() < REFUSED_FOR);
        !is_refused && questions.open.contains_key(key)
    }

    /// Says of fights who did it before, where nobody knows who did it this time.
    pub(super) fn name_former(&self, plan: &mut Plan) {
        if plan.changes.iter().any(|change| change.contest.is_some()) {
            plan.name_actors(self.assessor.actors(), |key| self.memory.questions.former(key));
        }
    }

    /// Asks, unless somebody wants a pass first.
    pub(super) async fn ask_who(&mut self, more: &mut TriggerReceiver, shutdown: &CancellationToken) {
        let questions = &mut self.memory.questions;
        questions.at = None;
        let Some(from) = questions.open.values().map(|question| question.from).min() else { return };
        questions.asked_at = Some(Instant::now());
        let client = self.assessor.client.with_priority(Priority::Rotation);
        let now = SystemTime::now();
        let ask = async {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => None,
                () = more.fired() => None,
                asked = tokio::time::timeout(PATIENCE, client.events(from - SKEW, now + SKEW)) => Some(asked),
            }
        };
        let Some(asked) = self.while_shown(ask).await else { return };
        match asked {
            Ok(Ok(events)) => self.tell_who(&events),
            Ok(Err(error)) => {
                if error.is_forbidden() || matches!(error, descope::Error::Rejected { .. }) {
                    self.memory.questions.refused_at = Some(Instant::now());
                }
                tracing::debug!(%error, "Descope's audit trail does not say who changed what drifted");
                self.count_try();
            }
            Err(_) => self.count_try(),
        }
    }

    /// What no answer came to yet is asked again once more can be found.
    fn count_try(&mut self) {
        let questions = &mut self.memory.questions;
        for (key, question) in &mut questions.open {
            question.asked += 1;
            if question.asked >= TRIES {
                questions.given_up.insert(key.clone(), question.since);
            }
        }
        questions.open.retain(|_, question| question.asked < TRIES);
        questions.ask_after(SEARCHABLE);
    }

    fn tell_who(&mut self, events: &[Event]) {
        let ids = self.state.server_ids().unwrap_or_default();
        let mut told: BTreeMap<Key, (SystemTime, String)> = BTreeMap::new();
        let mut lately = Vec::new();
        for (key, question) in &self.memory.questions.open {
            let Some(kind) = resource::kind(key.kind) else { continue };
            let ours = self.state.written_at(key, question.from - OURS).unwrap_or_default();
            let about = |event: &&Event| is_about(event, kind, key, ids.get(key).map(AsRef::as_ref));
            let about: Vec<&Event> = events.iter().filter(about).collect();
            let before = self.memory.questions.lately.get(key).map(|it| (it.event, it.since));
            let Some(event) = answer(&about, question, &ours, before) else { continue };
            told.insert(key.clone(), (question.since, sentence(event)));
            lately.push((key.clone(), event.at));
        }
        self.count_try();
        if told.is_empty() {
            return;
        }
        let now = self.state.now();
        for ((key, (since, actor)), (_, event)) in told.iter().zip(lately) {
            self.memory.questions.open.remove(key);
            self.memory
                .questions
                .lately
                .insert(key.clone(), Lately { noted: now, event, since: *since, actor: actor.clone() });
            let (kind, id) = (key.kind, key.id());
            tracing::info!(kind, id, actor, "drift: Descope's audit trail says who did it");
        }
        let noted = self.state.note_actors(&told);
        self.state.or_error(noted, "cannot write the state; who changed what drifted is forgotten with this run");
        let Carryover { plan, questions, .. } = &mut self.memory;
        let actors = self.assessor.actors();
        let name = |plan: &mut Arc<Plan>| {
            // Where it could not be written down, this run knows it all the same.
            let just_told = |key: &Key| told.get(key).map(|(_, actor)| actor.clone());
            let actor = |key: &Key, path: &str, live: &Value| actors(key, path, live).or_else(|| just_told(key));
            Arc::make_mut(plan).name_actors(actor, |key| questions.former(key));
        };
        self.plans.send_modify(|published| match (plan, published) {
            (Some(plan), Some(published)) if Arc::ptr_eq(plan, &published.plan) => {
                name(plan);
                published.plan = Arc::clone(plan);
            }
            (plan, published) => {
                for plan in plan.iter_mut().chain(published.as_mut().map(|published| &mut published.plan)) {
                    name(plan);
                }
            }
        });
        self.publish();
    }
}

impl Questions {
    fn former(&self, key: &Key) -> Option<String> {
        self.lately.get(key).map(|it| it.actor.clone())
    }

    /// Asks after so long what is open, or as soon as it is allowed.
    fn ask_after(&mut self, wait: Duration) {
        let allowed = [self.asked_at.map(|at| at + GAP), self.refused_at.map(|at| at + REFUSED_FOR)];
        let due = allowed.into_iter().flatten().fold(Instant::now() + wait, Instant::max);
        self.at = (!self.open.is_empty()).then(|| self.at.map_or(due, |at| at.min(due)));
    }
}

/// Does the event tell of a change of this resource? The names of events are Descope's own, and no source lists all of them:
/// one that does not name kind and resource says nothing.
fn is_about(event: &Event, kind: &dyn Kind, key: &Key, id: Option<&str>) -> bool {
    let letters = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let action = letters(&event.action);
    let stem = |name: &str| letters(name).trim_end_matches('s').to_owned();
    let parts = kind.spec().parts.iter().map(|part| stem(part.name)).filter(|stem| !stem.is_empty());
    let is_of_kind = std::iter::once(stem(key.kind)).chain(parts).any(|stem| action.contains(&stem));
    let is_named = |name: &String| *name == *key.name || id == Some(name.as_str());
    let is_tenant_told = key.tenant.as_ref().is_none_or(|tenant| event.tenants.iter().any(|one| **one == **tenant));
    let names = event.names.iter().chain(&event.tenants);
    is_of_kind && (kind.spec().is_only() || is_tenant_told && names.into_iter().any(is_named))
}

/// A digest of what is there of what drifted.
fn live(drifts: &[(&Change, &Drift)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (change, drift) in drifts {
        for field in change.fields.list().iter().filter(|field| drift.fields.contains(&*field.path)) {
            (&field.path, &field.from).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The event that the question is about, of those `about` the resource: the newest that is not ours. Not one that answered an
/// earlier question, of which `before` has the time and the look, unless it came after that look; nor in a fight one that we turned back since: the one that is asked for is not
/// searchable yet then.
fn answer<'e>(
    about: &[&'e Event],
    question: &Question,
    ours: &[SystemTime],
    before: Option<(SystemTime, SystemTime)>,
) -> Option<&'e Event> {
    let newest = about.iter().filter(|event| is_by_another(event, question, ours)).max_by_key(|event| event.at)?;
    // What was put back since stands in the trail behind the edit.
    let is_put_back = ours.iter().any(|at| *at > question.since);
    let is_outdone = |event: &&Event| {
        event.at > newest.at && event.at <= question.since + SKEW && !is_by_another(event, question, ours)
    };
    let is_older = question.is_fight && !is_put_back && about.iter().any(is_outdone);
    let is_news = before.is_none_or(|(event, since)| newest.at > event || newest.at > since);
    (is_news && !is_older).then_some(newest)
}

/// Nothing that we may have done ourselves, and nothing that came after the look.
fn is_by_another(event: &Event, question: &Question, ours: &[SystemTime]) -> bool {
    let is_within = event.at + SKEW >= question.from && event.at <= question.since + SKEW;
    let apart = |at: &SystemTime| event.at.duration_since(*at).unwrap_or_else(|ahead| ahead.duration());
    // The daemon works with a key.
    let is_a_person = event.login.is_some() || event.actor.starts_with('U');
    is_within && !event.actor.is_empty() && (is_a_person || !ours.iter().any(|at| apart(at) <= OURS))
}

fn sentence(event: &Event) -> String {
    let who = match &event.login {
        Some(login) => format!("{login} ({})", event.actor),
        None => event.actor.clone(),
    };
    let through = if event.through.is_empty() { String::new() } else { format!(" through {}", event.through) };
    format!("{who}{through} at {} ({})", rfc3339(event.at), event.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn event(action: &str, actor: &str, names: &[&str], tenants: &[&str]) -> Event {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Event {
            at: at(1000),
            action: action.to_owned(),
            actor: actor.to_owned(),
            login: None,
            through: String::new(),
            tenants: texts(tenants),
            names: texts(names),
        }
    }

    #[test]
    fn an_event_is_of_what_it_names_by_kind_and_by_name_or_id() {
        let of = |event: &Event, key: &Key, id| is_about(event, resource::kind(key.kind).unwrap(), key, id);
        let (role, own) = (Key::new("roles", "Editor"), Key::in_tenant("roles", "acme", "Editor"));
        let (tenant, theme) = (Key::new("tenants", "acme"), Key::new("theme", "theme"));
        for (event, key, id, expected) in [
            (event("RoleModified", "U1", &["Editor"], &[]), &role, None, true),
            (event("Role Modified", "U1", &["ROL1"], &[]), &role, Some("ROL1"), true),
            (event("RoleModified", "U1", &["ROL2"], &[]), &role, Some("ROL1"), false),
            (event("UserModified", "U1", &["Editor"], &[]), &role, None, false),
            (event("RoleModified", "U1", &["Editor"], &["acme"]), &own, None, true),
            (event("RoleModified", "U1", &["Editor"], &["other"]), &own, None, false),
            (event("TenantModified", "U1", &[], &["acme"]), &tenant, None, true),
            (event("SSOSettingsModified", "U1", &[], &["acme"]), &tenant, None, true),
            (event("UserModified", "U1", &[], &["acme"]), &tenant, None, false),
            (event("ThemeModified", "U1", &[], &[]), &theme, None, true),
            (event("", "U1", &["Editor"], &[]), &role, None, false),
        ] {
            assert_eq!(of(&event, key, id), expected, "{event:?} {key}");
        }
    }

    #[test]
    fn what_a_key_did_around_a_write_of_ours_is_ours_and_what_came_later_is_another_matter() {
        let question = Question { from: at(900), since: at(1100), asked: 0, is_fight: false };
        let (key, person) = (event("RoleModified", "K2a", &[], &[]), event("RoleModified", "U2a", &[], &[]));
        let nobody = event("RoleModified", "", &[], &[]);

        assert!(is_by_another(&key, &question, &[]));
        assert!(is_by_another(&key, &question, &[at(600)]));
        assert!(!is_by_another(&key, &question, &[at(950)]), "a clock may be minutes off");
        assert!(!is_by_another(&key, &question, &[at(1290)]));
        assert!(is_by_another(&person, &question, &[at(1000)]));
        assert!(!is_by_another(&nobody, &question, &[]));
        for (from, since) in [(at(1200), at(1300)), (at(700), at(800))] {
            assert!(!is_by_another(&person, &Question { from, since, asked: 0, is_fight: false }, &[]));
        }
    }

    /// The newest value was told with the time of an edit before.
    #[test]
    fn an_edit_that_was_put_back_is_no_answer_to_who_did_the_next_one() {
        let of = |actor: &str, seconds: u64| Event { at: at(seconds), ..event("RoleModified", actor, &[], &[]) };
        let (first, ours, second) = (of("U1", 1000), of("K1", 1010), of("U1", 1020));
        let fight = Question { from: at(1015), since: at(1025), asked: 0, is_fight: true };
        let found = |events: &[&Event], question: &Question, written: &[u64], before: Option<(u64, u64)>| {
            let written: Vec<SystemTime> = written.iter().map(|seconds| at(*seconds)).collect();
            answer(events, question, &written, before.map(|(event, since)| (at(event), at(since))))
                .map(|event| event.at)
        };

        assert_eq!(found(&[&second, &ours, &first], &fight, &[1010], None), Some(at(1020)));
        assert_eq!(found(&[&ours, &first], &fight, &[1010], None), None, "the second is not searchable yet");
        assert_eq!(
            found(&[&first], &fight, &[1010], Some((1000, 1005))),
            None,
            "nor is ours, and the first was told before"
        );
        let early = found(&[&second, &ours, &first], &fight, &[1010], Some((1020, 1005)));
        assert_eq!(early, Some(at(1020)), "it was the answer to the question before, asked in between");
        // Elsewhere a write of ours may have been of something else.
        let other = Question { is_fight: false, ..fight.clone() };
        assert_eq!(found(&[&ours, &first], &other, &[1010], None), Some(at(1000)));
        // Put back meanwhile, the edit stands before our write.
        let healed = Question { from: at(990), since: at(1005), ..fight };
        assert_eq!(found(&[&ours, &first], &healed, &[1010], None), Some(at(1000)));
    }
}
