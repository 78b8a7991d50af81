//! What the rules say of a drawn input, worked out from the input and not the way the planner does it.

use super::inputs::Answer;
use super::inputs::BUILTIN_ROLE;
use super::inputs::Drawn;
use super::*;

/// Which changes an operator approved.
pub type Approved = BTreeSet<(Key, Action)>;

pub fn named(change: &Change) -> (Key, Action) {
    (change.key.clone(), change.action)
}

/// The new name that `old` is to get, or may have got.
fn heir<'a>(drawn: &'a Drawn, old: &Key) -> Option<&'a Declared> {
    let is_heir = |declared: &&Arc<Declared>| old_name(declared).as_ref() == Some(old);
    drawn.desired.resources.values().find(is_heir).map(Arc::as_ref)
}

fn old_name(declared: &Declared) -> Option<Key> {
    Some(Key { name: declared.renamed_from.clone()?, ..declared.key.clone() })
}

impl Drawn {
    pub fn is_declared(&self, key: &Key) -> bool {
        self.desired.resources.contains_key(key)
    }

    /// Is the kind looked at: mentioned or owned?
    fn is_managed(&self, kind: &str) -> bool {
        self.desired.kinds.contains(kind) || self.owned.keys().any(|key| key.kind == kind)
    }

    /// What Descope showed of it.
    pub fn listed(&self, key: &Key) -> Option<&Document> {
        let is_shown = self.is_managed(key.kind) && self.answers[key.kind] == Answer::Whole;
        self.world.live.get(key).filter(|_| is_shown)
    }

    fn is_builtin(&self, key: &Key) -> bool {
        let is_marked =
            self.world.live.get(key).is_some_and(|document| document.get("systemDefault") == Some(&json!(true)));
        is_marked || *key == Key::new("roles", BUILTIN_ROLE)
    }

    /// The present name of a resource that is to be renamed.
    pub fn renamed_now(&self, key: &Key) -> Option<Key> {
        let old = old_name(self.desired.resources.get(key)?)?;
        let is_open = self.listed(&old).is_some() && self.listed(key).is_none() && !self.is_builtin(&old);
        let is_open = is_open && !self.is_over(&old);
        is_open.then_some(old)
    }

    /// Its rename is done: what has the old name now is not ours.
    fn is_over(&self, old: &Key) -> bool {
        self.renamed && !self.owned.contains_key(old)
    }

    /// A declaration says what is to become of it under another name.
    fn is_spoken_of(&self, key: &Key) -> bool {
        heir(self, key).is_some_and(|heir| self.listed(&heir.key).is_none() || !self.renamed)
    }

    /// Deleting it takes its own roles along: one of them is declared, or protected, or ours and nobody knows what it is.
    fn holds_what_stays(&self, key: &Key) -> bool {
        let is_in = |role: &Key| key.kind == "tenants" && role.tenant.as_ref() == Some(&key.name);
        let protected = self.owned.iter().filter(|(_, ownership)| ownership.protected).map(|(key, _)| key);
        let is_unseen = |role: &Key| !self.is_managed(role.kind) || self.answers[role.kind] != Answer::Whole;
        let unseen = self.owned.keys().filter(|role| is_unseen(role));
        self.desired.resources.keys().chain(protected).chain(unseen).any(is_in)
    }

    /// May it be deleted at all, once nothing holds it?
    pub fn is_deletable(&self, key: &Key) -> bool {
        self.policy == Policy::Sync
            && self.owned.get(key).is_some_and(|ownership| !ownership.protected)
            && self.listed(key).is_some()
            && !self.is_declared(key)
            && !self.is_builtin(key)
            && !self.is_spoken_of(key)
            && !self.holds_what_stays(key)
    }

    pub fn permits(&self, change: &Change) -> bool {
        match (self.policy, change.action) {
            (Policy::Observe, _) => false,
            (Policy::CreateOnly, action) => action == Action::Create || self.finishes_a_create(change),
            (Policy::UpsertOnly, action) => action != Action::Delete,
            (Policy::Sync, _) => true,
        }
    }

    /// What we created still lacks the part that takes a call of its own.
    fn finishes_a_create(&self, change: &Change) -> bool {
        change.action == Action::Update
            && self.listed(&change.key).is_some()
            && self.owned.get(&change.key).is_some_and(|ownership| ownership.created)
            && change.fields.iter().all(|field| field.path == "defaultRoles")
            && self.sent == Sent::Unknown
    }

    /// Is it a project of which nobody said yet that its contents may be changed?
    pub fn is_held_whole(&self) -> bool {
        let kinds = || self.answers.iter().filter(|(kind, _)| self.is_managed(kind));
        let is_unknown = kinds().any(|(_, answer)| matches!(answer, Answer::Transient | Answer::Refused));
        let is_filled = self.world.live.keys().any(|key| self.listed(key).is_some() && !self.is_builtin(key));
        self.first_contact && (is_unknown || is_filled)
    }

    pub fn owned_of(&self, kind: &str) -> usize {
        self.owned.keys().filter(|key| key.kind == kind).count()
    }

    /// Which limits forbid the loss of `gone` resources of `owned`?
    fn exceeded(&self, kind: &str, gone: usize, owned: usize) -> Vec<Hold> {
        let most = self.guards.max_deletes.get(kind).unwrap_or(&self.guards.default_max_deletes);
        let is_over_share = owned >= 5 && is_more_than(self.guards.max_delete_percent, gone, owned);
        [(Hold::MaxDeletes, gone > *most), (Hold::MaxDeletePercent, is_over_share)]
            .into_iter()
            .filter_map(|(hold, is_exceeded)| is_exceeded.then_some(hold))
            .collect()
    }

    /// Does the list lack more of what is owned and still wanted than may go at once?
    pub fn is_shrunk(&self, kind: &str) -> bool {
        let is_lost = |(key, ownership): &(&Key, &Ownership)| {
            let wanted = self.desired.resources.get(*key).map(Arc::as_ref).or_else(|| heir(self, key));
            let is_there = |declared: &Declared| {
                let names = [Some(declared.key.clone()), old_name(declared).filter(|old| !self.is_over(old))];
                names.into_iter().flatten().any(|name| self.listed(&name).is_some())
            };
            key.kind == kind && !ownership.fresh && wanted.is_some_and(|wanted| !is_there(wanted))
        };
        let lost = self.owned.iter().filter(is_lost).count();
        self.answers[kind] == Answer::Whole && !self.exceeded(kind, lost, self.owned_of(kind)).is_empty()
    }

    /// Why `deletes` of this kind at once are too many.
    pub fn against_deletes(&self, kind: &str, deletes: usize) -> Vec<Hold> {
        let window = self.windows[kind];
        let gone = window.deleted + deletes;
        let owned_with_new = self.owned_of(kind) + window.deleted;
        let mut found = self.exceeded(kind, gone, owned_with_new - window.created);
        // What was filled today owned next to nothing when the day began.
        found.extend(self.exceeded(kind, gone, owned_with_new));
        if !self.desired.resources.keys().any(|key| key.kind == kind) {
            found.push(Hold::KindEmptied);
        }
        if has_rename(kind) && (self.creates(kind) || self.refuses_a_rename(kind)) {
            found.push(Hold::MaybeRename);
        }
        found
    }

    /// Is something of this kind created, now or once what it refers to can be seen?
    fn creates(&self, kind: &str) -> bool {
        self.desired.resources.keys().any(|key| {
            let is_on_its_way = self.owned.get(key).is_some_and(|ownership| ownership.fresh);
            let is_renamed = self.desired.resources[key].renamed_from.is_some()
                && old_name(&self.desired.resources[key])
                    .is_some_and(|old| self.listed(&old).is_some() && !self.is_over(&old));
            key.kind == kind && self.listed(key).is_none() && !is_on_its_way && !is_renamed
        })
    }

    /// Is a rename of what is built in, or onto something that is there, declared and not done?
    fn refuses_a_rename(&self, kind: &str) -> bool {
        self.desired.resources.values().filter(|declared| declared.key.kind == kind).any(|declared| {
            let old = old_name(declared).filter(|old| self.listed(old).is_some() && !self.is_over(old));
            let is_there = self.listed(&declared.key).is_some() && !self.renamed;
            old.is_some_and(|old| self.is_builtin(&old) || is_there)
        })
    }

    pub fn are_too_many_updates(&self, kind: &str, updates: usize) -> bool {
        let owned = self.owned_of(kind);
        self.guards.max_change_percent.is_some_and(|percent| owned >= 5 && is_more_than(percent, updates, owned))
    }

    /// All that stands in the way of a change, but for what it waits for.
    pub fn reasons(&self, change: &Change, plan: &Plan) -> BTreeSet<Hold> {
        let kind = change.key.kind;
        let mut reasons = BTreeSet::new();
        reasons.extend((!self.permits(change)).then_some(Hold::Policy));
        reasons.extend(self.is_held_whole().then_some(Hold::FirstContact));
        reasons.extend(self.is_shrunk(kind).then_some(Hold::ObservationShrank));
        if change.action == Action::Delete {
            let deletes = self.world.live.keys().filter(|key| key.kind == kind && self.is_deletable(key)).count();
            reasons.extend(self.against_deletes(kind, deletes));
            reasons.extend((has_rename(kind) && self.owned[&change.key].replaced).then_some(Hold::MaybeRename));
            reasons.extend((!self.due.contains(&change.key)).then_some(Hold::DeleteAfter));
        } else if change.action != Action::Create {
            let is_update = |change: &&Change| matches!(change.action, Action::Update | Action::Rename);
            let updates = plan.changes.iter().filter(is_update).filter(|change| change.key.kind == kind).count();
            reasons.extend(self.are_too_many_updates(kind, updates).then_some(Hold::MaxChangePercent));
        }
        reasons
    }
}

pub fn has_rename(kind: &str) -> bool {
    resource::kind(kind).unwrap().has_rename()
}

#[allow(clippy::cast_precision_loss, reason = "a handful")]
fn is_more_than(percent: f64, part: usize, whole: usize) -> bool {
    part as f64 / whole as f64 > percent / 100.0
}
