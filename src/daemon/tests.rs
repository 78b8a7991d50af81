//! The parts as they are put together.

use super::*;
use crate::config::Overrides;
use crate::http::Answer;
use crate::http::Order;
use crate::observed::Observed;
use crate::plan::Change;
use crate::plan::Hold;
use crate::plan::Plan;
use crate::plan::order::deletion;
use crate::plan::published::Published;
use crate::plan::render::HeldReport;
use crate::queue::Verdict;
use crate::reconcile::assess::Assessment;
use crate::resource;
use crate::resource::Action;
use crate::resource::Document;
use crate::resource::Documents;
use crate::resource::Key;
use crate::resource::MAIN;
use crate::state::Intent;
use crate::state::Occasion;
use crate::state::Outlived;
use crate::worker::recent::Unconfirmed;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::HashSet;

/// One project whose repo is not there, so that nothing is ever sent.
fn parts(dir: &tempfile::TempDir) -> Parts {
    let file = dir.path().join("config.yaml");
    let key = dir.path().join("key");
    std::fs::write(&key, "K2verysecretkey").unwrap();
    let text = format!(
        "source: {{ path: {0}/repo }}\nstate: {{ path: {0}/state }}\nprojects:\n  - name: one\n    projectId: P2abc\n    \
         managementKey: {{ file: {0}/key }}\n    baseUrl: http://127.0.0.1:9\n",
        dir.path().display()
    );
    std::fs::write(&file, text).unwrap();
    // Every test of this process installs it; one is the first.
    rustls::crypto::ring::default_provider().install_default().ok();
    let overrides = Overrides { config: Some(file.display().to_string()), ..Overrides::default() };
    Parts::build(&Config::load(&overrides).unwrap(), &|_| None, &Redactor::new(), &CancellationToken::new()).unwrap()
}

/// It was taken for stuck a minute after its last pass, so an orchestrator would have restarted it between any two.
#[tokio::test(start_paused = true)]
async fn a_daemon_with_nothing_to_do_is_alive() {
    let dir = tempfile::tempdir().unwrap();
    let parts = parts(&dir);
    let stop = CancellationToken::new();
    let mut loops = JoinSet::new();
    for project in parts.projects {
        loops.spawn(project.reconciler.run(project.triggers, stop.clone()));
    }

    tokio::time::sleep(Duration::from_secs(3600)).await;

    assert!(parts.board.is_alive());
    stop.cancel();
    loops.join_all().await;
}

#[tokio::test]
async fn series_that_alerts_watch_are_there_before_anything_happened() {
    let dir = tempfile::tempdir().unwrap();

    let text = parts(&dir).metrics.render();

    for series in [
        "passes_total{project=\"one\",result=\"failed\",trigger=\"interval\"}",
        "changes_total{action=\"delete\",kind=\"tenants\",project=\"one\",result=\"failed\"}",
        "held_changes{project=\"one\",reason=\"first_contact\"}",
        "guard_trips_total{project=\"one\",reason=\"first_contact\"}",
        "converged{project=\"one\"}",
        "suspended{project=\"one\"}",
        "desired_valid{project=\"one\"}",
        "last_success_timestamp_seconds{project=\"one\"}",
        "desired_resources{kind=\"roles\",project=\"one\"}",
        "drifted_resources{kind=\"roles\",project=\"one\"}",
        "undeclared_resources{kind=\"roles\",project=\"one\"}",
        "convergence_duration_seconds_count{project=\"one\"}",
        "limiter_throttled_total{host=\"127.0.0.1:9\"}",
        "api_requests_total{code=\"401\",operation=\"GET /v1/mgmt/tenant/all\"}",
        "api_retries_total{operation=\"GET /v1/mgmt/role/all\",reason=\"timeout\"}",
        "queue_adds_total{reason=\"retry\"}",
    ] {
        assert!(text.lines().any(|line| line == format!("descope_gitops_{series} 0")), "{series}");
    }
}

/// A look was taken to settle calls that were under way when it began, and may have ended after it.
#[tokio::test]
async fn a_look_settles_only_calls_that_were_over_when_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let parts = parts(&dir);
    let reconciler = &parts.projects[0].reconciler;
    let key = Key::new("roles", "a");
    let document = |name: &str| Document::from_iter([("name".to_owned(), Value::from(name))]);
    let found = |names: &[&str]| {
        let documents = Documents::of_kind(resource::kind("roles").unwrap(), names.iter().map(|name| document(name)));
        let observed = Observed {
            began: tokio::time::Instant::now(),
            kinds: BTreeMap::from([("roles", Ok(documents))]),
            unread: BTreeMap::new(),
        };
        let gone = HashSet::from_iter(names.is_empty().then(|| key.clone()));
        let unconfirmed = Unconfirmed::default();
        Assessment {
            plan: Plan::default(),
            observed,
            gone,
            unconfirmed,
            outlived: Outlived::default(),
            shown: crate::reconcile::assess::Shown::default(),
            refusal: None,
            first_contact: false,
        }
    };
    // Old enough not to be on its way any more.
    let age = || {
        let state = rusqlite::Connection::open(dir.path().join("state/state.db")).unwrap();
        state.execute("UPDATE intent SET begun_at = 1", []).unwrap();
    };
    let create = || Intent {
        key: key.clone(),
        part: MAIN,
        action: Action::Create,
        from: None,
        server_id: None,
        digest: [0; 32],
        seen: 0,
        protected: false,
        cascade_delete: false,
        approval: None,
        occasion: Occasion::default(),
    };
    parts.queue.replace(&parts.projects[0].name, vec![deletion(&key, &document("a"), false)], false);
    let work = parts.queue.take().await.unwrap();
    reconciler.state.begin([create()]).await.unwrap();

    assert!(reconciler.lost_calls().is_empty(), "it is under way");
    parts.queue.finish(work, vec![Verdict::Done]);
    age();
    let lost = reconciler.lost_calls();
    assert_eq!(lost.len(), 1);
    reconciler.state.begin([create()]).await.unwrap();
    age();
    reconciler.resolve(&lost, &found(&[]));

    let open = reconciler.lost_calls();
    assert_eq!(open.len(), 1, "the one that began during the look");
    assert!(reconciler.resolve(&open, &found(&["a"])), "owned, and declared nowhere");
    assert!(reconciler.state.open_intents().unwrap().is_empty());
    assert!(reconciler.state.inventory().unwrap().contains_key(&key));
}

/// The fingerprint was used up by an approval that could not be written down, and the next one was refused until a pass.
#[tokio::test]
async fn an_approval_that_cannot_be_written_down_can_be_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let parts = parts(&dir);
    let project = &parts.projects[0];
    let held = HeldReport {
        fingerprint: "0123".to_owned(),
        reason: "max_deletes".to_owned(),
        changes: 1,
        deletes: 1,
        auto_approve: false,
        nobody_may: false,
    };
    let change = Change {
        held: Some(Hold::MaxDeletes),
        digest: "d".into(),
        ..Change::new(Key::new("roles", "r"), Action::Delete)
    };
    let plan = Plan { changes: vec![change], fingerprint: held.fingerprint.clone(), ..Plan::default() };
    let report = Published::new(&project.name, Arc::new(plan), Arc::default());
    let plans = &project.reconciler.plans;
    plans.send_replace(Some(report.clone()));
    let state = rusqlite::Connection::open(dir.path().join("state/state.db")).unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON approved BEGIN SELECT RAISE(ABORT, 'full'); END";
    state.execute_batch(full).unwrap();
    let levers = control::Levers::of(project);
    let order = |order| relay::answer(levers.carry_out(order, ""));

    assert!(matches!(order(Order::Approve("0123")), Answer::Failed(_)));
    assert_eq!(plans.borrow().as_ref().unwrap().held, Some(held));
    state.execute_batch("DROP TRIGGER full").unwrap();
    assert!(matches!(order(Order::Approve("0123")), Answer::Done(_)));
    assert_eq!(order(Order::Approve("0123")), Answer::Stale, "single use");
    // A pass that read the approvals before shows it once more.
    plans.send_replace(Some(report));
    assert_eq!(order(Order::Approve("0123")), Answer::Stale, "single use");
}
