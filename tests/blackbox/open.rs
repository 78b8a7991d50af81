//! What contract 7 leaves open, each question by itself: whichever way Descope answers it, the files win and nothing else
//! happens. The default of each is what every other test runs with.

use crate::harness::Setup;
use crate::harness::World;
use crate::kinds::goes_the_way_where;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

/// Kinds that go the whole way (made, left alone, healed field by field, deleted) with the other answer; of those fields
/// that it hides no drift can be seen.
macro_rules! each_is_survived {
    ($($test:ident: $switches:expr, $cases:expr, $hidden:expr;)+) => {
        /// The switches of the cases.
        const WALKED: &[&[&str]] = &[$(&$switches,)+];
        $(
            #[tokio::test]
            async fn $test() {
                for case in $cases {
                    goes_the_way_where(case, &$switches, &$hidden).await;
                }
            }
        )+
    };
}

each_is_survived! {
    unknown_fields: ["unknownFields=ignore"], ["sso_applications"], [""; 0];
    references_keep_what_is_used: ["deleteUsed=error"], ["access_keys"], [""; 0];
    domains_may_be_shared: ["sharedDomains=true"], ["tenant_sso_whole"], [""; 0];
    older_answers_of_tenants: ["olderTenants=true"], ["tenant_settings"], [""; 0];
    versions_conflict: ["versionConflicts=true"], ["password_settings", "theme"], [""; 0];
    lists_are_shuffled: ["listOrder=shuffled"], ["inbound_apps"], [""; 0];
    elements_are_shuffled: ["shuffledElements=true"], ["access_keys_of_tenants", "outbound_apps"], [""; 0];
    roles_of_keys_are_hidden: ["emptyKeyRoles=true"], ["access_keys"], ["roleNames"];
    passwords_keep_newer_fields: ["passwordKeepsNewer=true"], ["password_settings"], [""; 0];
    passwords_answer_all: ["passwordV2=false", "passwordAnswersAll=true", "emptyErrors=true"], ["password_settings"], [""; 0];
    empty_login_page: ["emptyLoginPage=true"], ["inbound_apps"], [""; 0];
    pages_of_applications: ["inboundPageSize=1"], ["inbound_apps"], [""; 0];
    oidc_is_strict: ["strictOidc=true"], ["tenant_sso_oidc"], [""; 0];
    session_tokens_are_checked: ["checksSessionTokens=true"], ["tenant_settings"], [""; 0];
    no_query_form: ["listQueryForm=false"], ["lists"], [""; 0];
    flows_have_versions: ["flowVersions=true"], ["flows"], [""; 0];
    components_rise: ["componentsRise=true"], ["flows"], [""; 0];
    documents_are_reformatted: ["reformats=true"], ["fga_schema"], [""; 0];
    built_ins_are_not_protected: ["protectedBuiltIns=false"], ["flows"], [""; 0];
    entries_of_applications_are_listed: ["appEntries=true"], ["sso_applications"], [""; 0];
}

/// Asked by tests with a name of their own, here or in the file that is named.
const ELSEWHERE: &[(&str, &str)] = &[
    ("badKeyStatus", "here"),
    ("newProjectRefuses", "here"),
    ("notFoundStatus", "here"),
    ("notFoundCode", "here"),
    ("existsStatus", "here"),
    ("existsCode", "here"),
    ("deleteAbsent", "here"),
    ("deleteParent", "here"),
    ("allSuccessors", "here"),
    ("batch", "here"),
    ("unknownPermission", "here"),
    ("patchEmptyList", "here"),
    ("patchAttributes", "here"),
    ("freePlan", "here"),
    ("throttleBody", "here"),
    ("limitBy", "here"),
    ("normalizes", "effect.rs"),
    ("readDelay", "late.rs"),
    ("renameCollision", "renamed.rs"),
    ("themeReplaces", "documents.rs"),
    ("tenantAttributes", "here"),
    ("uniqueTenantNames", "here"),
];

/// What no answer of Descope's depends on that the daemon could notice, or what it never asks.
const NO_QUESTION: &[(&str, &str)] = &[
    ("latency", "how long it takes"),
    ("latencySigma", "how long it takes"),
    ("faultRate", "what goes wrong by chance"),
    ("answersPerConnection", "what goes wrong on the way"),
    ("managementKey", "the key of a test"),
    ("licenseTier", "is sent back as it came"),
    ("emptyRoleDelete", "such a call cannot be written down"),
    ("emptyPermissionDelete", "such a call cannot be written down"),
];

async fn world(switches: &[&str]) -> World {
    let mut setup = Setup { interval: "500ms", ..Setup::default() };
    setup.simulator.extend(switches.iter().map(|switch| format!("--set={switch}")));
    setup.project.extend(
        ["policy: sync", "guards: { maxDeletes: 100, maxDeletePercent: off, deleteAfter: 0s }"].map(str::to_owned),
    );
    World::with(setup).await
}

async fn switch(world: &World, options: Value) {
    world.sim(Method::PUT, "options", Some(options)).await;
}

#[tokio::test]
async fn every_switch_has_its_test() {
    let world = World::new().await;
    let options = world.sim(Method::GET, "options", None).await;
    let mut known: BTreeSet<&str> = ELSEWHERE.iter().chain(NO_QUESTION).map(|(name, _)| *name).collect();
    known.extend(WALKED.iter().flat_map(|switches| switches.iter().filter_map(|one| one.split('=').next())));

    let mut open: BTreeSet<&str> = options.as_object().unwrap().keys().map(String::as_str).collect();
    open.insert("managementKey");

    assert_eq!(open, known);
}

#[tokio::test]
async fn a_bad_key_is_told_whatever_the_status() {
    for status in [401, 403] {
        let mut world = world(&[&format!("badKeyStatus={status}"), "managementKey=K2other"]).await;
        world.write("a.yaml", "permissions: [{ name: p }]");
        world.start().await;
        let is_told = async |world: &World| {
            let health: Value = serde_json::from_str(&world.ask(Method::GET, "/healthz").await.1).unwrap();
            health.to_string().contains("failing")
        };
        world.until("told", is_told).await;
        assert!(world.writes().await.is_empty());

        switch(&world, json!({ "managementKey": crate::harness::KEY })).await;
        world.converge().await;
    }
}

#[tokio::test]
async fn a_new_project_that_refuses_its_key_for_a_while_is_waited_for() {
    let mut world = world(&["newProjectRefuses=2s"]).await;
    world.write("a.yaml", "permissions: [{ name: p }]\ntheme: { file: theme.json }");
    world.write("theme.json", r#"{ "styles": { "light": { "primary": "blue" } } }"#);

    world.converge().await;

    world.assert_nothing_left().await;
}

/// It went behind our back, and the list does not show that yet.
#[tokio::test]
async fn what_is_gone_before_its_delete_is_done() {
    for switches in [
        &["deleteAbsent=error", "notFoundStatus=400"][..],
        &["deleteAbsent=error", "notFoundStatus=404", "notFoundCode=E999999"],
        &["deleteAbsent=error", "notFoundStatus=404", "emptyErrors=true"],
        &["deleteAbsent=success"],
    ] {
        let mut world = world(switches).await;
        let all = "tenants: [{ id: a, name: A }, { id: b, name: B }]\nlists: [{ name: l, type: texts }, { name: m, type: texts }]";
        world.write("a.yaml", all);
        world.converge().await;
        world.faults(json!([
            { "match": { "path": "/v1/mgmt/tenant/delete", "times": 1 }, "fault": "status", "status": 503, "effect": true },
            { "match": { "path": "/v1/mgmt/list/delete", "times": 1 }, "fault": "reset_after" },
        ]))
        .await;

        world.write("a.yaml", "tenants: [{ id: a, name: A }]\nlists: [{ name: l, type: texts }]");

        world.until("gone", async |world| world.entity("tenants", "b").await.is_none()).await;
        world.until("gone too", async |world| world.entity("lists", "m").await.is_none()).await;
        world.until("converged", async |world| world.is_converged().await).await;
        world.assert_nothing_left().await;
        assert!(world.entity("tenants", "a").await.is_some() && world.entity("lists", "l").await.is_some());
    }
}

/// Its answer was lost, so the next one says that it is there.
#[tokio::test]
async fn what_is_there_already_is_made_once() {
    for switches in [
        &["existsStatus=400"][..],
        &["existsStatus=409", "existsCode=E999999"],
        &["existsStatus=409", "emptyErrors=true"],
    ] {
        let mut world = world(switches).await;
        world.faults(json!([
            { "match": { "path": "/v1/mgmt/tenant/create", "times": 1 }, "fault": "reset_after" },
            { "match": { "path": "/v1/mgmt/permission/create*", "times": 1 }, "fault": "status", "status": 503, "effect": true },
        ]))
        .await;
        world.write("a.yaml", "permissions: [{ name: p, description: d }]\ntenants: [{ id: a, name: A }]");

        world.converge().await;

        assert_eq!(world.entity("permissions", "p").await.unwrap()["description"], "d");
        assert_eq!(world.live().await["tenants"].as_array().unwrap().len(), 1);
        world.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn tenants_below_one_another_leave_together() {
    for switches in [
        &["deleteParent=error"][..],
        &["deleteParent=orphan"],
        &["deleteParent=cascade"],
        &["deleteParent=error", "allSuccessors=true"],
    ] {
        let mut world = world(switches).await;
        let stays = "tenants:\n  - { id: stays, name: S }\n";
        let family = "  - { id: a, name: A }\n  - { id: b, name: B, parent: a }\n  - { id: c, name: C, parent: b }\n";
        world.write("a.yaml", &(stays.to_owned() + family));
        world.converge().await;
        world.assert_nothing_left().await;

        world.write("a.yaml", stays);

        world.until("gone", async |world| world.live().await["tenants"].as_array().unwrap().len() == 1).await;
        world.until("converged", async |world| world.is_converged().await).await;
        world.assert_nothing_left().await;
        assert!(world.entity("tenants", "stays").await.is_some(), "{switches:?}");
    }
}

/// A role in the middle of a batch names a permission that does not exist.
#[tokio::test]
async fn one_bad_item_of_a_batch_keeps_no_other_one_back() {
    for switches in [
        &["batch=atomic", "unknownPermission=error"],
        &["batch=partial", "unknownPermission=error"],
        &["batch=atomic", "unknownPermission=ignore"],
    ] {
        let mut world = world(switches).await;
        let role = |n: usize| {
            format!("  - {{ name: r{n}, description: d, permissionNames: [{}] }}\n", if n == 2 { "none" } else { "p" })
        };
        let roles: String = (0..5).map(role).collect();
        world.write("a.yaml", &format!("permissions: [{{ name: p }}]\nroles:\n{roles}"));
        world.start().await;

        for n in [0, 1, 3, 4] {
            world.until("the others", async |world| world.entity("roles", &format!("r{n}")).await.is_some()).await;
        }
        world.until("told", async |world| world.problem("roles", "r2").await.is_some()).await;
        assert!(!world.is_converged().await, "{switches:?}");
        assert_eq!(world.project().await["problems"].as_array().unwrap().len(), 1, "{switches:?}");
        let created = crate::harness::creates(&world.log().await);
        assert!(created.values().all(|(created, _)| *created <= 1), "{switches:?}: {created:?}");

        world.write("a.yaml", &format!("permissions: [{{ name: p }}]\nroles:\n{}", roles.replace("none", "p")));
        world.converge().await;
        world.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn an_empty_list_clears_or_is_told_to_have_no_effect() {
    for (switches, clears) in [(&["patchEmptyList=clears"], true), (&["patchEmptyList=ignored"], false)] {
        let mut world = world(switches).await;
        world.write("a.yaml", "tenants: [{ id: a, name: A, selfProvisioningDomains: [a.example] }]");
        world.converge().await;

        world.write("a.yaml", "tenants: [{ id: a, name: A2, selfProvisioningDomains: [] }]");

        world.until("the rest", async |world| world.entity("tenants", "a").await.unwrap()["name"] == "A2").await;
        if clears {
            world.until("converged", async |world| world.is_converged().await).await;
            assert_eq!(world.entity("tenants", "a").await.unwrap()["selfProvisioningDomains"], json!([]));
        } else {
            world.until("told", async |world| world.problem("tenants", "a").await.is_some()).await;
            let message = world.problem("tenants", "a").await.unwrap()["message"].clone();
            assert!(message.as_str().unwrap().contains("selfProvisioningDomains"), "{message}");
        }
        world.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn attributes_that_nobody_declared_outlive_a_patch() {
    for switches in
        [&["patchAttributes=replace"][..], &["patchAttributes=merge"], &[r#"tenantAttributes=["plan","mine"]"#]]
    {
        let mut world = world(switches).await;
        let tenant = |plan: &str| format!("tenants: [{{ id: a, name: A, customAttributes: {{ plan: {plan} }} }}]");
        world.write("a.yaml", &tenant("free"));
        world.converge().await;
        world.edit_live("tenants/a", json!({ "customAttributes": { "plan": "free", "mine": "x" } })).await;
        world.pass().await;

        world.write("a.yaml", &tenant("pro"));
        let has = async |world: &World, expected: Value| {
            world.entity("tenants", "a").await.unwrap()["customAttributes"] == expected
        };
        world.until("pro", async |world| has(world, json!({ "plan": "pro", "mine": "x" })).await).await;
        world.until("converged", async |world| world.is_converged().await).await;
        world.write("a.yaml", &tenant("null"));
        // Where a patch merges, what is left out of it stays: that is told.
        let is_told = async |world: &World| world.problem("tenants", "a").await.is_some();
        world
            .until("gone, or told", async |world| has(world, json!({ "mine": "x" })).await || is_told(world).await)
            .await;
        assert_eq!(world.entity("tenants", "a").await.unwrap()["customAttributes"]["mine"], "x", "{switches:?}");
        world.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn two_tenants_of_one_name_are_what_descope_makes_of_them() {
    for (switches, may_be) in [(&["uniqueTenantNames=true"], false), (&["uniqueTenantNames=false"], true)] {
        let mut world = world(switches).await;
        world.set_live(json!({ "tenants": [{ "id": "other", "name": "Same" }] })).await;
        world.write("a.yaml", "tenants: [{ id: a, name: Same }, { id: b, name: B }]");
        world.start().await;

        world.until("the rest", async |world| world.entity("tenants", "b").await.is_some()).await;
        if may_be {
            world.converge().await;
        } else {
            world.until("told", async |world| world.problem("tenants", "a").await.is_some()).await;
        }
        world.assert_nothing_left().await;
        assert_eq!(world.entity("tenants", "other").await.unwrap()["name"], "Same");
    }
}

#[tokio::test]
async fn a_plan_without_applications_parks_them_alone() {
    let mut world = world(&["freePlan=true"]).await;
    world.write("a.yaml", "permissions: [{ name: p }]\nssoApplications: [{ id: a, type: oidc, name: A }]");
    world.start().await;
    world.until("parked", async |world| world.has_problem("ssoApplications", "a", "parked").await).await;
    world.until("the rest", async |world| world.entity("permissions", "p").await.is_some()).await;
    assert!(!world.is_converged().await);

    switch(&world, json!({ "freePlan": false })).await;

    world.until("made once the plan has it", async |world| world.is_converged().await).await;
}

#[tokio::test]
async fn a_429_is_a_limit_whatever_it_says() {
    for switches in [&["throttleBody=code"][..], &["throttleBody=text"], &["throttleBody=empty", "limitBy=project"]] {
        let mut setup = Setup { interval: "1h", ..Setup::default() };
        setup.simulator =
            vec!["--rate-limit=10/1s".to_owned(), "--lockout=1s".to_owned(), "--retry-after=absent".to_owned()];
        setup.simulator.extend(switches.iter().map(|switch| format!("--set={switch}")));
        setup.top.push("rateLimit: { limit: null, lockout: 1s }".to_owned());
        let mut world = World::with(setup).await;
        crate::harness::write_some(&world, 1, 1, 25);

        world.converge().await;

        let stats = world.stats().await;
        assert!(stats.to_string().contains("429"), "it was never over the limit: {stats}");
        let created = crate::harness::creates(&world.log().await);
        assert!(created.values().all(|counts| counts.0 == 1), "{switches:?}: {created:?}");
    }
}
