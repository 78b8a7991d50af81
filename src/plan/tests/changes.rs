//! Which changes a difference makes, and the calls they take.

use super::*;

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
        Case { observed, sent: Sent::Unknown, ..Case::of(&desired, &World::default()) }.plan()
    };
    let names = |plan: &Plan| plan.changes.iter().map(|change| change.key.id()).collect::<Vec<_>>();

    let passing = plan(timeout());
    assert_eq!((names(&passing), passing.waiting), (vec!["free".to_owned()], BTreeSet::from(["roles"])));
}

/// It was sent without what it refers to, refused, and parked for as long as nobody changed anything.
#[test]
fn what_refers_to_something_that_waits_waits_as_well() {
    let world = live(&[(Key::new("tenants", "t"), json!({ "name": "t" })), (Key::new("roles", "was"), json!({}))]);
    let renamed = Declared {
        renamed_from: Some("was".into()),
        ..declared(Key::new("roles", "is"), json!({ "permissionNames": ["p"] }))
    };
    let tenant = |id: &str, fields: Value| declared(Key::new("tenants", id), fields);
    let desired = desired_of(vec![
        declared(Key::new("permissions", "p"), json!({})),
        declared(Key::new("roles", "r"), json!({ "permissionNames": ["p"] })),
        renamed,
        tenant("t", json!({ "name": "t", "defaultRoles": ["r"] })),
        tenant("parent", json!({ "name": "parent", "defaultRoles": ["is"] })),
        tenant("child", json!({ "name": "child", "parent": "parent" })),
        tenant("free", json!({ "name": "free" })),
    ]);
    let mut observed = world.observed();
    observed.kinds.insert("permissions", Err(timeout()));

    let plan = Case { observed, sent: Sent::Unknown, ..Case::of(&desired, &world) }.plan();

    let names: Vec<String> = plan.changes.iter().map(|change| change.key.id()).collect();
    assert_eq!((names, plan.waiting), (vec!["free".to_owned()], ["roles", "tenants"].into()));
    assert_eq!(plan.waiting_creates, ["roles", "tenants"].into());
    assert!(
        plan.warnings.contains(&"a.yaml:1: tenants/child waits for tenants/parent".to_owned()),
        "{:?}",
        plan.warnings
    );
}

/// The one was refused for a name that the other gave up a moment later.
#[test]
fn who_gives_up_a_name_goes_first_and_who_swap_theirs_are_refused() {
    let (a, b) = (Key::new("tenants", "a"), Key::new("tenants", "b"));
    let named = |name: &str| json!({ "name": name });
    let world = live(&[(a.clone(), named("one")), (b.clone(), named("two"))]);
    let plan = |name_of_b: &str| {
        let desired = desired_of(vec![declared(a.clone(), named("two")), declared(b.clone(), named(name_of_b))]);
        Case::of(&desired, &world).plan()
    };

    let in_turn = plan("three");
    let after = |key: &Key| {
        let change = in_turn.changes.iter().find(|change| change.key == *key).unwrap();
        change.tasks[0].after.clone()
    };
    assert_eq!(after(&a), [Slot { key: b.clone(), part: MAIN }]);
    assert_eq!(after(&b), []);

    let swapped = plan("one");
    assert!(swapped.changes.is_empty(), "{:?}", swapped.changes);
    let refused: Vec<&Key> = swapped.refused.iter().map(|refusal| &refusal.key).collect();
    assert_eq!(refused, [&a, &b]);

    // One that waits for them is in no circle itself.
    let c = Key::new("tenants", "c");
    let three = [(&a, "two"), (&b, "one"), (&c, "one")].map(|(key, name)| declared(key.clone(), named(name)));
    let desired = desired_of(three.into());
    let beside = Case::of(&desired, &world).plan();
    let refused: Vec<&Key> = beside.refused.iter().map(|refusal| &refusal.key).collect();
    assert!(refused.starts_with(&[&a, &b]) && !refused.contains(&&c), "{:?}", beside.refused);
}

/// A list that is refused for good would be waited for in vain.
#[test]
fn what_refers_to_a_list_that_failed_for_now_waits_for_it() {
    let (permission, role) = (Key::new("permissions", "p"), Key::new("roles", "r"));
    let refers = declared(role.clone(), json!({ "permissionNames": ["p"] }));
    let desired = desired_of(vec![declared(permission, json!({})), refers]);
    let operation = "GET /v1/mgmt/permission/all";
    let forbidden = descope::Error::Forbidden { operation, message: "not part of your plan".to_owned() };
    for (error, waits) in [(timeout(), true), (forbidden, false)] {
        let mut observed = World::default().observed();
        observed.kinds.insert("permissions", Err(error));

        let plan = Case { observed, ..Case::of(&desired, &World::default()) }.plan();

        assert_eq!(plan.waits.iter().any(|(key, ..)| *key == role), waits, "{:?}", plan.waits);
        assert_eq!(plan.changes.iter().any(|change| change.key == role), !waits, "{:?}", plan.changes);
    }
}

#[test]
fn a_write_that_is_built_on_a_look_of_its_own_is_forecast_with_it() {
    let (key, flow) = (Key::new("tenants", "t"), Key::new("flows", "f"));
    let settings = json!({ "inactivityTime": 30, "enabled": true });
    let world = live(&[
        (key.clone(), json!({ "name": "t", "settings": settings })),
        (flow.clone(), json!({ "file": { "a": 1 } })),
    ]);
    for (key, wanted, looks) in [
        (&key, json!({ "name": "new" }), 0),
        (&key, json!({ "name": "t", "settings": { "inactivityTime": 20 } }), 1),
        (&flow, json!({ "file": { "a": 2 } }), 0),
    ] {
        let desired = desired_of(vec![declared(key.clone(), wanted)]);

        let plan = Case::of(&desired, &world).plan();

        assert_eq!((plan.forecast_requests(), plan.forecast_looks()), (1, looks));
    }
}

/// What was refused because a name was not there is worth another try once it is.
#[test]
fn a_change_has_another_cause_once_what_it_names_is_live_or_on_its_way() {
    let (permission, role) = ((Key::new("permissions", "p"), json!({})), Key::new("roles", "r"));
    let names_it = (role.clone(), json!({ "permissionNames": ["p"] }));
    let cause = |is_live: bool, is_declared: bool| {
        let some = |is_there: bool| if is_there { vec![permission.clone()] } else { Vec::new() };
        let desired = desired(&[some(is_declared), vec![names_it.clone()]].concat());
        let plan = Case::of(&desired, &live(&some(is_live))).plan();
        plan.changes.iter().find(|change| change.key == role).unwrap().tasks[0].cause
    };

    let there = cause(true, true);

    assert_eq!([cause(true, false), cause(false, true)], [there, there]);
    assert_ne!(cause(false, false), there);
}

#[test]
fn a_switch_that_relies_on_nothing_else_is_in_the_call_that_creates() {
    let desired = desired_of(vec![declared(Key::new("tenants", "t"), json!({ "name": "t", "enforceSSO": true }))]);

    let plan = Case::of(&desired, &World::default()).plan();

    let tasks: Vec<_> = plan.changes.iter().flat_map(|change| &change.tasks).collect();
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].write.unpack().body().unwrap()["enforceSSO"], true);
}

#[test]
fn of_a_create_that_does_not_show_yet_what_other_calls_write_is_left_to_do() {
    let (tenant, role) = (Key::new("tenants", "t"), (Key::new("roles", "r"), json!({})));
    let world = live(std::slice::from_ref(&role));
    let ownership = Ownership { created: true, fresh: true, ..Ownership::default() };
    for (roles, sent, parts) in [
        (json!(["r"]), Sent::Unknown, vec!["defaultRoles"]),
        (json!(["r"]), Sent::Same, vec![]),
        (json!([]), Sent::Unknown, vec![]),
    ] {
        let desired = desired(&[(tenant.clone(), json!({ "name": "t", "defaultRoles": roles })), role.clone()]);
        let owned = [(tenant.clone(), ownership)].into();

        let plan = Case { owned, sent, ..Case::of(&desired, &world) }.plan();

        let tasks = plan.changes.iter().flat_map(|change| &change.tasks);
        assert_eq!(tasks.map(|task| task.slot.part).collect::<Vec<_>>(), parts, "{roles} {sent:?}");
    }
}

/// What was emptied shows what the server has in its place.
#[test]
fn an_empty_value_that_has_a_default_of_the_server_goes_by_what_was_sent() {
    let key = Key::new("inboundApps", "app");
    let world = live(&[(key.clone(), json!({ "name": "app", "loginPageUrl": "https://default.example" }))]);
    let desired = desired_of(vec![declared(key, json!({ "loginPageUrl": "" }))]);
    for (sent, changes) in [(Sent::Same, 0), (Sent::Different, 1), (Sent::Unknown, 1)] {
        let plan = Case { sent, ..Case::of(&desired, &world) }.plan();

        assert_eq!(plan.changes.len(), changes, "{sent:?}");
    }
}

#[test]
fn only_what_is_made_needs_a_place_for_its_secret() {
    let key = Key::new("inboundApps", "app");
    let wanted = json!({ "description": "new" });
    let there = live(&[(key.clone(), json!({ "name": "app", "description": "old" }))]);
    let file = Declared { secret_file: Some("app.secret".into()), ..declared(key.clone(), wanted.clone()) };
    for (world, declared, refusal) in [
        (&World::default(), declared(key.clone(), wanted.clone()), Some("secretFile: is missing")),
        (&World::default(), file, None),
        (&there, declared(key.clone(), wanted), None),
    ] {
        let desired = desired_of(vec![declared]);

        let plan = Case::of(&desired, world).plan();

        let said = plan.refused.first().map(|refused| refused.message.as_str());
        assert_eq!(said.is_some(), refusal.is_some(), "{said:?}");
        assert!(refusal.is_none_or(|refusal| said.unwrap().starts_with(refusal)), "{said:?}");
        assert_eq!(plan.changes.len(), usize::from(refusal.is_none()));
    }
}

#[test]
fn what_a_dry_run_refuses_is_not_tried_and_one_that_failed_for_now_is_waited_for() {
    let key = Key::new("fgaSchema", "fgaSchema");
    let desired = desired_of(vec![declared(key.clone(), json!({ "file": "model AuthZ 1.0" }))]);
    let world = live(&[(key.clone(), json!({ "file": "model AuthZ 1.0\n\ntype doc" }))]);
    let forbidden =
        descope::Error::Forbidden { operation: "POST /v1/mgmt/fga/schema/dryrun", message: "no".to_owned() };
    let refused = Preview { losses: Vec::new(), refusal: Some("line 1".to_owned()) };
    let good = Preview { losses: vec!["type doc".to_owned()], refusal: None };
    for (preview, expected) in
        [(Err(timeout()), (1, 0, 0)), (Err(forbidden), (0, 1, 0)), (Ok(refused), (0, 1, 0)), (Ok(good), (0, 0, 1))]
    {
        let previews = BTreeMap::from([(key.clone(), preview)]);
        let guards = Guards { deletes: most(0), ..GUARDS };
        let case = Case { guards, ..Case::of(&desired, &world) };

        let plan = case.with_inputs(&|_| true, |inputs| diff(&Inputs { previews: &previews, ..*inputs }));

        assert_eq!((plan.waits.len(), plan.refused.len(), plan.changes.len()), expected, "{previews:?}");
        for change in &plan.changes {
            let why = "would take along what it leaves out: type doc; 1 of fgaSchema would be gone within 24 hours, and `guards.maxDeletes` lets 0 go";
            assert_eq!(
                (change.held, change.why.as_deref()),
                (Some(Hold::MaxDeletes), Some(why)),
                "it counts as deleted"
            );
        }
    }
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
    assert_eq!(plan.changes[0].fields.list()[0].path, "name");
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
        "renamedFrom: both roles/old and roles/new exist in Descope; delete roles/new there to have roles/old renamed, \
         or declare both without the line to keep them"
    );
}

/// It was not renamed, yet what referred to it was sent with the new name: a field that nobody declared.
#[test]
fn a_rename_of_what_is_built_in_is_refused_and_what_refers_to_it_keeps_it() {
    let world = live(&[
        (Key::new("permissions", "old"), json!({ "systemDefault": true })),
        (Key::new("roles", "reader"), json!({ "permissionNames": ["old"] })),
    ]);
    let new = Declared { renamed_from: Some("old".into()), ..declared(Key::new("permissions", "new"), json!({})) };
    let reader = declared(Key::new("roles", "reader"), json!({ "description": "d" }));

    let plan = planned(&desired_of(vec![new, reader]), &world, &BTreeMap::new(), Policy::UpsertOnly);

    let [change] = &*plan.changes else { panic!("{:?}", plan.changes) };
    let Write::Overwrite { body, .. } = change.tasks[0].write.unpack() else { panic!("{change:?}") };
    assert_eq!(body["permissionNames"], json!(["old"]));
    assert_eq!(
        plan.refused[0].message,
        "renamedFrom: permissions/old is built into Descope and never renamed; remove the line to have permissions/new \
         beside it"
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

/// The others of the kind were deleted while nobody knew which of two was meant.
#[test]
fn deletes_beside_a_refused_rename_are_held() {
    let names = ["old", "new", "gone"].map(|name| Key::new("roles", name));
    let world = live(&names.map(|key| (key, json!({}))));
    let new = Declared { renamed_from: Some("old".into()), ..declared(Key::new("roles", "new"), json!({})) };
    let desired = desired_of(vec![new]);

    let plan = Case { owned: owning(&world), policy: Policy::Sync, ..Case::of(&desired, &world) }.plan();

    assert_eq!((plan.refused.len(), held(&plan, "gone")), (1, Some(Hold::MaybeRename(NewName::Refused))));
    let said = "roles: gone would be deleted beside a rename that cannot be carried out; settle that first, or approve \
                the deletes";
    assert!(plan.warnings.contains(&said.to_owned()), "{:?}", plan.warnings);
}

/// The overwriting call would reset what it does not carry.
#[test]
fn whatever_changes_of_a_tenant_is_patched_clears_included() {
    let world = live(&[(
        Key::new("tenants", "acme"),
        json!({ "name": "Acme", "selfProvisioningDomains": ["a.com"], "roleInheritance": "none",
            "customAttributes": { "plan": "gold", "seats": 3 } }),
    )]);
    for (fields, patch) in [
        (json!({ "name": "Acme Inc", "disabled": true }), Some(json!({ "name": "Acme Inc", "disabled": true }))),
        (
            json!({ "customAttributes": { "plan": "b" } }),
            Some(json!({ "customAttributes": { "plan": "b", "seats": 3 } })),
        ),
        (json!({ "customAttributes": { "seats": null } }), Some(json!({ "customAttributes": { "plan": "gold" } }))),
        (json!({ "customAttributes": null }), Some(json!({ "customAttributes": {} }))),
        (json!({ "customAttributes": {} }), None),
        (json!({ "selfProvisioningDomains": [] }), Some(json!({ "selfProvisioningDomains": [] }))),
        (json!({ "selfProvisioningDomains": null }), Some(json!({ "selfProvisioningDomains": [] }))),
        (json!({ "roleInheritance": null }), Some(json!({ "roleInheritance": "" }))),
        (json!({ "disabled": null }), None),
    ] {
        let desired = desired_of(vec![declared(Key::new("tenants", "acme"), fields.clone())]);
        let mut plan = planned(&desired, &world, &BTreeMap::new(), Policy::UpsertOnly);

        let write = plan.take_tasks(&Arc::default()).into_iter().next().map(|task| task.write);

        let patch = patch.map(document).map(|mut body| {
            body.insert("id".to_owned(), json!("acme"));
            Write::Patch(body)
        });
        assert_eq!(write.map(|write| write.unpack()), patch, "{fields}");
    }
}

#[test]
fn what_cannot_be_read_back_goes_by_what_was_sent() {
    let mut world = live(&[(Key::new("tenants", "acme"), json!({ "name": "Acme" }))]);
    world.live.get_mut(&Key::new("tenants", "acme")).unwrap().remove("defaultRoles");
    let fields = json!({ "name": "Acme", "parent": "top", "federatedAppIds": ["app"], "defaultRoles": ["r"] });
    let desired = desired_of(vec![declared(Key::new("tenants", "acme"), fields)]);
    let plan = |sent: Sent| Case { sent, ..Case::of(&desired, &world) }.plan();

    assert!(plan(Sent::Same).changes.is_empty());
    let unknown = plan(Sent::Unknown);
    let fields = unknown.changes[0].fields.list();
    let paths: Vec<&str> = fields.iter().map(|field| &*field.path).collect();
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
    assert_eq!(plan.refused[0].key, Key::new("roles", "Tenant Admin"));
    assert!(plan.refused[0].message.contains("is built into Descope"), "{:?}", plan.refused);
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
    let order: Vec<(u32, String, &str)> =
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
    assert_eq!(order.last().unwrap().2, "defaultRoles");
    assert_eq!(batch_of("permissions/p"), batch_of("permissions/q"));
    assert_eq!(forecast, 6);
}

/// Descope deletes a tenant's roles with it, so that a role went which the YAML declares, or said to protect.
#[test]
fn a_tenant_stays_while_something_in_it_is_declared_or_protected() {
    let (tenant, role) = (Key::new("tenants", "t"), Key::in_tenant("roles", "t", "own"));
    let world = live(&[(tenant.clone(), json!({ "name": "t" })), (role.clone(), json!({}))]);
    let plan = |declared: Vec<Declared>, protected: bool| {
        let ownership = Ownership { protected, ..Ownership::default() };
        let owned = [(tenant.clone(), Ownership::default()), (role.clone(), ownership)].into();
        planned(&desired_of(declared), &world, &owned, Policy::Sync)
    };

    let all = plan(Vec::new(), false);
    assert_eq!(all.changes.iter().filter(|change| change.action == Action::Delete).count(), 2);
    let kept = plan(Vec::new(), true);
    assert!(kept.changes.is_empty(), "{:?}", kept.changes);
    assert!(kept.undeclared.contains(&tenant));
    let said = "tenants/t left the YAML and stays: roles/t/own, which would go with it, is protected";
    assert_eq!(kept.warnings, [said]);
    let held = plan(vec![declared(role.clone(), json!({}))], false);
    assert_eq!(held.changes[0].held, Some(Hold::StillDeclared));
    let said = "tenants/t left the YAML, but is still referred to by roles/t/own (a.yaml:1); take it out there first, or \
                declare it again";
    assert_eq!(held.warnings, [said]);
}

/// A role of ours that the list did not show was deleted with its tenant, whatever held it.
#[test]
fn a_tenant_waits_while_nobody_knows_what_lives_in_it() {
    let (tenant, role) = (Key::new("tenants", "t"), Key::in_tenant("roles", "t", "own"));
    let world = live(&[(tenant.clone(), json!({ "name": "t" })), (role.clone(), json!({}))]);
    let desired = desired_of(Vec::new());
    let plan = |owned: &[&Key]| {
        let mut observed = world.observed();
        observed.kinds.insert("roles", Err(timeout()));
        let owned = owned.iter().map(|key| ((*key).clone(), Ownership::default())).collect();
        let case = Case::of(&desired, &world);
        Case { observed, owned, policy: Policy::Sync, is_approved: &|_| true, ..case }.plan()
    };

    let waiting = plan(&[&tenant, &role]);
    assert!(waiting.changes.is_empty() && waiting.waiting.contains("tenants"), "{:?}", waiting.changes);
    let said = "tenants/t waits: roles/t/own, which goes with it, could not be observed this time";
    assert_eq!(waiting.warnings, [said]);
    assert_eq!(plan(&[&tenant]).changes.len(), 1, "nothing of ours lives in it");
}

/// They were listed as left alone beside the delete that took them along.
#[test]
fn what_goes_with_a_tenant_is_named_and_not_called_left_alone() {
    let tenant = Key::new("tenants", "t");
    let world = live(&[
        (tenant.clone(), json!({ "name": "t" })),
        (Key::in_tenant("roles", "t", "foreign"), json!({})),
        (Key::in_tenant("roles", "other", "foreign"), json!({})),
    ]);
    let owned = [(tenant, Ownership::default())].into();

    let plan = planned(&desired(&[]), &world, &owned, Policy::Sync);

    let said = "deleting tenants/t takes roles/t/foreign along, which no file declares and this daemon does not own";
    assert_eq!(plan.warnings, [said]);
    assert_eq!(plan.undeclared, [Key::in_tenant("roles", "other", "foreign")]);
}

/// The line stays after the rename: once its new name was missing, somebody else's role of the old name was renamed.
#[test]
fn a_rename_that_is_done_says_nothing_of_whoever_has_the_old_name_now() {
    let (old, new) = (Key::new("roles", "old"), Key::new("roles", "new"));
    let world = live(&[(old.clone(), json!({ "description": "foreign" }))]);
    let desired = desired_of(vec![Declared { renamed_from: Some("old".into()), ..declared(new.clone(), json!({})) }]);
    let plan = |renamed: bool, owned: &[&Key]| {
        let owned = owned.iter().map(|key| ((*key).clone(), Ownership::default())).collect();
        let guards = Guards { deletes: most(0), missing: most(0), ..GUARDS };
        Case { owned, renamed, guards, ..Case::of(&desired, &world) }.plan()
    };
    let action = |plan: &Plan| plan.changes[0].action;

    let done = plan(true, &[]);
    assert_eq!((action(&done), &*done.undeclared), (Action::Create, &[old.clone()][..]));
    assert_eq!(
        held(&plan(true, &[&new]), "new"),
        Some(Hold::ObservationShrank),
        "ours is missing, whoever has its name"
    );
    assert_eq!(action(&plan(true, &[&old])), Action::Rename, "it was declared again since, so it is ours");
    assert_eq!(action(&plan(false, &[])), Action::Rename, "not done yet");
}

/// The audit row of each call of a tenant listed the fields of the other one as well.
#[test]
fn each_call_speaks_of_the_fields_that_it_changes() {
    let fields = json!({ "name": "new", "customAttributes": { "plan": "gold" }, "defaultRoles": ["is"] });
    let renamed = Declared { renamed_from: Some("was".into()), ..declared(Key::new("roles", "is"), json!({})) };
    let desired = desired_of(vec![renamed, declared(Key::new("tenants", "t"), fields)]);
    let was = (Key::new("roles", "was"), json!({}));
    let there = (Key::new("tenants", "t"), json!({ "name": "old" }));

    let [of_updates, of_creates] = [vec![was.clone(), there], vec![was]]
        .map(|side| planned(&desired, &live(&side), &BTreeMap::new(), Policy::Sync).take_tasks(&Arc::default()))
        .map(|tasks| {
            let paths = |task: Box<Task>| {
                let paths: Vec<String> = task.fields.list().iter().map(|field| field.path.to_string()).collect();
                (task.slot.key.to_string(), task.slot.part, paths.join(" "))
            };
            tasks.into_iter().map(paths).collect::<Vec<_>>()
        });

    let tenant = |part: &'static str, paths: &str| ("tenants/t".to_owned(), part, paths.to_owned());
    for tasks in [of_updates, of_creates] {
        assert!(tasks.contains(&("roles/is".to_owned(), resource::MAIN, "name".to_owned())), "{tasks:?}");
        assert!(tasks.contains(&tenant(resource::MAIN, "name customAttributes.plan")), "{tasks:?}");
        assert!(tasks.contains(&tenant("defaultRoles", "defaultRoles")), "{tasks:?}");
    }
}

/// A tenant's SSO was written though its settings had been refused.
#[test]
fn the_parts_of_one_resource_wait_for_one_another() {
    let fields = json!({
        "name": "A", "settings": { "enabled": true }, "passwordSettings": { "enabled": true }, "defaultRoles": ["r"],
    });
    let desired = desired_of(vec![declared(Key::new("tenants", "a"), fields)]);
    let mut plan = Case::of(&desired, &World::default()).plan();

    let tasks = plan.take_tasks(&Arc::default());
    let after = |part: &str| -> Vec<&'static str> {
        let task = tasks.iter().find(|task| task.slot.part == part).unwrap();
        task.after.iter().filter(|slot| *slot.key.name == *"a").map(|slot| slot.part).collect()
    };
    assert_eq!(after(MAIN), Vec::<&str>::new());
    assert_eq!(after("settings"), [MAIN]);
    assert_eq!(after("defaultRoles"), [MAIN, "settings"]);
    assert_eq!(after("passwordSettings"), [MAIN, "defaultRoles"]);
}

/// It was planned as a change, parked by the worker, and never tried again once the secret was there: nothing of it looked
/// otherwise.
#[test]
fn what_needs_a_secret_that_is_not_there_is_left_out_until_it_is() {
    let secret = json!({ "env": "LATE" });
    let app = declared(Key::new("outboundApps", "o"), json!({ "name": "O", "clientSecret": secret }));
    let oidc = json!({ "clientId": "c", "clientSecret": secret, "userDataUrl": "u", "userAttrMapping": {} });
    let tenant = declared(Key::new("tenants", "t"), json!({ "name": "T", "sso": [{ "ssoId": "s", "oidc": oidc }] }));
    let desired = desired_of(vec![app, tenant]);
    let case = Case { sent: Sent::Unknown, ..Case::of(&desired, &World::default()) };
    let planned = |plan: &Plan| -> Vec<(String, Vec<&str>)> {
        let parts = |change: &Change| change.tasks.iter().map(|task| task.slot.part).collect();
        plan.changes.iter().map(|change| (change.key.to_string(), parts(change))).collect()
    };

    let unset = |_: &Key, _: &str, _: &Value| -> Result<Sent, String> { Err("is not set".to_owned()) };
    let without = case.with_inputs(&|_| true, |inputs| diff(&Inputs { secret: &unset, ..*inputs }));
    let with = case.plan();

    assert_eq!(planned(&without), [("tenants/t".to_owned(), vec![MAIN])]);
    let refused: Vec<_> = without.refused.iter().map(|refusal| (refusal.key.to_string(), &*refusal.message)).collect();
    let message = |path: &str| format!("{path}: is not set");
    assert_eq!(
        refused,
        [
            ("outboundApps/o".to_owned(), &*message("clientSecret")),
            ("tenants/t".to_owned(), &*message("sso[s].oidc.clientSecret"))
        ]
    );
    assert_eq!(without.waiting_creates, ["outboundApps"].into());
    let all = [("tenants/t".to_owned(), vec![MAIN, "sso"]), ("outboundApps/o".to_owned(), vec![MAIN])];
    assert_eq!(BTreeMap::from_iter(planned(&with)), BTreeMap::from(all));
}

/// A key was never made once the folder for its secret was there, or what had been in the way was moved away.
#[test]
fn a_create_has_another_cause_once_the_place_for_its_secret_looks_otherwise() {
    let key = declared(Key::new("accessKeys", "k"), json!({}));
    let desired = desired_of(vec![Declared { secret_file: Some("k".into()), ..key }]);
    let case = Case::of(&desired, &World::default());
    let made_for = |seen: u64| {
        let plan = case.with_inputs(&|_| true, |inputs| diff(&Inputs { place: &|_| seen, ..*inputs }));
        plan.changes[0].tasks[0].cause
    };

    assert_eq!(made_for(1), made_for(1));
    assert_ne!(made_for(1), made_for(2));
}

/// What was refused is tried again when its cause is another one.
#[test]
fn a_change_has_another_cause_once_either_side_differs_and_the_same_until_then() {
    let key = Key::new("permissions", "p");
    let cause_of = |wanted: &str, live: &str, secret_file: Option<&str>| {
        let wanted = declared(key.clone(), json!({ "description": wanted }));
        let desired = desired_of(vec![Declared { secret_file: secret_file.map(Arc::from), ..wanted }]);
        let plan = Case::of(&desired, &super::live(&[(key.clone(), json!({ "description": live }))])).plan();
        plan.changes[0].tasks[0].cause
    };
    let cause = |wanted: &str, live: &str| cause_of(wanted, live, None);

    assert_eq!(cause("one", "a"), cause("one", "a"));
    assert_ne!(cause("one", "a"), cause_of("one", "a", Some("key")));
    assert_ne!(cause("one", "a"), cause("two", "a"));
    assert_ne!(cause("one", "a"), cause("one", "b"));
}

#[test]
fn a_suspension_covers_its_kind_or_one_resource_of_it() {
    let part = |kind: &str, id: Option<&str>| SuspendedPart {
        kind: kind.to_owned(),
        id: id.map(str::to_owned),
        until: SystemTime::UNIX_EPOCH,
        by: String::new(),
    };
    let key = Key::new("roles", "a");

    assert!(part("roles", None).covers(&key) && part("roles", Some("a")).covers(&key));
    for other in [part("tenants", None), part("tenants", Some("a")), part("roles", Some("b"))] {
        assert!(!other.covers(&key), "{other:?}");
    }
}

#[test]
fn a_plan_of_less_keeps_what_was_asked_for_and_what_that_needs() {
    let world = live(&[(Key::new("permissions", "gone"), json!({}))]);
    let desired = desired(&[
        (Key::new("permissions", "needed"), json!({})),
        (Key::new("permissions", "other"), json!({})),
        (Key::new("roles", "r"), json!({ "permissionNames": ["needed"] })),
    ]);
    let mut plan = planned(&desired, &world, &owning(&world), Policy::Sync);

    plan.narrow(&|key| *key.name == *"r", &|_| false);

    let left: BTreeSet<&str> = plan.changes.iter().map(|change| &*change.key.name).collect();
    assert_eq!(left, BTreeSet::from(["needed", "r"]));
}

#[test]
fn a_plan_of_less_deletes_nothing_before_what_it_does_not_delete() {
    let role = Key::new("roles", "r");
    let world = live(&[
        (Key::new("permissions", "p"), json!({})),
        (Key::new("permissions", "alone"), json!({})),
        (role.clone(), json!({ "permissionNames": ["p"] })),
    ]);
    let mut plan = planned(&desired(&[]), &world, &owning(&world), Policy::Sync);
    let is_named = |key: &Key| key.kind == "permissions";

    plan.narrow(&is_named, &is_named);

    let held: BTreeMap<&str, Option<Hold>> =
        plan.changes.iter().map(|change| (&*change.key.name, change.held)).collect();
    assert_eq!(held, BTreeMap::from([("alone", None), ("p", Some(Hold::Blocked))]));
    assert_eq!(plan.warnings.iter().filter(|warning| warning.contains("waits for the delete of roles/r")).count(), 1);
}

#[test]
fn what_no_list_shows_is_waited_for_by_name_and_of_many_a_few_are_named() {
    let tenants: Vec<_> = (0..9).map(|n| (Key::new("tenants", &format!("t{n}")), json!({ "name": "t" }))).collect();
    let with_settings = json!({ "name": "t", "settings": { "enabled": true } });
    let desired = desired_of(tenants.iter().map(|(key, _)| declared(key.clone(), with_settings.clone())).collect());

    let plan = Case::of(&desired, &live(&tenants)).plan();

    assert_eq!((plan.changes.len(), plan.waits.len()), (0, 9));
    let named = plan.warnings.iter().filter(|warning| warning.ends_with("nobody looked at its settings yet"));
    assert_eq!(named.count(), 5);
}

/// Nobody could put it back.
#[test]
fn a_secret_that_is_not_declared_is_cleared_by_no_call_and_stops_those_alone_that_might() {
    let key = Key::new("tenants", "t");
    let sso = |client: &str, secret: Option<Value>, url: &str, on: [&str; 2]| {
        let mut oidc = json!({ "clientId": client });
        if let Some(secret) = secret {
            oidc["clientSecret"] = secret;
        }
        let saml = json!({ "idpUrl": url, "disableSignRequest": false });
        json!([
            { "ssoId": "o", "authType": on[0], "oidc": oidc },
            { "ssoId": "s", "authType": on[1], "saml": saml },
        ])
    };
    let (on, off) = (["oidc", "saml"], ["none", "none"]);
    let world = live(&[(key.clone(), json!({ "name": "t", "sso": sso("c", None, "u", on) }))]);
    for (why, wanted, is_refused) in [
        ("its own configuration", sso("new", None, "u", on), true),
        ("with the secret", sso("new", Some(json!({ "env": "S" })), "u", on), false),
        ("another configuration", sso("c", None, "new", on), false),
        ("a switch, which has a call of its own", sso("c", None, "u", off), false),
    ] {
        let desired = desired_of(vec![declared(key.clone(), json!({ "name": "t", "sso": wanted }))]);

        let plan = Case::of(&desired, &world).plan();

        let refused: Vec<&str> = plan.refused.iter().map(|refusal| &*refusal.message).collect();
        let is_said =
            |said: &&str| said.starts_with("sso: the call that writes it might clear the stored clientSecret");
        assert_eq!((refused.len(), refused.iter().all(is_said)), (usize::from(is_refused), true), "{why}: {refused:?}");
        let written: Vec<&str> =
            plan.changes.iter().flat_map(|change| &change.tasks).map(|task| task.slot.part).collect();
        assert_eq!(written, if is_refused { vec![] } else { vec!["sso"] }, "{why}");
    }
}

/// A part that has a call of its own is written on what that shows right before.
#[test]
fn what_is_new_is_written_whatever_it_begins_with_and_what_is_known_only_as_planned() {
    let kind = resource::kind("tenants").unwrap();
    let part = kind.spec().parts.iter().find(|part| part.name == "settings").unwrap();
    let fields = json!({ "name": "A", "settings": { "enabled": true } });
    let desired = desired_of(vec![declared(Key::new("tenants", "a"), fields)]);
    let tasks = Case::of(&desired, &World::default()).plan().take_tasks(&Arc::default());
    let new = tasks.iter().find(|task| task.slot.part == "settings").unwrap();
    let known = Task { seen: 1, ..Task::clone(new) };
    let begins = document(json!({ "settings": { "enabled": false } }));

    let fresh = afresh(kind, part, new, &begins).unwrap();

    assert_eq!(fresh.fields.iter().map(|change| &*change.path).collect::<Vec<_>>(), ["settings.enabled"]);
    assert!(afresh(kind, part, &known, &begins).is_none(), "that was not planned");
    let already = document(json!({ "settings": { "enabled": true } }));
    assert_eq!(afresh(kind, part, &known, &already).map(|fresh| fresh.fields.len()), Some(0));
}
