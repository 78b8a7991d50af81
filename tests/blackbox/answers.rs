//! What an answer says that is none: the words tell where it came from, and what to do.

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::write_some;
use serde_json::Value;
use serde_json::json;

const ROLES: &str = "/v1/mgmt/role/all";

/// What the status says of the roles while their list is answered so.
async fn said_of_roles(world: &World, fault: Value) -> String {
    world.faults(json!([])).await;
    world.converge_on(6).await;
    world.faults(json!([fault])).await;
    world.pass().await;
    let problem = world.problem("roles", "").await.unwrap();
    assert_eq!(problem["state"], "retrying");
    assert!(!world.is_converged().await);
    problem["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_no_list_says_what_came_instead_and_why_it_is_not_taken_for_an_empty_one() {
    let top = vec!["retry: { maxAttempts: 1, initialBackoff: 20ms, maxBackoff: 100ms }".to_owned()];
    let mut world = World::with(Setup { top, ..Setup::default() }).await;
    write_some(&world, 2, 2, 2);
    world.converge().await;
    let answered = |body: Value| json!({ "fault": "status", "status": 200, "body": body, "match": { "path": ROLES } });
    let not_empty = "which is not taken for an empty one";

    for (body, what) in [
        (json!({}), "{} without the list `roles`, "),
        (json!("null"), "null without the list `roles`, "),
        (json!({ "roles": null }), "`roles: null`, without the list `roles`, "),
        (json!({ "items": [] }), "an object without the list `roles`, "),
    ] {
        let said = said_of_roles(&world, answered(body)).await;
        assert!(said.contains(&format!("{what}{not_empty}")), "{said}");
    }
    let fault = json!({
        "fault": "redirect",
        "headers": { "location": "https://sso.example.com/login?code=abc" },
        "match": { "path": ROLES },
    });
    let said = said_of_roles(&world, fault).await;
    assert!(said.contains("a redirect to https://sso.example.com/login (status 307)"), "{said}");
    assert!(said.contains("check baseUrl") && !said.contains("abc"), "{said}");

    world.faults(json!([])).await;
    world.converge_on(6).await;
    world.assert_nothing_left().await;
}

#[tokio::test]
async fn a_web_page_for_a_refusal_is_none_of_the_management_key() {
    let top = vec!["log: { format: json, level: info }".to_owned()];
    let mut world = World::with(Setup { interval: "200ms", top, ..Setup::default() }).await;
    write_some(&world, 2, 2, 2);
    let descope = async |world: &World| {
        let health: Value = serde_json::from_str(&world.open("/healthz").await.1).unwrap();
        let components = health["components"].as_array().unwrap().clone();
        let of_descope = components.into_iter().find(|component| component["name"] == "descope");
        of_descope.map_or(Value::Null, |component| component["reason"].clone())
    };

    for status in [403, 401] {
        let headers = json!({ "content-type": "text/html" });
        let fault =
            json!({ "fault": "status", "status": status, "body": "<html>Request blocked</html>", "headers": headers });
        world.faults(json!([fault])).await;
        if world.daemon.is_none() {
            world.start().await;
        }
        world.until("paused", async |world| descope(world).await == "refused on the way to Descope").await;
        assert!(world.daemon().said("something between here and Descope, such as a proxy or a firewall, refuses it"));
        assert!(!world.daemon().said("refused the management key"));
        assert!(!world.is_converged().await);

        world.faults(json!([])).await;
        world.converge_on(6).await;
        assert!(descope(&world).await.is_null());
    }
}

#[tokio::test]
async fn a_tenant_that_leaves_with_its_default_role_is_no_reason_to_warn() {
    let project =
        ["firstContact: apply", "policy: sync", "guards: { maxDeletes: 10, maxDeletePercent: off, deleteAfter: 0s }"];
    let top = vec!["log: { format: json, level: info }".to_owned()];
    let mut world = World::with(Setup { project: project.map(str::to_owned).to_vec(), top, ..Setup::default() }).await;
    world.write(
        "tenants.yaml",
        "tenants:\n  - { id: stays, name: Stays }\n  - { id: acme, name: Acme, defaultRoles: [own] }\n",
    );
    world.write("roles.yaml", "roles:\n  - { name: kept }\n  - { name: own }\n");
    world.converge().await;

    world.write("roles.yaml", "roles:\n  - { name: kept }\n");
    world.write("tenants.yaml", "tenants:\n  - { id: stays, name: Stays }\n");

    world.until("gone", async |world| world.entity("tenants", "acme").await.is_none()).await;
    world.until("converged", async |world| world.is_converged().await).await;
    let warned: Vec<String> = world
        .daemon()
        .lines()
        .into_iter()
        .filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""))
        .collect();
    assert_eq!(warned, Vec::<String>::new());
}

/// Of each kind with a list: one item that has a field of another type, or one identity twice, is no observation, and
/// nothing of the kind is written by it.
#[tokio::test]
async fn a_list_that_cannot_be_right_is_no_observation_of_any_kind() {
    let mut world = World::new().await;
    let files = |description: &str| {
        format!(
            "permissions:\n  - {{ name: p, description: {description} }}\n\
             roles:\n  - {{ name: r, description: {description}, permissionNames: [p] }}\n\
             tenants:\n  - {{ id: t, name: {description}, customAttributes: {{ plan: gold }} }}\n\
             lists:\n  - {{ name: l, type: texts, description: {description}, data: [a] }}\n\
             userAttributes:\n  - {{ name: plan, type: string, displayName: {description} }}\n\
             outboundApps:\n  - {{ id: o, name: O, description: {description} }}\n\
             ssoApplications:\n  - {{ id: s, type: saml, name: S, entityId: e, acsUrl: 'https://s.example/a' }}\n"
        )
    };
    world.write("a.yaml", &files("one"));
    world.converge().await;
    world.edit_live("roles/r", json!({ "private": true })).await;
    world.edit_live("tenants/t", json!({ "customAttributes": { "plan": "gold", "foreign": "kept" } })).await;
    let kinds = [
        ("permissions", "/v1/mgmt/permission/all"),
        ("roles", "/v1/mgmt/role/all"),
        ("tenants", "/v1/mgmt/tenant/all"),
        ("lists", "/v1/mgmt/list/all"),
        ("userAttributes", "/v1/mgmt/user/customattributes"),
        ("outboundApps", "/v1/mgmt/outbound/apps"),
        ("ssoApplications", "/v1/mgmt/sso/idp/apps/load"),
    ];
    for (round, fault) in ["wrong_types", "twice"].into_iter().enumerate() {
        let rules: Vec<Value> =
            kinds.iter().map(|(_, path)| json!({ "match": { "path": path }, "fault": fault })).collect();
        world.faults(Value::Array(rules)).await;
        let writes = world.writes().await.len();
        world.write("a.yaml", &files(["two", "three"][round]));
        for (kind, _) in kinds {
            world.until(kind, async |world| world.problem(kind, "").await.is_some()).await;
            let problem = world.problem(kind, "").await.unwrap();
            assert!(problem["message"].as_str().is_some_and(|said| !said.is_empty()), "{fault}: {problem}");
        }
        assert!(!world.is_converged().await);
        let sent = world.writes().await;
        assert_eq!(sent.len(), writes, "{fault}: {:#?}", &sent[writes..]);

        world.faults(json!([])).await;
        world.fresh_pass().await;
        world.until("changed", async |world| world.is_converged().await).await;
        assert!(world.writes().await.len() > writes, "once the answers are right");
    }
    assert_eq!(world.entity("roles", "r").await.unwrap()["private"], true);
    assert_eq!(world.entity("tenants", "t").await.unwrap()["customAttributes"]["foreign"], "kept");
    assert_eq!(world.entity("roles", "r").await.unwrap()["permissionNames"], json!(["p"]));
}

/// Entries with an `appId` were taken for the project's own: updated, and deleted in their stead.
#[tokio::test]
async fn entries_of_an_application_are_none_of_the_projects() {
    let guards = "guards: { deleteAfter: 0s, maxDeletes: 100, maxDeletePercent: 100 }";
    let project = ["firstContact: apply", "policy: sync", guards].map(str::to_owned).to_vec();
    let mut world = World::with(Setup { project, ..Setup::default() }).await;
    write_some(&world, 2, 2, 1);
    world.converge().await;
    let before = world.writes().await.len();
    world.sim(reqwest::Method::PUT, "options", Some(json!({ "appEntries": true }))).await;

    world.fresh_pass().await;
    world.assert_nothing_left().await;
    assert!(world.is_converged().await);
    assert_eq!((world.writes().await.len(), &world.project().await["undeclared"]), (before, &json!(0)));
    // One that left the files is deleted once, and its namesake in an application is not what is looked at then.
    write_some(&world, 2, 1, 1);
    world.until("deleted", async |world| world.entity("roles", "r1").await.is_none()).await;
    world.converge_on(4).await;
    world.assert_nothing_left().await;
    assert_eq!(world.writes().await.len(), before + 1);
}

/// It counted as a time-out: `Retry-After` was lost, and requests went on into the lockout.
#[tokio::test]
async fn a_429_counts_by_its_head_whatever_becomes_of_its_body() {
    for fault in ["endless_body", "short_body"] {
        let mut world = World::new().await;
        write_some(&world, 1, 1, 0);
        world.converge().await;
        let refusal = json!({
            "fault": fault, "status": 429, "headers": { "retry-after": "3" }, "match": { "path": ROLES, "times": 1 },
        });
        world.faults(json!([refusal])).await;
        let (seq, start) = (world.newest_seq().await, tokio::time::Instant::now());

        world.fresh_pass().await;

        assert!(start.elapsed() >= std::time::Duration::from_millis(2900), "{fault}: {:?}", start.elapsed());
        let codes: Vec<(Value, Value)> =
            world.requests_since(seq).await.iter().map(|e| (e["path"].clone(), e["status"].clone())).collect();
        let refused = codes.iter().position(|(_, code)| *code == 429).expect("it was refused");
        assert!(codes[refused + 1..].iter().all(|(_, code)| *code == 200), "{fault}: {codes:?}");
        assert_eq!(world.status().await["limiters"][0]["throttledTotal"], 1, "{fault}");
        assert!(world.is_converged().await, "{fault}");
    }
}

/// Each retry took the next connection of the pool, which the gateway closed as well: no write ever went through.
#[tokio::test]
async fn a_gateway_that_closes_after_one_answer_lets_everything_through() {
    let mut setup = Setup::default();
    setup.simulator.push("--set=answersPerConnection=1".to_owned());
    let mut world = World::with(setup).await;
    write_some(&world, 3, 3, 5);

    world.converge().await;

    assert_eq!(world.project().await["problems"], json!([]));
    world.fresh_pass().await;
    assert!(world.is_converged().await);
}

/// `null` for the configurations of a tenant counted as none: they were written as if they were new. And of one that comes
/// twice nobody knows which is true.
#[tokio::test]
async fn sso_configurations_that_come_as_null_or_twice_are_not_believed() {
    for fault in ["null_list", "twice"] {
        sso_is_not_believed(fault).await;
    }
}

async fn sso_is_not_believed(fault: &str) {
    let mut world = World::new().await;
    let file = |entity: &str| {
        format!(
            "tenants:\n  - id: t\n    name: T\n    sso:\n      - ssoId: main\n        saml: {{ entityId: {entity}, \
             idpUrl: 'https://i.example/s', idpCert: c }}\n"
        )
    };
    world.write("a.yaml", &file("one"));
    world.converge().await;
    let before = world.writes().await.len();
    let path = json!({ "path": "/v2/mgmt/sso/settings/all" });
    world.faults(json!([{ "fault": fault, "match": path }])).await;

    world.write("a.yaml", &file("two"));
    world.until("seen", async |world| world.daemon().said("SSOSettings")).await;
    world.fresh_pass().await;
    assert!(!world.is_converged().await);
    let writes = world.writes().await.split_off(before);
    assert!(writes.is_empty(), "{writes:?}");

    world.faults(json!([])).await;
    world.fresh_pass().await;
    world.until("sent", async |world| world.writes().await.len() > before).await;
    world.until("converged", async |world| world.is_converged().await).await;
}
