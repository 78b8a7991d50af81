//! An approval is of what was told, and of nothing else: what goes ahead beside it leaves it as it is.

use crate::harness::World;
use serde_json::Value;
use serde_json::json;

const BEFORE: &str = "\
roles: [{ name: r }]
tenants:
  - id: acme
    name: Acme
    disabled: false
    defaultRoles: []
    passwordSettings: { enabled: true, minLength: 9, anyLetter: true, disallowEmailMatch: true, disallowedCharacters: x }
";

type Edits = &'static [(&'static str, &'static str)];

/// What becomes of the file above, why a part of it is held, and what goes ahead.
const CASES: [(Edits, &str, &str); 4] = [
    (&[("minLength: 9", "minLength: 8"), ("name: Acme", "name: New")], "weakening", "PATCH /v1/mgmt/tenant/patch"),
    (
        &[("disabled: false", "disabled: true"), ("defaultRoles: []", "defaultRoles: [r]")],
        "lockout",
        "POST /v1/mgmt/tenant/updateDefaultRoles",
    ),
    (
        &[("minLength: 9, anyLetter: true,", "minLength: 12,"), ("name: Acme", "name: New")],
        "would_reset",
        "PATCH /v1/mgmt/tenant/patch",
    ),
    (
        &[("defaultRoles: []", "settings: { enabled: true }"), ("name: Acme", "name: New")],
        "first_contact",
        "PATCH /v1/mgmt/tenant/patch",
    ),
];

async fn world() -> World {
    let world = World::with(crate::harness::Setup { project: Vec::new(), ..crate::harness::Setup::default() }).await;
    // Not ours, so that what is first seen of it is held.
    world.set_live(json!({ "tenants": [{ "id": "acme", "name": "Acme", "createdTime": 7 }] })).await;
    world.write("a.yaml", BEFORE);
    world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    world
}

fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(BEFORE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

fn held(project: &Value) -> (String, String) {
    let text = |field: &str| project["held"][field].as_str().unwrap_or_else(|| panic!("{project}")).to_owned();
    (text("reason"), text("fingerprint"))
}

/// It was "no plan has the fingerprint": the rest of the resource had gone out meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_apply_tells_can_be_approved_though_another_part_went_out() {
    for (edits, reason, sent) in CASES {
        let world = world().await;
        world.write("a.yaml", &edited(edits));
        let before = world.writes().await.len();
        let told = world.run_json(&["apply", "--auto-approve", "-o", "json"], 4).await;
        let (held_by, fingerprint) = held(&told["projects"][0]);
        assert_eq!(held_by, reason);
        let writes = world.writes().await;
        assert_eq!(writes[before..].iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>(), [sent], "{reason}");

        let again = world.run_json(&["plan", "-o", "json"], 0).await;
        assert_eq!(held(&again["projects"][0]).1, fingerprint, "{reason}");
        world.run_json(&["apply", "--approve", &fingerprint, "-o", "json"], 0).await;
        assert_eq!(world.writes().await.len(), writes.len() + 1, "{reason}");
    }
}

/// What is live of it is another thing to approve.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_void_once_what_it_rests_on_is_another() {
    let world = world().await;
    world.write("a.yaml", &edited(&[("disabled: false", "disabled: true"), ("name: Acme", "name: New")]));
    let told = world.run_json(&["plan", "-o", "json"], 0).await;
    let (_, fingerprint) = held(&told["projects"][0]);
    world.edit_live("tenants/acme", json!({ "name": "Other" })).await;
    world.run_json(&["plan", "-o", "json"], 0).await;
    let refused = world.run(&["apply", "--approve", &fingerprint]).await;
    assert_eq!(refused.status.code(), Some(1));
    let again = world.run_json(&["plan", "-o", "json"], 0).await;
    assert_ne!(held(&again["projects"][0]).1, fingerprint);
}

const BY_METADATA: &str =
    "sso: [{ ssoId: main, domains: [a.example], saml: { idpMetadataUrl: 'https://i.example/m' } }]";
const BY_HAND: &str =
    "sso: [{ ssoId: main, domains: [a.example], saml: { idpUrl: 'https://i.example/s', entityId: e, idpCert: C } }]";

/// For ten seconds after a write the daemon had another one than `plan`, which nobody could use there, and another reason.
#[tokio::test(flavor = "multi_thread")]
async fn what_plan_tells_can_be_approved_by_the_daemon_that_wrote_it_a_moment_ago() {
    for (before, from, to) in [(BY_METADATA, "saml:", "authType: none, saml:"), (BY_HAND, "idpCert: C", "idpCert: ''")]
    {
        let project = vec!["firstContact: apply".to_owned()];
        let mut world = World::with(crate::harness::Setup { project, ..crate::harness::Setup::default() }).await;
        let file = |sso: &str| world.write("a.yaml", &format!("tenants: [{{ id: acme, name: Acme, {sso} }}]\n"));
        file(before);
        world.converge().await;
        let file = |sso: &str| world.write("a.yaml", &format!("tenants: [{{ id: acme, name: Acme, {sso} }}]\n"));
        file(&before.replace(from, to));
        world.until("held", async |world| world.project().await["held"].is_object()).await;
        let held_there = world.project().await["held"].clone();
        let told = world.run_json(&["plan", "-o", "json"], 0).await;
        let (reason, fingerprint) = held(&told["projects"][0]);
        assert_eq!((&held_there["reason"], &held_there["fingerprint"]), (&json!(reason), &json!(fingerprint)));
        assert_eq!(crate::guards::approve(&world, &fingerprint).await, 200);
        world.until("at rest", async |world| world.is_converged().await).await;
    }
}

/// The plan went on to say that it waits for what was let go.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_go_is_not_told_to_wait() {
    let world = World::with(crate::harness::Setup { project: Vec::new(), ..crate::harness::Setup::default() }).await;
    world.set_live(json!({ "tenants": [{ "id": "acme", "name": "Acme", "createdTime": 7 }] })).await;
    world.write("a.yaml", "tenants: [{ id: acme, name: Acme, disabled: false }]\n");
    world.run_json(&["apply", "--auto-approve", "-o", "json"], 0).await;
    world.write("a.yaml", &format!("tenants: [{{ id: acme, name: Acme, enforceSSO: true, {BY_METADATA} }}]\n"));
    let told = world.run_json(&["plan", "-o", "json"], 0).await["projects"][0].clone();
    assert!(told["warnings"].to_string().contains("waits: with enforceSSO"), "{told}");
    let (_, fingerprint) = held(&told);
    let done = world.run_json(&["apply", "--approve", &fingerprint, "-o", "json"], 0).await["projects"][0].clone();
    assert_eq!(done["warnings"], json!([]), "{done}");
}
