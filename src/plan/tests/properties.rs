//! What holds for any two sides.

use super::*;
use proptest::prelude::*;

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
            Case { owned: owned.clone(), policy: Policy::Sync, guards: guards.clone(), windows: windows.clone(), is_approved, ..Case::of(&desired, &world) }.plan()
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
