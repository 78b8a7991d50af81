use super::call::route;
use super::script::KEY;
use super::script::Script;
use super::script::Step;
use super::script::document;
use super::script::list_roles;
use super::script::ok;
use super::script::refused;
use super::script::reset;
use super::script::status;
use super::script::throttled;
use super::transport::TransportError;
use super::*;
use serde_json::json;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

fn roles() -> Step {
    ok(&json!({ "roles": [{ "name": "Editor" }] }))
}

fn create() -> Call {
    Call::create(route!(POST "/v1/mgmt/role/create"), document(json!({ "name": "Editor" })))
}

fn patch() -> Call {
    Call::update(route!(PATCH "/v1/mgmt/tenant/patch"), document(json!({ "id": "acme", "name": "Acme" })))
}

/// Seconds between what arrived.
fn gaps(script: &Script) -> Vec<f64> {
    let received = script.received();
    received.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_list_is_asked_for_with_key_project_and_tier() {
    let script = Script::of([roles()]);

    let found = script.client().documents(&list_roles()).await.unwrap();

    assert_eq!(found, [document(json!({ "name": "Editor" }))]);
    let received = &script.received()[0];
    assert_eq!((received.line.as_str(), &received.body), ("GET /v1/mgmt/role/all", &serde_json::Value::Null));
    assert_eq!(received.headers["authorization"], format!("Bearer P2abc:{KEY}").as_str());
    assert!(received.headers["authorization"].is_sensitive());
    assert_eq!(received.headers["content-type"], "application/json");
    assert_eq!(received.headers["x-descope-project-id"], "P2abc");
    assert_eq!(received.headers["x-descope-license"], "tier2");
    assert_eq!(received.headers["x-descope-sdk-name"], "descope-gitops");
}

#[tokio::test(start_paused = true)]
async fn transient_failures_are_repeated_after_one_two_four_and_eight_seconds() {
    let script = Script::of([status(503, ""), status(520, "x"), reset(), status(200, "<html>"), roles()]);

    let found = script.client().list(&list_roles()).await;

    assert_eq!(found.unwrap().len(), 1);
    for (gap, longest) in gaps(&script).into_iter().zip([1.0, 2.0, 4.0, 8.0]) {
        assert!((longest / 2.0 - 0.01..=longest + 0.01).contains(&gap), "{gap} of {longest}");
    }
    assert!(script.is_done());
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_the_failure_is_returned() {
    let script = Script::of((0..5).map(|_| status(500, r#"{"errorMessage":"down"}"#)));

    let error = script.client().write(&patch()).await.unwrap_err();

    assert_eq!(error.to_string(), "Descope could not answer PATCH /v1/mgmt/tenant/patch: status 500: down");
    assert!(script.is_done());
    let metrics = script.metrics.render();
    let operation = r#"{code="500",operation="PATCH /v1/mgmt/tenant/patch"}"#;
    assert!(metrics.contains(&format!("descope_gitops_api_requests_total{operation} 5")), "{metrics}");
    let retries = r#"{operation="PATCH /v1/mgmt/tenant/patch",reason="status"} 4"#;
    assert!(metrics.contains(&format!("descope_gitops_api_retries_total{retries}")), "{metrics}");
    assert!(metrics.contains("descope_gitops_api_requests_in_flight 0"));
}

#[tokio::test(start_paused = true)]
async fn a_create_that_may_have_taken_effect_is_not_sent_again() {
    for (step, code) in [
        (status(502, ""), "502"),
        (status(200, "<html>proxy</html>"), "malformed"),
        (status(302, ""), "302"),
        (reset(), "reset"),
        (Step::Hang, "timeout"),
    ] {
        let script = Script::of([step]);

        let error = script.client().write(&create()).await.unwrap_err();

        assert!(error.may_have_taken_effect() && error.is_transient(), "{code}: {error}");
        assert_eq!(script.received().len(), 1, "{code}");
        assert!(script.metrics.render().contains(&format!("code=\"{code}\",operation=\"POST /v1/mgmt/role/create\"")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_that_never_left_is_sent_again() {
    let script = Script::of([refused(), refused(), ok(&json!({}))]);

    script.client().write(&create()).await.unwrap();

    assert_eq!(script.received().len(), 3);
    assert!(script.metrics.render().contains("reason=\"connect\"} 2"));
}

/// Its last attempt never left, so an update that had landed was told as one that was never sent.
#[tokio::test(start_paused = true)]
async fn what_an_earlier_attempt_may_have_done_is_not_forgotten_when_the_last_one_never_left() {
    let script = Script::of(std::iter::once(reset()).chain((0..9).map(|_| refused())));

    let error = script.client().write(&patch()).await.unwrap_err();

    assert!(error.may_have_taken_effect(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_sent_only_while_every_condition_holds() {
    let script = Script::of([ok(&json!({}))]);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let client = script.client().only_while(|| true).only_while(move || count.fetch_add(1, Ordering::Relaxed) > 0);

    assert_eq!(client.write(&create()).await, Err(Error::Stopping));
    assert_eq!(client.only_while(|| false).write(&create()).await, Err(Error::Stopping));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert!(script.received().is_empty());
    client.write(&create()).await.unwrap();
}

/// What was noted takes a moment to reach the disk; an operator who suspended meanwhile was not heard.
#[tokio::test(start_paused = true)]
async fn what_lost_its_point_while_it_was_begun_is_not_sent() {
    let script = Script::of([ok(&json!({}))]);
    let wanted = Arc::new(AtomicUsize::new(1));
    let (is_wanted, suspend) = (Arc::clone(&wanted), Arc::clone(&wanted));
    let client = script.client().only_while(move || is_wanted.load(Ordering::Relaxed) == 1);

    let client = client.begun_by(move || std::future::ready(suspend.swap(0, Ordering::Relaxed) == 1));

    assert_eq!(client.write(&create()).await, Err(Error::Stopping));
    assert!(script.received().is_empty());
}

/// What is written down is what is sent: neither more, nor less.
#[tokio::test(start_paused = true)]
async fn a_call_is_begun_only_where_it_is_wanted_and_sent_only_where_it_was_begun() {
    let script = Script::of([ok(&json!({}))]);
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let client = script.client().begun_by(move || std::future::ready(count.fetch_add(1, Ordering::Relaxed) > 0));

    assert_eq!(client.only_while(|| false).write(&create()).await, Err(Error::Stopping));
    assert_eq!(begun.load(Ordering::Relaxed), 0, "it is not wanted");
    assert_eq!(client.write(&create()).await, Err(Error::Stopping), "it could not be begun");
    assert!(script.received().is_empty());
    client.write(&create()).await.unwrap();
    assert_eq!(begun.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_descope_asks_and_loses_no_attempt_by_it() {
    let script = Script::of((0..12).map(|_| throttled("30")).chain([ok(&json!({}))]));

    script.client().write(&create()).await.unwrap();

    assert!(script.is_done());
    assert!(gaps(&script).iter().all(|gap| *gap >= 30.0), "{:?}", gaps(&script));
    assert!(script.metrics.render().contains("reason=\"throttled\"} 12"));
}

#[tokio::test(start_paused = true)]
async fn one_refusal_holds_every_call_of_the_same_limiter() {
    let script = Script::of([throttled("30"), roles(), roles()]);
    let client = script.client();
    let start = Instant::now();

    let call = list_roles();
    let (first, second) = tokio::join!(client.list(&call), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.list(&call).await
    });

    assert!(first.is_ok() && second.is_ok());
    assert!(start.elapsed() >= Duration::from_secs(30));
    assert!(gaps(&script)[0] >= 29.0);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_given_up_after_its_time_out() {
    let script = Script::of([Step::Hang]);
    let start = Instant::now();

    let error = script.client().write(&create()).await.unwrap_err();

    assert_eq!(error.to_string(), "Descope did not answer POST /v1/mgmt/role/create within 30 s");
    assert_eq!(start.elapsed().as_secs(), 30);
}

/// It said 30 s whatever the lease had left of them.
#[tokio::test(start_paused = true)]
async fn a_request_that_the_lease_cuts_short_says_how_long_it_was_waited_for_and_why() {
    let script = Script::of([Step::Hang]);
    let start = Instant::now();
    let client = script.client().within(|| Some(Duration::from_millis(15_049)));

    let error = client.write(&create()).await.unwrap_err();

    assert_eq!(
        error.to_string(),
        "Descope did not answer POST /v1/mgmt/role/create within 15 s, less than `requestTimeout`, since nothing is waited for beyond \
         the lease of this replica"
    );
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_returned_at_once_in_words_for_the_operator() {
    let cases = [
        (
            status(401, ""),
            "Descope refused the management key; check that it is valid, not expired, and belongs to project P2abc",
        ),
        (
            status(403, r#"{"errorDescription":"Forbidden","errorMessage":"plan"}"#),
            "Descope does not permit PATCH /v1/mgmt/tenant/patch with this management key or plan: Forbidden: plan; give the key that right or the \
             project that plan, or take what needs it out of the files",
        ),
        (
            status(400, r#"{"errorCode":"E011003","errorMessage":"no such K2secret"}"#),
            "Descope rejected PATCH /v1/mgmt/tenant/patch with status 400: no such (secret) (E011003)",
        ),
    ];
    for (step, message) in cases {
        let script = Script::of([step]);

        let error = script.client().write(&patch()).await.unwrap_err();

        assert_eq!(error.to_string(), message);
        assert!(!error.is_transient() && !error.may_have_taken_effect());
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_cuts_the_wait_between_attempts_short() {
    let script = Script::of([status(503, "")]);
    let client = script.client();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        script.shutdown.cancel();
    };
    let start = Instant::now();

    let call = list_roles();
    let (found, ()) = tokio::join!(client.list(&call), stop);

    assert_eq!(found.unwrap_err(), Error::Stopping);
    assert_eq!(start.elapsed().as_millis(), 100);
}

#[tokio::test(start_paused = true)]
async fn stopping_cuts_the_wait_at_the_gate_short_and_sends_nothing_more() {
    let script = Script::of([throttled("3600")]);
    let client = script.client();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        script.shutdown.cancel();
    };

    let call = create();
    let (written, ()) = tokio::join!(client.write(&call), stop);

    assert_eq!(written.unwrap_err(), Error::Stopping);
    assert_eq!(client.write(&create()).await.unwrap_err(), Error::Stopping);
    assert_eq!(script.received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_ends_by_itself_when_the_daemon_stops() {
    let script = Script::of([Step::Hang]);
    let client = script.client();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        script.shutdown.cancel();
    };

    let call = create();
    let (written, ()) = tokio::join!(client.write(&call), stop);

    assert!(written.unwrap_err().may_have_taken_effect(), "it was sent: nobody may believe it was not");
}

#[tokio::test(start_paused = true)]
async fn the_handshake_happens_once_and_its_failure_stops_nothing() {
    let refusal = status(500, r#"{"rateLimitTier":"tier9"}"#);
    for (license, waited) in [(refusal, 0), (status(200, "<html>"), 0), (refused(), 0), (Step::Hang, 5)] {
        let script = Script::of([roles(), roles()]);
        script.license(license);
        let client = script.client();
        let start = Instant::now();

        client.list(&list_roles()).await.unwrap();
        client.with_priority(Priority::Change).list(&list_roles()).await.unwrap();

        assert_eq!(script.handshakes(), 1);
        assert_eq!(start.elapsed().as_secs(), waited);
        assert!(script.received().iter().all(|r| !r.headers.contains_key("x-descope-license")));
    }
}

/// It went out before the gate was asked, once for each project after every restart, and nobody heard that it was refused.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_the_limit_refuses_closes_the_gate() {
    let script = Script::of([roles()]);
    script.license(throttled("30"));
    let start = Instant::now();

    script.client().list(&list_roles()).await.unwrap();

    assert_eq!(script.handshakes(), 1);
    assert!(start.elapsed() >= Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_waits_while_the_gate_is_closed() {
    let script = Script::of([roles()]);
    let client = script.client();
    client.permit().await.finish(crate::limiter::Outcome::Throttled { retry_after: Some(Duration::from_secs(30)) });

    let call = list_roles();
    let listed = async { client.list(&call).await };
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(29)).await;
        script.handshakes()
    };
    let (listed, handshakes) = tokio::join!(listed, meanwhile);

    assert!(listed.is_ok());
    assert_eq!((handshakes, script.handshakes()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn calls_that_start_together_share_one_handshake() {
    let script = Script::of([roles(), roles()]);
    let client = script.client();

    let call = list_roles();
    let (first, second) = tokio::join!(client.list(&call), client.list(&call));

    assert!(first.is_ok() && second.is_ok());
    assert_eq!(script.handshakes(), 1);
    assert!(script.received().iter().all(|r| r.headers["x-descope-license"] == "tier2"));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_is_explained_and_sends_nothing() {
    type Key = fn() -> Result<SecretString, String>;
    let cases: [(Key, &str); 3] = [
        (|| Err("/run/key: no such file".to_owned()), "cannot use the management key: /run/key: no such file"),
        (|| Ok(SecretString::from("")), "cannot use the management key: it is empty"),
        (
            || Ok(SecretString::from("K2\nsecret")),
            "cannot use the management key: it or the project id holds a character that a header cannot carry",
        ),
    ];
    for (key, message) in cases {
        let script = Script::of([]);

        let error = script.client_with_key(key).write(&create()).await.unwrap_err();

        assert_eq!(error.to_string(), message);
        assert_eq!(script.received().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_changed_is_used_from_the_next_attempt_on() {
    let script = Script::of([status(503, ""), roles()]);
    let keys = std::sync::atomic::AtomicU32::new(0);
    let next = move || {
        let n = keys.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(SecretString::from(format!("K2key{n}")))
    };

    script.client_with_key(next).list(&list_roles()).await.unwrap();

    let sent: Vec<_> = script.received().iter().map(|r| r.headers["authorization"].clone()).collect();
    assert_eq!(sent, ["Bearer P2abc:K2key1", "Bearer P2abc:K2key2"], "the handshake took the first");
}

#[tokio::test(start_paused = true)]
async fn the_key_is_in_no_output() {
    let echo = format!("<html>Bearer P2abc:{KEY}</html>");
    let echoes = [
        status(
            400,
            &json!({ "errorCode": KEY, "errorMessage": format!("authorization Bearer P2abc:{KEY}") }).to_string(),
        ),
        status(403, &format!("no: {KEY}")),
        status(200, &json!({ "errorCode": KEY }).to_string()),
        status(503, &echo),
        Step::Fail(TransportError::Reset(format!("header {KEY}"))),
    ];
    for step in echoes {
        let script = Script::of([step]);
        let client = script.client();

        let error = client.write(&create()).await.unwrap_err();

        let output = format!("{error} {error:?} {client:?} {:?} {:?}", script.redactor, script.received());
        assert!(!output.contains(KEY), "{output}");
        assert!(!script.metrics.render().contains(KEY));
    }
}
