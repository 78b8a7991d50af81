//! What the rules say of a drawn input, worked out from the input and not the way the planner does it.

use super::inputs::Answer;
use super::inputs::BUILTIN_ROLE;
use super::inputs::Drawn;
use super::*;

/// Tells changes of one plan apart.
pub type Name = (Key, Action, Option<&'static str>);

/// Which changes an operator approved.
pub type Approved = BTreeSet<Name>;

pub fn named(change: &Change) -> Name {
    (change.key.clone(), change.action, change.tasks.first().map(|task| task.slot.part))
}

/// What a document names, by the call that writes it.
fn names(key: &Key, document: &Document) -> BTreeSet<(&'static str, Key)> {
    let texts = |field: &str| -> Vec<String> {
        let values = match document.get(field) {
            Some(Value::Array(values)) => values.clone(),
            Some(value) => vec![value.clone()],
            None => Vec::new(),
        };
        values.iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned).collect()
    };
    let mut names = BTreeSet::new();
    if key.kind == "roles" {
        names.extend(texts("permissionNames").iter().map(|name| (resource::MAIN, Key::new("permissions", name))));
        names.extend(key.home().map(|tenant| (resource::MAIN, tenant)));
    }
    if key.kind == "ssoApplications" {
        let items = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
        let groups = items(document.get("groupsMapping")).into_iter();
        let roles = groups.flat_map(|group| items(group.get("roles")));
        let roles = roles.filter_map(|role| Some(Key::new("roles", role.get("name")?.as_str()?)));
        names.extend(roles.map(|role| (resource::MAIN, role)));
    }
    if key.kind == "tenants" {
        names.extend(texts("parent").iter().map(|name| (resource::MAIN, Key::new("tenants", name))));
        names.extend(texts("federatedAppIds").iter().map(|id| (resource::MAIN, Key::new("ssoApplications", id))));
        let attributes = document.get("customAttributes").and_then(Value::as_object).into_iter().flatten();
        let attributes = attributes.filter(|(_, value)| !value.is_null());
        names.extend(attributes.map(|(name, _)| (resource::MAIN, Key::new("tenantAttributes", name))));
        for name in texts("defaultRoles") {
            names.insert(("defaultRoles", Key::new("roles", &name)));
            names.insert(("defaultRoles", Key::in_tenant("roles", &key.name, &name)));
        }
    }
    names
}

/// Everybody who refers to something that is to be deleted.
#[derive(Debug, Default)]
pub struct Referrers {
    declared: BTreeSet<Key>,
    pub undeclared: BTreeSet<Key>,
    pub unseen: BTreeSet<&'static str>,
    /// Its list says that it has SSO, which nobody declares and so nobody looks at.
    pub hidden: BTreeSet<Key>,
    letting_go: BTreeSet<(Key, &'static str)>,
    together: BTreeSet<Key>,
}

/// The new name that `old` is to get, or may have got.
fn heir<'a>(drawn: &'a Drawn, old: &Key) -> Option<&'a Declared> {
    let is_heir = |declared: &&Arc<Declared>| old_name(declared).as_ref() == Some(old);
    drawn.desired.resources.values().find(is_heir).map(Arc::as_ref)
}

fn old_name(declared: &Declared) -> Option<Key> {
    Some(Key { name: declared.renamed_from.clone()?, ..declared.key.clone() })
}

/// May the SSO of this tenant, which no draw declares, map to it?
fn hides(key: &Key, document: &Document, gone: &Key) -> bool {
    let is_in_reach = gone.tenant.as_ref().is_none_or(|tenant| *tenant == key.name);
    key.kind == "tenants" && gone.kind == "roles" && is_in_reach && document.get("authType") == Some(&json!("saml"))
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

    /// Deleting it takes its own roles along: one of them is protected, or ours and nobody knows what it is. What is declared
    /// is told as what refers to it.
    fn holds_what_stays(&self, key: &Key) -> bool {
        let is_in = |role: &Key| key.kind == "tenants" && role.tenant.as_ref() == Some(&key.name);
        let protected = self.owned.iter().filter(|(_, ownership)| ownership.protected).map(|(key, _)| key);
        let is_unseen = |role: &Key| !self.is_managed(role.kind) || self.answers[role.kind] != Answer::Whole;
        let unseen = self.owned.keys().filter(|role| is_unseen(role));
        protected.chain(unseen).any(|role| is_in(role) && !self.is_declared(role))
    }

    /// May it be deleted at all, once nothing holds it?
    pub fn is_deletable(&self, key: &Key) -> bool {
        self.policy == Policy::Sync
            && self.owned.get(key).is_some_and(|ownership| !ownership.protected)
            && self.listed(key).is_some()
            && key.kind != "passwordSettings"
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
            && change.fields.list().iter().all(|field| matches!(&*field.path, "defaultRoles" | "enforceSSO"))
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
        let limit = &self.guards.deletes;
        let most = limit.by_kind.get(kind).unwrap_or(&limit.default);
        let is_over_share = owned >= 5 && is_more_than(limit.percent, gone, owned);
        [(Hold::MaxDeletes, gone > *most), (Hold::MaxDeletePercent, is_over_share)]
            .into_iter()
            .filter_map(|(hold, is_exceeded)| is_exceeded.then_some(hold))
            .collect()
    }

    /// Does the list lack more of what is owned and still wanted than may go at once?
    pub fn is_shrunk(&self, kind: &str) -> bool {
        let is_lost = |(key, ownership): &(&Key, &Ownership)| {
            let wanted = self.desired.resources.get(key).map(Arc::as_ref).or_else(|| heir(self, key));
            let is_there = |declared: &Declared| {
                let names = [Some(declared.key.clone()), old_name(declared).filter(|old| !self.is_over(old))];
                names.into_iter().flatten().any(|name| self.listed(&name).is_some())
            };
            let leaves = || {
                let is_recent = ownership.missing_for.is_none_or(|time| time.as_secs() < 3600);
                let is_told_of = heir(self, key).is_some();
                self.policy == Policy::Sync
                    && !ownership.protected
                    && is_recent
                    && !is_told_of
                    && self.listed(key).is_none()
            };
            let is_missed = wanted.map_or_else(leaves, |wanted| !is_there(wanted));
            key.kind == kind && !ownership.fresh && is_missed
        };
        let lost = self.owned.iter().filter(is_lost).count();
        let (owned, limit) = (self.owned_of(kind), &self.guards.missing);
        let is_too_much = lost > *limit.by_kind.get(kind).unwrap_or(&limit.default)
            || owned >= 5 && is_more_than(limit.percent, lost, owned);
        self.answers[kind] == Answer::Whole && is_too_much
    }

    /// Is it ours, declared nowhere and in no list, and that too new to prove anything?
    fn is_missing(&self, key: &Key) -> bool {
        let wait = if self.is_shrunk(key.kind) { 3600 } else { 120 };
        let is_recent = self.owned[key].missing_for.is_none_or(|time| time.as_secs() < wait);
        let is_seen = self.answers[key.kind] == Answer::Whole && self.listed(key).is_none();
        is_seen && is_recent && !self.is_declared(key)
    }

    /// Why `deletes` of this kind at once are too many.
    pub fn against_deletes(&self, kind: &str, deletes: usize) -> Vec<Hold> {
        let window = self.windows[kind];
        let gone = window.deleted + deletes;
        let began = (self.owned_of(kind) + window.deleted).saturating_sub(window.created + window.passing);
        let mut found = self.exceeded(kind, gone, began);
        // What was filled today owned next to nothing when the day began.
        found.extend(self.exceeded(kind, gone, began + window.rise));
        if !self.desired.resources.keys().any(|key| key.kind == kind) {
            found.push(Hold::KindEmptied);
        }
        if has_rename(kind) && self.refuses_a_rename(kind) {
            found.push(Hold::MaybeRename(NewName::Refused));
        } else if has_rename(kind) && self.creates(kind) {
            found.push(Hold::MaybeRename(NewName::Planned));
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

    /// What it names once the renames are done: a new name may be one that another resource has in a tenant.
    fn with_new_names(&self, key: &Key, document: &Document) -> Document {
        let mut document = document.clone();
        for (field, kind) in [("permissionNames", "permissions"), ("defaultRoles", "roles")] {
            let Some(names) = document.get_mut(field).and_then(Value::as_array_mut) else { continue };
            for name in names {
                let is_it = |old: &Key| {
                    let is_in_reach = old.tenant.is_none() || old.tenant.as_ref() == Some(&key.name);
                    old.kind == kind && is_in_reach && name.as_str() == Some(&*old.name)
                };
                let mut new =
                    self.desired.resources.keys().filter(|new| self.renamed_now(new).as_ref().is_some_and(is_it));
                if let Some(new) = new.next() {
                    *name = json!(*new.name);
                }
            }
        }
        let mut groups = document.get_mut("groupsMapping").and_then(Value::as_array_mut);
        let groups = groups.iter_mut().flat_map(|groups| groups.iter_mut());
        let roles = groups.filter_map(|group| group.get_mut("roles")?.as_array_mut()).flatten();
        for role in roles {
            let is_it = |old: &Key| *old == Key::new("roles", role["name"].as_str().unwrap_or_default());
            let new = self.desired.resources.keys().find(|new| self.renamed_now(new).as_ref().is_some_and(is_it));
            if let Some(new) = new {
                role["name"] = json!(*new.name);
            }
        }
        document
    }

    /// Would the call that it takes reset a rule that nobody declares, and that no answer shows?
    pub fn would_reset(&self, change: &Change) -> bool {
        let rules = ["anyLetter", "disallowEmailMatch", "disallowedCharacters"];
        let (Some(declared), Some(live)) = (self.desired.resources.get(&change.key), self.listed(&change.key)) else {
            return false;
        };
        let is_lost = |rule: &&str| !declared.fields.contains_key(rule) && !live.contains_key(*rule);
        change.key.kind == "passwordSettings" && change.action == Action::Update && rules.iter().any(is_lost)
    }

    /// Who refers to this one, which is to be deleted.
    pub fn referrers(&self, gone: &Key) -> Referrers {
        let mut found = Referrers::default();
        for declared in self.desired.resources.values() {
            let all = names(&declared.key, &declared.fields.to_document());
            let is_meant =
                |(_, key): &(&'static str, Key)| (key.kind, &key.name) == (gone.kind, &gone.name) && key != gone;
            if !all.iter().any(|(_, key)| key == gone) {
            } else if all.iter().filter(|name| is_meant(name)).any(|(_, key)| self.is_declared(key)) {
                found.undeclared.insert(declared.key.clone());
            } else {
                found.declared.insert(declared.key.clone());
            }
        }
        let listed = self.world.live.keys().filter_map(|key| Some((key, self.listed(key)?)));
        for (key, document) in listed.filter(|(key, _)| *key != gone) {
            let document = &self.with_new_names(key, document);
            let now =
                self.desired.resources.values().find(|declared| self.renamed_now(&declared.key).as_ref() == Some(key));
            let declared = now.or_else(|| self.desired.resources.get(key)).filter(|_| !self.is_builtin(key));
            if hides(key, document, gone) {
                if self.is_deletable(key) {
                    found.together.insert(key.clone());
                } else if !found.declared.contains(key) {
                    found.hidden.insert(key.clone());
                }
            }
            for (part, _) in names(key, document).iter().filter(|(_, named)| named == gone) {
                if self.is_deletable(key) {
                    found.together.insert(key.clone());
                    continue;
                }
                let Some(declared) = declared else {
                    found.undeclared.insert(key.clone());
                    continue;
                };
                let mut after = document.clone();
                after.extend(declared.fields.to_document());
                if found.declared.contains(&declared.key) {
                } else if names(key, &after).iter().any(|(_, named)| named == gone) {
                    found.undeclared.insert(declared.key.clone());
                } else {
                    found.letting_go.insert((declared.key.clone(), *part));
                }
            }
        }
        let reach: [(&'static str, &[&str]); 6] = [
            ("roles", &["permissions", "tenants"]),
            ("tenants", &["roles", "tenants", "ssoApplications", "tenantAttributes"]),
            ("ssoApplications", &["roles", "ssoApplicationAttributes"]),
            ("outboundApps", &["tenants"]),
            ("accessKeys", &["roles", "tenants", "accessKeyAttributes"]),
            ("flows", &["roles"]),
        ];
        let is_unseen = |kind: &str| self.is_managed(kind) && self.answers[kind] != Answer::Whole;
        let unseen = reach.iter().filter(|(kind, named)| named.contains(&gone.kind) && is_unseen(kind));
        found.unseen = unseen.map(|(kind, _)| *kind).collect();
        found
    }

    /// Is something of a kind that may refer to it held, whose list lacks too much? Not what was approved, and so the loss
    /// accepted, and waits for something else.
    pub fn is_doubted(&self, gone: &Key, plan: &Plan, approved: &Approved) -> bool {
        plan.changes.iter().any(|change| {
            let is_lacking = self.is_shrunk(change.key.kind) && may_name(&change.key, gone);
            is_lacking && change.held.is_some() && !approved.contains(&named(change))
        })
    }

    /// What referrers are a reason for.
    fn referred(&self, gone: &Key, plan: &Plan, approved: &Approved) -> BTreeSet<Hold> {
        let Referrers { declared, undeclared, unseen, hidden, letting_go, .. } = self.referrers(gone);
        let has_let_go = |(key, part): &(Key, &'static str)| {
            let mut of_it = plan.changes.iter().filter(|change| change.key == *key && change.held.is_none());
            of_it.any(|change| change.tasks.iter().any(|task| task.slot.part == *part))
        };
        let mut unlisted = plan.unlisted.iter().chain(self.owned.keys().filter(|key| self.is_missing(key)));
        let is_unlisted = unlisted.any(|key| key != gone && may_name(key, gone) && !declared.contains(key));
        [
            (!declared.is_empty(), Hold::StillDeclared),
            (!undeclared.is_empty(), Hold::StillReferenced(Referrer::Undeclared)),
            (!unseen.is_empty() || !hidden.is_empty(), Hold::StillReferenced(Referrer::Unseen)),
            (self.is_doubted(gone, plan, approved), Hold::ObservationShrank),
            (is_unlisted || !letting_go.iter().all(has_let_go), Hold::Blocked),
        ]
        .into_iter()
        .filter_map(|(is_so, hold)| is_so.then_some(hold))
        .collect()
    }

    /// Does it change or clear something of a kind or a part that nobody let go ahead before?
    pub fn is_first_contact(&self, change: &Change, plan: &Plan) -> bool {
        let kind = change.key.kind;
        let is_seen = self.desired.kinds.contains(kind) && self.answers[kind] == Answer::Whole;
        let identity = if matches!(kind, "tenants" | "ssoApplications") { "id" } else { "name" };
        let is_new = |field: &FieldChange| {
            let name = field.path.split(['.', '[']).next().unwrap_or_default();
            let is_ours = self.owned.get(&change.key).is_some_and(|ownership| ownership.created);
            let is_missing = is_ours && has_own_call(name) && resource::fold::is_zero(&field.from);
            self.unknown.iter().any(|(of, unknown)| *of == kind && *unknown == name)
                && !is_missing
                && self.sent == Sent::Unknown
        };
        self.holds_contact
            && is_seen
            && match change.action {
                Action::Create => false,
                Action::Rename | Action::Delete => self.unknown.contains(&(kind, identity)),
                Action::Update if plan.unlisted.contains(&change.key) || self.finishes_a_create(change) => false,
                Action::Update => change.fields.list().iter().any(is_new),
            }
    }

    /// What it lowers or locks of something that lives, and what the guard against it does.
    pub fn dangers(&self, change: &Change) -> Vec<(Hold, Watch)> {
        let is_on = |value: Option<&Value>| value == Some(&json!(true));
        let Some(live) = self.listed(&change.key).filter(|_| change.action == Action::Update) else { return vec![] };
        let danger = |field: &FieldChange| {
            let (from, to) = (is_on(live.get(&*field.path)), is_on(Some(&field.to)));
            let has_sso = live.get("authType") == Some(&json!("saml"));
            match (change.key.kind, &*field.path, from, to) {
                ("tenants", "enforceSSO", true, false) => Some((Hold::Weakening, self.guards.weakening)),
                ("tenants", "enforceSSO", false, true) if !has_sso => Some((Hold::Lockout, self.guards.lockout)),
                ("tenants", "disabled", false, true) | ("passwordSettings", "enabled", true, false) => {
                    Some((Hold::Lockout, self.guards.lockout))
                }
                _ => None,
            }
        };
        change.fields.list().iter().filter_map(danger).collect()
    }

    /// What the plan deletes together with this and what refers to it.
    pub fn deleted_with(&self, gone: &Key) -> BTreeSet<Key> {
        self.referrers(gone).together
    }

    pub fn are_too_many_updates(&self, kind: &str, updates: usize) -> bool {
        let owned = self.owned_of(kind);
        self.guards.max_change_percent.is_some_and(|percent| owned >= 5 && is_more_than(percent, updates, owned))
    }

    /// All that stands in the way of a change, but for what it waits for.
    pub fn reasons(&self, change: &Change, plan: &Plan, approved: &Approved) -> BTreeSet<Hold> {
        let kind = change.key.kind;
        let mut reasons = BTreeSet::new();
        reasons.extend((!self.permits(change)).then_some(Hold::Policy));
        reasons.extend(self.is_held_whole().then_some(Hold::FirstContact(Contact::Project)));
        reasons.extend(self.is_first_contact(change, plan).then_some(Hold::FirstContact(Contact::Part)));
        reasons.extend(self.is_shrunk(kind).then_some(Hold::ObservationShrank));
        reasons.extend(self.would_reset(change).then_some(Hold::WouldReset));
        reasons.extend(
            self.dangers(change).into_iter().filter_map(|(hold, watch)| (watch == Watch::Hold).then_some(hold)),
        );
        let is_contested = change.action == Action::Update && self.contested.contains(&change.key);
        reasons.extend(is_contested.then_some(Hold::Contested));
        if change.action == Action::Delete {
            reasons.extend(self.referred(&change.key, plan, approved));
            let deletes = self.world.live.keys().filter(|key| key.kind == kind && self.is_deletable(key)).count();
            reasons.extend(self.against_deletes(kind, deletes));
            reasons.extend(
                (has_rename(kind) && self.owned[&change.key].replaced).then_some(Hold::MaybeRename(NewName::Made)),
            );
            reasons.extend((!self.due.contains(&change.key)).then_some(Hold::DeleteAfter));
        } else if change.action != Action::Create {
            let is_update = |change: &&Change| matches!(change.action, Action::Update | Action::Rename);
            let updates = plan.changes.iter().filter(is_update).filter(|change| change.key.kind == kind);
            // One resource may have a change for each of its calls.
            let updates = updates.map(|change| &change.key).collect::<BTreeSet<_>>().len();
            reasons.extend(self.are_too_many_updates(kind, updates).then_some(Hold::MaxChangePercent));
        }
        reasons
    }
}

/// Is it in none of the calls that create a tenant?
fn has_own_call(field: &str) -> bool {
    matches!(field, "defaultRoles" | "enforceSSO")
}

fn may_name(key: &Key, gone: &Key) -> bool {
    match key.kind {
        "roles" => matches!(gone.kind, "permissions" | "tenants"),
        "tenants" => matches!(gone.kind, "roles" | "tenants" | "ssoApplications" | "tenantAttributes"),
        "ssoApplications" => matches!(gone.kind, "roles" | "ssoApplicationAttributes"),
        _ => false,
    }
}

pub fn has_rename(kind: &str) -> bool {
    resource::kind(kind).unwrap().has_rename()
}

#[allow(clippy::cast_precision_loss, reason = "a handful")]
fn is_more_than(percent: f64, part: usize, whole: usize) -> bool {
    part as f64 / whole as f64 > percent / 100.0
}
