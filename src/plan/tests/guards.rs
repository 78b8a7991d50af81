//! What is held, and what releases it.

use super::*;
use thin_vec::thin_vec;

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
        (Key::new("roles", "old"), json!({})),
        (Key::new("tenants", "t"), json!({ "name": "t" })),
    ]);
    let mut desired = desired_of(vec![
        declared(Key::new("roles", "new"), json!({})),
        declared(Key::new("tenants", "t"), json!({ "name": "t" })),
    ]);
    desired.kinds.insert("permissions");

    let plan = Case { owned: owning(&world), policy: Policy::Sync, ..Case::of(&desired, &world) }.plan();

    assert_eq!(held(&plan, "p"), Some(Hold::KindEmptied));
    assert_eq!(held(&plan, "old"), Some(Hold::MaybeRename(NewName::Planned)));
    assert_eq!(why(&plan, "old"), "it may be renamed: another one of roles is created beside it");
    assert_eq!(why(&plan, "p"), "the files have none of permissions any more");
    assert_eq!(held(&plan, "new"), None);
    let said = plan.warnings.join("\n");
    assert!(
        said.contains("roles: old would be deleted and new created; if that is a rename, write `renamedFrom: OLD`"),
        "{said}"
    );
}

fn why(plan: &Plan, name: &str) -> String {
    plan.changes.iter().find(|change| *change.key.name == *name).unwrap().why.clone().unwrap()
}

/// The line that renames was offered as an end though nothing but "both exist" came of it.
#[test]
fn once_the_new_one_is_made_no_line_that_renames_it_ends_the_hold() {
    let world = live(&[(Key::new("roles", "old"), json!({})), (Key::new("roles", "new"), json!({}))]);
    let desired = desired_of(vec![declared(Key::new("roles", "new"), json!({}))]);
    let mut owned = owning(&world);
    owned.insert(Key::new("roles", "old"), Ownership { replaced: true, ..Ownership::default() });
    owned.insert(Key::new("roles", "new"), Ownership { created: true, replaces: true, ..Ownership::default() });

    let plan = Case { owned, policy: Policy::Sync, ..Case::of(&desired, &world) }.plan();

    assert_eq!(held(&plan, "old"), Some(Hold::MaybeRename(NewName::Made)));
    let note = "roles: old left the YAML and would be deleted, and new was created since; if that is a rename, delete the new one";
    assert!(plan.warnings.iter().any(|warning| warning.starts_with(note)), "{:?}", plan.warnings);
    assert_eq!(why(&plan, "old"), "it may be renamed: new was created since it left the files");
    let ends = |plan: &Plan| render::holds(plan).iter().map(|hold| hold.ends_with.to_string()).collect::<Vec<_>>();
    assert_eq!(ends(&plan), ["an approval, or files that declare the old one again"]);
    // Beside one that is not made yet it may be that.
    let desired = desired_of(vec![
        declared(Key::new("roles", "new"), json!({})),
        declared(Key::new("roles", "newer"), json!({})),
    ]);
    let mut owned = owning(&world);
    owned.insert(Key::new("roles", "old"), Ownership { replaced: true, ..Ownership::default() });
    let plan = Case { owned, policy: Policy::Sync, ..Case::of(&desired, &world) }.plan();
    assert!(ends(&plan)[0].contains("`renamedFrom` on the new one: before that is made"), "{:?}", ends(&plan));
    // The plan is told until the next pass, and by then it is made.
    assert!(ends(&plan)[0].contains("or once it is deleted in Descope again"), "{:?}", ends(&plan));
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
    assert_eq!(held(&plan, "old"), Some(Hold::MaybeRename(NewName::Planned)));
}

/// The digest of a change was the same whatever held it, so that an approval to let it go also accepted a loss.
#[test]
fn an_approval_of_a_change_accepts_no_loss_and_the_other_way_round() {
    let all: Vec<(Key, Value)> = ["a", "b", "c", "gone"].map(|name| (Key::new("roles", name), json!({}))).to_vec();
    let (whole, part) = (live(&all), live(&all[3..]));
    let desired = desired(&all[..3]);
    let plan = |world: &World, is_approved: &dyn Fn(&str) -> bool| {
        let guards = Guards { deletes: most(0), missing: most(0), ..GUARDS };
        let owned = owning(&whole);
        Case { owned, policy: Policy::Sync, guards, is_approved, ..Case::of(&desired, world) }.plan()
    };
    let (to_delete, to_accept) = (plan(&whole, &|_| false), plan(&part, &|_| false));
    assert_eq!(held(&to_delete, "gone"), Some(Hold::MaxDeletes));
    let said = why(&to_delete, "gone");
    assert!(said.contains("would be gone within 24 hours, and `guards.maxDeletes` lets "), "{said}");
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
    assert_eq!(held(&production, "a"), Some(Hold::FirstContact(Contact::Project)));
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
    let plan = |world: &World, created: bool, along: Sent| {
        let ownership = Ownership { created, ..Ownership::default() };
        Case {
            owned: BTreeMap::from([(Key::new("tenants", "t"), ownership)]),
            sent: Sent::Unknown,
            along,
            policy: Policy::CreateOnly,
            ..Case::of(&desired, world)
        }
        .plan()
    };
    let held = |plan: &Plan| plan.changes.iter().map(|change| change.held).collect::<Vec<_>>();

    for along in [Sent::Same, Sent::Different] {
        assert_eq!(held(&plan(&world, true, along)), [None]);
    }
    assert_eq!(held(&plan(&world, false, Sent::Same)), [Some(Hold::Policy)], "it was there before");
    assert_eq!(
        held(&plan(&world, true, Sent::Unknown)),
        [Some(Hold::Policy)],
        "it was not declared then, or was written"
    );
    world.live.get_mut(&Key::new("tenants", "t")).unwrap().insert("name".to_owned(), json!("other"));
    assert_eq!(held(&plan(&world, true, Sent::Same)), [Some(Hold::Policy), None], "the part alone");
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
    let guards = Guards { deletes: Most { by_kind: [("tenants".to_owned(), 5)].into(), ..most(1) }, ..GUARDS };
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
    assert_eq!(filled.changes[0].held, Some(Hold::FirstContact(Contact::Project)));
    assert_eq!(filled.fingerprint.len(), 16);
    assert!(filled.take_tasks(&Arc::default()).is_empty());
    assert_eq!(filled.forecast_requests(), 1, "releasing it is what applying does");
    let empty = plan(&World::default());
    assert_eq!((empty.changes[0].held, empty.fingerprint.as_str()), (None, ""));
}

/// An empty plan was no plan to be held, and made the project another's.
#[test]
fn a_project_of_another_entry_is_held_as_a_whole_whether_anything_differs_or_not() {
    let former = Former { before: "a\np".to_owned(), now: "b\np".to_owned(), is_same: true };
    let key = Key::new("permissions", "p");
    let (same, other) = (desired_of(vec![declared(key.clone(), json!({}))]), desired_of(vec![]));
    let world = live(&[(key, json!({}))]);
    let plan = |desired: &Desired, is_approved: &dyn Fn(&str) -> bool| {
        let owned = owning(&world);
        let case = Case { owned, policy: Policy::Sync, is_approved, guards: GUARDS, ..Case::of(desired, &world) };
        Case { first_contact: true, former: Some(&former), ..case }.plan()
    };

    let mut empty = plan(&same, &|_| false);
    assert!(empty.changes.is_empty() && empty.awaits_contact());
    let said = empty.takeover.as_ref().unwrap().warning().unwrap();
    assert!(said.starts_with("the state knows this project under another entry of the config (a, path p): "), "{said}");
    assert_eq!((empty.fingerprint.len(), empty.approvable().len()), (16, 1));
    let shown = render::holds(&empty);
    assert_eq!((&*shown[0].reason, shown[0].changes, shown[0].stops_project), ("first_contact", 0, true));
    let approved = plan(&same, &|digest| empty.held_digests.iter().any(|held| held == digest));
    assert!(!approved.awaits_contact() && approved.fingerprint.is_empty());
    assert_eq!(approved.released_digests, empty.held_digests, "it stands until the project is this one's");
    empty.release(|hold| *hold == Hold::FirstContact(Contact::Project));
    assert!(!empty.awaits_contact());

    // What was approved before was approved of the other one.
    let first = plan(&other, &|_| false);
    let takeover = first.takeover.as_ref().unwrap().digest.clone();
    let again = plan(&other, &|digest| digest != takeover);
    assert!(again.awaits_contact() && again.changes.iter().all(|change| change.held.is_some()));
    assert_eq!(again.fingerprint, first.fingerprint);
    assert_ne!(again.fingerprint, plan(&same, &|_| false).fingerprint);
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
    let guards = Guards { deletes: Most { by_kind: [("roles".to_owned(), 3)].into(), ..ALL }, ..GUARDS };
    let case = Case { owned: owning(&world), policy: Policy::Sync, guards, ..Case::of(&desired, &world) };

    let mut plan = Case { first_contact: true, ..case }.plan();

    assert_eq!(held(&plan, "r5"), Some(Hold::MaxDeletes));
    assert_eq!(held(&plan, "t"), Some(Hold::MaxDeletes), "it would take along what is held");
    assert_eq!(
        (held(&plan, "new"), held(&plan, "p")),
        (Some(Hold::FirstContact(Contact::Project)), Some(Hold::FirstContact(Contact::Project)))
    );
    plan.release(|hold| *hold == Hold::FirstContact(Contact::Project));
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
    let plan = |answers: Vec<(&'static str, Result<Documents, descope::Error>)>| {
        let observed = Observed { kinds: answers.into_iter().collect(), ..World::default().observed() };
        Case { observed, sent: Sent::Unknown, first_contact: true, ..Case::of(&desired, &World::default()) }.plan()
    };
    let (whole, empty) =
        (plan(vec![("permissions", Ok(Documents::default())), ("roles", Ok(Documents::default()))]), || {
            ("permissions", Ok(Documents::default()))
        });
    assert!(whole.has_seen_all());

    let one = plan(vec![empty(), ("roles", Err(forbidden()))]);
    assert!(one.has_seen_all());
    assert_eq!(held(&one, "a"), Some(Hold::FirstContact(Contact::Project)), "nobody knows that the project is empty");
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
    let guards =
        Guards { deletes: Most { percent: 20.0, ..most(10) }, missing: Most { percent: 20.0, ..most(10) }, ..GUARDS };

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
    let guards =
        Guards { deletes: Most { percent: 20.0, ..most(10) }, missing: Most { percent: 20.0, ..most(10) }, ..GUARDS };

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
    let by_kind = BTreeMap::from([("tenants".to_owned(), 0)]);
    let guards = Guards { deletes: Most { by_kind, percent: 20.0, ..most(10) }, ..GUARDS };

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

fn sync<'a>(desired: &'a Desired, world: &World) -> Case<'a> {
    Case { owned: owning(world), policy: Policy::Sync, ..Case::of(desired, world) }
}

/// Five updates were held, the permission was deleted, and five roles lost it live.
#[test]
fn what_a_held_change_lets_go_of_is_blocked_until_it_has_and_says_by_whom() {
    let of = |n: usize, fields: Value| (Key::new("roles", &format!("r{n}")), fields);
    let roles = |names: Value| (0..5).map(|n| of(n, json!({ "permissionNames": names }))).collect::<Vec<_>>();
    let stays = [(Key::new("permissions", "q"), json!({}))];
    let world = live(&[&stays[..], &[(Key::new("permissions", "p"), json!({}))], &roles(json!(["p", "q"]))].concat());
    let desired = desired(&[&stays[..], &roles(json!(["q"]))].concat());
    let guards = Guards { max_change_percent: Some(10.0), ..GUARDS };
    let plan = |is_approved: &dyn Fn(&str) -> bool| {
        Case { guards: guards.clone(), is_approved, ..sync(&desired, &world) }.plan()
    };

    let seen = plan(&|_| false);
    assert_eq!((held(&seen, "r0"), held(&seen, "p")), (Some(Hold::MaxChangePercent), Some(Hold::Blocked)));
    assert_eq!(seen.held().count(), 5, "the fingerprint covers what blocks it");
    let said = seen.warnings.join("\n");
    assert!(said.contains("permissions/p waits until it is let go by roles/r0 (max_change_percent)"), "{said}");
    let free = plan(&|_| true);
    assert!(free.changes.iter().all(|change| change.held.is_none()));
    let delete = free.changes.iter().find(|change| change.action == Action::Delete).unwrap();
    assert_eq!(delete.tasks[0].after.len(), 5, "and goes after them");
    let only_it = plan(&|digest| !seen.held_digests.contains(&digest.to_owned()));
    assert_eq!(held(&only_it, "p"), Some(Hold::Blocked), "an approval of it alone changes nothing");
    let mut released = seen;
    released.release(|hold| *hold == Hold::MaxChangePercent);
    assert!(released.changes.iter().all(|change| change.held.is_none() && change.why.is_none()), "{released:?}");
}

#[test]
fn what_needs_a_change_that_is_held_waits_for_it_by_name_and_other_calls_go_ahead() {
    let tenant =
        |id: &str, name: &str, roles: Value| (Key::new("tenants", id), json!({ "name": name, "defaultRoles": roles }));
    let role = (Key::new("roles", "r"), json!({}));
    let world = live(&[tenant("a", "A", json!([])), tenant("b", "B", json!([])), role.clone()]);
    let desired = desired(&[tenant("a", "B", json!(["r"])), tenant("b", "C", json!([])), role]);
    let mut plan = Case::of(&desired, &world).plan();
    let of_a = |plan: &Plan| {
        let of_a = plan.changes.iter().filter(|change| *change.key.name == *"a");
        of_a.map(|change| (change.tasks.len(), change.held, change.why.clone())).collect::<Vec<_>>()
    };
    assert_eq!(of_a(&plan), [(2, None, None)], "it goes after the other");

    plan.changes.iter_mut().find(|change| *change.key.name == *"b").unwrap().held = Some(Hold::Contested);
    crate::plan::guards::settle(&mut plan.changes);

    let why = "waits: its name \"B\" is still that of tenants/b (contested)".to_owned();
    assert_eq!(of_a(&plan), [(1, None, None), (1, Some(Hold::Blocked), Some(why))]);
}

/// What it is now, nobody can tell from an answer.
#[test]
fn a_switch_that_no_answer_shows_is_on_if_that_was_sent_last() {
    let key = Key::new("passwordSettings", "passwordSettings");
    let world = live(&[(key.clone(), json!({}))]);
    let off = json!({ "anyLetter": false, "disallowEmailMatch": false, "disallowedCharacters": "<>" });
    let desired = desired_of(vec![declared(key, off)]);
    for was_on in [true, false] {
        let sent = |_: &Key, _: &str, value: &Value| match (value, was_on) {
            (Value::String(_), _) | (Value::Bool(true), true) => Sent::Same,
            _ => Sent::Different,
        };
        let case = Case::of(&desired, &world);

        let plan = case.with_inputs(&|_| true, |inputs| diff(&Inputs { sent: &sent, ..*inputs }));

        let dangers: Vec<&str> = plan.changes[0].dangers.iter().map(|(_, what)| what.as_str()).collect();
        assert_eq!(dangers.iter().any(|danger| danger.contains("anyLetter is turned off")), was_on, "{dangers:?}");
    }
}

#[test]
fn a_danger_is_held_told_or_nothing_as_the_config_says_and_told_where_a_create_brings_it() {
    let tenant = |fields: Value| (Key::new("tenants", "t"), fields);
    let (before, after) = (json!({ "name": "t", "enforceSSO": true }), json!({ "name": "t", "enforceSSO": false }));
    let off = json!({ "name": "t", "disabled": true });
    let weaker = "tenants/t has less protection than it could";
    let locked = "tenants/t may lock people out";
    for (live_side, wanted, watch, expected, told) in [
        (Some(&before), &after, Watch::Hold, Some(Hold::Weakening), None),
        (Some(&before), &after, Watch::Warn, None, Some(weaker)),
        (Some(&before), &after, Watch::Off, None, None),
        (None, &off, Watch::Hold, None, Some(locked)),
        (None, &off, Watch::Warn, None, Some(locked)),
        (None, &off, Watch::Off, None, None),
    ] {
        let world = live(&live_side.map(|fields| tenant(fields.clone())).into_iter().collect::<Vec<_>>());
        let desired = desired_of(vec![declared(Key::new("tenants", "t"), wanted.clone())]);
        let guards = Guards { weakening: watch, lockout: watch, ..GUARDS };

        let plan = Case { guards, ..Case::of(&desired, &world) }.plan();

        assert_eq!(held(&plan, "t"), expected, "{wanted} {watch:?}");
        let said = plan.warnings.iter().any(|warning| told.is_some_and(|told| warning.contains(told)));
        let is_quiet = !plan.warnings.iter().any(|warning| warning.contains(weaker) || warning.contains(locked));
        assert!(said == told.is_some() && (said || is_quiet), "{wanted} {watch:?}: {:?}", plan.warnings);
    }
}

/// Nobody relies on what the create is still to bring.
#[test]
fn what_finishes_a_create_is_told_where_nothing_is_there_yet_and_held_where_it_lowers_what_is() {
    let key = Key::new("tenants", "t");
    let sso = |domain: &str| {
        let saml = json!({ "idpUrl": "u", "disableSignRequest": false });
        json!([{ "ssoId": "s", "domains": [domain], "saml": saml }])
    };
    for (shown, expected) in [(json!([]), None), (sso("a.example"), Some(Hold::Weakening))] {
        let world = live(&[(key.clone(), json!({ "name": "t", "sso": shown }))]);
        let desired = desired_of(vec![declared(key.clone(), json!({ "name": "t", "sso": sso("*.example") }))]);
        let owned = [(key.clone(), Ownership { created: true, ..Ownership::default() })].into();

        let plan = Case { owned, along: Sent::Same, ..Case::of(&desired, &world) }.plan();

        assert!(plan.changes[0].completes, "{shown}");
        assert_eq!(held(&plan, "t"), expected, "{shown}");
        let told = "tenants/t has less protection than it could: sso[s].domains gains the wildcard *.example";
        assert_eq!(plan.warnings.iter().any(|warning| warning.contains(told)), expected.is_none(), "{shown}");
    }
}

/// What goes on beside a call that would reset something is another change.
#[test]
fn of_an_update_only_the_call_that_would_reset_something_waits() {
    let key = Key::new("tenants", "t");
    let world = live(&[(key.clone(), json!({ "name": "t", "passwordSettings": { "enabled": true, "minLength": 8 } }))]);
    let wanted = json!({ "name": "new", "passwordSettings": { "minLength": 12 } });
    let desired = desired_of(vec![declared(key, wanted)]);

    let plan = Case::of(&desired, &world).plan();

    let parts: Vec<_> =
        plan.changes.iter().map(|change| (change.fields.list()[0].path.to_string(), change.held)).collect();
    assert_eq!(parts, [("name".to_owned(), None), ("passwordSettings.minLength".to_owned(), Some(Hold::WouldReset))]);
}

#[test]
fn what_is_still_declared_to_be_needed_is_not_deleted_whatever_is_approved() {
    let all = [
        (Key::new("permissions", "p"), json!({})),
        (Key::new("permissions", "stays"), json!({})),
        (Key::new("roles", "holder"), json!({ "permissionNames": ["p"] })),
        (Key::new("roles", "default"), json!({})),
        (Key::new("tenants", "top"), json!({ "name": "top" })),
        (Key::new("tenants", "child"), json!({ "name": "c", "parent": "top", "defaultRoles": ["default"] })),
    ];
    let world = live(&all);
    let desired = desired(&[all[1].clone(), all[2].clone(), all[5].clone()]);

    let plan = Case { is_approved: &|_| true, ..sync(&desired, &world) }.plan();

    for name in ["p", "default", "top"] {
        assert_eq!(held(&plan, name), Some(Hold::StillDeclared), "{name}");
    }
    assert_eq!((plan.held().count(), plan.fingerprint.as_str()), (0, ""), "nobody can approve it");
    let said = plan.warnings.join("\n");
    assert!(
        said.contains("permissions/p left the YAML, but is still referred to by roles/holder (a.yaml:1)"),
        "{said}"
    );
}

/// What was not there to be updated, or could not be seen, stood in nobody's way.
#[test]
fn what_others_refer_to_or_may_refer_to_waits_for_an_approval_that_names_them() {
    let gone = (Key::new("permissions", "p"), json!({}));
    let stays = (Key::new("permissions", "stays"), json!({}));
    let role = |name: &str, tenant: Option<&str>| {
        let key = tenant.map_or_else(|| Key::new("roles", name), |tenant| Key::in_tenant("roles", tenant, name));
        (key, json!({ "permissionNames": ["p"] }))
    };
    let partly = (Key::new("roles", "plain"), json!({ "description": "d" }));
    for referrer in [role("foreign", None), role("Tenant Admin", None), role("own", Some("t")), role("plain", None)] {
        let mut world = live(&[gone.clone(), stays.clone(), referrer.clone()]);
        let owned = owning(&live(std::slice::from_ref(&gone)));
        let wanted =
            if *referrer.0.name == *"plain" { vec![stays.clone(), partly.clone()] } else { vec![stays.clone()] };
        let desired = desired(&wanted);
        let plan = |world: &World, is_approved: &dyn Fn(&str) -> bool| {
            Case { owned: owned.clone(), is_approved, ..sync(&desired, world) }.plan()
        };

        let seen = plan(&world, &|_| false);

        assert_eq!(held(&seen, "p"), Some(Hold::StillReferenced(Referrer::Undeclared)), "{}", referrer.0);
        let said = seen.warnings.join("\n");
        assert!(said.contains(&format!("is still referred to by {}", referrer.0)), "{said}");
        let known = |digest: &str| seen.held_digests.contains(&digest.to_owned());
        assert_eq!(held(&plan(&world, &known), "p"), None);
        let another = live(&[role("another", None)]);
        world.live.extend(another.live);
        assert_eq!(held(&plan(&world, &known), "p"), seen.changes.iter().find(|c| *c.key.name == *"p").unwrap().held);
    }
    let world = live(&[gone, stays.clone()]);
    let desired = desired(&[stays]);
    let mut observed = world.observed();
    observed.kinds.insert("roles", Err(timeout()));
    let unseen = Case { observed, ..sync(&desired, &world) }.plan();
    assert_eq!(held(&unseen, "p"), Some(Hold::StillReferenced(Referrer::Unseen)));
    assert!(unseen.warnings.join("\n").contains("roles cannot be seen"), "{:?}", unseen.warnings);
    let of_permissions = Desired { kinds: ["permissions"].into(), ..desired.clone() };
    assert_eq!(held(&sync(&of_permissions, &world).plan(), "p"), None, "what nobody declares is not asked for");
}

/// The delete of a role was held, and that of its permission went.
#[test]
fn what_is_deleted_together_is_held_together_and_holds_nobody_up() {
    let all = [
        (Key::new("permissions", "p"), json!({})),
        (Key::new("permissions", "stays"), json!({})),
        (Key::new("roles", "stays"), json!({})),
        (Key::in_tenant("roles", "t", "own"), json!({ "permissionNames": ["p"] })),
        (Key::new("tenants", "stays"), json!({ "name": "s" })),
        (Key::new("tenants", "t"), json!({ "name": "t", "defaultRoles": ["own"] })),
    ];
    let world = live(&all);
    let desired = desired(&[all[1].clone(), all[2].clone(), all[4].clone()]);
    let limits = Most { by_kind: [("tenants".to_owned(), 0)].into(), ..ALL };
    let plan = |guards: Guards, is_approved: &dyn Fn(&str) -> bool| {
        Case { guards, is_approved, ..sync(&desired, &world) }.plan()
    };

    let free = plan(GUARDS, &|_| false);
    assert!(free.changes.iter().all(|change| change.held.is_none()), "they do not hold one another");
    let order: Vec<String> = free.changes.iter().map(|change| change.key.to_string()).collect();
    assert_eq!(order, ["roles/t/own", "tenants/t", "permissions/p"]);
    let after = |n: usize| free.changes[n].tasks[0].after.iter().map(|slot| slot.key.to_string()).collect::<Vec<_>>();
    assert_eq!((after(0), after(1)), (vec![], vec!["roles/t/own".to_owned()]), "in no circle");

    let over = plan(Guards { deletes: limits.clone(), ..GUARDS }, &|_| false);
    assert!(over.changes.iter().all(|change| change.held == Some(Hold::MaxDeletes)), "{:?}", over.warnings);
    assert_eq!(over.held_digests.len(), 3, "one approval covers all");
    let digests = over.held_digests;
    let all = plan(Guards { deletes: limits, ..GUARDS }, &|digest| digests.contains(&digest.to_owned()));
    assert!(all.changes.iter().all(|change| change.held.is_none()));
}

/// A stale file reverted what was live as soon as its kind was declared for the first time.
#[test]
fn a_kind_or_part_that_is_seen_for_the_first_time_changes_nothing_before_somebody_looked() {
    let world = live(&[
        (Key::new("roles", "live"), json!({ "description": "live" })),
        (Key::new("tenants", "t"), json!({ "name": "live", "defaultRoles": ["live"] })),
    ]);
    let desired = desired(&[
        (Key::new("roles", "live"), json!({ "description": "stale" })),
        (Key::new("roles", "new"), json!({})),
        (Key::new("tenants", "t"), json!({ "name": "new", "defaultRoles": [] })),
    ]);
    let first = Some(Hold::FirstContact(Contact::Part));
    let plan = |unknown: &[(&'static str, &'static str)], sent: Sent| {
        let unknown = unknown.iter().copied().collect();
        Case { sent, unknown, ..Case::of(&desired, &world) }.plan()
    };
    let held_of = |plan: &Plan| -> Vec<(String, Option<Hold>)> {
        plan.changes.iter().map(|change| (change.key.to_string(), change.held)).collect()
    };
    let of_roles = resource::kind("roles").unwrap().spec().fields().filter(|(_, field)| field.is_declarable());
    let fields: Vec<_> = of_roles.map(|(_, field)| ("roles", field.name)).collect();

    let roles = plan(&fields, Sent::Unknown);
    assert_eq!(
        held_of(&roles),
        [("roles/live".to_owned(), first), ("roles/new".to_owned(), None), ("tenants/t".to_owned(), None)]
    );
    assert!(crate::plan::guards::contacted(&roles).is_empty(), "nobody looked yet");
    assert_eq!(crate::plan::guards::unknown_kinds(&roles), ["roles"].into());
    let part = plan(&[("tenants", "defaultRoles")], Sent::Unknown);
    let of_tenant: Vec<_> = part.changes.iter().filter(|change| change.key.kind == "tenants").collect();
    assert_eq!(of_tenant.iter().map(|change| change.held).collect::<Vec<_>>(), [None, first], "the part alone");
    assert_eq!(of_tenant[0].fields.list()[0].path, "name");
    assert_eq!(of_tenant[1].fields.list()[0].path, "defaultRoles");
    let sent = plan(&[("tenants", "defaultRoles")], Sent::Different);
    assert_eq!(sent.held().count(), 0, "we sent it before");
    let declared = desired_of(vec![declared(Key::new("roles", "live"), json!({ "description": "live" }))]);
    let in_sync = Case { unknown: fields.iter().copied().collect(), ..Case::of(&declared, &world) }.plan();
    assert_eq!(crate::plan::guards::contacted(&in_sync).len(), fields.len(), "nothing had to be let go");
}

#[test]
fn a_kind_or_part_is_known_once_it_is_declared_and_its_whole_list_was_seen() {
    let of_kind = |kind: &'static str| {
        let fields = resource::kind(kind).unwrap().spec().fields().filter(|(_, field)| field.is_declarable());
        fields.map(move |(_, field)| (kind, field.name)).collect::<BTreeSet<_>>()
    };
    let unknown = &of_kind("permissions") | &of_kind("roles");
    let permission = [(Key::new("permissions", "p"), json!({}))];
    let roles: Vec<(Key, Value)> = (0..12).map(|n| (Key::new("roles", &format!("r{n}")), json!({}))).collect();
    let all = [&permission[..], &roles].concat();
    let (world, owned) = (live(&all[..2]), owning(&live(&all)));
    let of = |side: &[(Key, Value)]| {
        desired_of(side.iter().map(|(key, fields)| declared(key.clone(), fields.clone())).collect())
    };
    let (both, first) = (of(&all), of(&permission));
    let strict = Guards { missing: most(0), ..GUARDS };
    for (desired, guards, expected, why) in [
        (&both, &GUARDS, unknown.clone(), "both were seen"),
        (&first, &GUARDS, of_kind("permissions"), "the other is not declared"),
        (&both, &strict, of_kind("permissions"), "the list of the other lacks what is ours"),
    ] {
        let (guards, owned, unknown) = (guards.clone(), owned.clone(), unknown.clone());

        let plan = Case { owned, guards, unknown, ..Case::of(desired, &world) }.plan();

        let contacted: BTreeSet<_> = crate::plan::guards::contacted(&plan).into_iter().collect();
        assert_eq!(contacted, expected, "{why}");
    }
}

#[test]
fn a_part_is_known_once_its_own_call_has_shown_it() {
    let key = Key::new("tenants", "t");
    let sso = json!([{ "ssoId": "s", "domains": ["a.example"] }]);
    let desired = desired_of(vec![declared(key.clone(), json!({ "name": "t", "sso": sso }))]);
    for (shown, expected) in [(Value::Null, vec![]), (sso, vec![("tenants", "sso")])] {
        let world = live(&[(key.clone(), json!({ "name": "t", "authType": "saml", "sso": shown }))]);

        let plan = Case { unknown: [("tenants", "sso")].into(), ..Case::of(&desired, &world) }.plan();

        assert_eq!(crate::plan::guards::contacted(&plan), expected, "{shown}");
    }
}

/// It was adopted, and known, as soon as a guard held it as well.
#[test]
fn what_a_guard_holds_at_the_first_contact_was_never_looked_at() {
    let key = Key::new("tenants", "t");
    let world = live(&[(key.clone(), json!({ "name": "t", "enforceSSO": true }))]);
    let desired = desired_of(vec![declared(key, json!({ "name": "t", "enforceSSO": false }))]);
    let of_tenants = resource::kind("tenants").unwrap().spec().fields().filter(|(_, field)| field.is_declarable());
    let unknown: BTreeSet<_> = of_tenants.map(|(_, field)| ("tenants", field.name)).collect();

    let plan = Case { sent: Sent::Unknown, unknown: unknown.clone(), ..Case::of(&desired, &world) }.plan();

    assert_eq!(plan.changes.iter().map(|change| change.held).collect::<Vec<_>>(), [Some(Hold::Weakening)]);
    assert_eq!(crate::plan::guards::unknown_kinds(&plan), ["tenants"].into());
    let approved = Case { sent: Sent::Unknown, unknown, is_approved: &|_| true, ..Case::of(&desired, &world) }.plan();
    assert!(crate::plan::guards::unknown_kinds(&approved).is_empty());
    assert!(crate::plan::guards::contacted(&approved).contains(&("tenants", "enforceSSO")));
}

#[test]
fn what_nobody_can_read_and_the_call_would_reset_waits_for_an_approval() {
    let world = live(&[(Key::new("tenants", "t"), json!({ "name": "t" }))]);
    let desired = desired_of(vec![declared(Key::new("tenants", "t"), json!({ "name": "new" }))]);
    // No call of the kinds there are does that.
    let plan = |field: &'static str, is_approved: &dyn Fn(&str) -> bool| {
        let case = Case { is_approved, ..Case::of(&desired, &world) };
        let mut plan = case.plan();
        let part = crate::resource::MAIN;
        plan.changes[0].would_reset = thin_vec![crate::plan::write::Loss { part, field, is_secret: false }];
        case.with_inputs(&|_| true, |inputs| crate::plan::guards::hold(inputs, &Live::default(), &mut plan));
        plan
    };

    let seen = plan("federatedAppIds", &|_| false);
    assert_eq!(held(&seen, "t"), Some(Hold::WouldReset));
    let said = seen.warnings.join("\n");
    assert!(said.contains("a.yaml:1: tenants/t needs a call that would reset federatedAppIds"), "{said}");
    let known = |digest: &str| *seen.changes[0].digest == *digest;
    let approved = plan("federatedAppIds", &known);
    assert_eq!(held(&approved, "t"), None);
    assert!(approved.changes[0].tasks[0].approval.is_some(), "it is used up by this write");
    assert_eq!(held(&plan("authType", &known), "t"), Some(Hold::WouldReset), "that was not approved");
}

/// One tenant deleted by hand froze every tenant, for deletes of tenants always need an approval.
#[test]
fn the_number_that_guards_deletes_does_not_doubt_lists() {
    let all: Vec<(Key, Value)> =
        (0..4).map(|n| (Key::new("tenants", &format!("t{n}")), json!({ "name": "t" }))).collect();
    let desired = desired(&all);
    let guards = Guards { deletes: most(0), ..GUARDS };

    let plan = Case { owned: owning(&live(&all)), guards, ..Case::of(&desired, &live(&all[1..])) }.plan();

    assert_eq!((plan.changes.len(), held(&plan, "t0")), (1, None));
}

/// The new tenant waited for a domain that the old one had, and the old one for the new one.
#[test]
fn a_delete_knows_who_wants_what_it_gives_up() {
    let world = live(&[(Key::new("tenants", "acme"), json!({ "name": "Acme", "selfProvisioningDomains": ["a.com"] }))]);
    let tenant =
        |id: &str, domain: &str| (Key::new("tenants", id), json!({ "name": id, "selfProvisioningDomains": [domain] }));
    let desired = desired(&[tenant("acme2", "a.com"), tenant("other", "b.com")]);

    let plan = sync(&desired, &world).plan();

    let delete = plan.changes.iter().find(|change| change.action == Action::Delete).unwrap();
    let heirs: Vec<String> = delete.tasks[0].frees.iter().map(|slot| slot.key.to_string()).collect();
    assert_eq!(heirs, ["tenants/acme2"]);
}

/// Whoever lets a project go ahead reads what that lowers.
#[test]
fn what_is_held_for_another_reason_says_which_dangers_an_approval_lets_go_as_well() {
    let keys: Vec<Key> = ["a", "b", "c", "d", "e"].map(|id| Key::new("tenants", id)).to_vec();
    let of = |key: &Key, enforced: bool, off: bool| {
        (key.clone(), json!({ "name": *key.name, "enforceSSO": enforced, "disabled": off }))
    };
    let world = live(&keys.iter().map(|key| of(key, true, false)).collect::<Vec<_>>());
    let wanted = keys.iter().map(|key| of(key, false, true));
    let desired = desired_of(wanted.map(|(key, fields)| declared(key, fields)).collect());
    let guards = Guards { max_change_percent: Some(50.0), ..GUARDS };

    let plan = Case { owned: owning(&world), guards, ..Case::of(&desired, &world) }.plan();

    let change = &plan.changes[0];
    let why = change.why.as_deref().unwrap_or_default();
    assert_eq!(change.held, Some(Hold::MaxChangePercent));
    assert!(why.contains("it also lowers protection: ") && why.contains("; may lock people out: "), "{why}");
}

#[test]
fn what_only_a_create_sets_is_looked_at_before_it_is_refused() {
    let parent = |parent: &str| json!({ "name": "t", "parent": parent, "defaultRoles": [] });
    let key = Key::new("tenants", "t");
    let ids = ["p", "q"].map(|id| (Key::new("tenants", id), json!({ "name": id })));
    let world = live(&[ids.as_slice(), &[(key.clone(), parent("q"))]].concat());
    let desired = desired_of(vec![declared(key.clone(), parent("p"))]);
    let plan = |unknown: &[(&'static str, &'static str)]| {
        let unknown = unknown.iter().copied().collect();
        Case { sent: Sent::Unknown, unknown, ..Case::of(&desired, &world) }.plan()
    };

    let first = plan(&[("tenants", "parent"), ("tenants", "defaultRoles")]);
    assert_eq!((first.changes.len(), first.refused.len()), (1, 0));
    assert_eq!(held(&first, "t"), Some(Hold::FirstContact(Contact::Part)));
    let contacted = crate::plan::guards::contacted(&first);
    assert_eq!(contacted, [("tenants", "defaultRoles")], "nobody looked at the other one yet");

    let known = plan(&[]);
    assert_eq!((known.changes.len(), known.refused.len()), (0, 1));
    assert_eq!(known.refused[0].key, key);
}

/// The list says that it has none, and its mapping is as it was.
#[test]
fn a_role_waits_for_the_sso_that_is_declared_and_not_read_though_it_is_switched_off() {
    let (gone, tenant) = (Key::new("roles", "r"), Key::new("tenants", "t"));
    let declaration = (tenant.clone(), json!({ "name": "T", "sso": [{ "ssoId": "s", "domains": ["a.example"] }] }));
    let desired = desired(&[declaration, (Key::new("roles", "stays"), json!({}))]);
    for (shown, expected) in [(None, Some(Hold::StillReferenced(Referrer::Unseen))), (Some(json!([])), None)] {
        let live_tenant = (tenant.clone(), json!({ "name": "T", "authType": "none", "sso": shown }));
        let world = live(&[live_tenant, (gone.clone(), json!({})), (Key::new("roles", "stays"), json!({}))]);
        let owned = [(gone.clone(), Ownership::default())].into();

        let plan = Case { owned, ..sync(&desired, &world) }.plan();

        assert_eq!(held(&plan, "r"), expected, "{shown:?}");
    }
}

/// It was forgotten at once, and nothing that it may refer to waited for it.
#[test]
fn what_leaves_the_files_and_is_in_no_list_is_missing_until_that_is_proven() {
    let (role, permission) = (Key::new("roles", "r"), Key::new("permissions", "p"));
    let stays = [(Key::new("roles", "stays"), json!({})), (Key::new("permissions", "stays"), json!({}))];
    let desired = desired(&stays);
    let world = live(&[&stays[..], &[(permission.clone(), json!({}))]].concat());
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    let few = Guards { missing: most(0), ..GUARDS };
    for (guards, missing_for, expected) in [
        (&GUARDS, None, Some(2)),
        (&GUARDS, minutes(1), Some(1)),
        (&GUARDS, minutes(2), None),
        (&few, minutes(2), Some(58)),
        (&few, minutes(60), None),
    ] {
        let ownership = Ownership { missing_for, ..Ownership::default() };
        let owned = [(role.clone(), ownership), (permission.clone(), Ownership::default())].into();

        let plan = Case { owned, guards: guards.clone(), ..sync(&desired, &world) }.plan();

        let left = plan.missing.get(&role).map(|one| one.until.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        assert_eq!(left, expected.and_then(minutes), "{missing_for:?}");
        assert_eq!(plan.shrunk.contains("roles"), guards.missing == few.missing && expected.is_some());
        assert_eq!(held(&plan, "p"), expected.map(|_| Hold::Blocked));
        assert_eq!(plan.warnings.iter().any(|told| told.contains("that left the YAML (r)")), expected.is_some());
    }
    let plan = Case { owned: [(role, Ownership::default())].into(), ..Case::of(&desired, &world) }.plan();
    assert!(plan.missing.values().all(|one| !one.is_leaving), "it would not be deleted: {:?}", plan.missing);
}
