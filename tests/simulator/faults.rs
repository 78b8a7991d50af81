//! What goes wrong on demand goes wrong on the wire as announced.

use crate::harness::World;
use crate::harness::names;
use descope_gitops::simulator::Options;
use descope_gitops::simulator::Switches;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

const CREATE: &str = "/v1/mgmt/permission/create";

async fn created(world: &World, name: &str) -> bool {
    names(&world.state().await["permissions"]).contains(&name.to_owned())
}

#[tokio::test]
async fn a_reset_before_has_no_effect_and_one_after_has() {
    let world = World::new().await;
    for (fault, effect) in [("reset_before", false), ("reset_after", true)] {
        world.faults(json!([{ "match": { "path": CREATE, "times": 1 }, "fault": fault }])).await;

        let answer = world.try_send("POST", CREATE, &json!({ "name": fault })).await;

        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(created(&world, fault).await, effect, "{fault}");
        let entry = world.log().await.pop().unwrap();
        assert_eq!(
            (&entry["status"], &entry["effect"], &entry["fault"]),
            (&Value::Null, &json!(effect), &json!(fault))
        );
    }
    world.post("permission/create", json!({ "name": "third" })).await.ok();
}

#[tokio::test]
async fn a_hang_never_answers_with_or_without_effect() {
    let world = World::new().await;
    for effect in [false, true] {
        let name = format!("hang {effect}");
        world.faults(json!([{ "match": { "path": CREATE }, "fault": "hang", "effect": effect }])).await;

        let request = world.request("POST", CREATE, &json!({ "name": name })).timeout(Duration::from_millis(200));
        let answer = request.send().await;

        assert!(answer.unwrap_err().is_timeout());
        assert_eq!(created(&world, &name).await, effect);
    }
}

#[tokio::test]
async fn statuses_pages_and_broken_bodies_are_what_they_say() {
    let world = World::new().await;
    let table = [
        (json!({ "fault": "status", "status": 503 }), 503, ""),
        (json!({ "fault": "status", "status": 502 }), 502, "<html>502 Bad Gateway</html>"),
        (json!({ "fault": "status", "status": 403 }), 403, ""),
        (json!({ "fault": "status", "status": 418, "body": "teapot" }), 418, "teapot"),
        (json!({ "fault": "status", "status": 400, "body": { "errorCode": "E1" } }), 400, r#"{"errorCode":"E1"}"#),
        (json!({ "fault": "html200" }), 200, "<html><body>Checking your browser</body></html>"),
        (json!({ "fault": "empty200" }), 200, ""),
        (json!({ "fault": "empty_list" }), 200, r#"{"roles":[]}"#),
    ];
    for (rule, status, body) in table {
        world.faults(json!([rule])).await;

        let answer = world.get("/v1/mgmt/role/all").await;

        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, body), "{rule}");
    }
    world.faults(json!([{ "fault": "malformed_json" }])).await;
    let broken = world.get("/v1/mgmt/role/all").await;
    assert!(serde_json::from_str::<Value>(&broken.text).is_err() && broken.status == 200);
    world.faults(json!([{ "fault": "truncated_list" }])).await;
    assert_eq!(names(&world.get("/v1/mgmt/permission/all").await.ok()["permissions"]), ["Impersonate"]);
    world.faults(json!([{ "fault": "redirect" }])).await;
    let redirect = world.get("/v1/mgmt/role/all").await;
    assert_eq!(
        (redirect.status.as_u16(), &redirect.headers["location"]),
        (307, &"/v1/mgmt/redirected".parse().unwrap())
    );
    world.faults(json!([{ "fault": "status", "status": 503, "headers": { "retry-after": 3 } }])).await;
    assert_eq!(world.get("/v1/mgmt/role/all").await.headers["retry-after"], "3");
}

#[tokio::test]
async fn an_error_can_quote_the_request() {
    let world = World::new().await;
    world.faults(json!([{ "fault": "echo_request" }])).await;

    let answer = world.send("POST", CREATE, json!({ "name": "doc:read", "description": "hush" })).await;

    assert_eq!(answer.status, 400);
    assert!(answer.json()["errorMessage"].as_str().unwrap().contains("hush"));
    assert!(!created(&world, "doc:read").await);
}

#[tokio::test]
async fn one_resource_is_refused_alone_and_in_every_batch_that_carries_it() {
    let world = World::new().await;
    world.faults(json!([{ "match": { "item": "bad" }, "fault": "status", "status": 400 }])).await;
    let batch =
        |names: &[&str]| json!({ "roles": names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>() });

    let alone = world.post("role/create", json!({ "name": "bad" })).await;
    let among = world.post("role/create/batch", batch(&["good", "bad"])).await;
    world.post("role/create/batch", batch(&["good"])).await.ok();

    assert_eq!((alone.status.as_u16(), among.status.as_u16()), (400, 400));
    assert_eq!(among.json()["errorCode"], "E011003");
    assert_eq!(world.role_names().await, ["Tenant Admin", "good"]);
}

#[tokio::test]
async fn a_whole_kind_can_be_forbidden_and_released() {
    let world = World::new().await;
    world.faults(json!([{ "match": { "path": "/v1/mgmt/role/*" }, "fault": "status", "status": 403 }])).await;

    assert_eq!(world.get("/v1/mgmt/role/all").await.status, 403);
    assert_eq!(world.get("/v1/mgmt/permission/all").await.status, 200);

    world.send("DELETE", "/_sim/faults", Value::Null).await.ok();
    assert_eq!(world.get("/v1/mgmt/role/all").await.status, 200);
}

#[tokio::test]
async fn transient_faults_come_at_their_rate_and_the_same_ones_for_a_seed() {
    let mut outcomes = Vec::new();
    for seed in [5, 5, 6] {
        let switches = Switches { fault_rate: 0.25, ..Switches::default() };
        let world = World::with(Options { seed, switches, ..Options::default() }).await;
        let mut seen = Vec::new();
        for _ in 0..200 {
            let answer = world.try_send("GET", "/v1/mgmt/role/all", &Value::Null).await;
            seen.push(answer.map_or(0, |answer| answer.status.as_u16()));
        }
        let faults = world.stats().await["faults"].as_u64().unwrap();
        assert!((30..70).contains(&faults), "{faults}");
        outcomes.push(seen);
    }

    assert_eq!(outcomes[0], outcomes[1]);
    assert_ne!(outcomes[0], outcomes[2]);
    assert!([0, 200, 502, 503].iter().all(|status| outcomes[0].contains(status)));
}

#[tokio::test]
async fn a_stopped_simulator_lets_go_of_requests_that_hang() {
    let world = World::new().await;
    world.faults(json!([{ "match": { "path": CREATE }, "fault": "hang" }])).await;
    let hanging = world.request("POST", CREATE, &json!({ "name": "x" })).send();
    let World { running, client } = world;
    let url = running.url();
    let stop = async {
        // The request counts before it hangs.
        while client
            .get(format!("{url}/_sim/stats"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains("\"requests\":0")
        {
            tokio::task::yield_now().await;
        }
        running.stop().await;
    };

    let (answer, ()) = tokio::join!(hanging, stop);

    assert!(answer.is_err());
    assert!(client.get(url).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_rule_that_makes_no_sense_is_refused() {
    let world = World::new().await;

    let answer = world.send("PUT", "/_sim/faults", json!([{ "fault": "hang", "mtach": {} }])).await;

    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"].as_str().unwrap().contains("mtach"));
}

#[tokio::test]
async fn lists_can_be_of_the_wrong_shape() {
    let world = World::new().await;
    let all = "/v1/mgmt/role/all";
    let read = async |rule: Value| {
        world.faults(json!([rule])).await;
        world.get(all).await.ok()["roles"].clone()
    };

    assert_eq!(read(json!({ "fault": "null_list" })).await, Value::Null);
    assert_eq!(read(json!({ "fault": "object_list" })).await, json!({}));
    let twice = read(json!({ "fault": "twice" })).await;
    assert_eq!((twice.as_array().unwrap().len(), &twice[0]), (2, &twice[1]));
    let one = read(json!({ "fault": "wrong_types", "fields": ["permissionNames"] })).await;
    assert_eq!((&one[0]["permissionNames"], &one[0]["default"]), (&json!(true), &json!(false)));
    let every = read(json!({ "fault": "wrong_types" })).await;
    assert_eq!((&every[0]["description"], &every[0]["name"]), (&json!(7), &json!("Tenant Admin")));
}

#[tokio::test]
async fn a_refusal_can_be_a_page_break_off_or_never_end() {
    let world = World::new().await;
    world.faults(json!([{ "fault": "html" }])).await;
    let page = world.get("/v1/mgmt/role/all").await;
    assert_eq!((page.status.as_u16(), page.headers["content-type"].to_str().unwrap()), (403, "text/html"));

    for fault in ["short_body", "endless_body"] {
        let rule = json!({ "fault": fault, "status": 429, "headers": { "retry-after": "7" } });
        world.faults(json!([rule])).await;
        let request = world.request("POST", CREATE, &json!({ "name": fault })).timeout(Duration::from_millis(500));
        let answer = request.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()),
            (429, "7"),
            "{fault}"
        );
        assert_eq!(answer.text().await.unwrap_err().is_timeout(), fault == "endless_body", "{fault}");
        assert!(!created(&world, fault).await);
    }
}

#[tokio::test]
async fn a_connection_can_be_good_for_so_many_answers_only() {
    let world = World::new().await;
    world.get("/v1/mgmt/role/all").await.ok();
    world.switch(json!({ "answersPerConnection": 2 })).await;

    // Three went over this connection already: the switch, too, and it is closed now.
    let closed = world.try_send("POST", CREATE, &json!({ "name": "a" })).await;

    assert!(closed.is_err(), "{closed:?}");
    let fresh = || reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().unwrap();
    let client = fresh();
    for _ in 0..3 {
        let request = client.get(world.url("/v1/mgmt/role/all")).header("authorization", "Bearer P2:K2");
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_redirect_points_where_its_rule_says() {
    let world = World::new().await;
    world.faults(json!([{ "fault": "redirect", "headers": { "location": "https://elsewhere.example.com/x" } }])).await;

    let answer = world.get("/v1/mgmt/role/all").await;

    assert_eq!(
        (answer.status.as_u16(), answer.headers["location"].to_str().unwrap()),
        (307, "https://elsewhere.example.com/x")
    );
}
