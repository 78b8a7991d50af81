//! The parts of a resource that are read by themselves: one after the other, on what is there right before, and no more
//! often than they cost.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;

/// With these switches of the simulator, and these lines of the project beside the usual ones.
async fn world(switches: &[&str], project: &[&str]) -> World {
    let mut setup = Setup { project: project.iter().map(|line| (*line).to_owned()).collect(), ..Setup::default() };
    setup.simulator.extend(switches.iter().map(|switch| format!("--set={switch}")));
    World::with(setup).await
}

fn sso(domain: &str) -> String {
    format!("[{{ domains: [{domain}], saml: {{ idpUrl: 'https://idp.example', entityId: e, idpCert: c }} }}]")
}

/// What was written of a tenant, by the end of the path.
async fn written(world: &World, tenant: &str) -> Vec<String> {
    let of = |body: &Value| body["tenantId"] == tenant || body["id"] == tenant;
    let writes = world.writes().await;
    let end = |line: &String| line.rsplit("mgmt/").next().unwrap().to_owned();
    writes.iter().filter(|(_, body)| of(body)).map(|(line, _)| end(line)).collect()
}

/// A tenant's SSO was written though its settings had been refused.
#[tokio::test]
async fn a_refused_part_blocks_the_later_ones_of_its_resource_alone() {
    let mut world = world(&["checksSessionTokens=true"], &[]).await;
    // The unit is not written, and Descope takes seconds: only it can say that this is too short.
    let settings = |time: u32| format!("{{ enabled: true, sessionTokenExpiration: {time} }}");
    let tenants = |time: u32| {
        format!(
            "tenants:\n  - {{ id: a, name: A, settings: {}, sso: {} }}\n  - {{ id: b, name: B, settings: {}, sso: {} }}\n",
            settings(time),
            sso("a.example"),
            settings(600),
            sso("b.example")
        )
    };
    world.write("a.yaml", &tenants(1));
    world.start().await;
    world.until("refused", async |world| world.problem("tenants", "a").await.is_some()).await;
    world
        .until("the other one is done", async |world| written(world, "b").await.contains(&"sso/saml".to_owned()))
        .await;
    world
        .until("blocked", async |world| {
            world.metric("queue_depth{state=\"blocked\"}").await == Some(1.0)
                && world.has_problem("tenants", "a", "parked").await
        })
        .await;
    // What the resource waits for is told once, by the part that was refused.
    let project = world.project().await;
    assert_eq!(project["problems"].as_array().unwrap().len(), 1, "{project:#}");
    assert_eq!((&project["counts"]["parked"], &project["counts"]["blocked"]), (&json!(1), &json!(0)), "{project:#}");
    assert_eq!(written(&world, "a").await, ["tenant/create", "tenant/settings"]);

    world.write("a.yaml", &tenants(600));
    world.converge().await;
    assert_eq!(written(&world, "a").await, ["tenant/create", "tenant/settings", "tenant/settings", "sso/saml"]);
    world.assert_nothing_left().await;
}

/// The settings call carried the domains that it had been planned with over those that the patch had just written.
#[tokio::test]
async fn what_an_earlier_call_of_the_plan_wrote_is_not_put_back() {
    for switches in [&[][..], &["shuffledElements=true"]] {
        let mut world = world(switches, &["firstContact: apply"]).await;
        let tenant = |domain: &str, enabled: bool| {
            format!(
                "tenants:\n  - {{ id: a, name: A, selfProvisioningDomains: [{domain}], settings: {{ enabled: {enabled} }}, sso: {} }}\n",
                sso(domain)
            )
        };
        world.write("a.yaml", &tenant("old.example", true));
        world.converge().await;

        world.write("a.yaml", &tenant("new.example", false));

        let is_new = async |world: &World| {
            let live = world.entity("tenants", "a").await.unwrap();
            live["selfProvisioningDomains"] == json!(["new.example"]) && live["domains"] == json!(["new.example"])
        };
        world.until("the new domains", is_new).await;
        world.converge().await;
        assert!(is_new(&world).await, "{switches:?}: {:?}", world.writes().await);
        let mut bodies = world.writes().await.into_iter().filter(|(line, _)| line.ends_with("tenant/settings"));
        let last = bodies.next_back().unwrap().1;
        assert_eq!(last["selfProvisioningDomains"], json!(["new.example"]), "{switches:?}");
        world.assert_nothing_left().await;
    }
}

/// What contract 7 leaves open about these parts: whatever it is, a tenant gets what is declared, and keeps it.
#[tokio::test]
async fn each_open_question_is_survived_in_both_positions() {
    let switches = [
        "passwordAnswersAll=true",
        "passwordKeepsNewer=true",
        "passwordV2=false",
        "checksSessionTokens=true",
        "strictOidc=true",
        "sharedDomains=true",
        "shuffledElements=true",
        "unknownFields=ignore",
        "olderTenants=true",
    ];
    for switch in switches {
        let mut world = world(&[switch], &["firstContact: apply"]).await;
        world.write(
            "a.yaml",
            "tenants:
  - id: a
    name: A
    settings: { enabled: true, sessionTokenExpiration: 10, sessionTokenExpirationUnit: minutes }
    passwordSettings: { enabled: true, minLength: 12, anyLetter: true, disallowEmailMatch: true, disallowedCharacters: x }
    sso:
      - { ssoId: m, domains: [x.example, y.example], saml: { idpUrl: u, entityId: e, idpCert: c } }
      - { ssoId: o, oidc: { clientId: c, userDataUrl: u, scope: [a, b], userAttrMapping: {} } }
",
        );
        world.converge().await;
        world.assert_nothing_left().await;
        let live = world.live().await;
        let hidden = &live["passwordSettings"].as_array().unwrap().iter().find(|one| one["tenantId"] == "a").unwrap();
        assert_eq!((&hidden["anyLetter"], &hidden["disallowedCharacters"]), (&json!(true), &json!("x")), "{switch}");
    }
}

#[tokio::test]
async fn many_tenants_cost_what_the_forecast_says() {
    const TENANTS: usize = 30;
    let mut world = world(&[], &["firstContact: apply"]).await;
    let tenant = |n: usize| {
        let sso = sso(&format!("t{n}.example"));
        format!("  - {{ id: t{n}, name: T{n}, settings: {{ enabled: true }}, sso: {sso} }}\n")
    };
    world.write("a.yaml", &format!("tenants:\n{}", (0..TENANTS).map(tenant).collect::<String>()));
    let plan = world.run_json(&["plan", "-o", "json"], 0).await;
    let forecast = &plan["projects"][0]["forecast"];
    assert_eq!(forecast["requests"], 3 * TENANTS);
    // Each overwriting call is built on a look of its own; the rest are lists.
    let reads = usize::try_from(forecast["reads"].as_u64().unwrap()).unwrap();
    let before = world.log().await.len();

    world.converge().await;

    assert_eq!(world.writes().await.len(), 3 * TENANTS);
    let made = world.requests_since(0).await.len() - world.writes().await.len();
    assert!(made <= before + reads + 4, "{made} reads, forecast {reads}");
}

/// `apply` told of the call that waited alone: "waits for tenants/a, which is blocked itself".
#[tokio::test]
async fn apply_says_why_the_first_of_several_calls_failed() {
    let world = world(&[], &["firstContact: apply"]).await;
    world.write(
        "a.yaml",
        &format!("tenants: [{{ id: a, name: A, settings: {{ enabled: true }}, sso: {} }}]", sso("a.example")),
    );
    let body = json!({ "errorCode": "E111703", "errorDescription": "not in this plan" });
    let refusal = json!({ "match": { "method": "POST", "path": "/v1/mgmt/tenant/settings" }, "fault": "status", "status": 400, "body": body });
    world.faults(json!([refusal])).await;

    let output = world.run(&["apply", "--auto-approve"]).await;

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("FAILED create tenants/a: ") && said.contains("not in this plan"), "{said}");
    assert!(!said.contains("blocked itself"), "{said}");
    assert_eq!(written(&world, "a").await, ["tenant/create", "tenant/settings"]);
}
