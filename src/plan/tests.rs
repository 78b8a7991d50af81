//! Properties of a plan, against a model of the API at its worst: overwriting resets what is left out, a patch ignores
//! empty values and merges maps, references follow renames.

use super::*;
use crate::descope;
use proptest::prelude::*;
use serde_json::json;

/// The live side.
#[derive(Debug, Clone, Default)]
struct World {
    live: BTreeMap<Key, Document>,
}

impl World {
    fn observed(&self) -> Observed {
        let mut kinds: BTreeMap<&'static str, Result<Vec<Document>, descope::Error>> =
            resource::ALL.iter().map(|kind| (kind.name(), Ok(Vec::new()))).collect();
        for (key, document) in &self.live {
            if let Some(Ok(documents)) = kinds.get_mut(key.kind) {
                documents.push(document.clone());
            }
        }
        Observed { began: Instant::now(), kinds }
    }

    fn apply(&mut self, task: &Task, desired: &Desired) {
        let key = &task.slot.key;
        match &task.write {
            Write::Create(body) => {
                assert!(!self.live.contains_key(key), "{key} is created twice");
                for reference in resource::kind(key.kind).unwrap().references(body, Part::Main) {
                    assert!(self.live.contains_key(&reference), "{key} is created before {reference}");
                }
                self.live.insert(key.clone(), body.clone());
            }
            Write::Overwrite { from, body } => {
                let old = Key { name: from.clone(), ..key.clone() };
                let before = self.live.remove(&old).unwrap_or_else(|| panic!("{old} is not there"));
                let mut after = body.clone();
                if let Some(new_name) = after.remove("newName") {
                    after.insert("name".to_owned(), new_name);
                }
                for name in resource::kind(key.kind).unwrap().computed() {
                    if let Some(value) = before.get(*name) {
                        after.insert((*name).to_owned(), value.clone());
                    }
                }
                self.live.insert(key.clone(), after);
                if old != *key {
                    self.follow(&old, key);
                }
            }
            Write::Patch(body) => {
                let document = self.live.get_mut(key).unwrap();
                for (name, value) in body.iter().filter(|(_, value)| !compare::is_zero(value) || value.is_boolean()) {
                    match (document.get_mut(name), value) {
                        (Some(Value::Object(entries)), Value::Object(news)) => entries.extend(news.clone()),
                        _ => {
                            document.insert(name.clone(), value.clone());
                        }
                    }
                }
            }
            Write::DefaultRoles(names) => {
                for name in names {
                    let is_role = |key: &&Key| key.kind == "roles" && *key.name == **name;
                    assert!(self.live.keys().any(|key| is_role(&key)), "default role {name} does not exist yet");
                }
                self.live.get_mut(key).unwrap().insert("defaultRoles".to_owned(), json!(names));
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
            write::rename_references(key, document, &renames);
        }
    }
}

fn document(value: Value) -> Document {
    let Value::Object(document) = value else { panic!("not an object") };
    document
}

const GUARDS: Guards = Guards {
    default_max_deletes: 1000,
    max_deletes: BTreeMap::new(),
    max_delete_percent: 100.0,
    max_change_percent: None,
};

/// With everything approved that a guard holds.
fn planned(desired: &Desired, world: &World, owned: &BTreeMap<Key, Ownership>, policy: Policy) -> Plan {
    planned_if(desired, world, owned, policy, &GUARDS, &|_| true)
}

fn planned_if(
    desired: &Desired,
    world: &World,
    owned: &BTreeMap<Key, Ownership>,
    policy: Policy,
    guards: &Guards,
    is_approved: &dyn Fn(&str) -> bool,
) -> Plan {
    diff(&Inputs {
        desired,
        observed: &world.observed(),
        owned,
        sent: &|_, _, _| Sent::Same,
        renamed: &|_, _| false,
        policy,
        builtin_roles: &["Tenant Admin".to_owned()],
        guards,
        first_contact: false,
        windows: &BTreeMap::new(),
        may_delete: &|_| true,
        is_approved,
    })
}

fn declared(key: Key, fields: Value) -> Declared {
    Declared {
        key,
        fields: document(fields),
        protected: None,
        renamed_from: None,
        cascade_delete: None,
        place: Place { file: "a.yaml".into(), line: 1 },
    }
}

fn desired_of(resources: Vec<Declared>) -> Desired {
    let kinds = resources.iter().map(|declared| declared.key.kind).collect();
    Desired {
        kinds,
        resources: resources.into_iter().map(|declared| (declared.key.clone(), Arc::new(declared))).collect(),
    }
}

fn names(prefix: &'static str, most: usize) -> impl Strategy<Value = BTreeSet<String>> {
    proptest::collection::btree_set((0..most).prop_map(move |n| format!("{prefix}{n}")), 0..most)
}

/// `None` leaves the field out.
fn maybe(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    proptest::option::of(value).boxed()
}

fn text() -> BoxedStrategy<Value> {
    prop_oneof![Just(json!("")), Just(json!("one")), Just(json!("two")), Just(Value::Null)].boxed()
}

fn flag() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

fn attributes() -> BoxedStrategy<Value> {
    let value =
        prop_oneof![Just(json!("x")), Just(json!(7)), Just(json!(["b", "a"])), Just(json!(true)), Just(Value::Null)];
    proptest::collection::btree_map("[abc]", value, 1..4).prop_map(|map| json!(map)).boxed()
}

fn with(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    Value::Object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

prop_compose! {
    fn permission()(description in maybe(text())) -> Value {
        with(vec![("description", description)])
    }
}

prop_compose! {
    fn role(permissions: BTreeSet<String>)(
        description in maybe(text()),
        granted in proptest::option::of(proptest::sample::subsequence(permissions.iter().cloned().collect::<Vec<_>>(), 0..=permissions.len())),
        default in maybe(flag()),
    ) -> Value {
        with(vec![("description", description), ("permissionNames", granted.map(|names| json!(names))), ("default", default)])
    }
}

prop_compose! {
    fn tenant(roles: Vec<String>)(
        name in text().prop_filter("a tenant needs a name", |name| !compare::is_zero(name)),
        domains in proptest::option::of(names("d", 3)),
        custom in maybe(attributes()),
        disabled in maybe(flag()),
        inheritance in maybe(prop_oneof![Just(json!("")), Just(json!("none"))].boxed()),
        defaults in proptest::option::of(proptest::sample::subsequence(roles.clone(), 0..=roles.len())),
    ) -> Value {
        with(vec![
            ("name", Some(name)),
            ("selfProvisioningDomains", domains.map(|names| json!(names))),
            ("customAttributes", custom),
            ("disabled", disabled),
            ("roleInheritance", inheritance),
            ("defaultRoles", defaults.map(|names| json!(names))),
        ])
    }
}

/// A self-consistent set of resources: everything referred to is in it.
fn side() -> impl Strategy<Value = Vec<(Key, Value)>> {
    (names("p", 5), names("r", 4), names("t", 4))
        .prop_flat_map(|(permissions, roles, tenants)| {
            let permission_fields = proptest::collection::vec(permission(), permissions.len());
            let role_fields = proptest::collection::vec(role(permissions.clone()), roles.len());
            let role_names: Vec<String> = roles.iter().cloned().collect();
            let tenant_fields = proptest::collection::vec(tenant(role_names), tenants.len());
            let own_roles = proptest::collection::vec(role(permissions.clone()), tenants.len());
            (Just((permissions, roles, tenants)), permission_fields, role_fields, tenant_fields, own_roles)
        })
        .prop_map(|((permissions, roles, tenants), permission_fields, role_fields, tenant_fields, own_roles)| {
            let mut all = Vec::new();
            all.extend(permissions.iter().map(|name| Key::new("permissions", name)).zip(permission_fields));
            all.extend(roles.iter().map(|name| Key::new("roles", name)).zip(role_fields));
            all.extend(tenants.iter().map(|id| Key::in_tenant("roles", id, "own")).zip(own_roles));
            all.extend(tenants.iter().map(|id| Key::new("tenants", id)).zip(tenant_fields));
            all
        })
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

proptest! {
    #[test]
    fn applying_a_plan_yields_the_desired_state_and_the_next_plan_is_empty(ours in side(), theirs in side()) {
        let (desired, mut world) = (desired(&ours), live(&theirs));
        let owned = owning(&world);

        carry_out(planned(&desired, &world, &owned, Policy::Sync), &mut world, &desired);

        let next = planned(&desired, &world, &owning(&world), Policy::Sync);
        prop_assert!(next.changes.is_empty(), "left over: {:?}", next.changes);
        let live: Vec<&Key> = world.live.keys().collect();
        let declared: Vec<&Key> = desired.resources.keys().collect();
        prop_assert_eq!(live, declared);
    }

    #[test]
    fn what_the_yaml_does_not_write_survives(ours in side(), theirs in side()) {
        let (desired, mut world) = (desired(&ours), live(&theirs));
        let before = world.clone();

        carry_out(planned(&desired, &world, &BTreeMap::new(), Policy::UpsertOnly), &mut world, &desired);

        for (key, document) in &before.live {
            let after = world.live.get(key).expect("upsert-only deletes nothing");
            let fields = desired.resources.get(key).map(|declared| declared.fields.clone()).unwrap_or_default();
            for (name, value) in document.iter().filter(|(name, _)| !fields.contains_key(*name)) {
                prop_assert_eq!(after.get(name), Some(value), "{} {}", key, name);
            }
            if let Some(Value::Object(wanted)) = fields.get("customAttributes") {
                for (name, value) in document["customAttributes"].as_object().unwrap() {
                    if !wanted.contains_key(name) {
                        prop_assert_eq!(&after["customAttributes"][name], value, "{} customAttributes.{}", key, name);
                    }
                }
            }
        }
    }

    #[test]
    fn only_declared_fields_appear_and_only_owned_resources_are_deleted(
        ours in side(),
        theirs in side(),
        keep in any::<u64>(),
    ) {
        let (desired, world) = (desired(&ours), live(&theirs));
        let owned: BTreeMap<Key, Ownership> = owning(&world)
            .into_iter()
            .enumerate()
            .filter(|(n, _)| keep >> (n % 64) & 1 == 1)
            .map(|(n, (key, ownership))| (key, Ownership { protected: n % 3 == 0, ..ownership }))
            .collect();

        let plan = planned(&desired, &world, &owned, Policy::Sync);

        for change in &plan.changes {
            if change.action == Action::Delete {
                prop_assert!(owned.get(&change.key).is_some_and(|ownership| !ownership.protected));
                prop_assert!(!desired.resources.contains_key(&change.key));
                continue;
            }
            let fields = &desired.resources[&change.key].fields;
            for field in &change.fields {
                let name = field.path.split('.').next().unwrap();
                prop_assert!(fields.contains_key(name), "{} is not declared", field.path);
            }
        }
    }

    #[test]
    fn a_policy_lets_nothing_else_through(ours in side(), theirs in side()) {
        let (desired, world) = (desired(&ours), live(&theirs));
        let owned = owning(&world);

        for policy in [Policy::Observe, Policy::CreateOnly, Policy::UpsertOnly] {
            let plan = planned(&desired, &world, &owned, policy);
            for change in plan.changes.iter().filter(|change| change.held.is_none()) {
                prop_assert!(policy >= Policy::CreateOnly && change.action == Action::Create || policy >= Policy::UpsertOnly);
                prop_assert!(change.action != Action::Delete);
            }
            prop_assert_eq!(plan.held().count(), 0, "what a policy forbids, nobody can approve");
        }
    }

    #[test]
    fn calls_carry_one_sort_of_write_within_the_batch_size_and_the_forecast_counts_them(ours in side(), theirs in side()) {
        let (desired, world) = (desired(&ours), live(&theirs));

        let mut plan = planned(&desired, &world, &owning(&world), Policy::Sync);

        let mut calls: BTreeMap<u32, Vec<Task>> = BTreeMap::new();
        let forecast = plan.forecast_requests();
        for task in plan.take_tasks(&Arc::default()) {
            calls.entry(task.batch).or_default().push(task);
        }
        prop_assert_eq!(forecast, calls.len());
        for tasks in calls.values() {
            let first = &tasks[0];
            let size = resource::kind(first.slot.key.kind).unwrap().batch_size(&first.write);
            prop_assert!(tasks.len() <= size);
            for task in tasks {
                prop_assert_eq!(task.slot.key.kind, first.slot.key.kind);
                prop_assert_eq!(std::mem::discriminant(&task.write), std::mem::discriminant(&first.write));
                prop_assert!(task.action != Action::Delete || task.slot.key.tenant == first.slot.key.tenant);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_guard_is_ever_exceeded_without_an_approval(
        ours in side(),
        theirs in side(),
        most in 0usize..4,
        percent in 0u8..=100,
        deleted in 0usize..3,
    ) {
        let (desired, world) = (desired(&ours), live(&theirs));
        let owned = owning(&world);
        let guards = Guards {
            default_max_deletes: most,
            max_deletes: BTreeMap::new(),
            max_delete_percent: f64::from(percent),
            max_change_percent: None,
        };
        let windows: BTreeMap<&'static str, Window> =
            resource::ALL.iter().map(|kind| (kind.name(), Window { deleted, created: 0 })).collect();
        let inputs_plan = |is_approved: &dyn Fn(&str) -> bool| {
            diff(&Inputs {
                desired: &desired,
                observed: &world.observed(),
                owned: &owned,
                sent: &|_, _, _| Sent::Same,
                renamed: &|_, _| false,
                policy: Policy::Sync,
                builtin_roles: &[],
                guards: &guards,
                first_contact: false,
                windows: &windows,
                may_delete: &|_| true,
                is_approved,
            })
        };

        let plan = inputs_plan(&|_| false);

        for kind in resource::ALL.iter().map(|kind| kind.name()) {
            let of = |action: Action| plan.changes.iter().filter(move |c| c.key.kind == kind && c.action == action);
            let free = of(Action::Delete).filter(|change| change.held.is_none()).count();
            if free == 0 {
                continue;
            }
            let all = owned.keys().filter(|key| key.kind == kind).count() + deleted;
            prop_assert!(free + deleted <= most, "{} deletes of {} beside {}", free, kind, deleted);
            prop_assert!(all < 5 || (free + deleted) * 100 <= usize::from(percent) * all);
            prop_assert!(desired.resources.keys().any(|key| key.kind == kind), "an emptied kind needs approval");
            let can_rename = resource::kind(kind).unwrap().has_rename();
            prop_assert!(!can_rename || of(Action::Create).count() == 0, "it may be a rename");
        }
        let safe = plan.changes.iter().filter(|change| matches!(change.action, Action::Create | Action::Update));
        prop_assert!(safe.clone().all(|change| change.held.is_none()), "the safe part proceeds");
        let approved: BTreeSet<String> = plan.held_digests.iter().cloned().collect();
        prop_assert_eq!(inputs_plan(&|digest| approved.contains(digest)).held().count(), 0);
    }
}

#[test]
fn a_delete_waits_for_its_time_and_cannot_be_approved_before() {
    let world = live(&[
        (Key::new("tenants", "gone"), json!({ "name": "g" })),
        (Key::new("tenants", "t"), json!({ "name": "t" })),
    ]);
    let desired = desired_of(vec![declared(Key::new("tenants", "t"), json!({ "name": "t" }))]);
    let plan = |may_delete: bool| {
        diff(&Inputs {
            desired: &desired,
            observed: &world.observed(),
            owned: &owning(&world),
            sent: &|_, _, _| Sent::Same,
            renamed: &|_, _| false,
            policy: Policy::Sync,
            builtin_roles: &[],
            guards: &GUARDS,
            first_contact: false,
            windows: &BTreeMap::new(),
            may_delete: &|_| may_delete,
            is_approved: &|_| true,
        })
    };

    let early = plan(false);
    assert_eq!(early.changes[0].held, Some(Hold::DeleteAfter));
    assert_eq!((early.held().count(), early.fingerprint.as_str()), (0, ""));
    assert_eq!(plan(true).changes[0].held, None);
}

#[test]
fn an_emptied_kind_and_a_possible_rename_are_held_with_the_remedy() {
    let world = live(&[
        (Key::new("permissions", "p"), json!({})),
        (Key::new("roles", "old"), json!({ "permissionNames": ["p"] })),
        (Key::new("tenants", "t"), json!({ "name": "t", "defaultRoles": ["old"] })),
    ]);
    let mut desired = desired_of(vec![
        declared(Key::new("roles", "new"), json!({})),
        declared(Key::new("tenants", "t"), json!({ "name": "t" })),
    ]);
    desired.kinds.insert("permissions");

    let plan = planned_if(&desired, &world, &owning(&world), Policy::Sync, &GUARDS, &|_| false);

    let held = |id: &str| plan.changes.iter().find(|change| *change.key.name == *id).unwrap().held;
    assert_eq!(held("p"), Some(Hold::KindEmptied));
    assert_eq!(held("old"), Some(Hold::MaybeRename));
    assert_eq!(held("new"), None);
    let said = plan.warnings.join("\n");
    assert!(said.contains("deleting roles/old takes it away from tenants/t"), "{said}");
    assert!(
        said.contains("roles: old would be deleted and new created; if that is a rename, write `renamedFrom: OLD`"),
        "{said}"
    );
}

#[test]
fn mass_updates_are_held_where_the_config_says_so() {
    let all: Vec<(Key, Value)> = (0..6).map(|n| (Key::new("permissions", &format!("p{n}")), json!({}))).collect();
    let world = live(&all);
    let resources: Vec<Declared> =
        all.iter().map(|(key, _)| declared(key.clone(), json!({ "description": "new" }))).collect();
    let plan = |max_change_percent| {
        let guards = Guards { max_change_percent, ..GUARDS };
        planned_if(&desired_of(Vec::clone(&resources)), &world, &owning(&world), Policy::UpsertOnly, &guards, &|_| {
            false
        })
    };

    assert_eq!(plan(None).held().count(), 0);
    assert_eq!(plan(Some(100.0)).held().count(), 0);
    assert_eq!(plan(Some(50.0)).held().count(), 6);
}

#[test]
fn what_create_only_created_it_also_finishes() {
    let mut world = live(&[(Key::new("roles", "r"), json!({})), (Key::new("tenants", "t"), json!({ "name": "t" }))]);
    let desired = desired_of(vec![declared(Key::new("tenants", "t"), json!({ "name": "t", "defaultRoles": ["r"] }))]);
    let plan = |world: &World, created: bool, sent: Sent| {
        let ownership = Ownership { created, ..Ownership::default() };
        diff(&Inputs {
            desired: &desired,
            observed: &world.observed(),
            owned: &BTreeMap::from([(Key::new("tenants", "t"), ownership)]),
            sent: &|_, _, _| sent,
            renamed: &|_, _| false,
            policy: Policy::CreateOnly,
            builtin_roles: &[],
            guards: &GUARDS,
            first_contact: false,
            windows: &BTreeMap::new(),
            may_delete: &|_| true,
            is_approved: &|_| false,
        })
    };

    assert_eq!(plan(&world, true, Sent::Unknown).changes[0].held, None);
    assert_eq!(plan(&world, false, Sent::Unknown).changes[0].held, Some(Hold::Policy), "it was there before");
    assert_eq!(plan(&world, true, Sent::Same).changes[0].held, Some(Hold::Policy), "somebody changed it since");
    world.live.get_mut(&Key::new("tenants", "t")).unwrap().insert("name".to_owned(), json!("other"));
    assert_eq!(plan(&world, true, Sent::Unknown).changes[0].held, Some(Hold::Policy), "more than the part differs");
}

#[test]
fn a_change_waits_for_what_it_refers_to_where_that_could_not_be_observed() {
    let desired = desired_of(vec![
        declared(Key::new("permissions", "p"), json!({})),
        declared(Key::new("roles", "r"), json!({ "permissionNames": ["p"] })),
        declared(Key::new("roles", "free"), json!({})),
    ]);
    let plan = |error: descope::Error| {
        let mut observed = World::default().observed();
        observed.kinds.insert("permissions", Err(error));
        diff(&Inputs {
            desired: &desired,
            observed: &observed,
            owned: &BTreeMap::new(),
            sent: &|_, _, _| Sent::Unknown,
            renamed: &|_, _| false,
            policy: Policy::UpsertOnly,
            builtin_roles: &[],
            guards: &GUARDS,
            first_contact: false,
            windows: &BTreeMap::new(),
            may_delete: &|_| true,
            is_approved: &|_| false,
        })
    };
    let names = |plan: &Plan| plan.changes.iter().map(|change| change.key.id()).collect::<Vec<_>>();

    let passing = plan(descope::Error::Timeout {
        operation: "GET /v1/mgmt/permission/all",
        after: std::time::Duration::from_secs(30),
    });
    assert_eq!((names(&passing), passing.waiting), (vec!["free".to_owned()], true));
}

#[test]
fn a_rename_keeps_what_refers_to_it_without_a_change_of_its_own() {
    let mut world = live(&[
        (Key::new("permissions", "old"), json!({})),
        (Key::new("roles", "reader"), json!({ "permissionNames": ["old"] })),
        (Key::new("roles", "was"), json!({})),
        (Key::new("tenants", "acme"), json!({ "name": "Acme", "defaultRoles": ["was"] })),
    ]);
    let mut permission = declared(Key::new("permissions", "new"), json!({ "description": "d" }));
    permission.renamed_from = Some("old".into());
    let mut role = declared(Key::new("roles", "is"), json!({}));
    role.renamed_from = Some("was".into());
    let desired = desired_of(vec![
        permission,
        role,
        declared(Key::new("roles", "reader"), json!({ "permissionNames": ["new"] })),
        declared(Key::new("tenants", "acme"), json!({ "name": "Acme", "defaultRoles": ["is"] })),
    ]);

    let plan = planned(&desired, &world, &BTreeMap::new(), Policy::UpsertOnly);

    let changes: Vec<(String, Action)> =
        plan.changes.iter().map(|change| (change.key.to_string(), change.action)).collect();
    assert_eq!(changes, [("permissions/new".to_owned(), Action::Rename), ("roles/is".to_owned(), Action::Rename)]);
    assert_eq!(plan.changes[0].fields[0].path, "name");
    assert!(plan.undeclared.is_empty());
    carry_out(plan, &mut world, &desired);
    assert!(
        planned(&desired, &world, &BTreeMap::new(), Policy::UpsertOnly).changes.is_empty(),
        "then the line is inert"
    );
}

#[test]
fn a_rename_onto_something_that_exists_is_refused() {
    let world = live(&[(Key::new("roles", "old"), json!({})), (Key::new("roles", "new"), json!({}))]);
    let mut role = declared(Key::new("roles", "new"), json!({ "description": "d" }));
    role.renamed_from = Some("old".into());

    let plan = planned(&desired_of(vec![role]), &world, &BTreeMap::new(), Policy::UpsertOnly);

    assert!(plan.changes.is_empty());
    assert_eq!(
        plan.refused[0].message,
        "renamedFrom: both roles/old and roles/new exist in Descope; delete one there, or remove the renamedFrom line \
         to keep both"
    );
}

/// The old name left the YAML, so it was pruned while the declaration that speaks of it was refused.
#[test]
fn a_refused_rename_leaves_the_old_name_alone_under_sync() {
    let world = live(&[
        (Key::new("roles", "old"), json!({})),
        (Key::new("roles", "new"), json!({})),
        (Key::new("roles", "gone"), json!({})),
    ]);
    let mut role = declared(Key::new("roles", "new"), json!({ "description": "d" }));
    role.renamed_from = Some("old".into());

    let plan = planned(&desired_of(vec![role]), &world, &owning(&world), Policy::Sync);

    let deleted: Vec<String> = plan.changes.iter().map(|change| change.key.to_string()).collect();
    assert_eq!(deleted, ["roles/gone"], "and what nobody speaks of goes");
    assert_eq!(plan.refused.len(), 1);
}

#[test]
fn clearing_takes_the_overwriting_call_and_setting_the_patch() {
    let world = live(&[(
        Key::new("tenants", "acme"),
        json!({ "name": "Acme", "selfProvisioningDomains": ["a.com"], "customAttributes": { "plan": "gold", "seats": 3 } }),
    )]);
    let write = |fields: Value| {
        let desired = desired_of(vec![declared(Key::new("tenants", "acme"), fields)]);
        planned(&desired, &world, &BTreeMap::new(), Policy::UpsertOnly)
            .take_tasks(&Arc::default())
            .into_iter()
            .next()
            .map(|task| task.write)
    };

    assert_eq!(
        write(json!({ "name": "Acme Inc", "disabled": true })),
        Some(Write::Patch(document(json!({ "id": "acme", "name": "Acme Inc", "disabled": true }))))
    );
    assert_eq!(
        write(json!({ "name": "Acme", "customAttributes": { "plan": "silver" } })),
        Some(Write::Patch(document(json!({ "id": "acme", "customAttributes": { "plan": "silver", "seats": 3 } }))))
    );
    let Some(Write::Overwrite { body, .. }) = write(json!({ "name": "Acme", "selfProvisioningDomains": [] })) else {
        panic!("a list is cleared by overwriting")
    };
    assert_eq!(body["selfProvisioningDomains"], json!([]));
    assert_eq!(body["customAttributes"], json!({ "plan": "gold", "seats": 3 }));
    assert_eq!(body["futureField"], json!("kept"));
    assert!(!body.contains_key("createdTime") && !body.contains_key("authType") && !body.contains_key("defaultRoles"));
    let Some(Write::Overwrite { body, .. }) = write(json!({ "name": "Acme", "customAttributes": { "seats": null } }))
    else {
        panic!("an entry is cleared by overwriting")
    };
    assert_eq!(body["customAttributes"], json!({ "plan": "gold" }));
    assert_eq!(write(json!({ "name": "Acme", "customAttributes": {} })), None);
}

#[test]
fn what_cannot_be_read_back_goes_by_what_was_sent() {
    let mut world = live(&[(Key::new("tenants", "acme"), json!({ "name": "Acme" }))]);
    world.live.get_mut(&Key::new("tenants", "acme")).unwrap().remove("defaultRoles");
    let fields = json!({ "name": "Acme", "parent": "top", "federatedAppIds": ["app"], "defaultRoles": ["r"] });
    let desired = desired_of(vec![declared(Key::new("tenants", "acme"), fields)]);
    let plan = |sent: Sent| {
        diff(&Inputs {
            desired: &desired,
            observed: &world.observed(),
            owned: &BTreeMap::new(),
            sent: &|_, _, _| sent,
            renamed: &|_, _| false,
            policy: Policy::UpsertOnly,
            builtin_roles: &[],
            guards: &GUARDS,
            first_contact: false,
            windows: &BTreeMap::new(),
            may_delete: &|_| true,
            is_approved: &|_| false,
        })
    };

    assert!(plan(Sent::Same).changes.is_empty());
    let unknown = plan(Sent::Unknown);
    let paths: Vec<&str> = unknown.changes[0].fields.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(paths, ["federatedAppIds", "defaultRoles"]);
    assert!(unknown.warnings[0].contains("parent is unverified"), "{:?}", unknown.warnings);
    assert!(
        plan(Sent::Different).refused[0].message.starts_with("parent can be set only when the resource is created")
    );
}

#[test]
fn system_permissions_and_builtin_roles_are_never_touched() {
    let mut world =
        live(&[(Key::new("permissions", "SSO Admin"), json!({})), (Key::new("roles", "Tenant Admin"), json!({}))]);
    world.live.get_mut(&Key::new("permissions", "SSO Admin")).unwrap().insert("systemDefault".to_owned(), json!(true));
    let mut desired = desired_of(vec![declared(Key::new("roles", "Tenant Admin"), json!({ "description": "mine" }))]);
    desired.kinds.insert("permissions");

    let plan = planned(&desired, &world, &owning(&world), Policy::Sync);

    assert!(plan.changes.is_empty() && plan.undeclared.is_empty());
    assert!(plan.warnings[0].contains("roles/Tenant Admin is built into Descope"), "{:?}", plan.warnings);
}

#[test]
fn the_first_contact_with_a_filled_project_holds_everything_and_an_empty_one_nothing() {
    let desired = desired_of(vec![declared(Key::new("permissions", "a"), json!({}))]);
    let plan = |world: &World| {
        diff(&Inputs {
            desired: &desired,
            observed: &world.observed(),
            owned: &BTreeMap::new(),
            sent: &|_, _, _| Sent::Unknown,
            renamed: &|_, _| false,
            policy: Policy::UpsertOnly,
            builtin_roles: &[],
            guards: &GUARDS,
            first_contact: true,
            windows: &BTreeMap::new(),
            may_delete: &|_| true,
            is_approved: &|_| false,
        })
    };

    let mut filled = plan(&live(&[(Key::new("permissions", "other"), json!({}))]));
    assert_eq!(filled.changes[0].held, Some(Hold::FirstContact));
    assert_eq!(filled.fingerprint.len(), 16);
    assert!(filled.take_tasks(&Arc::default()).is_empty());
    assert_eq!(filled.forecast_requests(), 1, "releasing it is what applying does");
    let empty = plan(&World::default());
    assert_eq!((empty.changes[0].held, empty.fingerprint.as_str()), (None, ""));
}

#[test]
fn a_list_that_lost_much_of_what_is_owned_holds_its_kind_and_what_depends_on_it() {
    let all: Vec<(Key, Value)> = (0..12).map(|n| (Key::new("permissions", &format!("p{n}")), json!({}))).collect();
    let owned = owning(&live(&all));
    let mut resources: Vec<Declared> = all.iter().map(|(key, fields)| declared(key.clone(), fields.clone())).collect();
    resources.push(declared(Key::new("roles", "reader"), json!({ "permissionNames": ["p1"] })));
    resources.push(declared(Key::new("roles", "free"), json!({})));
    let guards = Guards {
        default_max_deletes: 10,
        max_deletes: BTreeMap::new(),
        max_delete_percent: 20.0,
        max_change_percent: None,
    };

    let plan = diff(&Inputs {
        desired: &desired_of(resources),
        observed: &World::default().observed(),
        owned: &owned,
        sent: &|_, _, _| Sent::Unknown,
        renamed: &|_, _| false,
        policy: Policy::UpsertOnly,
        builtin_roles: &[],
        guards: &guards,
        first_contact: false,
        windows: &BTreeMap::new(),
        may_delete: &|_| true,
        is_approved: &|_| false,
    });

    let held = |id: &str| plan.changes.iter().find(|change| *change.key.name == *id).unwrap().held;
    assert_eq!(held("p1"), Some(Hold::ObservationShrank));
    assert_eq!(held("reader"), Some(Hold::ObservationShrank));
    assert_eq!(held("free"), None);
}

#[test]
fn a_rename_that_was_cut_off_does_not_look_like_a_loss() {
    let names = |prefix: &str| -> Vec<(Key, Value)> {
        (0..12).map(|n| (Key::new("permissions", &format!("{prefix}{n}")), json!({}))).collect()
    };
    let (old, new) = (live(&names("old")), live(&names("new")));
    let renamed = |(key, fields): (Key, Value)| {
        let old = key.name.replace("new", "old");
        Declared { renamed_from: Some(old.into()), ..declared(key, fields) }
    };
    let desired = desired_of(names("new").into_iter().map(renamed).collect());
    let guards = Guards { default_max_deletes: 10, max_deletes: BTreeMap::new(), max_delete_percent: 20.0, ..GUARDS };

    for (owned, live, action) in
        [(&old, &old, Some(Action::Rename)), (&new, &old, Some(Action::Rename)), (&old, &new, None)]
    {
        let plan = planned_if(&desired, live, &owning(owned), Policy::UpsertOnly, &guards, &|_| false);

        assert_eq!(plan.held().count(), 0);
        assert_eq!(plan.changes.len(), if action.is_some() { 12 } else { 0 });
        assert!(plan.changes.iter().all(|change| Some(change.action) == action));
        assert!(plan.present.iter().all(|key| live.live.contains_key(key)), "owned is what is there");
    }
}

#[test]
fn the_guards_count_absolutely_and_from_five_on_by_percent() {
    let guards = Guards {
        default_max_deletes: 10,
        max_deletes: BTreeMap::from([("tenants".to_owned(), 0)]),
        max_delete_percent: 20.0,
        max_change_percent: None,
    };

    for (kind, gone, owned, forbidden) in [
        ("roles", 10, 100, false),
        ("roles", 11, 100, true),
        ("roles", 1, 5, false),
        ("roles", 2, 5, true),
        ("roles", 4, 4, false),
        ("tenants", 0, 9, false),
        ("tenants", 1, 100, true),
    ] {
        assert_eq!(guards.against(kind, gone, owned).is_some(), forbidden, "{gone} of {owned} {kind}");
    }
}

#[test]
fn an_own_create_that_the_list_does_not_show_yet_is_not_repeated() {
    let desired = desired_of(vec![declared(Key::new("roles", "a"), json!({}))]);
    let owned = BTreeMap::from([(Key::new("roles", "a"), Ownership { fresh: true, ..Ownership::default() })]);

    let plan = planned(&desired, &World::default(), &owned, Policy::Sync);

    assert!(plan.changes.is_empty());
}

#[test]
fn a_new_project_is_sent_in_the_fewest_calls_in_dependency_order() {
    let mut child = declared(Key::new("tenants", "a-child"), json!({ "name": "c", "parent": "z-top" }));
    child.place.line = 9;
    let desired = desired_of(vec![
        declared(Key::new("permissions", "p"), json!({})),
        declared(Key::new("permissions", "q"), json!({})),
        declared(Key::new("roles", "r"), json!({ "permissionNames": ["p"] })),
        declared(Key::in_tenant("roles", "z-top", "own"), json!({ "permissionNames": ["q"] })),
        child,
        declared(Key::new("tenants", "z-top"), json!({ "name": "t", "defaultRoles": ["r"] })),
    ]);

    let mut plan = planned(&desired, &World::default(), &BTreeMap::new(), Policy::UpsertOnly);
    let forecast = plan.forecast_requests();

    let mut tasks = plan.take_tasks(&Arc::default());
    tasks.sort_by_key(|task| (task.stage, task.batch));
    let order: Vec<(u32, String, Part)> =
        tasks.into_iter().map(|task| (task.batch, task.slot.key.to_string(), task.slot.part)).collect();
    let batch_of = |id: &str| order.iter().find(|(_, key, _)| key == id).unwrap().0;
    let keys: Vec<&str> = order.iter().map(|(_, key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "permissions/p",
            "permissions/q",
            "roles/r",
            "tenants/z-top",
            "tenants/a-child",
            "roles/z-top/own",
            "tenants/z-top"
        ]
    );
    assert_eq!(order.last().unwrap().2, Part::DefaultRoles);
    assert_eq!(batch_of("permissions/p"), batch_of("permissions/q"));
    assert_eq!(forecast, 6);
}
