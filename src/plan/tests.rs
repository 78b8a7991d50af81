//! Plans, and what comes of them in a model of the API at its worst: overwriting resets what is left out, a patch
//! takes its values as they are, references follow renames.

use super::guards::Most;
use super::guards::Referrer;
use super::*;
use crate::descope;
use crate::desired::Declared;
use crate::resource::Document;
use crate::resource::Documents;
use crate::resource::MAIN;
use crate::resource::Write;
use crate::resource::refer;
use crate::resource::remember;
use serde_json::json;
use tokio::time::Instant;

mod changes;
mod draws;
mod drift;
mod guards;
mod ids;
mod inputs;
mod invariants;
mod model;
mod oracle;
mod properties;

/// The live side.
#[derive(Debug, Clone, Default)]
struct World {
    live: BTreeMap<Key, Document>,
}

impl World {
    fn observed(&self) -> Observed {
        let of_kind = |kind: &dyn Kind| {
            let live = self.live.iter().filter(|(key, _)| key.kind == kind.name());
            Documents::of_kind(kind, live.map(|(_, document)| document.clone()))
        };
        let kinds = resource::ALL.iter().map(|kind| (kind.name(), Ok(of_kind(*kind)))).collect();
        Observed { began: Instant::now(), kinds, unread: BTreeMap::new() }
    }

    fn apply(&mut self, task: &Task, desired: &Desired) {
        let key = &task.slot.key;
        match &task.write.unpack() {
            Write::Create(body) => {
                assert!(!self.live.contains_key(key), "{key} is created twice");
                let references = resource::kind(key.kind).unwrap().references(key, body, Some(MAIN));
                for reference in references.iter().filter(|key| desired.resources.contains_key(key)) {
                    assert!(self.live.contains_key(reference), "{key} is created before {reference}");
                }
                self.live.insert(key.clone(), body.clone());
            }
            Write::Overwrite { body, .. } if task.slot.part != MAIN => {
                for name in body["defaultRoles"].as_array().unwrap() {
                    let is_role = |key: &&Key| key.kind == "roles" && json!(*key.name) == *name;
                    assert!(self.live.keys().any(|key| is_role(&key)), "default role {name} does not exist yet");
                }
                self.live.get_mut(key).unwrap().extend(body.clone());
            }
            Write::Overwrite { from, body } => {
                let old = Key { name: from.clone(), ..key.clone() };
                let before = self.live.remove(&old).unwrap_or_else(|| panic!("{old} is not there"));
                let mut after = body.clone();
                if let Some(new_name) = after.remove("newName") {
                    after.insert("name".to_owned(), new_name);
                }
                let is_of_the_server = |name: &str| {
                    let field = resource::kind(key.kind).unwrap().spec().field(name);
                    field.is_some_and(|(_, field)| !field.is_declarable())
                };
                after.extend(before.into_iter().filter(|(name, _)| is_of_the_server(name)));
                self.live.insert(key.clone(), after);
                if old != *key {
                    self.follow(&old, key);
                }
            }
            Write::Patch(body) => {
                self.live.get_mut(key).unwrap().extend(body.clone());
            }
            Write::Delete { .. } => {
                self.let_go(key, desired);
                assert!(self.live.remove(key).is_some(), "{key} is deleted twice");
            }
        }
    }

    /// Deleting something in use takes it out of what refers to it. Fields that the YAML writes must have let go before.
    fn let_go(&mut self, gone: &Key, desired: &Desired) {
        for (key, document) in &mut self.live {
            if key.tenant.is_some() && gone.kind == "tenants" {
                assert!(key.tenant.as_ref() != Some(&gone.name), "{gone} is deleted before {key}");
            }
            for (field, kind) in [("permissionNames", "permissions"), ("defaultRoles", "roles")] {
                let Some(Value::Array(names)) = document.get_mut(field) else { continue };
                if kind == gone.kind && gone.tenant.is_none() && names.contains(&json!(*gone.name)) {
                    let is_declared = desired.resources.get(key).is_some_and(|d| d.fields.contains_key(field));
                    assert!(!is_declared, "{gone} is deleted while {key} refers to it");
                    names.retain(|name| *name != json!(*gone.name));
                }
            }
        }
    }

    fn follow(&mut self, old: &Key, new: &Key) {
        let renames = BTreeMap::from([(new.clone(), old.clone())]);
        for (key, document) in &mut self.live {
            let spec = resource::kind(key.kind).unwrap().spec();
            refer::rename_references(spec, key, document, &renames);
        }
    }
}

fn document(value: Value) -> Document {
    let Value::Object(document) = value else { panic!("not an object") };
    document
}

const ALL: Most = Most { default: 1000, by_kind: BTreeMap::new(), percent: 100.0 };
const GUARDS: Guards =
    Guards { deletes: ALL, missing: ALL, max_change_percent: None, weakening: Watch::Hold, lockout: Watch::Hold };

/// So many of a kind.
fn most(default: usize) -> Most {
    Most { default, ..ALL }
}

/// What a plan is made from; what a test does not set stands in nobody's way.
struct Case<'a> {
    scope: &'a str,
    desired: &'a Desired,
    observed: Observed,
    owned: BTreeMap<Key, Ownership>,
    ids: HashMap<Key, Arc<str>>,
    sent: Sent,
    /// Of what was declared when its resource was made, and written by another call.
    along: Sent,
    renamed: bool,
    policy: Policy,
    guards: Guards,
    first_contact: bool,
    former: Option<&'a Former>,
    /// Kinds and fields that were never seen before.
    unknown: BTreeSet<(&'static str, &'static str)>,
    windows: BTreeMap<&'static str, Window>,
    may_delete: bool,
    is_approved: &'a dyn Fn(&str) -> bool,
}

impl<'a> Case<'a> {
    fn of(desired: &'a Desired, world: &World) -> Self {
        Self {
            scope: "production",
            desired,
            observed: world.observed(),
            owned: BTreeMap::new(),
            ids: HashMap::new(),
            sent: Sent::Same,
            along: Sent::Unknown,
            renamed: false,
            policy: Policy::UpsertOnly,
            guards: GUARDS,
            first_contact: false,
            former: None,
            unknown: BTreeSet::new(),
            windows: BTreeMap::new(),
            may_delete: true,
            is_approved: &|_| false,
        }
    }

    fn plan(&self) -> Plan {
        self.plan_when(&|_| self.may_delete)
    }

    fn plan_when(&self, may_delete: &dyn Fn(&Key) -> bool) -> Plan {
        self.with_inputs(may_delete, diff)
    }

    fn with_inputs<T>(&self, may_delete: &dyn Fn(&Key) -> bool, work: impl FnOnce(&Inputs<'_>) -> T) -> T {
        work(&Inputs {
            scope: self.scope,
            desired: self.desired,
            observed: &self.observed,
            owned: &self.owned,
            ids: &self.ids,
            sent: &|_, path, _| if path.ends_with(remember::ALONG) { self.along } else { self.sent },
            secret: &|_, _, _| Ok(self.sent),
            document: &|_, _, _, _| false,
            previews: &BTreeMap::new(),
            renamed: &|_, _| self.renamed,
            policy: self.policy,
            builtin_roles: &["Tenant Admin".to_owned()],
            guards: &self.guards,
            first_contact: self.first_contact,
            former: self.former,
            holds_contact: true,
            is_contacted: &|kind, field| !self.unknown.contains(&(kind, field)),
            windows: &self.windows,
            may_delete,
            contested: &|_| None,
            drift: &DriftRules::HEAL,
            applied: &|_| None,
            drifted_since: &|_, _| None,
            now: SystemTime::UNIX_EPOCH,
            lost: &BTreeMap::new(),
            volume: &|| None,
            place: &|_| 0,
            is_approved: self.is_approved,
        })
    }
}

/// With everything approved that a guard holds.
fn planned(desired: &Desired, world: &World, owned: &BTreeMap<Key, Ownership>, policy: Policy) -> Plan {
    Case { owned: owned.clone(), policy, is_approved: &|_| true, ..Case::of(desired, world) }.plan()
}

fn timeout() -> descope::Error {
    let after = std::time::Duration::from_secs(30);
    descope::Error::Timeout { operation: "GET /v1/mgmt/permission/all", after, is_cut: false }
}

fn held(plan: &Plan, name: &str) -> Option<Hold> {
    plan.changes.iter().find(|change| *change.key.name == *name).unwrap().held
}

fn declared(key: Key, fields: Value) -> Declared {
    Declared {
        key,
        fields: document(fields).into(),
        protected: None,
        renamed_from: None,
        cascade_delete: None,
        secret_file: None,
        place: Place { file: "a.yaml".into(), line: 1, column: 1 },
    }
}

fn desired_of(resources: Vec<Declared>) -> Desired {
    let kinds = resources.iter().map(|declared| declared.key.kind).collect();
    Desired { kinds, resources: resources.into_iter().map(Arc::new).collect() }
}

/// The live form: all fields present, server-set and unknown ones among them.
fn live(side: &[(Key, Value)]) -> World {
    let whole = |key: &Key, fields: &Value| {
        let mut whole = match key.kind {
            "permissions" => json!({ "id": "PERM1", "name": *key.name, "description": "", "systemDefault": false }),
            "roles" => json!({
                "id": "ROL1", "createdTime": 7, "name": *key.name, "tenantId": key.tenant.as_deref().unwrap_or(""),
                "description": "", "permissionNames": [], "default": false, "private": false,
            }),
            "ssoApplications" => json!({
                "id": *key.name, "type": "saml", "name": "App", "description": "", "groupsMapping": [], "entityId": "e",
            }),
            "passwordSettings" => json!({ "enabled": false, "minLength": 8 }),
            _ => json!({
                "id": *key.name, "selfProvisioningDomains": [], "customAttributes": {}, "authType": "none",
                "domains": [], "createdTime": 7, "enforceSSO": false, "disabled": false, "roleInheritance": "",
                "defaultRoles": [],
            }),
        };
        for (name, value) in fields.as_object().unwrap().iter().filter(|(_, value)| !value.is_null()) {
            let value = match value {
                Value::Object(entries) => Value::Object(
                    entries.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect(),
                ),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => value.clone(),
            };
            whole[name.as_str()] = value;
        }
        whole["futureField"] = json!("kept");
        document(whole)
    };
    World { live: side.iter().map(|(key, fields)| (key.clone(), whole(key, fields))).collect() }
}

fn desired(side: &[(Key, Value)]) -> Desired {
    let mut desired = desired_of(side.iter().map(|(key, fields)| declared(key.clone(), fields.clone())).collect());
    desired.kinds = resource::ALL.iter().map(|kind| kind.name()).collect();
    desired
}

fn owning(world: &World) -> BTreeMap<Key, Ownership> {
    world.live.keys().map(|key| (key.clone(), Ownership::default())).collect()
}

/// Runs the tasks as the queue would: by stage, then batch.
fn carry_out(mut plan: Plan, world: &mut World, desired: &Desired) {
    let mut tasks = plan.take_tasks(&Arc::default());
    tasks.sort_by_key(|task| (task.stage, task.batch));
    for task in &tasks {
        world.apply(task, desired);
    }
}
