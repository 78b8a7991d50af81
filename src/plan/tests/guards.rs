//! What is held, and what releases it.

use super::*;

#[test]
fn a_delete_waits_for_its_time_and_cannot_be_approved_before() {
    let world = live(&[
        (Key::new("tenants", "gone"), json!({ "name": "g" })),
        (Key::new("tenants", "t"), json!({ "name": "t" })),
    ]);
    let desired = desired_of(vec![declared(Key::new("tenants", "t"), json!({ "name": "t" }))]);
    let plan = |may_delete: bool| {
        Case {
            owned: owning(&world),
            policy: Policy::Sync,
            may_delete,
            is_approved: &|_| true,
            ..Case::of(&desired, &world)
        }
        .plan()
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

    let plan = Case { owned: owning(&world), policy: Policy::Sync, ..Case::of(&desired, &world) }.plan();

    assert_eq!(held(&plan, "p"), Some(Hold::KindEmptied));
    assert_eq!(held(&plan, "old"), Some(Hold::MaybeRename));
    assert_eq!(held(&plan, "new"), None);
    let said = plan.warnings.join("\n");
    assert!(said.contains("deleting roles/old takes it away from tenants/t"), "{said}");
    assert!(
        said.contains("roles: old would be deleted and new created; if that is a rename, write `renamedFrom: OLD`"),
        "{said}"
    );
}

/// Only creates that were planned counted, so that a kind which could not be observed made the delete look harmless.
#[test]
fn a_create_that_waits_may_be_a_rename_as_well() {
    let world = live(&[(Key::new("roles", "old"), json!({})), (Key::new("roles", "stays"), json!({}))]);
    let desired = desired_of(vec![
        declared(Key::new("permissions", "p"), json!({})),
        declared(Key::new("roles", "new"), json!({ "permissionNames": ["p"] })),
        declared(Key::new("roles", "stays"), json!({})),
    ]);
    let mut observed = world.observed();
    observed.kinds.insert("permissions", Err(timeout()));

    let case = Case { owned: owning(&world), policy: Policy::Sync, ..Case::of(&desired, &world) };
    let plan = Case { observed, ..case }.plan();

    assert!(
        plan.waiting.contains("roles") && plan.changes.iter().all(|change| *change.key.name != *"new"),
        "the create waits"
    );
    assert_eq!(held(&plan, "old"), Some(Hold::MaybeRename));
}

/// The digest of a change was the same whatever held it, so that an approval to let it go also accepted a loss.
#[test]
fn an_approval_of_a_change_accepts_no_loss_and_the_other_way_round() {
    let all: Vec<(Key, Value)> = ["a", "b", "c", "gone"].map(|name| (Key::new("roles", name), json!({}))).to_vec();
    let (whole, part) = (live(&all), live(&all[3..]));
    let desired = desired(&all[..3]);
    let plan = |world: &World, is_approved: &dyn Fn(&str) -> bool| {
        let guards = Guards { default_max_deletes: 0, ..GUARDS };
        let owned = owning(&whole);
        Case { owned, policy: Policy::Sync, guards, is_approved, ..Case::of(&desired, world) }.plan()
    };
    let (to_delete, to_accept) = (plan(&whole, &|_| false), plan(&part, &|_| false));
    assert_eq!(held(&to_delete, "gone"), Some(Hold::MaxDeletes));
    assert_eq!(held(&to_accept, "gone"), Some(Hold::ObservationShrank));
    let approves = |plan: &Plan| {
        let digests = plan.held_digests.clone();
        move |digest: &str| digests.iter().any(|known| known == digest)
    };

    assert_eq!(held(&plan(&part, &approves(&to_delete)), "gone"), Some(Hold::ObservationShrank));
    assert_eq!(held(&plan(&whole, &approves(&to_accept)), "gone"), Some(Hold::MaxDeletes));
    assert_eq!(held(&plan(&whole, &approves(&to_delete)), "gone"), None);
    assert_eq!(plan(&part, &approves(&to_accept)).held().count(), 0);
}

/// Equal plans of two projects had one fingerprint: approving what staging held released production's as well.
#[test]
fn an_approval_is_of_one_project() {
    let world = live(&[(Key::new("permissions", "other"), json!({}))]);
    let desired = desired_of(vec![declared(Key::new("permissions", "a"), json!({}))]);
    let plan = |scope: &'static str, is_approved: &dyn Fn(&str) -> bool| {
        Case { scope, sent: Sent::Unknown, first_contact: true, is_approved, ..Case::of(&desired, &world) }.plan()
    };
    let staging = plan("staging", &|_| false);
    let is_approved = |digest: &str| staging.held_digests.contains(&digest.to_owned());

    assert_eq!(held(&plan("staging", &is_approved), "a"), None);
    let production = plan("production", &is_approved);
    assert_eq!(held(&production, "a"), Some(Hold::FirstContact));
    assert_ne!(production.fingerprint, staging.fingerprint);
}

/// A tenant that was redeclared with `cascadeDelete` and removed again went under the approval of the plain delete.
#[test]
fn an_approval_of_a_plain_delete_is_none_of_one_that_cascades() {
    let world = live(&[(Key::new("tenants", "t"), json!({}))]);
    let desired = desired_of(vec![]);
    let plan = |cascade_delete: bool, is_approved: &dyn Fn(&str) -> bool| {
        let ownership = Ownership { cascade_delete, ..Ownership::default() };
        let owned = BTreeMap::from([(Key::new("tenants", "t"), ownership)]);
        Case { owned, policy: Policy::Sync, is_approved, ..Case::of(&desired, &world) }.plan()
    };
    let single = plan(false, &|_| false);
    let digests = single.held_digests.clone();
    assert_eq!(digests.len(), 1);
    let is_approved = |digest: &str| digests.iter().any(|known| known == digest);

    assert_eq!(held(&plan(false, &is_approved), "t"), None);
    let cascading = plan(true, &is_approved);
    assert_eq!(held(&cascading, "t"), Some(Hold::KindEmptied));
    assert_ne!(cascading.fingerprint, single.fingerprint);
}

/// The digest was made of texts that two creates may share.
#[test]
fn an_approval_of_a_create_is_none_of_another_that_reads_like_it() {
    let attributes = |names: Value| json!({ "name": "t", "customAttributes": names });
    let tenant = |fields: Value| declared(Key::new("tenants", "t"), fields);
    let pairs = [
        (
            declared(Key::new("roles", "t/own"), json!({ "description": "d" })),
            declared(Key::in_tenant("roles", "t", "own"), json!({ "description": "d" })),
        ),
        (tenant(attributes(json!({ "a": 1, "b": 2 }))), tenant(attributes(json!({ "a 1\ncustomAttributes.b": 2 })))),
    ];
    for (one, other) in pairs {
        let world = live(&[(Key::new("permissions", "there"), json!({}))]);
        let digests = |declared: Declared| {
            let desired = Desired { kinds: ["permissions", "roles", "tenants"].into(), ..desired_of(vec![declared]) };
            let plan = Case { first_contact: true, ..Case::of(&desired, &world) }.plan();
            assert_eq!(plan.held_digests.len(), 1);
            plan.held_digests
        };
        assert_ne!(digests(one.clone()), digests(other), "{}", one.key);
    }
}

#[test]
fn mass_updates_are_held_where_the_config_says_so() {
    let all: Vec<(Key, Value)> = (0..6).map(|n| (Key::new("permissions", &format!("p{n}")), json!({}))).collect();
    let world = live(&all);
    let resources: Vec<Declared> =
        all.iter().map(|(key, _)| declared(key.clone(), json!({ "description": "new" }))).collect();
    let plan = |max_change_percent| {
        let guards = Guards { max_change_percent, ..GUARDS };
        Case { owned: owning(&world), guards, ..Case::of(&desired_of(Vec::clone(&resources)), &world) }.plan()
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
        Case {
            owned: BTreeMap::from([(Key::new("tenants", "t"), ownership)]),
            sent,
            policy: Policy::CreateOnly,
            ..Case::of(&desired, world)
        }
        .plan()
    };

    assert_eq!(plan(&world, true, Sent::Unknown).changes[0].held, None);
    assert_eq!(plan(&world, false, Sent::Unknown).changes[0].held, Some(Hold::Policy), "it was there before");
    assert_eq!(plan(&world, true, Sent::Same).changes[0].held, Some(Hold::Policy), "somebody changed it since");
    world.live.get_mut(&Key::new("tenants", "t")).unwrap().insert("name".to_owned(), json!("other"));
    assert_eq!(plan(&world, true, Sent::Unknown).changes[0].held, Some(Hold::Policy), "more than the part differs");
}

/// A rename alone changes no field, and so passed for what is left of a create.
#[test]
fn create_only_renames_nothing_not_even_what_it_created() {
    let world = live(&[(Key::new("roles", "old"), json!({}))]);
    let new = Declared { renamed_from: Some("old".into()), ..declared(Key::new("roles", "new"), json!({})) };
    let created = Ownership { created: true, ..Ownership::default() };
    let owned = BTreeMap::from([(Key::new("roles", "new"), created)]);

    let plan = Case { owned, policy: Policy::CreateOnly, ..Case::of(&desired_of(vec![new]), &world) }.plan();

    assert_eq!((plan.changes[0].action, held(&plan, "new")), (Action::Rename, Some(Hold::Policy)));
}

/// Descope deletes a tenant's roles with it, so that held roles went under the approval of their tenant.
#[test]
fn a_tenant_waits_for_whatever_the_roles_in_it_wait_for() {
    let tenant = Key::new("tenants", "t");
    let roles = ["a", "b"].map(|name| Key::in_tenant("roles", "t", name));
    let mut all = vec![(Key::new("roles", "stays"), json!({})), (Key::new("tenants", "stays"), json!({ "name": "s" }))];
    let desired = desired(&all);
    all.push((tenant.clone(), json!({ "name": "t" })));
    all.extend(roles.iter().map(|role| (role.clone(), json!({}))));
    let world = live(&all);
    let guards = Guards { default_max_deletes: 1, max_deletes: [("tenants".to_owned(), 5)].into(), ..GUARDS };
    let plan = |due: &dyn Fn(&Key) -> bool, is_approved: &dyn Fn(&str) -> bool| {
        let case =
            Case { owned: owning(&world), policy: Policy::Sync, guards: guards.clone(), ..Case::of(&desired, &world) };
        Case { is_approved, ..case }.plan_when(due)
    };
    let digests = |plan: &Plan, kind: &str| -> Vec<String> {
        plan.held().filter(|change| change.key.kind == kind).map(|change| change.digest.to_string()).collect()
    };

    let over = plan(&|_| true, &|_| false);
    assert_eq!(held(&over, "a"), Some(Hold::MaxDeletes));
    assert_eq!(held(&over, "t"), Some(Hold::MaxDeletes), "it would take them along");
    let (tenants, both) = (digests(&over, "tenants"), digests(&over, "roles"));
    assert_eq!((tenants.len(), both.len()), (1, 2), "the fingerprint covers all three");
    let one = plan(&|_| true, &|digest| tenants.contains(&digest.to_owned()));
    assert_eq!(held(&one, "t"), Some(Hold::MaxDeletes), "approved, but what is in it is not");
    let all = plan(&|_| true, &|digest| tenants.iter().chain(&both).any(|known| known == digest));
    assert!(all.changes.iter().all(|change| change.held.is_none()));
    let early = plan(&|key| *key != roles[0], &|_| true);
    assert_eq!(held(&early, "b"), None);
    assert_eq!((held(&early, "a"), held(&early, "t")), (Some(Hold::DeleteAfter), Some(Hold::DeleteAfter)));
    let mut released = plan(&|key| *key != roles[0], &|_| false);
    released.release(|_| true);
    assert_eq!(held(&released, "t"), Some(Hold::DeleteAfter), "nor does one run let it go before them");
}

#[test]
fn the_first_contact_with_a_filled_project_holds_everything_and_an_empty_one_nothing() {
    let desired = desired_of(vec![declared(Key::new("permissions", "a"), json!({}))]);
    let plan = |world: &World| Case { sent: Sent::Unknown, first_contact: true, ..Case::of(&desired, world) }.plan();

    let mut filled = plan(&live(&[(Key::new("permissions", "other"), json!({}))]));
    assert_eq!(filled.changes[0].held, Some(Hold::FirstContact));
    assert_eq!(filled.fingerprint.len(), 16);
    assert!(filled.take_tasks(&Arc::default()).is_empty());
    assert_eq!(filled.forecast_requests(), 1, "releasing it is what applying does");
    let empty = plan(&World::default());
    assert_eq!((empty.changes[0].held, empty.fingerprint.as_str()), (None, ""));
}

/// `apply --auto-approve` let go of twenty deletes as a first contact.
#[test]
fn the_first_contact_hides_no_guard_and_its_release_lets_go_of_none() {
    let roles: Vec<(Key, Value)> = (0..6).map(|n| (Key::new("roles", &format!("r{n}")), json!({}))).collect();
    let mut all = roles.clone();
    all.extend(["p", "q"].map(|name| (Key::new("permissions", name), json!({}))));
    all.push((Key::in_tenant("roles", "t", "own"), json!({})));
    all.push((Key::new("tenants", "t"), json!({ "name": "t" })));
    let world = live(&all);
    let wanted = [(Key::new("tenants", "new"), json!({ "name": "new" })), (Key::new("permissions", "q"), json!({}))];
    let desired = desired(&[&roles[..3], &wanted[..]].concat());
    let guards = Guards { max_deletes: [("roles".to_owned(), 3)].into(), ..GUARDS };
    let case = Case { owned: owning(&world), policy: Policy::Sync, guards, ..Case::of(&desired, &world) };

    let mut plan = Case { first_contact: true, ..case }.plan();

    assert_eq!(held(&plan, "r5"), Some(Hold::MaxDeletes));
    assert_eq!(held(&plan, "t"), Some(Hold::MaxDeletes), "it would take along what is held");
    assert_eq!((held(&plan, "new"), held(&plan, "p")), (Some(Hold::FirstContact), Some(Hold::FirstContact)));
    plan.release(|hold| *hold == Hold::FirstContact);
    let free = plan.changes.iter().filter(|change| change.held.is_none()).map(|change| change.key.id());
    assert_eq!(free.collect::<Vec<_>>(), ["new", "p"]);
}

#[test]
fn a_refused_list_is_not_waited_for_unless_it_is_every_list_and_may_still_hold_anything() {
    let desired = desired_of(vec![declared(Key::new("permissions", "a"), json!({}))]);
    let desired = Desired { kinds: ["permissions", "roles"].into(), ..desired };
    let operation = "GET /v1/mgmt/role/all";
    let forbidden = || descope::Error::Forbidden { operation, message: "not part of your plan".to_owned() };
    let unauthorized = descope::Error::Unauthorized { project: "P2abc".to_owned() };
    let plan = |answers: Vec<(&'static str, Result<Vec<Document>, descope::Error>)>| {
        let observed = Observed { kinds: answers.into_iter().collect(), ..World::default().observed() };
        Case { observed, sent: Sent::Unknown, first_contact: true, ..Case::of(&desired, &World::default()) }.plan()
    };
    let (whole, empty) =
        (plan(vec![("permissions", Ok(vec![])), ("roles", Ok(vec![]))]), || ("permissions", Ok(vec![])));
    assert!(whole.has_seen_all());

    let one = plan(vec![empty(), ("roles", Err(forbidden()))]);
    assert!(one.has_seen_all());
    assert_eq!(held(&one, "a"), Some(Hold::FirstContact), "nobody knows that the project is empty");
    assert!(!plan(vec![("permissions", Err(forbidden())), ("roles", Err(forbidden()))]).has_seen_all());
    for error in [timeout(), unauthorized, descope::Error::Stopping] {
        let said = error.to_string();
        assert!(!plan(vec![empty(), ("roles", Err(error))]).has_seen_all(), "{said}");
    }
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

    let plan =
        Case { owned, sent: Sent::Unknown, guards, ..Case::of(&desired_of(resources), &World::default()) }.plan();

    assert_eq!(held(&plan, "p1"), Some(Hold::ObservationShrank));
    assert_eq!(held(&plan, "reader"), Some(Hold::ObservationShrank));
    assert_eq!(held(&plan, "free"), None);
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
        let plan = Case { owned: owning(owned), guards: guards.clone(), ..Case::of(&desired, live) }.plan();

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
