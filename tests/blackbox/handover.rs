//! Names and domains that one tenant gives up and another one wants.

use crate::guards::approve;
use crate::guards::held;
use crate::guards::reason;
use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

fn tenants(names: &[String]) -> String {
    let item = |(n, name): (usize, &String)| format!("  - {{ id: t{n:02}, name: {name} }}\n");
    format!("tenants:\n{}", names.iter().enumerate().map(item).collect::<String>())
}

/// Most of them were refused and stayed parked.
#[tokio::test]
async fn twelve_tenants_hand_on_their_names() {
    let mut world = World::new().await;
    let names: Vec<String> = (0..13).map(|n| format!("Name {n}")).collect();
    world.write("tenants.yaml", &tenants(&names[..12]));
    world.converge().await;

    world.write("tenants.yaml", &tenants(&names[1..]));
    world
        .until("all have their new names", async |world| {
            let live = world.live().await;
            let name = |n: usize| {
                live["tenants"].as_array().unwrap().iter().find(|t| t["id"] == format!("t{n:02}")).map(|t| &t["name"])
            };
            (0..12).all(|n| name(n).is_some_and(|name| *name == names[n + 1]))
        })
        .await;
    world.converge().await;
    let patches = world.writes().await.iter().filter(|(line, _)| line.starts_with("PATCH")).count();
    assert_eq!(patches, 12, "who frees a name goes first");
}

#[tokio::test]
async fn two_that_swap_are_a_problem_that_names_both() {
    let mut world = World::new().await;
    let names = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<String>>();
    world.write("tenants.yaml", &tenants(&names(&["A", "B", "C"])));
    world.converge().await;
    let before = world.writes().await.len();

    world.write("tenants.yaml", &tenants(&names(&["B", "A", "D"])));
    world.until("C became D", async |world| world.entity("tenants", "t02").await.unwrap()["name"] == "D").await;
    world.until("both told", async |world| world.project().await["problems"].as_array().unwrap().len() == 2).await;

    for (id, other) in [("t00", "tenants/t01"), ("t01", "tenants/t00")] {
        let problem = world.problem("tenants", id).await.unwrap();
        let message = problem["message"].as_str().unwrap();
        assert!(message.contains(other) && message.contains(&format!("tenants/{id}")), "{message}");
        assert_eq!(problem["state"], "parked");
    }
    assert!(!world.is_converged().await);
    assert_eq!(world.writes().await.len(), before + 1, "nothing is sent that cannot be done");
    world.write("tenants.yaml", &tenants(&names(&["X", "A", "D"])));
    world.converge().await;
}

/// It stayed parked until its own declaration changed.
#[tokio::test]
async fn what_was_refused_for_another_resource_is_tried_again_when_that_changes() {
    let mut world = World::new().await;
    let names = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<String>>();
    world.write("tenants.yaml", &tenants(&names(&["A", "B"])));
    world.converge().await;
    // The second is nobody's by now, and keeps its name.
    world.write("tenants.yaml", &tenants(&names(&["B"])));
    world.until("refused", async |world| world.has_problem("tenants", "t00", "parked").await).await;
    let writes = world.writes().await.len();
    world.fresh_pass().await;
    assert_eq!(world.writes().await.len(), writes);

    world.edit_live("tenants/t01", json!({ "name": "C" })).await;
    world.fresh_pass().await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.entity("tenants", "t00").await.unwrap()["name"], "B");
}

fn syncing() -> Setup {
    let guards = "guards: { deleteAfter: 0s, maxDeletes: 100, maxDeletePercent: 100 }";
    let project = ["firstContact: apply", "policy: sync", guards].map(str::to_owned).to_vec();
    Setup { project, ..Setup::default() }
}

/// Deletes run last, so the update was refused before the name was free, and stayed parked until the next interval.
#[tokio::test]
async fn an_update_that_wants_the_name_of_what_the_same_drain_deletes_follows_it() {
    let mut world = World::with(syncing()).await;
    world.write("tenants.yaml", "tenants:\n  - { id: old, name: Acme }\n  - { id: new, name: Acme 2 }\n");
    world.converge().await;

    world.write("tenants.yaml", "tenants:\n  - { id: new, name: Acme }\n");
    world.until("handed on", async |world| world.entity("tenants", "new").await.unwrap()["name"] == "Acme").await;

    world.converge().await;
    assert!(world.entity("tenants", "old").await.is_none());
}

/// Descope did not know yet that the role had let go: the delete was refused, and stayed parked until the next interval.
#[tokio::test]
async fn a_delete_that_is_refused_though_its_obstacle_just_fell_is_tried_again() {
    let mut world = World::with(syncing()).await;
    world.write("permissions.yaml", "permissions:\n  - { name: p }\n  - { name: q }\n");
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [p, q] }\n");
    world.converge().await;
    let body = json!({ "errorCode": "E011003", "errorMessage": "p is still in use" });
    let late = json!({ "match": { "path": "/v1/mgmt/permission/delete", "times": 1 }, "fault": "status", "status": 400, "body": body });
    world.faults(json!([late])).await;

    world.write("permissions.yaml", "permissions:\n  - { name: q }\n");
    world.write("roles.yaml", "roles:\n  - { name: r, permissionNames: [q] }\n");
    world.until("deleted", async |world| world.entity("permissions", "p").await.is_none()).await;

    world.converge().await;
    let deletes = world.writes().await.iter().filter(|(line, _)| line.contains("permission/delete")).count();
    assert_eq!(deletes, 2);
}

fn with_sso(tenants: &[(&str, &str)]) -> String {
    let sso = |domain: &str| {
        let saml = "saml: { idpUrl: \"https://idp.example.com\", entityId: e, idpCert: c, disableSignRequest: false }";
        format!("sso: [{{ domains: [{domain}], {saml} }}]")
    };
    let item = |(id, domain): &(&str, &str)| format!("  - {{ id: {id}, name: {id}, {} }}\n", sso(domain));
    format!("tenants:\n{}", tenants.iter().map(item).collect::<String>())
}

async fn domains(world: &World, id: &str) -> serde_json::Value {
    world.entity("tenants", id).await.unwrap()["domains"].clone()
}

/// Names and self-provisioning domains alone were known to stand in the way: who wanted an SSO domain stayed parked.
#[tokio::test]
async fn an_sso_domain_goes_from_one_tenant_to_another() {
    for (gives, takes) in [("a", "b"), ("b", "a")] {
        let mut world = World::with(Setup { top: vec!["concurrency: 1".to_owned()], ..Setup::default() }).await;
        world.write("tenants.yaml", &with_sso(&[(gives, "x.com"), (takes, "y.com")]));
        world.converge().await;
        let before = world.writes().await.len();

        world.write("tenants.yaml", &with_sso(&[(gives, "z.com"), (takes, "X.com")]));
        world.until("handed on", async |world| domains(world, takes).await == json!(["X.com"])).await;
        world.until("converged", async |world| world.is_converged().await).await;

        assert_eq!(domains(&world, gives).await, json!(["z.com"]));
        assert_eq!(world.writes().await.len(), before + 2, "who frees a domain goes first");
    }
}

/// The call of the settings goes before those of SSO.
#[tokio::test]
async fn an_sso_domain_goes_to_one_who_wants_it_in_its_settings() {
    let mut world = World::new().await;
    let tenants = |sso: &str, settings: &str| {
        let b = format!("  - {{ id: b, name: b, settings: {{ domains: [{settings}] }} }}\n");
        with_sso(&[("a", sso)]) + &b
    };
    world.write("tenants.yaml", &tenants("x.com", "y.com"));
    world.converge().await;
    let before = world.writes().await.len();

    world.write("tenants.yaml", &tenants("z.com", "x.com"));
    world.until("handed on", async |world| domains(world, "b").await == json!(["x.com"])).await;
    world.until("converged", async |world| world.is_converged().await).await;

    assert_eq!(domains(&world, "a").await, json!(["z.com"]));
    let sent: Vec<String> = world.writes().await.split_off(before).into_iter().map(|(line, _)| line).collect();
    assert!(
        sent.ends_with(&["POST /v1/mgmt/sso/saml".to_owned(), "POST /v1/mgmt/tenant/settings".to_owned()]),
        "{sent:?}"
    );
    assert!(sent.len() <= 3, "refused once at most: {sent:?}");
}

#[tokio::test]
async fn two_that_swap_sso_domains_are_told_and_the_rest_of_them_goes_ahead() {
    let mut world = World::new().await;
    world.write("tenants.yaml", &with_sso(&[("a", "x.com"), ("b", "y.com")]));
    world.converge().await;

    world.write("tenants.yaml", &with_sso(&[("a", "y.com"), ("b", "x.com")]).replace("name: a", "name: Acme"));
    world.until("renamed", async |world| world.entity("tenants", "a").await.unwrap()["name"] == "Acme").await;
    world.until("both told", async |world| world.project().await["problems"].as_array().unwrap().len() == 2).await;

    for (id, other) in [("a", "tenants/b"), ("b", "tenants/a")] {
        let problem = world.problem("tenants", id).await.unwrap();
        let message = problem["message"].as_str().unwrap();
        assert!(message.contains(other) && message.contains("none of them can go first"), "{message}");
    }
    let domains_sent = world.writes().await.iter().filter(|(line, _)| line.contains("sso/saml")).count();
    assert_eq!(domains_sent, 2, "nothing is sent that cannot be done");
}

/// It was let go ahead later, and who wanted its domain stayed parked until the next interval.
#[tokio::test]
async fn what_waits_for_a_change_that_is_held_follows_it() {
    let mut world = World::new().await;
    world.write("tenants.yaml", &with_sso(&[("a", "x.com"), ("b", "y.com")]));
    world.converge().await;

    let wanted = with_sso(&[("a", "z.com"), ("b", "x.com")]);
    world.write("tenants.yaml", &wanted.replacen("disableSignRequest: false", "disableSignRequest: true", 1));
    held(&world, "weakening").await;
    world
        .until("blocked", async |world| reason(world, "tenants", "b").await.is_some_and(|reason| reason == "blocked"))
        .await;
    world
        .until("handed on", async |world| {
            // The first look at what was made a moment ago may show more of it: then an approval from before is void.
            if let Some(fingerprint) = world.project().await["held"]["fingerprint"].as_str() {
                approve(world, fingerprint).await;
            }
            domains(world, "b").await == json!(["x.com"])
        })
        .await;
    world.until("converged", async |world| world.is_converged().await).await;
}

/// The other one is nobody's: nothing but a look at it can tell that the domain is free.
#[tokio::test]
async fn what_was_refused_for_an_sso_domain_is_tried_again_when_that_is_free() {
    let mut world = World::new().await;
    world.write("tenants.yaml", &with_sso(&[("a", "y.com"), ("b", "x.com")]));
    world.converge().await;
    world.write("tenants.yaml", &with_sso(&[("a", "x.com")]));
    world.until("refused", async |world| world.has_problem("tenants", "a", "parked").await).await;
    // The first look at its own SSO after that may show more than was sent.
    world.fresh_pass().await;
    world.until("refused", async |world| world.has_problem("tenants", "a", "parked").await).await;

    world.edit_live("tenants/b", json!({ "domains": ["z.com"] })).await;
    world.fresh_pass().await;
    world.until("converged", async |world| world.is_converged().await).await;

    assert_eq!(domains(&world, "a").await, json!(["x.com"]));
}

/// The create was refused for a name, and what would have freed the name waited for that create.
#[tokio::test]
async fn an_application_that_gives_up_a_name_goes_before_the_one_that_is_refused_for_it() {
    let mut world = World::with(syncing()).await;
    let applications = |id: &str| {
        format!("ssoApplications:\n  - {{ id: {id}, name: A, type: oidc }}\n  - {{ id: keep, name: K, type: saml }}\n")
    };
    world.write("applications.yaml", &applications("old"));
    world.converge().await;

    world.write("applications.yaml", &applications("new"));
    world.until("made", async |world| world.entity("ssoApplications", "new").await.is_some()).await;

    world.until("converged", async |world| world.is_converged().await).await;
    assert!(world.entity("ssoApplications", "old").await.is_none());
}

#[tokio::test]
async fn applications_hand_on_a_name_and_two_that_swap_are_told() {
    let mut world = World::with(Setup { top: vec!["concurrency: 1".to_owned()], ..Setup::default() }).await;
    let applications = |a: &str, b: &str| {
        let item = |(id, name): (&str, &str)| format!("  - {{ id: {id}, name: {name}, type: oidc }}\n");
        format!("ssoApplications:\n{}{}", item(("a", a)), item(("b", b)))
    };
    world.write("applications.yaml", &applications("A", "B"));
    world.converge().await;
    let before = world.writes().await.len();

    world.write("applications.yaml", &applications("B", "C"));
    world.until("handed on", async |world| world.entity("ssoApplications", "a").await.unwrap()["name"] == "B").await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.writes().await.len(), before + 2);

    world.write("applications.yaml", &applications("C", "B"));
    world.until("both told", async |world| world.project().await["problems"].as_array().unwrap().len() == 2).await;
    let problem = world.problem("ssoApplications", "a").await.unwrap();
    assert!(problem["message"].as_str().unwrap().contains("none of them can go first"), "{problem}");
    assert_eq!(world.writes().await.len(), before + 2, "nothing is sent that cannot be done");
}

async fn apply(world: &World, more: &[&str], code: i32) -> Value {
    world.run_json(&[&["apply", "-o", "json"], more].concat(), code).await["projects"][0].clone()
}

fn change<'a>(told: &'a Value, id: &str, held: Option<&str>) -> &'a Value {
    let changes = told["changes"].as_array().unwrap();
    changes
        .iter()
        .find(|change| change["id"] == id && change["held"].as_str() == held)
        .unwrap_or_else(|| panic!("{told}"))
}

/// It was sent and refused, though the plan itself held who has the name.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_over_a_value_waits_for_who_has_it_and_is_held() {
    let before = "roles: [{ name: r }]\ntenants:\n  - { id: old, name: Acme, selfProvisioningDomains: [a.example] }\n  - { id: new, name: Acme 2, defaultRoles: [] }\n";
    let after = before.replace("  - { id: old, name: Acme, selfProvisioningDomains: [a.example] }\n", "");
    let name = after.replace("Acme 2, defaultRoles: []", "Acme, defaultRoles: [r]");
    let domain = after.replace("defaultRoles: []", "defaultRoles: [r], selfProvisioningDomains: [A.example]");
    let create = format!("{after}  - {{ id: third, name: Acme }}\n");
    for (text, id, what) in
        [(&name, "new", "name"), (&domain, "new", "selfProvisioningDomains"), (&create, "third", "name")]
    {
        let project =
            ["firstContact: apply", "policy: sync", "guards: { deleteAfter: 0s }"].map(str::to_owned).to_vec();
        let world = World::with(Setup { project, ..Setup::default() }).await;
        world.write("a.yaml", before);
        apply(&world, &["--auto-approve"], 0).await;
        let written = world.writes().await.len();
        world.write("a.yaml", text);

        let told = apply(&world, &["--auto-approve"], 4).await;

        let why = change(&told, id, Some("blocked"))["why"].as_str().unwrap().to_owned();
        assert!(why.starts_with(&format!("waits: its {what} ")), "{why}");
        assert!(why.ends_with("is still that of tenants/old (max_deletes)"), "{why}");
        let sent: Vec<String> = world.writes().await.split_off(written).into_iter().map(|(line, _)| line).collect();
        assert_eq!(sent, ["POST /v1/mgmt/tenant/updateDefaultRoles"][..usize::from(id == "new")]);
        let again = world.run_json(&["plan", "-o", "json"], 0).await;
        let fingerprint = again["projects"][0]["fingerprint"].as_str().unwrap().to_owned();
        apply(&world, &["--approve", &fingerprint], 0).await;
        assert!(world.entity("tenants", "old").await.is_none());
        let taker = world.entity("tenants", id).await.unwrap();
        assert!(taker["name"] == "Acme" || taker["selfProvisioningDomains"] == json!(["A.example"]), "{taker}");
    }
}

/// One that lives on may be held as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_over_a_value_waits_for_an_update_that_is_held() {
    let world = World::new().await;
    let tenants = |first: &str, second: &str| {
        format!("tenants:\n  - {{ id: a, name: {first} }}\n  - {{ id: b, name: {second} }}\n")
    };
    world.write("a.yaml", &tenants("A, disabled: false", "B"));
    apply(&world, &["--auto-approve"], 0).await;
    let written = world.writes().await.len();
    world.write("a.yaml", &tenants("C, disabled: true", "A"));

    let told = apply(&world, &["--auto-approve"], 4).await;

    let why = change(&told, "b", Some("blocked"))["why"].as_str().unwrap();
    assert_eq!(why, "waits: its name \"A\" is still that of tenants/a (lockout)");
    assert_eq!(world.writes().await.len(), written);
    let fingerprint = told["fingerprint"].as_str().unwrap();
    let told = apply(&world, &["--approve", fingerprint], 0).await;
    assert_eq!(told["totals"]["held"], json!(0));
    let names = ["a", "b"].map(|id| (id, if id == "a" { "C" } else { "A" }));
    for (id, name) in names {
        assert_eq!(world.entity("tenants", id).await.unwrap()["name"], name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_over_a_value_waits_for_what_the_policy_forbids() {
    let mut world = World::new().await;
    world.write("a.yaml", "tenants: [{ id: a, name: A }]\n");
    apply(&world, &["--auto-approve"], 0).await;
    world.reconfigure(|setup| setup.project.push("policy: create-only".to_owned()));
    let written = world.writes().await.len();
    world.write("a.yaml", "tenants: [{ id: a, name: C }, { id: b, name: A }]\n");

    let told = apply(&world, &["--auto-approve"], 4).await;

    let why = change(&told, "b", Some("blocked"))["why"].as_str().unwrap();
    assert_eq!(why, "waits: its name \"A\" is still that of tenants/a (policy)");
    assert_eq!(world.writes().await.len(), written);
}
