//! One look at both sides: observe, compare, plan. It writes nothing, so `plan` and the daemon share it.

use super::contest::Fights;
use super::documents::Documents;
use crate::aside::aside;
use crate::descope;
use crate::descope::Client;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::desired::secret_file;
use crate::desired::secrets::Secrets;
use crate::limiter::Priority;
use crate::observed;
use crate::observed::Deep;
use crate::observed::Observed;
use crate::plan;
use crate::plan::Applied;
use crate::plan::DriftRules;
use crate::plan::Guards;
use crate::plan::Hold;
use crate::plan::Inputs;
use crate::plan::Ownership;
use crate::plan::Plan;
use crate::plan::Policy;
use crate::plan::ProjectName;
use crate::plan::Sent;
use crate::plan::SuspendedPart;
use crate::plan::Window;
use crate::plan::guards;
use crate::resource;
use crate::resource::Action;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::kind::Preview;
use crate::resource::remember;
use crate::resource::spec::Need;
use crate::resource::spec::Read;
use crate::state;
use crate::state::ByField;
use crate::state::Digest;
use crate::state::Fingerprints;
use crate::state::Incarnation;
use crate::state::Intent;
use crate::state::IntentId;
use crate::state::Lately;
use crate::state::Ledger;
use crate::state::OpenIntent;
use crate::state::Outlived;
use crate::state::ProjectState;
use crate::state::Suspended;
use crate::telemetry::status::rfc3339;
use crate::worker::recent::Recent;
use crate::worker::recent::Unconfirmed;
use serde_json::Value;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;
use tokio::time::Instant;

/// For so long a list that lacks what we just created proves nothing: lists may lag behind writes.
pub const FRESH: Duration = Duration::from_secs(120);

/// The least [`Rules::delete_after`] where the files are read without stats that prove anything.
const UNPROVEN_DELETE_AFTER: Duration = Duration::from_secs(60);

/// What ends within this time is warned of, as by the alert.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

const SUCCESSOR: &str = "declare its successor under another name in time, and take it out once nobody uses it";

/// What is done with a project that was never seen before and is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstContact {
    /// Its first plan waits for approval as a whole.
    Hold,
    /// It goes ahead.
    Apply,
}

/// How one project is compared: everything of the config that a plan depends on.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The entry of the config, by name and path: under another one the project was never seen.
    pub entry: Arc<str>,
    /// The other entries of the config.
    pub others: Vec<Arc<str>>,
    /// On behalf of which repo.
    pub owner: Arc<str>,
    /// What may be done.
    pub policy: Policy,
    /// The numbers that hold changes.
    pub guards: Guards,
    /// What is done about what somebody else changed.
    pub drift: DriftRules,
    /// How long a resource must have been out of the YAML before it is deleted.
    pub delete_after: Duration,
    /// For how long an approval holds.
    pub approval_expiry: Duration,
    /// For how long it counts that somebody turned a field back.
    pub contest_window: Duration,
    /// Roles that Descope ships without a marker.
    pub builtin_roles: Vec<String>,
    /// For a project never seen before.
    pub first_contact: FirstContact,
}

/// Looks at both sides of one project.
#[derive(Clone)]
pub struct Assessor {
    /// As in the config.
    pub project: ProjectName,
    /// Calls of this project.
    pub client: Client,
    /// What the files refer to.
    pub secrets: Secrets,
    /// What calls for single resources showed.
    pub deep: Deep,
    /// What the daemon remembers; `None` for a `plan` where there is no state.
    pub state: Option<ProjectState>,
    /// How to compare.
    pub rules: Rules,
    /// The stats of the files prove nothing: what is absent has to be absent for longer.
    pub is_by_content: bool,
    /// What was written a moment ago.
    pub recent: Recent,
}

/// What Descope answered.
pub struct Sight {
    /// Kind by kind.
    pub observed: Observed,
    /// What changes would lead to, where they could be tried.
    pub previews: BTreeMap<Key, Result<Preview, descope::Error>>,
    /// As in [`Assessment`].
    pub gone: HashSet<Key>,
    /// As in [`Assessment`].
    pub unconfirmed: Unconfirmed,
    /// The calls that it took.
    pub calls: usize,
    /// Calls whose answer was lost, that it can settle.
    pub lost: BTreeSet<IntentId>,
}

/// Creates whose answer had a secret in it, and was lost.
#[derive(Debug, Default)]
pub struct Shown {
    /// The secret is not in its file: why, and what to do.
    pub lost: BTreeMap<Key, String>,
    /// Somebody put one there: the file, and a fingerprint of what is in it.
    pub filled: BTreeMap<Key, (String, Digest)>,
}

/// What [`Assessor::plan`] makes of it.
pub struct Assessment {
    /// What has to change.
    pub plan: Plan,
    /// What the plan rests on.
    pub observed: Observed,
    /// Owned and declared nowhere, or to be deleted by a call whose answer was lost: two lists in a row lack it.
    pub gone: HashSet<Key>,
    /// What lists contradict of our last writes, and what was compared as we sent it.
    pub unconfirmed: Unconfirmed,
    /// Fingerprints that say nothing any more.
    pub outlived: Outlived,
    /// What is known of secrets whose creates were not answered.
    pub shown: Shown,
    /// Why the whole project must wait: the key was refused, or everything was.
    pub refusal: Option<descope::Error>,
    /// The project was never seen before.
    pub first_contact: bool,
}

impl Assessor {
    /// Looks, and plans what the look calls for.
    pub async fn assess(&self, desired: &Desired, priority: Priority, lost: &BTreeSet<IntentId>) -> Assessment {
        let sight = self.look(desired, priority, lost).await;
        aside(|| self.plan(desired, true, sight, &|_| false, &|_, _| false))
    }

    /// Asks Descope for every declared or owned kind. What became of the calls that are `lost` shall be seen.
    pub async fn look(&self, desired: &Desired, priority: Priority, lost: &BTreeSet<IntentId>) -> Sight {
        let (client, calls) = self.client.with_priority(priority).counted();
        let (kinds, known) = aside(|| {
            let owned = self.known(ProjectState::inventory);
            let by_name = resource::ALL.iter().filter(|kind| kind.spec().main().read == Read::ByName);
            let open = self.known(ProjectState::open_intents);
            let known = by_name.flat_map(|kind| known_of(*kind, desired, &owned, &open)).collect();
            (self.kinds(desired, &owned), known)
        });
        let mut observed = observed::fetch(&client, kinds, &known).await;
        let gone = self.look_twice(&client, desired, lost, &mut observed).await;
        let mut unconfirmed = Unconfirmed::default();
        let asked_at = observed.began;
        aside(|| {
            for (name, documents) in &mut observed.kinds {
                if let (Some(kind), Ok(documents)) = (resource::kind(name), documents) {
                    unconfirmed.add(self.recent.put_over(kind, documents, asked_at));
                }
            }
        });
        Box::pin(observed::add_parts(&client, desired, &mut observed, &self.deep)).await;
        let previews = Box::pin(self.previews(&client, desired, &observed)).await;
        let (calls, lost) = (calls.load(Ordering::Relaxed), lost.clone());
        Sight { observed, previews, gone, unconfirmed, calls, lost }
    }

    /// How long a resource must have been out of the YAML before it is deleted.
    pub fn delete_after(&self) -> Duration {
        if self.is_by_content { self.rules.delete_after.max(UNPROVEN_DELETE_AFTER) } else { self.rules.delete_after }
    }

    /// Compares. While the newest files are not in force (`is_current`), no delete becomes due: they may say something
    /// else.
    /// `is_reverted`: does this look show a resource turned back after one that showed it as declared?
    /// `is_written`: was a resource written by us since a look began? What that look shows of it is from before, and nobody's drift.
    pub fn plan(
        &self,
        desired: &Desired,
        is_current: bool,
        sight: Sight,
        is_reverted: &dyn Fn(&Key) -> bool,
        is_written: &dyn Fn(&Key, Instant) -> bool,
    ) -> Assessment {
        let Sight { observed, previews, gone, mut unconfirmed, calls, lost } = sight;
        // What was deleted during the look is not there to be deleted, so it must count. Without the count of what was
        // deleted lately, nothing more is.
        let (has_count, ledger) = self.ledger().map_or_else(|| (false, Ledger::none()), |ledger| (true, ledger));
        let mut owned = ownerships(&ledger);
        let Ledger { moment, absent, open, lately, approved, reversions, drifted, .. } = ledger;
        let now = moment.at;
        let mut windows: BTreeMap<&'static str, Window> =
            lately.into_iter().map(|(kind, lately)| (kind, window(lately))).collect();
        for intent in open.iter().map(|open| &open.intent).filter(|intent| is_gone(intent, &observed)) {
            let is_news = owned.remove(&intent.key).is_some() && intent.approval.is_none();
            windows.entry(intent.key.kind).or_default().deleted += usize::from(is_news);
        }
        let undone = self.undone(desired, &observed, &mut unconfirmed);
        for key in undone.keys() {
            owned.entry(key.clone()).or_default();
        }
        let shown = self.shown(desired, &observed, open.iter().filter(|open| lost.contains(&open.id)));
        let delete_after = self.delete_after();
        let is_due = |key: &Key| {
            let is_absent_for_long = absent.get(key).is_some_and(|since| has_passed(*since, delete_after, now));
            // Without a time to wait for, this load is enough.
            is_absent_for_long || delete_after.is_zero() || undone.contains_key(key)
        };
        let former = self.former();
        let is_of_another = former.as_ref().is_some_and(|former| !former.is_same);
        // What another one was let go ahead with is unknown to this one.
        let contacted = if is_of_another { BTreeSet::new() } else { self.known(ProjectState::contacted) };
        let sent = self.known(ProjectState::sent_digests);
        let mut outlived = self.outlived(desired, is_current, &observed, &sent);
        let documents = Documents::of(self, &sent, observed.began);
        let mut late = Vec::new();
        outlived.read_back = documents.read_back(desired, &observed, &mut unconfirmed, &mut late);
        outlived.read_back.retain(|one| !outlived.anew.contains(&one.key));
        let first_contact = !self.is_known();
        let fights = Fights::new(reversions, now, self.rules.contest_window);
        let knows_applied = self.known(ProjectState::knows_applied);
        let volume = OnceCell::new();
        let scope = format!("{:?}", (self.client.target(), &self.rules.owner));
        let mut plan = plan::diff(&Inputs {
            scope: &scope,
            desired,
            observed: &observed,
            owned: &owned,
            ids: &self.known(ProjectState::server_ids),
            sent: &|key, field, value| {
                if outlived.anew.contains(key) { Sent::Unknown } else { self.sent(&sent, key, field, value) }
            },
            secret: &|key, path, reference| {
                let known = self.secret(&sent, key, path, reference);
                if outlived.anew.contains(key) { known.map(|_| Sent::Unknown) } else { known }
            },
            document: &|key, field, declared, shown| {
                !outlived.anew.contains(key) && documents.is_same(key, field, declared, shown)
            },
            previews: &previews,
            renamed: &|old, new| self.was_renamed(old, new),
            policy: self.rules.policy,
            builtin_roles: &self.rules.builtin_roles,
            guards: &self.rules.guards,
            first_contact: first_contact && self.rules.first_contact == FirstContact::Hold,
            former: former.as_ref(),
            holds_contact: self.rules.first_contact == FirstContact::Hold,
            is_contacted: &|kind, field| contacted.contains(&(kind.to_owned(), field.to_owned())),
            windows: &windows,
            may_delete: &|key| has_count && is_current && is_due(key),
            contested: &|change| fights.on(change, is_reverted, self.state.as_ref()?),
            drift: &self.rules.drift,
            // In this order: a call is under way until what it put in force is known.
            applied: &|key| self.applied(key).filter(|_| knows_applied && !is_written(key, observed.began)),
            drifted_since: &|key, path| drifted.get(&(key.clone(), path.to_owned())).copied(),
            now,
            lost: &shown.lost,
            place: &|name| self.secrets.look_at_place(name),
            volume: &|| volume.get_or_init(|| self.secrets.look_at_volume(self.state.as_ref()?).err()).clone(),
            is_approved: &|digest| approved.contains(digest),
        });
        for (key, part) in &late {
            self.deep.forget(key, part);
        }
        for (key, end) in &plan.ends {
            let end = SystemTime::UNIX_EPOCH + Duration::from_secs(*end);
            let place = desired.resources.get(key).map(|declared| &declared.place);
            if let Some(place) = place.filter(|_| end < now + SOON) {
                let verb = if end < now { "ended on" } else { "ends on" };
                plan.warnings.push(format!("{place}: {key} {verb} {}; {SUCCESSOR}", rfc3339(end)));
            }
        }
        for change in plan.changes.iter_mut().filter(|change| change.held == Some(Hold::DeleteAfter)) {
            change.until = absent.get(&change.key).map(|since| *since + delete_after);
        }
        outlived.left.extend(landed_unsent(&plan, &sent));
        plan.reads = calls + plan.forecast_looks();
        plan.held_since = self.known(ProjectState::held_since);
        self.name_actors(&mut plan);
        self.refuse_without_effect(&mut plan, &undone);
        plan.moment = moment;
        self.suspend_parts(&mut plan);
        Assessment { plan, refusal: refusal(&observed), observed, gone, unconfirmed, outlived, shown, first_contact }
    }

    /// Says who did what drifted, where that was found out before.
    fn name_actors(&self, plan: &mut Plan) {
        plan.name_actors(self.actors(), |_| None);
    }

    /// Who set what is there now of a field, where that was found out.
    pub(super) fn actors(&self) -> impl Fn(&Key, &str, &Value) -> Option<String> + use<> {
        let (actors, state) = (self.known(ProjectState::actors), self.state.clone());
        move |key, path, live| {
            let (of, actor) = actors.get(&(key.clone(), path.to_owned()))?;
            let is_it = of.is_none_or(|of| state.as_ref().is_some_and(|state| state.fingerprint(live) == of));
            is_it.then(|| actor.clone())
        }
    }

    /// What the files said of this when it was last in force. Where nobody can tell, nothing was changed by them.
    fn applied(&self, key: &Key) -> Option<Applied> {
        let state = self.state.clone()?;
        let Some(marks) = state.or_error(state.applied(key), "cannot read the state; what differs counts as drift")
        else {
            return Some(Box::new(|_, _| true));
        };
        let marks = marks?;
        Some(Box::new(move |path, value| state.was_applied(&marks, path, value)))
    }

    /// Where no file is declared, the secret is not wanted.
    fn shown<'o>(&self, desired: &Desired, observed: &Observed, open: impl Iterator<Item = &'o OpenIntent>) -> Shown {
        let mut shown = Shown::default();
        for OpenIntent { intent, .. } in open.filter(|open| open.intent.action == Action::Create) {
            let Some(kind) = resource::kind(intent.key.kind).filter(|kind| kind.spec().shows_secret) else { continue };
            // It may be declared under the name that it is to have from now on.
            let is_renamed = |declared: &&Arc<Declared>| {
                let Key { kind, tenant, .. } = &declared.key;
                let old = declared.renamed_from.as_ref();
                (kind, tenant, old) == (&intent.key.kind, &intent.key.tenant, Some(&intent.key.name))
            };
            let declared = desired.resources.get(&intent.key);
            let declared = declared.or_else(|| desired.of_kind(kind.name()).find(is_renamed));
            let Some((declared, name)) = declared.and_then(|one| Some((one, one.secret_file.as_deref()?))) else {
                continue;
            };
            let elsewhere = match self.filled(name) {
                Ok(Some(filled)) => {
                    shown.filled.insert(intent.key.clone(), filled);
                    continue;
                }
                Ok(None) => None,
                Err(elsewhere) => Some(elsewhere),
            };
            let documents = observed.kinds.get(kind.name()).and_then(|answer| answer.as_ref().ok());
            let live = documents.and_then(|documents| documents.get(&intent.key));
            let id = live.as_ref().and_then(|live| kind.server_id(live)).or(intent.server_id.as_deref());
            let message = id.map_or_else(|| secret_file::in_doubt(name), |id| secret_file::lost(name, id));
            let message = elsewhere.map_or_else(|| message.clone(), |elsewhere| format!("{elsewhere}; {message}"));
            shown.lost.insert(declared.key.clone(), message.clone());
            shown.lost.insert(intent.key.clone(), message);
        }
        shown
    }

    /// What somebody put into this file. A secret that we put there, before the resource was made, is none; nor is that of
    /// another project. The text says whose it is, or where the secret may be instead.
    fn filled(&self, name: &str) -> Result<Option<(String, Digest)>, String> {
        let (Ok(kept), Some(state)) = (self.secrets.kept(name), &self.state) else { return Ok(None) };
        let Ok(known) = state.kept(&kept.path) else { return Ok(None) };
        if let Some(draft) =
            self.secrets.waiting(name, |secret| known == Some(state.fingerprint_secret(secret))).first()
        {
            return Err(secret_file::waits(name, draft));
        }
        let Some(secret) = kept.secret else { return Ok(None) };
        let digest = state.fingerprint_secret(&secret);
        if known.is_none() && state.is_kept_by_another(&kept.path).unwrap_or(true) {
            return Err(secret_file::of_another(name));
        }
        Ok((known != Some(digest)).then_some((kept.path, digest)))
    }

    /// Holds what is suspended. Where nobody can tell what is, everything may be.
    fn suspend_parts(&self, plan: &mut Plan) {
        let Some(state) = &self.state else { return };
        let read = state.suspensions().and_then(|all| Ok((all, state.suspension()?)));
        let Some((all, whole)) = state.or_error(read, "cannot tell what is suspended; nothing is sent meanwhile")
        else {
            return plan.suspend("the state cannot be read, so nobody can tell what is suspended".to_owned());
        };
        let part = |one: Suspended| SuspendedPart { kind: one.kind, id: one.id, until: one.until, by: one.by };
        plan.suspend_parts(all.into_iter().map(part).collect(), whole.map(|whole| whole.until));
    }

    /// What the guards measure by; `None` where that cannot be read. What another entry of the config owned is none of ours.
    fn ledger(&self) -> Option<Ledger> {
        let ledger = self.known(|state| state.ledger().map(Some))?;
        if self.former().is_none_or(|former| former.is_same) {
            return Some(ledger);
        }
        let (owned, absent, missing, lately) = Default::default();
        Some(Ledger { owned, absent, missing, lately, ..ledger })
    }

    /// The kinds to ask for: those that a file mentions, those of which something is owned or was deleted just now, and those
    /// with open calls: one that was cut off may have made the only one of its kind.
    fn kinds(&self, desired: &Desired, owned: &state::Inventory) -> Vec<&'static dyn Kind> {
        let open = self.known(ProjectState::open_intents);
        let in_doubt = self.known(ProjectState::deletes_in_doubt);
        let in_doubt = in_doubt.keys().chain(open.iter().map(|open| &open.intent.key));
        let in_doubt: HashSet<&str> = in_doubt.map(|key| key.kind).collect();
        let is_ours = |kind: &'static str| in_doubt.contains(kind) || state::of_kind(owned, kind).next().is_some();
        let is_asked = |kind: &&dyn Kind| desired.kinds.contains(kind.name()) || is_ours(kind.name());
        resource::ALL.iter().copied().filter(is_asked).collect()
    }

    /// A list may lack what is there. One that lacks too much of what we own, or something that would be forgotten for
    /// that, is asked for once more. Returns what would be forgotten and is in neither.
    async fn look_twice(
        &self,
        client: &Client,
        desired: &Desired,
        lost: &BTreeSet<IntentId>,
        observed: &mut Observed,
    ) -> HashSet<Key> {
        let compared = aside(|| {
            let ledger = self.ledger()?;
            let live = live(observed);
            let is_live = |key: &Key| live.get(key.kind).map(|keys| keys.contains(key));
            let mut owned = ownerships(&ledger);
            for intent in ledger.open.iter().map(|open| &open.intent).filter(|intent| is_gone(intent, observed)) {
                owned.remove(&intent.key);
            }
            let shrunk = guards::shrunk(
                &owned,
                desired,
                is_live,
                &|old, new| self.was_renamed(old, new),
                self.rules.policy,
                &self.rules.guards,
            );
            let mut gone = forgettable(&ledger, desired, lost);
            gone.retain(|key| is_live(key) == Some(false));
            Some((ledger, shrunk, gone))
        });
        let Some((ledger, shrunk, mut gone)) = compared else { return HashSet::new() };
        self.show_shrunk(&shrunk, observed);
        let kinds: BTreeSet<&str> =
            shrunk.iter().map(|(kind, _)| *kind).chain(gone.iter().map(|key| key.kind)).collect();
        if kinds.is_empty() {
            return gone;
        }
        for kind in kinds.into_iter().filter_map(resource::kind) {
            let names: Vec<Key> = known_of(kind, desired, &ledger.owned, &ledger.open).into_iter().collect();
            let again = observed::all(client, kind, &names).await;
            // Without a second answer the first one stands, and nothing is forgotten for it.
            if again.is_err() && !shrunk.iter().any(|(name, _)| *name == kind.name()) {
                gone.retain(|key| key.kind != kind.name());
            } else {
                observed.kinds.insert(kind.name(), again);
            }
        }
        let live = aside(|| self::live(observed));
        gone.retain(|key| live.get(key.kind).is_some_and(|keys| !keys.contains(key)));
        gone
    }

    /// Asks for a list once more where it lacks much: at every look while it does.
    fn show_shrunk(&self, shrunk: &[(&'static str, usize)], observed: &Observed) {
        let Some(state) = &self.state else { return };
        let place = |kind| ("shrunk", kind, state.claim());
        let is_whole = |kind: &&&'static str| !shrunk.iter().any(|(shrunk, _)| shrunk == *kind);
        observed.kinds.keys().filter(is_whole).for_each(|kind| state.told().over(place(*kind)));
        for (kind, gone) in shrunk {
            if let Some(times) = state.told().met(place(*kind), gone) {
                tracing::warn!(kind, gone, times, "a list lacks much of what is owned; asking once more");
            }
        }
    }

    /// What the state knows; nothing where there is none or it cannot be read: then less is approved and deleted.
    pub(super) fn known<T: Default>(&self, read: impl FnOnce(&ProjectState) -> Result<T, state::Error>) -> T {
        let Some(state) = &self.state else { return T::default() };
        let what = "cannot read the state; nothing is deleted and nothing counts as approved";
        state.or_error(read(state), what).unwrap_or_default()
    }

    /// A state that cannot be read knows nothing: then the project counts as new, and is held rather than changed.
    fn is_known(&self) -> bool {
        let what = "cannot tell whether this project was seen before";
        let is_known = self.state.as_ref().and_then(|state| state.or_error(state.is_known(), what));
        is_known.unwrap_or_default() && self.former().is_none()
    }

    /// Fingerprints of what was made anew meanwhile, and of lines that left the files. What only a create can set stays as
    /// it was set.
    fn outlived(&self, desired: &Desired, is_current: bool, observed: &Observed, sent: &Fingerprints) -> Outlived {
        let mut outlived = Outlived::default();
        let noted = self.known(ProjectState::incarnations);
        if noted.is_empty() && sent.is_empty() {
            return outlived;
        }
        for (name, documents) in &observed.kinds {
            let (Some(kind), Ok(documents)) = (resource::kind(name), documents) else { continue };
            for (key, document) in documents.of(|key| noted.contains_key(key)) {
                let Some(before) = noted.get(key).map(Incarnation::read) else { continue };
                let now = kind.incarnation(&document);
                if before.iter().any(|(field, was)| now.get(field).is_some_and(|is| is != was)) {
                    outlived.anew.push(key.clone());
                }
                if now.keys().any(|field| before.get(field) != now.get(field)) {
                    outlived.seen.push((key.clone(), Incarnation::of(&now)));
                }
            }
        }
        // What is still to be renamed is declared under its new name.
        let is_renamed = |key: &Key| {
            let mut declared = desired.resources.values();
            declared
                .any(|declared| declared.key.kind == key.kind && declared.renamed_from.as_deref() == Some(&*key.name))
        };
        for (key, fields) in sent.iter().filter(|_| is_current) {
            let Some(kind) = resource::kind(key.kind).filter(|_| desired.kinds.contains(key.kind)) else { continue };
            let declared = desired.resources.get(key);
            let known = declared.map(|declared| remember::declared(kind.spec(), &declared.fields)).unwrap_or_default();
            let is_left = |path: &&str| {
                let is_changeable = |(_, field): &(_, &Field)| field.need != Need::AtCreation;
                kind.spec().field_at(path).is_some_and(|at| is_changeable(&at)) && !known.contains(*path)
            };
            let mut left = fields.paths().filter(is_left).peekable();
            if left.peek().is_some() && (declared.is_some() || !is_renamed(key)) {
                outlived.left.extend(left.map(|path| (key.clone(), path.to_owned())));
            }
        }
        outlived
    }

    fn was_renamed(&self, old: &Key, new: &Key) -> bool {
        self.state.as_ref().is_some_and(|state| state.was_renamed(old, new).unwrap_or(false))
    }

    fn secret(&self, known: &Fingerprints, key: &Key, path: &str, reference: &Value) -> Result<Sent, String> {
        let secret = self.secrets.read(reference)?;
        let Some(state) = &self.state else { return Ok(Sent::Unknown) };
        Ok(match known.get(key).and_then(|fields| fields.get(path)) {
            Some(digest) if *digest == state.fingerprint_secret(&secret) => Sent::Same,
            Some(_) => Sent::Different,
            None => Sent::Unknown,
        })
    }

    fn sent(&self, known: &Fingerprints, key: &Key, field: &str, value: &Value) -> Sent {
        let Some(state) = &self.state else { return Sent::Unknown };
        match known.get(key).and_then(|fields| fields.get(field)) {
            Some(digest) if *digest == state.fingerprint(value) => Sent::Same,
            Some(_) => Sent::Different,
            None => Sent::Unknown,
        }
    }
}

fn is_read_by_name(key: &Key) -> bool {
    resource::kind(key.kind).is_some_and(|kind| kind.spec().main().read == Read::ByName)
}

/// What was noted of creates of which nothing is left to be done: somebody else did it, or it came so.
fn landed_unsent(plan: &Plan, sent: &Fingerprints) -> Vec<(Key, String)> {
    let noted = |fields: &ByField| {
        let paths = fields.paths().filter(|path| path.ends_with(remember::ALONG));
        paths.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut noted: BTreeMap<&Key, Vec<String>> =
        sent.iter().map(|(key, fields)| (key, noted(fields))).filter(|(_, paths)| !paths.is_empty()).collect();
    if noted.is_empty() {
        return Vec::new();
    }
    let refused = plan.refused.iter().map(|refusal| &refusal.key);
    let waiting = plan.waits.iter().map(|(key, ..)| key).chain(plan.unread.keys()).chain(&plan.unlisted);
    for key in plan.changes.iter().map(|change| &change.key).chain(refused).chain(waiting) {
        noted.remove(key);
    }
    let landed = noted.into_iter().filter(|(key, _)| plan.present.contains(*key));
    landed.flat_map(|(key, paths)| paths.into_iter().map(|path| (key.clone(), path))).collect()
}

/// What is known of a kind: declared, owned, or with an open call. What is not asked for is not known to be gone.
fn known_of(kind: &dyn Kind, desired: &Desired, owned: &state::Inventory, open: &[OpenIntent]) -> BTreeSet<Key> {
    let declared = desired.of_kind(kind.name()).map(|declared| &declared.key);
    let open = open.iter().flat_map(|open| open.intent.touches().keys()).filter(|key| key.kind == kind.name());
    declared.chain(state::of_kind(owned, kind.name())).cloned().chain(open).collect()
}

/// What is there, by kind; kinds that could not be observed are left out.
fn live(observed: &Observed) -> BTreeMap<&'static str, HashSet<Key>> {
    let keys = |(name, documents): (&&'static str, &Result<resource::Documents, descope::Error>)| {
        Some((*name, documents.as_ref().ok()?.keys().cloned().collect()))
    };
    observed.kinds.iter().filter_map(keys).collect()
}

/// What a list that lacks it makes us forget: it is declared nowhere, or a call that was to make or delete it is settled.
fn forgettable(ledger: &Ledger, desired: &Desired, lost: &BTreeSet<IntentId>) -> HashSet<Key> {
    let is_under_way: HashSet<&Key> = ledger.open.iter().map(|open| &open.intent.key).collect();
    let is_lasting = |at: Option<SystemTime>| !at.is_some_and(|at| is_fresh(at, ledger.moment.at));
    // What is asked for by its name and refused is not known to be gone.
    let is_left = |(key, owned): &(&Key, &state::Owned)| {
        !is_read_by_name(key)
            && !desired.resources.contains_key(key)
            && !is_under_way.contains(*key)
            && is_lasting(owned.created_at)
    };
    let owned = ledger.owned.iter().filter(is_left).map(|(key, _)| key.clone());
    let is_settled = |open: &&OpenIntent| match open.intent.action {
        Action::Delete => true,
        Action::Create | Action::Rename => is_lasting(Some(open.begun_at)),
        Action::Update => false,
    };
    let open = ledger.open.iter().filter(|open| lost.contains(&open.id)).filter(is_settled);
    owned.chain(open.map(|open| open.intent.key.clone())).collect()
}

/// What the plan has to know of what is owned.
fn ownerships(ledger: &Ledger) -> BTreeMap<Key, Ownership> {
    let Ledger { moment, owned: inventory, absent: absences, missing, .. } = ledger;
    let now = moment.at;
    let mut newest: HashMap<&str, SystemTime> = HashMap::new();
    let mut first_left: HashMap<&str, SystemTime> = HashMap::new();
    for (key, since) in absences.iter().filter(|(key, _)| inventory.contains_key(key)) {
        let first = first_left.entry(key.kind).or_insert(*since);
        *first = (*first).min(*since);
    }
    for (key, owned) in inventory.iter() {
        if let Some(at) = owned.created_at.filter(|_| !absences.contains_key(key)) {
            let newest = newest.entry(key.kind).or_insert(at);
            *newest = at.max(*newest);
        }
    }
    let ownership = |key: &Key, owned: state::Owned| Ownership {
        created: owned.created_at.is_some(),
        fresh: owned.created_at.is_some_and(|created| is_fresh(created, now)),
        replaced: absences.get(key).zip(newest.get(key.kind)).is_some_and(|(since, created)| created >= since),
        replaces: !absences.contains_key(key)
            && owned.created_at.zip(first_left.get(key.kind)).is_some_and(|(created, left)| created >= *left),
        protected: owned.protected,
        cascade_delete: owned.cascade_delete,
        missing_for: missing.get(key).map(|since| now.duration_since(*since).unwrap_or_default()),
    };
    inventory.iter().map(|(key, owned)| (key.clone(), ownership(key, *owned))).collect()
}

/// Is it a delete that took effect, though its answer is not there yet, or was lost?
fn is_gone(intent: &Intent, observed: &Observed) -> bool {
    let documents = observed.kinds.get(intent.key.kind).and_then(|documents| documents.as_ref().ok());
    let is_live = |documents: &resource::Documents| documents.keys().any(|key| *key == intent.key);
    intent.action == Action::Delete && documents.is_some_and(|documents| !is_live(documents))
}

fn window(lately: Lately) -> Window {
    let Lately { deleted, created, passing, rise } = lately;
    Window { deleted, created, passing, rise }
}

/// Was it created so recently that a list which lacks it proves nothing? A little ahead of the clock, where that is kept
/// right in passing, is recent as well.
pub fn is_fresh(created: SystemTime, now: SystemTime) -> bool {
    now.duration_since(created).unwrap_or_else(|ahead| ahead.duration()) < FRESH
}

/// Is `since` at least that long ago? A clock that was set back proves nothing.
pub fn has_passed(since: SystemTime, wait: Duration, now: SystemTime) -> bool {
    wait.is_zero() || now.duration_since(since).is_ok_and(|age| age >= wait)
}

/// What is left of a wait that began at `since`; `None` once it is over.
pub fn still_to_pass(since: SystemTime, wait: Duration, now: SystemTime) -> Option<Duration> {
    (!has_passed(since, wait, now)).then(|| wait.saturating_sub(now.duration_since(since).unwrap_or_default()))
}

fn refusal(observed: &Observed) -> Option<descope::Error> {
    let errors: Vec<&descope::Error> = observed.kinds.values().filter_map(|answer| answer.as_ref().err()).collect();
    let is_everything = !errors.is_empty() && errors.len() == observed.kinds.len();
    let unauthorized = errors.iter().find(|error| matches!(error, descope::Error::Unauthorized { .. }));
    let all_forbidden = errors.first().filter(|_| is_everything && errors.iter().all(|error| error.is_forbidden()));
    unauthorized.or(all_forbidden).map(|error| (*error).clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::MAIN;
    use crate::state::Occasion;
    use crate::state::State;

    /// An attribute whose create was cut off, and which left the files, was called not created: nobody had asked.
    #[tokio::test]
    async fn what_has_an_open_call_is_asked_for_by_its_name_though_no_file_declares_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap().project("h", "p", "o");
        let key = Key::new("tenantAttributes", "a");
        let create = Intent {
            key: key.clone(),
            part: MAIN,
            action: Action::Create,
            from: None,
            server_id: None,
            digest: [0; 32],
            seen: 0,
            protected: false,
            cascade_delete: false,
            approval: None,
            occasion: Occasion::default(),
        };
        state.begin([create]).await.unwrap();
        let desired = Desired { kinds: BTreeSet::new(), resources: std::iter::empty().collect() };
        let of = |kind| {
            let (owned, open) = (state.inventory().unwrap(), state.open_intents().unwrap());
            known_of(resource::kind(kind).unwrap(), &desired, &owned, &open)
        };

        assert_eq!(of("tenantAttributes"), [key].into());
        assert_eq!(of("accessKeyAttributes"), [].into());
    }

    #[test]
    fn two_minutes_count_on_either_side_of_the_clock() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);

        for (seconds, expected) in [(0, true), (119, true), (120, false)] {
            let apart = Duration::from_secs(seconds);
            assert_eq!((is_fresh(now - apart, now), is_fresh(now + apart, now)), (expected, expected), "{seconds} s");
        }
    }
}
