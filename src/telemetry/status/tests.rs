use super::*;
use serde_json::json;

const INTERVAL: Duration = Duration::from_secs(60);

fn board() -> Board {
    Board::new(INTERVAL, &[("one", "upsert-only"), ("two", "observe")])
}

#[tokio::test]
async fn the_status_has_the_documented_shape() {
    let board = board();
    board.project("two", |project| {
        project.converged = true;
        project.desired = DesiredStatus {
            valid: true,
            revision: Some("r1".to_owned()),
            commit: Some("abc-dirty".to_owned()),
            loaded_at: Some("2026-01-01T00:00:00Z".to_owned()),
            resources: 3,
            errors: vec![DesiredError { file: "a.yaml".to_owned(), line: 2, message: "m".to_owned() }],
        };
        project.held =
            Some(HeldStatus { fingerprint: "f".to_owned(), reason: "guard".to_owned(), changes: 2, deletes: 1 });
        project.last_pass = Some(PassStatus {
            trigger: "watch".to_owned(),
            started_at: "s".to_owned(),
            finished_at: "f".to_owned(),
            result: "noop".to_owned(),
            changes: 0,
        });
        project.problems = vec![Problem {
            kind: "roles".to_owned(),
            id: "Editor".to_owned(),
            state: ProblemState::Parked,
            message: "m".to_owned(),
            attempts: 1,
            next_attempt_at: None,
            file: Some("a.yaml".to_owned()),
            line: Some(2),
        }];
    });
    board.traffic(
        QueueStatus { ready: 1, delayed: 2, in_flight: 3, blocked: 4, parked: 5 },
        vec![LimiterStatus {
            host: "api.descope.com".to_owned(),
            algorithm: "adaptive",
            requests_per_second: None,
            budget: Some(100.0),
            used: 1,
            paused_until: None,
            free_at: None,
            way_back: None,
            throttled_total: 0,
            throttled_by_minute: vec![0, 2],
            requests_by_minute: vec![3, 7],
            adaptive: Some(AdaptiveStatus { current_rate: 10.0, min_rate: 1.0, max_rate: 100.0, success_count: 4 }),
        }],
        false,
    );

    let status = serde_json::to_value(board.status()).unwrap();

    let fresh =
        json!({ "valid": false, "revision": null, "commit": null, "loadedAt": null, "resources": 0, "errors": [] });
    let counts = json!({ "inSync": 0, "changing": 0, "suspended": 0, "retrying": 0, "blocked": 0, "parked": 0, "held": 0,
        "waiting": 0, "unconfirmed": 0, "unknown": 0 });
    assert_eq!(
        status,
        json!({
            "formatVersion": 1,
            "version": env!("CARGO_PKG_VERSION"),
            "startedAt": status["startedAt"],
            "canOrder": false,
            "projects": [
                { "name": "one", "policy": "upsert-only", "converged": false, "checkouts": null, "lease": null, "suspendedUntil": null, "suspendedBy": null, "suspensions": [], "desired": fresh,
                  "plannedRevision": null, "held": null, "holds": [], "contested": [], "waits": [], "waitCounts": {}, "notConvergedBecause": "pending", "refusedBecause": null, "refusedSince": null, "lastPass": null, "undeclared": 0, "problems": [], "applied": null, "lastSuccessAt": null,
                  "nextPassAt": null, "look": null, "counts": counts, "progress": null, "drift": { "total": 0, "resources": [] }, "kinds": [] },
                { "name": "two", "policy": "observe", "converged": true, "checkouts": null, "lease": null, "suspendedUntil": null, "suspendedBy": null, "suspensions": [],
                  "desired": { "valid": true, "revision": "r1", "commit": "abc-dirty", "loadedAt": "2026-01-01T00:00:00Z",
                    "resources": 3, "errors": [{ "file": "a.yaml", "line": 2, "message": "m" }] },
                  "plannedRevision": null, "held": { "fingerprint": "f", "reason": "guard", "changes": 2, "deletes": 1 },
                  "holds": [], "contested": [], "waits": [], "waitCounts": {}, "notConvergedBecause": "pending", "refusedBecause": null, "refusedSince": null,
                  "lastPass": { "trigger": "watch", "startedAt": "s", "finishedAt": "f", "result": "noop", "changes": 0 },
                  "undeclared": 0,
                  "problems": [{ "kind": "roles", "id": "Editor", "state": "parked", "message": "m", "attempts": 1,
                    "nextAttemptAt": null, "file": "a.yaml", "line": 2 }],
                  "applied": null, "lastSuccessAt": null, "nextPassAt": null, "look": null, "counts": counts, "progress": null,
                  "drift": { "total": 0, "resources": [] }, "kinds": [] },
            ],
            "queue": { "ready": 1, "delayed": 2, "inFlight": 3, "blocked": 4, "parked": 5 },
            "limiters": [{ "host": "api.descope.com", "algorithm": "adaptive", "requestsPerSecond": null, "budget": 100.0,
                "used": 1, "wayBack": null, "pausedUntil": null, "throttledTotal": 0, "throttledByMinute": [0, 2], "requestsByMinute": [3, 7],
                "adaptive": { "currentRate": 10.0, "minRate": 1.0, "maxRate": 100.0, "successCount": 4 } }],
            "components": [],
        })
    );
    let started = status["startedAt"].as_str().unwrap();
    assert!(humantime::parse_rfc3339(started).is_ok() && started.len() == 20, "{started}");
}

#[tokio::test(start_paused = true)]
async fn ready_once_loaded_and_observed_until_failing_for_three_intervals() {
    let board = board();
    let reasons = |board: &Board| board.not_ready().iter().map(|n| n.reason).collect::<Vec<_>>();
    board.project("two", |p| p.readiness = Readiness { desired_loaded: true, observed: true, ..Readiness::default() });
    assert_eq!(board.not_ready()[0].project, "one");

    assert_eq!(reasons(&board), ["desired state not loaded"]);
    board.project("one", |p| p.readiness.desired_loaded = true);
    assert_eq!(reasons(&board), ["not observed yet"]);
    board.project("one", |p| p.readiness.observed = true);
    assert_eq!(reasons(&board), [""; 0]);

    board.project("one", |p| p.readiness.passed(true, Instant::now()));
    tokio::time::advance(INTERVAL * 3).await;
    board.project("one", |p| p.readiness.passed(true, Instant::now()));
    assert_eq!(reasons(&board), [""; 0]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(reasons(&board), ["failing for more than three intervals"]);
    board.project("one", |p| p.readiness.passed(false, Instant::now()));
    assert_eq!(reasons(&board), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_waits_is_alive_and_one_that_is_silent_is_not() {
    let board = board();
    let (waiting, silent) = (board.pulse(), board.pulse());

    waiting.during(tokio::time::sleep(Duration::from_secs(3600))).await;

    assert!(!board.is_alive());
    silent.beat();
    assert!(board.is_alive());
}

#[tokio::test]
async fn health_is_the_worst_component_and_keeps_its_time_while_nothing_changes() {
    let board = board();
    assert_eq!(board.health().status, Level::Starting);

    board.component("source", Some("one"), Level::Ok, None);
    board.component("descope", Some("one"), Level::Degraded, Some("throttled"));
    board.component("descope", Some("two"), Level::Failing, Some("unauthorized"));
    let before = board.health();
    assert_eq!(before.status, Level::Failing);
    assert_eq!(before.components.len(), 3);
    board.component("descope", Some("two"), Level::Ok, None);

    let after = board.health();
    assert_eq!(after.status, Level::Degraded);
    assert_eq!(after.components.len(), 3);
    assert_eq!(
        serde_json::to_value(&after.components[1]).unwrap(),
        json!({ "name": "descope", "project": "one", "status": "degraded", "reason": "throttled",
                "since": before.components[1].since })
    );
}

#[tokio::test]
async fn a_subscriber_sees_what_a_loop_left() {
    let board = board();
    let mut seen = board.subscribe();

    board.project("one", |project| project.converged = true);
    board.project("nobody", |project| project.converged = true);

    seen.changed().await.unwrap();
    assert!(seen.borrow_and_update().projects[0].converged);
    assert!(!seen.has_changed().unwrap());
}

#[test]
fn notifications_are_well_once_each_receiver_gets_them() {
    let board = Board::new(Duration::from_secs(60), &[]);
    let of = || {
        let health = board.health();
        health.components.iter().map(|it| (it.name, it.status, it.reason)).collect::<Vec<_>>()
    };

    board.delivered("a", true);
    assert_eq!(of(), [("notifications", Level::Ok, None)]);
    board.delivered("a", false);
    board.delivered("b", false);
    board.delivered("a", true);
    assert_eq!(of(), [("notifications", Level::Degraded, Some("not delivered"))]);
    board.delivered("b", true);
    assert_eq!(of(), [("notifications", Level::Ok, None)]);
}

/// A replica said that all was well and that it stood by, with nobody to stand by for.
#[test]
fn nobody_stands_by_for_a_replica_that_is_not_there() {
    let board = Board::new(Duration::from_secs(60), &[("one", "sync")]);
    board.component("descope", Some("one"), Level::Ok, Some(STANDS_BY));
    let of = |holder: Option<&str>, unknown: Option<&str>| {
        let (holder, unknown_since) = (holder.map(str::to_owned), unknown.map(str::to_owned));
        let lease = LeaseStatus { holder, unknown_since, ..LeaseStatus::default() };
        board.project("one", |project| project.lease = Some(lease));
        let component = board.health().components.remove(0);
        (component.status, component.reason)
    };

    assert_eq!(of(Some("b/2"), None), (Level::Ok, Some(STANDS_BY)));
    assert_eq!(of(None, None), (Level::Starting, Some("no replica holds the project")));
    let unknown = of(None, Some("2026-01-01T00:00:00Z"));
    assert_eq!(unknown, (Level::Starting, Some("not known which replica holds the project")));
}

/// A database that was gone was two components that failed.
#[test]
fn a_database_that_does_not_answer_is_one_component_that_fails() {
    let board = Board::new(Duration::from_secs(60), &[]);
    let of = |name| {
        let health = board.health();
        health.components.iter().find(|it| it.name == name).map(|it| (it.status, it.reason)).unwrap()
    };
    board.component("state", None, Level::Degraded, Some("cannot be written"));
    board.component("lease", None, Level::Ok, None);
    assert_eq!(of("state"), (Level::Degraded, Some("cannot be written")));
    assert!(!board.is_database_silent());

    board.component("lease", None, Level::Degraded, Some(DATABASE_SILENT));

    assert_eq!(of("state"), (Level::Starting, Some("not known: see lease")));
    assert!(of("lease").0 == Level::Degraded && board.health().status == Level::Degraded && board.is_database_silent());
}

/// Whose lease had long ended was said to hold it.
#[tokio::test(start_paused = true)]
async fn who_held_a_lease_is_not_known_when_nobody_could_look_for_as_long_as_it_lasts() {
    let life = Duration::from_secs(20);
    let lease = |holder: Option<&str>, is_mine| LeaseStatus {
        holder: holder.map(str::to_owned),
        is_mine,
        read_at: Some(Instant::now()),
        ..LeaseStatus::default()
    };
    let (others, nobodys, mine) = (lease(Some("a/1"), false), lease(None, false), lease(Some("b/2"), true));
    let outdated = || [&others, &nobodys, &mine].map(|lease| lease.is_outdated(life));

    assert_eq!(outdated(), [false; 3]);
    tokio::time::advance(life / 2).await;
    assert_eq!(outdated(), [false, true, false]);
    tokio::time::advance(life / 2).await;
    assert_eq!(outdated(), [true, true, false], "its own ends by its own clock");
}
