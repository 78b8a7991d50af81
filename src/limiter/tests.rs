use std::future::Future;
use std::task::Poll;

use super::*;

const HOST: &str = "api.descope.com";

fn limiter_of(n: f64) -> Limiter {
    let settings = Settings { limit: Some((n, Duration::from_secs(60))), ..Settings::default() };
    Limiter::new(HOST, settings, None, Arc::default())
}

async fn send(limiter: &Limiter, outcome: Outcome) {
    let mut permit = limiter.acquire(Priority::Change).await;
    permit.sending();
    permit.finish(outcome);
}

fn throttled(seconds: u64) -> Outcome {
    Outcome::Throttled { retry_after: Some(Duration::from_secs(seconds)) }
}

/// Lets a future run until it waits.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_budget_goes_out_at_once_and_comes_back_a_window_after_its_replies() {
    let limiter = limiter_of(100.0);
    let start = Instant::now();
    for _ in 0..100 {
        send(&limiter, Outcome::Answered).await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO);

    drop(limiter.acquire(Priority::Change).await);

    assert_eq!(start.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_permit_dropped_before_sending_gives_its_slot_back_and_one_dropped_after_keeps_it_for_a_window() {
    let limiter = limiter_of(1.0);
    let start = Instant::now();

    drop(limiter.acquire(Priority::Change).await);
    let mut permit = limiter.acquire(Priority::Change).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    permit.sending();
    tokio::time::advance(Duration::from_secs(7)).await;
    drop(permit);
    drop(limiter.acquire(Priority::Change).await);

    assert_eq!(start.elapsed(), Duration::from_secs(67));
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_first_goes_first() {
    let limiter = limiter_of(1.0);
    send(&limiter, Outcome::Answered).await;
    let order = Mutex::new(Vec::new());
    let waiter = |name: usize| {
        let (limiter, order) = (&limiter, &order);
        async move {
            send(limiter, Outcome::Answered).await;
            order.lock().unwrap().push(name);
        }
    };

    tokio::join!(waiter(0), waiter(1), waiter(2), waiter(3));

    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_loses_only_its_own_place() {
    let limiter = limiter_of(1.0);
    let start = Instant::now();
    send(&limiter, Outcome::Answered).await;
    let mut first = Box::pin(limiter.acquire(Priority::Change));
    let mut second = Box::pin(limiter.acquire(Priority::Observation));
    let mut third = Box::pin(limiter.acquire(Priority::Change));
    for waiter in [&mut first, &mut second, &mut third] {
        assert!(poll_once(waiter).await.is_none());
    }

    drop(first);
    third.await.finish(Outcome::Answered);
    second.await.finish(Outcome::Answered);

    assert_eq!(start.elapsed(), Duration::from_secs(120));
}

#[tokio::test(start_paused = true)]
async fn changes_go_before_observation_without_starving_it() {
    let limiter = limiter_of(1.0);
    send(&limiter, Outcome::Answered).await;
    let order = Mutex::new(String::new());
    let waiter = |priority: Priority| {
        let (limiter, order) = (&limiter, &order);
        async move {
            for _ in 0..6 {
                let mut permit = limiter.acquire(priority).await;
                permit.sending();
                order.lock().unwrap().push(if priority == Priority::Change { 'c' } else { 'o' });
                permit.finish(Outcome::Answered);
            }
        }
    };
    let (changes, observations) = (Priority::Change, Priority::Observation);

    tokio::join!(waiter(observations), waiter(changes), waiter(changes));

    assert_eq!(*order.lock().unwrap(), "ccccoccccoccccoooo");
}

#[tokio::test(start_paused = true)]
async fn what_is_read_in_rotation_goes_when_nothing_else_waits() {
    let limiter = limiter_of(1.0);
    send(&limiter, Outcome::Answered).await;
    let order = Mutex::new(String::new());
    let waiter = |priority: Priority, name: char| {
        let (limiter, order) = (&limiter, &order);
        async move {
            for _ in 0..2 {
                let mut permit = limiter.acquire(priority).await;
                permit.sending();
                order.lock().unwrap().push(name);
                permit.finish(Outcome::Answered);
            }
        }
    };
    let (change, observation) = (waiter(Priority::Change, 'c'), waiter(Priority::Observation, 'o'));

    tokio::join!(waiter(Priority::Rotation, 'r'), observation, change);

    assert_eq!(*order.lock().unwrap(), "ccoorr");
}

#[tokio::test(start_paused = true)]
async fn one_429_stops_everybody_until_one_trial_has_come_through() {
    let limiter = limiter_of(100.0);
    let start = Instant::now();
    for _ in 0..90 {
        send(&limiter, Outcome::Answered).await;
    }
    send(&limiter, throttled(70)).await;

    let mut trial = limiter.acquire(Priority::Change).await;
    assert_eq!(start.elapsed(), Duration::from_secs(71));
    trial.sending();
    let mut other = Box::pin(limiter.acquire(Priority::Change));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(poll_once(&mut other).await.is_none());
    trial.finish(Outcome::Answered);

    assert!(poll_once(&mut other).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_was_never_sent_leaves_the_trial_to_the_next() {
    let limiter = limiter_of(100.0);
    send(&limiter, throttled(20)).await;

    drop(limiter.acquire(Priority::Change).await);
    let mut lost = limiter.acquire(Priority::Change).await;
    lost.sending();
    drop(lost);

    send(&limiter, Outcome::Answered).await;
    assert_eq!(limiter.status().paused_until, None);
}

#[tokio::test(start_paused = true)]
async fn a_permit_given_before_the_gate_closed_says_that_it_is_out_of_date() {
    let limiter = limiter_of(100.0);
    let permit = limiter.acquire(Priority::Change).await;
    assert!(permit.is_current());

    send(&limiter, throttled(20)).await;

    assert!(!permit.is_current());
    drop(permit);
    assert!(limiter.acquire(Priority::Change).await.is_current());
}

#[tokio::test(start_paused = true)]
async fn the_adaptive_rate_spaces_calls_by_the_clock_of_tokio() {
    let settings = Settings { algorithm: Algorithm::Adaptive, ..Settings::default() };
    let limiter = Limiter::new(HOST, settings, None, Arc::default());
    let start = Instant::now();

    for _ in 0..11 {
        send(&limiter, Outcome::Answered).await;
    }

    assert_eq!(start.elapsed(), Duration::from_secs(1));
    let status = serde_json::to_value(limiter.status()).unwrap();
    assert_eq!(
        status["adaptive"],
        serde_json::json!({"currentRate": 10.0, "minRate": 1.0, "maxRate": 100.0, "successCount": 11})
    );
}

#[tokio::test(start_paused = true)]
async fn the_status_reads_as_documented() {
    let limiter = limiter_of(120.0);
    send(&limiter, Outcome::Answered).await;

    let status = serde_json::to_value(limiter.status()).unwrap();

    let mut hour = vec![0; 60];
    hour[59] = 1;
    assert_eq!(
        status,
        serde_json::json!({
            "host": HOST, "algorithm": "budget", "requestsPerSecond": 2.0, "budget": 120.0, "used": 1, "wayBack": null,
            "pausedUntil": null, "throttledTotal": 0, "throttledByMinute": vec![0; 60], "requestsByMinute": hour, "adaptive": null,
        })
    );
}

#[tokio::test(start_paused = true)]
async fn while_no_limit_is_known_the_rate_is_infinite_and_null_in_json() {
    let metrics = Arc::new(Metrics::new());
    let limiter = Limiter::new(HOST, Settings { limit: None, ..Settings::default() }, None, metrics.clone());

    let status = serde_json::to_value(limiter.status()).unwrap();

    assert_eq!((&status["requestsPerSecond"], &status["budget"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert!(metrics.limiter_rate_requests_per_second.with_label_values(&[HOST]).get().is_infinite());
}

#[tokio::test(start_paused = true)]
async fn metrics_start_at_zero_and_follow_the_gate() {
    let metrics = Arc::new(Metrics::new());
    let limiter = Limiter::new(HOST, Settings::default(), None, metrics.clone());
    let value = |name: &str| -> f64 {
        let text = metrics.render();
        let line =
            text.lines().find(|line| line.starts_with(&format!("descope_gitops_{name}{{host=\"{HOST}\"}}"))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!((value("limiter_throttled_total"), value("limiter_paused_until_timestamp_seconds")), (0.0, 0.0));
    assert_eq!((value("limiter_budget_requests"), value("limiter_budget_used_requests")), (100.0, 0.0));

    send(&limiter, Outcome::Answered).await;
    send(&limiter, throttled(20)).await;
    assert_eq!((value("limiter_throttled_total"), value("limiter_budget_used_requests")), (1.0, 1.0));
    assert!(value("limiter_paused_until_timestamp_seconds") > 1e9);
    send(&limiter, Outcome::Answered).await;

    assert!(value("limiter_paused_until_timestamp_seconds").abs() < 1.0);
    assert!(metrics.render().contains("limiter_wait_seconds_count 3"));
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_a_window_remembers_what_is_spent() {
    let limiter = limiter_of(10.0);
    let mut changed = limiter.changed();
    for _ in 0..7 {
        send(&limiter, Outcome::Answered).await;
    }
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    let kept = serde_json::to_string(&limiter.memory()).unwrap();

    let settings = Settings { limit: Some((10.0, Duration::from_secs(60))), ..Settings::default() };
    let restarted = Limiter::new(HOST, settings, serde_json::from_str(&kept).ok(), Arc::default());
    let start = Instant::now();
    for _ in 0..3 {
        send(&restarted, Outcome::Answered).await;
    }
    assert_eq!((start.elapsed(), restarted.status().used), (Duration::ZERO, 10));
    send(&restarted, Outcome::Answered).await;

    assert!((59..=60).contains(&start.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_killed_in_the_middle_of_a_burst_may_have_spent_everything() {
    let limiter = limiter_of(10.0);
    for _ in 0..3 {
        send(&limiter, Outcome::Answered).await;
    }
    let mut in_flight = limiter.acquire(Priority::Change).await;
    in_flight.sending();
    let killed = limiter.memory();
    assert!(killed.busy);
    in_flight.finish(Outcome::Answered);
    let stopped = limiter.memory();
    assert!(!stopped.busy);

    let settings = Settings { limit: Some((10.0, Duration::from_secs(60))), ..Settings::default() };
    let used = |memory: Memory| Limiter::new(HOST, settings.clone(), Some(memory), Arc::default()).status().used;
    assert_eq!((used(killed.clone()), used(stopped)), (10, 4));
    // What it may have sent it sent right then: a window later all of it is back.
    let long_ago = Memory { saved_at: killed.saved_at - 66.0, done: vec![killed.saved_at - 66.5], ..killed.clone() };
    assert_eq!(used(long_ago), 0);
    // A slot that came back in the meantime may be spent again.
    let done = vec![killed.saved_at - 59.5; 10];
    assert_eq!(used(Memory { saved_at: killed.saved_at - 0.5, done, ..killed }), 10);
}

#[tokio::test(start_paused = true)]
async fn where_records_are_kept_nothing_is_sent_before_one_says_so() {
    let limiter = limiter_of(10.0);
    limiter.keep();
    assert!(!limiter.memory().busy);
    let mut first = Box::pin(limiter.acquire(Priority::Change));
    assert!(poll_once(&mut first).await.is_none());

    let memory = limiter.memory();
    assert!(memory.busy);
    assert!(poll_once(&mut first).await.is_none());
    limiter.kept(&memory);
    first.await.finish(Outcome::Answered);
    send(&limiter, Outcome::Answered).await; // while the record stands
    assert!(!limiter.memory().busy);

    let mut second = Box::pin(limiter.acquire(Priority::Change));
    assert!(poll_once(&mut second).await.is_none());
    limiter.forget();
    drop(second.await);
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_a_lockout_waits_for_its_end() {
    let limiter = limiter_of(100.0);
    send(&limiter, throttled(40)).await;

    let restarted = Limiter::new(HOST, Settings::default(), Some(limiter.memory()), Arc::default());
    let start = Instant::now();
    drop(restarted.acquire(Priority::Change).await);

    assert!((40..=41).contains(&start.elapsed().as_secs()));
}

/// The record of a clock that was set back since was dropped, and the first request went into the lockout.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_over_a_restart_ends_no_lockout_and_prolongs_none() {
    let limiter = limiter_of(100.0);
    send(&limiter, throttled(40)).await;
    let memory = limiter.memory();
    let days = 2.0 * 86_400.0;
    let ahead = Memory {
        saved_at: memory.saved_at + days,
        paused_until: memory.paused_until.map(|until| until + days),
        done: memory.done.iter().map(|at| at + days).collect(),
        ..memory
    };

    let restarted = Limiter::new(HOST, Settings::default(), Some(ahead), Arc::default());
    let start = Instant::now();
    drop(restarted.acquire(Priority::Change).await);

    assert!((40..=41).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_memory_that_cannot_be_right_is_as_good_as_none() {
    let limiter = limiter_of(100.0);
    for _ in 0..50 {
        send(&limiter, Outcome::Answered).await;
    }
    send(&limiter, throttled(40)).await;
    let good = Memory { n: Some(20.0), ..limiter.memory() };
    let now = good.saved_at;
    let jumped = |by: f64| Memory { saved_at: now + by, ..good.clone() };
    let nonsense = Memory {
        n: Some(f64::NAN),
        floor: -1.0,
        paused_until: Some(f64::INFINITY),
        done: vec![f64::NAN, 1e300, -5.0],
        ..good.clone()
    };

    for memory in [jumped(-1e6), jumped(f64::NAN), Memory::default(), nonsense] {
        let case = format!("{memory:?}");
        let status = Limiter::new(HOST, Settings::default(), Some(memory), Arc::default()).status();
        assert_eq!((status.budget, status.used, status.paused_until), (Some(100.0), 0, None), "{case}");
    }
    let kept = Limiter::new(HOST, Settings::default(), Some(good.clone()), Arc::default()).status();
    assert_eq!((kept.budget, kept.used), (Some(20.0), 50));
    let other = Settings { limit: Some((500.0, Duration::from_secs(60))), ..Settings::default() };
    assert_eq!(Limiter::new(HOST, other, Some(good), Arc::default()).status().budget, Some(500.0));
}

#[tokio::test(start_paused = true)]
async fn a_window_that_was_learned_survives_a_restart() {
    let settings = Settings { limit: None, ..Settings::default() };
    let limiter = Limiter::new(HOST, settings.clone(), None, Arc::default());
    for _ in 0..40 {
        send(&limiter, Outcome::Answered).await;
    }
    send(&limiter, throttled(4)).await;
    assert_eq!(limiter.status().requests_per_second, Some(10.0));
    let kept = serde_json::to_string(&limiter.memory()).unwrap();

    let restarted = Limiter::new(HOST, settings.clone(), serde_json::from_str(&kept).ok(), Arc::default());
    assert_eq!((restarted.status().budget, restarted.status().requests_per_second), (Some(40.0), Some(10.0)));

    let years = Memory { window: Some(1e9), ..limiter.memory() };
    let doubted = Limiter::new(HOST, settings, Some(years), Arc::default());
    assert_eq!(doubted.status().requests_per_second, Some(40.0 / 60.0));
}

#[test]
fn a_memory_of_another_version_is_read_as_far_as_it_goes() {
    let memory: Memory = serde_json::from_str(r#"{"savedAt": 5.0, "n": 3.0, "unknown": []}"#).unwrap();

    assert_eq!((memory.n, memory.done), (Some(3.0), Vec::new()));
}
