//! What the API gives in an answer and refuses in a request: left out, and sent once more.

use crate::guards::approve;
use crate::guards::held;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

struct Case {
    file: &'static str,
    changed: &'static str,
    live: &'static str,
    /// What Descope begins to answer.
    more: Value,
    /// In the log.
    field: &'static str,
    path: &'static str,
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            file: "roles:\n  - { name: r, description: one }\n",
            changed: "roles:\n  - { name: r, description: two }\n",
            live: "roles/r",
            more: json!({ "later": { "of": 1 } }),
            field: "later",
            path: "/v1/mgmt/role/update",
        },
        Case {
            file: "permissions:\n  - { name: p, description: one }\n",
            changed: "permissions:\n  - { name: p, description: two }\n",
            live: "permissions/p",
            more: json!({ "later": 1 }),
            field: "later",
            path: "/v1/mgmt/permission/update",
        },
        Case {
            file: "ssoApplications:\n  - { id: a, type: saml, name: A }\n",
            changed: "ssoApplications:\n  - { id: a, type: saml, name: B }\n",
            live: "ssoApplications/a",
            more: json!({ "groupsMapping": [{ "name": "g", "value": "x", "roles": [{ "name": "Tenant Admin", "later": 1 }] }] }),
            field: "later",
            path: "/v1/mgmt/sso/idp/app/saml/update",
        },
    ]
}

/// It was refused and parked for good: for every resource of the kind, once Descope answered one field more.
#[tokio::test]
async fn a_field_that_is_answered_and_refused_by_name_is_left_out_and_said_once() {
    for Case { file, changed, live, more, field, path } in cases() {
        let mut world = World::new().await;
        world.write("a.yaml", file);
        world.converge().await;
        world.edit_live(live, more).await;
        let body = json!({ "errorCode": "E011003", "errorMessage": "Request is malformed: unknown field \"later\"" });
        world.fresh_pass().await;
        let before = world.writes().await.len();
        let refuse = json!({ "match": { "path": path, "method": "POST", "times": 1 }, "fault": "status", "status": 400, "body": body });
        world.faults(json!([refuse])).await;

        world.write("a.yaml", changed);
        world.until("changed", async |world| world.is_converged().await && world.writes().await.len() > before).await;
        world.converge().await;

        let sent: Vec<Value> = world.writes().await.drain(before..).map(|(_, body)| body).collect();
        let has_field: Vec<bool> = sent.iter().map(|body| body.to_string().contains("\"later\"")).collect();
        assert_eq!(has_field, [true, false], "{live}: {sent:#?}");
        // Remembered: the next one goes without at once.
        world.write("a.yaml", file);
        world.until("changed back", async |world| world.writes().await.len() == before + 3).await;
        world.converge().await;
        let sent = world.writes().await.pop().unwrap().1;
        assert!(!sent.to_string().contains("later"), "{live}: {sent}");
        let lines = world.daemon().lines();
        let said = lines.iter().filter(|line| line.contains("takes it in no request"));
        let said: Vec<&String> = said.collect();
        assert!(said.len() == 1 && said[0].contains(&format!("\"field\":\"{field}\"")), "{said:?}");
    }
}

/// A list whose items have no key of their own: what Descope answers beside them was a difference, and taken away.
#[tokio::test]
async fn what_is_answered_beside_items_in_order_is_no_difference_and_carried_along() {
    let mut world = World::new().await;
    let file = |of: &str| {
        format!(
            "scopeClaimMapping:\n  - {{ scope: profile, description: {of} }}\n  - {{ scope: email, description: e }}\n"
        )
    };
    world.write("a.yaml", &file("one"));
    world.converge().await;
    let mut live = world.live().await;
    live["scopeClaimMapping"][0]["mappings"][0]["later"] = json!(1);
    world.set_live(live).await;
    let before = world.writes().await.len();

    world.fresh_pass().await;
    world.until("converged", async |world| world.is_converged().await).await;
    assert_eq!(world.writes().await.len(), before, "it is no difference");

    world.sim(reqwest::Method::PUT, "options", Some(json!({ "unknownFields": "ignore" }))).await;
    world.write("a.yaml", &file("two"));
    world.until("sent", async |world| world.writes().await.len() > before).await;
    let body = world.writes().await.pop().unwrap().1;
    assert_eq!(body["mappings"][0]["later"], 1, "{body}");
    assert_eq!(body["mappings"][1].get("later"), None, "{body}");
}

/// The one call that changes the definition of a user attribute takes options by their values: each change dropped their
/// labels.
#[tokio::test]
async fn the_labels_of_options_survive_a_change_of_their_attribute() {
    let mut world = World::new().await;
    let file = |name: &str, more: &str| {
        format!(
            "userAttributes:\n  - name: plan\n    type: singleselect\n    displayName: {name}\n    options: \
             [{{ value: free, label: Free of charge }}{more}]\n"
        )
    };
    world.write("a.yaml", &file("Plan", ""));
    world.converge().await;

    world.write("a.yaml", &file("Tariff", ""));
    let is_named =
        async |world: &World| world.entity("userAttributes", "plan").await.unwrap()["displayName"] == "Tariff";
    world.until("renamed", is_named).await;
    world.converge().await;
    let labels = async |world: &World| world.entity("userAttributes", "plan").await.unwrap()["options"].clone();
    assert_eq!(labels(&world).await, json!([{ "value": "free", "label": "Free of charge" }]));

    world.write("a.yaml", &file("Tariff", ", { value: pro, label: Professional }"));
    world.until("refused", async |world| world.has_problem("userAttributes", "plan", "parked").await).await;
    let message = world.problem("userAttributes", "plan").await.unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("would drop the labels; change them in the console"), "{message}");
    assert_eq!(labels(&world).await, json!([{ "value": "free", "label": "Free of charge" }]));
}

/// Clearing a field of a tenant took the call that overwrites all of it, and reset what nobody declared.
#[tokio::test]
async fn clearing_fields_of_a_tenant_is_a_patch_of_those_alone() {
    let mut world = World::new().await;
    let file = |more: &str| format!("tenants:\n  - id: acme\n    name: Acme\n{more}");
    world.write(
        "a.yaml",
        &file("    selfProvisioningDomains: [acme.example]\n    customAttributes: { plan: gold, seats: 3 }\n    enforceSSOExclusions: [u]\n"),
    );
    world.converge().await;
    let foreign =
        json!({ "authType": "saml", "federatedAppIds": ["app"], "idJagEnabled": true, "roleInheritance": "userOnly" });
    world.edit_live("tenants/acme", foreign.clone()).await;
    world.fresh_pass().await;
    let before = world.writes().await.len();

    world.write(
        "a.yaml",
        &file("    selfProvisioningDomains: []\n    customAttributes: { plan: null, seats: 3 }\n    enforceSSOExclusions: null\n"),
    );
    world.until("sent", async |world| world.writes().await.len() > before).await;
    world.fresh_pass().await;
    world.until("converged", async |world| world.is_converged().await).await;

    let writes = world.writes().await.split_off(before);
    let lines: Vec<&str> = writes.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(lines, ["PATCH /v1/mgmt/tenant/patch"]);
    let expected = json!({ "id": "acme", "selfProvisioningDomains": [], "customAttributes": { "seats": 3 }, "enforceSSOExclusions": [] });
    assert_eq!(writes[0].1, expected);
    let acme = world.entity("tenants", "acme").await.unwrap();
    for (name, value) in foreign.as_object().unwrap() {
        assert_eq!(&acme[name], value, "{name}");
    }
    assert_eq!(acme["customAttributes"], json!({ "seats": 3 }));
}

/// It was a warning, and was sent.
#[tokio::test]
async fn what_would_be_reset_unseen_is_held_and_an_approval_counts_for_one_write() {
    let mut setup = crate::harness::Setup::default();
    setup.simulator.push("--set=passwordV2=false".to_owned());
    let mut world = World::with(setup).await;
    let file = |length: u8, more: &str| format!("passwordSettings: {{ minLength: {length}, lowercase: true{more} }}\n");
    world.write("a.yaml", &file(12, ""));
    world.start().await;
    let sent = async |world: &World| world.writes().await.len();

    let fingerprint = held(&world, "would_reset").await;
    assert_eq!(sent(&world).await, 0);
    let holds = world.project().await["holds"].clone();
    assert!(holds[0]["approvable"] == true && holds[0]["endsWith"].as_str().unwrap().contains("one write"), "{holds}");
    assert!(!world.is_converged().await);
    assert_eq!(approve(&world, &fingerprint).await, 200);
    world.until("sent", async |world| sent(world).await == 1).await;
    world.until("told", async |world| world.project().await["held"].is_null()).await;

    world.write("a.yaml", &file(14, ""));
    let again = held(&world, "would_reset").await;
    assert_ne!(again, fingerprint);
    world.fresh_pass().await;
    assert_eq!(sent(&world).await, 1);

    // The lasting remedy: to declare what nobody can read.
    world.write("a.yaml", &file(14, ", anyLetter: true, disallowEmailMatch: false, disallowedCharacters: ''"));
    world.until("sent", async |world| sent(world).await == 2).await;
    world.converge().await;
}

/// The whole tenant waited: its name, its settings and its roles, for an approval that resets three rules of passwords.
#[tokio::test]
async fn the_call_that_would_reset_waits_and_the_others_go_ahead() {
    let mut world = World::new().await;
    let file = |name: &str, length: u8, roles: &str| {
        format!(
            "roles: [{{ name: r }}]\ntenants: [{{ id: acme, name: {name}, defaultRoles: [{roles}], passwordSettings: {{ minLength: \
             {length} }} }}]\n"
        )
    };
    world.write("a.yaml", &file("Acme", 10, ""));
    world.converge().await;

    world.write("a.yaml", &file("New", 12, "r"));
    world
        .until("the rest", async |world| {
            let acme = world.entity("tenants", "acme").await.unwrap();
            acme["name"] == "New" && acme["defaultRoles"] == json!(["r"])
        })
        .await;
    world.fresh_pass().await;
    held(&world, "would_reset").await;
    let changes = crate::guards::plan(&world).await["changes"].clone();
    assert_eq!(changes.as_array().unwrap().len(), 1, "{changes}");
    assert_eq!(changes[0]["fields"][0]["path"], "passwordSettings.minLength", "{changes}");
}

/// It was held beside another change of its tenant and sent without one, or held for another reason under another fingerprint.
#[tokio::test]
async fn a_part_that_is_new_to_an_owned_tenant_waits_alike_in_each_run_and_in_the_daemon() {
    for contact in ["apply", "hold"] {
        let project = vec![format!("firstContact: {contact}")];
        let mut world = World::with(crate::harness::Setup { project, ..crate::harness::Setup::default() }).await;
        let apply = ["apply", "--auto-approve", "-o", "json"];
        world.write("a.yaml", "tenants: [{ id: acme, name: Acme }]\n");
        world.run_json(&apply, 0).await;
        let before = world.writes().await.len();
        world.write("a.yaml", "tenants: [{ id: acme, name: New, passwordSettings: { minLength: 10 } }]\n");
        let is_held = |plan: &serde_json::Value| {
            let changes = plan["changes"].as_array().unwrap();
            let change = changes.iter().find(|change| change["fields"][0]["path"] == "passwordSettings.minLength");
            assert_eq!(change.unwrap()["held"], "would_reset", "{contact}: {plan}");
            plan["fingerprint"].as_str().unwrap().to_owned()
        };
        let first = is_held(&world.run_json(&apply, 4).await["projects"][0]);
        let second = is_held(&world.run_json(&apply, 4).await["projects"][0]);
        let planned = is_held(&world.run_json(&["plan", "-o", "json"], 0).await["projects"][0]);
        assert_eq!([&second, &planned], [&first, &first], "{contact}");
        assert_eq!(world.writes().await.len(), before + 1, "the name alone");

        world.start().await;
        assert_eq!(held(&world, "would_reset").await, first);
        world.fresh_pass().await;
        assert_eq!(held(&world, "would_reset").await, first);
        assert_eq!(approve(&world, &first).await, 200);
        world.until("sent", async |world| world.writes().await.len() == before + 2).await;
        world.until("at rest", async |world| world.is_converged().await).await;
    }
}

/// What was held depended on how long ago it had been made.
#[tokio::test]
async fn what_came_with_a_create_is_finished_by_it_however_late() {
    for project in [["firstContact: hold", "policy: upsert-only"], ["firstContact: apply", "policy: create-only"]] {
        let project = project.map(str::to_owned).to_vec();
        let world = World::with(crate::harness::Setup { project, ..crate::harness::Setup::default() }).await;
        let apply = ["apply", "--auto-approve", "-o", "json"];
        let refused = json!({ "match": { "path": "/v1/mgmt/password/settings", "method": "POST" }, "fault": "status", "status": 400 });
        world.faults(json!([refused])).await;
        let file = |length: u8, more: &str| {
            let of_tenant = format!("passwordSettings: {{ minLength: {length} }}{more}");
            world.write("a.yaml", &format!("tenants: [{{ id: acme, name: Acme, {of_tenant} }}]\n"));
        };
        file(10, "");
        world.run_json(&apply, 5).await;
        world.faults(json!([])).await;
        // Another part is none of that create, nor is another value of what could be set meanwhile.
        file(12, ", settings: { enabled: true }");
        world.run_json(&apply, 4).await;
        file(10, "");
        world.run_json(&apply, 0).await;
        let sent = world.writes().await.into_iter().filter(|(line, _)| line.ends_with("/password/settings"));
        let lengths: Vec<_> = sent.map(|(_, body)| body["minLength"].clone()).collect();
        assert_eq!(lengths, [10, 10]);
        world.run_json(&["plan", "--exit-code", "-o", "json"], 0).await;
        // It is finished: what follows is a change like any other.
        file(14, "");
        world.run_json(&apply, 4).await;
    }
}

/// An approval sent it without the secret.
#[tokio::test]
async fn an_update_of_oidc_without_its_secret_is_refused_and_not_to_be_approved() {
    let mut world = World::new().await;
    world.reconfigure(|setup| setup.project.push("secrets: { env: [LABS_SECRET] }".to_owned()));
    world.environment.push(("LABS_SECRET".to_owned(), "hunter2".to_owned()));
    let file = |name: &str, client: &str, secret: &str| {
        format!(
            "tenants: [{{ id: acme, name: {name}, sso: [{{ domains: [acme.example], oidc: {{ clientId: {client}, userDataUrl: \
             'https://u.example', userAttrMapping: {{}}{secret} }} }}] }}]\n"
        )
    };
    let secret = ", clientSecret: { env: LABS_SECRET }";
    world.write("a.yaml", &file("Acme", "a", secret));
    world.converge().await;

    world.write("a.yaml", &file("New", "b", ""));
    world.until("the name", async |world| world.entity("tenants", "acme").await.unwrap()["name"] == "New").await;
    world.fresh_pass().await;
    let problem = world.problem("tenants", "acme").await.unwrap();
    assert_eq!(problem["state"], "parked", "{problem}");
    assert!(problem["message"].as_str().unwrap().contains("might clear the stored clientSecret"), "{problem}");
    assert_eq!(world.project().await["held"], Value::Null, "nobody can approve it");

    world.write("a.yaml", &file("New", "b", secret));
    world.until("at rest", async |world| world.is_converged().await).await;
}
