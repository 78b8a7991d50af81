//! The rate limit on the wire, and what log and stats say of it.

use crate::harness::World;
use descope_gitops::simulator::Limit;
use descope_gitops::simulator::Options;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

async fn limited(n: f64) -> World {
    let limit = Limit { n, window: Duration::from_secs(600), lockout: Duration::from_secs(600), ..Limit::default() };
    World::with(Options { limit: Some(limit), ..Options::default() }).await
}

#[tokio::test]
async fn over_the_limit_everything_but_the_license_and_our_own_calls_is_429() {
    let world = limited(2.0).await;
    for _ in 0..2 {
        world.get("/v1/mgmt/role/all").await.ok();
    }

    let over = world.get("/v1/mgmt/role/all").await;
    let unknown = world.get("/v1/mgmt/nothing").await;

    assert_eq!((over.status.as_u16(), unknown.status.as_u16()), (429, 429));
    assert_eq!(over.headers["retry-after"], "600");
    let body = json!({
        "errorCode": "E130429", "errorDescription": "https://docs.descope.com/rate-limit",
        "errorMessage": "API rate limit exceeded.",
    });
    assert_eq!(over.json(), body);
    assert_eq!(world.get("/v1/mgmt/license").await.ok(), json!({ "rateLimitTier": "tier2" }));
    let lockout: Vec<Value> = world.log().await.into_iter().map(|entry| entry["inLockout"].clone()).collect();
    assert_eq!(lockout, [json!(false), json!(false), json!(false), json!(true), json!(false)]);
}

#[tokio::test]
async fn a_throttled_write_has_no_effect_and_counts_as_throttled_alone() {
    let world = limited(1.0).await;
    world.post("tenant/create", json!({ "id": "a", "name": "A" })).await.ok();

    let refused = world.post("tenant/create", json!({ "id": "b", "name": "B" })).await;
    let again = world.post("tenant/create", json!({ "id": "b", "name": "B" })).await;

    assert_eq!((refused.status.as_u16(), again.status.as_u16()), (429, 429));
    assert_eq!(world.state().await["tenants"].as_array().unwrap().len(), 1);
    let stats = world.stats().await;
    let counts = ["requests", "admitted", "throttled", "duringLockout", "writes", "applied", "reads"];
    assert_eq!(counts.map(|name| stats[name].as_u64().unwrap()), [3, 1, 2, 1, 1, 1, 0]);
    assert_eq!(stats["operations"]["POST /v1/mgmt/tenant/create"], json!({ "200": 1, "429": 2 }));
}

#[tokio::test]
async fn the_limit_can_be_changed_and_turned_off() {
    let world = limited(1.0).await;
    world.put("rate-limit", json!({ "lockout": "0s" })).await;
    world.get("/v1/mgmt/role/all").await.ok();
    assert_eq!(world.get("/v1/mgmt/role/all").await.status, 429);

    world.put("rate-limit", json!({ "n": 2 })).await;
    world.get("/v1/mgmt/role/all").await.ok();
    assert_eq!(world.get("/v1/mgmt/role/all").await.status, 429);

    world.put("rate-limit", Value::Null).await;
    world.get("/v1/mgmt/role/all").await.ok();
    assert_eq!(world.send("PUT", "/_sim/rate-limit", json!({ "n": 0 })).await.status, 400);
}

#[tokio::test]
async fn headers_and_bodies_of_a_429_have_every_form() {
    let world = limited(1.0).await;
    world.get("/v1/mgmt/role/all").await.ok();
    let over = async |limit: Value, body: &str| {
        world.put("rate-limit", limit).await;
        world.switch(json!({ "throttleBody": body })).await;
        loop {
            let answer = world.get("/v1/mgmt/role/all").await;
            if answer.status == 429 {
                return answer;
            }
        }
    };

    let absent = over(json!({ "retryAfter": "absent" }), "empty").await;
    let short = over(json!({ "retryAfter": "short" }), "text").await;
    let date = over(json!({ "retryAfter": "date", "clockSkew": 3600 }), "code").await;

    assert!(absent.headers.get("retry-after").is_none() && absent.text.is_empty());
    assert_eq!((&short.headers["retry-after"], short.text.as_str()), (&"120".parse().unwrap(), "\"aaa\""));
    let time = |name| httpdate::parse_http_date(date.headers[name].to_str().unwrap()).unwrap();
    let wait = time("retry-after").duration_since(time("date")).unwrap().as_secs();
    assert!((599..=601).contains(&wait), "{wait}");
    let ahead = time("date").duration_since(std::time::SystemTime::now()).unwrap().as_secs();
    assert!((3590..=3600).contains(&ahead), "{ahead}");
    assert_eq!(date.json(), json!({ "errorCode": "E130429" }));
}

#[tokio::test]
async fn requests_are_counted_per_project_when_switched() {
    let world = limited(1.0).await;
    world.switch(json!({ "limitBy": "project" })).await;
    let ask = async |project: &str| {
        let request = world.client.get(world.url("/v1/mgmt/role/all"));
        request.header("authorization", format!("Bearer {project}:K2")).send().await.unwrap().status().as_u16()
    };

    assert_eq!([ask("P2a").await, ask("P2b").await, ask("P2a").await], [200, 200, 429]);
}

#[tokio::test]
async fn the_log_is_ordered_filtered_and_knows_no_key() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.post("permission/create", json!({ "name": name })).await.ok();
    }
    world.get("/v1/mgmt/tenant?id=x").await;

    let log = world.get("/_sim/log?since=2").await;

    assert!(!world.get("/_sim/log").await.text.contains("K2secret"));
    let entries = log.ok();
    assert_eq!(entries.as_array().unwrap().len(), 2);
    assert_eq!((&entries[0]["seq"], &entries[0]["body"]), (&json!(3), &json!({ "name": "c" })));
    assert_eq!((&entries[1]["query"], &entries[1]["status"]), (&json!({ "id": "x" }), &json!(400)));
    assert_eq!((&entries[0]["effect"], &entries[1]["effect"]), (&json!(true), &json!(false)));
    world.send("DELETE", "/_sim/log", Value::Null).await.ok();
    world.get("/v1/mgmt/role/all").await.ok();
    assert_eq!(world.log().await[0]["seq"], 5);
}
